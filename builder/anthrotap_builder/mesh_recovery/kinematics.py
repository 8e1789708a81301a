"""Forward kinematics of a body's points with the analytic Jacobian: the inner loop of the fit."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numba import njit

from anthrotap_builder.bodies.body import Body, BodyPoints, BodyPose


class PointChains(NamedTuple):
    """`BodyPoints` as a sparse list: entry e says that joint `joint[e]` carries a part of its point.

    Attributes:
        start: [K + 1] int64, point k has entries start[k] to start[k + 1].
        joint: [E] int64.
        mass: [E] float64.
        offset: [E, 3] float64, moment about the joint at the mean shape, meters.
        offset_directions: [S, E, 3] float64, change of `offset` with each shape coefficient.
    """

    start: np.ndarray
    joint: np.ndarray
    mass: np.ndarray
    offset: np.ndarray
    offset_directions: np.ndarray

    @classmethod
    def of(cls, body: Body, points: BodyPoints) -> PointChains:
        point, joint = np.nonzero(points.mass > 1e-6)
        mass = points.mass[point, joint]
        return cls(
            start=np.searchsorted(point, np.arange(len(points) + 1)),
            joint=joint,
            mass=mass,
            offset=points.moment[point, joint] - mass[:, None] * body.joints[joint],
            offset_directions=points.moment_directions[:, point, joint]
            - mass[:, None] * body.joint_directions[:, joint],
        )


class _Skeleton(NamedTuple):
    """A body's joints in one shape: `joints` [J, 3], `directions` [S, J, 3], `parents` [J], and the pose's
    reference."""

    joints: np.ndarray
    directions: np.ndarray
    parents: np.ndarray
    reference: np.ndarray


@dataclass
class PoseParameters:
    """The unknowns of the fit. Joint j is rotated by exp of its axis-angle vector, the root after `reference`.

    Attributes:
        values: [T, 3 + 3 J] float64: the root joint's position in the camera (meters), then axis-angle vectors.
        shape: [S] float64, in standard deviations.
        reference: [3, 3] float64, a constant rotation from the model's axes to the camera's, so that the root's
            rotation vector stays small.
    """

    values: np.ndarray
    shape: np.ndarray
    reference: np.ndarray

    def posed(self, body: Body) -> BodyPose:
        """Return the pose by global rotations and positions of the joints."""
        rotations, positions, _ = _forward(self.values, self._skeleton(body))
        return BodyPose(rotations, positions, self.shape)

    def points(self, body: Body, chains: PointChains) -> np.ndarray:
        """Return the points in camera coordinates, [T, K, 3] float64, meters."""
        return self._evaluate(body, chains, False)[0]

    def points_and_jacobian(self, body: Body, chains: PointChains) -> tuple[np.ndarray, np.ndarray]:
        """Return the points and their derivatives [T, K, 3, 3 + 3 J + S] by this frame's values and by the shape."""
        return self._evaluate(body, chains, True)

    def _evaluate(self, body: Body, chains: PointChains, derive: bool) -> tuple[np.ndarray, np.ndarray]:
        offset = chains.offset + np.tensordot(self.shape, chains.offset_directions, 1)
        return _points(self.values, self._skeleton(body), chains._replace(offset=offset), derive)

    def _skeleton(self, body: Body) -> _Skeleton:
        joints = body.joints + np.tensordot(self.shape, body.joint_directions, 1)
        return _Skeleton(joints, body.joint_directions, body.parents, self.reference)


# The kernels below have no annotations: numba infers their types, and mypy cannot see through its decorator.


@njit(cache=True, nogil=True)
def _exponential(w, rotation, jacobian):
    """Write exp(w) (Rodrigues) and the left Jacobian of SO(3) at w (Sola et al., A micro Lie theory, 2018, eq. 145).

    With K the cross product matrix of w and a = |w|:
    exp(w) = I + sin(a)/a K + (1 - cos(a))/a^2 K^2, and J(w) = I + (1 - cos(a))/a^2 K + (a - sin(a))/a^3 K^2.
    """
    x, y, z = w
    squared = x * x + y * y + z * z
    if squared < 1e-6:
        # Taylor series where the quotients lose digits.
        sine, versine, cubic = 1 - squared / 6, 0.5 - squared / 24, 1 / 6 - squared / 120
    else:
        angle = np.sqrt(squared)
        sine = np.sin(angle) / angle
        versine = (1 - np.cos(angle)) / squared
        cubic = (1 - sine) / squared
    # first I + second K + third K^2, written out.
    for out, first, second, third in ((rotation, 1.0, sine, versine), (jacobian, 1.0, versine, cubic)):
        out[0, 0] = first - third * (y * y + z * z)
        out[1, 1] = first - third * (x * x + z * z)
        out[2, 2] = first - third * (x * x + y * y)
        out[0, 1] = third * x * y - second * z
        out[1, 0] = third * x * y + second * z
        out[0, 2] = third * x * z + second * y
        out[2, 0] = third * x * z - second * y
        out[1, 2] = third * y * z - second * x
        out[2, 1] = third * y * z + second * x


