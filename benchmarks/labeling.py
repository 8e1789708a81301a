"""Rate, memory and result of `anthrotap label`, as a user runs it.

    python -m benchmarks.labeling VIDEO...             # a row a video: rate by stage, people, tracks, labels
    python -m benchmarks.labeling --memory LONG_VIDEO  # peak memory over its first 100, 400 and all frames
    python -m benchmarks.labeling --soak 30000 VIDEO   # memory and threads over time, of the video again and again

Each video is labeled by a new process, after one that is not counted (compilation, caches).
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from itertools import cycle, islice
from pathlib import Path

from anthrotap_hf.video import VideoWriter, iter_frames, probe

STAGES = ("reading", "detection", "mesh_recovery", "visibility", "flow", "filtering", "labeled_motion")


def label(
    video: Path, out: Path, *options: str, watch: Callable[[subprocess.Popen], object] | None = None
) -> tuple[dict, float]:
    """The summary that `anthrotap label --json` prints, and the process's peak memory in MB; `watch` sees it run."""
    command = [
        sys.executable,
        "-m",
        "anthrotap_hf.cli.main",
        "label",
        str(video),
        "--out",
        str(out),
        "--overwrite",
    ]
    with tempfile.TemporaryFile() as output, open(os.devnull, "wb") as nowhere:
        child = subprocess.Popen([*command, "--json", *options], stdout=output, stderr=nowhere)
        try:
            if watch:
                watch(child)
            _, _, usage = os.wait4(child.pid, 0)
        finally:
            child.kill()
        output.seek(0)
        (summary,) = json.load(output)
    return summary, usage.ru_maxrss / 1024


def first_frames(video: Path, count: int, path: Path) -> Path:
    """The first `count` frames as a video of their own."""
    with VideoWriter(path, probe(video).fps or 30) as writer:
        for frame in islice(iter_frames(video), count):
            writer.write(frame.image)
    return path


def repeated(video: Path, count: int, path: Path) -> Path:
    """The frames of a short video again and again, `count` of them, as a video of their own."""
    images = [frame.image for frame in iter_frames(video, 480)]
    with VideoWriter(path, probe(video).fps or 30) as writer:
        for image in islice(cycle(images), count):
            writer.write(image)
    return path


def watch_memory(child: subprocess.Popen) -> None:
    """Print a row for each minute that a process runs: the most memory and native threads that it had."""
    print("| minute | memory | threads |\n|---|---|---|")
    begin, minute, memory, threads = time.monotonic(), 1, 0, 0
    while True:
        status = dict(line.split(":", 1) for line in Path(f"/proc/{child.pid}/status").read_text().splitlines())
        # A process that has ended has no memory, and waits for its parent.
        running = "VmRSS" in status
        if running:
            memory = max(memory, int(status["VmRSS"].split()[0]) // 1024)
            threads = max(threads, int(status["Threads"]))
        if not running or time.monotonic() - begin >= 60 * minute:
            print(f"| {minute} | {memory} MB | {threads} |", flush=True)
            minute, memory, threads = minute + 1, 0, 0
        if not running:
            return
        time.sleep(0.5)


def rates(videos: list[Path], folder: Path) -> None:
    print(
        f"| video | people | frames/s | {' | '.join(f'{s} ms' for s in STAGES)} "
        "| tracks | visible | occluded | rejected |"
    )
    print(f"|---|---|---|{'---|' * len(STAGES)}---|---|---|---|")
    label(videos[0], folder)
    for video in videos:
        found, _ = label(video, folder)
        if not found["frames"]:
            print(f"| {video.name} | {found['failure'].rpartition(': ')[2]} |")
            continue
        stages = " | ".join(f"{1000 * found[f'{s}_seconds'] / found['frames']:.0f}" for s in STAGES)
        labels = " | ".join(f"{100 * found[key]:.0f} %" for key in ("visible", "occluded", "rejected"))
        rate = found["frames"] / found["seconds"]
        print(f"| {video.name} | {found['people']} | {rate:.1f} | {stages} | {found['tracks']} | {labels} |")


def memory(video: Path, folder: Path) -> None:
    print("| frames | peak memory |\n|---|---|")
    for count in (100, 400, None):
        part = video if count is None else first_frames(video, count, folder / f"first-{count}.mp4")
        _, peak = label(part, folder / "labels")
        print(f"| {count or 'all'} | {peak:.0f} MB |", flush=True)


def soak(video: Path, count: int, folder: Path) -> None:
    found, peak = label(repeated(video, count, folder / "soak.mp4"), folder / "labels", watch=watch_memory)
    print(f"peak {peak:.0f} MB, {found['frames']} frames labeled in {found['seconds']:.0f} s")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("videos", nargs="+", type=Path, metavar="VIDEO")
    parser.add_argument("--memory", action="store_true", help="peak memory instead of rates")
    parser.add_argument("--soak", type=int, metavar="FRAMES", help="memory over time, of a video of so many frames")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as tmp_path:
        if options.memory:
            memory(options.videos[0], Path(tmp_path))
        elif options.soak:
            soak(options.videos[0], options.soak, Path(tmp_path))
        else:
            rates(options.videos, Path(tmp_path))
