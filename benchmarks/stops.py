"""Every command is stopped at random moments, by all signals: what is lost, doubled or left behind?

The command is then run again, to its end: its results must equal those of a run that nobody stopped.

python -m benchmarks.stops                       # 20 stops a command
python -m benchmarks.stops label app --stops 4   # fewer
"""

from __future__ import annotations

import argparse
import hashlib
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

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


class Bench:
    """Videos, labels and a trained tracker to begin with."""

    def __init__(self, folder: Path, stops: int) -> None:
        shutil.rmtree(folder, ignore_errors=True)
        self.folder, self.stops = folder, stops
        self.temporary = folder / "tmp"
        self.temporary.mkdir(parents=True)
        self.videos = folder / "videos"
        short_videos(self.videos, 4)
        self.random = random.Random(0)
        self.environment = {**os.environ, "TMPDIR": str(self.temporary), "OMP_NUM_THREADS": "1"}

    def start(self, *arguments: object) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "anthrotap_hf.cli.main", *map(str, arguments)]
        # Signals that this process ignores, as in the background, would be ignored there, too.
        return subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=self.environment
        )

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
            for number in STOPS[how]:
                process.send_signal(number)
                time.sleep(0.05)
            _, errors = process.communicate(timeout=60)
            _, alive = psutil.wait_procs(family, 10)
            assert not alive, f"processes outlive the command: {alive}"
            return process.returncode, errors
        _, errors = process.communicate()
        return process.returncode, errors

    def run(
        self, command: str, arguments: Callable[[Path], tuple[object, ...]], result: Callable[[Path], object]
    ) -> str:
        """Stop a command at random moments, each time in a folder of its own; compare with an unbroken run."""
        unbroken = self.folder / f"{command}-unbroken"
        seconds = self.finish(*arguments(unbroken))
        expected, names = result(unbroken), entries(unbroken)
        problems: Counter[str] = Counter()
        for number in range(self.stops):
            out = self.folder / f"{command}-{number}"
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
        if temporary := [path.name for path in self.temporary.glob("anthrotap*")]:
            problems[f"left in the folder for temporary files: {temporary[:3]}"] += 1
        return "; ".join(f"{count} x {text}" for text, count in problems.items()) or "equal, nothing left"


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


def label(bench: Bench) -> str:
    return bench.run(
        "label", lambda out: ("label", bench.videos, "--out", out, "--overwrite", "--threads", 1, *QUICK), rows
    )


def build(bench: Bench) -> str:
    return bench.run(
        "build", lambda out: ("build", bench.videos, "--out", out, "--workers", 1, "--threads", 1, *QUICK), rows
    )


def train(bench: Bench) -> str:
    settings = ("--steps", 6, "--set", "training.save_steps=2", "--device", "cpu")
    return bench.run(
        "train",
        lambda out: ("train", "tiny-procedural", "--out", out, *settings),
        lambda out: hashlib.sha256((out / "model/model.safetensors").read_bytes()).hexdigest(),
    )


def publish(bench: Bench) -> str:
    from helpers.hub_server import WRITER, running_hub  # type: ignore[import-not-found]

    with running_hub() as hub:
        bench.environment |= {
            "HF_ENDPOINT": hub.url,
            "HF_TOKEN": WRITER,
            "HF_HOME": str(bench.folder / "hub"),
            "HF_HUB_DISABLE_XET": "1",
        }
        return bench.run(
            "publish",
            lambda out: ("publish", "model", "locotrack-tiny", f"me/{out.name}"),
            lambda out: {
                name: content
                for key, repository in hub.repositories.items()
                if out.name in str(key)
                for name, content in repository.files().items()
                if name != "README.md" and not name.startswith(".")
            },
        )


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
        for signal_number in STOPS[how]:
            process.send_signal(signal_number)
            time.sleep(0.05)
        _, errors = process.communicate(timeout=60)
        if process.returncode not in CODES.get(how, {130}):
            problems[f"exit code {process.returncode} after {how} at {after:.1f} s: {errors[-200:]!r}"] += 1
        if "Traceback" in errors:
            problems[f"a traceback after {how} at {after:.1f} s: {errors[-300:]!r}"] += 1
        if how == "kill -9":
            process = bench.start("app")
            assert process.stdout is not None
            process.stdout.readline()
            process.terminate()
            process.communicate(timeout=60)
        if left := list(bench.temporary.glob("anthrotap-app-*/*")):
            problems[f"left after {how} at {after:.1f} s: {left[0].name}"] += 1
    return "; ".join(f"{count} x {text}" for text, count in problems.items()) or "nothing left"


COMMANDS = {"label": label, "build": build, "train": train, "publish": publish, "app": app}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("commands", nargs="*", help=", ".join(COMMANDS))
    parser.add_argument("--stops", type=int, default=20)
    parser.add_argument("--folder", type=Path, default=Path("outputs/stops"))
    options = parser.parse_args()
    bench = Bench(options.folder.absolute(), options.stops)
    print(f"stopped by {', '.join(STOPS)} in turn\n\n| command | stops | run again, compared with an unbroken run |")
    print("|---|---|---|")
    for name in options.commands or COMMANDS:
        print(f"| {name} | {options.stops} | {COMMANDS[name](bench)} |", flush=True)


if __name__ == "__main__":
    main()
