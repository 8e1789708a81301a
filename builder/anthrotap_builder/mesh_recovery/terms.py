"""The terms of the fit's objective; each adds its cost, and its rows to the normal equations.

A term is 1/2 sum_i w_i rho(|r_i|^2) over residuals r_i with weights w_i. `cost` returns it. `add_to` adds J^T J and
J^T r of its rows, which are the residuals' derivatives J by pose and shape; r and J are both multiplied by sqrt(w_i).
Residuals in the
image are robust: rho(r^2) = r^2 c^2 / (r^2 + c^2) (Geman and McClure, 1987). Its derivative by r, halved, is s^2 r with
s = c^2 / (r^2 + c^2), so r and J are multiplied by s as well: the gradient is exact, the curvature Gauss-Newton's.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numba import njit

from anthrotap_builder.bodies.body import PosePrior
from anthrotap_builder.geometry.camera import Camera
from anthrotap_builder.mesh_recovery.normal_equations import NormalEquations

# c of the robust cost, in standard deviations: a residual far beyond it no longer pulls.
ROBUST_SCALE = 5.0
# Points nearer than this, meters, are projected as if they were this far away.
MIN_DEPTH = 0.1
# Keypoints of left and right hip, whose middle the 3D landmarks are relative to.
HIPS = (11, 12)
# Error of 2D landmarks as a fraction of the person's size, and of 3D landmarks in meters.
SIGMA_2D = 0.012
SIGMA_3D = 0.06
# Surface points that must stay inside the mask, how many landmarks they count for together, the error of the mask as a
# fraction of the person's size, and how many pixels of the frame are one cell of the distance map.
SILHOUETTE_POINTS = 160
SILHOUETTE_WEIGHT = 60.0
SIGMA_SILHOUETTE = 0.008
DISTANCE_STEP = 2
# Softness of joint limits, radians; and the weight of the shape prior for each frame.
SIGMA_LIMIT = 0.1
SHAPE_WEIGHT = 1 / 16
# Smoothness at 30 frames a second: of joint rotations in radians a frame^2 and radians a frame, of the root's
# position in
# meters a frame^2.
SIGMA_ACCELERATION = 0.10
SIGMA_VELOCITY = 1.0
SIGMA_ROOT_ACCELERATION = 0.03


def project(camera: Camera, points: np.ndarray, jacobian: np.ndarray | None = None):
    """Project points [T, K, 3] to raster xy [T, K, 2]; with their Jacobian [T, K, 3, Q], return also that of xy."""
    depth = np.maximum(points[..., 2:], MIN_DEPTH)
    plane = points[..., :2] / depth
    xy = camera.focal * plane + camera.center
    if jacobian is None:
        return xy
    return xy, _project_rows(jacobian, plane, camera.focal / depth[..., 0])


@njit(cache=True, nogil=True)
def _project_rows(jacobian, plane, scale):
    """Return the rows [T, K, 2, Q] of xy = f X / z: d xy = f / z (d X_xy - (X_xy / z) d z)."""
    frames, count, _, size = jacobian.shape
    rows = np.empty((frames, count, 2, size))
    for t in range(frames):
        for k in range(count):
            for a in range(2):
                for q in range(size):
                    from_depth = plane[t, k, a] * jacobian[t, k, 2, q]
                    rows[t, k, a, q] = scale[t, k] * (jacobian[t, k, a, q] - from_depth)
    return rows


def robust_cost(residuals: np.ndarray, weights: np.ndarray) -> float:
    """Return the cost of residuals [..., D] with weights [...]; rho is of the squared norm over D (see the module)."""
    squared = (residuals**2).sum(-1)
    return 0.5 * float((squared * _robust_factor(squared) * weights).sum())


def robust_scale(residuals: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return what residuals [..., D] with weights [...] and their rows are multiplied by, sqrt(w) s, [...]."""
    return np.sqrt(weights) * _robust_factor((residuals**2).sum(-1))


