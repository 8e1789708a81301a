"""Statistics of point tracks: complexity and diversity of trajectories, lengths, visibility, motion.

Pure functions of one clip. Positions count where a point is visible only, and may be anything elsewhere. Frames are
those of the clip as it is stored, so durations in frames depend on its frame rate.
"""

from __future__ import annotations

import numpy as np

# Side of the frames that TAP-Vid scores at, pixels.
RESOLUTION = 256
# Pixels at 256x256: a shorter step has no direction.
SHORTEST_STEP = 0.1
# Pairs of tracks that are drawn from each clip for its diversity.
PAIRS = 2000


def at_resolution(xy: np.ndarray, height: int, width: int) -> np.ndarray:
    """Return positions [N, T, 2] in frames of height x width as pixels at 256x256, float64, by pure scaling."""
    return xy.astype(np.float64) * [RESOLUTION / width, RESOLUTION / height]


def steps(xy: np.ndarray, visible: np.ndarray) -> np.ndarray:
    """Return [N, T - 1, 2], the step from each frame to the next; NaN unless the point is visible in both.

    Args:
        xy: [N, T, 2] pixels.
        visible: [N, T] bool.
    """
    return np.diff(_visible_positions(xy, visible), axis=1)


def angular_acceleration(xy: np.ndarray, visible: np.ndarray, shortest_step: float = 0.0) -> np.ndarray:
    """Return how much the turning of trajectories changes at each time: [N, T - 3], radians per frame squared.

    The step from frame t to t + 1 has a direction a(t), an angle. Turning is w(t) = a(t + 1) - a(t), radians a frame;
    angular acceleration is |w(t + 1) - w(t)| = |a(t + 2) - 2 a(t + 1) + a(t)|, brought to [0, pi] by the shorter way
    round. The point must be visible in four frames in a row: contiguous visible segments are measured one by one, and
    nothing is measured across a gap. Motion along a line or a circle at constant speed has none, a zigzag that
    turns by f to either side in turn has 2 f (f up to a quarter turn). Being a difference of directions, it follows
    neither from speed nor from the size of the frame, as long as pixels are square; it does follow from the frame
    rate.

    Args:
        xy: [N, T, 2] pixels of the clip's own (square) shape: scaling x and y apart would bend angles.
        visible: [N, T] bool.
        shortest_step: pixels; a shorter step has no direction. One of length 0 never has any.

    Returns:
        NaN where the point is not visible in four frames in a row, or one of the three steps has no direction.
    """
    step = steps(xy, visible)
    if step.shape[1] < 3:
        return np.full((len(xy), 0), np.nan)
    length = np.hypot(step[..., 0], step[..., 1])
    angle = np.arctan2(step[..., 1], step[..., 0])
    angle[~((length >= shortest_step) & (length > 0))] = np.nan
    change = angle[:, 2:] - 2 * angle[:, 1:-1] + angle[:, :-2]
    return np.abs(change - 2 * np.pi * np.round(change / (2 * np.pi)))


def trajectory_complexity(xy: np.ndarray, visible: np.ndarray, shortest_step: float = 0.0) -> np.ndarray:
    """Return [N], each track's mean `angular_acceleration` (radians per frame squared), NaN where there is none.

    After AnthroTAP (arXiv 2507.06233), whose page says: mean angular acceleration, which measures how sharply and
    frequently a trajectory changes direction, over all contiguous visible segments. Units, frame rate, what happens
    where a point stands still, and whether means are taken by track are not published: those are ours.

    Args: as of `angular_acceleration`.
    """
    return _mean_of_known(angular_acceleration(xy, visible, shortest_step))


