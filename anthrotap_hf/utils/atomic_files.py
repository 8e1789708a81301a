"""Files and folders that exist whole or not at all."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import socket
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

# What `beside` names: a process, its mark, a random number, a state and the name that the path is to have.
# Earlier releases gave no mark.
_BESIDE = re.compile(
    r"\.(?P<pid>\d+)-((?P<mark>[0-9a-f]{8})-)?[0-9a-f]{8}-(?P<state>incomplete|before)-(?P<name>.+)", re.DOTALL
)
# What earlier releases left.
_OF_OLD_RELEASES = re.compile(r"\.label-\w{8}|\..+\.\d+\.incomplete", re.DOTALL)


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


def write_json(path: str | os.PathLike[str], value: Any) -> None:
    """Write a value as JSON that people can read, atomically."""
    with atomic_write(path) as tmp_path:
        tmp_path.write_text(json.dumps(value, indent=1), encoding="utf-8")


@contextmanager
def atomic_dir(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a folder beside `path` to write to, as `atomic_write` does for files; it replaces an old folder."""
    path = Path(path).resolve()
    path.parent.mkdir(parents=True, exist_ok=True)
    tmp_path = beside(path, "incomplete")
    tmp_path.mkdir()
    try:
        yield tmp_path
        replace_dir(tmp_path, path)
    finally:
        shutil.rmtree(tmp_path, ignore_errors=True)


def replace_dir(new: Path, path: Path) -> None:
    """Give a folder another name of the same file system; a folder that has it is deleted, unless this fails."""
    old = beside(path, "before")
    try:
        if path.exists():
            path.rename(old)
        new.rename(path)
    finally:
        # Also where Ctrl-C comes between the two renames.
        if old.exists() and not path.exists():
            old.rename(path)
        shutil.rmtree(old, ignore_errors=True)


def sweep(folder: Path) -> None:
    """Delete what runs that were killed left half-written in a folder; what they had moved away comes back.

    What a process of this host still writes stays: not every command locks the folder that it writes to. No run of
    another host may be at work there: `locked_folder` sees to that.
    """
    for path in folder.iterdir() if folder.is_dir() else ():
        match = _BESIDE.fullmatch(path.name)
        if match is None and not _OF_OLD_RELEASES.fullmatch(path.name):
            continue
        if match and match["mark"] and match["mark"] == _mark_of(int(match["pid"])):
            continue
        if match and match["state"] == "before" and not (folder / match["name"]).exists():
            # Killed between two renames.
            path.rename(folder / match["name"])
        elif path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def file_sha256(path: str | os.PathLike[str]) -> str:
    """Return the SHA-256 of a file's bytes, 64 hexadecimal digits; of a folder, that of the names and bytes of files
    right in it."""
    if not os.path.isdir(path):
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    digest = hashlib.sha256()
    for entry in sorted(Path(path).iterdir()):
        if entry.is_file():
            digest.update(f"{entry.name}\0{file_sha256(entry)}\n".encode(errors="surrogateescape"))
    return digest.hexdigest()


def file_change(path: Path, sha256: str | None) -> str | None:
    """Return what has become of a file since it had this SHA-256 (None: it is not known); None for nothing."""
    try:
        return "changed" if sha256 and file_sha256(path) != sha256 else None if path.exists() else "vanished"
    except OSError:
        return "vanished"


def beside(path: Path, state: str) -> Path:
    """Return a hidden path in the same folder, with the same suffix, that no process of any machine uses.

    `sweep` deletes it in a later run if this one is killed.
    """
    pid = os.getpid()
    return path.with_name(f".{pid}-{_mark_of(pid)}-{uuid.uuid4().hex[:8]}-{state}-{path.name}")


def _mark_of(pid: int) -> str | None:
    """Return what tells a living process from those of other hosts, and of other times, with its number: 8 digits.

    Numbers are given again, in a container often the same ones. None if no process lives that has it.
    """
    try:
        os.kill(pid, 0)
    except PermissionError:
        pass  # it is another user's
    except (ProcessLookupError, OverflowError):
        return None
    started = ""
    if os.path.isdir("/proc/self"):
        try:
            # Behind the program's name in parentheses: the state first, the time of the start as the twentieth.
            fields = Path(f"/proc/{pid}/stat").read_text("utf-8", errors="replace").rpartition(")")[2].split()
        except OSError:
            return None
        if fields[0] == "Z":  # it ended
            return None
        started = fields[19]
    return hashlib.sha256(f"{socket.gethostname()} {pid} {started}".encode()).hexdigest()[:8]
