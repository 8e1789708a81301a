"""The linear system of one Gauss-Newton step over a whole track: banded in time, bordered by the shared shape.

With poses p (P values in each of T frames) and shape s (S coefficients for the track), the system is

    [ A   B ] [dp]     [ g ]
    [ B^T C ] [ds] = - [ h ]

where A couples only frames that some residual sees together, so it is a band matrix.
"""

from __future__ import annotations

import numpy as np
from numba import njit
from scipy.linalg import cho_solve_banded, cholesky_banded

# The diagonal is damped as if no entry were smaller, so that unobserved values stay solvable.
MIN_DIAGONAL = 1e-3


class NormalEquations:
    """J^T J and J^T r of residuals that depend on one frame, or two frames `lag` apart, and the shape.

    Rows are given as [..., P + S]: derivatives by the frame's values, then by the shape.

    Attributes:
        diagonal: [T, P, P], the blocks of A on its diagonal.
        pairs: by lag [T - lag, P, P], the blocks of A with the rows of frame t + lag and the columns of frame t.
        gradient: [T, P], g.
        border: [T, P, S], B.
        shape: [S, S], C.
        shape_gradient: [S], h.
    """

    def __init__(self, frames: int, pose_size: int, shapes: int) -> None:
        self.pose_size = pose_size
        self.diagonal = np.zeros((frames, pose_size, pose_size))
        self.pairs: dict[int, np.ndarray] = {}
        self.gradient = np.zeros((frames, pose_size))
        self.border = np.zeros((frames, pose_size, shapes))
        self.shape = np.zeros((shapes, shapes))
        self.shape_gradient = np.zeros(shapes)

    def add(self, rows: np.ndarray, residuals: np.ndarray) -> None:
        """Add residuals [T, ...] of single frames, with rows [T, ..., P + S]."""
        rows, residuals = rows.reshape(len(rows), -1, rows.shape[-1]), residuals.reshape(len(rows), -1)
        transposed = rows.transpose(0, 2, 1)
        square = transposed @ rows
        slope = (transposed @ residuals[..., None])[..., 0]
        size = self.pose_size
        self.diagonal += square[:, :size, :size]
        self.border += square[:, :size, size:]
        self.shape += square[:, size:, size:].sum(0)
        self.gradient += slope[:, :size]
        self.shape_gradient += slope[:, size:].sum(0)

    def add_pairs(self, lag: int, start: np.ndarray, rows: np.ndarray, residuals: np.ndarray) -> None:
        """Add residuals that are a difference: what frame t + lag contributes, less what frame t contributes.

        Args:
            lag: frames between the two.
            start: [n] int, the frames t, each once.
            rows: [2, n, ..., P + S], derivatives of the contributions of frame t and of frame t + lag, both positive.
            residuals: [n, ...].
        """
        size = self.pose_size
        rows, residuals = rows.reshape(2, len(start), -1, rows.shape[-1]), residuals.reshape(len(start), -1)
        early, late = rows[0, ..., :size], rows[1, ..., :size]
        shape = rows[1, ..., size:] - rows[0, ..., size:]
        for own, at, sign in ((early, start, -1), (late, start + lag, 1)):
            transposed = own.transpose(0, 2, 1)
            self.diagonal[at] += transposed @ own
            self.border[at] += sign * (transposed @ shape)
            self.gradient[at] += sign * (transposed @ residuals[..., None])[..., 0]
        # The signs of the two ends differ, so their block is negative.
        self.pair(lag)[start] -= late.transpose(0, 2, 1) @ early
        self.shape += np.einsum("nra,nrb->ab", shape, shape, optimize=True)
        self.shape_gradient += np.einsum("nra,nr->a", shape, residuals)

    def pair(self, lag: int) -> np.ndarray:
        """Return the blocks of `pairs` at a lag, to be added to; zero at first."""
        size = self.pose_size
        return self.pairs.setdefault(lag, np.zeros((len(self.diagonal) - lag, size, size)))

    def solve(self, damping: float) -> tuple[np.ndarray, np.ndarray]:
        """Solve for Levenberg-Marquardt's step: dp [T, P] and ds [S]; the diagonal is raised by the fraction `damping`.

        The shape is eliminated by its Schur complement, so that the pose system stays banded:
        (C - B^T A^-1 B) ds = -h + B^T A^-1 g, and dp = -A^-1 g - A^-1 B ds.

        Raises:
            numpy.linalg.LinAlgError: if the damped system is not positive definite.
        """
        frames, size = self.gradient.shape
        shapes = len(self.shape_gradient)
        lags = [lag for lag in self.pairs if lag < frames]
        # LAPACK's lower band storage, transposed as LAPACK wants it in memory: band[j, i - j] = A[i, j].
        band = np.zeros((frames, size, max(lags, default=0) * size + size))
        _put_into_band(band, 0, self.diagonal)
        band[..., 0] += damping * np.maximum(band[..., 0], MIN_DIAGONAL)
        for lag in lags:
            _put_into_band(band, lag, self.pairs[lag])
        factor = cholesky_banded(band.reshape(frames * size, -1).T, lower=True, overwrite_ab=True, check_finite=False)
        # One solve for both right sides: -A^-1 g in the first column, A^-1 B in the others.
        border = self.border.reshape(frames * size, shapes)
        right = np.concatenate([-self.gradient.reshape(-1, 1), border], axis=1)
        solved = cho_solve_banded((factor, True), right, check_finite=False)
        schur = self.shape + np.diag(damping * np.diag(self.shape)) - border.T @ solved[:, 1:]
        shape_step = np.linalg.solve(schur, -self.shape_gradient - border.T @ solved[:, 0])
        return (solved[:, 0] - solved[:, 1:] @ shape_step).reshape(frames, size), shape_step


@njit(cache=True, nogil=True)
def _put_into_band(band, lag, blocks):
    """Add blocks [T - lag, P, P], of frame t + lag (rows) and frame t (columns), to a band [T, P, ...]."""
    size = band.shape[1]
    for t in range(len(blocks)):
        for j in range(size):
            for i in range(j if lag == 0 else 0, size):
                band[t, j, lag * size + i - j] += blocks[t, i, j]
