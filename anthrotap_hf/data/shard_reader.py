"""The one reader of our Parquet shards: which files they are, their footers, and their rows by number or in order."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from anthrotap_hf.schema import LABEL_COLUMNS, decode_clip, wrong_columns
from anthrotap_hf.tracks import TrackedClip
from anthrotap_hf.utils.dataset_cards import check_dataset_card
from anthrotap_hf.utils.errors import AnthroTapError, one_line
from anthrotap_hf.utils.hub_errors import describe_load_error
from anthrotap_hf.utils.hub_names import DATASET_NAME, published_path, split_revision

if TYPE_CHECKING:
    import datasets

FOOTER_THREADS = 16
HOW_TO_WRITE = "`anthrotap label --out` writes shards"


class ShardError(AnthroTapError):
    """Shards that can't be used: there are none, or a file is not one of this project.

    Attributes:
        path: the file, and the row that is meant, if one is.
        row: the number of that row within the file; None where the whole file is meant.
    """

    def __init__(
        self,
        reason: object,
        *,
        path: str | os.PathLike[str] | None = None,
        row: int | None = None,
        hint: str | None = None,
    ) -> None:
        super().__init__(reason, path=path if row is None else f"{path}, row {row}", hint=hint)
        self.row = row


class DamagedShardError(ShardError):
    """A file or a row that can't be read."""


def find_shards(path: str | os.PathLike[str]) -> list[Path]:
    """The shards of a folder and of its `data/`, by name, or the one file at the path. The list may be empty."""
    path = Path(path)
    if path.is_file():
        return [path]
    return sorted([*path.glob("*.parquet"), *path.glob("data/*.parquet")])


def split_of(path: str | os.PathLike[str]) -> str:
    """The split that a shard belongs to: its file's name up to the first "-"."""
    return Path(path).name.partition("-")[0]


@dataclass(frozen=True)
class Footer:
    """What a Parquet file says of itself.

    Attributes:
        columns: the names and types of its columns.
        group_rows: the number of rows of each row group.
        group_bytes: the size of each row group, uncompressed, bytes.
        max_values: the number of values of the longest column of any row group.
    """

    columns: pa.Schema
    group_rows: list[int]
    group_bytes: list[int]
    max_values: int

    @property
    def num_rows(self) -> int:
        return sum(self.group_rows)


def read_footer(path: str | os.PathLike[str], storage_options: Mapping[str, Any] | None = None) -> Footer:
    """The footer of a Parquet file, whatever its columns are; see `check_columns`.

    Args:
        path: a path or an address that fsspec opens.
        storage_options: of the file system, such as a token.

    Raises:
        DamagedShardError: if it can't be read.
    """
    try:
        with pq.ParquetFile(_source(path, storage_options), pre_buffer=False) as file:
            metadata = file.metadata
            groups = [metadata.row_group(number) for number in range(metadata.num_row_groups)]
            return Footer(
                columns=file.schema_arrow,
                group_rows=[group.num_rows for group in groups],
                group_bytes=[group.total_byte_size for group in groups],
                max_values=max(
                    (group.column(i).num_values for group in groups for i in range(group.num_columns)),
                    default=0,
                ),
            )
    except Exception as error:  # native libraries and file systems raise what they like
        reason = f"not a readable Parquet file ({_reason(error)})"
        raise DamagedShardError(reason, path=path, hint="fetch or build it again") from error


def check_columns(columns: pa.Schema | Sequence[str], path: str | os.PathLike[str], *, complete: bool = False) -> None:
    """Check that columns are those of a shard of this project.

    Args:
        columns: of a file, or their names.
        path: the file, as the error names it.
        complete: whether all columns of `schema.COLUMNS` must be there with their types, but for a column `video`
            without type, as label-only datasets have it. Otherwise the names of `schema.LABEL_COLUMNS` are enough.

    Raises:
        ShardError: if they are not.
    """
    if complete and isinstance(columns, pa.Schema):
        wrong = list(wrong_columns(columns, label_only=True))
    else:
        names = columns.names if isinstance(columns, pa.Schema) else columns
        missing = [name for name in LABEL_COLUMNS if name not in names]
        wrong = [f"no column {', '.join(missing)}"] if missing else []
    if wrong:
        raise ShardError(f"not a shard of this project ({'; '.join(wrong)})", path=path, hint=HOW_TO_WRITE)


