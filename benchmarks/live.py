"""How fast `OnlineTracker` is, and how late: CPU-ms a frame of each kind of tracker, by frame size and points.

    python -m benchmarks.live VIDEO                 # all kinds, 256x256 and 480x480, 1, 10 and 100 points
    python -m benchmarks.live VIDEO --trackers locotrack-tiny --sizes 256

FlowChain and LocoTrack-tiny are the bundled ones. The others are networks of the released sizes with random weights,
on which speed does not depend. One thread; the first frames, in which windows fill, are not counted.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from transformers import pipeline

from anthrotap_hf.models import CONFIGS, TRACKERS
from anthrotap_hf.pipelines import OnlineTracker, load_tracker
from anthrotap_hf.video import iter_frames

FILLED = 24


def of_size(kind: str, **settings: Any) -> Callable[[], Any]:
    """Return what makes a tracker of the released size with random weights."""

    def make() -> Any:
        torch.manual_seed(0)
        return pipeline("point-tracking", model=TRACKERS.load(kind)(CONFIGS.load(kind)(**settings)).eval())

    return make


MAKERS: dict[str, Callable[[], Any]] = {
    "flowchain": lambda: load_tracker("flowchain"),
    "locotrack-tiny": load_tracker,
    "causal TAPIR": of_size("tapir", causal=True),
    "TAPNext-B": of_size("tapnext"),
    "CoTracker3 online": of_size("cotracker3", online=True, window_size=16),
}


def measure(tracker: Any, frames: list[np.ndarray], size: int, points: int) -> tuple[float, int]:
    """Return CPU-ms a frame, and the delay in frames."""
    resolution = None if tracker.model.config.model_type == "tapnext" else (size, size)
    online = OnlineTracker(tracker, resolution)
    height, width = frames[0].shape[:2]
    places = np.random.default_rng(0).uniform([0.2 * width, 0.2 * height], [0.8 * width, 0.8 * height], (points, 2))
    for t, frame in enumerate(frames):
        if t == FILLED:
            start = time.process_time()
        online.step(frame)
        if t == 0:
            online.add(places)
    return 1000 * (time.process_time() - start) / (len(frames) - FILLED), online.delay


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("video", type=Path)
    parser.add_argument("--trackers", nargs="+", default=list(MAKERS), choices=list(MAKERS))
    parser.add_argument("--sizes", nargs="+", type=int, default=[256, 480])
    parser.add_argument("--points", nargs="+", type=int, default=[1, 10, 100])
    parser.add_argument("--frames", type=int, default=40)
    options = parser.parse_args()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    frames = [frame.image for frame in islice(iter_frames(options.video), options.frames)]
    table = Table(title=f"{options.video.name}, one thread: CPU-ms a frame (frames a second)")
    for column in ("tracker", "size", "delay, frames", *(f"{points} points" for points in options.points)):
        table.add_column(column, justify="left" if column == "tracker" else "right")
    for name in options.trackers:
        tracker = MAKERS[name]()
        sizes = [256] if name == "TAPNext-B" else options.sizes
        for size in sizes:
            cells, delay = [], 0
            for points in options.points:
                ms, delay = measure(tracker, frames, size, points)
                cells.append(f"{ms:.0f} ({1000 / ms:.1f})")
            table.add_row(name, str(size), str(delay), *cells)
    Console().print(table)


if __name__ == "__main__":
    main()
