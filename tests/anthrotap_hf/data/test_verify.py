"""`anthrotap verify`: a valid dataset has no problems, each kind of damage is reported, and no file ends
the run."""

from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from anthrotap_hf.cli.main import app
from anthrotap_hf.cli.verify import summary
from anthrotap_hf.data import verify as verify_module
from anthrotap_hf.data.verify import Report, verify
from anthrotap_hf.schema import COLUMNS, wrong_columns
from anthrotap_hf.video import encode_video

pytest.importorskip("numba", reason="needs anthrotap[builder]")

from anthrotap_builder.config import LabelingConfig
from anthrotap_builder.shards import ShardWriter, Tally, write_manifest
from anthrotap_hf.schema import encode_row, encode_table, features
from anthrotap_hf.tracks import TrackedClip, Tracks

CONFIG = LabelingConfig()
FRAMES = 10
SHARD = "data/train-00000-of-00001.parquet"


def make_clip(number: int) -> TrackedClip:
    frames = np.full((FRAMES, 32, 48, 3), 40 + 20 * number, np.uint8)
    shape = 3, FRAMES
    rng = np.random.default_rng(number)
    visible, valid = rng.random(shape) < 0.8, np.ones(shape, bool)
    visible[:, :4] = True
    valid[0, -1] = False
    xy = rng.uniform(0, 32, (*shape, 2)).astype(np.float32)
    source = hashlib.sha256(bytes([number])).hexdigest()
    return TrackedClip(
        video=frames,
        fps=30.0,
        tracks=Tracks.from_labels(
            xy,
            visible,
            valid,
            height=32,
            width=48,
            person=np.zeros(3, np.int32),
            vertex=np.arange(3, dtype=np.int32),
            confidence=np.where(visible & valid, 0.9, 0).astype(np.float32),
        ),
        clip_id=f"{source[:16]}-{7:06d}",
        source_video=f"{number}.mp4",
        source_sha256=source,
        start_frame=7,
        info={
            "body_model": "anny",
            "mesh_source": "fit",
            "flow": "dis",
            "label_version": CONFIG.version(),
            "rejected_fraction": 0.1,
        },
    )


def write_dataset(folder: Path, rows: list[dict], stem: str = "train") -> Path:
    """Write rows as given, valid or not, and the manifest that `anthrotap label` would write."""
    with ShardWriter(folder / "data", 48, stem=stem) as writer:
        for row in rows:
            writer.write_row(encode_table([row], writer.features))
    write_manifest(folder, CONFIG, Tally())
    return folder


@pytest.fixture
def rows() -> list[dict]:
    return [encode_row(make_clip(number), 48) for number in range(3)]


@pytest.fixture
def dataset(rows, tmp_path) -> Path:
    return write_dataset(tmp_path / "labels", rows)


def edit_manifest(folder: Path, **changes: object) -> None:
    path = folder / "manifest.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def lines(folder: Path, **options: object) -> list[str]:
    return [str(problem) for problem in verify(folder, **{"processes": 0, **options}).problems]


def test_the_columns_are_those_of_the_shards():
    assert list(COLUMNS) == list(features(48))
    assert not list(wrong_columns(features(48).arrow_schema))


def test_a_clean_dataset(dataset):
    report = verify(dataset, processes=0)
    assert report == Report(files=1, rows=3, clips=3, seconds=pytest.approx(1.0), videos=3)
    assert verify(dataset).as_json() == {
        **report.as_json(),
        "clean": True,
    }  # by processes, with the same result


def test_output_of_anthrotap_label_is_clean(fake_labels, make_video, tmp_path):
    from anthrotap_builder import pipeline

    with ShardWriter(tmp_path / "out/data", 48) as shards:
        for clip in pipeline.label_video(make_video(shots=[20, 30]), CONFIG):
            shards.write(clip)
    write_manifest(tmp_path / "out", CONFIG, Tally())
    report = verify(tmp_path / "out", processes=0)
    assert not report.problems
    assert (report.rows, report.videos) == (2, 2)


def test_a_row_without_tracks_is_no_problem(rows, tmp_path):
    clip = make_clip(5)
    empty = replace(clip, tracks=Tracks.empty(FRAMES, 32, 48))
    assert not lines(write_dataset(tmp_path / "labels", [*rows, encode_row(empty, 48)]))


