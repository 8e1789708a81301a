"""Files and folders that are there whole or not at all."""

from __future__ import annotations

import hashlib
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def atomic_write(path: str | os.PathLike[str]) -> Iterator[Path]:
    """A place beside `path` to write a file to: it gets its name at the end, and is gone if that is never reached.

    Whoever looks meanwhile, another process or a later run, sees the old file or the new one.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    tmp_path = beside(path, "incomplete")
    try:
        yield tmp_path
        tmp_path.replace(path)
    finally:
        tmp_path.unlink(missing_ok=True)


@contextmanager
def atomic_dir(path: str | os.PathLike[str]) -> Iterator[Path]:
    """A folder beside `path` to write to, as `atomic_write` for files; what was in `path` before is gone then."""
    path = Path(path).resolve()
    path.parent.mkdir(parents=True, exist_ok=True)
    tmp_path = beside(path, "incomplete")
    before = beside(path, "before")
    tmp_path.mkdir()
    try:
        yield tmp_path
        if path.exists():
            path.rename(before)
        try:
            tmp_path.rename(path)
        except OSError:
            if before.exists():
                before.rename(path)
            raise
    finally:
        for folder in (tmp_path, before):
            shutil.rmtree(folder, ignore_errors=True)


def file_sha256(path: str | os.PathLike[str]) -> str:
    """The SHA-256 of a file's bytes, 64 hexadecimal digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def beside(path: Path, state: str) -> Path:
    """A hidden name in the same folder that no other process uses, of this machine or another; the suffix stays."""
    return path.with_name(f".{os.getpid()}-{uuid.uuid4().hex[:8]}-{state}-{path.name}")
