"""Forward kinematics of a body's points with the analytic Jacobian: the inner loop of the fit."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import njit

from anthrotap_builder.bodies.body import Body, BodyPoints, BodyPose


@dataclass(frozen=True)
class PointChains:
    """`BodyPoints` as a sparse list: entry e says that joint `joint[e]` carries a share of its point.

    Attributes:
        start: [K + 1] int64, point k has entries start[k] to start[k + 1].
        joint: [E] int64.
        mass: [E] float64.
        offset: [E, 3] float64, moment about the joint at the mean shape, meters.
        offset_directions: [S, E, 3] float64.
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


@dataclass
class PoseParameters:
    """What the fit solves for. Joint j is turned by exp(`rotation_vectors[t, j]`), the root after `reference`.

    Attributes:
        values: [T, 3 + 3 J] float64: the root joint's place in the camera (meters), then axis-angle rotations.
        shape: [S] float64, in standard deviations.
        reference: [3, 3] float64, a constant rotation from the model's axes to the camera's, so that the root's
            rotation vector stays small.
    """

    values: np.ndarray
    shape: np.ndarray
    reference: np.ndarray

    def posed(self, body: Body) -> BodyPose:
        joints, _ = _shaped(body, self.shape)
        rotations, places, _ = _forward(self.values, self.reference, joints, body.parents)
        return BodyPose(rotations, places, self.shape)

    def points(self, body: Body, chains: PointChains) -> np.ndarray:
        """[T, K, 3] float64, the points in camera coordinates, meters."""
        return self._evaluate(body, chains, False)[0]

    def points_and_jacobian(self, body: Body, chains: PointChains) -> tuple[np.ndarray, np.ndarray]:
        """The points and their derivatives [T, K, 3, 3 + 3 J + S] by this frame's values and by the shape."""
        return self._evaluate(body, chains, True)

    def _evaluate(self, body: Body, chains: PointChains, derive: bool) -> tuple[np.ndarray, np.ndarray]:
        joints, directions = _shaped(body, self.shape)
        offset = chains.offset + np.tensordot(self.shape, chains.offset_directions, 1)
        return _points(
            *(self.values, self.reference, joints, directions, body.parents),
            *(chains.start, chains.joint, chains.mass, offset, chains.offset_directions, derive),
        )


def _shaped(body: Body, shape: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return body.joints + np.tensordot(shape, body.joint_directions, 1), body.joint_directions


@njit(cache=True, nogil=True)
def _exponential(w, rotation, jacobian):
    """Rodrigues' rotation of an axis-angle vector, and the left Jacobian of SO(3) (Sola et al. 2018, eq. 145)."""
    x, y, z = w
    squared = x * x + y * y + z * z
    if squared < 1e-6:
        sine, versine, cubic = 1 - squared / 6, 0.5 - squared / 24, 1 / 6 - squared / 120
    else:
        angle = np.sqrt(squared)
        sine = np.sin(angle) / angle
        versine = (1 - np.cos(angle)) / squared
        cubic = (1 - sine) / squared
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
def _forward(values, reference, joints, parents):
    """Global rotations [T, J, 3, 3] and places [T, J, 3] of the joints, and `turns` [T, J, 3, 3]: column c is the
    axis, in the camera, about which a change of the joint's c-th rotation value turns all that hangs on it."""
    frames, count = len(values), len(parents)
    rotations = np.empty((frames, count, 3, 3))
    places = np.empty((frames, count, 3))
    turns = np.empty((frames, count, 3, 3))
    local, jacobian = np.empty((3, 3)), np.empty((3, 3))
    for t in range(frames):
        places[t, 0] = values[t, :3]
        for j in range(count):
            _exponential(values[t, 3 + 3 * j : 6 + 3 * j], local, jacobian)
            if j == 0:
                rotations[t, 0] = _product(local, reference)
                turns[t, 0] = jacobian
            else:
                p = parents[j]
                rotations[t, j] = _product(rotations[t, p], local)
                turns[t, j] = _product(rotations[t, p], jacobian)
                for a in range(3):
                    places[t, j, a] = places[t, p, a]
                    for b in range(3):
                        places[t, j, a] += rotations[t, p, a, b] * (joints[j, b] - joints[p, b])
    return rotations, places, turns


@njit(cache=True, nogil=True)
def _product(a, b):
    out = np.zeros((3, 3))
    for i in range(3):
        for j in range(3):
            for k in range(3):
                out[i, j] += a[i, k] * b[k, j]
    return out


@njit(cache=True, nogil=True)
def _points(
    values,
    reference,
    joints,
    joint_directions,
    parents,
    start,
    joint,
    mass,
    offset,
    offset_directions,
    derive,
):
    frames, count, shapes = len(values), len(parents), len(joint_directions)
    points_count, pose_size = len(start) - 1, values.shape[1]
    rotations, places, turns = _forward(values, reference, joints, parents)
    points = np.zeros((frames, points_count, 3))
    jacobian = np.zeros((frames, points_count, 3, pose_size + shapes) if derive else (0, 0, 0, 0))
    place_directions = np.zeros((count, shapes, 3))  # how each joint's place moves with the shape
    lever = np.zeros((count, 3))  # moment of what hangs on a joint, about that joint
    carried = np.zeros(3)
    for t in range(frames):
        if derive:
            for j in range(1, count):
                p = parents[j]
                for s in range(shapes):
                    for a in range(3):
                        moved = place_directions[p, s, a]
                        for b in range(3):
                            moved += rotations[t, p, a, b] * (
                                joint_directions[s, j, b] - joint_directions[s, p, b]
                            )
                        place_directions[j, s, a] = moved
        for k in range(points_count):
            lever[:] = 0.0
            for e in range(start[k], start[k + 1]):
                j = joint[e]
                for a in range(3):
                    carried[a] = mass[e] * places[t, j, a]
                    for b in range(3):
                        carried[a] += rotations[t, j, a, b] * offset[e, b]
                    points[t, k, a] += carried[a]
                if derive:
                    above = j
                    while above >= 0:
                        for a in range(3):
                            lever[above, a] += carried[a] - mass[e] * places[t, above, a]
                        above = parents[above]
                    for s in range(shapes):
                        for a in range(3):
                            moved = mass[e] * place_directions[j, s, a]
                            for b in range(3):
                                moved += rotations[t, j, a, b] * offset_directions[s, e, b]
                            jacobian[t, k, a, pose_size + s] += moved
            if derive:
                for a in range(3):
                    jacobian[t, k, a, a] = 1.0
                for j in range(count):
                    x, y, z = lever[j]
                    if x == 0.0 and y == 0.0 and z == 0.0:
                        continue
                    for c in range(3):
                        u, v, w = turns[t, j, 0, c], turns[t, j, 1, c], turns[t, j, 2, c]
                        column = 3 + 3 * j + c
                        jacobian[t, k, 0, column] = v * z - w * y
                        jacobian[t, k, 1, column] = w * x - u * z
                        jacobian[t, k, 2, column] = u * y - v * x
    return points, jacobian
