"""How far tracks drift: the signed difference of a mesh's motion and flow's, from one frame to any other of a track."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from anthrotap_builder.flow.track_flow import TrackFlow

# Errors of the difference between neighboring frames, pixels of a frame with a short side of 256: where flow is
# reliable; where it is not (its difference counts all the same: a wrong one costs a good label, dropping it would let a
# jump of the mesh through); and where the point is occluded, or out of its mask because something is in front, so that
# flow says nothing of it and the mesh's motion is taken.
SIGMA_RELIABLE, SIGMA_UNRELIABLE, SIGMA_UNSEEN = 0.3, 0.5, 1.0
# The same over more than one frame, where the two ends are compared directly; how much larger than between neighboring
# frames the forward-backward error may be; and from which difference on flow has probably found something else.
SIGMA_LONG = 0.4
LONG_FB_FACTOR = 1.7
MAX_LONG_DIFFERENCE = 4.0
# Differences that contradict the others by many of their errors lose weight (Geman and McClure, 1987): c of this robust
# cost, in standard deviations, and how often weights are updated.
ROBUST_SCALE = 2.0
ITERATIONS = 3
# Elements of the matrices, [tracks, T, T], that are solved for at once; it bounds memory.
MAX_ELEMENTS = 2_000_000


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
    parts = [_differences(xy, visible, flow, fb_threshold, unit) for flow in flows]
    start = np.concatenate([flow.start for flow in flows])
    end = np.concatenate([flow.start + flow.lag for flow in flows])
    difference = np.concatenate([difference for difference, _ in parts], axis=1)
    weight = np.concatenate([weight for _, weight in parts], axis=1)
    drift = np.zeros(xy.shape)
    at_once = max(1, MAX_ELEMENTS // xy.shape[1] ** 2)
    for first in range(0, len(xy), at_once):
        block = slice(first, first + at_once)
        drift[block] = _solve(xy.shape[1], start, end, difference[block], weight[block])
    return drift


def _differences(
    xy: np.ndarray, visible: np.ndarray, flow: TrackFlow, fb_threshold: float, unit: float
) -> tuple[np.ndarray, np.ndarray]:
    """Return the track's motion less flow's, [N, n, 2], and its weight, one over the variance, [N, n]."""
    ends = flow.start + flow.lag
    both = visible[:, flow.start] & visible[:, ends]
    motion = xy[:, ends].astype(np.float64) - xy[:, flow.start]
    difference = np.where(both[..., None], np.nan_to_num(motion - flow.displacement), 0) / unit
    if flow.lag == 1:
        sigma = np.where(flow.within(fb_threshold * unit), SIGMA_RELIABLE, SIGMA_UNRELIABLE)
        return difference, np.where(both, sigma, SIGMA_UNSEEN) ** -2.0
    used = both & flow.within(LONG_FB_FACTOR * fb_threshold * unit)
    used &= np.linalg.norm(difference, axis=-1) <= MAX_LONG_DIFFERENCE
    return difference, used / SIGMA_LONG**2


def _solve(
    num_frames: int, start: np.ndarray, end: np.ndarray, difference: np.ndarray, weight: np.ndarray
) -> np.ndarray:
    """Return the drifts [N, T, 2] that minimize sum_e w_e rho(|drift[end_e] - drift[start_e] - difference_e|^2)."""
    frames = np.arange(num_frames)
    drift: np.ndarray = np.zeros((len(weight), num_frames, 2))
    robust = weight
    for _ in range(ITERATIONS):
        matrix = np.zeros((len(weight), num_frames, num_frames))
        right = np.zeros_like(drift)
        # An edge appears once in the matrix, but a frame is an end of several: they are added lag by lag.
        matrix[:, start, end] = matrix[:, end, start] = -robust
        matrix[:, frames, frames] = -matrix.sum(2)
        pull = robust[..., None] * difference
        for lag in np.unique(end - start):
            of_lag = end - start == lag
            right[:, end[of_lag]] += pull[:, of_lag]
            right[:, start[of_lag]] -= pull[:, of_lag]
        # Differences leave a constant open: the first frame's drift is zero.
        matrix[:, 0, 0] += 1.0
        drift = np.linalg.solve(matrix, right)
        squared = ((drift[:, end] - drift[:, start] - difference) ** 2).sum(-1) * weight
        robust = weight * (ROBUST_SCALE**2 / (ROBUST_SCALE**2 + squared)) ** 2
    return drift
