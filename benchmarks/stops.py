"""Every command is stopped at random moments, by all signals, or meets a fault: what is lost, doubled or left behind?

The command is then run again, to its end: its results must equal those of a run without stop or fault.

python -m benchmarks.stops                             # 20 stops a command
python -m benchmarks.stops label app --stops 4         # fewer
python -m benchmarks.stops --faults disk clock         # the faults instead; all without a name

A full disk and a folder that can't be written are small file systems in memory, which need root; without it, no file
may grow beyond a size (RLIMIT_FSIZE), and the folder's mode forbids writing. The clock that jumps is that of Python,
`time.time`, a day ahead or back at every call; the machine's own is left alone.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pyarrow.parquet as pq

from benchmarks.building import short_videos

ROOT = Path(__file__).parents[1]
# The small Hub on loopback is one of the tests' helpers.
sys.path.insert(0, str(ROOT / "tests"))
# Signals, one shortly after the other.
STOPS = {
    "kill -9": (signal.SIGKILL,),
    "SIGTERM": (signal.SIGTERM,),
    "Ctrl-C": (signal.SIGINT,),
    "Ctrl-C twice": (signal.SIGINT, signal.SIGINT),
}
# Documented: 130 for a run that was stopped; 0 for one that had ended before.
CODES = {"kill -9": {-signal.SIGKILL, 0}}
# Seconds after which Python has begun to run a command: before, a signal just ends it.
STARTED = 1.5
QUICK = ("--set", "points=64")
# A module that Python loads as it starts.
JUMPING_CLOCK = """
import itertools, time
real, jumps = time.time, itertools.cycle((0, 86400, -86400))
time.time = lambda: real() + next(jumps)
"""


@dataclass(frozen=True)
class Command:
    """A command that is stopped.

    Attributes:
        arguments: of the command, by the folder it writes to.
        result: what is compared, by that folder.
    """

    arguments: Callable[[Path], tuple[object, ...]]
    result: Callable[[Path], object]


class Bench:
    """Videos, labels and a trained tracker to begin with."""

    def __init__(self, folder: Path, stops: int) -> None:
        shutil.rmtree(folder, ignore_errors=True)
        self.folder, self.stops = folder, stops
        self.temporary = folder / "tmp"
        self.temporary.mkdir(parents=True)
        self.videos = folder / "videos"
        short_videos(self.videos, 4)
        self.points = folder / "points"
        self.points.mkdir()
        for video in sorted(self.videos.iterdir())[:2]:
            shutil.copy(video, self.points)
            rows = [f"{n},{t},{20 + 30 * n},{40 + t},1" for n in range(4) for t in range(12)]
            (self.points / f"{video.stem}.csv").write_text("\n".join(["track,t,x,y,visible", *rows]))
        self.random = random.Random(0)
        self.environment = {**os.environ, "TMPDIR": str(self.temporary), "OMP_NUM_THREADS": "1"}

    def start(self, *arguments: object, **options: Any) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "anthrotap_hf.cli.main", *map(str, arguments)]
        options = {"env": self.environment, "start_new_session": True, **options}
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options)

    def finish(self, *arguments: object) -> float:
        """Run to the end; return the seconds that it took."""
        begin = time.perf_counter()
        process = self.start(*arguments)
        output = "".join(process.communicate())
        assert process.returncode == 0, output
        return time.perf_counter() - begin

    def stop(self, how: str, after: float, *arguments: object) -> tuple[int, str]:
        """Run and stop after some seconds; return the exit code and what it wrote to the error stream."""
        process = self.start(*arguments)
        try:
            process.wait(after)
        except subprocess.TimeoutExpired:
            family = psutil.Process(process.pid).children(recursive=True)
            send(process, how)
            _, errors = process.communicate(timeout=300)
            _, alive = psutil.wait_procs(family, 10)
            assert not alive, f"processes outlive the command: {alive}"
            return process.returncode, errors
        _, errors = process.communicate()
        return process.returncode, errors

    def run(self, name: str, command: Command) -> str:
        """Stop a command at random moments, each time in a folder of its own; compare with an unbroken run."""
        arguments, result = command.arguments, command.result
        unbroken = self.folder / f"{name}-unbroken"
        seconds = self.finish(*arguments(unbroken))
        expected, names = result(unbroken), entries(unbroken)
        problems: Counter[str] = Counter()
        for number in range(self.stops):
            out = self.folder / f"{name}-{number}"
            how = list(STOPS)[number % len(STOPS)]
            after = self.random.uniform(STARTED, seconds)
            code, errors = self.stop(how, after, *arguments(out))
            if code not in CODES.get(how, {130, 0}):
                problems[f"exit code {code} after {how} at {after:.1f} s: {errors[-300:]!r}"] += 1
            if "Traceback" in errors:
                problems[f"a traceback after {how}: {errors[-300:]!r}"] += 1
            if code != 0:
                self.finish(*arguments(out))
            if result(out) != expected:
                problems[f"other results after {how} at {after:.1f} s"] += 1
            if left := entries(out) ^ names:
                problems[f"other files after {how}: {sorted(left)}"] += 1
            shutil.rmtree(out, ignore_errors=True)
        problems.update(self.left_temporary())
        return said(problems) or "equal, nothing left"

    def left_temporary(self) -> list[str]:
        if temporary := [path.name for path in self.temporary.glob("anthrotap*")]:
            return [f"left in the folder for temporary files: {temporary[:3]}"]
        return []

    def meet(self, name: str, command: Command, fault: str) -> str:
        """Let a command meet a fault, and run it again without; compare with an unbroken run."""
        unbroken, out = self.folder / f"{name}-unbroken", self.folder / f"{name}-{fault}"
        begin = time.perf_counter()
        if not unbroken.exists():
            self.finish(*command.arguments(unbroken))
        seconds = max(time.perf_counter() - begin, 2 * STARTED)
        expected, names = command.result(unbroken), entries(unbroken)
        size = sum(path.stat().st_size for path in unbroken.rglob("*") if path.is_file())
        with FAULTS[fault](self, out, size, seconds) as (options, during):
            process = self.start(*command.arguments(out), **options)
            during(process)
            _, errors = process.communicate(timeout=600)
        problems: Counter[str] = Counter()
        # Progress bars end in no line of their own.
        lines = [line for line in errors.splitlines() if line.strip() and "━" not in line]
        line = lines[-1].strip() if lines else ""
        line = line.replace(str(self.folder), "...").replace("|", "/")
        if process.returncode not in (0, 1, 2):
            problems[f"exit code {process.returncode}: {line}"] += 1
        if "Traceback" in errors:
            problems[f"a traceback: {errors[-300:]!r}"] += 1
        if process.returncode:
            self.finish(*command.arguments(out))
        elif fault in ("replaced", "vanish"):
            # What is missing is said, and comes when the input or folder is there again.
            self.finish(*command.arguments(out))
        if command.result(out) != expected:
            problems["other results"] += 1
        if left := entries(out) ^ names:
            problems[f"other files: {sorted(left)}"] += 1
        problems.update(self.left_temporary())
        shutil.rmtree(out, ignore_errors=True)
        code = f"exit code {process.returncode}" + (f", `{line}`" if line else "")
        return f"{code} | {said(problems) or 'equal, nothing left'}"


def send(process: subprocess.Popen[str], how: str) -> None:
    for number in STOPS[how]:
        if number == signal.SIGINT:
            # A terminal sends it to all processes that run in it.
            with suppress(ProcessLookupError):
                os.killpg(process.pid, number)
        else:
            process.send_signal(number)
        time.sleep(0.05)


def said(problems: Counter[str]) -> str:
    return "; ".join(f"{count} x {text}" for text, count in problems.items())


Fault = Iterator[tuple[dict[str, Any], Callable[[subprocess.Popen[str]], object]]]


def _nothing(_: subprocess.Popen[str]) -> None:
    pass


@contextmanager
def mounted(out: Path, options: str) -> Iterator[None]:
    """A small file system in memory at a folder, as long as the context is open."""
    out.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(out)], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", str(out)], check=True)
        out.rmdir()


@contextmanager
def full_disk(bench: Bench, out: Path, size: int, seconds: float) -> Fault:
    limit = max(size // 3, 1 << 14)
    if os.geteuid():
        yield {"preexec_fn": lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))}, _nothing
        return
    with mounted(out, f"size={limit}"):
        yield {}, _nothing


@contextmanager
def read_only(bench: Bench, out: Path, size: int, seconds: float) -> Fault:
    if os.geteuid():
        out.mkdir(mode=0o500)
        yield {}, _nothing
        out.chmod(0o700)
        return
    with mounted(out, "ro"):
        yield {}, _nothing


@contextmanager
def vanishing(bench: Bench, out: Path, size: int, seconds: float) -> Fault:
    """The folder is deleted while the command is at work."""

    def delete(process: subprocess.Popen[str]) -> None:
        while process.poll() is None and not out.exists():
            time.sleep(0.05)
        with suppress(subprocess.TimeoutExpired):
            process.wait(bench.random.uniform(0.2, 0.5 * seconds))
        shutil.rmtree(out, ignore_errors=True)

    yield {}, delete


@contextmanager
def replaced_input(bench: Bench, out: Path, size: int, seconds: float) -> Fault:
    """The first video is replaced by the last one while it is read, and comes back afterwards."""
    kept = {}
    for folder in (bench.videos, bench.points):
        first, *_, last = sorted(folder.glob("*.mp4"))
        kept[first] = first.read_bytes(), last.read_bytes()

    def replace(process: subprocess.Popen[str]) -> None:
        with suppress(subprocess.TimeoutExpired):
            process.wait(bench.random.uniform(STARTED, 0.8 * seconds))
        for path, (_, other) in kept.items():
            path.write_bytes(other)

    try:
        yield {}, replace
    finally:
        for path, (own, _) in kept.items():
            path.write_bytes(own)


@contextmanager
def jumping_clock(bench: Bench, out: Path, size: int, seconds: float) -> Fault:
    folder = bench.folder / "clock"
    folder.mkdir(exist_ok=True)
    (folder / "sitecustomize.py").write_text(JUMPING_CLOCK)
    paths = os.pathsep.join(filter(None, [str(folder), os.environ.get("PYTHONPATH")]))
    yield {"env": {**bench.environment, "PYTHONPATH": paths}}, _nothing


FAULTS: dict[str, Any] = {
    "disk": full_disk,
    "read-only": read_only,
    "vanish": vanishing,
    "replaced": replaced_input,
    "clock": jumping_clock,
}


def entries(folder: Path) -> set[str]:
    """All files of a result, but for the state that a build keeps to resume, and the Trainer's."""
    found = {path.relative_to(folder).as_posix() for path in folder.rglob("*")}
    return {name for name in found if not name.startswith((".build", "checkpoint"))}


