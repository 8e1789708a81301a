"""Trackers on points of real clips whose places were looked at by eye, enlarged, in five frames of two seconds.

    python -m benchmarks.hand_checked CLIPS                     # the bundled tracker and FlowChain
    python -m benchmarks.hand_checked CLIPS --model FOLDER

CLIPS is the folder of the clips; the points, NAME.csv here, are in raster pixels of NAME's video. They were proposed by
Lucas-Kanade at full size, forward and back, and kept if the same spot was under the cross in all five frames, to about
two pixels. So they are points that can be seen and followed: 40 in nine clips, eight of them on people. A point's
first place is the query; the other four are scored. Errors are in pixels of a frame whose short side is 480.
"""

from __future__ import annotations

import argparse
import csv
from itertools import islice
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from anthrotap_hf.pipelines import load_tracker
from anthrotap_hf.video import iter_frames

HERE = Path(__file__).parent
SHORT_SIDE = 480
WITHIN = (4, 8, 16)


def read_points(file: Path) -> dict[str, list[tuple[int, float, float]]]:
    """Return the places (t, x, y) of each point of a clip, in order of time."""
    points: dict[str, list[tuple[int, float, float]]] = {}
    with file.open(newline="") as lines:
        for row in csv.DictReader(lines):
            points.setdefault(row["track"], []).append((int(row["t"]), float(row["x"]), float(row["y"])))
    return {track: sorted(places) for track, places in points.items()}


def errors_of(tracker: Any, clips: Path, file: Path) -> tuple[np.ndarray, np.ndarray]:
    """Return how far a tracker is off in each place of a clip but the first, and whether it calls it visible."""
    points = read_points(file)
    first, last = (choose(t for places in points.values() for t, _, _ in places) for choose in (min, max))
    video = next(path for path in sorted(clips.iterdir()) if path.stem == file.stem and path.suffix != ".txt")
    frames = np.stack([frame.image for frame in islice(iter_frames(video), first, last + 1)])
    queries = [(places[0][0] - first, *places[0][1:]) for places in points.values()]
    found = tracker(frames, points=queries)
    off, visible = [], []
    for n, places in enumerate(points.values()):
        for t, x, y in places[1:]:
            off.append(np.hypot(*(found["tracks"][n, t - first] - [x, y])) * SHORT_SIDE / min(frames.shape[1:3]))
            visible.append(found["visible"][n, t - first])
    return np.array(off), np.array(visible)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clips", type=Path, help="folder of the clips")
    parser.add_argument("--model", action="append", default=[], help="a tracker's name or folder; may be repeated")
    options = parser.parse_args()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    table = Table(title=f"points checked by eye, pixels of a frame of short side {SHORT_SIDE}")
    for column in (
        "tracker",
        "clip",
        "places",
        "median off",
        *(f"within {limit}, %" for limit in WITHIN),
        "visible, %",
    ):
        table.add_column(column, justify="left" if column in ("tracker", "clip") else "right")
    for name in options.model or ["locotrack-tiny", "flowchain"]:
        tracker = load_tracker(name)
        found = {file.stem: errors_of(tracker, options.clips, file) for file in sorted(HERE.glob("*.csv"))}
        both = [np.concatenate(part) for part in zip(*found.values(), strict=True)]
        for clip, (off, visible) in {**found, "all": (both[0], both[1])}.items():
            shares = (f"{100 * (off < limit).mean():.0f}" for limit in WITHIN)
            table.add_row(name, clip, str(len(off)), f"{np.median(off):.1f}", *shares, f"{100 * visible.mean():.0f}")
    Console().print(table)


if __name__ == "__main__":
    main()
