"""`anthrotap attach`: a label-only dataset and its videos give the dataset built with videos, or an error."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from anthrotap_builder import attach as attach_module
from anthrotap_builder import pipeline
from anthrotap_builder.attach import AttachError, attach_videos
from anthrotap_builder.config import LabelingConfig
from anthrotap_builder.shards import ShardWriter, Tally, write_manifest
from anthrotap_hf.cli.main import app
from anthrotap_hf.data.shard_reader import ShardError
from anthrotap_hf.data.verify import verify
from anthrotap_hf.schema import features
from anthrotap_hf.utils.atomic_files import file_sha256

CONFIG = LabelingConfig()


def without_videos(folder: Path, out: Path) -> Path:
    """The label-only form of a dataset."""
    shutil.copytree(folder, out)
    files = sorted((out / "data").glob("*.parquet"))
    for file in files:
        table = pq.read_table(file)
        index = table.schema.get_field_index("video")
        field = table.schema.field(index)
        nothing = pa.nulls(len(table), field.type)
        pq.write_table(table.set_column(index, field, nothing), file)
    names = [file.relative_to(out).as_posix() for file in files]
    entries = [
        {"name": name, "rows": pq.read_metadata(out / name).num_rows, "sha256": file_sha256(out / name)}
        for name in names
    ]
    edit_manifest(out, label_only=True, files=entries)
    return out


def edit_manifest(folder: Path, **changes: object) -> None:
    path = folder / "manifest.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def manifest_of(folder: Path) -> dict:
    return json.loads((folder / "manifest.json").read_text())


def rows_of(folder: Path) -> dict[str, list[dict]]:
    """Return the rows by shard."""
    return {file.name: pq.read_table(file).to_pylist() for file in sorted(folder.glob("data/*.parquet"))}


def assert_same(found: dict[str, list[dict]], wanted: dict[str, list[dict]]) -> None:
    assert list(found) == list(wanted)
    for name, rows in wanted.items():
        for row, expected in zip(found[name], rows, strict=True):
            assert row["video"] == expected["video"]
            np.testing.assert_equal(row, expected)


@pytest.fixture
def videos(make_video) -> list[Path]:
    return [
        make_video("videos/a.mp4", shots=[20, 30]),
        make_video("videos/deep/b.mp4", shots=[0, 0, 70], fps=30),
        make_video("videos/c.mp4", shots=[0, 0, 0, 24], size=(48, 80)),
    ]


@pytest.fixture
def full(fake_labels, videos, tmp_path) -> Path:
    """The dataset with videos: of a and b in the split "train", in shards of two rows; of c in "test"."""
    folder = tmp_path / "full"
    for stem, some in (("train", videos[:2]), ("test", videos[2:])):
        with ShardWriter(folder / "data", 48, stem=stem, max_shard_bytes=1, group_rows=2) as writer:
            for video in some:
                for clip in pipeline.label_video(video, CONFIG):
                    writer.write(clip)
    write_manifest(folder, CONFIG, Tally())
    assert len(list(folder.rglob("*.parquet"))) == 3
    return folder


@pytest.fixture
def labels(full, tmp_path) -> Path:
    return without_videos(full, tmp_path / "labels")


@pytest.fixture
def out(tmp_path) -> Path:
    return tmp_path / "out/attached"


def run(*arguments: object):
    return CliRunner().invoke(app, ["attach", *map(str, arguments)])


def test_the_result_is_the_dataset_that_was_made_with_videos(labels, full, videos, out, tmp_path):
    renamed = videos[0].rename(videos[0].with_name("renamed.mp4"))
    (renamed.parent / "another.mp4").write_bytes(b"of no row")
    result = run(labels, renamed.parent, "--out", out, "--json")
    assert result.exit_code == 0, result.output
    assert_same(rows_of(out), rows_of(full))
    for file in (out / "data").iterdir():
        assert pq.read_schema(file).equals(pq.read_schema(full / "data" / file.name), check_metadata=True)
    assert sorted(path.name for path in out.iterdir()) == ["data", "manifest.json"]
    assert [path.name for path in out.parent.iterdir()] == ["attached"]
    summary = json.loads(result.stdout)
    assert {name: summary[name] for name in ("rows", "written", "videos", "found", "skipped")} == {
        "rows": 5,
        "written": 5,
        "videos": 3,
        "found": 3,
        "skipped": [],
    }
    manifest = manifest_of(out)
    assert manifest["label_only"] is False
    assert manifest == {**manifest_of(full), "label_only": False, "files": summary["files"]}
    report = verify(out, processes=0)
    assert (report.problems, report.videos) == ([], 5)
    loaded = datasets.load_dataset(str(out), cache_dir=str(tmp_path / "cache"))
    assert {split: len(rows) for split, rows in loaded.items()} == {"train": 4, "test": 1}
    assert loaded["train"].features == features(48)


def test_a_build_that_resampled_is_cut_by_its_own_settings(fake_labels, make_video, tmp_path, out):
    config = CONFIG.model_copy(
        update={"clips": CONFIG.clips.model_copy(update={"fps": 10, "clip_frames": 12, "short_side": 64})}
    )
    video, full = make_video(shots=[60], size=(128, 96)), tmp_path / "full"
    with ShardWriter(full / "data", 12) as writer:
        for clip in pipeline.label_video(video, config):
            writer.write(clip)
    write_manifest(full, config, Tally())
    attach_videos(without_videos(full, tmp_path / "labels"), [video], out)
    assert_same(rows_of(out), rows_of(full))


def test_rows_in_another_order_over_several_row_groups(full, videos, tmp_path, out):
    """A build may mix the videos, and write all into one shard."""
    file = full / "data/train-00000-of-00002.parquet"
    other = full / "data/train-00001-of-00002.parquet"
    table = pa.concat_tables([pq.read_table(file), pq.read_table(other)]).take([3, 0, 2, 1, 0])
    other.unlink()
    pq.write_table(table, file, row_group_size=2)
    labels = without_videos(full, tmp_path / "labels")
    result = attach_videos(labels, videos, out)
    assert_same(rows_of(out), rows_of(full))
    assert (result.rows, result.written) == (6, 6)


def test_missing_videos(labels, full, videos, out):
    result = run(labels, videos[0], "--out", out)
    assert result.exit_code == 2
    assert result.stderr.strip() == (
        "2 of 3 videos are missing (c.mp4, b.mp4); name them too, or leave their rows out with --partial"
    )
    assert not out.parent.exists() or not list(out.parent.iterdir())


def test_clips_that_cannot_be_attached_are_skipped_if_asked(labels, full, videos, out):
    edit_manifest(labels, splits={"train": {"rows": 4}, "test": {"rows": 1}}, counts={"clips": 5})
    result = run(labels, videos[1], "--partial", "--out", out)
    assert result.exit_code == 0, result.output
    wanted = rows_of(full)
    assert_same(rows_of(out), {"train-00000-of-00001.parquet": wanted["train-00001-of-00002.parquet"]})
    assert f"{out}: 2 of 5 rows, of 1 of 3 videos" in result.stdout
    missing = wanted["train-00000-of-00002.parquet"][0]["clip_id"]
    assert f"skipped: {missing}: a.mp4 is missing" in result.stderr
    manifest = manifest_of(out)
    assert manifest["splits"] == {"train": {"rows": 2}}
    assert "counts" not in manifest
    assert len(manifest["skipped"]) == 3
    assert not verify(out, processes=0).problems


def test_nothing_to_attach_is_an_error_even_so(labels, make_video, out):
    result = run(labels, make_video("other.mp4", shots=[0, 0, 0, 0, 9]), "--partial", "--out", out)
    assert result.exit_code == 2
    assert "3 of 3 videos are missing" in result.stderr


def test_another_file_of_the_same_name_is_rejected(labels, videos, out):
    before = file_sha256(videos[0])
    videos[0].write_bytes(videos[0].read_bytes() + b"\0")
    after = file_sha256(videos[0])
    result = run(labels, *videos, "--out", out)
    assert result.exit_code == 2
    (line,) = result.stderr.strip().splitlines()
    assert f"{videos[0]} is not the a.mp4 that was labeled" in line
    assert before in line
    assert after in line
    partly = attach_videos(labels, videos, out, partial=True)
    assert (partly.written, len(partly.skipped)) == (3, 2)
    assert after in partly.skipped[0]


@pytest.fixture
def other_decoder(monkeypatch):
    """Frames are a level brighter than when they were labeled."""
    read = attach_module.read_clips

    def brighter(path, settings):
        for clip in read(path, settings):
            yield replace(clip, frames=np.minimum(clip.frames, 254) + np.uint8(1))

    monkeypatch.setattr(attach_module, "read_clips", brighter)


def test_frames_of_another_decoder(labels, full, videos, out, other_decoder):
    result = run(labels, *videos, "--out", out)
    assert result.exit_code == 2
    assert "another FFmpeg or OpenCV decodes it to other frames" in result.stderr
    assert "--allow-other-decoder" in result.stderr
    assert not out.exists()
    with pytest.raises(AttachError, match="no row can be attached"):
        attach_videos(labels, videos, out, partial=True)
    result = run(labels, *videos, "--out", out, "--allow-other-decoder")
    assert result.exit_code == 0, result.output
    videos_here = [row["video"] for rows in rows_of(out).values() for row in rows]
    assert videos_here != [row["video"] for rows in rows_of(full).values() for row in rows]
    assert not verify(out, processes=0).problems


def test_frames_of_another_size_are_never_accepted(labels, videos, out, monkeypatch):
    read = attach_module.read_clips
    monkeypatch.setattr(
        attach_module,
        "read_clips",
        lambda *args: (replace(clip, frames=clip.frames[:, ::2]) for clip in read(*args)),
    )
    with pytest.raises(AttachError, match=r"frames are \d+ x \d+ here, the labels are for"):
        attach_videos(labels, videos, out, allow_other_decoder=True)


def test_clips_that_are_cut_elsewhere(labels, videos, out):
    config = CONFIG.model_copy(update={"clips": CONFIG.clips.model_copy(update={"clip_frames": 19})})
    edit_manifest(labels, config=config.describe())
    with pytest.raises(AttachError, match="cut here, it has no clip of 24 frames from frame 0 on"):
        attach_videos(labels, videos, out)


@pytest.mark.parametrize("stage", ["videos", "clips", "rows"])
def test_an_interrupted_run_leaves_nothing(labels, videos, out, stage):
    def interrupt(now: str, done: int, total: int) -> None:
        if now == stage and done:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        attach_videos(labels, videos, out, on_progress=interrupt)
    assert not out.parent.exists() or not list(out.parent.iterdir())


def test_a_dataset_that_is_there_is_safe(labels, videos, out):
    assert run(labels, *videos, "--out", out).exit_code == 0
    before = rows_of(out)
    again = run(labels, *videos, "--out", out)
    assert again.exit_code == 2
    assert "already holds test-00000-of-00001.parquet; take another folder; --overwrite replaces it" in again.stderr
    assert run(labels, videos[2], "--partial", "--out", out, "--overwrite").exit_code == 0
    assert_same(rows_of(out), {name: rows for name, rows in before.items() if name.startswith("test")})


def test_nothing_but_a_dataset_is_replaced(labels, videos, out):
    out.mkdir(parents=True)
    (out / "thesis.txt").write_text("words")
    result = run(labels, *videos, "--out", out, "--overwrite")
    assert result.exit_code == 2
    assert "thesis.txt, no part of a dataset" in result.stderr
    assert (out / "thesis.txt").read_text() == "words"
    result = run(labels, *videos, "--out", labels, "--overwrite")
    assert "is the label-only dataset itself" in result.stderr


def test_a_row_can_t_name_files_of_this_machine(labels, videos, out, tmp_path):
    file = labels / "data/test-00000-of-00001.parquet"
    table = pq.read_table(file)
    index = table.schema.get_field_index("source_sha256")
    pq.write_table(table.set_column(index, "source_sha256", pa.array([str(tmp_path / "mine")])), file)
    (tmp_path / "mine-0-24.mp4").write_bytes(b"mine")
    with pytest.raises(ShardError, match="row 0: it does not say which clip of which video"):
        attach_videos(labels, videos, out, partial=True)
    assert (tmp_path / "mine-0-24.mp4").exists()


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda f: edit_manifest(f, label_only=False), "not a label-only dataset"),
        (lambda f: edit_manifest(f, config={}), "does not say how videos were cut"),
        (lambda f: edit_manifest(f, config={"clips": {"fps": -1}}), "config.clips.fps"),
        (lambda f: (f / "manifest.json").write_text("{"), "can't be read as JSON"),
        (lambda f: (f / "manifest.json").unlink(), "no such file"),
        (lambda f: shutil.rmtree(f / "data"), "no row of a dataset"),
        (
            lambda f: (f / "data/test-00000-of-00001.parquet").write_bytes(b"words"),
            "not a readable Parquet file",
        ),
        (
            lambda f: pq.write_table(pa.table({"a": [1]}), f / "data/test-00000-of-00001.parquet"),
            "no column clip_id",
        ),
    ],
)
def test_invalid_label_only_datasets_are_an_error_in_one_line(labels, videos, out, damage, reason):
    damage(labels)
    result = run(labels, *videos, "--out", out)
    assert result.exit_code == 2
    assert reason in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert not out.exists()
