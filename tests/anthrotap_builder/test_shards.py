"""Shards: written rows are read back, with plain `datasets` too; no file is left half-written."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import datasets
import numpy as np
import pyarrow.parquet as pq
import pytest

from anthrotap_builder.config import LabelingConfig
from anthrotap_builder.pipeline import LabeledClip
from anthrotap_builder.shards import ShardWriter, Tally, write_manifest
from anthrotap_hf.schema import encode_row, features
from anthrotap_hf.tracks import Tracks
from anthrotap_hf.video import decode_video

CLIP_FRAMES = 12
MADE_BY = {"body_model": "anny", "mesh_source": "fit", "flow": "dis", "label_version": "1-abc"}


@pytest.fixture
def make_clip(moving_pattern):
    """`make_clip(number, num_tracks, num_frames)` -> LabeledClip with random labels."""

    def make(number: int = 0, num_tracks: int = 5, num_frames: int = 10) -> LabeledClip:
        rng = np.random.default_rng(number)
        shape = num_tracks, num_frames
        tracks = Tracks.from_labels(
            xy=rng.uniform(0, 40, (*shape, 2)).astype(np.float32),
            visible=rng.random(shape) < 0.5,
            valid=rng.random(shape) < 0.7,
            height=32,
            width=48,
            person=rng.integers(0, 2, num_tracks).astype(np.int32),
            vertex=rng.integers(0, 13718, num_tracks).astype(np.int32),
            confidence=rng.random((num_tracks, num_frames), np.float32),
        )
        return LabeledClip(
            tracks=tracks,
            video=moving_pattern(num_frames, 32, 48, number),
            fps=30.0,
            clip_id=f"a-0123456789ab-{number:06d}",
            source_video="/home/someone/a.mp4",
            start_frame=number,
            info={**MADE_BY, "rejected_fraction": 0.25 if num_tracks else 0.0},
        )

    return make


def assert_same(row: dict, clip: LabeledClip) -> None:
    num_frames = len(clip.frames)
    for name in ("clip_id", "start_frame", "fps", "rejected_fraction"):
        assert row[name] == getattr(clip, name), name
    for name in MADE_BY:
        assert row[name] == clip.info[name], name
    assert (row["num_frames"], row["height"], row["width"]) == clip.frames.shape[:3]
    np.testing.assert_array_equal(row["tracks"][:, :num_frames], clip.tracks.xy)
    assert np.isfinite(row["tracks"]).all()
    np.testing.assert_array_equal(row["visible"][:, :num_frames], clip.tracks.visible)
    np.testing.assert_array_equal(row["valid"][:, :num_frames], clip.tracks.valid)
    assert not row["valid"][:, num_frames:].any()
    np.testing.assert_allclose(row["confidence"][:, :num_frames] / 100, clip.tracks.confidence, atol=0.006)
    np.testing.assert_array_equal(row["person"], clip.tracks.person)
    np.testing.assert_array_equal(row["vertex"], clip.tracks.vertex)
    frames = decode_video(row["video"]["bytes"])
    assert frames.shape == clip.frames.shape
    assert np.abs(frames.astype(int) - clip.frames).mean() < 4


def test_columns():
    columns = features(48)
    assert list(columns) == [
        *(
            "clip_id",
            "source_video",
            "source_sha256",
            "start_frame",
            "num_frames",
            "height",
            "width",
            "fps",
            "video",
            "frames_sha256",
            "tracks",
        ),
        *(
            "visible",
            "valid",
            "confidence",
            "person",
            "vertex",
            "body_model",
            "mesh_source",
            "flow",
            "label_version",
        ),
        "rejected_fraction",
    ]
    assert columns["tracks"] == datasets.Array3D((None, 48, 2), "float32")
    assert columns["visible"] == columns["valid"] == datasets.Array2D((None, 48), "bool")


def test_shards_come_back(make_clip, tmp_path):
    clips = [
        make_clip(0),
        make_clip(1, num_tracks=0),
        make_clip(2, num_frames=12),
        make_clip(3, num_tracks=300),
    ]
    with ShardWriter(tmp_path / "out", CLIP_FRAMES) as writer:
        for clip in clips:
            writer.write(clip)
    assert [path.name for path in writer.paths] == ["train-00000-of-00001.parquet"]
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["train-00000-of-00001.parquet"]
    write_manifest(tmp_path / "out", LabelingConfig(), Tally())  # must not confuse load_dataset

    loaded = datasets.load_dataset(str(tmp_path / "out"), split="train", cache_dir=str(tmp_path / "cache"))
    assert loaded.features == features(CLIP_FRAMES)
    assert loaded["source_video"][0] == "a.mp4"
    for row, clip in zip(loaded.with_format("numpy"), clips, strict=True):
        assert_same(row, clip)
    streamed = datasets.load_dataset(str(tmp_path / "out"), split="train", streaming=True)
    assert [row["clip_id"] for row in streamed] == [clip.clip_id for clip in clips]


def test_many_shards_of_many_row_groups(make_clip, tmp_path):
    clip = make_clip()
    with ShardWriter(tmp_path, CLIP_FRAMES, max_shard_bytes=40_000) as writer:
        for number in range(70):
            writer.write(replace(clip, start_frame=number))
    assert len(writer.paths) > 1
    assert writer.paths[-1].name == f"train-{len(writer.paths) - 1:05d}-of-{len(writer.paths):05d}.parquet"
    loaded = datasets.load_dataset(str(tmp_path), split="train", cache_dir=str(tmp_path / "cache"))
    assert loaded["start_frame"][:] == list(range(70))
    assert pq.ParquetFile(writer.paths[0]).metadata.row_group(0).num_rows <= 16


def test_no_clip_no_shard(make_clip, tmp_path):
    """`datasets` can't read a Parquet file without rows; one idle worker must not spoil the folder."""
    with ShardWriter(tmp_path, CLIP_FRAMES, stem="train-00000") as idle:
        pass
    with ShardWriter(tmp_path, CLIP_FRAMES, stem="train-00001") as busy:
        busy.write(make_clip())
    assert not idle.paths
    loaded = datasets.load_dataset(str(tmp_path), split="train", cache_dir=str(tmp_path / "cache"))
    assert len(loaded) == 1


