"""Where a build's videos come from: files, folders, lists, addresses, and Parquet tables with a column of videos."""

from __future__ import annotations

import functools
import glob
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import unquote, urlsplit

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq

from anthrotap_builder.distributed.public_addresses import (
    WEB,
    PrivateAddressError,
    public_client,
    storage_options,
    without_secrets,
)
from anthrotap_builder.utils.video_paths import find_videos
from anthrotap_hf.utils.dataset_cards import check_dataset_card
from anthrotap_hf.utils.errors import AnthroTapError, one_line
from anthrotap_hf.video import VIDEO_SUFFIXES

LIST = ".txt"
TABLE = ".parquet"


class SourceError(AnthroTapError):
    """A video cannot be fetched."""


@dataclass(frozen=True)
class Source:
    """One video, wherever it is.

    Attributes:
        address: a path, absolute, or an address that fsspec opens.
        row, column: the cell, if the address is a Parquet file.
        size, changed: bytes, and the time of the last change or another mark of it; None where unknown.
    """

    address: str
    row: int | None = None
    column: str | None = None
    size: int | None = None
    changed: str | None = None

    @property
    def key(self) -> str:
        """Text that changes when the video does, as far as its size and time of change show."""
        parts = (self.address, self.row, self.column, self.size, self.changed)
        return "|".join("" if part is None else str(part) for part in parts)

    @property
    def display_name(self) -> str:
        """How messages name it."""
        address = without_secrets(_readable(self.address))
        return address if self.row is None else f"{address} (row {self.row})"

    @property
    def name(self) -> str:
        """The file's name: nothing of its folder, or of what stands behind an address."""
        path = self.address
        if "://" in path:
            path = unquote(re.split(r"[?#]", path.split("::")[0].rpartition("://")[2])[0])
        name = _readable(PurePosixPath(path).name)
        return name if self.row is None else f"{PurePosixPath(name).stem}-{self.row:06d}"


def find_sources(
    inputs: list[str], column: str = "video", split: str | None = None, allow_private: bool = False
) -> list[Source]:
    """The videos of all inputs, each once, in order of their addresses.

    An input is a video, a folder of videos, a text file with one input a line, an address for fsspec (`s3://...`,
    `https://...`, `hf://...`; with a pattern or a "/" at the end, many), a Parquet file with a column of videos, or a
    dataset that `datasets` can load: a folder or a Hub id. What an address without size and time stands for is taken
    never to change.

    Args:
        inputs: as above.
        column: of the videos in Parquet files.
        split: only this one of datasets.
        allow_private: whether addresses of this machine and its network are read.

    Raises:
        FileNotFoundError, ValueError: for an input that gives no video; the message is one line.
    """
    found: dict[Source, None] = {}
    for text in inputs:
        found |= dict.fromkeys(_sources(text, column, split, allow_private))
    return sorted(found, key=lambda source: (source.address, source.row or 0))


@contextmanager
def fetched(source: Source, folder: Path, limit: int, allow_private: bool = False) -> Iterator[tuple[Path, str]]:
    """The video as a file of this machine, for as long as the block lasts, and its name.

    Args:
        source: what to fetch.
        folder: for a copy, where one is needed.
        limit: bytes of the copy, at most.
        allow_private: whether it may come from this machine or its network.

    Raises:
        SourceError: if it can't be fetched.
    """
    if source.row is None and "://" not in source.address:
        path = Path(source.address)
        if _readable(source.address) == source.address:
            yield path, source.name
            return
        # Libraries open no names that are no Unicode.
        link = folder / f"video{path.suffix}"
        link.symlink_to(path)
        try:
            yield link, source.name
        finally:
            link.unlink()
        return
    name = source.name
    copy = folder / f"video{PurePosixPath(name).suffix or '.mp4'}"
    try:
        try:
            if source.row is None:
                _download(source.address, copy, limit, allow_private)
            else:
                name = _fetch_cell(source, copy, limit, allow_private) or name
        except Exception as error:  # each file system raises its own
            raise SourceError(f"can't be fetched ({_reason(error)})", path=source.display_name) from error
        yield copy, name
    finally:
        copy.unlink(missing_ok=True)


