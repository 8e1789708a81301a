"""The `datasets` builder: cached, streamed, in processes; bad files cost only themselves."""

from __future__ import annotations

import json
from pathlib import Path

import datasets
import pytest

from anthrotap_builder.config import LabelingConfig
from anthrotap_builder.hf_dataset import AnthroTap
from anthrotap_hf.data.loading import load_dataset
from anthrotap_hf.schema import features
from anthrotap_hf.video import VideoError

pytestmark = pytest.mark.usefixtures("fake_labels")


@pytest.fixture
def load(tmp_path):
    """`load_dataset` with a cache of its own."""
    return lambda **kw: load_dataset(cache_dir=str(tmp_path / "cache"), **kw)


def test_unknown_names_are_errors(make_video, load):
    files = [str(make_video())]
    with pytest.raises(ValueError, match="no recipe 'nonsense'"):
        load(name="nonsense", data_files=files)
    with pytest.raises(TypeError, match="pionts"):
        load(data_files=files, pionts=3)


def test_rows(make_video, load):
    path = make_video("a.mp4", shots=[20, 30])
    dataset = load(data_files=[str(path)], split="train")
    assert dataset.features == features(48)
    assert dataset["num_frames"][:] == [20, 30]
    assert dataset["start_frame"][:] == [0, 20]
    assert dataset["source_video"][:] == ["a.mp4"] * 2
    assert dataset["label_version"][:] == [LabelingConfig().version()] * 2


def test_splits_and_slices(make_video, load):
    a, b = make_video("a.mp4", shots=[20] * 4), make_video("b.mp4")
    data_files = {"train": [str(a)], "test": str(b)}
    assert {split: len(rows) for split, rows in load(data_files=data_files).items()} == {
        "train": 4,
        "test": 1,
    }
    assert load(data_files=data_files, split="train[1:3]")["start_frame"][:] == [20, 40]
    assert len(load(data_files=data_files, split="train[:50%]+test")) == 3


def test_settings_reach_the_clips(make_video, load):
    path = make_video(shots=[60], fps=30)
    dataset = load(data_files=str(path), settings={"clips": {"fps": 10, "clip_frames": 24}}, split="train")
    assert dataset["num_frames"][:] == [20]
    assert dataset.features == features(24)


def test_the_cache_is_used_until_labels_change(make_video, load, monkeypatch):
    path = make_video()
    first = load(data_files=str(path), split="train")

    def no_more(*_, **__):
        raise AssertionError("labeled again")

    with monkeypatch.context() as patch:
        patch.setattr("anthrotap_builder.pipeline.label_video", no_more)
        again = load(data_files=str(path), split="train")
    assert again.cache_files == first.cache_files
    changed = load(data_files=str(path), split="train", settings={"seed": 1})
    assert changed["label_version"][0] != first["label_version"][0]
    with monkeypatch.context() as patch:  # the code changes, the settings do not
        patch.setattr("anthrotap_builder.config.LABEL_CODE_VERSION", 99)
        assert load(data_files=str(path), split="train")["label_version"][0].startswith("99-")
    make_video(shots=[30])  # another video under the same name
    assert load(data_files=str(path), split="train")["num_frames"][:] == [30]


def test_streaming(make_video, load):
    files = [str(make_video(f"{name}.mp4", shots=[20, 20])) for name in "ab"]
    stream = load(data_files=files, split="train", streaming=True)
    assert isinstance(stream, datasets.IterableDataset)
    assert stream.num_shards == 2
    rows = list(stream)
    assert [(row["source_video"], row["start_frame"]) for row in rows] == [
        ("a.mp4", 0),
        ("a.mp4", 20),
        ("b.mp4", 0),
        ("b.mp4", 20),
    ]
    assert rows[0]["video"]["bytes"][4:8] == b"ftyp"


def test_processes(make_video, load):
    files = [str(make_video(f"{name}.mp4")) for name in "abc"]
    dataset = load(data_files=files, split="train", num_proc=2)
    assert dataset["source_video"][:] == ["a.mp4", "b.mp4", "c.mp4"]


def bad_files(folder: Path) -> list[str]:
    (folder / "empty.mp4").touch()
    (folder / "text.mp4").write_text("no video")
    return [str(folder / "empty.mp4"), str(folder / "text.mp4")]


@pytest.mark.parametrize("options", [{}, {"num_proc": 3}, {"streaming": True}])
def test_a_bad_file_among_several(make_video, load, tmp_path, caplog, options):
    files = [*bad_files(tmp_path), str(make_video("good.mp4"))]
    dataset = load(data_files=files, split="train", **options)
    assert [row["source_video"] for row in dataset] == ["good.mp4"]
    if "num_proc" not in options:
        assert "empty.mp4: the file is empty" in caplog.text
    if "streaming" not in options:
        assert "2 of 3 videos could not be read" in caplog.text
        (listed,) = Path(dataset.cache_files[0]["filename"]).parent.glob("failed-train.jsonl")
        assert len([json.loads(line) for line in listed.read_text().splitlines()]) == 2


@pytest.mark.parametrize("options", [{}, {"num_proc": 2}, {"streaming": True}])
def test_only_bad_files(load, tmp_path, options):
    files = bad_files(tmp_path)
    with pytest.raises(VideoError, match="none of the 2 videos gives a clip") as caught:
        list(load(data_files=files, split="train", **options))
    assert "\n" not in str(caught.value)
    assert not list((tmp_path / "cache").glob("anthrotap/*/*/*.arrow"))


def test_a_video_too_short_for_a_clip(make_video, load):
    with pytest.raises(VideoError, match=r"the video gives no clip.*fewer than the 8 frames"):
        load(data_files=str(make_video(shots=[3])), split="train")


def test_a_damaged_video_gives_its_readable_clips(make_video, load, caplog):
    path = make_video("hurt.mp4", shots=[30, 30], options={"movflags": "faststart"})
    path.write_bytes(path.read_bytes()[:-3000])
    dataset = load(data_files=str(path), split="train")
    assert dataset["num_frames"][0] == 30
    assert "damaged" in caplog.text


def test_parquet_of_the_labels_loads_alone(make_video, load, tmp_path):
    load(data_files=str(make_video()), split="train").to_parquet(tmp_path / "shards" / "train.parquet")
    again = datasets.load_dataset(str(tmp_path / "shards"), split="train", cache_dir=str(tmp_path / "cache"))
    assert again.features == features(48)


def test_the_class_alone_needs_files(tmp_path):
    builder = AnthroTap(cache_dir=str(tmp_path))
    with pytest.raises(ValueError, match="data_files"):
        builder.download_and_prepare()
