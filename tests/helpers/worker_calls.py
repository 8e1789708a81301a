"""Calls for worker processes, in a module that is quickly imported there."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

from anthrotap_hf.utils.errors import AnthroTapError
from anthrotap_hf.utils.workers import WorkerPool, report_progress


def process_number(*_: object) -> int:
    return os.getpid()


def negate(number: int) -> int:
    """End the process at 3."""
    if number == 3:
        os.kill(os.getpid(), signal.SIGSEGV)
    return -number


def count_to(number: int) -> str:
    for done in range(number):
        report_progress("counting", done)
    print("what libraries print")
    return "done"


def sleep(seconds: float = 1000) -> None:
    report_progress("asleep")
    time.sleep(seconds)


def touch_forever(path: Path) -> None:
    """Touch a file for as long as the process lives."""
    while True:
        path.write_text(str(os.getpid()))
        time.sleep(0.01)


def hold(num_bytes: int) -> None:
    held = bytearray(num_bytes)
    held[:: 1 << 12] = bytes(len(held[:: 1 << 12]))
    time.sleep(1000)


def leave(code: int) -> None:
    sys.exit(code)


class Unreadable:
    """A result that can be pickled, and not be unpickled."""

    def __reduce__(self) -> tuple[object, ...]:
        return int, ("no number",)


def give_unreadable() -> Unreadable:
    return Unreadable()


def give_unpicklable() -> object:
    return lambda: None


def die_and_leave_a_child() -> None:
    """End the process while one that it forked lives on, with all of its pipes."""
    if os.fork() == 0:
        time.sleep(1000)
    os.kill(os.getpid(), signal.SIGKILL)


def count_in_a_pool(number: int) -> int:
    """Count in a pool without processes, and report its progress."""
    with WorkerPool(0) as pool:
        outcomes = pool.run(count_to, [number], on_progress=lambda task, *values: report_progress(*values))
        return len([outcome.result() for outcome in outcomes])


def fail() -> None:
    raise AnthroTapError("no such clip", path="a.mp4", hint="fetch it again")


class _OddError(Exception):
    def __init__(self, one: int, two: int) -> None:
        super().__init__(f"{one} and {two}")


def fail_oddly() -> None:
    raise _OddError(1, 2)


def remember(path: Path) -> None:
    """A setup: the file gets a line for each process; the first one is killed."""
    first = not path.exists()
    with path.open("a") as file:
        file.write(f"{os.getpid()} {os.environ.get('COLOR')}\n")
    if first:
        os.kill(os.getpid(), signal.SIGKILL)
