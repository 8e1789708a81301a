"""Run work in a child process that may crash, hang or eat memory, and go on without it.

`Worker` is one child process that does one call after the other. `WorkerPool` divides tasks among several. Both
start a process when it is first needed, and a new one when it is gone; the processes end with the one that started
them, also where that is killed.

    def count(path: str) -> int:
        for done in range(100):
            report_progress("rows", done, 100)
        ...

    with Worker("counting") as worker:
        worker.run(count, "a.parquet", timeout=60, memory_limit=2 << 30, on_progress=print)

    with WorkerPool(4, "counting") as pool:
        for outcome in pool.run(count, paths):
            outcome.task, outcome.value, outcome.error

Functions, arguments and results are pickled, and a function by its name, so it must be importable (not of `__main__`).

Why not a library: `concurrent.futures` gives up all tasks when one process dies; pebble 5.2 breaks when a process is
killed while it waits or as it starts ("All workers expired"), tells no progress, and has no limit on memory.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import IO, Any, Generic, Self, TypeVar, cast

from anthrotap_hf.utils.worker_process import (
    RemoteError,
    WorkerError,
    ignore_progress,
    in_process,
    progress_reporter,
    receive,
    report_progress,
    send,
)

__all__ = [
    "LimitExceededError",
    "Outcome",
    "RemoteError",
    "Worker",
    "WorkerCancelledError",
    "WorkerDiedError",
    "WorkerError",
    "WorkerPool",
    "progress_reporter",
    "report_progress",
]

T = TypeVar("T")
R = TypeVar("R")
OnProgress = Callable[..., object]
"""Is called in the parent with what the child handed to `report_progress`."""

CHECK_SECONDS = 0.1  # between two looks at a call's limits
END_SECONDS = 10.0  # that a process gets to end by itself


class WorkerDiedError(WorkerError):
    """The process ended in the middle of a call.

    Attributes:
        exit_code: of the process; negative for a signal.
        signal_name: the signal that ended it ("SIGSEGV"); None if it ended by itself.
    """

    def __init__(self, exit_code: int) -> None:
        self.exit_code = exit_code
        self.signal_name = signal.Signals(-exit_code).name if exit_code < 0 else None
        hint = ": out of memory?" if self.signal_name == "SIGKILL" else ""
        super().__init__(f"the process ended ({self.signal_name or f'code {exit_code}'}{hint})")


class LimitExceededError(WorkerError):
    """The process was ended because a call took more than it was allowed.

    Attributes:
        limit: "seconds" or "memory".
        allowed: seconds, or bytes.
    """

    def __init__(self, limit: str, allowed: float) -> None:
        self.limit = limit
        self.allowed = allowed
        amount = f"{allowed:.3g} seconds" if limit == "seconds" else f"{allowed / 2**30:.3g} GB of memory"
        super().__init__(f"needs more than {amount}")


class WorkerCancelledError(WorkerError):
    """The process was ended by `cancel` or `close` in the middle of a call."""


class Worker:
    """A child process that does one call at a time.

    A call's exceptions are raised in the parent as they are, with the child's traceback as a note.

    Args:
        name: what the process is called in lists of processes.
        setup: is called in each new process before anything else, with `setup_args`.
        env: environment variables to add.
        log: a file to append the output of the process and its libraries to; the parent's error stream if None.
    """

    def __init__(
        self,
        name: str = "anthrotap worker",
        setup: Callable[..., object] | None = None,
        setup_args: tuple[Any, ...] = (),
        env: Mapping[str, str] | None = None,
        log: Path | None = None,
    ) -> None:
        self.name = name
        self.setup = setup
        self.setup_args = setup_args
        self.env = dict(env or {})
        self.log = log
        # Guards the process, not a call: `cancel` must come through while a call runs.
        self._lock = threading.Lock()
        # One call at a time.
        self._call_lock = threading.Lock()
        self._process: _Process | None = None
        self._cancellations = 0
        self._closed = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self.close(kill=kind is not None)

    @property
    def pid(self) -> int | None:
        """The number of the process; None if there is none."""
        process = self._process
        return process.popen.pid if process else None

    def start(self) -> None:
        """Start the process and wait until `setup` is done; nothing if it runs already.

        Raises:
            WorkerDiedError: if the process ends instead.
            WorkerCancelledError: if this worker is closed.
            Exception: whatever `setup` raises; the process is gone then.
        """
        with self._lock:
            if self._closed:
                raise WorkerCancelledError("closed")
            if self._process is not None and self._process.popen.poll() is None:
                return
            process = self._process = _Process(self.name, self.env, self.log)
        if self.setup is not None:
            try:
                process.call(self.setup, self.setup_args)
            except BaseException:
                self._end(process)
                raise

    def run(
        self,
        function: Callable[..., R],
        *args: Any,
        timeout: float | None = None,
        memory_limit: int | None = None,
        on_progress: OnProgress | None = None,
    ) -> R:
        """Call a function in the process, and wait for its result.

        Args:
            function: what to call; importable by its name.
            *args: its arguments.
            timeout: seconds that it may take; `setup` is not counted.
            memory_limit: bytes of memory that the process may hold.
            on_progress: is called with what the function hands to `report_progress`.

        Raises:
            WorkerDiedError: if the process ends without a result.
            LimitExceededError: if it exceeds a limit; the process is ended.
            WorkerCancelledError: if another thread calls `cancel` or `close` meanwhile.
            Exception: whatever the function raises.
        """
        cancellations = self._cancellations
        with self._call_lock:
            self.start()
            process = self._process
            # Cancelled while the process started, or while another thread's call ran.
            if process is None or cancellations != self._cancellations:
                raise WorkerCancelledError("cancelled")
            try:
                return cast(R, process.call(function, args, timeout, memory_limit, on_progress))
            except BaseException:
                # Nothing of a call that did not end runs on: after Ctrl-C, or an exception of on_progress.
                if not process.idle:
                    self._end(process)
                raise

    def cancel(self) -> None:
        """Kill the process, whatever it does; nothing of it runs on when this returns. The next call starts another."""
        self._cancellations += 1
        if process := self._process:
            process.cancelled = True
            self._end(process)

    def close(self, kill: bool = False) -> None:
        """End the process for good: by itself if it is idle and `kill` is false, else as `cancel`."""
        with self._lock:
            self._closed = True
            process = self._process
        if process and process.idle and not kill:
            process.close()
        self.cancel()

    def _end(self, process: _Process) -> None:
        process.kill()
        with self._lock:
            if self._process is process:
                self._process = None


@dataclass(frozen=True)
class Outcome(Generic[T, R]):
    """What came of a task of a `WorkerPool`.

    Attributes:
        task: the task.
        value: what the function gave for it; None if there is an error.
        error: what it raised, or the `WorkerError` of its process.
    """

    task: T
    value: R | None
    error: Exception | None

    def result(self) -> R:
        """The value. Raises the error if there is one."""
        if self.error is not None:
            raise self.error
        return cast(R, self.value)


class WorkerPool:
    """Several workers that take tasks from one queue. A task that ends its process costs only itself.

    Args:
        size: how many processes; with 0, tasks run in this process, without limits, and `options` are not used.
        name, setup, setup_args, env, log: as for `Worker`.
    """

    def __init__(self, size: int, name: str = "anthrotap worker", **options: Any) -> None:
        self.size = size
        self.workers = [Worker(name, **options) for _ in range(size)]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        for worker in self.workers:
            worker.close(kill=kind is not None)

    def run(
        self,
        function: Callable[[T], R],
        tasks: Iterable[T],
        timeout: float | None = None,
        memory_limit: int | None = None,
        on_progress: OnProgress | None = None,
    ) -> Iterator[Outcome[T, R]]:
        """Do all tasks, and give each one's outcome as it comes. No task is taken before a worker is free.

        Args:
            function: is called with each task; importable by its name.
            tasks: its arguments, one a call.
            timeout, memory_limit: of each task, as for `Worker.run`; not with a pool of size 0.
            on_progress: is called with the task and what the function hands to `report_progress`, from any thread.
        """
        if not self.size:
            if timeout is not None or memory_limit is not None:
                raise ValueError("a pool of size 0 has no process to limit")
            outer = in_process.get()

            def report(task: T, *values: Any) -> None:
                # `on_progress` may report progress itself: to whoever waits for all of this.
                token = in_process.set(outer)
                try:
                    cast(OnProgress, on_progress)(task, *values)
                finally:
                    in_process.reset(token)

            for task in tasks:
                token = in_process.set(partial(report, task) if on_progress else ignore_progress)
                try:
                    outcome = _outcome(task, partial(function, task))
                finally:
                    in_process.reset(token)
                yield outcome
            return

        def work(worker: Worker, task: T) -> None:
            progress = on_progress and partial(on_progress, task)
            call = partial(worker.run, timeout=timeout, memory_limit=memory_limit, on_progress=progress)
            done.put((worker, _outcome(task, lambda: call(function, task))))

        done: queue.SimpleQueue[tuple[Worker, Outcome[T, R]]] = queue.SimpleQueue()
        free, left, running = list(self.workers), iter(tasks), 0
        with ThreadPoolExecutor(self.size) as threads:
            try:
                while True:
                    for task in islice(left, len(free)):
                        threads.submit(work, free.pop(), task)
                        running += 1
                    if not running:
                        return
                    worker, outcome = done.get()
                    free.append(worker)
                    running -= 1
                    yield outcome
            except BaseException:
                # The threads end when their calls do. Leaving early closes the pool.
                for worker in self.workers:
                    worker.close(kill=True)
                raise


def _outcome(task: T, call: Callable[[], R]) -> Outcome[T, R]:
    try:
        return Outcome(task, call(), None)
    except Exception as error:  # noqa: BLE001  raised by who asks for the value
        return Outcome(task, None, error)


class _Process:
    """A child process, and the thread that starts it and reads its messages.

    The thread lives as long as the process: Linux ends a process with the *thread* that started it.
    """

    def __init__(self, name: str, env: Mapping[str, str], log: Path | None) -> None:
        self.messages: queue.Queue[tuple[str, Any]] = queue.Queue()
        self.cancelled = False
        self.idle = True
        self.leaves_others = False  # the process is gone, and processes that it started are not
        self._start_error: BaseException | None = None
        self._lock = threading.Lock()
        started = threading.Event()
        threading.Thread(target=self._read, args=(name, env, log, started), daemon=True).start()
        started.wait()
        if self._start_error is not None:
            raise self._start_error

    def _read(self, name: str, env: Mapping[str, str], log: Path | None, started: threading.Event) -> None:
        try:
            self.popen = _start(name, env, log)
        except BaseException as error:  # noqa: BLE001  raised by who waits for the start
            self._start_error = error
            return
        finally:
            started.set()
        with cast(IO[bytes], self.popen.stdout) as pipe:
            while True:
                try:
                    self.messages.put(receive(pipe))
                except EOFError:
                    break
                except Exception as error:  # noqa: BLE001  a result that cannot be unpickled here
                    unreadable = RemoteError(f"{type(error).__name__}: {error}")
                    self.messages.put(("error", (unreadable, "a result that cannot be read here")))
        self.messages.put(("end", self.popen.wait()))

    def call(
        self,
        function: Callable[..., Any],
        args: tuple[Any, ...],
        timeout: float | None = None,
        memory_limit: int | None = None,
        on_progress: OnProgress | None = None,
    ) -> Any:
        """See `Worker.run`. While `idle` is false, the process is at a call that did not end."""
        data = pickle.dumps((function, args))
        self.idle = False
        # A process that is gone is found below.
        with contextlib.suppress(BrokenPipeError, ValueError):
            send(cast(IO[bytes], self.popen.stdin), data)
        begin = next_check = time.monotonic()
        ended = False
        while True:
            kind: str = "nothing"
            content: Any = None
            try:
                kind, content = self.messages.get(timeout=CHECK_SECONDS)
            except queue.Empty:
                # A process that it started may hold its pipe open, so that the end of messages does not come.
                if ended:
                    kind, content = "end", self.popen.returncode
                    self.leaves_others = True
                ended = self.popen.poll() is not None
            if kind == "result":
                self.idle = True
                return content
            if kind == "error":
                self.idle = True
                error, note = content
                error.add_note(note)
                raise error
            if kind == "end":
                raise WorkerCancelledError("cancelled") if self.cancelled else WorkerDiedError(content)
            if kind == "progress" and on_progress is not None:
                on_progress(*content)
            if (now := time.monotonic()) >= next_check:
                next_check = now + CHECK_SECONDS
                if timeout is not None and now - begin > timeout:
                    raise LimitExceededError("seconds", timeout)
                if memory_limit is not None and self.memory() > memory_limit:
                    raise LimitExceededError("memory", memory_limit)

    def memory(self) -> int:
        """Bytes of memory that the process holds."""
        import psutil

        try:
            return int(psutil.Process(self.popen.pid).memory_info().rss)
        except psutil.Error:
            return 0

    def close(self) -> None:
        """Let the process end by itself: its input ends."""
        with contextlib.suppress(BrokenPipeError):
            cast(IO[bytes], self.popen.stdin).close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.popen.wait(END_SECONDS)

    def kill(self) -> None:
        """Kill the process and those that it started."""
        with self._lock:
            if self.popen.poll() is None or self.leaves_others:
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    if hasattr(os, "killpg"):
                        os.killpg(self.popen.pid, signal.SIGKILL)
                    else:
                        self.popen.kill()
            self.popen.wait()
            with contextlib.suppress(BrokenPipeError):
                cast(IO[bytes], self.popen.stdin).close()


def _start(name: str, env: Mapping[str, str], log: Path | None) -> subprocess.Popen[bytes]:
    code = (
        f"import sys; sys.path[:] = {sys.path!r}; from anthrotap_hf.utils.worker_process import serve; "
        f"serve({os.getpid()})"
    )
    with contextlib.ExitStack() as stack:
        output: IO[bytes] | None = None
        if log is not None:
            log.parent.mkdir(parents=True, exist_ok=True)
            output = stack.enter_context(log.open("ab"))
        return subprocess.Popen(
            [sys.executable, "-c", code, name],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=output,
            env={**os.environ, **env},
            # Ctrl-C is for the parent, and what the process starts ends with it.
            start_new_session=True,
        )
