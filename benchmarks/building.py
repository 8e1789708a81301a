"""What `anthrotap build` costs: memory as the number of videos grows, and what another worker gains.

python -m benchmarks.building memory --videos 10 --videos 100 --videos 1000
python -m benchmarks.building workers
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import time
from itertools import islice
from pathlib import Path

import cv2
import numpy as np
import psutil

from anthrotap_hf.video import iter_frames, write_video

CLIPS = Path(__file__).parents[1] / "../shared/clips"
NAMES = ("juggle.mp4", "two_people_cam01.mp4", "balance_cam01.mp4", "upper_body.mkv")
QUICK = ["--set", "points=64"]


def short_videos(folder: Path, count: int, frames: int = 12, short_side: int = 144) -> list[Path]:
    """So many small videos of people, all different: pieces of real clips, again and again in other brightness."""
    folder.mkdir(parents=True, exist_ok=True)
    pieces = []
    for name in NAMES:
        images = [frame.image for frame in islice(iter_frames(CLIPS / name, short_side), 16 * frames)]
        pieces += [images[start : start + frames] for start in range(0, len(images) - frames + 1, frames)]
    paths = []
    for number in range(count):
        path = folder / f"{number:05d}.mp4"
        if not path.exists():
            darker = 1 - 0.3 * (number // len(pieces)) / max(count / len(pieces), 1)
            images = pieces[number % len(pieces)]
            write_video(path, (cv2.convertScaleAbs(image, alpha=darker) for image in images), 25)
        paths.append(path)
    return paths


def run(videos: Path, out: Path, *options: str) -> tuple[dict, float, dict[str, list[float]]]:
    """A build as a user runs it: its result, its wall seconds, and the memory of its processes over time, MB."""
    command = [
        sys.executable,
        "-m",
        "anthrotap_hf.cli.main",
        "build",
        str(videos),
        "--out",
        str(out),
        "--json",
    ]
    begin = time.perf_counter()
    process = subprocess.Popen([*command, *QUICK, *options], stdout=subprocess.PIPE, text=True)
    memory: dict[str, list[float]] = {"driver": [], "workers": [], "labeling": []}
    while process.poll() is None:
        for kind, value in _memory(process.pid).items():
            memory[kind].append(value)
        time.sleep(0.5)
    assert process.stdout is not None
    output = process.stdout.read()
    if process.returncode:
        raise SystemExit(f"the build ended with {process.returncode}: {output}")
    return json.loads(output), time.perf_counter() - begin, memory


def _memory(driver: int) -> dict[str, float]:
    sums = dict.fromkeys(("driver", "workers", "labeling"), 0.0)
    try:
        root = psutil.Process(driver)
        for process in [root, *root.children(recursive=True)]:
            kind = "driver" if process.pid == driver else "workers"
            if "anthrotap labeling" in process.cmdline():
                kind = "labeling"
            sums[kind] = max(sums[kind], process.memory_info().rss / 1e6)
    except psutil.Error:
        return {}
    return sums


def memory(folder: Path, counts: list[int]) -> None:
    print("| videos | driver, MB | worker, MB | labeling process, MB | videos/h |\n|---|---|---|---|---|")
    for count in counts:
        videos = folder / f"videos-{count}"
        short_videos(videos, count)
        out = folder / f"out-{count}"
        shutil.rmtree(out, ignore_errors=True)
        report, seconds, taken = run(videos, out, "--workers", "2", "--threads", "1")
        assert report["labeled"] == count
        peaks = " | ".join(f"{max(values):.0f}" for values in taken.values())
        print(f"| {count:,} | {peaks} | {3600 * count / seconds:,.0f} |", flush=True)


def workers(folder: Path, count: int, rounds: int) -> None:
    """Whole clips at labeling size, as they are."""
    videos = folder / "clips"
    videos.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        source = CLIPS / NAMES[number % len(NAMES)]
        copy = videos / f"{number:02d}.mp4"
        if not copy.exists():
            images = (frame.image for frame in islice(iter_frames(source, 480), 96))
            write_video(copy, images, 30)
    cases = {
        "1 worker, 1 thread": ("--workers", "1", "--threads", "1"),
        "1 worker, 2 threads": ("--workers", "1", "--threads", "2"),
        "2 workers, 1 thread": ("--workers", "2", "--threads", "1"),
    }
    taken: dict[str, list[float]] = {name: [] for name in cases}
    for _ in range(rounds):
        for name, options in cases.items():
            out = folder / "out-workers"
            shutil.rmtree(out, ignore_errors=True)
            taken[name].append(run(videos, out, "--set", "points=1024", *options)[1])
    first = np.median(taken["1 worker, 1 thread"])
    print(f"{count} videos of 96 frames at 480p, {rounds} rounds in turn, with starting and finishing:\n")
    print("| | videos/h | against 1 worker, 1 thread |\n|---|---|---|")
    for name, seconds in taken.items():
        median = np.median(seconds)
        print(f"| {name} | {3600 * count / median:.0f} | {first / median:.2f}x |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["memory", "workers"])
    parser.add_argument("--videos", type=int, action="append", help="how many; may be repeated for memory")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--folder", type=Path, default=Path("outputs/building"))
    options = parser.parse_args()
    if options.what == "memory":
        memory(options.folder, options.videos or [10, 100, 1000])
    else:
        workers(options.folder, (options.videos or [8])[0], options.rounds)


if __name__ == "__main__":
    main()
