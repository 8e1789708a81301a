"""Reading at scale: clips straight out of Parquet shards, shuffled, shared out over readers, gone on with at any row.

`datasets` streams too, but loses rows of its shuffle buffer when a run goes on, and leaves readers idle where shards
are few. Here the order of an epoch is known beforehand, from the shards' footers: the place in it is all the state.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any, Literal

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch.utils.data import IterableDataset, get_worker_info

from anthrotap_hf.data.loading import NAME, published_path
from anthrotap_hf.schema import decode_row, decode_tracks, video_source
from anthrotap_hf.tracks import Tracks
from anthrotap_hf.utils.hub_errors import why_not_loaded
from anthrotap_hf.utils.hub_names import split_revision

if TYPE_CHECKING:
    import datasets

logger = logging.getLogger(__name__)

NEEDED = {"tracks", "visible", "valid", "person", "vertex", "num_frames", "height", "width"}
ARRAYS = {"video", "tracks", "visible", "valid", "confidence", "person", "vertex"}
FOOTERS_AT_ONCE = 16
MOST_WORKERS = 1024  # that count what they skip
# What pyarrow, fsspec and our decoders raise for damage.
_DAMAGE = (OSError, ValueError, KeyError, TypeError, IndexError, pa.ArrowException)


class DamagedShardError(ValueError):
    """A shard or a row that can't be read. The message is one line: file, row, reason."""


@dataclass(frozen=True)
class StreamedClip:
    """A row of the dataset.

    Attributes:
        tracks: its labels.
        frames: [T, H, W, 3] uint8 RGB; None where the row has no video, or it is not to be decoded.
        video: with `video="bytes"` the mp4's bytes (or a path), for `anthrotap_hf.video.select_frames`; else None.
        about: the other columns: `clip_id`, `fps`, `source_video`, ...
    """

    tracks: Tracks
    frames: np.ndarray | None
    video: Any
    about: dict[str, Any]


def stream_clips(
    path: str = NAME,
    split: str = "train",
    *,
    rank: int = 0,
    world_size: int = 1,
    seed: int | None = 0,
    buffer: int = 16,
    even: bool = True,
    video: Literal["frames", "bytes", "none"] = "frames",
    on_error: Literal["raise", "skip"] = "raise",
    **config: Any,
) -> StreamedClips:
    """The clips of published shards as a torch IterableDataset; see `StreamedClips` for its promises.

        clips = anthrotap_hf.stream_clips("labels", rank=rank, world_size=world_size)
        loader = StatefulDataLoader(clips, batch_size=4, num_workers=4, collate_fn=list)
        for epoch in range(10):
            clips.set_epoch(epoch)
            for batch in loader:  # a list of StreamedClip, which differ in N, T, H and W
                ...

    Args:
        path: a folder, a Hub repository, or "anthrotap" for what ANTHROTAP_REPO names.
        split: which split.
        rank, world_size: this process and how many there are. DataLoader workers are found by themselves.
        seed: of the order, which is another one each epoch; None: the order of the files.
        buffer: rows that are shuffled among themselves, after shards and row groups have been.
        even: each rank gets as many rows, so that no rank waits for ever for others at the end of an epoch: up to
            `world_size` - 1 rows, others each epoch, are left out. False: each row is read. One rank reads all anyway.
        video: "frames" decodes it, "bytes" leaves that to you, "none" does not even read it.
        on_error: what a damaged row does: raise DamagedShardError, or be told of, counted in `skipped` and left out
            (ranks then are no longer even). A shard whose footer can't be read always raises.
        config: as in `datasets.load_dataset`: `name`, `data_files`, `data_dir`, `revision`, `token`, `storage_options`.

    Raises:
        FileNotFoundError: if there is no such dataset, or nothing says where it is.
        DamagedShardError: if a shard can't be opened.
        ValueError: if these are not our rows, there is no such split, or a number is out of its range.
    """
    left_out = {"video"} if video == "none" else set()
    rows = ShardRows.of_dataset(path, split, left_out=left_out, keep=buffer, **config)
    return StreamedClips(
        rows,
        rank=rank,
        world_size=world_size,
        seed=seed,
        buffer=buffer,
        even=even,
        video=video,
        on_error=on_error,
    )


