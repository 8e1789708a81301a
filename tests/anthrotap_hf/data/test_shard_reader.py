"""The one reader of shards: which files it finds, what it rejects, and its error messages."""

from __future__ import annotations

import pickle
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from anthrotap_hf.data.shard_reader import (
    DamagedShardError,
    ShardError,
    ShardReader,
    check_columns,
    dataset_splits,
    find_shards,
    iter_batches,
    read_footer,
    split_of,
)
from anthrotap_hf.readers import open_reader
from anthrotap_hf.schema import INFO_COLUMNS, encode_row, encode_table, features
from anthrotap_hf.tracks import TrackedClip, Tracks
from anthrotap_hf.utils.errors import AnthroTapError

FRAMES = 6


def make_clip(number: int) -> TrackedClip:
    xy = np.full((2, FRAMES, 2), number, np.float32) + np.arange(FRAMES, dtype=np.float32)[:, None]
    valid = np.ones((2, FRAMES), bool)
    valid[0, 4:] = False
    return TrackedClip(
        tracks=Tracks.from_labels(xy, valid, valid, height=32, width=48),
        video=np.full((FRAMES, 32, 48, 3), 30 * number, np.uint8),
        fps=24.0,
        clip_id=f"clip-{number}",
        source_video="videos/dance.mp4",
        source_sha256="ab" * 32,
        start_frame=7,
        info=dict.fromkeys(INFO_COLUMNS, "test") | {"rejected_fraction": 0.25},
    )


@pytest.fixture(scope="module")
def shards(tmp_path_factory) -> Path:
    """Two shards of three rows, in row groups of two."""
    folder = tmp_path_factory.mktemp("shards")
    (folder / "data").mkdir()
    for shard in range(2):
        rows = [encode_row(make_clip(3 * shard + number), 8) for number in range(3)]
        path = folder / f"data/train-{shard:05d}-of-00002.parquet"
        pq.write_table(encode_table(rows, features(8)), path, row_group_size=2)
    return folder


def test_invalid_labels_hold_the_nearest_valid_position_also_past_the_end():
    row = encode_row(make_clip(0), 8)
    np.testing.assert_array_equal(row["tracks"][0, :, 0], [0, 1, 2, 3, 3, 3, 3, 3])
    np.testing.assert_array_equal(row["tracks"][1, :, 0], [0, 1, 2, 3, 4, 5, 5, 5])
    assert not row["valid"][:, FRAMES:].any()
    assert not (row["visible"] & ~row["valid"]).any()


def test_a_clip_comes_back_as_it_was_written(shards):
    reader = ShardReader.from_path(shards)
    assert len(reader) == 6
    for number in (5, 0, 3):
        clip, expected = reader.clip(number), make_clip(number)
        assert (clip.clip_id, clip.fps, clip.start_frame) == (f"clip-{number}", 24, 7)
        assert (clip.source_video, clip.source_sha256) == ("dance.mp4", "ab" * 32)
        assert {name: clip.info[name] for name in INFO_COLUMNS} == expected.info
        assert set(clip.info) == {*INFO_COLUMNS, "frames_sha256"}
        for name in ("xy", "visible", "valid", "person", "vertex"):
            np.testing.assert_array_equal(getattr(clip.tracks, name), getattr(expected.tracks, name))
        assert np.abs(clip.frames.astype(int) - expected.video).max() < 5
    with pytest.raises(IndexError, match="row 6 of 6"):
        reader.clip(6)


def test_which_files_are_shards(shards, tmp_path):
    first, second = find_shards(shards)
    assert [first.name, second.name] == [f"train-0000{number}-of-00002.parquet" for number in range(2)]
    assert find_shards(shards / "data") == [first, second]
    assert find_shards(first) == [first]
    assert find_shards(tmp_path) == []
    assert split_of(second) == "train"
    assert dataset_splits(str(shards)) == ["train"]
    for path, reason in ((tmp_path / "none", "no such file or folder"), (tmp_path, "no shard")):
        with pytest.raises(ShardError, match=reason) as caught:
            ShardReader.from_path(path)
        assert caught.value.path == str(path)
        assert "\n" not in str(caught.value)


