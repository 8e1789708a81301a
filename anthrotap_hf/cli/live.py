"""`anthrotap track --live`: points in frames as they come; positions, or frames with them, on standard output."""

from __future__ import annotations

import csv
import json
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from anthrotap_hf.cli import common
from anthrotap_hf.pipelines.queries import query_points
from anthrotap_hf.tracks import Tracks
from anthrotap_hf.utils.errors import AnthroTapError

if TYPE_CHECKING:
    from anthrotap_hf.pipelines import OnlineTracker
    from anthrotap_hf.pipelines.online import OnlineOutput
    from anthrotap_hf.video.live import LiveFrame

OUTPUTS = ("json", "csv", "frames")
COLUMNS = ("t", "id", "x", "y", "visible", "score", "uncertainty")
# Frames that a line follows a point back.
TRAIL = 12


def open_source(source: str, size: tuple[int, int] | None) -> Iterator[np.ndarray]:
    """Return the images of a camera's number, an address or a file, or raw frames on standard input for "-"."""
    from anthrotap_hf.video.live import camera_images, raw_images, stream_images

    if source == "-":
        if size is None:
            raise AnthroTapError("--live - reads raw frames: --size HEIGHTxWIDTH says how large they are")
        return raw_images(sys.stdin.buffer, *size)
    if size is not None:
        raise AnthroTapError("--size is for raw frames on standard input, --live -")
    if source.isascii() and source.isdecimal():
        return camera_images(int(source))
    if "://" not in source and not Path(source).is_file():
        raise AnthroTapError("no camera's number, no address and no file", path=source)
    return stream_images(source)


def track_live(
    tracker: OnlineTracker,
    images: Iterator[np.ndarray],
    points: list[list[float]],
    grid: int | None,
    output: str,
    drop: bool,
) -> None:
    """Track points through a live source and write to standard output, until it ends.

    Args:
        tracker: the tracker.
        images: of the source.
        points: [[t, x, y], ...]: added in frame t, or the first one after it that is not dropped.
        grid: side of a grid of points on the first frame.
        output: what is written, one of `OUTPUTS`.
        drop: whether frames are dropped rather than delayed.
    """
    from anthrotap_hf.video.live import live_frames

    write = {"json": _json_writer, "csv": _csv_writer, "frames": _frames_writer}[output]()
    waiting = sorted(points)
    # Frames whose points are not given yet: as many as the tracker is late, and the last one.
    pending: deque[LiveFrame] = deque()
    start, taken = time.monotonic(), 0
    with common.progress_bars() as on_progress:
        for frame in live_frames(images, drop):
            pending.append(frame)
            taken += 1
            found = tracker.step(frame.image)
            added = [point[1:] for point in waiting if point[0] <= frame.number]
            waiting = waiting[len(added) :]
            if grid is not None and taken == 1:
                added += query_points(1, frame.image.shape[0], frame.image.shape[1], grid_size=grid)[:, 1:].tolist()
            if added:
                tracker.add(added)
                if found is not None and not tracker.delay:
                    found = tracker.points_now()
            if found is not None:
                write(pending.popleft(), found)
            late = time.monotonic() - start - frame.time
            rate = taken / max(time.monotonic() - start, 1e-6)
            dropped = frame.number + 1 - taken
            note = f"{rate:.1f}/s, {tracker.delay} frames and {1000 * late:.0f} ms late, {dropped} dropped"
            on_progress("live", taken, None, note)
        for found in tracker.finish():
            write(pending.popleft(), found)


Write = Callable[["LiveFrame", "OnlineOutput"], None]


def _rows(found: OnlineOutput) -> Iterator[tuple[int, np.ndarray, bool, float, float]]:
    """Yield id, xy, visible, score and uncertainty of each point."""
    yield from zip(found.ids, found.xy, found.visible, found.scores, found.uncertainty, strict=True)


def _json_writer() -> Write:
    def write(frame: LiveFrame, found: OnlineOutput) -> None:
        points = [
            {
                "id": id_,
                "x": round(float(x), 3),
                "y": round(float(y), 3),
                "visible": bool(visible),
                "score": round(float(score), 4),
                "uncertainty": round(float(uncertainty), 4),
            }
            for id_, (x, y), visible, score, uncertainty in _rows(found)
        ]
        print(json.dumps({"t": frame.number, "time": round(frame.time, 4), "points": points}), flush=True)

    return write


def _csv_writer() -> Write:
    table = csv.writer(sys.stdout, lineterminator="\n")
    table.writerow(COLUMNS)

    def write(frame: LiveFrame, found: OnlineOutput) -> None:
        for id_, (x, y), visible, score, uncertainty in _rows(found):
            table.writerow(
                (frame.number, id_, f"{x:.3f}", f"{y:.3f}", int(visible), f"{score:.4f}", f"{uncertainty:.4f}")
            )
        sys.stdout.flush()

    return write


def _frames_writer() -> Write:
    from anthrotap_hf.visualization.overlay import draw_tracks

    # The last places of each point; before its first frame it has been there, not visible.
    trails: dict[int, deque[tuple[np.ndarray, bool]]] = {}

    def write(frame: LiveFrame, found: OnlineOutput) -> None:
        image = frame.image
        if found.ids:
            for id_, place, seen in zip(found.ids, found.xy, found.visible, strict=True):
                trail = trails.setdefault(id_, deque([(place, False)] * TRAIL, maxlen=TRAIL))
                trail.append((place, bool(seen)))
            xy = np.array([[place for place, _ in trails[id_]] for id_ in found.ids], np.float32)
            visible = np.array([[seen for _, seen in trails[id_]] for id_ in found.ids])
            height, width = image.shape[:2]
            tracks = Tracks.from_labels(xy, visible, np.ones_like(visible), height=height, width=width)
            image = draw_tracks(image, tracks, TRAIL - 1, trail=TRAIL)
        sys.stdout.buffer.write(image.tobytes())
        sys.stdout.buffer.flush()

    return write
