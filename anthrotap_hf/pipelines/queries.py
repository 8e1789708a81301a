"""The points that are tracked, from the ways to say which. Saved pipelines take a copy of this file along."""

from __future__ import annotations

import operator
from typing import Any

import numpy as np


def query_points(
    num_frames: int,
    height: int,
    width: int,
    points: Any = None,
    grid_size: int | None = None,
    query_frame: int | None = None,
    points_per_frame: int | None = None,
) -> np.ndarray:
    """Return queries [N, 3] float64 (t, x, y) in a video's pixels; see `PointTrackingPipeline.__call__`.

    Raises:
        ValueError: not exactly one of `points`, `grid_size`, `points_per_frame` is given, or points lie outside the
            video.
    """
    ways = {"points": points, "grid_size": grid_size, "points_per_frame": points_per_frame}
    named = [name for name, value in ways.items() if value is not None]
    if len(named) != 1:
        got = f"got {' and '.join(named)}" if named else "got none"
        raise ValueError(f"say what to track by one of points=[[t, x, y], ...], grid_size= or points_per_frame=; {got}")
    if query_frame is not None and grid_size is None:
        raise ValueError("query_frame belongs to grid_size; points have their own t")
    if points is not None:
        return _check_points(points, num_frames, height, width)
    count = _whole(grid_size if points_per_frame is None else points_per_frame)
    if count is None or count < 1:
        raise ValueError(f"{named[0]} must be a whole number from 1 up, got {ways[named[0]]!r}")
    if grid_size is not None:
        t = _whole(query_frame or 0)
        if t is None or not 0 <= t < num_frames:
            raise ValueError(f"query_frame must be a whole number from 0 to {num_frames - 1}, got {query_frame!r}")
        if count > min(height, width):
            raise ValueError(f"a grid of {count} x {count} is finer than the video, {width} x {height}")
        centers = (np.arange(count) + 0.5) / count
        y, x = (axis.ravel() for axis in np.meshgrid(centers * height, centers * width, indexing="ij"))
        return np.stack([np.full(count**2, t), x, y], axis=1)
    if count > height * width:
        raise ValueError(f"points_per_frame {count} is more than the video has pixels, {height * width}")
    # A low-discrepancy sequence (the plastic number's; Roberts 2018) fills the frame evenly, however many.
    plastic = 1.324717957244746
    number = np.arange(num_frames * count)
    xy = (0.5 + number[:, None] / [plastic, plastic**2]) % 1 * [width, height]
    return np.concatenate([number[:, None] // count, xy], axis=1)


def support_points(points: np.ndarray, count: int, height: int, width: int) -> np.ndarray:
    """Return `count` queries around each one, for trackers whose queries attend to each other.

    They lie in the query's frame, at the centers of a grid over a box of an eighth of the video's width and height, and
    are moved into the video, as in TAPNext++'s entry of VOTSp2026 (google-deepmind/tapnet, tapnextpp).

    Args:
        points: [N, 3] (t, x, y), pixels of the video.
        count: from 1 up; the grid's last row is cut to it.

    Returns:
        [N count, 3], those of the first query first.
    """
    box = np.array([width / 8, height / 8])
    columns = max(1, round(float(np.sqrt(count * width / height))))
    rows = -(-count // columns)
    y, x = (axis.ravel()[:count] for axis in np.mgrid[:rows, :columns] + 0.5)
    offsets = (np.stack([x / columns, y / rows], axis=1) - 0.5) * box
    xy = np.clip(points[:, None, 1:] + offsets, 0, [width - 1, height - 1])
    return np.concatenate([np.repeat(points[:, :1], count, axis=0), xy.reshape(-1, 2)], axis=1)


def _whole(value: Any) -> int | None:
    """Return a whole number, numpy's too; None for anything else."""
    if isinstance(value, bool):
        return None
    try:
        return operator.index(value)
    except TypeError:
        return None


def _check_points(points: Any, num_frames: int, height: int, width: int) -> np.ndarray:
    try:
        queries = np.asarray(points, np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(f"points must be numbers [[t, x, y], ...]: {error}") from error
    if queries.size == 0:
        raise ValueError("no query point: give at least one [t, x, y]")
    if queries.ndim != 2 or queries.shape[1] != 3:
        raise ValueError(f"points must be [[t, x, y], ...], got an array of shape {list(queries.shape)}")
    t = queries[:, 0]
    with np.errstate(invalid="ignore"):
        # NaN fails both comparisons.
        inside = np.all((queries >= 0) & (queries <= [num_frames - 1, width, height]), axis=1)
    fine = inside & (t == np.round(t))
    if not fine.all():
        n = int(np.argmin(fine))
        reason = "not in a whole frame" if inside[n] else "outside the video"
        raise ValueError(
            f"point {n} is (t, x, y) = ({', '.join(f'{value:g}' for value in queries[n])}), {reason}: t is a whole "
            f"number from 0 to {num_frames - 1}, x from 0 to {width}, y from 0 to {height}"
        )
    return queries