class ShardRows:
    """Rows of Parquet shards by number, as numpy arrays; what is read at once is a row group, also of a remote file.

    Footers are read at the start. Pickled, it is its list of shards. Not for several threads.

    Args:
        files: paths or addresses that fsspec opens.
        features: of the rows; None for those that the first file tells.
        options: of the file system, such as a token.
        left_out: columns that are not read.
        keep: rows that are kept besides two row groups, of the groups that were asked for last.

    Raises:
        DamagedShardError: if a footer can't be read.
        ValueError: if columns of ours are missing, or there are no rows.
    """

    def __init__(
        self,
        files: list[str],
        features: datasets.Features | None = None,
        *,
        options: Mapping[str, Any] | None = None,
        left_out: Collection[str] = (),
        keep: int = 0,
    ) -> None:
        from datasets import Features, Video
        from datasets.formatting import get_formatter

        self.files = files
        self._options = dict(options or {})
        with ThreadPoolExecutor(FOOTERS_AT_ONCE) as pool:
            footers = list(pool.map(self._footer, files))
        if not any(sum(rows) for rows, *_ in footers):
            raise ValueError(f"{files[0] if files else 'no file'}: the dataset has no rows")
        features = features or Features.from_arrow_schema(footers[0][1])
        features = Features({name: kind for name, kind in features.items() if name not in left_out})
        if missing := NEEDED - set(features):
            raise ValueError(f"{files[0]}: these are not our rows: no column {', '.join(sorted(missing))}")
        if "video" in features:
            features["video"] = Video(decode=False)
        self.features = features
        self._schema = features.arrow_schema
        self._formatter = get_formatter("numpy", features=features)
        self.rows_of_group = np.array([rows for groups, *_ in footers for rows in groups], np.int64)
        self.shard_of_group = np.repeat(np.arange(len(files)), [len(groups) for groups, *_ in footers])
        told = [PurePosixPath(name).name for name in files], [(rows, sizes) for rows, _, sizes in footers]
        self.fingerprint = hashlib.sha256(repr(told).encode()).hexdigest()[:16]  # of names, rows and sizes
        self._ends = np.cumsum(self.rows_of_group)
        self._most_kept = keep + 2 * int(self.rows_of_group.max())
        self._kept: dict[int, pa.Table] = {}
        self._open: tuple[int, pq.ParquetFile] | None = None

    @classmethod
    def of_dataset(
        cls, path: str, split: str, *, left_out: Collection[str] = (), keep: int = 0, **config: Any
    ) -> ShardRows:
        """The shards that `datasets.load_dataset` finds in a folder or repository. Raises as `stream_clips`."""
        import datasets
        from datasets.packaged_modules.parquet.parquet import Parquet

        name = published_path() if path == NAME else path
        repository, revision = split_revision(name)
        if revision is not None:
            config = {"revision": revision, **config}
        try:
            builder = datasets.load_dataset_builder(repository, **config)
        except (OSError, datasets.exceptions.DatasetNotFoundError) as error:
            if words := why_not_loaded(name, error):
                raise FileNotFoundError(words) from error
            raise
        files = builder.config.data_files
        if not isinstance(builder, Parquet) or not files:
            raise ValueError(
                f"{path}: this is no dataset of Parquet shards; `anthrotap label --out` writes one"
            )
        if split not in files:
            raise ValueError(f"{path}: no split {split!r}; it has {', '.join(map(str, files))}")
        options = dict(builder.storage_options)
        if builder.token is not None and files[split][0].startswith("hf://"):
            options["token"] = builder.token
        shards = [str(file) for file in files[split]]
        return cls(shards, builder.info.features, options=options, left_out=left_out, keep=keep)

    def __len__(self) -> int:
        return int(self._ends[-1])

    def __getitem__(self, row: int) -> dict[str, Any]:
        """A row. Raises IndexError past the end, DamagedShardError if it can't be read."""
        if not 0 <= row < len(self):
            raise IndexError(f"row {row} of {len(self)}")
        group = int(np.searchsorted(self._ends, row, "right"))
        try:
            return self._formatter.format_row(self._group(group).slice(row - int(self.first_row(group)), 1))
        except _DAMAGE as error:
            raise self.damage(row, error) from error

    def __getstate__(self) -> dict[str, Any]:  # open files can't go to a worker
        return self.__dict__ | {"_kept": {}, "_open": None}

    def distinct(self, columns: Sequence[str]) -> list[tuple[Any, ...]]:
        """The values that rows have in these columns together, once each; None for a column that is not there."""
        found: dict[tuple[Any, ...], None] = {}
        for name in self.files:
            with pq.ParquetFile(self._file(name)) as shard:
                there = [column for column in columns if column in shard.schema_arrow.names]
                for batch in shard.iter_batches(columns=there):
                    rows = zip(*(batch.column(column).to_pylist() for column in there), strict=True)
                    for row in set(rows):
                        values = dict(zip(there, row, strict=True))
                        found[tuple(values.get(column) for column in columns)] = None
        return list(found)

    def damage(self, row: int, error: Exception) -> DamagedShardError:
        """What to raise for a row."""
        shard = self.shard_of_group[np.searchsorted(self._ends, row, "right")]
        before = int(self.rows_of_group[self.shard_of_group < shard].sum())
        return DamagedShardError(f"{self.files[shard]}, row {row - before}: {_one_line(error)}")

    def first_row(self, group: Any) -> Any:
        """The numbers of groups' first rows."""
        return self._ends[group] - self.rows_of_group[group]

    def _file(self, name: str) -> Any:
        system, place = fsspec.url_to_fs(name, **self._options)
        # what is read is known beforehand: reading ahead would only read too much
        return system.open(place, "rb", cache_type="none")

    def _footer(self, name: str) -> tuple[list[int], pa.Schema, list[int]]:
        try:
            with self._file(name) as file:
                footer = pq.read_metadata(file)
        except _DAMAGE as error:
            raise DamagedShardError(f"{name}: not a readable Parquet file ({_one_line(error)})") from error
        rows = [footer.row_group(number).num_rows for number in range(footer.num_row_groups)]
        sizes = [footer.row_group(number).total_byte_size for number in range(footer.num_row_groups)]
        return rows, footer.schema.to_arrow_schema(), sizes

    def _group(self, group: int) -> pa.Table:
        table = self._kept.pop(group, None)
        self._kept[group] = self._read(group) if table is None else table  # the newest
        while sum(table.num_rows for table in self._kept.values()) > self._most_kept:
            del self._kept[next(iter(self._kept))]
        return self._kept[group]

    def _read(self, group: int) -> pa.Table:
        from datasets.table import table_cast

        shard = int(self.shard_of_group[group])
        if self._open is None or self._open[0] != shard:
            self._open = shard, pq.ParquetFile(self._file(self.files[shard]), pre_buffer=True)
        number = int(group - np.searchsorted(self.shard_of_group, shard))
        table = self._open[1].read_row_group(number, columns=list(self.features), use_threads=False)
        return table_cast(table, self._schema)


