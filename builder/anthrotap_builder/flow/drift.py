"""How far tracks drift: the signed difference of a mesh's motion and flow's, from one frame to any other of a track.

A track that drifts does not stay on one point of the body. Where flow supports it, the drift is also where the point
is: the label less the drift (`follow_points`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields

import numpy as np
from numba import njit

from anthrotap_builder.flow.track_flow import TrackFlow

# Error of the difference between neighboring frames, pixels of a frame with a short side of 256: that of flow, which
# grows with the forward-backward error. Flow with an error of more than MAX_FB_FACTOR of the threshold
# (plus a fraction of the motion) says little, and nothing where the point is occluded, or out of its mask because
# something is in front: those errors are SIGMA_UNSEEN and a fraction of the motion.
SIGMA_FLOW, SIGMA_OF_FB_ERROR = 0.3, 0.5
MAX_FB_FACTOR = 2.0
SIGMA_UNSEEN, SIGMA_OF_MOTION = 0.8, 0.3
# The same over more than one frame, where the two ends are compared directly; how much larger than between neighboring
# frames the forward-backward error may be; and from which difference on flow has probably found something else.
SIGMA_LONG = 0.4
LONG_FB_FACTOR = 1.7
MAX_LONG_DIFFERENCE = 4.0
# Differences that contradict the others by many of their errors lose weight (Geman and McClure, 1987): c of this robust
# cost, in standard deviations, and how often weights are updated.
ROBUST_SCALE = 2.0
ITERATIONS = 3
# How far the mesh is from a point of the body that it should be at, pixels: where flow says little, a label stays near
# the mesh.
SIGMA_MESH = 3.0
# Mesh and flow rarely differ much unless one of them is wrong, so a label is also uncertain by a fraction of its drift.
# Labels up to MAX_UNCERTAINTY, pixels, follow one point; so do more uncertain ones at most NEAR frames from the frame
# that most are like, over which flow's errors have not added up. What is left of a track follows others, in at most
# MAX_RUNS runs of at least MIN_RUN frames.
SIGMA_OF_DRIFT = 0.15
MAX_UNCERTAINTY = 1.3
NEAR, MAX_UNCERTAINTY_NEAR = 3, 2.0
MAX_RUNS, MIN_RUN = 8, 3
# A mesh that moves in a step by more than JUMP pixels and JUMP_FACTOR times what it moves in the JUMP_REACH steps
# before and after has jumped, perhaps to another person, unless flow saw the step: no point is followed across.
JUMP, JUMP_FACTOR, JUMP_REACH = 6.0, 3.0, 3
# Elements of the matrices, [tracks, T, T], that are solved for at once; it bounds memory.
MAX_ELEMENTS = 2_000_000


@dataclass(frozen=True)
class FollowedPoints:
    """Points of the body that tracks follow for some of their frames.

    Attributes:
        track: [M] int, the track of each point; those of one track are different points, in different frames.
        drift: [M, T, 2] float64, the label's position less the point's, pixels of a frame with a short side of 256.
        uncertainty: [M, T] float64, the standard deviation of the point's position, of the same pixels, as it is known
            from the frame whose drift most frames share.
        frames: [M, T] bool, the frames in which the track follows this point: those with little uncertainty.
    """

    track: np.ndarray
    drift: np.ndarray
    uncertainty: np.ndarray
    frames: np.ndarray


@dataclass(frozen=True)
class _Differences:
    """The motion of N tracks less flow's, between frames.

    Attributes:
        start, end: [n] int, the frames.
        difference: [N, n, 2] float64, pixels of a frame with a short side of 256.
        weight: [N, n] float64, one over the variance.
    """

    start: np.ndarray
    end: np.ndarray
    difference: np.ndarray
    weight: np.ndarray

    def of(self, tracks: slice | np.ndarray) -> _Differences:
        return _Differences(self.start, self.end, self.difference[tracks], self.weight[tracks])


def measure_drift(
    xy: np.ndarray, visible: np.ndarray, flows: Sequence[TrackFlow], fb_threshold: float, unit: float
) -> np.ndarray:
    """Find each track's drift by weighted least squares over the differences at all lags.

    Sums of the differences between neighboring frames alone would add up the errors of flow; comparisons over many
    frames hold them.

    Args:
        xy: [N, T, 2] float, raster pixels.
        visible: [N, T] bool, the labels that flow says something of.
        flows: at the labels, by lag; between neighboring frames, and any others.
        fb_threshold: forward-backward error up to which flow is reliable, pixels of a frame with a short side of 256.
        unit: pixels of this frame for one of those.

    Returns:
        [N, T, 2] float64, pixels of a frame with a short side of 256, up to a constant for each track.
    """
    differences = _all_differences(xy, visible, flows, fb_threshold, unit)
    return _measure(differences, xy.shape[1])


def follow_points(
    xy: np.ndarray,
    visible: np.ndarray,
    considered: np.ndarray,
    flows: Sequence[TrackFlow],
    fb_threshold: float,
    unit: float,
    radius: float,
) -> FollowedPoints:
    """Find the points that tracks follow, and where they are.

    A track follows the point that it is on in most frames: those whose drifts lie within a radius. In the others, the
    point is where the drift says, if that is certain enough: by least squares over the differences at all lags and the
    distance from the mesh, whose covariance says how well flow ties a frame to those. No point is followed across a
    jump of the mesh. What is left of a track follows another point, likewise, and so on.

    Args:
        xy, visible, flows, fb_threshold, unit: as for `measure_drift`.
        considered: [N, T] bool, the labels that may follow a point.
        radius: pixels of a frame with a short side of 256.

    Returns:
        The first points of all tracks that have one, then the second ones, and so on.
    """
    num_frames = xy.shape[1]
    differences = _all_differences(xy, visible, flows, fb_threshold, unit)
    drift = _measure(differences, num_frames)
    segment = _segments(xy, visible, flows[0], fb_threshold, unit)
    left = considered.copy()
    runs: list[FollowedPoints] = []
    while len(runs) < MAX_RUNS and len(tracks := np.flatnonzero(left.sum(1) >= MIN_RUN)):
        shape = len(tracks), num_frames
        run = FollowedPoints(tracks, np.zeros((*shape, 2)), np.zeros(shape), np.zeros(shape, bool))
        joined = np.zeros(shape, bool)
        largest = np.full(shape, MAX_UNCERTAINTY)
        for block in _blocks(len(tracks), num_frames):
            rows = tracks[block]
            one = np.arange(len(rows))
            anchor, near = _densest(drift[rows], left[rows], radius)
            center = (drift[rows] * near[..., None]).sum(1) / near.sum(1)[:, None]
            held, covariance = _solve(num_frames, differences.of(rows), center)
            # The variance of the difference from the frame that most are like.
            own = covariance[:, np.arange(num_frames), np.arange(num_frames)]
            variance = own + own[one, anchor][:, None] - 2 * covariance[one, anchor]
            far = np.linalg.norm(drift[rows] - center[:, None], axis=-1)
            run.drift[block] = held - center[:, None]
            joined[block] = segment[rows] == segment[rows, anchor][:, None]
            largest[block][np.abs(np.arange(num_frames) - anchor[:, None]) <= NEAR] = MAX_UNCERTAINTY_NEAR
            run.uncertainty[block] = np.sqrt(np.maximum(variance, 0) + (SIGMA_OF_DRIFT * far) ** 2)
        run.frames[:] = left[tracks] & joined & (run.uncertainty <= largest)
        left[tracks] &= ~run.frames
        # Without frames of the one, a track has no other.
        left[tracks[~run.frames.any(1)]] = False
        runs.append(run)
    if not runs:
        none = np.zeros((0, num_frames))
        return FollowedPoints(np.zeros(0, np.intp), np.zeros((0, num_frames, 2)), none, none > 0)
    return FollowedPoints(
        *(np.concatenate([getattr(run, each.name) for run in runs]) for each in fields(FollowedPoints))
    )


def distance_from_densest(drift: np.ndarray, counted: np.ndarray, radius: float) -> np.ndarray:
    """Return the distance of drifts [N, T, 2] from the densest one of their track: [N, T], inf in tracks without any.

    The densest is the drift of the counted frame that has most of the counted [N, T] bool within the radius.
    """
    distance = np.full(counted.shape, np.inf)
    for block in _blocks(*counted.shape):
        part, count = drift[block], counted[block]
        densest, _ = _densest(part, count, radius)
        from_densest = np.linalg.norm(part - part[np.arange(len(part)), densest][:, None], axis=-1)
        distance[block] = np.where(count.any(1, keepdims=True), from_densest, np.inf)
    return distance


def _blocks(tracks: int, num_frames: int) -> Iterator[slice]:
    """Yield the tracks that are solved for at once."""
    at_once = max(1, MAX_ELEMENTS // num_frames**2)
    return (slice(first, first + at_once) for first in range(0, tracks, at_once))


def _densest(drift: np.ndarray, counted: np.ndarray, radius: float) -> tuple[np.ndarray, np.ndarray]:
    """Return the counted frame that has most of the counted [N, T] bool within the radius, [N], and those, [N, T] bool.

    Memory is [N, T, T]: for blocks of tracks.
    """
    # A sum over an axis of two is slow.
    x, y = drift[..., 0], drift[..., 1]
    squared = (x[:, :, None] - x[:, None]) ** 2 + (y[:, :, None] - y[:, None]) ** 2
    near = (squared <= radius**2) & counted[:, None, :]
    densest = np.where(counted, near.sum(2), -1).argmax(1)
    return densest, near[np.arange(len(drift)), densest]


def _all_differences(
    xy: np.ndarray, visible: np.ndarray, flows: Sequence[TrackFlow], fb_threshold: float, unit: float
) -> _Differences:
    parts = [_differences(xy, visible, flow, fb_threshold, unit) for flow in flows]
    return _Differences(
        np.concatenate([flow.start for flow in flows]),
        np.concatenate([flow.start + flow.lag for flow in flows]),
        np.concatenate([difference for difference, _ in parts], axis=1),
        np.concatenate([weight for _, weight in parts], axis=1),
    )


def _differences(
    xy: np.ndarray, visible: np.ndarray, flow: TrackFlow, fb_threshold: float, unit: float
) -> tuple[np.ndarray, np.ndarray]:
    """Return the track's motion less flow's, [N, n, 2], and its weight, one over the variance, [N, n]."""
    ends = flow.start + flow.lag
    both = visible[:, flow.start] & visible[:, ends]
    motion = xy[:, ends].astype(np.float64) - xy[:, flow.start]
    difference = np.where(both[..., None], np.nan_to_num(motion - flow.displacement), 0) / unit
    by_error = SIGMA_OF_FB_ERROR * np.nan_to_num(flow.fb_error) / unit
    if flow.lag == 1:
        seen, length = _steps(xy, visible, flow, fb_threshold, unit)
        sigma = np.where(seen, np.hypot(SIGMA_FLOW, by_error), np.hypot(SIGMA_UNSEEN, SIGMA_OF_MOTION * length))
        return difference, sigma**-2.0
    used = both & flow.within(LONG_FB_FACTOR * fb_threshold * unit)
    used &= np.linalg.norm(difference, axis=-1) <= MAX_LONG_DIFFERENCE
    return difference, used / np.hypot(SIGMA_LONG, by_error) ** 2


def _segments(xy: np.ndarray, visible: np.ndarray, steps: TrackFlow, fb_threshold: float, unit: float) -> np.ndarray:
    """Number the frames of each track between jumps of its mesh, [N, T] int, rising."""
    seen, length = _steps(xy, visible, steps, fb_threshold, unit)
    # The steps before and after each, without itself.
    around = np.pad(length, ((0, 0), (JUMP_REACH, JUMP_REACH)), constant_values=np.nan)
    offsets = [reach for reach in range(2 * JUMP_REACH + 1) if reach != JUMP_REACH]
    near = np.stack([around[:, reach : reach + length.shape[1]] for reach in offsets])
    usual = np.nanmedian(near, axis=0) if length.shape[1] > 1 else np.inf
    jumped = ~seen & (length > JUMP + JUMP_FACTOR * usual)
    return np.pad(jumped.cumsum(1), ((0, 0), (1, 0)))


def _steps(
    xy: np.ndarray, visible: np.ndarray, steps: TrackFlow, fb_threshold: float, unit: float
) -> tuple[np.ndarray, np.ndarray]:
    """Say which steps between neighboring frames flow sees, [N, T - 1] bool, and how far the mesh moves in each.

    Lengths are [N, T - 1], pixels of a frame with a short side of 256; through frames without a mesh it moves evenly.
    """
    seen = visible[:, 1:] & visible[:, :-1] & steps.within(MAX_FB_FACTOR * fb_threshold * unit)
    return seen, np.nan_to_num(np.linalg.norm(np.diff(_bridged(xy), axis=1), axis=-1)) / unit


def _bridged(xy: np.ndarray) -> np.ndarray:
    """Return positions [N, T, 2] with those that are unknown between known ones, NaN, interpolated in time."""
    at = np.arange(xy.shape[1])
    known = np.isfinite(xy).all(-1)
    before = np.maximum.accumulate(np.where(known, at, 0), axis=1)
    after = np.minimum.accumulate(np.where(known, at, len(at) - 1)[:, ::-1], axis=1)[:, ::-1]
    fraction = (at - before) / np.maximum(after - before, 1)
    first, last = (np.take_along_axis(xy, index[..., None], axis=1) for index in (before, after))
    return first + fraction[..., None] * (last - first)


def _measure(differences: _Differences, num_frames: int) -> np.ndarray:
    """Return the drifts [N, T, 2] by the differences alone."""
    tracks = len(differences.weight)
    drift = np.zeros((tracks, num_frames, 2))
    for block in _blocks(tracks, num_frames):
        drift[block], _ = _solve(num_frames, differences.of(block))
    return drift


def _solve(num_frames: int, of: _Differences, center: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Return the drifts [N, T, 2] that minimize sum_e w_e rho(|drift[end_e] - drift[start_e] - difference_e|^2).

    Args:
        num_frames: T.
        of: the differences e.
        center: [N, 2], drifts that the mesh is right with: adds sum_t |drift[t] - center|^2 / SIGMA_MESH^2. Without
            it the first frame's drift is zero.

    Returns:
        The drifts, and with a center their covariance [N, T, T], else nothing, [N, 0, 0].
    """
    tracks = len(of.weight)
    drift = np.empty((tracks, num_frames, 2))
    covariance = np.empty((tracks, 0 if center is None else num_frames, num_frames))
    centers = np.zeros((tracks, 2)) if center is None else center
    _solve_tracks(of.start, of.end, of.difference, of.weight, centers, drift, covariance)
    return drift, covariance if center is not None else np.zeros((tracks, 0, 0))