def iter_batches(
    path: str | os.PathLike[str],
    columns: Sequence[str] | None = None,
    *,
    batch_size: int = 1024,
    groups: Sequence[int] | None = None,
    storage_options: Mapping[str, Any] | None = None,
) -> Iterator[pa.RecordBatch]:
    """The rows of a shard in order, a few at a time and never from two row groups. Memory does not grow with the file.

    Args:
        path: a path or an address that fsspec opens.
        columns: names of those that are read; None for all.
        batch_size: rows of a batch, at most.
        groups: numbers of the row groups that are read; None for all.
        storage_options: of the file system, such as a token.

    Raises:
        DamagedShardError: if something can't be read. `row` is the first one of the file, if `groups` is None.
    """
    row: int | None = None
    try:
        # Without pre_buffer, which keeps what was read until the file is closed.
        with pq.ParquetFile(_source(path, storage_options), pre_buffer=False, buffer_size=1 << 20) as file:
            row = 0 if groups is None else None
            for group in range(file.num_row_groups) if groups is None else groups:
                for batch in file.iter_batches(batch_size, row_groups=[group], columns=columns, use_threads=False):
                    yield batch
                    row = None if row is None else row + batch.num_rows
    except Exception as error:  # native libraries raise what they like
        raise DamagedShardError(_reason(error), path=path, row=row) from error


