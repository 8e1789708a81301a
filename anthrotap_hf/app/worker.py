"""The one process that does the page's heavy work; a visitor's cancel kills it, and the next job gets a new one."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from typing import Any

from anthrotap_hf.app.jobs import JobError


class CancelledError(Exception):
    """The visitor wants it no more."""


class Worker:
    """Runs one job at a time; who asks while one is at work must wait (the page's queue sees to it)."""

    def __init__(self) -> None:
        self._lock = threading.Lock()  # of the three below, never held while a job runs
        self._process: subprocess.Popen[str] | None = None
        self._owner: str | None = None
        self._cancelled: set[int] = set()

    @property
    def pid(self) -> int | None:
        """Of the process, if there is one."""
        return None if self._process is None else self._process.pid

    @property
    def owner(self) -> str | None:
        """Whose job is at work."""
        return self._owner

    def run(
        self, owner: str, job: dict[str, Any], on_progress: Callable[[str, int, int | None], object]
    ) -> Any:
        """What a job of `anthrotap_hf.app.jobs` gives.

        Args:
            owner: the visitor whose job this is.
            job: `do`, `folder`, and what the job takes.
            on_progress: is told what is done, how much of it so far, and of how much.

        Raises:
            JobError: if it can't be done, in a sentence for the visitor.
            CancelledError: if `cancel` was called meanwhile.
        """
        with self._lock:
            if self._owner is not None:
                self._kill()  # of someone whom nobody waits for any more
            process = self._process = self._process or _start()
            self._owner = owner
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            process.stdin.write(json.dumps(job) + "\n")
            process.stdin.flush()
            for line in process.stdout:
                message = json.loads(line)
                if "progress" in message:
                    on_progress(*message["progress"])
                elif "result" in message:
                    return message["result"]
                else:
                    raise JobError(message["error"])
        except BrokenPipeError:
            pass  # it died before it could read: told below
        finally:
            with self._lock:
                if self._process is process:
                    self._owner = None
        code = process.wait()
        with self._lock:
            if self._process is process:
                self._process = None
        if process.pid in self._cancelled:
            self._cancelled.discard(process.pid)
            raise CancelledError
        raise JobError(
            f"The work ended all at once (code {code}); perhaps memory ran out. A shorter or smaller video needs less."
        )

    def cancel(self, owner: str) -> bool:
        """Ends the visitor's job, if one is at work: nothing of it goes on when this returns."""
        with self._lock:
            if self._owner != owner:
                return False
            self._kill()
            return True

    def close(self) -> None:
        """Ends the process."""
        with self._lock:
            if self._process is not None:
                self._kill()

    def _kill(self) -> None:
        process, self._process, self._owner = self._process, None, None
        if process is None:
            return
        self._cancelled.add(process.pid)
        with contextlib.suppress(ProcessLookupError):  # it has ended by itself
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _start() -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "anthrotap_hf.app.jobs"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
