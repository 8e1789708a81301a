"""One folder, one writer: a run locks the folder that it writes to, and deletes what killed runs left in it."""

from __future__ import annotations

import fcntl
import os
import shutil
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from anthrotap_hf.utils.atomic_files import sweep
from anthrotap_hf.utils.errors import AnthroTapError, one_line

LOCK = ".anthrotap.lock"


class FolderInUseError(AnthroTapError):
    """Another run writes to the folder."""


@contextmanager
def locked_folder(
    folder: str | os.PathLike[str], *subfolders: str, clean: bool = True, wait: bool = False
) -> Iterator[Path]:
    """Keep other runs out of a folder, of this machine and, if the file system has locks, of others.

    The folder is made if it is absent, and deleted again if nothing was put into it. The system gives the lock back
    when a process ends, however it ends.

    Args:
        folder: where the run writes.
        *subfolders: further folders below it that it writes to.
        clean: whether what killed runs left half-written is deleted, there and in the folder itself.
        wait: whether to wait for another run that is at work there.

    Raises:
        FolderInUseError: another run, of this process or another one, is at work there; not if `wait`.
        OSError: the folder cannot be written to.
    """
    folder = Path(folder)
    is_new = not folder.exists()
    folder.mkdir(parents=True, exist_ok=True)
    with _lock(folder, wait) as file:
        try:
            file.truncate(0)
            file.write(f"process {os.getpid()} on {socket.gethostname()}")
            file.flush()
            for path in (folder, *(folder / name for name in subfolders)) if clean else ():
                sweep(path)
            yield folder
        finally:
            # While it is locked, so that nobody locks a file that is about to go.
            (folder / LOCK).unlink(missing_ok=True)
            if is_new:
                with suppress(OSError):  # it is not empty, or gone
                    folder.rmdir()


@contextmanager
def _lock(folder: Path, wait: bool = False) -> Iterator[IO[str]]:
    path = folder / LOCK
    while True:
        # The run before may have deleted the folder, which it had made.
        folder.mkdir(parents=True, exist_ok=True)
        with open(path, "a+", encoding="utf-8", errors="replace") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                file.seek(0)
                raise FolderInUseError(
                    f"another run is at work here ({one_line(file.read(200)) or 'it just began'})",
                    path=folder,
                    hint="wait for it, stop it, or take another folder",
                ) from error
            # The run before may have deleted the file after it was opened here.
            if _is_same(file, path):
                yield file
                return


def _is_same(file: IO[str], path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False


@contextmanager
def temporary_folder(kind: str) -> Iterator[Path]:
    """Make a folder for temporary files, and delete it at the end; those of killed runs of the same kind, too.

    Args:
        kind: how the folder's name begins.
    """
    home = Path(tempfile.gettempdir())
    for old in home.glob(f"{kind}-*"):
        _delete_abandoned(old)
    root = Path(tempfile.mkdtemp(prefix=f"{kind}-"))
    with _lock(root):
        try:
            yield root
        finally:
            _delete(root)


def _delete_abandoned(folder: Path) -> None:
    """Delete a temporary folder of this user that no run has locked."""
    # Another run deletes it at the same time, or it is somebody else's.
    with suppress(OSError, FolderInUseError):
        if folder.is_symlink() or folder.stat().st_uid != os.getuid() or not (folder / LOCK).exists():
            return
        with _lock(folder):
            _delete(folder)


def _delete(folder: Path) -> None:
    """Delete a locked folder: its lock last, so that a later run finds what is left if this one is killed now."""
    for path in folder.iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        elif path.name != LOCK:
            path.unlink(missing_ok=True)
    shutil.rmtree(folder, ignore_errors=True)
