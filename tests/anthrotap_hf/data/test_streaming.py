"""Reading at scale: each row once over ranks and workers, another order in each epoch, resumed at any row."""

from __future__ import annotations

import logging
import pickle
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import datasets
import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import DataLoader
from torchdata.stateful_dataloader import StatefulDataLoader

import anthrotap_hf
from anthrotap_hf.data import streaming
from anthrotap_hf.data.shard_reader import DamagedShardError, ShardReader
from anthrotap_hf.data.streaming import StreamedClips
from anthrotap_hf.schema import decode_row, features
from anthrotap_hf.video import encode_video

pytestmark = pytest.mark.filterwarnings("ignore:'set_vital' is deprecated")

FRAMES = 6


def write_shards(folder: Path, sizes: list[int], group: int = 2, video=lambda number: None, **changes) -> Path:
    """`folder`/data/train-*.parquet of so many rows each, `group` to a row group; ids count from 0."""
    (folder / "data").mkdir(parents=True)
    number = 0
    for shard, size in enumerate(sizes):
        rows = []
        for _ in range(size):
            tracks = np.full((number % 3, 8, 2), number, np.float32)
            flags = np.ones(tracks.shape[:2], bool)
            row = dict.fromkeys(features(8)) | {"clip_id": f"clip-{number}", "num_frames": FRAMES, "fps": 24}
            row |= {"height": 32, "width": 48, "tracks": tracks, "visible": flags, "valid": flags}
            row |= {"confidence": np.full(flags.shape, 255)}
            row |= {"person": np.zeros(len(tracks)), "vertex": np.zeros(len(tracks)), "video": video(number)}
            rows.append(features(8).encode_example(row | changes))
            number += 1
        table = datasets.Dataset.from_list(rows, features=features(8)).data.table.combine_chunks()
        path = folder / f"data/train-{shard:05d}-of-{len(sizes):05d}.parquet"
        pq.write_table(table, path, row_group_size=group)
    return folder


@pytest.fixture(scope="module")
def video(moving_pattern) -> bytes:
    return encode_video(moving_pattern(FRAMES, 32, 48), 24)


@pytest.fixture(scope="module")
def shards(tmp_path_factory, video) -> Path:
    """Three shards of 4, 5 and 2 rows; the last row has no video."""
    folder = tmp_path_factory.mktemp("shards")
    return write_shards(folder / "s", [4, 5, 2], video=lambda i: None if i == 10 else {"bytes": video, "path": None})


@pytest.fixture(scope="module")
def labels(tmp_path_factory) -> dict[int, ShardReader]:
    """Rows without video, by the number of shards."""
    folder = tmp_path_factory.mktemp("labels")
    sizes = [[7], [1, 6], [4, 4, 4], [2, 5, 3, 1], [3, 3, 3, 3, 1]]
    return {
        len(size): ShardReader.from_dataset(str(write_shards(folder / str(len(size)), size)), "train") for size in sizes
    }


def names(clips) -> list[str]:
    return [clip.clip_id for clip in clips]


def read(clips: StreamedClips, workers: int = 0, batch_size: int = 2) -> list[str]:
    loader = DataLoader(clips, batch_size=batch_size, num_workers=workers, collate_fn=names)
    return [name for batch in loader for name in batch]


@contextmanager
def as_worker(number: int, workers: int) -> Iterator[None]:
    """Let this process be a DataLoader worker, if there are any."""
    info = SimpleNamespace(id=number, num_workers=workers) if workers else None
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(streaming, "get_worker_info", lambda: info)
        yield


def read_as(clips: StreamedClips, number: int, workers: int) -> list[str]:
    with as_worker(number, workers):
        return names(clips)


@settings(max_examples=30, deadline=None)
@given(
    count=st.integers(1, 5),
    ranks=st.integers(1, 3),
    workers=st.integers(0, 3),
    buffer=st.integers(1, 9),
    epoch=st.integers(0, 3),
    seed=st.none() | st.integers(0, 9),
)
def test_each_row_once(labels, count, ranks, workers, buffer, epoch, seed):
    rows = labels[count]
    for drop_last in (False, True):
        found, counts = [], []
        for rank in range(ranks):
            clips = StreamedClips(
                rows,
                rank=rank,
                world_size=ranks,
                seed=seed,
                buffer_size=buffer,
                drop_last=drop_last,
                video="none",
            )
            clips.set_epoch(epoch)
            mine = [name for worker in range(workers or 1) for name in read_as(clips, worker, workers)]
            assert len(mine) == len(clips)
            counts.append(len(mine))
            found += mine
        assert len(set(found)) == len(found)
        assert len(found) == (len(rows) - len(rows) % ranks if drop_last else len(rows))
        assert max(counts) - min(counts) <= (0 if drop_last else 1)


@pytest.mark.parametrize("workers", [1, 2])
def test_each_row_once_with_real_workers(shards, workers):
    found = []
    for rank in range(2):
        clips = anthrotap_hf.stream_clips(
            str(shards), rank=rank, world_size=2, drop_last=False, buffer_size=3, video="none"
        )
        found += read(clips, workers)
    assert sorted(found) == sorted(f"clip-{i}" for i in range(11))