@njit(cache=True, nogil=True)
def _forward(values, skeleton):
    """Pose the joints, from the root to the tips.

    Returns global rotations G [T, J, 3, 3], positions q [T, J, 3], and axes [T, J, 3, 3]: column c is the axis, in
    camera
    coordinates, about which a change of the joint's c-th rotation value turns everything below the joint. By the left
    Jacobian, exp(w + d) = exp(J(w) d) exp(w), so the axes are G_parent J(w).
    """
    joints, _, parents, reference = skeleton
    frames, count = len(values), len(parents)
    rotations = np.empty((frames, count, 3, 3))
    positions = np.empty((frames, count, 3))
    axes = np.empty((frames, count, 3, 3))
    local, jacobian = np.empty((3, 3)), np.empty((3, 3))
    for t in range(frames):
        positions[t, 0] = values[t, :3]
        for j in range(count):
            _exponential(values[t, 3 + 3 * j : 6 + 3 * j], local, jacobian)
            if j == 0:
                rotations[t, 0] = _product(local, reference)
                axes[t, 0] = jacobian
            else:
                p = parents[j]
                rotations[t, j] = _product(rotations[t, p], local)
                axes[t, j] = _product(rotations[t, p], jacobian)
                # q_j = q_p + G_p (joint_j - joint_p)
                for a in range(3):
                    positions[t, j, a] = positions[t, p, a]
                    for b in range(3):
                        positions[t, j, a] += rotations[t, p, a, b] * (joints[j, b] - joints[p, b])
    return rotations, positions, axes


@njit(cache=True, nogil=True)
def _product(a, b):
    out = np.zeros((3, 3))
    for i in range(3):
        for j in range(3):
            for k in range(3):
                out[i, j] += a[i, k] * b[k, j]
    return out


@njit(cache=True, nogil=True)
def _points(values, skeleton, chains, derive):
    """Pose points X [T, K, 3]; if `derive`, also their Jacobian [T, K, 3, P + S], else an empty one.

    X_k = sum_e carried_e over the entries e of point k, with carried_e = mass_e q_j + G_j offset_e and j = joint[e].
    Its derivatives are
    - by the root's position: the identity;
    - by the c-th rotation value of joint j: axis_jc x lever_j, where lever_j = sum_e (carried_e - mass_e q_j), over the
      entries on j or below it, is the moment about q_j of what turns with j;
    - by shape coefficient s: sum_e mass_e dq_j/ds + G_j offset_directions_se, with dq_j/ds by the recursion of q_j.
    """
    _, joint_directions, parents, _ = skeleton
    start, joint, mass, offset, offset_directions = chains
    frames, count, shapes = len(values), len(parents), len(joint_directions)
    points_count, pose_size = len(start) - 1, values.shape[1]
    rotations, positions, axes = _forward(values, skeleton)
    points = np.zeros((frames, points_count, 3))
    jacobian = np.zeros((frames, points_count, 3, pose_size + shapes) if derive else (0, 0, 0, 0))
    position_directions = np.zeros((count, shapes, 3))
    lever = np.zeros((count, 3))
    carried = np.zeros(3)
    for t in range(frames):
        if derive:
            # dq_j/ds = dq_p/ds + G_p (direction_sj - direction_sp); the root's position is an unknown of its own.
            for j in range(1, count):
                p = parents[j]
                for s in range(shapes):
                    for a in range(3):
                        moved = position_directions[p, s, a]
                        for b in range(3):
                            moved += rotations[t, p, a, b] * (joint_directions[s, j, b] - joint_directions[s, p, b])
                        position_directions[j, s, a] = moved
        for k in range(points_count):
            lever[:] = 0.0
            for e in range(start[k], start[k + 1]):
                j = joint[e]
                for a in range(3):
                    carried[a] = mass[e] * positions[t, j, a]
                    for b in range(3):
                        carried[a] += rotations[t, j, a, b] * offset[e, b]
                    points[t, k, a] += carried[a]
                if derive:
                    # The entry turns with its joint and with all ancestors.
                    above = j
                    while above >= 0:
                        for a in range(3):
                            lever[above, a] += carried[a] - mass[e] * positions[t, above, a]
                        above = parents[above]
                    for s in range(shapes):
                        for a in range(3):
                            moved = mass[e] * position_directions[j, s, a]
                            for b in range(3):
                                moved += rotations[t, j, a, b] * offset_directions[s, e, b]
                            jacobian[t, k, a, pose_size + s] += moved
            if derive:
                for a in range(3):
                    jacobian[t, k, a, a] = 1.0
                for j in range(count):
                    x, y, z = lever[j]
                    # No entry lies on the joint or below it.
                    if x == 0.0 and y == 0.0 and z == 0.0:
                        continue
                    for c in range(3):
                        u, v, w = axes[t, j, 0, c], axes[t, j, 1, c], axes[t, j, 2, c]
                        column = 3 + 3 * j + c
                        jacobian[t, k, 0, column] = v * z - w * y
                        jacobian[t, k, 1, column] = w * x - u * z
                        jacobian[t, k, 2, column] = u * y - v * x
    return points, jacobian