# Rows


def other_frames(row: dict, num_frames: int, height: int, width: int) -> None:
    row["video"] = {
        "bytes": encode_video(np.zeros((num_frames, height, width, 3), np.uint8), 30),
        "path": None,
    }


def put(name: str, index: object, value: object):
    """Damage: an element of an array is changed."""

    def damage(row: dict) -> None:
        row[name] = row[name].copy()
        row[name][index] = value

    return damage


def columns(**values: object):
    """Damage: columns have other values."""
    return lambda row: row.update(values)


def shorter(name: str):
    return lambda row: row.update({name: row[name][:2]})


ROW_DAMAGE = {
    "no id": (columns(clip_id=None), "no clip_id"),
    "another id": (columns(clip_id="a-1"), "clip_id is 'a-1', source_sha256 and start_frame make"),
    "another start": (columns(start_frame=9), "source_sha256 and start_frame make"),
    "start": (columns(start_frame=-1), "start_frame is -1"),
    "source hash": (columns(source_sha256="XYZ"), "source_sha256 is 'XYZ', not 64 hexadecimal digits"),
    "frames hash": (columns(frames_sha256="0" * 63), "not 64 hexadecimal digits"),
    "version": (columns(label_version="1-abc"), "label_version is '1-abc', manifest.json says"),
    "version of a mesh file": (columns(label_version=f"{CONFIG.version()}-abc"), "label_version is"),
    "fps": (columns(fps=0.0), "fps is 0"),
    "fps not finite": (columns(fps=np.nan), "fps is nan"),
    "rejected": (columns(rejected_fraction=1.5), "rejected_fraction is 1.5"),
    "no frames": (columns(num_frames=0), "num_frames is 0"),
    "no height": (columns(height=-4), "height is -4"),
    "too many frames": (columns(num_frames=49), "num_frames is 49, clips have 48 at most"),
    "fewer tracks": (shorter("tracks"), "visible is [3, 48], not [2, 48]"),
    "fewer visible": (shorter("visible"), "visible is [2, 48], not [3, 48]"),
    "fewer valid": (shorter("valid"), "valid is [2, 48]"),
    "fewer confidence": (shorter("confidence"), "confidence is [2, 48]"),
    "fewer people": (shorter("person"), "person is [2], not [3]"),
    "fewer vertices": (shorter("vertex"), "vertex is [2], not [3]"),
    "negative person": (put("person", 0, -1), "tracks with a negative person or vertex: 1"),
    "negative vertex": (put("vertex", 0, -1), "tracks with a negative person or vertex: 1"),
    "NaN where valid": (put("tracks", (1, 2), np.nan), "positions that are NaN or infinite: 1"),
    "infinite where valid": (put("tracks", (1, 2, 0), np.inf), "positions that are NaN or infinite: 1"),
    "NaN where invalid": (put("tracks", (0, FRAMES - 1), np.nan), "positions that are NaN or infinite: 1"),
    "NaN past the end": (put("tracks", (slice(2), slice(FRAMES, 20)), np.nan), "NaN or infinite: 20"),
    "outside on the right": (put("tracks", (1, 2, 0), 48), "valid labels outside the frame: 1"),
    "outside above": (put("tracks", (1, 2, 1), -0.5), "valid labels outside the frame: 1"),
    "elsewhere where invalid": (
        put("tracks", (0, FRAMES - 1), 5),
        "hold the nearest valid position of their track: 1",
    ),
    "elsewhere past the end": (
        put("tracks", (0, slice(FRAMES, 48)), 5),
        "nearest valid position of their track: 38",
    ),
    "valid past the end": (put("valid", (0, 47), True), "valid labels past num_frames: 1"),
    "visible but not valid": (
        put("visible", (0, FRAMES - 1), True),
        "labels that are visible but not valid: 1",
    ),
    "visible past the end": (
        put("visible", (1, slice(45, 48)), True),
        "labels that are visible but not valid: 3",
    ),
    "hardly visible": (put("visible", 2, False), "tracks that are visible in fewer than 3 frames: 1"),
    "confidence": (put("confidence", (0, 0), 101), "confidence is 101, not 0 to 100 or 255"),
    "half unknown confidence": (put("confidence", (0, 0), 255), "for some labels and known for others"),
    "confidence of an invalid label": (
        put("confidence", (0, 9), 50),
        "invalid labels that have a confidence: 1",
    ),
    "no video": (columns(video=None), "no video"),
    "a path": (columns(video={"bytes": None, "path": "/etc/passwd"}), "no video, only its path"),
    "no mp4": (
        columns(video={"bytes": b"text", "path": None}),
        "the video: not a video that can be read",
    ),
    "a playlist": (
        columns(video={"bytes": b"#EXTM3U\n#EXTINF:1,\nprivate.ts\n", "path": None}),
        "the video: a playlist or script that names other files, which are not opened",
    ),
    "short video": (lambda row: other_frames(row, 9, 32, 48), "the video has 9 frames, the row says 10"),
    "long video": (lambda row: other_frames(row, 14, 32, 48), "the video has more frames, the row says 10"),
    "small video": (lambda row: other_frames(row, 10, 32, 32), "the video is 32 x 32, the row says 48 x 32"),
}


