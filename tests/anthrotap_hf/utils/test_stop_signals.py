"""SIGTERM, a closed terminal and Ctrl-C end a run alike."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

RUN = """
import os, signal, sys, time
from anthrotap_hf.utils.stop_signals import stopped_by_signals, uninterrupted
numbers = [int(text) for text in sys.argv[2:]]
with stopped_by_signals():
    try:
        if sys.argv[1] in ("held", "long"):
            with uninterrupted(long=sys.argv[1] == "long"):
                for number in numbers:
                    os.kill(os.getpid(), number)
                print("whole")
        elif sys.argv[1] == "nested":
            with uninterrupted(long=True):
                with uninterrupted():
                    for number in numbers:
                        os.kill(os.getpid(), number)
                    print("short whole")
                print("long whole")
        elif sys.argv[1] == "failing":
            with uninterrupted():
                os.kill(os.getpid(), numbers[0])
                raise OSError("the disk is full")
        elif sys.argv[1] == "failed_before":
            try:
                with uninterrupted(long=True):
                    with uninterrupted():
                        os.kill(os.getpid(), numbers[0])
                    raise OSError("the disk is full")
            except OSError:
                print("failed")
            with uninterrupted(long=True) as is_stopped:
                print("waiting" if is_stopped() else "none waits")
        else:
            os.kill(os.getpid(), numbers[0])
    except KeyboardInterrupt:
        print("stopped")
        for number in numbers[1:] if sys.argv[1] == "plain" else ():
            os.kill(os.getpid(), number)
        print("in good order")
        sys.exit(130)
print("not stopped")
"""


def _heed_signals() -> None:
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)


def run(how: str, *numbers: int, **options) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", RUN, how, *map(str, map(int, numbers))]
    environment = {**os.environ, "PYTHONUNBUFFERED": "1", "PYTHONPATH": ":".join(sys.path)}
    # A shell that runs something in the background, and nohup, let it ignore signals; the tests may run there.
    options.setdefault("preexec_fn", _heed_signals)
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment, **options)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_one_signal_stops_in_good_order(number):
    result = run("plain", number)
    assert (result.returncode, result.stdout.split("\n"), result.stderr) == (130, ["stopped", "in good order", ""], "")


def test_a_second_signal_ends_it_at_once():
    result = run("plain", signal.SIGINT, signal.SIGTERM)
    assert (result.returncode, result.stdout) == (130, "stopped\n")
    assert result.stderr == "stopped at once; the next run deletes what is half-written\n"


def test_short_work_is_not_interrupted():
    result = run("held", signal.SIGTERM, signal.SIGINT)
    assert (result.returncode, result.stdout) == (130, "whole\nstopped\nin good order\n")


def test_long_work_is_ended_by_a_second_signal():
    assert run("long", signal.SIGTERM).stdout == "whole\nstopped\nin good order\n"
    result = run("long", signal.SIGTERM, signal.SIGINT)
    assert (result.returncode, result.stdout) == (130, "")


def test_a_second_signal_in_short_work_within_long_work_ends_it_after_the_short_work():
    assert run("nested", signal.SIGTERM).stdout == "short whole\nlong whole\nstopped\nin good order\n"
    result = run("nested", signal.SIGTERM, signal.SIGINT)
    assert (result.returncode, result.stdout) == (130, "short whole\n")
    assert result.stderr.splitlines() == [
        "stopping after the work at hand; another signal ends it at once",
        "stopped at once; the next run deletes what is half-written",
    ]


def test_an_error_is_not_hidden_by_a_signal_that_waits():
    result = run("failing", signal.SIGTERM)
    assert "the disk is full" in result.stderr
    assert "stopped" not in result.stdout


def test_a_signal_of_a_block_that_failed_does_not_wait_in_the_next_one():
    result = run("failed_before", signal.SIGTERM)
    assert (result.returncode, result.stdout) == (0, "failed\nnone waits\nnot stopped\n")


def test_ignored_signals_stay_ignored():
    result = run("plain", signal.SIGHUP, preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN))
    assert (result.returncode, result.stdout) == (0, "not stopped\n")


def test_a_stop_within_text_that_is_executed_has_the_same_exit_code(tmp_path):
    """`python -m` itself ends such a run by SIGINT, though it was handled."""
    code = (
        "import atexit, os, signal, sys\n"
        "from anthrotap_hf.utils.stop_signals import keep_exit_code, stopped_by_signals\n"
        "atexit.register(keep_exit_code)\n"
        "with stopped_by_signals():\n"
        "    try:\n"
        "        exec('os.kill(os.getpid(), signal.SIGTERM)\\nimport time\\ntime.sleep(5)')\n"
        "    except KeyboardInterrupt:\n"
        "        print('stopped')\n"
        "        sys.exit(130)\n"
    )
    environment = {**os.environ, "PYTHONPATH": ":".join(sys.path)}
    (tmp_path / "stopped_run.py").write_text(code)
    command = [sys.executable, "-m", "stopped_run"]
    options = {"cwd": tmp_path, "env": environment, "preexec_fn": _heed_signals}
    result = subprocess.run(command, capture_output=True, text=True, check=False, **options)
    assert (result.returncode, result.stdout) == (130, "stopped\n")


def test_a_signal_after_the_work_leaves_the_exit_code():
    """Python gives signals back to the system before it deletes modules."""
    code = (
        "import atexit, os, signal\n"
        "from anthrotap_hf.utils.stop_signals import keep_exit_code\n"
        "class Late:\n"
        "    def __del__(self, kill=os.kill, me=os.getpid(), number=signal.SIGTERM):\n"
        "        kill(me, number)\n"
        "late = Late()\n"
        "atexit.register(keep_exit_code)\n"
    )
    environment = {**os.environ, "PYTHONPATH": ":".join(sys.path)}
    command = [sys.executable, "-c", code]
    assert subprocess.run(command, env=environment, check=False, preexec_fn=_heed_signals).returncode == 0
