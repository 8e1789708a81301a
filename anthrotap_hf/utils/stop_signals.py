"""How a run is stopped: SIGTERM and a closed terminal do as Ctrl-C does, and a second one of them ends it at once."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import NoReturn

SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))
EXIT_CODE = 130
# Seconds that a run gets to end in good order.
PATIENCE = 10.0

_AT_ONCE = b"stopped at once; the next run deletes what is half-written\n"
_LATER = b"stopping after the work at hand; another signal ends it at once\n"


class _Stop:
    """Whether a signal came, and whether it must wait."""

    def __init__(self) -> None:
        self.asked = False
        self.is_pending = False
        # Blocks that hold signals, and those among them that are long.
        self.held = 0
        self.long = 0
        # Whether a second signal came in a short block within a long one.
        self.ends_after_short = False

    @property
    def only_long(self) -> bool:
        """Whether all blocks that hold signals are long."""
        return self.held > 0 and self.held == self.long


_stop = _Stop()


@contextmanager
def stopped_by_signals() -> Iterator[None]:
    """Let SIGTERM and SIGHUP raise KeyboardInterrupt in the main thread, as Ctrl-C does.

    A second signal ends the process at once with exit code 130, and so do PATIENCE seconds after the first: what it
    leaves is no worse than after `kill -9`. Signals that are ignored stay so (`nohup`, jobs in the background).
    Elsewhere than in the main thread, nothing is changed.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    owner = os.getpid()

    def on_signal(number: int, _: object) -> None:
        if os.getpid() != owner:
            # A process that was forked: it does as it would without this.
            signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
            os.kill(os.getpid(), number)
        elif _stop.asked or (_stop.is_pending and _stop.only_long):
            _end_at_once()
        elif _stop.held:
            if _stop.long and not _stop.is_pending:
                _say(_LATER)
            elif _stop.long:
                _stop.ends_after_short = True
            _stop.is_pending = True
        else:
            _raise()

    before = {number: signal.getsignal(number) for number in SIGNALS}
    for number, handler in before.items():
        if handler is not signal.SIG_IGN:
            signal.signal(number, on_signal)
    try:
        yield
    finally:
        # A run that was stopped is about to end: another signal may still come.
        for number, handler in before.items() if not _stop.asked else ():
            # None: it was not set by Python, which cannot set it back.
            if handler is not None:
                signal.signal(number, handler)


def leave_stopping_to_parent() -> None:
    """Let a process that works for another one ignore signals that reach all processes of a run.

    These are Ctrl-C, a closed terminal, and one SIGTERM, as systemd, Slurm and `kill -TERM -PGID` send it. The other
    process is to end in good order first, and needs what this one makes. It may end this one by SIGTERM. A second
    SIGTERM of others ends it too, and so does the first one if the other process lives no more. May be called
    repeatedly.

    Where Python cannot tell who sent a signal (macOS, Windows), SIGTERM is left as it is.
    """
    for name in ("SIGINT", "SIGHUP"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    if hasattr(signal, "sigwaitinfo") and signal.SIGTERM not in signal.pthread_sigmask(signal.SIG_BLOCK, ()):
        # A signal that all threads block comes to the one that waits for it, with its sender.
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        threading.Thread(target=_end_by_parent, args=(os.getppid(),), daemon=True).start()


def _end_by_parent(parent: int) -> NoReturn:
    """Wait until the parent ends this process by SIGTERM, or others do so twice."""
    for _ in range(2):
        sender = signal.sigwaitinfo({signal.SIGTERM}).si_pid
        if sender == parent or os.getppid() != parent:
            break
    os._exit(EXIT_CODE)


def keep_exit_code() -> None:
    """End a process that was stopped, with exit code 130, and let others end by themselves: for `atexit`, called last.

    Python would end the former by SIGINT if KeyboardInterrupt had come within `exec`, as of dataclasses, though it was
    handled. The latter have done their work: a signal is ignored, as Python, which gives it back to the system while
    it deletes modules, would end with the signal's exit code.
    """
    if _stop.asked:
        for stream in (sys.stdout, sys.stderr):
            # Whoever read it may be gone.
            with suppress(OSError, ValueError):
                stream.flush()
        os._exit(EXIT_CODE)
    if threading.current_thread() is threading.main_thread():
        for number in SIGNALS:
            signal.signal(number, signal.SIG_IGN)


@contextmanager
def uninterrupted(long: bool = False) -> Iterator[Callable[[], bool]]:
    """Let signals of `stopped_by_signals` wait until the block ends: for work that must not be half done.

    Args:
        long: the block may last: it must ask whether a signal waits, and end then. The first signal is answered by a
            line on the error stream, a second one ends the process.

    Yields:
        A function that says whether a signal waits.
    """
    if threading.current_thread() is not threading.main_thread():
        yield lambda: False
        return
    _stop.held += 1
    _stop.long += long
    is_due = False
    try:
        yield lambda: _stop.is_pending
    finally:
        _stop.held -= 1
        _stop.long -= long
        if _stop.ends_after_short and _stop.only_long:
            _end_at_once()
        if not _stop.held:
            is_due = _stop.is_pending
            _stop.is_pending = _stop.ends_after_short = False
    # An error of the block is not hidden: the signal is done with, and later blocks do not see it.
    if is_due and not _stop.asked:
        _raise()


def _raise() -> None:
    _stop.asked = True
    threading.Thread(target=_end, daemon=True).start()
    raise KeyboardInterrupt


def _end() -> None:
    time.sleep(PATIENCE)
    _end_at_once()


def _end_at_once() -> NoReturn:
    _say(_AT_ONCE)
    os._exit(EXIT_CODE)


def _say(line: bytes) -> None:
    # The terminal may be closed.
    with suppress(OSError):
        os.write(2, line)