@pytest.mark.parametrize("name", ROW_DAMAGE)
def test_damage_of_one_row_is_reported_for_that_row(rows, tmp_path, name):
    damage, reason = ROW_DAMAGE[name]
    damage(rows[1])
    found = verify(write_dataset(tmp_path / "labels", rows), processes=0)
    assert {(problem.file, problem.row) for problem in found.problems} == {(SHARD, 1)}
    assert any(reason in problem.reason for problem in found.problems), found.problems
    assert found.problems[0].clip_id == rows[1]["clip_id"]
    assert all("\n" not in problem.reason for problem in found.problems)


def test_versions_of_mesh_files_are_fine_where_meshes_come_from_files(rows, dataset, tmp_path):
    rows[1]["label_version"] += "-0123abcd"
    folder = write_dataset(tmp_path / "files", rows)
    edit_manifest(folder, config={**CONFIG.describe(), "mesh_source": "file"})
    assert not lines(folder)


def test_between_rows(rows, tmp_path):
    rows.append({**rows[0]})  # the same row again
    other = encode_row(make_clip(7), 48)
    rows.append({**other, "frames_sha256": rows[1]["frames_sha256"]})
    assert lines(write_dataset(tmp_path / "labels", rows)) == [
        f"{SHARD}, row 3 ({rows[0]['clip_id']}): clip_id is that of {SHARD}, row 0 too",
        f"{SHARD}, row 4 ({other['clip_id']}): a duplicate: the same frames as {SHARD}, row 1",
    ]


def test_a_video_in_two_splits(rows, dataset):
    row = {**rows[1], "start_frame": 8, "clip_id": rows[1]["clip_id"][:-1] + "8", "frames_sha256": "a" * 64}
    write_dataset(dataset, [row], stem="test")
    found = lines(dataset)
    assert len(found) == 1
    assert "its video is in split test too (data/test-00000-of-00001.parquet, row 0)" in found[0]


def test_label_only(rows, tmp_path):
    for row in rows[:2]:
        row["video"] = None
    folder = write_dataset(tmp_path / "labels", rows)
    edit_manifest(folder, label_only=True)
    report = verify(folder, processes=0)
    assert [(p.row, p.reason) for p in report.problems] == [
        (2, "it has a video, though manifest.json calls the dataset label-only")
    ]
    assert report.videos == 0
    assert "label-only: 3 rows have no video" in report.not_checked[0]


def test_no_videos(rows, tmp_path):
    other_frames(rows[0], 3, 32, 48)
    rows[1]["video"] = None
    folder = write_dataset(tmp_path / "labels", rows)
    report = verify(folder, videos=False, processes=0)
    assert [(problem.row, problem.reason) for problem in report.problems] == [(1, "no video")]
    assert report.not_checked == ["videos: none was decoded"]


# Files


def test_a_changed_byte(dataset):
    path = dataset / SHARD
    data = bytearray(path.read_bytes())
    data[data.index(b"mdat") + 600] ^= 1  # of a video
    path.write_bytes(data)
    assert f"{SHARD}: its SHA-256 is " in lines(dataset)[0]


