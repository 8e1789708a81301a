"""Ways to load the data: the name "anthrotap" in `datasets`, and rows as frames and tracks."""

from __future__ import annotations

import importlib.metadata
import json
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path

import datasets
import datasets.load
import numpy as np
import pytest

import anthrotap_hf
from anthrotap_hf.data import loading
from anthrotap_hf.data.loading import register_dataset_name
from anthrotap_hf.data.verify import verify
from anthrotap_hf.tracks import Tracks
from anthrotap_hf.utils import dataset_cards, hub_names
from anthrotap_hf.video import VideoError, encode_video


def run(code: str) -> str:
    """Standard output of a fresh Python."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.fixture
def cache(tmp_path, monkeypatch) -> dict[str, str]:
    monkeypatch.delenv("ANTHROTAP_REPO", raising=False)
    return {"cache_dir": str(tmp_path / "cache")}


@pytest.fixture
def shards(tmp_path, fake_labels, make_video) -> Path:
    """A folder of two shards, three rows, with a manifest."""
    from anthrotap_builder.config import LabelingConfig
    from anthrotap_builder.pipeline import label_video
    from anthrotap_builder.shards import ShardWriter, Tally, write_manifest

    path = make_video("source.mp4", shots=[20, 30, 12])
    with ShardWriter(tmp_path / "shards", 48, max_shard_bytes=1, group_rows=1) as writer:
        for clip in label_video(path, LabelingConfig()):
            writer.write(clip)
    write_manifest(tmp_path / "shards", LabelingConfig(), Tally())
    assert len(writer.paths) == 3
    return tmp_path / "shards"


def test_the_hook_is_there():
    """`datasets` promises nothing about this function. If this fails, look for its successor."""
    factory = datasets.load.dataset_module_factory
    assert factory.serves_anthrotap
    assert "dataset_module_factory" in datasets.load.load_dataset_builder.__code__.co_names
    assert {"path", "data_files", "data_dir"} <= set(
        datasets.load_dataset_builder.__code__.co_varnames[: datasets.load_dataset_builder.__code__.co_argcount]
    )
    assert {"module_path", "hash", "builder_kwargs"} <= set(datasets.load.DatasetModule.__dataclass_fields__)


def test_a_datasets_without_the_hook_is_noticed():
    module = type(sys)("datasets.load")
    with pytest.warns(UserWarning, match=r"anthrotap_hf\.load_dataset\(\) does the same"):
        register_dataset_name(module)


@pytest.mark.parametrize(
    "imports",
    [
        "import anthrotap_hf; from datasets import load_dataset, load",
        "from datasets import load_dataset, load; import anthrotap_hf",
        "import importlib.util, anthrotap_hf; importlib.util.find_spec('datasets.load'); "
        "from datasets import load_dataset, load",
    ],
)
def test_either_order_of_imports(imports):
    code = f"{imports}\nprint(load_dataset.__globals__['dataset_module_factory'].serves_anthrotap)"
    assert run(code) == "True"


def test_importing_is_quick_and_light():
    code = """
