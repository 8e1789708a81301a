"""The term that keeps a body near that of a mesh source, and the source's pose as the solver's unknowns."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.spatial.transform import Rotation

from anthrotap_builder.bodies.body import Body, BodyPose
from anthrotap_builder.mesh_recovery.interpolation import interpolate, mean_rotation, unwrap
from anthrotap_builder.mesh_recovery.kinematics import PoseParameters
from anthrotap_builder.mesh_recovery.normal_equations import NormalEquations
from anthrotap_builder.mesh_recovery.terms import SHAPE_WEIGHT

# Weight of frames between two meshes of the source, which are interpolated.
MISSING_WEIGHT = 1e-3
# Error of a mesh source's shape, in the body's standard deviations.
SIGMA_SHAPE = 1.0


@dataclass(frozen=True)
class SourcePrior:
    """Pose and shape stay near the source's: r = (values - source) / sigma, likewise for the shape; not robust.

    Attributes:
        source: pose [T, P] and shape [S] of the mesh source.
        sigma: [P], error of the source's values.
        weights: [T].
    """

    source: PoseParameters
    sigma: np.ndarray
    weights: np.ndarray

    @property
    def _shape_weight(self) -> float:
        return SHAPE_WEIGHT * len(self.weights) / SIGMA_SHAPE**2

    def cost(self, values: np.ndarray, shape: np.ndarray) -> float:
        pose = (((values - self.source.values) / self.sigma) ** 2).sum(1) @ self.weights
        return 0.5 * float(pose + self._shape_weight * ((shape - self.source.shape) ** 2).sum())

    def add_to(self, system: NormalEquations, values: np.ndarray, shape: np.ndarray) -> None:
        curvature = self.weights[:, None] / self.sigma**2
        system.gradient += curvature * (values - self.source.values)
        at = np.arange(values.shape[1])
        system.diagonal[:, at, at] += curvature
        system.shape += self._shape_weight * np.eye(len(shape))
        system.shape_gradient += self._shape_weight * (shape - self.source.shape)


def pose_parameters(body: Body, pose: BodyPose, present: np.ndarray) -> PoseParameters:
    """Return a pose as the solver's unknowns; frames that are not `present` [T] bool are interpolated."""
    local = pose.local_rotations(body)[present]
    reference = mean_rotation(local[:, 0])
    local[:, 0] = local[:, 0] @ reference.T
    vectors = Rotation.from_matrix(local.reshape(-1, 3, 3)).as_rotvec().reshape(*local.shape[:2], 3)
    vectors = np.stack([unwrap(vectors[:, joint]) for joint in range(body.num_joints)], axis=1)
    known = np.zeros((len(present), 3 + 3 * body.num_joints))
    known[present] = np.concatenate([pose.positions[present, 0], vectors.reshape(len(vectors), -1)], axis=1)
    shape = pose.shape if pose.shape.ndim == 1 else pose.shape[present].mean(0)
    return PoseParameters(interpolate(known, present), shape, reference)
