"""Streaming at scale: clips straight out of Parquet shards, shuffled, split over ranks and workers, resumed at any row.

`datasets` streams too, but loses the rows of its shuffle buffer when a run is resumed, and leaves workers idle where
shards are few. Here the order of an epoch is known beforehand from the shards' footers, so a position is all the state.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, Literal

import numpy as np
import torch
from torch.utils.data import IterableDataset, get_worker_info

from anthrotap_hf.data.shard_reader import DamagedShardError, ShardReader
from anthrotap_hf.schema import decode_frames
from anthrotap_hf.tracks import TrackedClip
from anthrotap_hf.utils.hub_names import DATASET_NAME
from anthrotap_hf.video import VideoError

logger = logging.getLogger(__name__)

MAX_WORKERS = 1024
"""DataLoader workers that each count the rows that they skip."""


@dataclass(frozen=True, kw_only=True)
class StreamOptions:
    """What a process reads, and in which order.

    Attributes:
        rank, world_size: this process, and how many there are. DataLoader workers are found by themselves.
        seed: of the order, which is another one in each epoch; None for the order of the files.
        buffer_size: rows that are shuffled among themselves, after shards and row groups have been.
        drop_last: whether each rank gets as many rows, so that no rank waits forever for the others at the end of an
            epoch: up to `world_size` - 1 rows, others in each epoch, are then not read. False reads every row.
        video: "frames" decodes the video of each clip at once, "bytes" leaves it to `TrackedClip`, which decodes frames
            when they are asked for, and "none" does not even read it.
        on_error: what a damaged row does: "raise" DamagedShardError, or "skip" it, with a warning and counted in
            `StreamedClips.skipped` (ranks may then differ in rows). A shard whose footer is damaged always raises.

    Raises:
        ValueError: if a value is out of its range.
    """

    rank: int = 0
    world_size: int = 1
    seed: int | None = 0
    buffer_size: int = 16
    drop_last: bool = True
    video: Literal["frames", "bytes", "none"] = "frames"
    on_error: Literal["raise", "skip"] = "raise"

    def __post_init__(self) -> None:
        if not 0 <= self.rank < self.world_size:
            raise ValueError(f"rank must be from 0 to world_size - 1, got {self.rank} and world_size {self.world_size}")
        if self.buffer_size < 1:
            raise ValueError(f"buffer_size must be at least 1, got {self.buffer_size}")
        if self.video not in ("frames", "bytes", "none"):
            raise ValueError(f"video must be 'frames', 'bytes' or 'none', got {self.video!r}")
        if self.on_error not in ("raise", "skip"):
            raise ValueError(f"on_error must be 'raise' or 'skip', got {self.on_error!r}")


def stream_clips(path: str = DATASET_NAME, split: str = "train", **options: Any) -> StreamedClips:
    """The clips of published shards as a torch IterableDataset; see `StreamedClips` for its guarantees.

        clips = anthrotap_hf.stream_clips("labels", rank=rank, world_size=world_size)
        loader = StatefulDataLoader(clips, batch_size=4, num_workers=4, collate_fn=list)
        for epoch in range(10):
            clips.set_epoch(epoch)
            for batch in loader:  # a list of TrackedClip, which differ in N, T, H and W
                ...

    Args:
        path: a folder, a Hub repository (`user/name@revision` pins it), or "anthrotap" for what ANTHROTAP_REPO names
            (if it is not set, the sample).
        split: which split.
        options: the fields of `StreamOptions`; others go to `datasets.load_dataset_builder`: `name`, `data_files`,
            `data_dir`, `revision`, `token`, `storage_options`.

    Raises:
        FileNotFoundError: if there is no such dataset.
        DamagedShardError: if a shard can't be opened.
        ValueError: if these are not shards of this project, there is no such split, or a value is out of its range.
    """
    names = {field.name for field in fields(StreamOptions)}
    config = {name: options.pop(name) for name in options.keys() - names}
    chosen = StreamOptions(**options)
    reader = ShardReader.from_dataset(
        path, split, video=chosen.video != "none", buffer_size=chosen.buffer_size, **config
    )
    return StreamedClips(reader, **options)


class StreamedClips(IterableDataset[TrackedClip]):
    """Clips for a DataLoader: each row once an epoch over all ranks and workers, resumed exactly where it stopped.

    The order of an epoch follows from seed and epoch: shards are permuted, then the row groups in each, and each reader
    (a worker of a rank) takes a contiguous run of rows, which it shuffles by `buffer_size`. So there may be fewer
    shards, or row groups, than readers: then several read one shard. A row group where one run ends and another begins
    is read by both. A reader holds `buffer_size` rows, undecoded, and two row groups at most.

    `state_dict` is a few numbers; after `load_state_dict`, in a stream made in the same way, the next clips are those
    that would have come next. With DataLoader workers that takes torchdata's StatefulDataLoader, which asks them.

    Args:
        reader: the shards; it keeps `buffer_size` rows, for they come out of order.
        options: the fields of `StreamOptions`.

    Raises:
        TypeError: for an unknown option.
        ValueError: if a value is out of its range, or there are fewer rows than ranks.
    """

    def __init__(self, reader: ShardReader, **options: Any) -> None:
        self.options = StreamOptions(**options)
        self.reader = reader
        if self.options.drop_last and len(reader) < self.options.world_size:
            raise ValueError(
                f"{len(reader)} rows are too few for {self.options.world_size} ranks; "
                "drop_last=False leaves some ranks without rows"
            )
        # In shared memory: persistent workers see the next epoch, and the parent what they skip.
        self._epoch = torch.full((1,), -1).share_memory_()
        self._skipped = torch.zeros(MAX_WORKERS, dtype=torch.int64).share_memory_()
        self._position: tuple[int, int] | None = None  # epoch and row of this reader
        self._loaded: dict[str, Any] | None = None

    def __len__(self) -> int:
        """Rows of this rank in an epoch."""
        start, stop = self._rows_of_rank()
        return stop - start

    @property
    def epoch(self) -> int:
        return max(0, int(self._epoch))

    @property
    def skipped(self) -> int:
        """Rows that this process and its workers skipped because they are damaged."""
        return int(self._skipped.sum())

    def set_epoch(self, epoch: int) -> None:
        """The epoch that the next iteration goes through; call it before each, with persistent workers, too."""
        if epoch < 0:
            raise ValueError(f"epoch must be at least 0, got {epoch}")
        self._epoch.fill_(epoch)

    def state_dict(self) -> dict[str, Any]:
        """What comes next in this process (in a worker, if called there), in plain numbers and strings."""
        if self._loaded is not None:
            return dict(self._loaded)
        epoch, row = self._position or (self.epoch, 0)
        return {"epoch": epoch, "row": row, **self._described()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Resume the next iteration from a state; it raises ValueError if that is another stream's or epoch's."""
        self._loaded = dict(state)

    def __iter__(self) -> Iterator[TrackedClip]:
        epoch, row = self.epoch, 0
        start, stop = self._rows_of_reader()
        if self._loaded is not None:
            epoch, row = self._resume(self._loaded, stop - start)
            self._loaded = None
        self._position = (epoch, row)
        return self._clips(epoch, row, start, stop)

    def _resume(self, state: Mapping[str, Any], num_rows: int) -> tuple[int, int]:
        """Epoch and row to begin at."""
        differing = [
            f"{name} was {state.get(name)}, is {value}"
            for name, value in self._described().items()
            if state.get(name) != value
        ]
        if differing:
            raise ValueError(
                f"the state is of another stream ({'; '.join(differing)}); with workers, StatefulDataLoader keeps it"
            )
        epoch, row = int(state["epoch"]), int(state["row"])
        if int(self._epoch) in (-1, epoch):
            return epoch, row
        if row >= num_rows and self.epoch == epoch + 1:  # saved when its epoch was over
            return self.epoch, 0
        raise ValueError(f"the state is of epoch {epoch}, the stream is set to {self.epoch}: set_epoch({epoch})")

    def _described(self) -> dict[str, Any]:
        """All that the order of this reader depends on, but the epoch."""
        worker, num_workers = _worker()
        names = ("seed", "buffer_size", "rank", "world_size", "drop_last")
        return {
            **{name: getattr(self.options, name) for name in names},
            "worker": worker,
            "num_workers": num_workers,
            "shards": self.reader.fingerprint,
        }

    def _rows_of_rank(self) -> tuple[int, int]:
        """The run of rows, in the order of an epoch, that this rank reads: the first, and the one after the last."""
        rank, world_size, total = self.options.rank, self.options.world_size, len(self.reader)
        if self.options.drop_last:
            total -= total % world_size
        return total * rank // world_size, total * (rank + 1) // world_size

    def _rows_of_reader(self) -> tuple[int, int]:
        """As `_rows_of_rank`, of this process."""
        worker, num_workers = _worker()
        start, stop = self._rows_of_rank()
        size, num_workers = stop - start, max(1, num_workers)
        return start + size * worker // num_workers, start + size * (worker + 1) // num_workers

    def _group_order(self, epoch: int) -> np.ndarray:
        """The numbers of the row groups in the order of an epoch: shards permuted, and the groups within each."""
        shards = self.reader.group_shard
        if self.options.seed is None:
            return np.arange(len(shards))
        rng = np.random.default_rng([self.options.seed, epoch])
        shard_order = rng.permutation(len(self.reader.files))
        return np.lexsort((rng.random(len(shards)), shard_order[shards]))

    def _clips(self, epoch: int, row: int, start: int, stop: int) -> Iterator[TrackedClip]:
        """The clips of the rows `start` to `stop` of an epoch, from the one that is `row` rows after `start` on."""
        seed, size = self.options.seed, self.options.buffer_size
        groups = self._group_order(epoch)
        ends = np.cumsum(self.reader.group_rows[groups])
        # Each block of `buffer_size` rows has a random order of its own, so that any row can be resumed at.
        for first in range(row - row % size, stop - start, size):
            block = np.arange(start + first, min(start + first + size, stop))
            if seed is not None:
                block = np.random.default_rng([seed, epoch, start + first]).permutation(block)
            for done, position in enumerate(block[max(0, row - first) :], max(row, first) + 1):
                at = int(np.searchsorted(ends, position, "right"))
                group = int(groups[at])
                within = int(position - ends[at] + self.reader.group_rows[group])
                self._position = (epoch, done)
                try:
                    clip = self._clip(self.reader.first_row(group) + within)
                except DamagedShardError as error:
                    if self.options.on_error == "raise":
                        raise
                    logger.warning("skipped %s", error)
                    self._skipped[_worker()[0] % MAX_WORKERS] += 1
                    continue
                yield clip

    def _clip(self, row: int) -> TrackedClip:
        clip = self.reader.clip(row)
        if self.options.video != "frames" or clip.video is None:
            return clip
        try:
            return replace(clip, video=decode_frames(clip))
        except (VideoError, OSError) as error:
            raise self.reader.error(row, error) from error


def _worker() -> tuple[int, int]:
    """This DataLoader worker's number, and how many there are; 0, 0 in no worker."""
    info = get_worker_info()
    return (0, 0) if info is None else (info.id, info.num_workers)