import sys, time
start = time.process_time()
import anthrotap_hf
heavy = {"torch", "datasets", "transformers", "av", "cv2"}
print(time.process_time() - start, *(heavy & set(sys.modules)))
"""
    seconds, *heavy = run(code).split()
    assert float(seconds) < 0.3
    assert not heavy


def test_names():
    assert anthrotap_hf.Tracks is Tracks
    assert anthrotap_hf.__version__ == importlib.metadata.version("anthrotap")
    assert {"Tracks", "load_dataset", "decode_row", "__version__"} <= set(dir(anthrotap_hf))
    with pytest.raises(AttributeError, match="attribute nonsense"):
        _ = anthrotap_hf.nonsense


each_way_of_loading = pytest.mark.parametrize(
    "load",
    [lambda **kw: datasets.load_dataset("anthrotap", **kw), lambda **kw: anthrotap_hf.load_dataset(**kw)],
    ids=["hook", "function"],
)


@each_way_of_loading
def test_videos_are_labeled(load, cache, fake_labels, make_video):
    path = make_video("a.mp4", shots=[20, 30])
    dataset = load(data_files=[str(path)], split="train", **cache)
    assert dataset["num_frames"][:] == [20, 30]
    frames, tracks = anthrotap_hf.decode_row(dataset[1])
    assert frames.shape == (30, 64, 96, 3)
    assert (len(tracks), tracks.num_frames) == (2, 30)
    assert len(load(data_files=[str(path)], split="train[:1]", streaming=False, **cache)) == 1
    assert len(list(load(data_files=[str(path)], split="train", streaming=True, **cache))) == 2
    with pytest.raises(ValueError, match="no recipe 'nonsense'"):
        load(name="nonsense", data_files=[str(path)], **cache)


def test_both_ways_of_loading_use_one_cache(cache, fake_labels, make_video):
    path = str(make_video())
    one = datasets.load_dataset("anthrotap", data_files=path, split="train", **cache)
    two = anthrotap_hf.load_dataset(data_files=path, split="train", **cache)
    assert one.cache_files == two.cache_files


@each_way_of_loading
def test_ways_to_name_videos(load, cache, fake_labels, make_video, tmp_path, monkeypatch):
    make_video("videos/a.mp4")
    make_video("videos/below/B.MOV")
    odd = make_video("videos/clip[1] ü?.mp4")
    (tmp_path / "videos/README.md").write_text("words")
    monkeypatch.chdir(tmp_path)

    def names(**kw) -> list[str]:
        return sorted(load(split="train", **kw, **cache)["source_video"][:])

    assert names(data_dir="videos") == ["B.MOV", "a.mp4", odd.name]
    assert names(data_dir=str(tmp_path / "videos"), data_files=["a.mp4"]) == ["a.mp4"]
    assert names(data_files="videos/*.mp4") == ["a.mp4", odd.name]
    assert names(data_files=[str(odd)]) == [odd.name]
    assert names(data_files=Path("videos/a.mp4")) == ["a.mp4"]
    assert names(data_files={"train": ["videos/a.mp4", "videos/below/*"]}) == ["B.MOV", "a.mp4"]
    with pytest.raises(FileNotFoundError, match=r"nothing\.mp4"):
        names(data_files=["videos/a.mp4", "nothing.mp4"])
    with pytest.raises(FileNotFoundError, match=r"videos/\*\.avi: no such file"):
        names(data_files="videos/*.avi")
    with pytest.raises(FileNotFoundError, match="videos: this is a folder; pass it as data_dir"):
        names(data_files="videos")
    with pytest.raises(FileNotFoundError, match="nowhere: no such folder"):
        names(data_dir="nowhere")
    (tmp_path / "words").mkdir()
    (tmp_path / "words/a.txt").touch()
    with pytest.raises(FileNotFoundError, match="no video"):
        names(data_dir="words")


@each_way_of_loading
def test_published_shards(load, cache, shards, monkeypatch):
    monkeypatch.setenv("ANTHROTAP_REPO", str(shards))
    dataset = load(split="train", **cache)
    assert dataset["num_frames"][:] == [20, 30, 12]
    assert [row["num_frames"] for row in load(split="train", streaming=True, **cache)] == [20, 30, 12]
    with pytest.raises(ValueError, match="nonsense"):
        load(name="nonsense", **cache)


@each_way_of_loading
def test_with_nothing_set_the_sample_is_loaded_and_named_once(load, cache, caplog):
    hub_names._say_that_it_is_the_sample.cache_clear()
    splits = load(**cache)
    assert set(splits) == {"train", "validation"}
    for row in splits["validation"].with_format("numpy"):
        frames, tracks = anthrotap_hf.decode_row(row)
        assert len(frames) == tracks.num_frames
        assert tracks.visible.any()
    assert anthrotap_hf.stream_clips(split="validation").reader.columns(["clip_id"])
    (said,) = [record.getMessage() for record in caplog.records if "sample" in record.getMessage()]
    assert "data_files=['a.mp4']" in said
    assert "ANTHROTAP_REPO" in said


def test_the_sample_is_whole_and_small():
    assert not verify(hub_names.SAMPLE).problems
    assert sum(file.stat().st_size for file in hub_names.SAMPLE.rglob("*")) < 5_000_000


def test_a_hub_id_goes_to_the_hub(monkeypatch):
    asked = []
    monkeypatch.setattr(loading, "check_dataset_card", lambda name, *_: None)
    module = type(sys)("fake datasets.load")
    module.dataset_module_factory = lambda path, revision=None, data_dir=None, data_files=None, **kw: asked.append(
        (path, revision, kw)
    )
    register_dataset_name(module)
    register_dataset_name(module)  # twice is once
    monkeypatch.setenv("ANTHROTAP_REPO", "someone/labels")
    module.dataset_module_factory("anthrotap", revision="v1", cache_dir="c")
    module.dataset_module_factory("other/data", data_files="a.csv")
    assert asked == [("someone/labels", "v1", {"cache_dir": "c"}), ("other/data", None, {})]
    asked.clear()
    monkeypatch.setenv("ANTHROTAP_REPO", "someone/labels@v1")
    module.dataset_module_factory("anthrotap", revision=None)
    module.dataset_module_factory("anthrotap", revision="v2")
    assert asked == [("someone/labels", "v1", {}), ("someone/labels", "v2", {})]


def test_the_token_of_the_user_reads_the_card(monkeypatch):
    asked = []
    monkeypatch.setattr(loading, "check_dataset_card", lambda *arguments: asked.append(arguments))
    monkeypatch.setenv("ANTHROTAP_REPO", "someone/labels")
    module = type(sys)("fake datasets.load")
    module.dataset_module_factory = lambda path, revision=None, download_config=None, data_dir=None, data_files=None: 0
    register_dataset_name(module)
    module.dataset_module_factory("anthrotap", download_config=datasets.DownloadConfig(token="hf_mine"))
    assert asked == [("someone/labels", None, "hf_mine")]


@each_way_of_loading
@pytest.mark.parametrize("option", [{"revision": "v1"}, {"token": "hf_mine"}])
def test_the_sample_has_no_revision(load, cache, monkeypatch, option):
    monkeypatch.delenv("ANTHROTAP_REPO", raising=False)
    (name,) = option
    with pytest.raises(ValueError, match=f"{name} is for labels of the Hub, and 'anthrotap' is the sample"):
        load(**option, **cache)
    with pytest.raises(ValueError, match=f"set ANTHROTAP_REPO to a Hub id, or leave {name} out"):
        anthrotap_hf.stream_clips(**option)


@pytest.mark.parametrize(
    ("named", "is_own"),
    [
        ("data/train-*.parquet", True),
        ("hf://datasets/me/labels/a.parquet", True),
        ("hf://datasets/me/labels@v1/a.parquet", True),
        ("hf://datasets/me/labels-of-another/a.parquet", False),
        ("hf://datasets/me/labels/../other/a.parquet", False),
        ("/etc/passwd", False),
        ("../other/a.parquet", False),
        ("http://127.0.0.1/a.parquet", False),
        ("file:/etc/passwd", False),
        ("FILE:/etc/passwd", False),
        ("local:/etc/passwd", False),
        ("~/a.parquet", False),
        ("zip://a.parquet::http://127.0.0.1/a.zip", False),
    ],
)
def test_a_card_names_files_of_its_dataset_only(named, is_own, tmp_path, monkeypatch):
    card = tmp_path / "README.md"
    card.write_text(f"---\nconfigs:\n- config_name: default\n  data_files: {json.dumps(named)}\n---\n")
    monkeypatch.setattr(dataset_cards, "_files_of", lambda *_: [card])
    with nullcontext() if is_own else pytest.raises(ValueError, match="which is no file of the dataset"):
        dataset_cards.check_dataset_card("me/labels")


def test_the_card_of_a_folder_may_name_its_files_in_full(tmp_path):
    for path, is_own in ((tmp_path / "labels/a.parquet", True), (tmp_path / "other/a.parquet", False)):
        (tmp_path / "labels").mkdir(exist_ok=True)
        (tmp_path / "labels/README.md").write_text(f"---\nconfigs:\n- data_files: {path}\n---\n")
        with nullcontext() if is_own else pytest.raises(ValueError, match="which is no file of the dataset"):
            dataset_cards.check_dataset_card(str(tmp_path / "labels"))


@pytest.mark.parametrize("setting", ["data_files", "data_dir"])
@pytest.mark.parametrize("named", ["file:/etc/passwd", "[data/a.parquet, 'local:/etc/passwd']"])
def test_the_card_of_a_folder_names_no_address(named, setting, tmp_path):
    (tmp_path / "README.md").write_text(f"---\nconfigs:\n- {setting}: {named}\n---\n")
    with pytest.raises(ValueError, match="which is no file of the dataset"):
        dataset_cards.check_dataset_card(str(tmp_path))


def test_other_datasets_are_untouched(tmp_path, cache):
    (tmp_path / "a.json").write_text(json.dumps([{"x": 1}]))
    for load in (datasets.load_dataset, anthrotap_hf.load_dataset):
        assert load("json", data_files=str(tmp_path / "a.json"), split="train", **cache)["x"][:] == [1]


@each_way_of_loading
@pytest.mark.parametrize("module", ["pydantic", "numba"])
def test_without_the_builder_s_packages(load, cache, make_video, monkeypatch, module):
    for name in [*sys.modules]:
        if name.startswith("anthrotap_builder") or name.split(".")[0] == module:
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ImportError, match=rf"{module}: pip install 'anthrotap\[builder\]'"):
        load(data_files=str(make_video()), **cache)


@pytest.mark.parametrize("form", [None, "numpy", "torch"])
def test_decode_row_in_every_format(shards, cache, form):
    dataset = datasets.load_dataset(str(shards), split="train", **cache).with_format(form)
    frames, tracks = anthrotap_hf.decode_row(dataset[0])
    assert frames.shape == (20, 64, 96, 3)
    assert frames.dtype == np.uint8
    assert (tracks.height, tracks.width) == (64, 96)
    np.testing.assert_array_equal(tracks.xy[:, 7], [[1.5, 2.5], [9, 8]])
    assert tracks.xy.dtype == np.float32
    assert tracks.visible.all()
    assert tracks.visible.shape == (2, 20)
    assert tracks.vertex.tolist() == [7, 11]


def some_row(frames: np.ndarray, **changes) -> dict:
    num_frames, height, width = frames.shape[:3]
    row = {"clip_id": "a-1", "num_frames": num_frames, "height": height, "width": width}
    row |= {"tracks": [], "visible": [], "valid": [], "person": [], "vertex": []}
    return row | changes


def test_decode_row_of_every_kind_of_video(moving_pattern, tmp_path):
    frames = moving_pattern(5, 32, 48)
    data = encode_video(frames, 10)
    path = tmp_path / "a.mp4"
    path.write_bytes(data)
    decoder = type("Decoder", (), {"_hf_encoded": {"bytes": data, "path": None}})()
    for video in (
        data,
        path,
        {"bytes": data, "path": "x"},
        decoder,
    ):
        decoded, tracks = anthrotap_hf.decode_row(some_row(frames, video=video))
        assert decoded.shape == frames.shape
        assert (len(tracks), tracks.num_frames) == (0, 5)  # a clip without people is a row, too
    for video in (str(path), {"bytes": None, "path": str(path)}):
        with pytest.raises(ValueError, match="a path, which is never opened"):
            anthrotap_hf.decode_row(some_row(frames, video=video))
    with pytest.raises(VideoError, match="a-1: the video has 5 frames, its tracks 6"):
        anthrotap_hf.decode_row(some_row(frames, video=data, num_frames=6))
    with pytest.raises(VideoError, match=r"a-1: frames are \[32, 48\] \(H, W\), but the tracks' \[16, 48\]"):
        anthrotap_hf.decode_row(some_row(frames, video=data, height=16))