def _sources(text: str, column: str, split: str | None, allow_private: bool, listed: bool = False) -> Iterator[Source]:
    if "://" in text:
        yield from _at_address(text, column, split, allow_private)
        return
    path = Path(text).expanduser()
    suffix = path.suffix.lower()
    # A name that is too long for the file system is no file's: pathlib raises for it.
    is_file = os.path.isfile(path)
    if os.path.isdir(path):
        has_videos = any(file.suffix.lower() in VIDEO_SUFFIXES for file in path.rglob("*"))
        if not has_videos and any(path.rglob(f"*{TABLE}")):
            yield from _of_dataset(os.fspath(path), column, split, allow_private)
            return
        yield from map(_local, find_videos([path]))
    elif suffix == LIST and is_file:
        for line in _read_list(path):
            address = line if "://" in line else os.path.join(path.parent, line)
            yield from _sources(address, column, split, allow_private, listed=True)
    elif suffix == TABLE and is_file:
        yield from _rows_of(os.path.abspath(path), column, allow_private)
    elif is_file:
        yield _local(path)
    elif matches := sorted(glob.glob(os.path.expanduser(text), recursive=True)):
        for match in matches:
            yield from _sources(match, column, split, allow_private)
    elif listed and suffix in VIDEO_SUFFIXES and "*" not in text:
        # Gone since the list was made: reported with the videos that fail.
        yield Source(os.path.abspath(path))
    elif text.count("/") == 1 and not suffix and not path.is_absolute() and not os.path.exists(path.parent):
        yield from _of_dataset(text, column, split, allow_private)
    else:
        raise FileNotFoundError(f"{text}: no such file, folder or dataset")


def _read_list(path: Path) -> list[str]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: not UTF-8; save the list as UTF-8") from error
    lines = [line.strip() for line in text.splitlines()]
    lines = [line for line in lines if line and not line.startswith("#")]
    if not lines:
        raise ValueError(f"{path}: the list is empty")
    for line in lines:
        if Path(line).suffix.lower() == LIST:
            raise ValueError(f"{path}: names another list, {line}; name both on the command line")
    return lines


def _local(path: Path) -> Source:
    # Of a folder of pictures, that of all of them.
    states = [file.stat() for file in (path.iterdir() if path.is_dir() else [path])]
    size, changed = sum(state.st_size for state in states), max(state.st_mtime_ns for state in states)
    return Source(os.path.abspath(path), size=size, changed=str(changed))


def _at_address(text: str, column: str, split: str | None, allow_private: bool) -> Iterator[Source]:
    protocol, _, rest = text.partition("://")
    if protocol == "hf" and rest.startswith("datasets/") and rest.strip("/").count("/") == 2:
        yield from _of_dataset(rest.removeprefix("datasets/").strip("/"), column, split, allow_private)
        return
    # A "?" begins a query.
    if not text.endswith("/") and "*" not in rest:
        yield from _rows_of(text, column, allow_private) if text.endswith(TABLE) else [Source(text)]
        return
    pattern = f"{text}**" if text.endswith("/") else text
    try:
        system, path = fsspec.core.url_to_fs(pattern, **storage_options(pattern, allow_private))
        found = system.glob(path, detail=True)
    except Exception as error:  # each file system raises its own
        raise ValueError(f"{without_secrets(text)}: can't be listed ({_reason(error)})") from error
    files = {system.unstrip_protocol(name): info for name, info in found.items() if info.get("type") == "file"}
    videos = {name: info for name, info in files.items() if _suffix(name) in VIDEO_SUFFIXES}
    tables = [name for name in files if _suffix(name) == TABLE]
    if not videos and not tables:
        raise FileNotFoundError(f"{without_secrets(text)}: no video there ({', '.join(sorted(VIDEO_SUFFIXES))})")
    for name, info in videos.items():
        yield Source(name, size=info.get("size"), changed=_mark(info))
    if not videos:
        for name in tables:
            yield from _rows_of(name, column, allow_private)


def _of_dataset(name: str, column: str, split: str | None, allow_private: bool) -> Iterator[Source]:
    """The files behind a dataset, as `datasets` finds them: by splits and configurations of its card.

    Cards come from strangers: they may name files of the dataset only.
    """
    import datasets

    # The library looks up what a card names before it returns, and partly by connections of its own.
    if not allow_private:
        check_dataset_card(name)
    options = {} if allow_private else {protocol: {"get_client": public_client} for protocol in WEB}
    try:
        files = datasets.load_dataset_builder(name, storage_options=options).config.data_files or {}
    except Exception as error:  # hub, network, card
        raise ValueError(f"{name}: not a dataset that can be loaded ({_reason(error)})") from error
    if split is not None and split not in files:
        raise ValueError(f"{name}: no split {split!r}; it has {', '.join(map(str, files))}")
    chosen = [file for key, names in files.items() if split in (None, str(key)) for file in names]
    for file in chosen:
        if not _is_of_dataset(file, name):
            raise ValueError(
                f"{name}: its card names {without_secrets(file)}, which is no file of the dataset; "
                "name that file as an input to read it"
            )
    for file in chosen:
        if _suffix(file) == TABLE:
            yield from _rows_of(file, column, allow_private)
        elif _suffix(file) in VIDEO_SUFFIXES:
            yield Source(file) if "://" in file else _local(Path(file))
    if not any(_suffix(file) in {TABLE, *VIDEO_SUFFIXES} for file in chosen):
        raise ValueError(f"{name}: neither Parquet nor video files; save it with a column of videos as Parquet")