def rows(out: Path) -> list[tuple[str, str]]:
    """The rows of a dataset in order: names and hashes of all columns."""
    return [
        (file.name, hashlib.sha256(repr(row).encode()).hexdigest())
        for file in sorted((out / "data").glob("*.parquet"))
        for row in pq.read_table(file).to_pylist()
    ]


def label(bench: Bench) -> Command:
    return Command(
        lambda out: ("label", bench.videos, "--out", out, "--overwrite", "--threads", 1, *QUICK),
        rows,
    )


def build(bench: Bench) -> Command:
    return Command(lambda out: ("build", bench.videos, "--out", out, "--workers", 1, "--threads", 1, *QUICK), rows)


def train(bench: Bench) -> Command:
    settings = ("--steps", 6, "--set", "training.save_steps=2", "--device", "cpu")
    return Command(
        lambda out: ("train", "tiny-procedural", "--out", out, *settings),
        lambda out: hashlib.sha256((out / "model/model.safetensors").read_bytes()).hexdigest(),
    )


def track(bench: Bench) -> Command:
    video = bench.videos / "00000.mp4"

    def tracks(out: Path) -> object:
        with np.load(out / "00000.tracks.npz") as arrays:
            return {name: arrays[name].tolist() for name in ("tracks", "visible", "queries")}

    return Command(lambda out: ("track", video, "--grid", 4, "--out", out, "--overwrite"), tracks)