@njit(cache=True, nogil=True)
def _solve_tracks(start, end, difference, weight, center, drift, covariance):
    """Write the drifts, and the covariances unless they have no rows: then no frame is held at the center."""
    count = drift.shape[1]
    held = covariance.shape[1] > 0
    hold = SIGMA_MESH**-2.0
    factor = np.empty((count, count))
    for n in range(len(drift)):
        robust = weight[n].copy()
        x = drift[n]
        for _ in range(ITERATIONS):
            factor[:] = 0.0
            x[:] = 0.0
            for e in range(len(start)):
                a, b, w = start[e], end[e], robust[e]
                factor[a, a] += w
                factor[b, b] += w
                # The lower triangle: edges end after they start.
                factor[b, a] -= w
                for c in range(2):
                    x[b, c] += w * difference[n, e, c]
                    x[a, c] -= w * difference[n, e, c]
            if held:
                for t in range(count):
                    factor[t, t] += hold
                    for c in range(2):
                        x[t, c] += hold * center[n, c]
            else:
                # Differences leave a constant open.
                factor[0, 0] += 1.0
            # Cholesky: matrix = L L^T, then L y = right and L^T x = y.
            for i in range(count):
                for j in range(i + 1):
                    rest = factor[i, j]
                    for k in range(j):
                        rest -= factor[i, k] * factor[j, k]
                    factor[i, j] = np.sqrt(rest) if i == j else rest / factor[j, j]
            for i in range(count):
                for c in range(2):
                    for k in range(i):
                        x[i, c] -= factor[i, k] * x[k, c]
                    x[i, c] /= factor[i, i]
            for i in range(count - 1, -1, -1):
                for c in range(2):
                    x[i, c] /= factor[i, i]
                    for k in range(i):
                        x[k, c] -= factor[i, k] * x[i, c]
            for e in range(len(start)):
                squared = 0.0
                for c in range(2):
                    squared += (x[end[e], c] - x[start[e], c] - difference[n, e, c]) ** 2
                squared *= weight[n, e]
                robust[e] = weight[n, e] * (ROBUST_SCALE**2 / (ROBUST_SCALE**2 + squared)) ** 2
        if held:
            _invert(factor, covariance[n])


@njit(cache=True, nogil=True)
def _invert(factor, inverse):
    """Write the inverse of L L^T, by L^-1 = M: M^T M. Of `factor` L, [T, T], the lower triangle becomes M."""
    count = len(factor)
    for i in range(count):
        diagonal = 1.0 / factor[i, i]
        # Row i of M, from the rows before: M[i, j] = -(sum_k L[i, k] M[k, j]) / L[i, i], k from j to i - 1.
        row = np.zeros(i)
        for k in range(i):
            for j in range(k + 1):
                row[j] -= factor[i, k] * factor[k, j]
        for j in range(i):
            factor[i, j] = row[j] * diagonal
        factor[i, i] = diagonal
    inverse[:] = 0.0
    for k in range(count):
        for i in range(k + 1):
            for j in range(i + 1):
                inverse[i, j] += factor[k, i] * factor[k, j]
    for i in range(count):
        for j in range(i):
            inverse[j, i] = inverse[i, j]
