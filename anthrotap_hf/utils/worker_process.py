"""The inside of a worker process (see `workers.py`): it does calls as they come in, and answers."""

from __future__ import annotations

import contextlib
import ctypes
import os
import pickle
import queue
import signal
import struct
import sys
import threading
import traceback
from collections.abc import Callable
from contextvars import ContextVar
from typing import IO, Any, cast

PR_SET_PDEATHSIG = 1  # of linux/prctl.h
HEADER = struct.Struct("<Q")


class WorkerError(RuntimeError):
    """A call gave no result for a reason that lies in its process."""


class RemoteError(WorkerError):
    """An exception of the child that cannot be pickled; the message has its type and text."""


_answers: IO[bytes] | None = None
_answers_lock = threading.Lock()


in_process: ContextVar[Callable[..., object] | None] = ContextVar("in_process", default=None)
"""The `on_progress` of a pool without processes, while it calls a function."""


def report_progress(*values: Any) -> None:
    """Tell who waits for this call how far it is: their `on_progress` is called with these values.

    Does nothing elsewhere, as in threads that the function starts: they take a `progress_reporter` with them.
    """
    progress_reporter()(*values)


def progress_reporter() -> Callable[..., object]:
    """`report_progress` for any thread."""
    if reporter := in_process.get():
        return reporter
    if _answers is not None:
        return lambda *values: _answer("progress", values)
    return ignore_progress


def ignore_progress(*_: Any) -> None:
    """Report progress to nothing: the default outside worker processes."""


def _answer(kind: str, content: Any) -> None:
    data = pickle.dumps((kind, content))
    with _answers_lock:
        send(cast(IO[bytes], _answers), data)


def serve(parent: int) -> None:
    """Do the calls that come in on standard input, one after the other, until there are no more."""
    global _answers
    end_with_parent(parent)
    _answers = os.fdopen(os.dup(1), "wb", buffering=0)
    # What libraries print is no answer.
    os.dup2(2, 1)
    # Calls come in on a descriptor of their own, which nothing that a call starts inherits. It is unbuffered: when the
    # process ends, Python would wait for the lock of a buffer that a thread is reading.
    incoming = os.fdopen(os.dup(0), "rb", buffering=0)
    with open(os.devnull, "rb") as nothing:
        os.dup2(nothing.fileno(), 0)
    calls: queue.SimpleQueue[tuple[Callable[..., Any], tuple[Any, ...]] | Exception] = queue.SimpleQueue()
    at_work = threading.Event()

    def listen() -> None:
        while True:
            try:
                call = receive(incoming)
            except EOFError:
                # Nobody waits any more. An idle process cleans up after itself, a busy one just ends.
                if at_work.is_set():
                    os._exit(1)
                calls.put(EOFError())
                return
            except Exception as error:  # noqa: BLE001  a function that cannot be imported here
                calls.put(error)
            else:
                at_work.set()
                calls.put(call)

    threading.Thread(target=listen, daemon=True).start()
    while True:
        call = calls.get()
        if isinstance(call, EOFError):
            return
        try:
            if isinstance(call, Exception):
                raise call
            function, args = call
            answer = ("result", function(*args))
        except SystemExit as error:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(error.code if isinstance(error.code, int) else int(error.code is not None))
        except Exception as error:  # noqa: BLE001  raised in the parent
            answer = ("error", (_portable(error), "".join(traceback.format_exception(error))))
        # Before the answer: the next call may come in right after it.
        at_work.clear()
        try:
            _answer(*answer)
        except OSError:
            raise
        except Exception as error:  # noqa: BLE001  a result that cannot be pickled
            _answer("error", (_portable(error), "a result that cannot be sent"))


def _portable(error: BaseException) -> Exception:
    """The exception as it can be sent to the parent."""
    # Exceptions of native libraries pickle in all sorts of ways.
    with contextlib.suppress(Exception):
        same = pickle.loads(pickle.dumps(error))  # noqa: S301
        if isinstance(same, Exception) and str(same) == str(error):
            return same
    return RemoteError(f"{type(error).__name__}: {' '.join(str(error).split())}")


def send(pipe: IO[bytes], data: bytes) -> None:
    """Write one message: its length, then its bytes."""
    view = memoryview(HEADER.pack(len(data)) + data)
    while view:
        view = view[pipe.write(view) :]
    pipe.flush()


def receive(pipe: IO[bytes]) -> Any:
    """Read one message and unpickle it. Raises EOFError at the end of the pipe, or in the middle of a message.

    A message that cannot be unpickled raises what pickle raises; the next one can be read then.
    """
    (length,) = HEADER.unpack(_read_exactly(pipe, HEADER.size))
    data = _read_exactly(pipe, length)
    try:
        return pickle.loads(data)  # noqa: S301  of our own process
    except EOFError as error:
        raise pickle.UnpicklingError("a message is cut short") from error


def _read_exactly(pipe: IO[bytes], length: int) -> bytes:
    data = bytearray()
    # An unbuffered pipe gives less at a time than asked for.
    while len(data) < length:
        part = pipe.read(length - len(data))
        if not part:
            raise EOFError
        data += part
    return bytes(data)


def end_with_parent(parent: int) -> None:
    """End this process when its parent does, so that no orphan works on.

    Args:
        parent: the process number of the parent, which hands it over: it may have ended before this is called.
    """
    if sys.platform.startswith("linux"):
        # At once, even while native code runs.
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)