def trajectory_diversity(xy: np.ndarray, visible: np.ndarray, pairs: int = PAIRS, seed: int = 0) -> float:
    """Return how differently the points of a clip move: 0 if all of them move alike, in the units of `xy`.

    Take two tracks, and the frames in which both are visible. In the first of these one lies at some offset from the
    other; how far this offset has changed (the length of the difference) is averaged over the later ones, and then
    over pairs of tracks. What all points have in common, such as a camera that pans, so leaves no trace, and neither
    do their positions; longer clips have more of it. AnthroTAP gives a diversity of datasets and, as far as we could
    find, no definition: this one is ours.

    Args:
        xy: [N, T, 2], usually as fractions of width and height, so that a result of 0.1 is a tenth of the frame.
        visible: [N, T] bool.
        pairs: largest number of pairs; where there are more, so many are drawn (with repetition).
        seed: of the drawing.

    Returns:
        NaN if no two tracks are both visible in two frames.
    """
    first, second = _some_pairs(len(xy), pairs, seed)
    means = []
    # A few pairs at a time: long clips of many tracks would fill the memory.
    for start in range(0, len(first), 256):
        one, other = first[start : start + 256], second[start : start + 256]
        both = visible[one] & visible[other]
        offset = _visible_positions(xy[one], both) - xy[other]
        origin = both.argmax(1)
        rows = np.arange(len(one))
        change = np.linalg.norm(offset - offset[rows, origin][:, None], axis=-1)
        both[rows, origin] = False
        means.append(_mean_of_known(np.where(both, change, np.nan)))
    known = np.concatenate([*means, np.empty(0)])
    known = known[~np.isnan(known)]
    return float(known.mean()) if len(known) else float("nan")


def _some_pairs(count: int, pairs: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return indices of two different tracks: all pairs, or `pairs` of them drawn with repetition."""
    if count * (count - 1) // 2 <= pairs:
        return np.triu_indices(count, 1)
    rng = np.random.default_rng(seed)
    first = rng.integers(0, count, pairs)
    return first, (first + rng.integers(1, count, pairs)) % count


def run_lengths(flags: np.ndarray) -> np.ndarray:
    """Return [K] int, the lengths of all runs of True along the rows of [N, T] bool, in frames."""
    edges = np.diff(np.pad(flags.astype(np.int8), ((0, 0), (1, 1))), axis=1)
    return np.nonzero(edges == -1)[1] - np.nonzero(edges == 1)[1]


def num_reappearances(visible: np.ndarray) -> np.ndarray:
    """Return [N] int, how often each track is visible again after it was not, be it occluded or invalid between."""
    starts = visible & ~np.pad(visible, ((0, 0), (1, 0)))[:, :-1]
    return np.maximum(starts.sum(1) - 1, 0)


def speeds(xy: np.ndarray, visible: np.ndarray) -> np.ndarray:
    """Return [N, T - 1], the length of each step, pixels a frame; NaN unless the point is visible at both ends."""
    step = steps(xy, visible)
    return np.hypot(step[..., 0], step[..., 1])


def displacements(xy: np.ndarray, visible: np.ndarray) -> np.ndarray:
    """Return [N, T], the distance from the first visible position (TAP-Vid's query) in each later visible frame.

    In pixels; NaN in other frames.
    """
    if not visible.size:
        return np.full(visible.shape, np.nan)
    rows, query = np.arange(len(xy)), visible.argmax(1)
    later = visible.copy()
    later[rows, query] = False
    positions = _visible_positions(xy, visible)
    away = positions - positions[rows, query][:, None]
    return np.where(later, np.hypot(away[..., 0], away[..., 1]), np.nan)


def extents(xy: np.ndarray, visible: np.ndarray) -> np.ndarray:
    """Return [N], the diagonal of the upright box around all visible positions, pixels; NaN where there are none."""
    ever = visible.any(1)
    size = np.full((len(xy), 2), np.nan)
    if ever.any():
        positions, known = xy[ever].astype(np.float64), visible[ever][..., None]
        size[ever] = np.where(known, positions, -np.inf).max(1) - np.where(known, positions, np.inf).min(1)
    return np.hypot(size[:, 0], size[:, 1])


def _visible_positions(xy: np.ndarray, visible: np.ndarray) -> np.ndarray:
    """Return [N, T, 2] float64, NaN where not visible."""
    return np.where(visible[..., None], xy.astype(np.float64), np.nan)


def _mean_of_known(values: np.ndarray) -> np.ndarray:
    """Return [N], the mean along the rows of [N, K] without NaN; NaN where there is nothing else."""
    known = ~np.isnan(values)
    count = known.sum(1)
    total = np.where(known, values, 0.0).sum(1)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)