class ShardReader:
    """The rows of shards by number; what is read at once is a row group, also of a remote file.

    Footers are read at the start. A pickled reader has no open file and no rows. It is not for several threads.

        reader = ShardReader.from_path("labels")
        for number in range(len(reader)):
            clip = reader.clip(number)

    Attributes:
        files: paths or addresses of the shards.
        features: the columns that are read, as `datasets` has them.
        group_rows: [G] int64, the number of rows of each row group, over all files.
        group_shard: [G] int, the number of the file that each row group is in.
        fingerprint: a hash of the names, rows and sizes of the files.
    """

    def __init__(
        self,
        files: Sequence[str | os.PathLike[str]],
        features: datasets.Features | None = None,
        *,
        video: bool = True,
        buffer_size: int = 0,
        storage_options: Mapping[str, Any] | None = None,
    ) -> None:
        """Open shards.

        Args:
            files: paths or addresses that fsspec opens.
            features: of the rows; None for those that the first file has.
            video: whether the column `video` is read.
            buffer_size: rows that are kept beside two row groups, of the groups that were asked for last.
            storage_options: of the file system, such as a token.

        Raises:
            DamagedShardError: if a footer can't be read.
            ShardError: if these are not shards of this project, or hold no rows.
        """
        from datasets import Features, Video
        from datasets.formatting import get_formatter

        self.files = [os.fspath(file) for file in files]
        self._storage_options = dict(storage_options or {})
        with ThreadPoolExecutor(FOOTER_THREADS) as pool:
            footers = list(pool.map(lambda file: read_footer(file, self._storage_options), self.files))
        if not any(footer.num_rows for footer in footers):
            raise ShardError("no rows in it", path=self.files[0] if self.files else None, hint=HOW_TO_WRITE)
        features = features or Features.from_arrow_schema(footers[0].columns)
        check_columns(list(features), self.files[0])
        features = Features({name: kind for name, kind in features.items() if video or name != "video"})
        if "video" in features:
            features["video"] = Video(decode=False)
        self.features = features
        self.group_rows = np.array([rows for footer in footers for rows in footer.group_rows], np.int64)
        self.group_shard = np.repeat(np.arange(len(footers)), [len(footer.group_rows) for footer in footers])
        described = (
            [PurePosixPath(name).name for name in self.files],
            [(footer.group_rows, footer.group_bytes) for footer in footers],
        )
        self.fingerprint = hashlib.sha256(repr(described).encode()).hexdigest()[:16]
        self._schema = features.arrow_schema
        self._formatter = get_formatter("numpy", features=features)
        self._group_ends = np.cumsum(self.group_rows)
        self._max_kept = buffer_size + 2 * int(self.group_rows.max())
        self._kept: dict[int, pa.Table] = {}
        self._open: tuple[int, pq.ParquetFile] | None = None

    @classmethod
    def from_path(
        cls, path: str | os.PathLike[str], split: str | None = None, *, video: bool = True, buffer_size: int = 0
    ) -> ShardReader:
        """The shards of a folder on this machine, of one split or all; or one file.

        Raises as the constructor, and ShardError if there are none.
        """
        shards = find_shards(path)
        if not shards:
            reason = "no shard (.parquet) in this folder" if os.path.isdir(path) else "no such file or folder"
            raise ShardError(reason, path=path, hint=HOW_TO_WRITE)
        if split is not None:
            splits = sorted({split_of(shard) for shard in shards})
            if split not in splits:
                raise ShardError(f"no split {split!r}; it has {', '.join(splits)}", path=path)
            shards = [shard for shard in shards if split_of(shard) == split]
        return cls(shards, video=video, buffer_size=buffer_size)

    @classmethod
    def from_dataset(
        cls, path: str, split: str, *, video: bool = True, buffer_size: int = 0, **config: Any
    ) -> ShardReader:
        """The shards that `datasets.load_dataset` finds in a folder or repository.

        Args:
            path: a folder, a Hub repository (`user/name@revision` pins it), or "anthrotap" for what ANTHROTAP_REPO
                names (if it is not set, the sample).
            split: which split.
            video, buffer_size: as for the constructor.
            config: as for `datasets.load_dataset`: `name`, `data_files`, `revision`, `token`, `storage_options`, ...

        Raises:
            FileNotFoundError: if there is no such dataset.
            ShardError: if it has no such split or is not one of this project; DamagedShardError as the constructor.
        """
        builder = _dataset_builder(path, **config)
        files = builder.config.data_files
        if split not in files:
            raise ShardError(f"no split {split!r}; it has {', '.join(map(str, files))}", path=path)
        options = dict(builder.storage_options)
        if builder.token is not None and files[split][0].startswith("hf://"):
            options["token"] = builder.token
        return cls(
            [str(file) for file in files[split]],
            builder.info.features,
            video=video,
            buffer_size=buffer_size,
            storage_options=options,
        )

    def __len__(self) -> int:
        return int(self._group_ends[-1])

    def __getitem__(self, row: int) -> dict[str, Any]:
        """A row, its arrays as numpy has them.

        Raises:
            IndexError: past the end.
            DamagedShardError: if it can't be read.
        """
        if not 0 <= row < len(self):
            raise IndexError(f"row {row} of {len(self)}")
        group = self.group_of(row)
        try:
            table = self._group(group)
            values: dict[str, Any] = self._formatter.format_row(table.slice(row - self.first_row(group), 1))
        except Exception as error:  # native libraries and file systems raise what they like
            raise self.error(row, error) from error
        return values

    def clip(self, row: int) -> TrackedClip:
        """A row as a clip, whose frames are decoded when they are asked for. Raises as `reader[row]`."""
        values = self[row]
        try:
            return decode_clip(values)
        except Exception as error:  # whatever a stranger's row may hold
            raise self.error(row, error) from error

    def __getstate__(self) -> dict[str, Any]:  # open files can't go to a worker
        return self.__dict__ | {"_kept": {}, "_open": None}

    def columns(self, names: Sequence[str]) -> Iterator[tuple[Any, ...]]:
        """The values of each row in some columns, in order, as Python has them; None for a column that is missing.

        Of the column `video` only the path is read: its value is {"path": ...}, or None for a row without video.

        Raises:
            DamagedShardError: if they can't be read.
        """
        read = ["video.path" if name == "video" else name for name in names]
        for file in self.files:
            for batch in iter_batches(file, read, storage_options=self._storage_options):
                values = {name: batch.column(name).to_pylist() for name in batch.schema.names}
                missing = [None] * batch.num_rows
                yield from zip(*(values.get(name, missing) for name in names), strict=True)

    def error(self, row: int, cause: Exception) -> DamagedShardError:
        """What to raise for a row that can't be used."""
        shard = int(self.group_shard[self.group_of(row)])
        before = int(self.group_rows[self.group_shard < shard].sum())
        return DamagedShardError(_reason(cause), path=self.files[shard], row=row - before)

    def group_of(self, row: int) -> int:
        """The number of the row group that a row is in."""
        return int(np.searchsorted(self._group_ends, row, "right"))

    def first_row(self, group: int) -> int:
        """The number of a row group's first row."""
        return int(self._group_ends[group] - self.group_rows[group])

    def _group(self, group: int) -> pa.Table:
        """A row group, out of those that are kept if it is there. The group that was used longest ago goes first."""
        table = self._kept.pop(group, None)
        self._kept[group] = self._read(group) if table is None else table
        while sum(table.num_rows for table in self._kept.values()) > self._max_kept:
            del self._kept[next(iter(self._kept))]
        return self._kept[group]

    def _read(self, group: int) -> pa.Table:
        from datasets.table import table_cast

        shard = int(self.group_shard[group])
        if self._open is None or self._open[0] != shard:
            source = _source(self.files[shard], self._storage_options)
            self._open = shard, pq.ParquetFile(source, pre_buffer=True)
        number = int(group - np.searchsorted(self.group_shard, shard))
        table = self._open[1].read_row_group(number, columns=list(self.features), use_threads=False)
        return table_cast(table, self._schema)


