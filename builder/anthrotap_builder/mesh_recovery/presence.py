"""In which frames a fitted track has a valid mesh: short gaps are bridged, long runs kept, the rest rejected.

The fit is over the whole track, so a frame with bad landmarks between good frames mostly has a good body all the same.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np

# A gap of so many seconds is bridged, and one of so many frames at any rate.
MAX_GAP_SECONDS, MAX_GAP_FRAMES = 0.15, 2
# If a larger fraction of a person's frames is bad, only runs count that are at least so long, and better.
MAX_REJECTED = 0.3
MIN_RUN_SECONDS = 0.3
# A torso moves up to so many of the person's sizes from one frame to another, and up to so many more a second.
MAX_TORSO_STEP, MAX_TORSO_SPEED = 0.05, 3.5


def longest_gap(fps: float) -> int:
    """Return how many frames a gap that is bridged may have."""
    return max(MAX_GAP_FRAMES, round(MAX_GAP_SECONDS * fps))


def short_gaps(known: np.ndarray, fps: float) -> np.ndarray:
    """Return [T] bool: frames that are not `known` [T] bool, in short gaps between known ones."""
    times = np.flatnonzero(known)
    short = np.zeros(len(known), bool)
    for before, after in pairwise(times.tolist()):
        if after - before - 1 <= longest_gap(fps):
            short[before + 1 : after] = True
    return short


def misplaced(torso: np.ndarray, size: np.ndarray, found: np.ndarray, fps: float) -> np.ndarray:
    """Find short runs of frames whose landmarks lie somewhere else, as on another person.

    Args:
        torso: [T, K, 2] raster pixels, landmarks of the torso.
        size: [T, 1] the person's size, pixels.
        found: [T] bool, frames in which the person was found; others do not count.
        fps: frames a second.

    Returns:
        [T] bool.
    """
    times = np.flatnonzero(found)
    # The longest chain of frames, each of which can be reached from the one before, by dynamic programming.
    length, previous = np.ones(len(times), int), np.full(len(times), -1)
    for i in range(1, len(times)):
        moved = np.median(np.linalg.norm(torso[times[i]] - torso[times[:i]], axis=-1), axis=-1) / size[times[i]]
        reachable = moved <= MAX_TORSO_STEP + MAX_TORSO_SPEED * (times[i] - times[:i]) / fps
        if reachable.any():
            # The last of the longest ones.
            previous[i] = i - 1 - np.where(reachable, length[:i], 0)[::-1].argmax()
            length[i] = length[previous[i]] + 1
    chain = np.zeros(len(found), bool)
    at = len(times) - 1 - int(length[::-1].argmax())
    while at >= 0:
        chain[times[at]] = True
        at = previous[at]
    return found & short_gaps(chain, fps)


def bridge_gaps(good: np.ndarray, on_mask: np.ndarray, agrees: np.ndarray, fps: float) -> np.ndarray:
    """Find gaps between good frames through which the picture does not contradict the fitted mesh.

    Args:
        good: [T] bool, frames with a valid mesh.
        on_mask: [T] float, 1 where the mesh lies on the person's mask, 0 where it does not, NaN without a mask.
        agrees: [T - 1] float, 1 where flow to the next frame agrees with the mesh, 0 where not, NaN where unknown.
        fps: frames a second.

    Returns:
        [T] bool, the frames of these gaps.
    """
    bridged = np.zeros(len(good), bool)
    times = np.flatnonzero(good)
    for before, after in pairwise(times.tolist()):
        gap = slice(before + 1, after)
        steps = agrees[before:after]
        # Each frame needs its mask, or flow on both sides.
        followed = (steps[:-1] == 1) & (steps[1:] == 1)
        supported = (on_mask[gap] == 1) | (np.isnan(on_mask[gap]) & followed)
        if after - before - 1 <= longest_gap(fps) and supported.all() and (steps != 0).all():
            bridged[gap] = True
    return bridged


def keep_runs(present: np.ndarray, good: np.ndarray, found: np.ndarray, fps: float) -> np.ndarray:
    """Reject what a body seldom fits: a coat, a statue's shadow, two people in one.

    Args:
        present: [T] bool, good and bridged frames.
        good: [T] bool, frames whose fit is good by itself.
        found: [T] bool.
        fps: frames a second.

    Returns:
        [T] bool, `present` if most of the found frames are good; else its long runs of mostly good frames.
    """
    if good.sum() >= (1 - MAX_REJECTED) * found.sum():
        return present
    kept = np.zeros_like(present)
    edges = np.flatnonzero(np.diff(np.pad(present.astype(int), 1)))
    for start, end in edges.reshape(-1, 2):
        if end - start >= MIN_RUN_SECONDS * fps and good[start:end].mean() >= 1 - MAX_REJECTED:
            kept[start:end] = True
    return kept