def _robust_factor(squared: np.ndarray) -> np.ndarray:
    return ROBUST_SCALE**2 / (squared + ROBUST_SCALE**2)


@dataclass(frozen=True)
class Landmarks2D:
    """Keypoints project onto the 2D landmarks: r = (project(X) - target) / sigma, robust over x and y together.

    Attributes:
        targets: [T, K, 2] raster pixels, any value where the weight is zero.
        weights: [T, K] reliability of each landmark, 0 to about 2.
        sigma: [T, 1] pixels.
        camera: of the clip.
    """

    targets: np.ndarray
    weights: np.ndarray
    sigma: np.ndarray
    camera: Camera

    def _residuals(self, xy: np.ndarray) -> np.ndarray:
        return (xy - self.targets) / self.sigma[..., None]

    def cost(self, points: np.ndarray) -> float:
        return robust_cost(self._residuals(project(self.camera, points)), self.weights)

    def add_to(self, system: NormalEquations, points: np.ndarray, jacobian: np.ndarray) -> None:
        xy, rows = project(self.camera, points, jacobian)
        residuals = self._residuals(xy)
        scale = robust_scale(residuals, self.weights)[..., None]
        system.add(rows * (scale / self.sigma[..., None])[..., None], residuals * scale)


@dataclass(frozen=True)
class Landmarks3D:
    """Keypoints relative to the hips match the 3D landmarks: r = (X - hips - target) / sigma, not robust.

    Attributes:
        targets: [T, K, 3] meters relative to the middle of the hip keypoints, camera axes.
        weights: [T, K] as in `Landmarks2D`.
    """

    targets: np.ndarray
    weights: np.ndarray

    def _residuals(self, points: np.ndarray) -> np.ndarray:
        relative = points - points[:, HIPS].mean(1, keepdims=True)
        return (relative - self.targets) * (np.sqrt(self.weights) / SIGMA_3D)[..., None]

    def cost(self, points: np.ndarray) -> float:
        return 0.5 * float((self._residuals(points) ** 2).sum())

    def add_to(self, system: NormalEquations, points: np.ndarray, jacobian: np.ndarray) -> None:
        relative = jacobian - jacobian[:, HIPS].mean(1, keepdims=True)
        system.add(relative * (np.sqrt(self.weights) / SIGMA_3D)[..., None, None], self._residuals(points))