def test_columns_without_the_others(shards):
    reader = ShardReader.from_path(shards)
    found = list(reader.columns(("clip_id", "missing", "video", "flow")))
    assert found == [(f"clip-{number}", None, {"path": None}, "test") for number in range(6)]
    plain = ShardReader.from_path(shards, video=False)
    assert "video" not in plain[0]
    assert plain.clip(0).video is None


def test_batches_are_never_of_two_row_groups(shards):
    first, _ = find_shards(shards)
    assert [batch.num_rows for batch in iter_batches(first)] == [2, 1]
    assert [batch.num_rows for batch in iter_batches(first, ["clip_id"], batch_size=1)] == [1, 1, 1]
    assert [batch.num_rows for batch in iter_batches(first, groups=[1])] == [1]
    assert read_footer(first).group_rows == [2, 1]


def test_other_columns_are_rejected_in_one_sentence(shards, tmp_path):
    path = tmp_path / "other.parquet"
    pq.write_table(pa.table({"a": [1]}), path)
    with pytest.raises(ShardError, match=r"not a shard of this project \(no column tracks, visible,") as caught:
        ShardReader.from_path(path)
    assert caught.value.path == str(path)
    assert not isinstance(caught.value, DamagedShardError)
    columns = read_footer(find_shards(shards)[0]).columns
    check_columns(columns, path, complete=True)
    with pytest.raises(ShardError, match=r"\(no column flow\)"):
        check_columns(columns.remove(columns.get_field_index("flow")), path, complete=True)


def test_errors_of_damage_name_the_file_and_the_row(shards, tmp_path):
    first, _ = find_shards(shards)
    path = tmp_path / "train-00000-of-00001.parquet"
    start = pq.read_metadata(first).row_group(1).column(0).data_page_offset
    data = bytearray(first.read_bytes())
    data[start : start + 64] = bytes([255]) * 64
    path.write_bytes(data)
    reader = ShardReader([find_shards(shards)[1], path])
    assert reader.clip(4).clip_id == "clip-1"
    with pytest.raises(DamagedShardError) as caught:
        reader.clip(5)
    error = caught.value
    assert (error.path, error.row) == (f"{path}, row 2", 2)
    assert str(error) == f"{path}, row 2: {error.reason}"
    again = pickle.loads(pickle.dumps(error))  # noqa: S301 - our own
    assert (str(again), again.row) == (str(error), 2)
    with pytest.raises(DamagedShardError, match=r"row 2: "):
        list(iter_batches(path))
    path.write_bytes(data[:-100])
    with pytest.raises(DamagedShardError, match="not a readable Parquet file"):
        read_footer(path)


def test_a_dataset_without_rows_is_rejected(tmp_path):
    pq.write_table(features(8).arrow_schema.empty_table(), tmp_path / "a.parquet")
    with pytest.raises(ShardError, match=r"a\.parquet: no rows in it"):
        ShardReader.from_path(tmp_path)


def test_one_split_is_read_alone(shards, tmp_path):
    shutil.copytree(shards, tmp_path / "both")
    first = find_shards(tmp_path / "both")[0]
    shutil.copy(first, first.with_name("validation-00000-of-00001.parquet"))
    everything = len(ShardReader.from_path(tmp_path / "both"))
    validation = ShardReader.from_path(tmp_path / "both", "validation")
    train = ShardReader.from_path(tmp_path / "both", "train")
    assert len(train) + len(validation) == everything > len(train) > 0
    with pytest.raises(ShardError, match="no split 'test'; it has train, validation"):
        ShardReader.from_path(tmp_path / "both", "test")
    with pytest.raises(AnthroTapError, match="only shards have splits, and this is tapvid"):
        open_reader("tapvid", tmp_path, split="train")