def test_videos_beside_the_shards_do_not_matter(make_clip, tmp_path):
    """Such as overlays: under `data/` shards are found by their exact pattern."""
    with ShardWriter(tmp_path / "data", CLIP_FRAMES) as writer:
        writer.write(make_clip())
    for name in ("train_station.tracks.mp4", "test.tracks.mp4", "test.jpg", "manifest.json"):
        (tmp_path / name).write_bytes(b"not a shard")
    loaded = datasets.load_dataset(str(tmp_path), cache_dir=str(tmp_path / "cache"))
    assert {split: len(rows) for split, rows in loaded.items()} == {"train": 1}


def test_an_exception_leaves_nothing(make_clip, tmp_path):
    def write_some() -> None:
        with ShardWriter(tmp_path, CLIP_FRAMES, max_shard_bytes=1000) as writer:
            for number in range(40):
                writer.write(make_clip(number))
            assert list(tmp_path.iterdir())
            raise RuntimeError("power cut")

    with pytest.raises(RuntimeError, match="power cut"):
        write_some()
    assert not list(tmp_path.iterdir())


def test_earlier_shards_are_safe(make_clip, tmp_path):
    with ShardWriter(tmp_path, CLIP_FRAMES, max_shard_bytes=1) as writer:
        for number in range(20):
            writer.write(make_clip(number))
    assert len(writer.paths) == 5
    with pytest.raises(FileExistsError, match="already holds"), ShardWriter(tmp_path, CLIP_FRAMES):
        pass
    with ShardWriter(tmp_path, CLIP_FRAMES, stem="train-00001") as other:
        other.write(make_clip(50))
    with ShardWriter(tmp_path, CLIP_FRAMES, overwrite=True) as writer:
        writer.write(make_clip(60))
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "train-00000-of-00001.parquet",
        "train-00001-00000-of-00001.parquet",
    ]
    loaded = datasets.load_dataset(str(tmp_path), split="train", cache_dir=str(tmp_path / "cache"))
    assert sorted(loaded["start_frame"][:]) == [50, 60]


def test_a_file_of_the_clips_name_is_not_taken(make_clip, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    clip = make_clip()
    Path(f"{clip.clip_id}.mp4").write_bytes(b"another")
    with ShardWriter("out", CLIP_FRAMES) as writer:
        writer.write(clip)
    assert b"moov" in pq.read_table(writer.paths[0])["video"][0].as_py()["bytes"]


def test_clips_that_do_not_fit(make_clip):
    with pytest.raises(ValueError, match="10 frames, the dataset's clips have 8"):
        encode_row(make_clip(), 8)
    clip = make_clip()
    with pytest.raises(ValueError, match="the tracks'"):
        encode_row(replace(clip, video=clip.frames[:, :16]), CLIP_FRAMES)


def test_manifest(make_clip, tmp_path):
    no_people = make_clip(1, num_tracks=0)
    clips = [make_clip(0), no_people, make_clip(2, num_tracks=40)]
    parts = [Tally(), Tally()]
    for number, clip in enumerate(clips):
        parts[number % 2].add(clip.tracks, clip.rejected_fraction)
    videos = {
        "inputs": [{"file": "a.mp4", "sha256": "0" * 64}],
        "failed": [{"file": "b.mp4", "reason": "b.mp4: the file is empty"}],
        "skipped": ["a.mp4: 3 frames from frame 90 on: too few"],
    }
    path = write_manifest(tmp_path, LabelingConfig(), Tally.merge(parts), videos)
    manifest = json.loads(path.read_text())
    counts = manifest["counts"]
    assert counts["clips"] == 3
    assert counts["clips_without_people"] == 1
    assert counts["tracks"] == 45
    assert counts["visible"] + counts["occluded"] + counts["invalid"] == 45 * 10
    assert counts["visible"] == sum(int(clip.tracks.visible.sum()) for clip in clips)
    assert counts["mean_rejected_fraction"] == 0.25  # of the clips with people
    assert manifest["inputs"][0]["file"] == "a.mp4"
    assert manifest["failed"][0]["file"] == "b.mp4"
    assert manifest["skipped"]
    assert manifest["label_version"] == LabelingConfig().version()
    assert manifest["config"]["clips"]["clip_frames"] == 48
    assert manifest["packages"]["datasets"] == datasets.__version__
    assert [path.name for path in tmp_path.iterdir()] == ["manifest.json"]
