"""Values and rotations over time: gaps, whole turns, means."""

from __future__ import annotations

import numpy as np


def interpolate(values: np.ndarray, found: np.ndarray) -> np.ndarray:
    """Fill the frames that are not `found` [T] bool: linear between found ones, constant before and after.

    Args:
        values: [T, ...], any value in frames that are not found.
        found: at least one.

    Returns:
        [T, ...] float64.
    """
    times = np.flatnonzero(found)
    # The found frames around each frame, and how far it is from the first of them to the second.
    at = np.clip(np.arange(len(found)), times[0], times[-1])
    after = np.minimum(np.searchsorted(times, at), len(times) - 1)
    before = np.maximum(after - 1, 0)
    span = np.maximum(times[after] - times[before], 1)
    fraction = np.clip((at - times[before]) / span, 0, 1).reshape(-1, *[1] * (values.ndim - 1))
    known = values[times].astype(np.float64)
    return known[before] * (1 - fraction) + known[after] * fraction


def unwrap(vectors: np.ndarray) -> np.ndarray:
    """Move rotation vectors [T, 3] by whole turns, so that each is near the one before."""
    out = vectors.copy()
    for t in range(1, len(out)):
        angle = np.linalg.norm(out[t])
        other = out[t] * (1 - 2 * np.pi / np.maximum(angle, 1e-9))
        if np.linalg.norm(other - out[t - 1]) < np.linalg.norm(out[t] - out[t - 1]):
            out[t] = other
    return out


def mean_rotation(rotations: np.ndarray) -> np.ndarray:
    """Return [3, 3], the rotation nearest to the sum of rotations [T, 3, 3] (Markley et al., Averaging quaternions,
    2007)."""
    u, _, vt = np.linalg.svd(rotations.sum(0))
    return u @ np.diag([1, 1, np.linalg.det(u @ vt)]) @ vt
