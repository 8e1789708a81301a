"""Files of labeled rows that wait for their shard: an Arrow stream each, an index with their hashes, the index's hash.

Any damage is found when a row is read. Parquet would not do: its footers grow by kilobytes a row, and its checksums
leave out page headers and footers.
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
from anthrotap_hf.utils.errors import AnthroTapError, one_line

# Digits of the index's length, at the end of the file, after the index and the digits of its hash.
LENGTH_DIGITS = 16
TAIL = 64 + LENGTH_DIGITS
KEY_COLUMNS = ("clip_id", "source_sha256", "frames_sha256")


class DamagedRowsError(AnthroTapError):
    """A file of rows that can't be read; its path is in `path`."""


@dataclass(frozen=True)
class RowLocation:
    """A row, and where it lies.

    Attributes:
        clip_id, source_sha256, frames_sha256: as in the row.
        size: of the row, bytes, about.
        file, number: the file, and the row's number in it.
    """

    clip_id: str
    source_sha256: str
    frames_sha256: str
    size: int
    file: Path
    number: int


class RowWriter:
    """Writes one file of rows; `atomic_rows` makes it.

    Attributes:
        notes: further text for the index, by name.
    """

    def __init__(self, file: IO[bytes]) -> None:
        self.notes: dict[str, str] = {}
        self._index: list[list[Any]] = []
        self._file = file

    def __len__(self) -> int:
        return len(self._index)

    def write(self, row: pa.Table) -> None:
        """Add a table of one row, with the columns of `schema.features`."""
        sink = pa.BufferOutputStream()
        options = pa.ipc.IpcWriteOptions(compression="zstd")
        with pa.ipc.new_stream(sink, row.schema, options=options) as stream:
            stream.write_table(row)
        data = sink.getvalue()
        keys = (row.column(name)[0].as_py() for name in KEY_COLUMNS)
        begin = self._file.tell()
        self._index.append([*keys, row.nbytes, begin, begin + data.size, hashlib.sha256(data).hexdigest()])
        self._file.write(data)

    def discard(self) -> None:
        """Forget the rows written so far: if none follows, there will be no file."""
        self._index.clear()

    def finish(self) -> None:
        """Write the index; nothing can be added after it."""
        text = json.dumps({"rows": self._index, "notes": self.notes}).encode()
        length = b"%0*d" % (LENGTH_DIGITS, len(text))
        self._file.write(text + hashlib.sha256(text).hexdigest().encode() + length)


@contextmanager
def atomic_rows(path: Path) -> Iterator[RowWriter]:
    """Write a file that gets its name, durably, when the block ends without an error, and only if it has a row."""
    path.parent.mkdir(parents=True, exist_ok=True)
    tmp_path = beside(path, "incomplete")
    try:
        with tmp_path.open("wb") as file:
            writer = RowWriter(file)
            yield writer
            writer.finish()
            file.flush()
            os.fsync(file.fileno())
        if len(writer):
            tmp_path.replace(path)
    finally:
        tmp_path.unlink(missing_ok=True)


class RowReader:
    """Reads the rows of one file.

    Raises:
        DamagedRowsError: here and from `row`.
        FileNotFoundError: if there is no such file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        with self._damage(), path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - TAIL))
            tail = file.read()
            length = int(tail[-LENGTH_DIGITS:])
            file.seek(size - TAIL - length)
            text = file.read(length)
            if hashlib.sha256(text).hexdigest().encode() != tail[:-LENGTH_DIGITS]:
                raise ValueError("its index is not what was written")
        found = json.loads(text)
        self.notes: dict[str, str] = found["notes"]
        self._rows: list[list[Any]] = found["rows"]

    def __len__(self) -> int:
        return len(self._rows)

    def row(self, number: int) -> pa.Table:
        """A table of one row."""
        *_, begin, end, digest = self._rows[number]
        with self._damage(), self.path.open("rb") as file:
            file.seek(begin)
            data = file.read(end - begin)
            if hashlib.sha256(data).hexdigest() != digest:
                raise ValueError(f"row {number} is not what was written")
        return pa.ipc.open_stream(data).read_all()

    def __iter__(self) -> Iterator[pa.Table]:
        """All rows, in order."""
        return map(self.row, range(len(self)))

    def index(self) -> list[RowLocation]:
        """Where each row lies."""
        return [
            RowLocation(clip_id, source, frames, size, self.path, number)
            for number, (clip_id, source, frames, size, *_) in enumerate(self._rows)
        ]

    @contextmanager
    def _damage(self) -> Iterator[None]:
        try:
            yield
        except FileNotFoundError:
            # Another process has merged it into the file of its rank.
            raise
        except (OSError, ValueError) as error:
            raise DamagedRowsError(f"damaged ({one_line(error)})", path=self.path) from error


def quarantine(file: Path) -> None:
    """Give a damaged file of rows another name, so that its videos are labeled again."""
    if file.exists():
        file.replace(file.with_suffix(".damaged"))
