"""What the fit is asked to agree with: each term adds its cost, and its rows to the normal equations."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numba import njit

from anthrotap_builder.bodies.body import PosePrior
from anthrotap_builder.geometry.camera import Camera
from anthrotap_builder.mesh_recovery.normal_equations import NormalEquations

ROBUST = 5.0  # Geman-McClure's scale, in standard deviations: a residual far beyond it no longer pulls
NEAREST = 0.1  # depth, meters, that projection inside the fit never goes below
HIPS = (11, 12)  # keypoints of left and right hip, whose middle the world landmarks are relative to


def project(camera: Camera, points: np.ndarray, jacobian: np.ndarray | None = None):
    """Raster xy [T, K, 2] of points [T, K, 3]; with the points' Jacobian [T, K, 3, Q] also that of xy [T, K, 2, Q]."""
    depth = np.maximum(points[..., 2:], NEAREST)
    plane = points[..., :2] / depth
    xy = camera.focal * plane + camera.center
    if jacobian is None:
        return xy
    return xy, _project_rows(jacobian, plane, camera.focal / depth[..., 0])


@njit(cache=True, nogil=True)
def _project_rows(jacobian, plane, scale):
    frames, count, _, size = jacobian.shape
    rows = np.empty((frames, count, 2, size))
    for t in range(frames):
        for k in range(count):
            for a in range(2):
                for q in range(size):
                    across = plane[t, k, a] * jacobian[t, k, 2, q]
                    rows[t, k, a, q] = scale[t, k] * (jacobian[t, k, a, q] - across)
    return rows


