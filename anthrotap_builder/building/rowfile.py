"""Files of rows that a build keeps: Parquet with one row a row group, checksums, and in the footer what they hold."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from anthrotap_hf.files import beside

INDEX = b"anthrotap.rows"


class DamagedError(Exception):
    """A file of rows can't be read; the message names it.

    Attributes:
        file: which.
    """

    def __init__(self, file: Path, error: Exception) -> None:
        super().__init__(f"{file}: damaged ({' '.join(str(error).split())})")
        self.file = file


@dataclass(frozen=True)
class RowPlace:
    """A row of the index: where it lies, and what it is.

    Attributes:
        clip_id, source_sha256, frames_sha256: as in the row.
        size: bytes, about.
        file, group: the Parquet file, and the row group in it.
    """

    clip_id: str
    source_sha256: str
    frames_sha256: str
    size: int
    file: Path
    group: int


class RowWriter:
    """Writes one file of rows; made by `rows_written_whole`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.index: list[list[Any]] = []
        self.notes: dict[str, str] = {}  # more for the footer
        self._writer: pq.ParquetWriter | None = None

    def write(self, row: pa.Table) -> None:
        """Add a table of one row, with the columns of `anthrotap_builder.shards.features`."""
        if self._writer is None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._writer = pq.ParquetWriter(self.path, row.schema, write_page_checksum=True)
        self._writer.write_table(row)
        told = (row.column(name)[0].as_py() for name in ("clip_id", "source_sha256", "frames_sha256"))
        self.index.append([*told, row.nbytes])

    def close(self) -> None:
        if self._writer is not None:
            self._writer.add_key_value_metadata({INDEX.decode(): json.dumps(self.index), **self.notes})
            self._writer.close()
            self._writer = None


@contextmanager
def rows_written_whole(path: Path) -> Iterator[RowWriter]:
    """A writer of a file that gets its name when the block ends well, and only if it has a row."""
    writer = RowWriter(beside(path, "incomplete"))
    try:
        yield writer
        writer.close()
        if writer.index:
            with writer.path.open("rb") as file:
                os.fsync(file.fileno())
            writer.path.replace(path)
    finally:
        writer.close()
        writer.path.unlink(missing_ok=True)


class RowReader:
    """Reads rows of one file.

    Raises:
        DamagedError: here and from all methods.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        with self._told():
            self._file = pq.ParquetFile(path, page_checksum_verification=True)

    def __len__(self) -> int:
        return self._file.metadata.num_row_groups

    def row(self, group: int) -> pa.Table:
        """A table of one row."""
        with self._told():
            return self._file.read_row_group(group)

    def note(self, name: str) -> str:
        """From the footer: see `RowWriter.notes`."""
        with self._told():
            return self._file.metadata.metadata[name.encode()].decode()

    def index(self) -> list[RowPlace]:
        """What the rows are, from the footer."""
        with self._told():
            rows = json.loads(self._file.metadata.metadata[INDEX])
            if len(rows) != len(self):
                raise ValueError("rows and index differ")
            return [
                RowPlace(clip_id, source, frames, size, self.path, group)
                for group, (clip_id, source, frames, size) in enumerate(rows)
            ]

    def close(self) -> None:
        self._file.close()

    @contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except FileNotFoundError:
            raise  # merged into its rank's file meanwhile
        except (OSError, pa.ArrowException, ValueError, KeyError, TypeError) as error:
            raise DamagedError(self.path, error) from error


def set_aside(file: Path) -> None:
    """A damaged file of rows is kept under another name: its videos are labelled again."""
    if file.exists():
        file.replace(file.with_suffix(".damaged"))