def dataset_splits(path: str, **config: Any) -> list[str]:
    """The splits of a dataset of shards. Arguments and errors are those of `ShardReader.from_dataset`."""
    return [str(split) for split in _dataset_builder(path, **config).config.data_files]


def _dataset_builder(path: str, **config: Any) -> Any:
    """The `datasets` builder of a dataset of Parquet files; its `config.data_files` has the files of each split."""
    import datasets
    from datasets.packaged_modules.parquet.parquet import Parquet

    name = published_path(config.get("revision"), config.get("token")) if path == DATASET_NAME else path
    repository, revision = split_revision(name)
    if revision is not None:
        config = {"revision": revision, **config}
    check_dataset_card(repository, config.get("revision"), config.get("token"))
    try:
        builder = datasets.load_dataset_builder(repository, **config)
    except (OSError, datasets.exceptions.DatasetNotFoundError) as error:
        if message := describe_load_error(error, name):
            raise FileNotFoundError(message) from error
        raise
    if not isinstance(builder, Parquet) or not builder.config.data_files:
        raise ShardError("no dataset of Parquet shards", path=path, hint=HOW_TO_WRITE)
    return builder


def _source(path: str | os.PathLike[str], storage_options: Mapping[str, Any] | None) -> Any:
    """What pyarrow opens: the path of a file on this machine, or a file that fsspec has opened."""
    if os.path.isfile(path):
        return os.fspath(path)
    system, name = fsspec.url_to_fs(os.fspath(path), **(storage_options or {}))
    # Which bytes are read is known beforehand: a cache that reads on would only read too much.
    return system.open(name, "rb", cache_type="none")


def _reason(error: Exception) -> str:
    """An error in one line; an error of ours without the path that it names."""
    if isinstance(error, AnthroTapError):
        return one_line(error.reason)
    return one_line(error) or type(error).__name__
