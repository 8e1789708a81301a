"""Files and folders that exist whole or not at all."""

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
    """Yield a path beside `path` to write a file to. It gets its name at the end, or is deleted after an error.

    Other processes and later runs find the old file or the new one, never a part.
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
    """Yield a folder beside `path` to write to, as `atomic_write` does for files; it replaces an old folder."""
    path = Path(path).resolve()
    path.parent.mkdir(parents=True, exist_ok=True)
    tmp_path, old = beside(path, "incomplete"), beside(path, "before")
    tmp_path.mkdir()
    try:
        yield tmp_path
        if path.exists():
            path.rename(old)
        try:
            tmp_path.rename(path)
        except OSError:
            if old.exists():
                old.rename(path)
            raise
    finally:
        for folder in (tmp_path, old):
            shutil.rmtree(folder, ignore_errors=True)


def file_sha256(path: str | os.PathLike[str]) -> str:
    """Return the SHA-256 of a file's bytes, 64 hexadecimal digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def beside(path: Path, state: str) -> Path:
    """Return a hidden path in the same folder, with the same suffix, that no process of any machine uses."""
    return path.with_name(f".{os.getpid()}-{uuid.uuid4().hex[:8]}-{state}-{path.name}")
