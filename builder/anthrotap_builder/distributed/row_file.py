"""Files of rows that a build keeps: each row an Arrow stream, then an index with their hashes, then the index's hash.

Not Parquet: its footers grow by kilobytes a row, and its checksums leave out page headers and footers.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import pyarrow as pa

from anthrotap_hf.utils.atomic_files import beside

LENGTH = 16  # digits of the index's length, at the end of the file
TAIL = 64 + LENGTH


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
        file, number: the file, and which of its rows.
    """

    clip_id: str
    source_sha256: str
    frames_sha256: str
    size: int
    file: Path
    number: int


class RowWriter:
    """Writes one file of rows; made by `atomic_rows`."""

    def __init__(self, file: IO[bytes]) -> None:
        self.index: list[list[Any]] = []
        self.notes: dict[str, str] = {}  # more for the index
        self._file = file

    def write(self, row: pa.Table) -> None:
        """Add a table of one row, with the columns of `anthrotap_builder.shards.features`."""
        sink = pa.BufferOutputStream()
        options = pa.ipc.IpcWriteOptions(compression="zstd")
        with pa.ipc.new_stream(sink, row.schema, options=options) as stream:
            stream.write_table(row)
        data = sink.getvalue()
        told = (row.column(name)[0].as_py() for name in ("clip_id", "source_sha256", "frames_sha256"))
        begin = self._file.tell()
        self.index.append([*told, row.nbytes, begin, begin + data.size, hashlib.sha256(data).hexdigest()])
        self._file.write(data)

    def finish(self) -> None:
        """The index; nothing can be added after it."""
        text = json.dumps({"rows": self.index, "notes": self.notes}).encode()
        self._file.write(text + hashlib.sha256(text).hexdigest().encode() + b"%0*d" % (LENGTH, len(text)))


@contextmanager
def atomic_rows(path: Path) -> Iterator[RowWriter]:
    """A writer of a file that gets its name when the block ends well, and only if it has a row."""
    path.parent.mkdir(parents=True, exist_ok=True)
    tmp_path = beside(path, "incomplete")
    try:
        with tmp_path.open("wb") as file:
            writer = RowWriter(file)
            yield writer
            writer.finish()
            file.flush()
            os.fsync(file.fileno())
        if writer.index:
            tmp_path.replace(path)
    finally:
        tmp_path.unlink(missing_ok=True)


class RowReader:
    """Reads rows of one file.

    Raises:
        DamagedError: here and from `row`.
        FileNotFoundError: if there is no such file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        with self._told(), path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - TAIL))
            tail = file.read()
            length = int(tail[-LENGTH:])
            file.seek(size - TAIL - length)
            text = file.read(length)
            if hashlib.sha256(text).hexdigest().encode() != tail[:-LENGTH]:
                raise ValueError("its index is not what was written")
        found = json.loads(text)
        self.notes: dict[str, str] = found["notes"]
        self._rows: list[list[Any]] = found["rows"]

    def __len__(self) -> int:
        return len(self._rows)

    def row(self, number: int) -> pa.Table:
        """A table of one row."""
        *_, begin, end, digest = self._rows[number]
        with self._told(), self.path.open("rb") as file:
            file.seek(begin)
            data = file.read(end - begin)
            if hashlib.sha256(data).hexdigest() != digest:
                raise ValueError(f"row {number} is not what was written")
        return pa.ipc.open_stream(data).read_all()

    def index(self) -> list[RowPlace]:
        """What the rows are."""
        return [
            RowPlace(clip_id, source, frames, size, self.path, number)
            for number, (clip_id, source, frames, size, *_) in enumerate(self._rows)
        ]

    @contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except FileNotFoundError:
            raise  # merged into its rank's file meanwhile
        except (OSError, ValueError) as error:
            raise DamagedError(self.path, error) from error


def quarantine(file: Path) -> None:
    """A damaged file of rows is kept under another name: its videos are labeled again."""
    if file.exists():
        file.replace(file.with_suffix(".damaged"))