class StreamedClips(IterableDataset[StreamedClip]):
    """Clips for a DataLoader: each row once an epoch over all ranks and workers, gone on with exactly where it stopped.

    The order of an epoch follows from seed and epoch: shards are permuted, then the row groups in each, and each reader
    (a worker of a rank) takes a run of rows of its own, which it shuffles by `buffer`. So there may be fewer shards, or
    row groups, than readers: then several read one shard. A row group where one run ends and another begins is read by
    both.
    A reader holds `buffer` rows, undecoded, and two row groups at most.

    `state_dict` is a few numbers; after `load_state_dict`, in a stream made in the same way, the next clips are those
    that would have come next. With DataLoader workers that takes torchdata's StatefulDataLoader, which asks them.

    Args:
        rows: the shards, which keep `buffer` rows, for they come out of order.
        rank, world_size, seed, buffer, even, video, on_error: see `stream_clips`.

    Raises:
        ValueError: if a number is out of its range, or there are fewer rows than ranks.
    """

    def __init__(
        self,
        rows: ShardRows,
        *,
        rank: int = 0,
        world_size: int = 1,
        seed: int | None = 0,
        buffer: int = 16,
        even: bool = True,
        video: Literal["frames", "bytes", "none"] = "frames",
        on_error: Literal["raise", "skip"] = "raise",
    ) -> None:
        if not 0 <= rank < world_size:
            raise ValueError(f"rank must be from 0 to world_size - 1, got {rank} and {world_size}")
        if buffer < 1:
            raise ValueError(f"buffer must be at least 1, got {buffer}")
        if video not in ("frames", "bytes", "none"):
            raise ValueError(f"video is 'frames', 'bytes' or 'none', got {video!r}")
        if on_error not in ("raise", "skip"):
            raise ValueError(f"on_error is 'raise' or 'skip', got {on_error!r}")
        if even and len(rows) < world_size:
            raise ValueError(
                f"{len(rows)} rows are too few for {world_size} ranks; even=False leaves some idle"
            )
        self.rows = rows
        self.rank = rank
        self.world_size = world_size
        self.seed = seed
        self.buffer = buffer
        self.even = even
        self.video = video
        self.on_error = on_error
        # in shared memory: workers that live on see the next epoch, and the parent what they skip
        self._epoch = torch.full((1,), -1).share_memory_()
        self._skipped = torch.zeros(MOST_WORKERS, dtype=torch.int64).share_memory_()
        self._at: tuple[int, int] | None = None  # epoch and row of this reader
        self._loaded: dict[str, Any] | None = None

    def __len__(self) -> int:
        """Rows of this rank in an epoch."""
        start, stop = self._share_of_rank()
        return stop - start

    @property
    def epoch(self) -> int:
        return max(0, int(self._epoch))

    @property
    def skipped(self) -> int:
        """Rows left out because they are damaged, by this process and its workers."""
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
        epoch, row = self._at or (self.epoch, 0)
        return {"epoch": epoch, "row": row, **self._described()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """The next iteration goes on from a state; it raises ValueError if that is another stream's or epoch's."""
        self._loaded = dict(state)

    def __iter__(self) -> Iterator[StreamedClip]:
        epoch, row = self.epoch, 0
        start, stop = self._share_of_reader()
        if self._loaded is not None:
            epoch, row = self._go_on(self._loaded, stop - start)
            self._loaded = None
        self._at = (epoch, row)
        return self._clips(epoch, row, start, stop)

    def _go_on(self, state: Mapping[str, Any], rows: int) -> tuple[int, int]:
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
        if row >= rows and self.epoch == epoch + 1:  # kept when its epoch was over
            return self.epoch, 0
        raise ValueError(
            f"the state is of epoch {epoch}, the stream is set to {self.epoch}: set_epoch({epoch})"
        )

    def _described(self) -> dict[str, Any]:
        """All that the order of this reader depends on, but the epoch."""
        worker, workers = _worker()
        return {
            "seed": self.seed,
            "buffer": self.buffer,
            "rank": self.rank,
            "world_size": self.world_size,
            "even": self.even,
            "worker": worker,
            "workers": workers,
            "shards": self.rows.fingerprint,
        }

    def _share_of_rank(self) -> tuple[int, int]:
        total = len(self.rows)
        if self.even:
            total -= total % self.world_size
        return total * self.rank // self.world_size, total * (self.rank + 1) // self.world_size

    def _share_of_reader(self) -> tuple[int, int]:
        """The run of rows, in the order of an epoch, that this process is to read."""
        worker, workers = _worker()
        start, stop = self._share_of_rank()
        size, workers = stop - start, max(1, workers)
        return start + size * worker // workers, start + size * (worker + 1) // workers

    def _order(self, epoch: int) -> np.ndarray:
        """The row groups in the order of an epoch."""
        shards = self.rows.shard_of_group
        if self.seed is None:
            return np.arange(len(shards))
        rng = np.random.default_rng([self.seed, epoch])
        place = rng.permutation(len(self.rows.files))
        return np.lexsort((rng.random(len(shards)), place[shards]))

    def _clips(self, epoch: int, row: int, start: int, stop: int) -> Iterator[StreamedClip]:
        groups = self._order(epoch)
        ends = np.cumsum(self.rows.rows_of_group[groups])
        for first in range(row - row % self.buffer, stop - start, self.buffer):
            block = np.arange(start + first, min(start + first + self.buffer, stop))
            if self.seed is not None:
                block = np.random.default_rng([self.seed, epoch, start + first]).permutation(block)
            block = block[max(0, row - first) :]
            places = np.searchsorted(ends, block, "right")
            group = groups[places]
            numbers = self.rows.first_row(group) + block - (ends[places] - self.rows.rows_of_group[group])
            for after, number in enumerate(numbers, max(row, first) + 1):
                self._at = (epoch, after)
                try:
                    clip = self._clip(int(number))
                except DamagedShardError as error:
                    if self.on_error == "raise":
                        raise
                    logger.warning("skipped %s", error)
                    self._skipped[_worker()[0] % MOST_WORKERS] += 1
                    continue
                yield clip

    def _clip(self, number: int) -> StreamedClip:
        row = self.rows[number]
        try:
            video = video_source(row.get("video"))
            if isinstance(video, np.ndarray):
                video = video.item()
            if self.video == "frames" and video is not None:
                frames, tracks = decode_row(row)
            else:
                frames, tracks = None, decode_tracks(row)
        except _DAMAGE as error:
            raise self.rows.damage(number, error) from error
        about = {name: _plain(value) for name, value in row.items() if name not in ARRAYS}
        return StreamedClip(tracks, frames, video if self.video == "bytes" else None, about)


def _worker() -> tuple[int, int]:
    """This DataLoader worker's number, and how many there are; 0, 0 in no worker."""
    info = get_worker_info()
    return (0, 0) if info is None else (info.id, info.num_workers)


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