def evaluate(bench: Bench) -> Command:
    def figures(out: Path) -> object:
        (model,) = json.loads((out / "points-first.json").read_text())["models"]
        return [{name: value for name, value in each.items() if name != "seconds"} for each in model["videos"].values()]

    arguments = ("--benchmark", "points", "--data", bench.points, "--model", "locotrack-tiny")
    return Command(lambda out: ("evaluate", *arguments, "--out", out), figures)


def publish(bench: Bench) -> str:
    from helpers.hub_server import WRITER, running_hub  # type: ignore[import-not-found]

    def files(hub: Any, out: Path) -> object:
        return {
            name: content
            for key, repository in hub.repositories.items()
            if out.name in str(key)
            for name, content in repository.files().items()
            if name != "README.md" and not name.startswith(".")
        }

    with running_hub() as hub:
        bench.environment |= {
            "HF_ENDPOINT": hub.url,
            "HF_TOKEN": WRITER,
            "HF_HOME": str(bench.folder / "hub"),
            "HF_HUB_DISABLE_XET": "1",
        }
        command = Command(
            lambda out: ("publish", "model", "locotrack-tiny", f"me/{out.name}"), lambda out: files(hub, out)
        )
        return bench.run("publish", command)


def app(bench: Bench) -> str:
    """A visitor's file lies in the page's folder: it is gone at the end, or once the next page has begun."""
    problems: Counter[str] = Counter()
    for number in range(bench.stops):
        how = list(STOPS)[number % len(STOPS)]
        process = bench.start("app")
        after = bench.random.uniform(STARTED, 10)
        end = time.monotonic() + after
        while time.monotonic() < end and process.poll() is None:
            for root in bench.temporary.glob("anthrotap-app-*"):
                (root / "video.mp4").write_text("of a visitor")
            time.sleep(0.1)
        send(process, how)
        _, errors = process.communicate(timeout=300)
        if process.returncode not in CODES.get(how, {130}):
            problems[f"exit code {process.returncode} after {how} at {after:.1f} s: {errors[-200:]!r}"] += 1
        if "Traceback" in errors:
            problems[f"a traceback after {how} at {after:.1f} s: {errors[-300:]!r}"] += 1
        if how in ("kill -9", "Ctrl-C twice"):
            # These end it at once: the next page deletes what it left.
            process = bench.start("app")
            assert process.stdout is not None
            process.stdout.readline()
            process.terminate()
            process.communicate(timeout=300)
        if left := list(bench.temporary.glob("anthrotap-app-*/*")):
            problems[f"left after {how} at {after:.1f} s: {left[0].name}"] += 1
    return said(problems) or "nothing left"


