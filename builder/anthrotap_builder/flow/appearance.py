"""Occlusions that no mesh knows of, by the looks of labels: a foot, a ball or a stranger's arm in front of a point.

What passes in front looks otherwise than the label before and after. What moves along with the body for a while, as a
ball that is caught, gives labels that agree with flow: it looks otherwise than all labels of that part of the body.
"""

from __future__ import annotations

import cv2
import numpy as np
from scipy.spatial import cKDTree

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
# A run of at most so many frames has foreign colors if those of 85 % of the labels around, on the surface and at other
# times, differ by more (sum of the absolute differences of 8-bit CIELAB). Around: on the same person, this near in the
# body's rest pose, meters, and of so many nearest tracks; other times: so many frames off. Fewer labels do not tell.
# What is found is left out when the others are looked at again, so many times in all: a ball may come back.
MAX_FOREIGN_RUN = 10
MIN_FOREIGN_DIFFERENCE = 60.0
FOREIGN_PERCENTILE = 15
MAX_DISTANCE = 0.06
MAX_TRACKS = 40
FRAMES_OFF = 2
MIN_AROUND = 60
PASSES = 3


def sample_looks(context: ClipContext, xy: np.ndarray, visible: np.ndarray) -> np.ndarray:
    """Return the colors in a square around each visible label.

    Args:
        context: the clip.
        xy: [N, T, 2] float, raster pixels, finite where visible.
        visible: [N, T] bool.

    Returns:
        [N, T, SIDE * SIDE, 3] uint8 CIELAB; 0 where not visible.
    """
    looks = np.zeros((*visible.shape, SIDE**2, 3), np.uint8)
    for t, frame in enumerate(context.frames):
        rows = np.flatnonzero(visible[:, t])
        if not len(rows):
            continue
        colors = cv2.GaussianBlur(cv2.cvtColor(frame, cv2.COLOR_RGB2LAB), (0, 0), BLUR * context.unit)
        looks[rows, t] = patches(colors, xy[rows, t], SIDE, SPACING * context.unit).reshape(-1, SIDE**2, 3)
    return looks


def find_briefly_occluded(looks: np.ndarray, visible: np.ndarray) -> np.ndarray:
    """Find labels called visible that look otherwise than before and after, where those look the same.

    Args:
        looks: [N, T, SIDE * SIDE, 3] uint8, as `sample_looks` gives them.
        visible: [N, T] bool.

    Returns:
        [N, T] bool, a subset of `visible`.
    """
    looks = looks.reshape(*visible.shape, 3 * SIDE**2)
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


def find_foreign(
    looks: np.ndarray, visible: np.ndarray, person: np.ndarray, vertex: np.ndarray, template: np.ndarray
) -> np.ndarray:
    """Find short runs of labels called visible whose colors are those of no other label around.

    Args:
        looks: [N, T, SIDE * SIDE, 3] uint8, as `sample_looks` gives them.
        visible: [N, T] bool.
        person, vertex: [N] int, of the tracks.
        template: [V, 3] float, the body's vertices in one pose, meters.

    Returns:
        [N, T] bool, a subset of `visible`.
    """
    colors = looks.mean(2, dtype=np.float32)
    foreign = np.zeros_like(visible)
    for one in np.unique(person):
        rows = np.flatnonzero((person == one) & visible.any(1))
        if not len(rows):
            continue
        # Of each track, the nearest ones, itself among them; several may be of one vertex.
        places = template[vertex[rows]]
        distance, near = cKDTree(places).query(places, k=np.arange(1, 1 + min(MAX_TRACKS, len(rows))))
        for _ in range(PASSES):
            found = _find_foreign(colors[rows], visible[rows] & ~foreign[rows], near, distance <= MAX_DISTANCE)
            foreign[rows] |= found
            if not found.any():
                break
    return foreign


def _find_foreign(colors: np.ndarray, visible: np.ndarray, near: np.ndarray, is_around: np.ndarray) -> np.ndarray:
    """Find the foreign labels of one person once.

    Args:
        colors: [N, T, 3] float32, of the labels.
        visible: [N, T] bool.
        near: [N, K] int, the tracks nearest to each.
        is_around: [N, K] bool, which of those are near enough.

    Returns:
        [N, T] bool, a subset of `visible`.
    """
    foreign = np.zeros_like(visible)
    count = visible.sum(1)
    mean = np.where(visible[..., None], colors, 0).sum(1) / np.maximum(count, 1)[:, None]
    weight = is_around * count[near]
    around = (weight[..., None] * mean[near]).sum(1) / np.maximum(weight.sum(1), 1)[:, None]
    # The runs of visible labels: the frames at which they start and stop.
    edges = np.diff(np.pad(visible.astype(np.int8), ((0, 0), (1, 1))), axis=1)
    for row, start, stop in zip(*np.nonzero(edges == 1), np.nonzero(edges == -1)[1], strict=True):
        if stop - start > MAX_FOREIGN_RUN:
            continue
        own = np.median(colors[row, start:stop], axis=0)
        # Most runs look like the mean around, which is quickly seen.
        if np.abs(own - around[row]).sum() < MIN_FOREIGN_DIFFERENCE / 2:
            continue
        others = near[row][is_around[row]]
        there = visible[others].copy()
        there[:, max(0, start - FRAMES_OFF) : stop + FRAMES_OFF] = False
        if there.sum() < MIN_AROUND:
            continue
        difference = np.abs(colors[others][there] - own).sum(1)
        foreign[row, start:stop] = np.percentile(difference, FOREIGN_PERCENTILE) > MIN_FOREIGN_DIFFERENCE
    return foreign


def _difference(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return the mean absolute difference of looks [n, K] uint8, [n]."""
    difference: np.ndarray = np.abs(a.astype(np.int16) - b).mean(-1)
    return difference
