"""One folder, one writer; what runs leave that are killed is deleted by the next one."""

from __future__ import annotations

import subprocess
import sys
import tempfile

import pytest

from anthrotap_hf.utils.atomic_files import atomic_dir, atomic_write, sweep
from anthrotap_hf.utils.folder_lock import LOCK, FolderInUseError, locked_folder, temporary_folder

KILLED = """
import os, signal, sys
from pathlib import Path
from anthrotap_hf.utils.folder_lock import locked_folder, temporary_folder
with locked_folder(sys.argv[1]), temporary_folder("anthrotap-test") as folder:
    (folder / "video.mp4").write_text("of a visitor")
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_folder_has_one_writer_at_a_time(tmp_path):
    folder = tmp_path / "a/b"
    with locked_folder(folder):
        with pytest.raises(FolderInUseError, match="another run is at work here") as caught, locked_folder(folder):
            pass
        assert caught.value.path == str(folder)
        assert (folder / LOCK).exists()
    assert not folder.exists()
    with locked_folder(folder):
        (folder / "result").write_text("")
    assert [path.name for path in folder.iterdir()] == ["result"]


def test_a_killed_run_locks_nothing_and_leaves_nothing_after_the_next(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    environment = {"TMPDIR": str(tmp_path), "PYTHONPATH": ":".join(sys.path)}
    subprocess.run([sys.executable, "-c", KILLED, str(tmp_path / "out")], check=False, env=environment)
    (left,) = tmp_path.glob("anthrotap-test-*")
    assert (left / "video.mp4").exists()
    with locked_folder(tmp_path / "out"), temporary_folder("anthrotap-test") as own:
        assert [*tmp_path.glob("anthrotap-test-*")] == [own]
        with temporary_folder("anthrotap-test") as other:
            assert {*tmp_path.glob("anthrotap-test-*")} == {own, other}
    assert not [*tmp_path.glob("anthrotap-test-*")]


def test_what_was_moved_away_comes_back(tmp_path):
    (tmp_path / ".1-01234567-before-data").mkdir()
    (tmp_path / ".1-01234567-before-data/shard").write_text("rows")
    (tmp_path / ".1-01234567-incomplete-data").mkdir()
    sweep(tmp_path)
    assert [path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*")] == ["data", "data/shard"]


def test_what_a_living_command_writes_stays(tmp_path):
    with atomic_write(tmp_path / "points.csv") as path:
        path.write_text("x")
        pid, mark, rest = path.name.split("-", 2)
        # Of another host or an earlier process with this number, of an earlier release, and of a process that ended.
        process = subprocess.Popen([sys.executable, "-c", ""])
        process.wait()
        for name in (f"{pid}-{int(mark, 16) ^ 1:08x}-{rest}", f"{pid}-{rest}", f".{process.pid}-{mark}-{rest}"):
            (tmp_path / name).write_text("old")
        with locked_folder(tmp_path):
            assert {file.name for file in tmp_path.iterdir()} == {path.name, LOCK}
    assert (tmp_path / "points.csv").read_text() == "x"


def test_a_folder_that_is_interrupted_between_two_renames_stays(tmp_path, monkeypatch):
    (tmp_path / "model").mkdir()
    (tmp_path / "model/weights").write_text("old")
    rename = type(tmp_path).rename

    def interrupted(path, target):
        if "incomplete" in path.name:
            raise KeyboardInterrupt
        return rename(path, target)

    monkeypatch.setattr(type(tmp_path), "rename", interrupted)
    with pytest.raises(KeyboardInterrupt), atomic_dir(tmp_path / "model"):
        pass
    assert (tmp_path / "model/weights").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["model"]
