"""Brief occlusions that no mesh knows of: a foot, a ball or a stranger's arm that passes in front of a point."""

from __future__ import annotations

import cv2
import numpy as np

from anthrotap_builder.context import ClipContext
from anthrotap_builder.flow.lucas_kanade import patches

# Patches have so many samples a side, so far apart, of a picture that is blurred by this standard deviation; pixels of
# a frame with a short side of 256.
SIDE, SPACING, BLUR = 5, 1.0, 0.8
# Looks are compared with those of the labels up to so many frames before and after.
REACH = 6
# The looks before and after are the same if their colors differ by less than this (mean absolute difference of 8-bit
# CIELAB); those between are others if they differ from both by more than the second, and by this factor more.
MAX_DIFFERENCE_AROUND = 9.0
MIN_DIFFERENCE = 12.0
MIN_FACTOR = 2.2


def find_briefly_occluded(context: ClipContext, xy: np.ndarray, visible: np.ndarray) -> np.ndarray:
    """Find labels called visible that look otherwise than before and after, where those look the same.

    Args:
        context: the clip.
        xy: [N, T, 2] float, raster pixels, finite where visible.
        visible: [N, T] bool.

    Returns:
        [N, T] bool, a subset of `visible`.
    """
    looks = np.zeros((*visible.shape, 3 * SIDE**2), np.uint8)
    for t, frame in enumerate(context.frames):
        rows = np.flatnonzero(visible[:, t])
        if not len(rows):
            continue
        colors = cv2.GaussianBlur(cv2.cvtColor(frame, cv2.COLOR_RGB2LAB), (0, 0), BLUR * context.unit)
        looks[rows, t] = patches(colors, xy[rows, t], SIDE, SPACING * context.unit).reshape(-1, looks.shape[2])
    occluded = np.zeros_like(visible)
    # A label is compared with one `before` frames earlier and one `after` frames later.
    for before in range(1, REACH + 1):
        for after in range(1, REACH + 1):
            middle = slice(before, max(before, visible.shape[1] - after))
            there = visible[:, middle] & visible[:, : -before - after] & visible[:, before + after :]
            rows, frames = np.nonzero(there & ~occluded[:, middle])
            frames = frames + before
            around = _difference(looks[rows, frames - before], looks[rows, frames + after])
            same = around < MAX_DIFFERENCE_AROUND
            rows, frames, around = rows[same], frames[same], around[same]
            own = np.minimum(
                _difference(looks[rows, frames], looks[rows, frames - before]),
                _difference(looks[rows, frames], looks[rows, frames + after]),
            )
            other = own > np.maximum(MIN_DIFFERENCE, MIN_FACTOR * around)
            occluded[rows[other], frames[other]] = True
    return occluded


def _difference(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return the mean absolute difference of looks [n, K] uint8, [n]."""
    difference: np.ndarray = np.abs(a.astype(np.int16) - b).mean(-1)
    return difference
