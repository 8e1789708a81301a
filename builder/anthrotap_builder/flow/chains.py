"""Chains of Lucas-Kanade steps: where the picture alone shows a point to be, for some frames after it was visible."""

from __future__ import annotations

from collections.abc import Iterator

import cv2
import numpy as np

from anthrotap_builder.context import ClipContext
from anthrotap_builder.flow.lucas_kanade import correlation, lucas_kanade, patches

# Frames that a point is followed for.
MAX_STEPS = 8
# A chain ends at a step with a larger forward-backward error, pixels of a frame with a short side of 256.
MAX_FB_ERROR = 0.5
# Radius of the patch whose looks are compared, in the same pixels; the least standard deviation of its gray levels,
# below which looks say nothing; and the normalized cross-correlation from which it looks the same.
PATCH_RADIUS = 4.3
MIN_CONTRAST = 5.0
MIN_CORRELATION = 0.85
# A step ends after so many iterations, or at a smaller change, pixels: sooner than elsewhere, since there are many.
STOP = (20, 0.02)


def find_shown(context: ClipContext, xy: np.ndarray, visible: np.ndarray, occluded: np.ndarray) -> np.ndarray:
    """Find labels called occluded whose point the picture shows.

    From each visible label that an occluded one of its track follows within MAX_STEPS frames, the point is followed
    from frame to frame, forward and, likewise, backward. It is shown in a frame that such a chain reaches with small
    forward-backward errors, if its patch looks there as it did at the visible label.

    Args:
        context: the clip.
        xy: [N, T, 2] float, raster pixels.
        visible: [N, T] bool, the visible labels that chains start from; finite `xy`.
        occluded: [N, T] bool, the labels in question.

    Returns:
        [N, T] bool, a subset of `occluded`.
    """
    grays = [cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in context.frames]
    shown = np.zeros_like(occluded)
    for reverse in (False, True):
        step = slice(None, None, -1) if reverse else slice(None)
        found = _follow(grays[step], xy[:, step], visible[:, step], occluded[:, step], context.unit)
        for frame, tracks in found:
            shown[tracks, len(grays) - 1 - frame if reverse else frame] = True
    return shown


def _follow(
    grays: list[np.ndarray], xy: np.ndarray, visible: np.ndarray, occluded: np.ndarray, unit: float
) -> Iterator[tuple[int, np.ndarray]]:
    """Yield, for each frame that has some, the tracks whose occluded label chains from earlier frames show."""
    side = 2 * round(PATCH_RADIUS * unit) + 1
    ahead = _frames_to_next(occluded)
    # The chains under way: their tracks, positions, ages, and the patches they began with.
    tracks = np.zeros(0, np.intp)
    points = np.zeros((0, 2), np.float32)
    ages = np.zeros(0, np.intp)
    looks = np.zeros((0, side, side), np.float32)
    for t in range(len(grays) - 1):
        # A visible label ends its track's chain, and begins another one if an occluded label comes soon.
        kept = ~visible[tracks, t] & (ages < MAX_STEPS)
        begun = np.flatnonzero(visible[:, t] & (ahead[:, t] <= MAX_STEPS))
        start = xy[begun, t].astype(np.float32)
        new = patches(grays[t], start, side)
        tracks, ages = np.concatenate([tracks[kept], begun]), np.concatenate([ages[kept], np.zeros_like(begun)])
        points, looks = np.concatenate([points[kept], start]), np.concatenate([looks[kept], new])
        if not len(tracks):
            continue
        points, good = _step(grays[t], grays[t + 1], points, MAX_FB_ERROR * unit)
        tracks, ages, points, looks = tracks[good], ages[good] + 1, points[good], looks[good]
        asked = np.flatnonzero(occluded[tracks, t + 1])
        if len(asked):
            now = patches(grays[t + 1], points[asked], side)
            same = (looks[asked].std((1, 2)) >= MIN_CONTRAST) & (correlation(looks[asked], now) >= MIN_CORRELATION)
            yield t + 1, tracks[asked[same]]


def _frames_to_next(flags: np.ndarray) -> np.ndarray:
    """Return [N, T], how many frames after each one the next of `flags` [N, T] bool is; a large number if none is."""
    count = flags.shape[1]
    at = np.where(flags, np.arange(count), 2 * count + MAX_STEPS)
    following = np.minimum.accumulate(at[:, ::-1], axis=1)[:, ::-1]
    after = np.concatenate([following[:, 1:], np.full((len(flags), 1), 2 * count + MAX_STEPS)], axis=1)
    return after - np.arange(count)


def _step(first: np.ndarray, second: np.ndarray, points: np.ndarray, max_error: float) -> tuple[np.ndarray, np.ndarray]:
    """Follow points [N, 2] from one image to the next; also return which come back to where they were, [N] bool."""
    moved, found = lucas_kanade(first, second, points, stop=STOP)
    back, found_back = lucas_kanade(second, first, moved, stop=STOP)
    height, width = first.shape
    # Between the centers of the first and the last pixels.
    inside = ((moved >= 0.5) & (moved <= (width - 0.5, height - 0.5))).all(1)
    return moved, found & found_back & inside & (np.linalg.norm(back - points, axis=1) <= max_error)
