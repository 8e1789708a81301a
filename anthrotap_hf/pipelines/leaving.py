"""Points that leave the frame: occluded, and followed beyond its border. Saved pipelines take a copy of it along.

A tracker searches the frame for its point. One that is no longer there it finds anywhere, often at the other side: such
positions are replaced by the motion that the point had when it left.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

# Steps before the point was lost, whose mean is its motion.
MOTION_STEPS = 3
# A point that is lost is taken to have left if it would be out of the frame so many frames later.
LEAVES_WITHIN = 2
# How much larger than before one step may be, and by which share of the frame's longer side a position may be off.
FASTER = 2.0
TOLERANCE = 0.05
# How many frames late a tracker may see a point that came back.
LATE = 2
# A point that is seen where it can't have come to is believed if it stays in view for so many frames.
LASTING = 12


@dataclass
class Found:
    """What is known of points in each frame; `keep_in_order` changes it.

    Attributes:
        xy: [N, T, 2] float, in pixels of the video.
        visible: [N, T] bool.
        scores: [N, T] float32, the probability of being visible.
        uncertainty: [N, T] float32, the probability that the position is off.
    """

    xy: np.ndarray
    visible: np.ndarray
    scores: np.ndarray
    uncertainty: np.ndarray


def keep_in_order(found: Found, queries: np.ndarray, height: int, width: int, outside: bool) -> None:
    """Apply what holds for all trackers: the query is where it was asked, and who left the frame is occluded.

    Args:
        found: changed in place.
        queries: [N, 3] (t, x, y), xy in pixels of the video.
        height, width: of the video.
        outside: whether positions beyond the border stay there; if not, they are put on the border.
    """
    points = np.arange(len(queries))
    times = queries[:, 0].astype(int)
    # 1. A query is visible where it was asked.
    found.xy[points, times] = queries[:, 1:]
    found.visible[points, times] = True
    found.scores[points, times] = 1
    found.uncertainty[points, times] = 0
    # 2. What is beyond the border cannot be seen.
    size = np.array([width, height], float)
    found.visible &= _is_inside(found.xy, size)
    # 3. Forward and backward from its query, each point is followed out of the frame.
    for n, t in enumerate(times):
        for way in (slice(t, None), slice(t, None, -1)):
            replaced = _follow(found.xy[n, way], found.visible[n, way], size)
            found.uncertainty[n, way][replaced] = 1
    gone = ~_is_inside(found.xy, size)
    found.scores[gone] = 0
    if not outside:
        np.clip(found.xy, 0, size, out=found.xy)


def _is_inside(xy: np.ndarray, size: np.ndarray) -> np.ndarray:
    return np.asarray(((xy >= 0) & (xy <= size)).all(-1))


def _follow(xy: np.ndarray, visible: np.ndarray, size: np.ndarray) -> np.ndarray:
    """Follow one point from its query on, in the first frame given; change `xy` [T, 2] and `visible` [T] in place.

    Returns:
        [T] bool, where the tracker's position was replaced.
    """
    replaced = np.zeros(len(xy), bool)
    slack = TOLERANCE * size.max()
    t = 1
    while t < len(xy):
        if visible[t]:
            t += 1
            continue
        # 1. The point is lost in frame t. Was it about to leave?
        last, motion = xy[t - 1], _motion(xy, visible, t)
        speed = float(np.linalg.norm(motion))
        leaves = not _is_inside(last + LEAVES_WITHIN * motion, size)
        near = np.linalg.norm(xy[t] - last) <= FASTER * speed + slack
        if not leaves and not (near and not _is_inside(xy[t], size)):
            # It is occluded inside the frame: the tracker's word counts.
            while t < len(xy) and not visible[t]:
                t += 1
            continue
        # 2. Until it is seen where it can have come to, its positions go on, or are the motion's.
        exit_place, begin, now = np.clip(last + motion, 0, size), t, last
        believed = t
        while t < len(xy):
            if visible[t] and t >= believed:
                end = t + int(np.argmin(np.append(visible[t:], False)))
                # It came over a border a moment ago, and has not gone farther than its speed allows.
                depth = np.minimum(xy[t], size - xy[t]).min()
                way = np.linalg.norm(exit_place - last) + np.linalg.norm(xy[t] - exit_place)
                possible = depth <= LATE * speed + slack and way <= (t - begin + 1) * speed + slack
                if possible or end - t >= LASTING:
                    break
                believed = end
            visible[t] = False
            expected = now + motion
            # A tracker that cannot follow beyond the border finds the point elsewhere, or leaves it at the border.
            stays = _is_inside(xy[t], size) and not _is_inside(expected, size)
            if stays or np.linalg.norm(xy[t] - expected) > FASTER * speed + slack:
                xy[t], replaced[t] = expected, True
            now = xy[t].copy()
            t += 1
    return replaced


def _motion(xy: np.ndarray, visible: np.ndarray, t: int) -> np.ndarray:
    """Return the mean step [2] of the last visible frames before frame `t`; 0 if there was no step."""
    first = t - 1
    while first > 0 and visible[first - 1] and t - 1 - first < MOTION_STEPS:
        first -= 1
    steps = t - 1 - first
    motion: np.ndarray = (xy[t - 1] - xy[first]) / steps if steps else np.zeros(2)
    return motion


__all__ = ["Found", "keep_in_order"]
