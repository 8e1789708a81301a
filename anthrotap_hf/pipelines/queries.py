"""The points that are tracked, from the ways to say which. Saved pipelines take a copy of this file along."""

from __future__ import annotations

import operator
import os
from pathlib import Path
from typing import Any

import numpy as np

from .video import ImageFolder, image_folder


def query_points(
    num_frames: int,
    height: int,
    width: int,
    points: Any = None,
    grid_size: int | str | None = None,
    query_frame: int | None = None,
    points_per_frame: int | None = None,
    mask: Any = None,
) -> np.ndarray:
    """Return queries [N, 3] float64 (t, x, y) in a video's pixels; see `PointTrackingPipeline.__call__`.

    Raises:
        ValueError: the options don't say what to track, points lie outside the video, or no query lies in the mask.
        VideoError: a picture of the mask can't be read.
    """
    ways = {"points": points, "grid_size": grid_size, "points_per_frame": points_per_frame}
    named = [name for name, value in ways.items() if value is not None]
    if not named or (len(named) > 1 and "points_per_frame" in named):
        got = f"got {' and '.join(named)}" if named else "got none"
        raise ValueError(
            "say what to track by one of points=[[t, x, y], ...], grid_size= or points_per_frame=, or by the first "
            f"two; {got}"
        )
    if query_frame is not None and grid_size is None:
        raise ValueError("query_frame belongs to grid_size; points have their own t")
    if mask is not None and named == ["points"]:
        raise ValueError("mask belongs to grid_size or points_per_frame: say by one of them how many points it gets")
    parts = []
    if points is not None:
        parts.append(_check_points(points, num_frames, height, width))
    if grid_size is not None:
        t = _whole(query_frame or 0)
        if t is None or not 0 <= t < num_frames:
            raise ValueError(f"query_frame must be a whole number from 0 to {num_frames - 1}, got {query_frame!r}")
        parts.append(_grid(t, height, width, grid_size, mask_of_frame(mask, t, num_frames, height, width)))
    if points_per_frame is not None:
        parts.append(_spread(num_frames, height, width, points_per_frame, mask))
    return np.concatenate(parts)


def _grid(t: int, height: int, width: int, size: int | str, mask: np.ndarray | None) -> np.ndarray:
    """Return size x size queries over frame t, or those of a grid over the mask's box that lie in the mask."""
    if size == "all":
        row, column = np.nonzero(np.ones((height, width), bool) if mask is None else mask)
        return np.stack([np.full(len(row), t), column + 0.5, row + 0.5], axis=1)
    count = _count("grid_size", size, ' or "all"')
    if count > min(height, width):
        raise ValueError(f"a grid of {count} x {count} is finer than the video, {width} x {height}")
    left, top, right, bottom = (0, 0, width, height) if mask is None else _box(mask)
    centers = (np.arange(count) + 0.5) / count
    y, x = np.meshgrid(top + centers * (bottom - top), left + centers * (right - left), indexing="ij")
    queries = np.stack([np.full(count**2, t), x.ravel(), y.ravel()], axis=1)
    if mask is None:
        return queries
    queries = np.compress(mask[queries[:, 2].astype(int), queries[:, 1].astype(int)], queries, axis=0)
    if not len(queries):
        raise ValueError(f"no point of a grid of {count} x {count} lies in the mask: choose a finer one")
    return queries


