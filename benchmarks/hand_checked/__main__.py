"""Trackers on points of real clips whose places were looked at by eye, enlarged, and how many clicks correct a track.

    python -m benchmarks.hand_checked CLIPS                     # the bundled tracker and FlowChain
    python -m benchmarks.hand_checked CLIPS --model FOLDER
    python -m benchmarks.hand_checked CLIPS --clicks juggle woman_and_dog

CLIPS is the folder of the clips; the points, NAME.csv here, are in raster pixels of NAME's video. Most were proposed by
Lucas-Kanade at full size, forward and back, which favors trackers like it; tracks 20 and up were placed by hand, on
buttons, a hem and a badge. A second look at all of them, enlarged five times, moved or left out places that were off by
more than two pixels. All are points that can be seen. A point's first place is the query; the others are scored. Errors
are in pixels of a frame whose short side is 480.

Half of the points belong to a background that hardly moves. So there is a line for `moving` points, which go 4 pixels
or more from their query, and one for a tracker that leaves every point where its query is.

Clicks: of each moving point, a click at the place that is off most, until all places are within 4 pixels. Without
tracking, a track is the line between clicks, and stays at the first and the last. Nothing between the places is
judged, which favors the lines; a point never needs more clicks than it has places after its query.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Callable, Sequence
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from anthrotap_hf.pipelines import load_tracker
from anthrotap_hf.pipelines.corrections import EditedPoint, PointEditor
from anthrotap_hf.video import iter_frames

HERE = Path(__file__).parent
SHORT_SIDE = 480
WITHIN = (4, 8, 16)
# A point that goes so far from its query, in pixels of the small frame, moves; so near, a track needs no click.
MOVING = NEAR = 4
STAYS = "stays at its query"

Place = tuple[int, float, float]


def read_points(file: Path) -> dict[str, list[Place]]:
    """Return the places (t, x, y) of each point of a clip, in order of time."""
    points: dict[str, list[Place]] = {}
    with file.open(newline="") as lines:
        for row in csv.DictReader(lines):
            points.setdefault(row["track"], []).append((int(row["t"]), float(row["x"]), float(row["y"])))
    return {track: sorted(places) for track, places in points.items()}


def read_frames(clips: Path, name: str, points: dict[str, list[Place]]) -> tuple[int, np.ndarray]:
    """Return the first frame that points need, and [T, H, W, 3], the frames from it to the last."""
    times = [t for places in points.values() for t, _, _ in places]
    video = next(path for path in sorted(clips.iterdir()) if path.stem == name and path.suffix != ".txt")
    frames = [frame.image for frame in islice(iter_frames(video), min(times), max(times) + 1)]
    return min(times), np.stack(frames)


def off_by(places: Sequence[Place], found: Sequence[tuple[float, float]], frames: np.ndarray) -> np.ndarray:
    """Return how far positions are from places, in pixels of a frame whose short side is 480."""
    apart = np.array([place[1:] for place in places]) - np.array(found)
    off: np.ndarray = np.hypot(*apart.T) * SHORT_SIDE / min(frames.shape[1:3])
    return off


def moves(places: Sequence[Place], frames: np.ndarray) -> bool:
    """Say whether a point goes away from its query."""
    return bool(off_by(places, [places[0][1:]] * len(places), frames).max() >= MOVING)


def errors_of(tracker: Any, clips: Path, file: Path) -> np.ndarray:
    """Return [P, 3] of the places of a clip but the queries: how far a tracker is off, whether it says visible, whether
    the point moves. No tracker leaves each point where its query is."""
    points = read_points(file)
    first, frames = read_frames(clips, file.stem, points)
    if tracker is not None:
        queries = [(places[0][0] - first, *places[0][1:]) for places in points.values()]
        found = tracker(frames, points=queries)
    rows = []
    for n, places in enumerate(points.values()):
        scored = places[1:]
        times = [t - first for t, _, _ in scored]
        at = [places[0][1:]] * len(scored) if tracker is None else found["tracks"][n, times]
        visible = np.ones(len(scored)) if tracker is None else found["visible"][n, times]
        moving = np.full(len(scored), moves(places, frames))
        rows.append(np.stack([off_by(scored, at, frames), visible, moving], 1))
    return np.concatenate(rows)


def along_lines(clicks: Sequence[Place], times: Sequence[int]) -> list[tuple[float, float]]:
    """Return positions on the lines between clicks; before and after them, at the first and the last."""
    t, x, y = zip(*clicks, strict=True)
    return list(zip(np.interp(times, t, x), np.interp(times, t, y), strict=True))


def clicks_needed(
    track: Callable[[list[Place], list[int]], Sequence[tuple[float, float]]],
    places: Sequence[Place],
    off: Callable[[Sequence[tuple[float, float]]], np.ndarray],
) -> int:
    """Return how many places but the first have to be clicked, the worst first, until all are near.

    Args:
        track: of clicks and frames: the positions in the frames.
        places: of the point.
        off: of positions at the places: how far off they are.
    """
    clicks, times = [places[0]], [t for t, _, _ in places]
    while True:
        errors = off(track(clicks, times))
        # A click is exact, so each one is of a place that was not clicked.
        worst = int(np.argmax(errors))
        if errors[worst] <= NEAR:
            return len(clicks) - 1
        clicks = sorted([*clicks, places[worst]])


def count_clicks(tracker: Any, clips: Path, name: str) -> tuple[int, int, int, int]:
    """Return of the moving points of a clip: how many, their places, clicks with tracking, and clicks without."""
    points = read_points(HERE / f"{name}.csv")
    first, frames = read_frames(clips, name, points)
    moving = [[(t - first, x, y) for t, x, y in places] for places in points.values() if moves(places, frames)]
    editor = PointEditor(tracker, frames)

    def tracked(clicks: list[Place], times: list[int]) -> Any:
        return editor.track([EditedPoint(0, tuple(clicks))]).xy[0, times]

    again, lines = 0, 0
    for places in moving:
        off = partial(off_by, places, frames=frames)
        again += clicks_needed(tracked, places, off)
        lines += clicks_needed(along_lines, places, off)
    return len(moving), sum(len(places) - 1 for places in moving), again, lines


def print_errors(names: Sequence[str], clips: Path) -> None:
    """Print a table of how far trackers are off."""
    table = Table(title=f"points checked by eye, pixels of a frame of short side {SHORT_SIDE}")
    within = [f"within {limit}, %" for limit in WITHIN]
    for column in ("tracker", "clip", "places", "median off", *within, "visible, %"):
        table.add_column(column, justify="left" if column in ("tracker", "clip") else "right")
    for name in (*names, STAYS):
        tracker = None if name == STAYS else load_tracker(name)
        found = {file.stem: errors_of(tracker, clips, file) for file in sorted(HERE.glob("*.csv"))}
        every = np.concatenate(list(found.values()))
        for clip, rows in {**found, "all": every, "moving": every[every[:, 2] > 0]}.items():
            off, visible, _ = rows.T
            shares = (f"{100 * (off < limit).mean():.0f}" for limit in WITHIN)
            seen = "" if tracker is None else f"{100 * visible.mean():.0f}"
            table.add_row(name, clip, str(len(off)), f"{np.median(off):.1f}", *shares, seen)
    Console().print(table)


def print_clicks(names: Sequence[str], clips: Path, chosen: Sequence[str]) -> None:
    """Print a table of how many clicks bring tracks near."""
    table = Table(title=f"clicks until moving points are within {NEAR} pixels")
    for column in ("tracker", "clip", "points", "places", "clicks, tracked again", "clicks, lines between them"):
        table.add_column(column, justify="left" if column in ("tracker", "clip") else "right")
    for name in names:
        tracker = load_tracker(name)
        for clip in chosen:
            table.add_row(name, clip, *map(str, count_clicks(tracker, clips, clip)))
    Console().print(table)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clips", type=Path, help="folder of the clips")
    parser.add_argument("--model", action="append", default=[], help="a tracker's name or folder; may be repeated")
    parser.add_argument(
        "--clicks",
        nargs="+",
        default=[],
        choices=sorted(file.stem for file in HERE.glob("*.csv")),
        help="clips of which to count clicks, in place of errors",
    )
    options = parser.parse_args()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    names = options.model or ["locotrack-tiny", "flowchain"]
    if options.clicks:
        print_clicks(names, options.clips, options.clicks)
    else:
        print_errors(names, options.clips)


if __name__ == "__main__":
    main()