@pytest.mark.parametrize("damage", [lambda b: b[: len(b) // 2], lambda b: b"", lambda b: b"PAR1 text PAR1"])
def test_a_damaged_shard_costs_one_line_and_the_others_are_read(rows, dataset, damage):
    write_dataset(dataset, [encode_row(make_clip(9), 48)], stem="test")
    path = dataset / SHARD
    path.write_bytes(damage(path.read_bytes()))
    report = verify(dataset, processes=0)
    assert [problem.file for problem in report.problems] == [SHARD]
    assert "not a readable Parquet file" in report.problems[0].reason
    assert (report.files, report.rows) == (1, 1)


def test_every_byte_flipped_in_turn_ends_in_lines(rows, tmp_path):
    """Without a manifest, so that damage is found by reading alone."""
    folder = write_dataset(tmp_path / "labels", rows[:1])
    (folder / "manifest.json").unlink()
    data = (folder / SHARD).read_bytes()
    rng = np.random.default_rng(0)
    for position in [*rng.integers(0, len(data), 60), *range(len(data) - 60, len(data))]:
        flipped = bytearray(data)
        flipped[position] ^= 1 << int(rng.integers(8))
        (folder / SHARD).write_bytes(flipped)
        assert all("\n" not in line for line in lines(folder, videos=bool(position % 2)))


def test_missing_and_extra_files(rows, dataset):
    write_dataset(dataset, [encode_row(make_clip(9), 48)], stem="test")
    (dataset / SHARD).rename(dataset / "data/other-00000-of-00001.parquet")
    assert lines(dataset) == [
        "data/other-00000-of-00001.parquet: manifest.json does not list it; it is of another run, remove it",
        f"{SHARD}: missing, but manifest.json lists it; fetch or build it again",
    ]


def test_rows_and_splits_against_the_manifest(dataset):
    manifest = json.loads((dataset / "manifest.json").read_text())
    manifest["files"][0]["rows"] = 4
    edit_manifest(dataset, files=manifest["files"], splits={"train": {"rows": 5}, "test": "what?"})
    assert lines(dataset) == [
        "manifest.json: split train: 3 rows were found, not the 5 that it says",
        f"{SHARD}: 3 rows, manifest.json says 4; fetch or build it again",
    ]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("{", "can't be read as JSON"),
        ("[]", "not a JSON object"),
        ("[" * 100_000, "can't be read as JSON"),
        ('{"files": [{}]}', "an entry of files has no name"),
        ('{"files": [{"name": "a"}, {"name": "a"}]}', "a is listed twice"),
        ('{"files": [{"name": "../../etc/passwd"}]}', "../../etc/passwd: missing"),
    ],
)
def test_a_bad_manifest_is_a_problem_and_rows_are_read(dataset, text, reason):
    (dataset / "manifest.json").write_text(text)
    report = verify(dataset, processes=0)
    assert any(reason in str(problem) for problem in report.problems)
    assert report.videos == 3


@pytest.mark.parametrize("value", [None, 3, "text", [], {}, True, [[]], {"clips": {"clip_frames": "48"}}])
def test_a_manifest_of_odd_values_promises_nothing(dataset, value):
    names = ("files", "config", "label_version", "label_only", "splits", "counts")
    edit_manifest(dataset, **dict.fromkeys(names, value))
    for problem in verify(dataset, processes=0).problems:  # "text" is a label version, [] lists no file
        assert "damaged" not in problem.reason


def test_shards_without_a_manifest(dataset, tmp_path):
    shutil.copytree(dataset / "data", tmp_path / "bare")
    report = verify(tmp_path / "bare", processes=0)
    assert not report.problems
    assert report.rows == 3
    assert "no manifest.json" in report.not_checked[0]


def write_foreign(table: pa.Table, folder: Path, **options: object) -> Path:
    (folder / "data").mkdir(parents=True)
    pq.write_table(table, folder / SHARD, **options)
    return folder


def read_table(dataset: Path) -> pa.Table:
    return pq.read_table(dataset / SHARD)


def changed(table: pa.Table, name: str, column: pa.Array) -> pa.Table:
    return table.set_column(table.schema.get_field_index(name), name, column)


HOSTILE = {
    "another table": (lambda t: pa.table({"a": [1, 2]}), "no column clip_id, source_video"),
    "no rows": (lambda t: t.slice(0, 0), "no rows"),
    "a column missing": (lambda t: t.drop_columns(["valid", "fps"]), "no column fps, valid"),
    "a column twice": (lambda t: t.append_column("fps", t["fps"]), "column fps appears twice"),
    "numbers for ids": (
        lambda t: changed(t, "clip_id", pa.array([1, 2, 3])),
        "column clip_id is int64, not string",
    ),
    "flat tracks": (
        lambda t: changed(t, "tracks", pa.array([[1.0]] * 3, pa.list_(pa.float32()))),
        "column tracks is list of float, not list of list of list of float",
    ),
    "null labels": (
        lambda t: changed(t, "valid", pa.array([None, None, None], pa.list_(pa.list_(pa.bool_())))),
        "valid: a list in it is null",
    ),
    "ragged tracks": (
        lambda t: changed(
            t, "tracks", pa.array([[[[1, 2]], [[1, 2], [3]]]] * 3, pa.list_(pa.list_(pa.list_(pa.float32()))))
        ),
        "tracks: a list in it is null, or shorter than its neighbors",
    ),
    "null values": (
        lambda t: changed(t, "vertex", pa.array([[1, None, 3]] * 3, pa.list_(pa.int32()))),
        "vertex: a value in it is null",
    ),
    "no text": (
        lambda t: changed(
            t,
            "flow",
            pa.StringArray.from_buffers(3, pa.py_buffer(np.arange(0, 12, 3, np.int32)), pa.py_buffer(b"\xff" * 9)),
        ),
        "a damaged row",
    ),
    "signs of a terminal": (
        lambda t: changed(t, "clip_id", pa.array(["\x1b[2J\n[red]"] * 3)),
        "clip_id is '?[2J [red]'",
    ),
    "a book for an id": (lambda t: changed(t, "clip_id", pa.array(["x" * 10**6] * 3)), "xxx ...'"),
    "a huge frame": (lambda t: changed(t, "height", pa.array([2**31 - 1] * 3, pa.int32())), "the video is 48 x 32"),
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_foreign_parquet_ends_in_lines(dataset, tmp_path, name):
    change, reason = HOSTILE[name]
    folder = write_foreign(change(read_table(dataset)), tmp_path / "foreign")
    printed = summary(folder, verify(folder, processes=0))
    assert reason in "\n".join(printed)
    assert all(line.isprintable() and len(line) < 800 for line in printed)


def test_a_row_group_of_very_many_values_is_not_read(dataset, tmp_path, monkeypatch):
    folder = write_foreign(read_table(dataset), tmp_path / "foreign")
    monkeypatch.setattr(verify_module, "MAX_VALUES", 100)
    assert "a row group has more than 100 values" in lines(folder)[0]
    assert verify(folder, processes=0).rows == 0


def test_row_groups_that_are_large_are_read_row_by_row(dataset, tmp_path):
    table = pa.concat_tables([read_table(dataset)] * 20)
    folder = write_foreign(table, tmp_path / "foreign", row_group_size=60)
    report = verify(folder, processes=0, videos=False)
    assert report.rows == 60
    assert report.num_problems == 57  # ids that are there again
    assert report.clips == 3


def test_very_many_problems_are_counted(dataset, tmp_path, monkeypatch):
    monkeypatch.setattr(verify_module, "MAX_PROBLEMS", 5)
    folder = write_foreign(pa.concat_tables([read_table(dataset)] * 20), tmp_path / "foreign")
    report = verify(folder, processes=0, videos=False)
    assert (len(report.problems), report.num_problems) == (5, 57)


# The command


def test_exit_codes_and_output(dataset, tmp_path):
    def run(*arguments: object):
        return CliRunner().invoke(app, ["verify", *map(str, arguments), "--workers", "1"])

    clean = run(dataset)
    assert clean.exit_code == 0
    assert clean.stdout.splitlines() == [
        f"{dataset}: nothing wrong in 1 files, 3 rows, 3 clips of 1.0 s; 3 videos decoded"
    ]
    assert not clean.stderr
    (dataset / SHARD).write_bytes(b"text")
    broken = run(dataset, "--json")
    assert broken.exit_code == 1
    found = json.loads(broken.stdout)
    assert (found["clean"], found["num_problems"], found["problems"][0]["file"]) == (False, 1, SHARD)
    (tmp_path / "empty").mkdir()
    for folder, reason in ((tmp_path / "none", "no such folder"), (tmp_path / "empty", "neither a shard")):
        missing = run(folder)
        assert missing.exit_code == 2
        assert reason in missing.stderr
        assert len(missing.stderr.splitlines()) == 1