@pytest.mark.parametrize("persistent", [False, True])
def test_epochs_with_real_workers(labels, persistent):
    clips = StreamedClips(labels[3], buffer_size=4, video="none")
    loader = DataLoader(clips, 2, num_workers=2, collate_fn=names, persistent_workers=persistent)
    epochs = []
    for epoch in (0, 1, 0):
        clips.set_epoch(epoch)
        epochs.append([name for batch in loader for name in batch])
    assert epochs[0] == epochs[2] != epochs[1]
    assert sorted(epochs[0]) == sorted(epochs[1])


def test_orders(labels):
    def order(epoch=0, **settings) -> list[str]:
        clips = StreamedClips(labels[3], video="none", **settings)
        clips.set_epoch(epoch)
        return names(clips)

    assert order() == order()
    assert len({tuple(order(epoch, seed=seed)) for epoch in range(3) for seed in range(3)}) == 9
    assert order(seed=None) == order(3, seed=None) == [f"clip-{i}" for i in range(12)]


@pytest.mark.parametrize("buffer", [1, 4, 100])
@pytest.mark.parametrize("worker", [(0, 0), (1, 2)])
def test_resuming_at_every_row(labels, buffer, worker):
    def new() -> StreamedClips:
        return StreamedClips(labels[4], buffer_size=buffer, rank=1, world_size=2, drop_last=False, video="none")

    with as_worker(*worker):
        unbroken = new()
        unbroken.set_epoch(3)
        states, whole = [unbroken.state_dict()], []
        for clip in unbroken:
            whole.append(clip.clip_id)
            states.append(unbroken.state_dict())
        assert len(whole) == (3 if worker[1] else 6)
        for done, state in enumerate(states):
            again = new()
            again.load_state_dict(state)
            assert again.state_dict() == state
            assert names(again) == whole[done:]


@pytest.mark.parametrize(("workers", "stops"), [(0, range(8)), (2, [0, 3, 7])])
def test_resuming_with_a_loader(labels, workers, stops):
    def new() -> tuple[StreamedClips, StatefulDataLoader]:
        clips = StreamedClips(labels[3], buffer_size=4, video="none")
        return clips, StatefulDataLoader(clips, 2, num_workers=workers, collate_fn=names)

    clips, loader = new()
    clips.set_epoch(1)
    whole = list(loader)
    clips.set_epoch(2)
    after = list(loader)
    for stop in stops:
        clips, loader = new()
        clips.set_epoch(1)
        reader = iter(loader)
        head = [next(reader) for _ in range(min(stop, len(whole)))]
        state = pickle.loads(pickle.dumps(loader.state_dict()))  # noqa: S301 - our own
        del reader
        clips, loader = new()
        loader.load_state_dict(state)
        assert head + list(loader) == whole
        clips.set_epoch(2)
        assert list(loader) == after
    if not workers:  # a state of an epoch that is over
        clips, loader = new()
        clips.set_epoch(1)
        list(loader)
        state = loader.state_dict()
        clips, loader = new()
        loader.load_state_dict(state)
        clips.set_epoch(2)
        assert list(loader) == after


def test_states_that_do_not_fit(labels):
    clips = StreamedClips(labels[3], buffer_size=4, video="none")
    reader = iter(clips)
    next(reader)
    state = clips.state_dict()
    other = StreamedClips(labels[3], buffer_size=5, rank=1, world_size=2, video="none")
    other.load_state_dict(state)
    with pytest.raises(ValueError, match="buffer_size was 4, is 5; rank was 0, is 1; world_size was 1, is 2"):
        iter(other)
    elsewhere = StreamedClips(labels[4], buffer_size=4, video="none")
    elsewhere.load_state_dict(state)
    with pytest.raises(ValueError, match=r"another stream \(shards was"):
        iter(elsewhere)
    late = StreamedClips(labels[3], buffer_size=4, video="none")
    late.set_epoch(2)
    late.load_state_dict(state)
    with pytest.raises(ValueError, match=r"the state is of epoch 0, the stream is set to 2: set_epoch\(0\)"):
        iter(late)


def test_contents_of_a_clip(shards, video):
    rows = datasets.load_dataset("parquet", data_files=str(shards / "data/*.parquet"), split="train", streaming=True)
    expected = {row["clip_id"]: row for row in rows.with_format("numpy")}
    for clip in anthrotap_hf.stream_clips(str(shards)):
        row = expected[clip.clip_id]
        assert clip.fps == 24
        if clip.clip_id == "clip-10":
            assert clip.video is None
            np.testing.assert_array_equal(clip.tracks.xy, 10)
            continue
        frames, tracks = decode_row(row)
        np.testing.assert_array_equal(clip.frames, frames)
        for name in ("xy", "visible", "valid", "person", "vertex"):
            np.testing.assert_array_equal(getattr(clip.tracks, name), getattr(tracks, name))
    undecoded = [clip.video for clip in anthrotap_hf.stream_clips(str(shards), video="bytes", seed=None)]
    assert undecoded == [video] * 10 + [None]
    unread = list(anthrotap_hf.stream_clips(str(shards), video="none"))
    assert all(clip.video is None for clip in unread)