def _spread(num_frames: int, height: int, width: int, per_frame: int, mask: Any) -> np.ndarray:
    """Return `per_frame` queries in each frame, spread evenly over it or over its mask."""
    count = _count("points_per_frame", per_frame)
    if count > height * width:
        raise ValueError(f"points_per_frame {count} is more than the video has pixels, {height * width}")
    number = np.arange(num_frames * count)
    if mask is None:
        xy = _even_sequence(number) * [width, height]
        return np.concatenate([number[:, None] // count, xy], axis=1)
    queries = []
    for t in range(num_frames):
        own = mask_of_frame(mask, t, num_frames, height, width, may_be_empty=True)
        assert own is not None
        row, column = np.nonzero(own)
        if len(row):
            # The sequence over the mask's box, of which a part lies in the mask; then its pixels, for very thin ones.
            left, top, right, bottom = _box(own)
            draws = 4 * count * (right - left) * (bottom - top) // len(row) + 64
            xy = [left, top] + _even_sequence(t * draws + np.arange(draws)) * [right - left, bottom - top]
            inside = xy[own[xy[:, 1].astype(int), xy[:, 0].astype(int)]][:count]
            rest = np.linspace(0, len(row) - 1, count - len(inside)).astype(int)
            xy = np.concatenate([inside, np.stack([column[rest] + 0.5, row[rest] + 0.5], axis=1)])
            queries.append(np.concatenate([np.full((count, 1), t), xy], axis=1))
    if not queries:
        raise ValueError("the mask is empty in every frame: it is not 0 where points are to be tracked")
    return np.concatenate(queries)


def _even_sequence(number: np.ndarray) -> np.ndarray:
    """Return places [N, 2] in the unit square, spread evenly however many.

    The sequence of low discrepancy is that of the plastic number (Roberts 2018).
    """
    plastic = 1.324717957244746
    return (0.5 + number[:, None] / [plastic, plastic**2]) % 1


def _box(mask: np.ndarray) -> tuple[int, int, int, int]:
    """Return left, top, right and bottom of where a mask holds; it does somewhere."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def mask_of_frame(
    mask: Any, t: int, num_frames: int, height: int, width: int, may_be_empty: bool = False
) -> np.ndarray | None:
    """Return the mask of frame t, [H, W] bool; None for None.

    Args:
        mask: an array [H, W], or [T, H, W] of every frame; a picture's path; or the path of a folder of pictures, one
            for each frame.
        t: the frame.
        num_frames, height, width: of the video.
        may_be_empty: whether it may hold nowhere.

    Raises:
        ValueError: it has another size, is empty, or the folder has another number of pictures.
        VideoError: a picture can't be read.
    """
    if mask is None:
        return None
    name, array = _read_mask(mask, t, num_frames)
    _check_mask_size(name, array, height, width)
    holds: np.ndarray = array != 0
    if not holds.any() and not may_be_empty:
        raise ValueError(f"{name} is empty: it is not 0 where points are to be tracked")
    return holds


def check_mask(mask: str, height: int, width: int) -> None:
    """Raise what `mask_of_frame` would for a picture, or the first of a folder, that is missing or of another size."""
    _check_mask_size(*_read_mask(mask, 0, None), height, width)


def _read_mask(mask: Any, t: int, num_frames: int | None) -> tuple[str, np.ndarray]:
    """Return what messages call a frame's mask, and the mask, not 0 where it holds."""
    if isinstance(mask, (str, os.PathLike)):
        folder = image_folder(os.fspath(mask))
        if folder is None:
            folder, t = ImageFolder(Path(mask).parent, [Path(mask)], 1.0), 0
            num_frames = None
        if num_frames is not None and len(folder) != num_frames:
            raise ValueError(f"{mask}: {len(folder)} masks, and the video has {num_frames} frames: one for each")
        return os.fspath(folder.files[t]), np.any(folder.image(t), axis=-1)
    array = np.asarray(mask)
    return "the mask", array[t] if array.ndim == 3 and len(array) == num_frames else array


def _check_mask_size(name: str, array: np.ndarray, height: int, width: int) -> None:
    if array.shape != (height, width):
        raise ValueError(
            f"{name} has shape {list(array.shape)}, and the video's frames are [{height}, {width}]: a mask has their "
            "size"
        )


def _count(name: str, value: Any, other: str = "") -> int:
    count = _whole(value)
    if count is None or count < 1:
        raise ValueError(f"{name} must be a whole number from 1 up{other}, got {value!r}")
    return count


def has_ids(points: Any) -> bool:
    """Return whether some of the rows of `points` have four numbers."""
    return points is not None and hasattr(points, "__len__") and any(np.size(row) == 4 for row in points)


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