@dataclass(frozen=True)
class Silhouette:
    """Surface points do not project outside the mask of all people: r = distance to it / sigma, robust.

    It is one-sided, because clothes make the mask larger than the body.

    Attributes:
        distance: [T, h, w] float32, distance to the mask in pixels of the frame, a cell for each DISTANCE_STEP pixels.
        weights: [T, 1], zero in frames without a mask.
        sigma: [T, 1] pixels.
    """

    distance: np.ndarray
    weights: np.ndarray
    sigma: np.ndarray

    @classmethod
    def of(cls, people_mask: np.ndarray, found: np.ndarray, size: np.ndarray) -> Silhouette:
        """Make the term.

        Args:
            people_mask: [T, H, W] bool, all people's masks together, in front of the person or behind.
            found: [T] bool, the frames in which the person has a mask.
            size: [T, 1] the person's size, pixels.
        """
        step = DISTANCE_STEP
        coarse = [np.ascontiguousarray(~mask[::step, ::step]).astype(np.uint8) for mask in people_mask]
        # OpenCV's distance to an empty mask is meaningless; the frame's height plus width stands for it.
        farthest = float(sum(people_mask.shape[1:]))
        distance = np.stack([np.minimum(cv2.distanceTransform(c, cv2.DIST_L2, 3), farthest) * step for c in coarse])
        weights = found[:, None] * (SILHOUETTE_WEIGHT / SILHOUETTE_POINTS)
        return cls(distance, weights, np.maximum(SIGMA_SILHOUETTE * size, 1.0))

    def _residuals(self, xy: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the residuals [T, K, 1] and their derivatives [T, K, 2] by xy."""
        distance, slope = _sample_with_slope(self.distance, (xy - 0.5) / DISTANCE_STEP)
        # Distances are between centers of cells; the mask's edge is half a cell, which is one pixel, nearer.
        sigma = self.sigma[..., None]
        residuals = np.maximum(distance[..., None] - 1, 0) / sigma
        return residuals, slope * (residuals > 0) / (DISTANCE_STEP * sigma)

    def cost(self, xy: np.ndarray) -> float:
        return robust_cost(self._residuals(xy)[0], self.weights)

    def add_to(self, system: NormalEquations, xy: np.ndarray, rows: np.ndarray) -> None:
        residuals, slope = self._residuals(xy)
        scale = robust_scale(residuals, self.weights)[..., None]
        system.add(np.einsum("tkaq,tka->tkq", rows, slope) * scale, residuals * scale)


@njit(cache=True, nogil=True)
def _sample_with_slope(grids, positions):
    """Sample grids [T, h, w] bilinearly at positions [T, K, 2], cell centers being whole numbers.

    Returns values [T, K] and slopes [T, K, 2]; zero off the grid, where nothing is known.
    """
    frames, count = positions.shape[:2]
    height, width = grids.shape[1:]
    values = np.zeros((frames, count))
    slopes = np.zeros((frames, count, 2))
    for t in range(frames):
        for k in range(count):
            x, y = positions[t, k]
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
class FlowMotion:
    """Surface points move in the image as optical flow does: r = (xy[t + lag] - xy[t] - flow) / sigma, robust.

    Attributes:
        lag: frames between the two ends.
        start: [n] int, the earlier frames.
        flow: [n, K, 2] pixels, any value where the weight is zero.
        weights: [n, K], zero where flow is not reliable.
        sigma: pixels.
    """

    lag: int
    start: np.ndarray
    flow: np.ndarray
    weights: np.ndarray
    sigma: float

    def _residuals(self, xy: np.ndarray) -> np.ndarray:
        return (xy[self.start + self.lag] - xy[self.start] - self.flow) / self.sigma

    def cost(self, xy: np.ndarray) -> float:
        return robust_cost(self._residuals(xy), self.weights)

    def add_to(self, system: NormalEquations, xy: np.ndarray, rows: np.ndarray) -> None:
        residuals = self._residuals(xy)
        scale = robust_scale(residuals, self.weights)
        # Only points that count anywhere: those first, as many as the frame that has most.
        order = np.argsort(self.weights == 0, axis=1, kind="stable")
        order = order[:, : int((self.weights > 0).sum(1).max(initial=0))]
        scale, residuals = np.take_along_axis(scale, order, 1), np.take_along_axis(residuals, order[..., None], 1)
        ends = _rows_of_ends(rows, self.start, self.lag, order, scale / self.sigma)
        system.add_pairs(self.lag, self.start, ends, (residuals * scale[..., None]).astype(np.float32))


@njit(cache=True, nogil=True)
def _rows_of_ends(rows, start, lag, points, scale):
    """Return [2, n, k, 2, Q] float32: rows [T, K, 2, Q] of frames `start` [n] and `start + lag` at `points` [n, k],
    times `scale` [n, k]."""
    size = rows.shape[3]
    ends = np.empty((2, len(start), points.shape[1], 2, size), np.float32)
    for i in range(len(start)):
        for end in range(2):
            for k in range(points.shape[1]):
                for a in range(2):
                    for q in range(size):
                        ends[end, i, k, a, q] = rows[start[i] + end * lag, points[i, k], a, q] * scale[i, k]
    return ends


@dataclass(frozen=True)
class Prior:
    """Joints stay near the prior's mean and inside its soft limits, the shape near the mean body; none is robust.

    In each joint's own axes, v = axes^T w: r = (v - mean) / sigma, and (v - limit) / SIGMA_LIMIT beyond a limit. The
    shape's residual is the shape itself, in standard deviations.

    Attributes:
        pose: of the body.
        frames: number of frames, for each of which the shape prior counts SHAPE_WEIGHT.
    """

    pose: PosePrior
    frames: int

    def _residuals(self, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return v less its mean, and how far v is beyond the limits, [T, J, 3] radians."""
        vectors = values[:, 3:].reshape(len(values), -1, 3)
        angles = np.einsum("jba,tjb->tja", self.pose.axes, vectors)
        beyond = np.minimum(angles - self.pose.lower, 0) + np.maximum(angles - self.pose.upper, 0)
        return angles - self.pose.mean, beyond

    def cost(self, values: np.ndarray, shape: np.ndarray) -> float:
        angles, beyond = self._residuals(values)
        pose = ((angles / self.pose.sigma) ** 2).sum() + ((beyond / SIGMA_LIMIT) ** 2).sum()
        return 0.5 * float(pose + SHAPE_WEIGHT * self.frames * (shape**2).sum())

    def add_to(self, system: NormalEquations, values: np.ndarray, shape: np.ndarray) -> None:
        angles, beyond = self._residuals(values)
        axes, sigma = self.pose.axes, self.pose.sigma
        # Gradient and curvature in the joints' axes, turned back to the rotation vectors: A g and A diag(c) A^T.
        slope = angles / sigma**2 + beyond / SIGMA_LIMIT**2
        curvature = 1 / sigma**2 + (beyond != 0) / SIGMA_LIMIT**2
        system.gradient[:, 3:] += np.einsum("jab,tjb->tja", axes, slope).reshape(len(values), -1)
        blocks = np.einsum("jab,tjb,jcb->tjac", axes, curvature, axes, optimize=True)
        for joint in range(len(axes)):
            at = slice(3 + 3 * joint, 6 + 3 * joint)
            system.diagonal[:, at, at] += blocks[:, joint]
        system.shape += SHAPE_WEIGHT * self.frames * np.eye(len(shape))
        system.shape_gradient += SHAPE_WEIGHT * self.frames * shape


@dataclass(frozen=True)
class Smoothness:
    """Values accelerate little, and rotations move little: weighted second and first differences of values; not robust.

    Attributes:
        acceleration, velocity: [P] weights (one over the variance, per frame) of second and first differences.
    """

    acceleration: np.ndarray
    velocity: np.ndarray

    @classmethod
    def of(cls, fps: float, joints: int) -> Smoothness:
        """Make the term for a body of so many joints. At a higher rate, differences between frames are smaller."""
        pace = (fps / 30) ** 2
        root, rotations = np.full(3, SIGMA_ROOT_ACCELERATION), np.full(3 * joints, 1.0)
        acceleration = pace / np.concatenate([root, rotations * SIGMA_ACCELERATION])
        velocity = np.sqrt(pace) * np.concatenate([np.zeros(3), rotations / SIGMA_VELOCITY])
        return cls(acceleration**2, velocity**2)

    def cost(self, values: np.ndarray) -> float:
        second, first = np.diff(values, 2, axis=0), np.diff(values, axis=0)
        return 0.5 * float((second**2 * self.acceleration).sum() + (first**2 * self.velocity).sum())

    def add_to(self, system: NormalEquations, values: np.ndarray) -> None:
        frames, size = values.shape
        at = np.arange(size)
        for order, weight in ((1, self.velocity), (2, self.acceleration)):
            if frames <= order:
                continue
            # With the difference operator D [T - order, T], the gradient is D^T D values, and the curvature D^T D is
            # nonzero only between frames at most `order` apart.
            difference = np.diff(np.eye(frames), order, axis=0)
            square = difference.T @ difference
            system.gradient += (square @ values) * weight
            for lag in range(order + 1):
                along = np.diag(square, -lag)[:, None] * weight
                block = system.diagonal if lag == 0 else system.pair(lag)
                block[:, at, at] += along