def _is_of_dataset(file: str, name: str) -> bool:
    if os.path.isdir(name):
        return "://" not in file and Path(os.path.abspath(file)).is_relative_to(os.path.abspath(name))
    return "::" not in file and file.startswith((f"hf://datasets/{name}@", f"hf://datasets/{name}/"))


def _rows_of(address: str, column: str, allow_private: bool) -> Iterator[Source]:
    try:
        system, path = fsspec.core.url_to_fs(address, **storage_options(address, allow_private))
        info = system.info(path)
        with system.open(path, "rb") as file:
            table = pq.ParquetFile(file)
            names, rows = table.schema_arrow.names, table.metadata.num_rows
    except Exception as error:  # each file system raises its own
        raise ValueError(
            f"{without_secrets(address)}: not a Parquet file that can be read ({_reason(error)})"
        ) from error
    if column not in names:
        raise ValueError(f"{without_secrets(address)}: no column {column!r}; --column names one of {', '.join(names)}")
    for row in range(rows):
        yield Source(address, row, column, info.get("size"), _mark(info))


def _download(address: str, copy: Path, limit: int, allow_private: bool) -> None:
    with fsspec.open(address, "rb", **storage_options(address, allow_private)) as remote, copy.open("wb") as local:
        while data := remote.read(1 << 20):
            if local.tell() + len(data) > limit:
                raise SourceError(f"more than the download limit of {limit / 2**30:g} GB")
            local.write(data)


def _fetch_cell(source: Source, copy: Path, limit: int, allow_private: bool) -> str | None:
    """Writes the video of one cell to `copy`; its own name, if it has one."""
    cell = _cell(source, allow_private)
    if isinstance(cell, dict):
        data, path = cell.get("bytes"), cell.get("path")
    else:
        data, path = (None, cell) if isinstance(cell, str) else (cell, None)
    if data is not None:
        copy.write_bytes(data)
    elif path:
        # Tables come from strangers: they may not name other files of this machine, or of its network.
        if "://" in path or "::" in path or os.path.isabs(path) or ".." in PurePosixPath(path).parts:
            raise SourceError(f"the cell names {path!r}: only files below the table's folder are read")
        _download(f"{os.path.dirname(source.address)}/{path}", copy, limit, allow_private)
    else:
        raise SourceError("the cell is empty")
    return _readable(PurePosixPath(path).name) if path else None


def _cell(source: Source, allow_private: bool) -> Any:
    assert source.row is not None
    assert source.column is not None
    first, group = 0, 0
    sizes = _group_sizes(source.address, allow_private)
    while source.row >= first + sizes[group]:
        first, group = first + sizes[group], group + 1
    column = _group(source.address, group, source.column, allow_private)
    return column[source.row - first].as_py()


@functools.lru_cache(maxsize=4)
def _group_sizes(address: str, allow_private: bool) -> tuple[int, ...]:
    with fsspec.open(address, "rb", **storage_options(address, allow_private)) as file:
        metadata = pq.ParquetFile(file).metadata
        return tuple(metadata.row_group(index).num_rows for index in range(metadata.num_row_groups))


@functools.lru_cache(maxsize=1)  # a rank's rows are neighbors
def _group(address: str, group: int, column: str, allow_private: bool) -> pa.ChunkedArray:
    with fsspec.open(address, "rb", **storage_options(address, allow_private)) as file:
        return pq.ParquetFile(file).read_row_group(group, columns=[column]).column(0)


def _readable(name: str) -> str:
    """Names of files may be no Unicode."""
    return name.encode(errors="replace").decode()


def _suffix(name: str) -> str:
    return PurePosixPath(urlsplit(name).path).suffix.lower()


def _mark(info: dict[str, Any]) -> str | None:
    marks = (info.get(name) for name in ("ETag", "etag", "mtime", "LastModified", "last_modified", "updated"))
    mark = next((mark for mark in marks if mark), None)
    return None if mark is None else str(mark)


def _reason(error: BaseException) -> str:
    inner: BaseException | None = error
    while inner is not None and not isinstance(inner, PrivateAddressError):
        inner = inner.__cause__ or inner.__context__
    error = inner or error
    # Libraries quote addresses, with passwords and signatures.
    text = re.sub(r"[a-z0-9+]+://[^\s'\"<>)\]]+", lambda match: without_secrets(match[0]), str(error))
    return one_line(text, 1000) or type(error).__name__