def test_the_name_and_other_addresses(shards, monkeypatch):
    monkeypatch.setenv("ANTHROTAP_REPO", str(shards))
    assert len(anthrotap_hf.stream_clips(video="none")) == 11
    import fsspec

    memory = fsspec.filesystem("memory")
    for path in sorted((shards / "data").iterdir()):
        memory.pipe_file(f"/stream/{path.name}", path.read_bytes())
    rows = ShardReader([f"memory://stream/{name}" for name in sorted(p.name for p in (shards / "data").iterdir())])
    assert [rows[i]["clip_id"] for i in (10, 0, 4)] == ["clip-10", "clip-0", "clip-4"]
    with pytest.raises(IndexError, match="row 11 of 11"):
        rows[11]


@pytest.mark.parametrize("kind", ["frames", "bytes"])
def test_a_path_in_a_row_is_never_opened(tmp_path, video, kind):
    (tmp_path / "private.mp4").write_bytes(video)
    named = {"bytes": None, "path": str(tmp_path / "private.mp4")}
    folder = write_shards(tmp_path / "rows", [3], video=lambda i: named if i == 1 else {"bytes": video, "path": "x"})
    with pytest.raises(DamagedShardError, match=r"row 1: its video is a path, which is never opened"):
        list(anthrotap_hf.stream_clips(str(folder), seed=None, video=kind))
    clips = anthrotap_hf.stream_clips(str(folder), seed=None, video=kind, on_error="skip")
    assert names(clips) == ["clip-0", "clip-2"]


def test_damage(tmp_path, video, caplog):
    def broken(number: int) -> dict:
        return {"bytes": b"nonsense" if number in (3, 6) else video, "path": None}

    folder = write_shards(tmp_path / "rows", [4, 4], video=broken)
    with pytest.raises(DamagedShardError, match=r"train-0000.-of-00002.parquet, row [23]: .*video") as caught:
        list(anthrotap_hf.stream_clips(str(folder)))
    assert "\n" not in str(caught.value)
    for workers in (0, 2):
        clips = anthrotap_hf.stream_clips(str(folder), on_error="skip")
        with caplog.at_level(logging.WARNING):
            assert sorted(read(clips, workers)) == [f"clip-{i}" for i in (0, 1, 2, 4, 5, 7)]
        assert clips.skipped == 2
    assert sum("train-00001-of-00002.parquet, row 2" in message for message in caplog.messages) == 1

    path = folder / "data/train-00000-of-00002.parquet"
    start = pq.read_metadata(path).row_group(1).column(0).data_page_offset
    data = bytearray(path.read_bytes())
    data[start : start + 64] = bytes([255]) * 64
    path.write_bytes(data)
    with pytest.raises(DamagedShardError, match=r"train-00000-of-00002.parquet, row 2: "):
        list(anthrotap_hf.stream_clips(str(folder), seed=None, video="none"))
    clips = anthrotap_hf.stream_clips(str(folder), video="none", on_error="skip")
    assert sorted(names(clips)) == [f"clip-{i}" for i in (0, 1, 4, 5, 6, 7)]
    assert clips.skipped == 2
    path.write_bytes(bytes(data[:-100]))
    with pytest.raises(DamagedShardError, match=r"train-00000-of-00002.parquet: not a readable Parquet file"):
        ShardReader.from_dataset(str(folder), "train", data_files={"train": [str(p) for p in path.parent.iterdir()]})


def test_wrong_arguments(shards, labels, tmp_path):
    for wrong, reason in [
        ({"rank": 2, "world_size": 2}, "rank must be from 0 to"),
        ({"buffer_size": 0}, "buffer_size must be at least 1"),
        ({"video": "all"}, "video must be"),
        ({"on_error": "pass"}, "on_error must be"),
        ({"world_size": 8}, "7 rows are too few for 8 ranks"),
    ]:
        with pytest.raises(ValueError, match=reason):
            StreamedClips(labels[1], **wrong)
    assert len(StreamedClips(labels[1], rank=0, world_size=8, drop_last=False)) == 0
    with pytest.raises(ValueError, match="no split 'test'; it has train"):
        anthrotap_hf.stream_clips(str(shards), "test")
    (tmp_path / "a.json").write_text('{"x": 1}')
    with pytest.raises(ValueError, match="no dataset of Parquet shards"):
        anthrotap_hf.stream_clips("json", data_files=str(tmp_path / "a.json"))
    datasets.Dataset.from_dict({"x": [1]}).to_parquet(str(tmp_path / "other/a.parquet"))
    with pytest.raises(ValueError, match=r"not a shard of this project \(no column .*height"):
        anthrotap_hf.stream_clips(str(tmp_path / "other"))
    with pytest.raises(FileNotFoundError):
        anthrotap_hf.stream_clips(str(tmp_path / "nowhere"))


def test_memory_is_a_buffer_and_two_groups(labels):
    rows = ShardReader(labels[3].files, buffer_size=4)
    for row in range(12):
        rows[row]
        assert sum(table.num_rows for table in rows._kept.values()) <= 8
