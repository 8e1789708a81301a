"""`anthrotap stats`: every kind of dataset, several side by side, and bad ones."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from anthrotap_hf.cli.main import app
from anthrotap_hf.evaluation import track_statistics as statistics
from anthrotap_hf.evaluation.dataset_statistics import DISTRIBUTIONS
from anthrotap_hf.readers import open_reader
from helpers.benchmark_files import some_videos, write_tapvid


def stats(*arguments: object):
    return CliRunner().invoke(app, ["stats", *map(str, arguments)])


def figures(*arguments: object) -> list[dict]:
    result = stats(*arguments, "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)["datasets"]


def some_row(number: int, num_frames: int = 10, **changes) -> dict:
    """Five tracks of two people; 12 frames fit into a row."""
    rng = np.random.default_rng(number)
    valid = np.ones((5, 12), bool)
    valid[:, num_frames:] = False
    valid[4, 3] = False
    visible = valid.copy()
    visible[0, 2:6] = False
    tracks = rng.uniform(5, 60, (5, 12, 2)).astype(np.float32)
    tracks[:, num_frames:] = np.nan
    row = {
        "clip_id": f"clip-{number}",
        "num_frames": num_frames,
        "height": 64,
        "width": 96,
        "fps": 20.0,
        "video": {"bytes": b"never looked at", "path": None},
        "tracks": tracks,
        "visible": visible,
        "valid": valid,
        "person": np.array([0, 0, 0, 1, 1], np.int32),
        "vertex": np.arange(5, dtype=np.int32),
        "confidence": np.where(visible, 80, 0).astype(np.uint8),
    }
    return row | changes


def write_shard(path: Path, rows: list[dict]) -> Path:
    from datasets import Array2D, Array3D, Dataset, Features, List, Value, Video

    features = Features(
        {
            "clip_id": Value("string"),
            "num_frames": Value("int32"),
            "height": Value("int32"),
            "width": Value("int32"),
            "fps": Value("float32"),
            "video": Video(decode=False),
            "tracks": Array3D((None, 12, 2), "float32"),
            "visible": Array2D((None, 12), "bool"),
            "valid": Array2D((None, 12), "bool"),
            "person": List(Value("int32")),
            "vertex": List(Value("int32")),
            "confidence": Array2D((None, 12), "uint8"),
        }
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    columns = {key: [row[key] for row in rows] for key in features}
    Dataset.from_dict(columns, features=features).to_parquet(path)
    return path


@pytest.fixture
def labels(tmp_path):
    """A folder with two shards, of two rows and one."""
    write_shard(tmp_path / "labels/data/train-00000-of-00002.parquet", [some_row(0), some_row(1)])
    write_shard(tmp_path / "labels/data/train-00001-of-00002.parquet", [some_row(2, 8)])
    return tmp_path / "labels"


def test_the_figures_of_shards(labels, tmp_path):
    out = tmp_path / "new/out"
    (found,) = figures(labels, "--out", out)
    assert (found["name"], found["kind"], found["clips"], found["skipped"]) == ("labels", "shards", 3, {})
    assert (found["tracks"], found["frames"], found["labels"]) == (15, 28, 140)
    assert found["occluded"] == pytest.approx(12 / 140)
    assert found["invalid"] == pytest.approx(3 / 140)
    assert found["visible"] == pytest.approx(125 / 140)
    assert found["reappearing_tracks"] == pytest.approx(6 / 15)
    spread = found["distributions"]
    assert set(spread) == set(DISTRIBUTIONS)
    assert spread["people"]["mean"] == 2
    assert spread["fps"]["quantiles"]["0.5"] == 20
    assert spread["valid_frames"]["quantiles"]["0.9"] == 10
    assert spread["occluded_run_lengths"]["quantiles"] == dict.fromkeys(spread["occluded_run_lengths"]["quantiles"], 4)
    assert spread["confidence"]["mean"] == pytest.approx(0.8)
    assert spread["confidence"]["count"] == 125

    complexity, at_10, diversity, speed = [], [], [], []
    for row in (some_row(0), some_row(1), some_row(2, 8)):
        xy, visible = row["tracks"], row["visible"] & row["valid"]
        complexity += statistics.trajectory_complexity(xy, visible).tolist()
        at_10 += statistics.trajectory_complexity(xy[:, ::2], visible[:, ::2]).tolist()
        diversity.append(statistics.trajectory_diversity(xy / [96, 64], visible))
        speed += statistics.speeds(xy * [256 / 96, 4], visible).ravel().tolist()
    assert spread["complexity"]["mean"] == pytest.approx(np.nanmean(complexity))
    assert spread["complexity_at_10"]["mean"] == pytest.approx(np.nanmean(at_10))
    assert spread["diversity"]["mean"] == pytest.approx(np.mean(diversity))
    assert spread["speed"]["mean"] == pytest.approx(np.nanmean(speed))

    assert json.loads((out / "stats.json").read_text())["datasets"] == [found]
    assert (out / "stats.png").read_bytes().startswith(b"\x89PNG")
    assert f"{spread['complexity']['mean']:.4f}" in (out / "stats.txt").read_text()
    assert figures(labels / "data/train-00001-of-00002.parquet", "--out", out)[0]["clips"] == 1
    assert figures(labels, "--out", out, "--limit", 2)[0]["frames"] == 20


def test_videos_of_shards_are_not_read(labels, tmp_path, monkeypatch):
    asked = []
    original = pq.ParquetFile.read_row_group

    def read_row_group(self, number, columns, **options):
        asked.append(columns)
        return original(self, number, columns=columns, **options)

    monkeypatch.setattr(pq.ParquetFile, "read_row_group", read_row_group)
    figures(labels, "--out", tmp_path / "out")
    assert len(asked) == 2
    assert all("video" not in columns and "tracks" in columns for columns in asked)


def test_rows_do_not_pile_up_in_memory(tmp_path):
    wide = some_row(0, tracks=np.random.default_rng(0).random((2000, 12, 2), np.float32))
    wide |= {name: np.ones((2000, 12), bool) for name in ("visible", "valid")}
    wide |= {name: np.zeros(2000, np.int32) for name in ("person", "vertex")}
    wide["confidence"] = np.full((2000, 12), 80, np.uint8)
    table = pq.read_table(write_shard(tmp_path / "one.parquet", [wide]))
    with pq.ParquetWriter(tmp_path / "many.parquet", table.schema) as writer:
        for _ in range(50):
            writer.write_table(table)
    before, held = pa.total_allocated_bytes(), []
    for clip in open_reader("shards", tmp_path / "many.parquet", labels_only=True):
        assert clip.tracks.xy.shape == (2000, 10, 2)
        held.append(pa.total_allocated_bytes() - before)
    assert len(held) == 50
    assert max(held) < 4_000_000  # labels of 50 rows are 13 MB


def test_the_printed_table(labels, tmp_path):
    result = stats(labels, 3, "--kind", "shards", "--kind", "procedural", "--out", tmp_path / "out")
    assert result.exit_code == 0, result.output
    assert "3/3" in result.stderr
    assert "/s" in result.stderr
    for word in (
        "labels",
        "procedural",
        "complexity, rad/frame²",
        "diversity",
        "speed, px/frame",
        "occluded",
    ):
        assert word in result.stdout
    assert result.stdout.splitlines()[-3:] == [
        str(tmp_path / f"out/stats{suffix}") for suffix in (".json", ".txt", ".png")
    ]


def test_datasets_side_by_side(labels, tmp_path):
    other = write_shard(tmp_path / "else/labels/a.parquet", [some_row(5)]).parent
    plain, human = figures(
        7, labels, "--kind", "procedural", "--kind", "shards", "--limit", 2, "--out", tmp_path / "out"
    )
    assert (plain["name"], plain["clips"], human["name"], human["clips"]) == ("procedural", 2, "labels", 2)
    assert plain["distributions"]["people"]["mean"] is plain["distributions"]["fps"]["mean"] is None
    same = figures(labels, other, "--out", tmp_path / "out")
    assert [each["name"] for each in same] == [str(labels), str(other)]  # their last parts are the same


def test_labels_of_others(tmp_path, moving_pattern):
    frames = moving_pattern(10, 64, 96)
    rng = np.random.default_rng(0)
    tracks = np.cumsum(rng.uniform(0, 4, (5, 10, 2)), 1).astype(np.float32)
    occluded = np.zeros((5, 10), bool)
    occluded[1, 4:7] = True
    for folder, name in (("kubric/0001/frames", "{:03d}.png"), ("odyssey/scene/rgbs", "rgb_{:05d}.jpg")):
        (tmp_path / folder).mkdir(parents=True)
        for number, image in enumerate(frames):
            cv2.imwrite(str(tmp_path / folder / name.format(number)), image)
    np.save(tmp_path / "kubric/0001/0001.npy", {"coords": tracks, "visibility": occluded}, allow_pickle=True)
    np.savez(
        tmp_path / "odyssey/scene/anno.npz",
        trajs_2d=tracks.swapaxes(0, 1),
        visibs=~occluded.T,
        valids=np.ones((10, 5), bool),
    )
    (tmp_path / "drive").mkdir()
    np.savez(tmp_path / "drive/a.npz", video=np.stack([*frames]), tracks=tracks, visibles=~occluded)
    (tmp_path / "dance").mkdir()
    released = {
        "tracks": tracks.swapaxes(0, 1),
        "occlusion": occluded.T,
        "video_size": (64, 96),
        "video_path": "/x/lets_dance/mp4_10fps/a.mp4",  # not here, and not needed
    }
    np.save(tmp_path / "dance/a.npy", released, allow_pickle=True)
    kinds = {"kubric": "kubric", "odyssey": "point-odyssey", "dance": "letsdance", "drive": "drivetrack"}
    arguments = [word for kind in kinds.values() for word in ("--kind", kind)]
    kubric, odyssey, dance, drive = figures(
        *(tmp_path / folder for folder in kinds), *arguments, "--out", tmp_path / "out"
    )
    for name in ("complexity", "diversity", "speed", "extent"):
        for other in (odyssey, dance, drive):
            assert other["distributions"][name] == kubric["distributions"][name]
    assert kubric["occluded"] == odyssey["occluded"] == dance["invalid"] == drive["invalid"] == pytest.approx(3 / 50)
    assert dance["distributions"]["complexity_at_10"] == dance["distributions"]["complexity"]
    assert [each["knows_occlusion"] for each in (kubric, odyssey, dance, drive)] == [True, True, False, False]


def test_benchmarks(tmp_path, moving_pattern):
    davis = write_tapvid(tmp_path / "data", "davis", some_videos(moving_pattern, 3))
    (found,) = figures(davis, "--kind", "tapvid", "--out", tmp_path / "out")
    assert (found["clips"], found["tracks"]) == (3, 18)
    assert found["distributions"]["diversity"]["mean"] == pytest.approx(0, abs=1e-6)  # all points drift alike
    assert found["distributions"]["complexity"]["mean"] == pytest.approx(0, abs=1e-2)


def test_bad_rows_are_skipped_and_counted(tmp_path):
    nan = np.full((5, 12, 2), np.nan, np.float32)
    rows = [
        some_row(0),
        some_row(1, tracks=nan),
        some_row(2, tracks=nan),
        some_row(3, tracks=np.zeros((4, 12, 2), np.float32)),
        some_row(4, num_frames=None),
        some_row(5, height=0),
        some_row(6),
    ]
    data = write_shard(tmp_path / "bad.parquet", rows)
    (found,) = figures(data, "--out", tmp_path / "out")
    assert found["clips"] == 2
    assert found["frames"] == 20
    reason = "a damaged row (a valid label has a position that is not finite)"
    assert found["skipped"][reason] == {"clips": 2, "first": "clip-1"}
    assert sum(each["clips"] for each in found["skipped"].values()) == 5
    output = stats(data, "--out", tmp_path / "out").stdout
    assert f"bad.parquet: 2 skipped: {reason} (first: clip-1)" in " ".join(output.split())

    nothing = write_shard(tmp_path / "nothing.parquet", [some_row(1, tracks=nan)])
    result = stats(nothing, "--out", tmp_path / "none")
    assert result.exit_code == 2
    assert f"no clip that can be used; clip-1: {reason}" in result.stderr


def test_clips_without_tracks(tmp_path):
    none = some_row(
        1,
        tracks=np.zeros((0, 12, 2), np.float32),
        **{name: np.zeros((0, 12), bool) for name in ("visible", "valid")},
        **{name: np.zeros(0, np.int32) for name in ("person", "vertex")},
        confidence=np.zeros((0, 12), np.uint8),
    )
    path = tmp_path / "a.parquet"
    (found,) = figures(write_shard(path, [none]), "--out", tmp_path / "out")
    assert (found["clips"], found["tracks"], found["visible"]) == (1, 0, None)
    assert found["distributions"]["complexity"]["mean"] is None
    assert stats(path, "--out", tmp_path / "out").exit_code == 0
    (found,) = figures(write_shard(path, [some_row(0), none]), "--out", tmp_path / "out")
    assert (found["clips"], found["tracks"]) == (2, 5)


def test_invalid_arguments_are_reported_in_one_line(labels, tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "a file").write_text("")
    (tmp_path / "text.parquet").write_text("no shard")
    cut = tmp_path / "cut.parquet"
    cut.write_bytes((labels / "data/train-00000-of-00002.parquet").read_bytes()[:-5000])
    write_shard(tmp_path / "rows.parquet", [some_row(0)])
    other = pq.read_table(tmp_path / "rows.parquet").drop_columns(["tracks"])
    pq.write_table(other, tmp_path / "other.parquet")
    write_shard(tmp_path / "no rows.parquet", [])
    out = ("--out", tmp_path / "out")
    for arguments, message in [
        ((tmp_path / "missing", *out), "missing: no such file or folder"),
        ((tmp_path / "empty", *out), "empty: no shard (.parquet) in this folder"),
        ((tmp_path / "text.parquet", *out), "text.parquet: not a readable Parquet file"),
        ((cut, *out), "cut.parquet: not a readable Parquet file"),
        ((tmp_path / "other.parquet", *out), "other.parquet: not a shard of this project (no column tracks)"),
        ((tmp_path / "no rows.parquet", *out), "no rows.parquet: no rows in it"),
        ((labels, "--kind", "dance", *out), "unknown layout 'dance'; known: shards, letsdance,"),
        ((labels, labels, *out), "a dataset is named twice"),
        ((labels, 5, 6, "--kind", "shards", "--kind", "procedural", *out), "2 for 3 datasets"),
        ((labels, "--kind", "procedural", *out), "labels: for procedural clips, say how many"),
        ((0, "--kind", "procedural", *out), "0: for procedural clips, say how many"),
        ((tmp_path / "empty", "--kind", "letsdance", *out), "no .npy file in this folder"),
        ((tmp_path / "empty", "--kind", "kubric", *out), "no clip laid out as NAME/NAME.npy"),
        ((tmp_path / "empty", "--kind", "point-odyssey", *out), "no clip laid out as NAME/anno.npz"),
        ((tmp_path / "empty", "--kind", "panning-movi-e", *out), "no file NAME-train.tfrecord"),
        ((tmp_path / "empty", "--kind", "drivetrack", *out), "no .npz file in this folder"),
        ((tmp_path / "text.parquet", "--kind", "tapvid", *out), "it is no pickle, or a damaged one"),
        ((tmp_path / "empty", "--kind", "points", *out), "no .csv or .json"),
        ((labels, "--out", tmp_path / "a file/x"), "is a file, not a folder"),
    ]:
        result = stats(*arguments)
        assert result.exit_code == 2, (arguments, result.output, result.exception)
        lines = [line for line in result.stderr.splitlines() if line.strip()]
        assert message in lines[-1], (arguments, result.stderr)
        assert len([line for line in lines if "━" not in line and "-:--:--" not in line]) == 1, lines
    assert not (tmp_path / "out").exists()


def test_a_stopped_run_says_so(labels, tmp_path, monkeypatch):
    def stopping(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("anthrotap_hf.evaluation.dataset_statistics.trajectory_diversity", stopping)
    result = stats(labels, "--out", tmp_path / "out")
    assert result.exit_code == 130
    assert "stopped; nothing was written" in result.stderr
    assert not (tmp_path / "out").exists()


def test_without_matplotlib_only_the_plot_is_missing(labels, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    result = stats(labels, "--out", tmp_path / "out")
    assert result.exit_code == 0, result.output
    assert "no plot: plots need matplotlib: pip install 'anthrotap[evaluation]'" in result.stderr
    assert ".png" not in result.stdout
    assert (tmp_path / "out/stats.json").exists()