COMMANDS: dict[str, Callable[[Bench], Command]] = {
    "label": label,
    "build": build,
    "train": train,
    "track": track,
    "evaluate": evaluate,
}
# These have no folder of results.
OTHERS: dict[str, Callable[[Bench], str]] = {"publish": publish, "app": app}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("commands", nargs="*", help=", ".join([*COMMANDS, *OTHERS]))
    parser.add_argument("--stops", type=int, default=20)
    parser.add_argument("--faults", nargs="*", choices=FAULTS, help="faults instead of stops")
    parser.add_argument("--folder", type=Path, default=Path("outputs/stops"))
    options = parser.parse_args()
    # In the background the shell has this process ignore Ctrl-C, and its children would inherit that.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    bench = Bench(options.folder.absolute(), options.stops)
    if options.faults is not None:
        print("| command | fault | ends with | run again, compared with an unbroken run |\n|---|---|---|---|")
        for name in options.commands or COMMANDS:
            for fault in options.faults or FAULTS:
                print(f"| {name} | {fault} | {bench.meet(name, COMMANDS[name](bench), fault)} |", flush=True)
        return
    print(f"stopped by {', '.join(STOPS)} in turn\n\n| command | stops | run again, compared with an unbroken run |")
    print("|---|---|---|")
    for name in options.commands or [*COMMANDS, *OTHERS]:
        result = OTHERS[name](bench) if name in OTHERS else bench.run(name, COMMANDS[name](bench))
        print(f"| {name} | {options.stops} | {result} |", flush=True)


if __name__ == "__main__":
    main()
