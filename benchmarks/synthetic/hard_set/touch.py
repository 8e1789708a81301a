"""Bodies that touch: hips that go where they are told, points on the skin of another, and arms that reach for them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from scipy.interpolate import CubicSpline

from anthrotap_builder.bodies import Body
from anthrotap_builder.bodies.anny import JOINTS
from anthrotap_builder.bodies.body import BodyPose
from anthrotap_builder.mesh_recovery.kinematics import PoseParameters
from benchmarks.synthetic import raster
from benchmarks.synthetic.clip_spec import RATE
from benchmarks.synthetic.motion import INDEX, Motion, joint_rotations

ARM_CONTROLS = ("swing", "out", "twist", "elbow")
# Ranges of the controls that an arm may reach with, radians.
ARM_LIMITS = ((-0.9, 3.0), (-0.9, 2.6), (-1.8, 1.8), (0.05, 2.45))
# Meters of miss that a radian away from the arm's own pose is worth.
ARM_STIFFNESS = 0.02
REACH_STEPS = 20
# Samples of a motion between those at which the arms are solved.
REACH_EVERY = 8
# Added to the squares of the derivatives, square meters a square radian.
DAMPING = 1e-3
# From the middle of a hand to the skin that its palm lies on, through the clothes, meters.
PALM = 0.035


@dataclass(frozen=True)
class PlacedMotion(Motion):
    """A motion whose hips follow a path, wherever the feet are: of somebody who is led, carried or upside down.

    Attributes:
        path: [N, 3] positions of the hips (the root joint), world meters.
    """

    path: np.ndarray = field(kw_only=True)

    def parameters(self, body: Body, shape: np.ndarray) -> PoseParameters:
        """Return the motion as pose parameters of `body` in the world, at this motion's rate."""
        values = np.zeros((len(self.controls), 3 + 3 * body.num_joints))
        values[:, :3] = self.path
        values[:, 3:] = joint_rotations(body, self.controls).reshape(len(self.controls), -1)
        return PoseParameters(values, shape, np.eye(3))


def walked_path(body: Body, motion: Motion, shape: np.ndarray) -> np.ndarray:
    """Return where its feet carry somebody's hips, [N, 3] world meters."""
    return motion.parameters(body, shape).values[:, :3]


def standing_height(body: Body, controls: np.ndarray, shape: np.ndarray) -> np.ndarray:
    """Return the height [N] of the hips at which the lower foot stands on the floor, meters."""
    return walked_path(body, Motion(controls, RATE), shape)[:, 2]


@dataclass(frozen=True)
class SkinPoint:
    """A point of a body's skin, and how far off it something is, meters.

    Attributes:
        near: [3] a position at rest; the nearest vertex that `joint` carries is taken.
        joint: one of the body's joints.
        off: meters along the vertex's normal.
    """

    near: tuple[float, float, float]
    joint: str
    off: float = PALM

    def at(self, body: Body, shape: np.ndarray, pose: BodyPose) -> np.ndarray:
        """Return its positions [N, 3] in a pose of N frames."""
        joint = JOINTS.index(self.joint)
        rest = body.template + np.tensordot(shape, body.shape_directions, 1)
        normals = np.empty_like(rest, np.float64)
        raster.vertex_normals(rest.astype(np.float64), body.faces, normals)
        carried = np.flatnonzero(body.weights[:, joint] > 0.4)
        vertex = carried[np.linalg.norm(body.template[carried] - self.near, axis=1).argmin()]
        return _carried(body, shape, pose, joint, rest[vertex] + self.off * normals[vertex])


def reach(
    body: Body,
    shape: np.ndarray,
    motion: PlacedMotion,
    targets: Mapping[str, np.ndarray],
    weight: np.ndarray | float = 1.0,
) -> PlacedMotion:
    """Return the motion with arms that put the hands to positions, as far as they reach.

    Damped Gauss-Newton steps over the controls of each arm, in all frames at once; what three coordinates leave open
    stays near the arm's own pose.

    Args:
        body, shape: who moves.
        motion: what the body does; its hands are where its own controls put them.
        targets: by side ("L", "R"), positions of the middle of the hand, [N, 3] world meters.
        weight: [N] or one number, 0 for the arms' own pose, 1 for the position.
    """
    # At the rate of frames, about; in between, the controls are as smooth as those that are given.
    sampled = np.unique(np.append(np.arange(0, len(motion.controls), REACH_EVERY), len(motion.controls) - 1))
    own, path = motion.controls[sampled], motion.path[sampled]
    found = own.copy()
    columns = {side: [INDEX[f"{name}.{side}"] for name in ARM_CONTROLS] for side in targets}
    middles = {side: _hand(body, shape, side) for side in targets}
    low, high = np.array(ARM_LIMITS).T

    def hands(controls: np.ndarray) -> dict[str, np.ndarray]:
        pose = PlacedMotion(controls, motion.rate, path=path).parameters(body, shape).posed(body)
        return {side: _carried(body, shape, pose, *middle) for side, middle in middles.items()}

    step = 1e-4
    for _ in range(REACH_STEPS):
        now = hands(found)
        # Derivatives of each hand by each control of its arm: [N, 3, 4]. The arms do not touch each other's columns.
        jacobians = {side: np.empty((len(own), 3, len(ARM_CONTROLS))) for side in targets}
        for i in range(len(ARM_CONTROLS)):
            nudged = found.copy()
            for own_columns in columns.values():
                nudged[:, own_columns[i]] += step
            for side, position in hands(nudged).items():
                jacobians[side][:, :, i] = (position - now[side]) / step
        for side, target in targets.items():
            jacobian, arm = jacobians[side], found[:, columns[side]]
            pull = ARM_STIFFNESS**2 * (own[:, columns[side]] - arm)
            normal = jacobian.transpose(0, 2, 1) @ jacobian + (ARM_STIFFNESS**2 + DAMPING) * np.eye(len(ARM_CONTROLS))
            right = np.einsum("nac,na->nc", jacobian, target[sampled] - now[side]) + pull
            arm = arm + np.clip(np.linalg.solve(normal, right[..., None])[..., 0], -0.4, 0.4)
            found[:, columns[side]] = np.clip(arm, low, high)
    moved = CubicSpline(sampled, found - own)(np.arange(len(motion.controls)))
    weights = np.broadcast_to(np.asarray(weight, float), len(moved))[:, None]
    return PlacedMotion(motion.controls + weights * moved, motion.rate, path=motion.path)


def _hand(body: Body, shape: np.ndarray, side: str) -> tuple[int, np.ndarray]:
    """Return the joint that carries a hand, and the hand's middle [3] at rest."""
    joint = JOINTS.index(f"wrist.{side}")
    rest = body.template + np.tensordot(shape, body.shape_directions, 1)
    return joint, rest[body.weights[:, joint] > 0.9].mean(0)


def _carried(body: Body, shape: np.ndarray, pose: BodyPose, joint: int, point: np.ndarray) -> np.ndarray:
    """Return the positions [N, 3] of a point at rest [3] that one joint carries."""
    center = (body.joints + np.tensordot(shape, body.joint_directions, 1))[joint]
    return pose.positions[:, joint] + pose.rotations[:, joint] @ (point - center)
