"""Where points of a picture go, by two kinds of optical flow that labeling is not fitted to alone.

A chain follows a point from frame to frame, and back. It is reliable where it returns, and where two chains of
different kinds (Lucas-Kanade and DIS, or Lucas-Kanade with two windows) end at one place. Reliable chains are few on
blurred or bare surfaces, but nearly always right, so they are a witness without ground truth: it says nothing of labels
where they fail.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import cv2
import numpy as np

from anthrotap_builder.flow.lucas_kanade import lucas_kanade, patches

# Windows of Lucas-Kanade, pixels.
WINDOW = 21
PYRAMID_LEVELS = 4
# Pixels: how far from its start a chain may return, and how far apart the ends of the two chains may be.
LK_RETURN = 1.0
DIS_RETURN = 1.5
AGREEMENT = 3.0

Frames = int | np.ndarray
Move = Callable[[np.ndarray, int, int], tuple[np.ndarray, np.ndarray]]
"""Moves points [M, 2] from one frame to the next: where they are, and [M] bool, whether they were found."""


class Chains:
    """Chains of optical flow through a clip; points of all frames go together, so the pictures are compared once.

    Everywhere, `xy` is [M, 2] float, raster pixels; `start` and `end` are the numbers of frames that each point is
    followed from and to, [M] int or one for all, and `end` may be the earlier one.

    Args:
        grays: frames, each [H, W] uint8.
    """

    def __init__(self, grays: Sequence[np.ndarray]) -> None:
        self._grays = grays
        self._flows: dict[tuple[int, int], np.ndarray] = {}

    def lucas_kanade(
        self, xy: np.ndarray, start: Frames, end: Frames, window: int = WINDOW
    ) -> tuple[np.ndarray, np.ndarray]:
        """Follow points from frame to frame and back; squares with sides of `window` pixels are compared.

        Returns:
            [M, 2] float64, where they are in the frame `end`, and [M] float64, how far from its start each returns,
            pixels; infinite where it was lost.
        """

        def move(points: np.ndarray, a: int, b: int) -> tuple[np.ndarray, np.ndarray]:
            return lucas_kanade(self._grays[a], self._grays[b], points, window, PYRAMID_LEVELS)

        there, found = self._follow(xy, start, end, move)
        back, returned = self._follow(there, end, start, move)
        return there, np.where(found & returned, np.linalg.norm(back - xy, axis=1), np.inf)

    def dis(self, xy: np.ndarray, start: Frames, end: Frames) -> tuple[np.ndarray, np.ndarray]:
        """The same by DIS flow, which is dense."""

        def move(points: np.ndarray, a: int, b: int) -> tuple[np.ndarray, np.ndarray]:
            return points + _sample(self._flow(a, b), points), np.ones(len(points), bool)

        there, _ = self._follow(xy, start, end, move)
        back, _ = self._follow(there, end, start, move)
        return there, np.linalg.norm(back - xy, axis=1)

    def agreed(self, xy: np.ndarray, start: Frames, end: Frames) -> tuple[np.ndarray, np.ndarray]:
        """Follow points by both kinds.

        Returns:
            [M, 2] float64, the middle of both ends in the frame `end`, and [M] bool, whether both return and agree.
        """
        by_lk, lk_error = self.lucas_kanade(xy, start, end)
        by_dis, dis_error = self.dis(xy, start, end)
        apart = np.linalg.norm(by_lk - by_dis, axis=1)
        return (by_lk + by_dis) / 2, (lk_error < LK_RETURN) & (dis_error < DIS_RETURN) & (apart < AGREEMENT)

    def by_two_windows(
        self, xy: np.ndarray, start: Frames, end: Frames, windows: tuple[int, int], max_return: float, max_apart: float
    ) -> tuple[np.ndarray, np.ndarray]:
        """Follow points by Lucas-Kanade with two windows.

        Args:
            xy, start, end: the points.
            windows: sides of both, pixels.
            max_return: how far from its start either may return, pixels.
            max_apart: how far apart both may end, pixels.

        Returns:
            [M, 2] float64, the end by the first window, and [M] bool, whether both return and agree.
        """
        (there, error), (other, other_error) = (self.lucas_kanade(xy, start, end, window) for window in windows)
        apart = np.linalg.norm(there - other, axis=1)
        return there, (np.maximum(error, other_error) < max_return) & (apart < max_apart)

    def _follow(self, xy: np.ndarray, start: Frames, end: Frames, move: Move) -> tuple[np.ndarray, np.ndarray]:
        """[M, 2] float64, where points are in the end, and [M] bool, whether none of their steps was lost."""
        xy, found = np.array(xy, np.float64), np.ones(len(xy), bool)
        start, end = np.broadcast_to(start, len(xy)), np.broadcast_to(end, len(xy))
        last = len(self._grays) - 1
        # First those that go forward in time, then those that go back; each waits until its start comes by.
        forward = [(t, t + 1, (start <= t) & (end > t)) for t in range(last)]
        backward = [(t, t - 1, (start >= t) & (end < t)) for t in range(last, 0, -1)]
        for a, b, moving in forward + backward:
            if moving.any():
                xy[moving], kept = move(xy[moving], a, b)
                found[moving] &= kept
        return xy, found

    def _flow(self, a: int, b: int) -> np.ndarray:
        if (a, b) not in self._flows:
            # An estimator keeps a little of the pair before.
            estimator = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
            # Half precision keeps a hundredth of a pixel, and half of the memory.
            self._flows[a, b] = estimator.calc(self._grays[a], self._grays[b], None).astype(np.float16)
        return self._flows[a, b].astype(np.float32)


def _sample(field: np.ndarray, xy: np.ndarray) -> np.ndarray:
    """[M, 2], a flow field [H, W, 2] at points [M, 2], raster pixels."""
    x, y = (np.ascontiguousarray(column, np.float32)[:, None] for column in (xy - 0.5).T)
    values = cv2.remap(field, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(values[:, 0], np.float64)


def patches_of_frames(
    grays: Sequence[np.ndarray], frames: Sequence[int] | np.ndarray, xy: np.ndarray, side: int
) -> np.ndarray:
    """Cut squares out of frames, as `lucas_kanade.patches` does.

    Args:
        grays: frames, each [H, W] uint8.
        frames: [M], the number of the frame of each square.
        xy: [M, 2] float, its center, raster pixels.
        side: pixels, odd.

    Returns:
        [M, side, side] float32.
    """
    found = np.zeros((len(xy), side, side), np.float32)
    frames = np.asarray(frames, int)
    for frame in np.unique(frames):
        found[frames == frame] = patches(grays[frame], xy[frames == frame], side)
    return found
