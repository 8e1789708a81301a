"""Work in child processes: results and errors come back, and a crash affects nothing else."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from anthrotap_hf.data import verify
from anthrotap_hf.utils.errors import AnthroTapError
from anthrotap_hf.utils.workers import (
    LimitExceededError,
    RemoteError,
    Worker,
    WorkerCancelledError,
    WorkerDiedError,
    WorkerPool,
    report_progress,
)
from helpers import worker_calls


@pytest.fixture
def worker():
    with Worker("tests") as worker:
        yield worker


def until(condition: Callable[[], bool], seconds: float = 30) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_results_progress_and_errors_come_back(worker):
    progress: list[tuple] = []
    assert worker.run(worker_calls.count_to, 3, on_progress=lambda *values: progress.append(values)) == "done"
    assert progress == [("counting", 0), ("counting", 1), ("counting", 2)]
    pid = worker.pid
    with pytest.raises(AnthroTapError) as caught:
        worker.run(worker_calls.fail)
    assert (caught.value.path, caught.value.hint) == ("a.mp4", "fetch it again")
    assert "worker_calls.py" in caught.value.__notes__[0]
    with pytest.raises(RemoteError, match="_OddError: 1 and 2"):
        worker.run(worker_calls.fail_oddly)
    assert worker.run(worker_calls.process_number) == pid != os.getpid()
    report_progress("heard by nobody: this is no worker")


def test_a_process_that_dies_is_replaced(worker):
    with pytest.raises(WorkerDiedError, match="SIGSEGV") as caught:
        worker.run(worker_calls.negate, 3)
    assert (caught.value.signal_name, caught.value.exit_code) == ("SIGSEGV", -signal.SIGSEGV)
    assert worker.run(worker_calls.negate, 2) == -2
    os.kill(worker.pid, signal.SIGKILL)
    time.sleep(0.2)
    assert worker.run(worker_calls.negate, 4) == -4


def test_a_process_that_exits_is_reported_with_its_code(worker):
    with pytest.raises(WorkerDiedError, match="code 3") as caught:
        worker.run(worker_calls.leave, 3)
    assert (caught.value.exit_code, caught.value.signal_name) == (3, None)
    assert worker.run(worker_calls.negate, 1) == -1


def test_a_result_that_cannot_be_sent_or_read_costs_only_its_call(worker):
    with pytest.raises(RemoteError):
        worker.run(worker_calls.give_unreadable)
    pid = worker.pid
    assert worker.run(worker_calls.negate, 1) == -1
    with pytest.raises(Exception, match="pickle"):
        worker.run(worker_calls.give_unpicklable)
    assert worker.run(worker_calls.process_number) == pid


def test_a_death_is_noticed_although_a_process_of_the_call_lives_on(worker):
    begin = time.monotonic()
    with pytest.raises(WorkerDiedError, match="SIGKILL"):
        worker.run(worker_calls.die_and_leave_a_child)
    assert time.monotonic() - begin < 60
    assert worker.run(worker_calls.negate, 1) == -1


def test_progress_of_a_pool_within_a_call(worker):
    progress: list[tuple] = []
    assert worker.run(worker_calls.count_in_a_pool, 2, on_progress=lambda *values: progress.append(values)) == 1
    assert progress == [("counting", 0), ("counting", 1)]
    with WorkerPool(0) as pool:
        outcomes = pool.run(worker_calls.count_in_a_pool, [2], on_progress=lambda *values: progress.append(values))
        assert [outcome.result() for outcome in outcomes] == [1]
    assert progress[2:] == [(2, "counting", 0), (2, "counting", 1)]
    with WorkerPool(0) as pool, pytest.raises(ValueError, match="no process"):
        list(pool.run(worker_calls.negate, [1], timeout=1))


def test_limits(worker):
    worker.start()
    with pytest.raises(LimitExceededError) as caught:
        worker.run(worker_calls.sleep, timeout=0.3)
    assert (caught.value.limit, caught.value.allowed) == ("seconds", 0.3)
    with pytest.raises(LimitExceededError) as caught:
        worker.run(worker_calls.hold, 400 << 20, timeout=60, memory_limit=300 << 20)
    assert (caught.value.limit, caught.value.allowed) == ("memory", 300 << 20)
    assert worker.run(worker_calls.negate, 1, timeout=60, memory_limit=1 << 30) == -1


def test_another_thread_cancels(worker, tmp_path):
    alive = tmp_path / "alive"
    threading.Thread(target=lambda: (until(alive.exists), worker.cancel())).start()
    with pytest.raises(WorkerCancelledError):
        worker.run(worker_calls.touch_forever, alive)
    assert worker.pid is None
    before = alive.stat().st_mtime_ns
    time.sleep(0.1)
    assert alive.stat().st_mtime_ns == before
    assert worker.run(worker_calls.negate, 1) == -1


def test_nothing_runs_on_after_an_exception_in_the_parent(worker):
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        worker.run(worker_calls.sleep, on_progress=interrupted)
    assert worker.pid is None


def test_setup_runs_in_each_process(tmp_path):
    """The first process is killed in it."""
    path, log = tmp_path / "setup", tmp_path / "logs/worker.log"
    with Worker("tests", worker_calls.remember, (path,), env={"COLOR": "blue"}, log=log) as worker:
        with pytest.raises(WorkerDiedError):
            worker.start()
        assert worker.run(worker_calls.count_to, 0) == "done"
        assert path.read_text().splitlines()[1] == f"{worker.pid} blue"
    assert "what libraries print" in log.read_text()
    with pytest.raises(AnthroTapError, match="no such clip"), Worker("tests", worker_calls.fail) as worker:
        worker.start()


def test_a_pool_survives_its_tasks():
    with WorkerPool(2, "tests") as pool:
        outcomes = {outcome.task: outcome for outcome in pool.run(worker_calls.negate, iter(range(8)))}
        assert {task: outcome.value for task, outcome in outcomes.items() if task != 3} == {
            number: -number for number in range(8) if number != 3
        }
        assert isinstance(outcomes[3].error, WorkerDiedError)
        with pytest.raises(WorkerDiedError):
            outcomes[3].result()
        processes = {outcome.value for outcome in pool.run(worker_calls.process_number, range(9))}
    assert not any(psutil.pid_exists(pid) for pid in processes)
    with WorkerPool(0) as pool:
        assert [outcome.result() for outcome in pool.run(worker_calls.process_number, [1])] == [os.getpid()]


def test_leaving_a_pool_kills_its_running_calls():
    with WorkerPool(2, "tests") as pool:
        outcomes = pool.run(worker_calls.sleep, [0.0, 1000.0, 1000.0])
        next(outcomes)
        outcomes.close()
        assert all(worker.pid is None for worker in pool.workers)


PARENT = """
import sys
from pathlib import Path
from anthrotap_hf.utils.workers import Worker
from helpers import worker_calls
Worker("tests").run(worker_calls.touch_forever, Path(sys.argv[1]))
"""


def test_processes_end_with_a_parent_that_is_killed(tmp_path: Path):
    alive = tmp_path / "alive"
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    parent = subprocess.Popen([sys.executable, "-c", PARENT, str(alive)], env=env)
    until(lambda: alive.exists() and alive.read_text().isdigit())
    child = psutil.Process(int(alive.read_text()))
    parent.kill()
    parent.wait()
    until(lambda: not child.is_running() or child.status() == psutil.STATUS_ZOMBIE, 10)


def test_a_process_outlives_the_thread_that_started_it():
    worker = Worker("tests")
    thread = threading.Thread(target=worker.start)
    thread.start()
    thread.join()
    pid = worker.pid
    assert worker.run(worker_calls.process_number) == pid
    worker.close()
    assert not psutil.pid_exists(pid)


def test_a_task_that_ends_its_process_costs_only_itself():
    steps: list[tuple[str, int, int]] = []
    with WorkerPool(2) as pool:
        tasks = verify._run(pool, worker_calls.negate, range(5), "rows", lambda *step: steps.append(step))
        assert dict(tasks) == {0: 0, 1: -1, 2: -2, 3: None, 4: -4}
    assert steps == [("rows", number, 5) for number in range(6)]