def geman_mcclure(squared: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Robust cost and row weight of squared residuals (Geman and McClure 1987): r^2 c^2 / (r^2 + c^2)."""
    share = ROBUST**2 / (squared + ROBUST**2)
    return squared * share, share


@dataclass(frozen=True)
class Landmarks2D:
    """Keypoints project onto the 2D landmarks.

    Attributes:
        targets: [T, K, 2] raster pixels, anything where the weight is zero.
        weights: [T, K] how far a landmark is believed, 0 to about 2.
        sigma: [T, 1] pixels.
    """

    targets: np.ndarray
    weights: np.ndarray
    sigma: np.ndarray
    camera: Camera

    def _residuals(self, xy: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        residuals = (xy - self.targets) / self.sigma[..., None]
        return residuals, *geman_mcclure((residuals**2).sum(-1))

    def cost(self, points: np.ndarray) -> float:
        _, robust, _ = self._residuals(project(self.camera, points))
        return 0.5 * float((robust * self.weights).sum())

    def add_to(self, system: NormalEquations, points: np.ndarray, jacobian: np.ndarray) -> None:
        xy, rows = project(self.camera, points, jacobian)
        residuals, _, share = self._residuals(xy)
        scale = (np.sqrt(self.weights) * share)[..., None]
        frames = len(points)
        system.add(
            (rows * (scale / self.sigma[..., None])[..., None]).reshape(frames, -1, rows.shape[-1]),
            (residuals * scale).reshape(frames, -1),
        )


@dataclass(frozen=True)
class Landmarks3D:
    """Keypoints, relative to the hips, match the world landmarks.

    Attributes:
        targets: [T, K, 3] meters relative to the middle of the hip keypoints, camera axes.
        weights: [T, K] as in `Landmarks2D`.
        sigma: meters.
    """

    targets: np.ndarray
    weights: np.ndarray
    sigma: float

    def _residuals(self, points: np.ndarray) -> np.ndarray:
        relative = points - points[:, HIPS].mean(1, keepdims=True)
        return (relative - self.targets) * (np.sqrt(self.weights) / self.sigma)[..., None]

    def cost(self, points: np.ndarray) -> float:
        return 0.5 * float((self._residuals(points) ** 2).sum())

    def add_to(self, system: NormalEquations, points: np.ndarray, jacobian: np.ndarray) -> None:
        relative = jacobian - jacobian[:, HIPS].mean(1, keepdims=True)
        rows = relative * (np.sqrt(self.weights) / self.sigma)[..., None, None]
        frames = len(points)
        system.add(rows.reshape(frames, -1, rows.shape[-1]), self._residuals(points).reshape(frames, -1))


@dataclass(frozen=True)
class Silhouette:
    """Surface points do not project outside the mask of people. One-sided: the mask may be larger than the body.

    Attributes:
        distance: [T, h, w] float32, distance to the mask in pixels of the frame, on a grid `step` times coarser.
        step: pixels of the frame for each grid cell.
        weights: [T, 1], zero in frames without a mask.
        sigma: [T, 1] pixels.
    """

    distance: np.ndarray
    step: int
    weights: np.ndarray
    sigma: np.ndarray

    @classmethod
    def of(cls, mask: np.ndarray, found: np.ndarray, sigma: np.ndarray, weight: float) -> Silhouette:
        """From masks [T, H, W] bool; `found` [T] says in which frames there is one."""
        step = 2
        coarse = [np.ascontiguousarray(~m[::step, ::step]).astype(np.uint8) for m in mask]
        farthest = float(sum(mask.shape[1:]))  # an empty mask is at no distance that OpenCV could tell
        distance = np.stack(
            [np.minimum(cv2.distanceTransform(c, cv2.DIST_L2, 3), farthest) * step for c in coarse]
        )
        return cls(distance, step, found[:, None] * weight, sigma)

    def _residuals(self, xy: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        distance, slope = _sample_with_slope(self.distance, (xy - 0.5) / self.step)
        outside = np.maximum(distance - 1, 0) / self.sigma
        return outside, slope * (outside > 0)[..., None] / (self.step * self.sigma[..., None])

    def cost(self, xy: np.ndarray) -> float:
        outside, _ = self._residuals(xy)
        return 0.5 * float((geman_mcclure(outside**2)[0] * self.weights).sum())

    def add_to(self, system: NormalEquations, xy: np.ndarray, rows: np.ndarray) -> None:
        outside, slope = self._residuals(xy)
        scale = np.sqrt(self.weights) * geman_mcclure(outside**2)[1]
        system.add(np.einsum("tkaq,tka->tkq", rows, slope) * scale[..., None], outside * scale)


@njit(cache=True, nogil=True)
def _sample_with_slope(grids, places):
    """Bilinear values [T, K] and slopes [T, K, 2] of grids [T, h, w] at cell-centerd places [T, K, 2]; flat and zero
    off the grid, where nothing is known."""
    frames, count = places.shape[:2]
    height, width = grids.shape[1:]
    values = np.zeros((frames, count))
    slopes = np.zeros((frames, count, 2))
    for t in range(frames):
        for k in range(count):
            x, y = places[t, k]
            if not (x >= 0 and y >= 0 and x < width - 1 and y < height - 1):
                continue
            i, j = int(x), int(y)
            fx, fy = x - i, y - j
            a, b = grids[t, j, i], grids[t, j, i + 1]
            c, d = grids[t, j + 1, i], grids[t, j + 1, i + 1]
            values[t, k] = (a * (1 - fx) + b * fx) * (1 - fy) + (c * (1 - fx) + d * fx) * fy
            slopes[t, k, 0] = (b - a) * (1 - fy) + (d - c) * fy
            slopes[t, k, 1] = (c - a) * (1 - fx) + (d - b) * fx
    return values, slopes


@dataclass(frozen=True)
class Motion:
    """Surface points move in the picture as optical flow does, over a lag of frames.

    Attributes:
        lag: frames between the two ends.
        start: [n] int, the earlier frames.
        flow: [n, K, 2] pixels, anything where the weight is zero.
        weights: [n, K], zero where flow is not to be believed.
        sigma: pixels.
    """

    lag: int
    start: np.ndarray
    flow: np.ndarray
    weights: np.ndarray
    sigma: float

    def _residuals(self, xy: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        moved = xy[self.start + self.lag] - xy[self.start]
        residuals = (moved - self.flow) / self.sigma
        return residuals, *geman_mcclure((residuals**2).sum(-1))

    def cost(self, xy: np.ndarray) -> float:
        _, robust, _ = self._residuals(xy)
        return 0.5 * float((robust * self.weights).sum())

    def add_to(self, system: NormalEquations, xy: np.ndarray, rows: np.ndarray) -> None:
        residuals, _, share = self._residuals(xy)
        scale = np.sqrt(self.weights) * share
        ends = _at_both_ends(rows, self.start, self.lag, scale / self.sigma)
        pairs = len(self.start)
        system.add_pairs(
            self.lag,
            self.start,
            ends.reshape(2, pairs, -1, rows.shape[-1]),
            (residuals * scale[..., None]).reshape(pairs, -1),
        )


@njit(cache=True, nogil=True)
def _at_both_ends(rows, start, lag, scale):
    """[2, n, K, 2, Q]: rows [T, K, 2, Q] of the frames `start` [n] and of those `lag` later, times `scale` [n, K]."""
    _, count, _, size = rows.shape
    ends = np.empty((2, len(start), count, 2, size))
    for i in range(len(start)):
        for end in range(2):
            for k in range(count):
                for a in range(2):
                    for q in range(size):
                        ends[end, i, k, a, q] = rows[start[i] + end * lag, k, a, q] * scale[i, k]
    return ends


@dataclass(frozen=True)
class Posture:
    """Joints stay near the prior's mean and inside its soft limits; the shape near the mean body.

    Attributes:
        prior: in each joint's own axes.
        limit_sigma: radians beyond a limit.
        shape_weight: how many frames' worth of evidence the shape prior counts.
    """

    prior: PosePrior
    limit_sigma: float
    shape_weight: float

    def _angles(self, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Rotations in the joints' axes less their mean, and how far they are beyond the limits, [T, J, 3]."""
        vectors = values[:, 3:].reshape(len(values), -1, 3)
        angles = np.einsum("jba,tjb->tja", self.prior.axes, vectors)
        beyond = np.minimum(angles - self.prior.lower, 0) + np.maximum(angles - self.prior.upper, 0)
        return angles - self.prior.mean, beyond

    def cost(self, values: np.ndarray, shape: np.ndarray) -> float:
        angles, beyond = self._angles(values)
        pose = ((angles / self.prior.sigma) ** 2).sum() + ((beyond / self.limit_sigma) ** 2).sum()
        return 0.5 * float(pose + self.shape_weight * (shape**2).sum())

    def add_to(self, system: NormalEquations, values: np.ndarray, shape: np.ndarray) -> None:
        angles, beyond = self._angles(values)
        axes = self.prior.axes
        curvature = 1 / self.prior.sigma**2 + (beyond != 0) / self.limit_sigma**2
        slope = angles / self.prior.sigma**2 + beyond / self.limit_sigma**2
        system.gradient[:, 3:] += np.einsum("jab,tjb->tja", axes, slope).reshape(len(values), -1)
        blocks = np.einsum("jab,tjb,jcb->tjac", axes, curvature, axes, optimize=True)
        for joint in range(len(axes)):
            at = slice(3 + 3 * joint, 6 + 3 * joint)
            system.diagonal[:, at, at] += blocks[:, joint]
        system.shape += self.shape_weight * np.eye(len(shape))
        system.shape_gradient += self.shape_weight * shape


@dataclass(frozen=True)
class Smoothness:
    """Values accelerate little, and (rotations) move little, from frame to frame.

    Attributes:
        acceleration, velocity: [P] weights (one over the variance, per frame) of second and first differences.
    """

    acceleration: np.ndarray
    velocity: np.ndarray

    def cost(self, values: np.ndarray) -> float:
        second, first = np.diff(values, 2, axis=0), np.diff(values, axis=0)
        return 0.5 * float((second**2 * self.acceleration).sum() + (first**2 * self.velocity).sum())

    def add_to(self, system: NormalEquations, values: np.ndarray) -> None:
        frames, size = values.shape
        at = np.arange(size)
        for order, weight in ((1, self.velocity), (2, self.acceleration)):
            if frames <= order:
                continue
            difference = np.diff(np.eye(frames), order, axis=0)  # [T - order, T]
            square = difference.T @ difference
            system.gradient += (square @ values) * weight
            for lag in range(order + 1):
                along = np.diag(square, -lag)[:, None] * weight
                block = system.diagonal if lag == 0 else system.pair(lag)
                block[:, at, at] += along
