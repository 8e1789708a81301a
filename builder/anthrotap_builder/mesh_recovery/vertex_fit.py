"""Finds the pose and shape of a body whose vertices alone are given, so that they can be refined.

The vertices are the body's own, so the point that each one corresponds to is known. Each joint's rotation starts as
that of the rigid motion of the vertices that it carries (Kabsch, 1976); then the fit's solver lets points that are
spread over the body match the given ones.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace

import numpy as np

from anthrotap_builder.bodies.body import Body, BodyPose
from anthrotap_builder.context import ClipContext
from anthrotap_builder.mesh_recovery.kinematics import PointChains
from anthrotap_builder.mesh_recovery.normal_equations import NormalEquations
from anthrotap_builder.mesh_recovery.problem import Problem, solve
from anthrotap_builder.mesh_recovery.source_prior import MISSING_WEIGHT, SourcePrior, pose_parameters
from anthrotap_builder.mesh_recovery.track import MeshTrack

logger = logging.getLogger(__name__)

# Points that are matched, their error in meters, and the solver's steps.
POINTS = 256
SIGMA_POINT = 0.005
ITERATIONS = 12
# How near joints stay to their start, radians, and the root, meters: they follow the points.
SIGMA_START = 1.0
# A joint that mostly carries fewer vertices than this starts with its parent's rotation; of more, so many are taken.
MIN_VERTICES, MAX_VERTICES = 6, 64
# A fit whose median distance from the given vertices is larger is none, meters.
MAX_MEDIAN = 0.02
# Each of so many vertices is measured.
MEASURED_STEP = 7


@dataclass(frozen=True)
class PointMatch:
    """Points of the body are where they are given: r = (X - target) / sigma, not robust.

    Attributes:
        targets: [T, K, 3] meters, camera coordinates; any finite value in frames of weight 0.
        weights: [T].
    """

    targets: np.ndarray
    weights: np.ndarray

    @property
    def _scale(self) -> np.ndarray:
        return (np.sqrt(self.weights) / SIGMA_POINT)[:, None, None]

    def cost(self, points: np.ndarray) -> float:
        return 0.5 * float((((points - self.targets) * self._scale) ** 2).sum())

    def add_to(self, system: NormalEquations, points: np.ndarray, jacobian: np.ndarray) -> None:
        system.add(jacobian * self._scale[..., None], (points - self.targets) * self._scale)


def fit_to_vertices(context: ClipContext, mesh: MeshTrack) -> BodyPose:
    """Find the pose whose mesh is nearest to a mesh's vertices, and log how near it is.

    Args:
        context: the clip; its body is the one that the vertices are of.
        mesh: present in at least one frame.

    Returns:
        The pose in all frames; in those that are not present it is interpolated.

    Raises:
        ValueError: the vertices have another number, or the body cannot take their shape.
    """
    body = context.body_model
    if mesh.vertices.shape[1] != len(body.template):
        raise ValueError(f"the meshes have {mesh.vertices.shape[1]} vertices, and {body.name} {len(body.template)}")
    present = np.flatnonzero(mesh.present)
    start = pose_parameters(body, _rigid_joints(body, mesh.vertices[present], mesh.present), mesh.present)
    surface = body.surface_points(POINTS, seed=1)
    corners = body.faces[surface.face]
    targets = np.zeros((len(mesh.present), POINTS, 3))
    targets[present] = np.einsum("tkcx,kc->tkx", mesh.vertices[present][:, corners], surface.barycentric)
    prior = SourcePrior(
        start,
        np.full(start.values.shape[1], SIGMA_START),
        np.where(mesh.present, 1.0, MISSING_WEIGHT),
    )
    problem = replace(
        Problem.of(context, (prior,), (PointMatch(targets, mesh.present.astype(float)),)),
        keypoints=PointChains.of(body, body.body_points(surface)),
    )
    parameters, _ = solve(problem, start, ITERATIONS)
    pose = parameters.posed(body)
    posed = body.pose_vertices(pose, present)[:, ::MEASURED_STEP]
    distance = np.linalg.norm(posed - mesh.vertices[present][:, ::MEASURED_STEP], axis=-1)
    median, most = np.percentile(distance, [50, 95]).tolist()
    found = f"{1000 * median:.1f} mm from the given vertices in the median, 95 % within {1000 * most:.1f} mm"
    if median > MAX_MEDIAN:
        raise ValueError(f"{body.name} does not fit the meshes of person {mesh.person}: {found}")
    logger.info("person %d: %s was fitted, %s", mesh.person, body.name, found)
    return pose


def _rigid_joints(body: Body, vertices: np.ndarray, present: np.ndarray) -> BodyPose:
    """Return the pose [T] of the mean shape by the rigid motion of each joint's vertices.

    Args:
        body: whose vertices they are.
        vertices: [N, V, 3], of the frames that are present.
        present: [T] bool, N of them.
    """
    count = len(vertices)
    rotations = np.empty((count, body.num_joints, 3, 3))
    owner = body.weights.argmax(1)
    for joint in range(body.num_joints):
        own = np.flatnonzero((owner == joint) & (body.weights[:, joint] > 0.5))
        if joint == 0 and len(own) < MIN_VERTICES:
            own = np.arange(len(owner))
        if len(own) < MIN_VERTICES:
            rotations[:, joint] = rotations[:, body.parents[joint]]
            continue
        own = own[np.linspace(0, len(own) - 1, min(len(own), MAX_VERTICES)).astype(int)]
        rest = body.template[own].astype(np.float64)
        moved = vertices[:, own].astype(np.float64)
        covariance = np.einsum("tka,kb->tab", moved - moved.mean(1, keepdims=True), rest - rest.mean(0))
        left, _, right = np.linalg.svd(covariance)
        # No mirror image: the axis of the smallest singular value is turned where it would be one.
        left[..., 2] *= np.linalg.det(left @ right)[:, None]
        rotations[:, joint] = left @ right
    # The root joint lies in the body as the vertices around it do.
    near = np.argsort(np.linalg.norm(body.template - body.joints[0], axis=1))[:MAX_VERTICES]
    arm = body.joints[0] - body.template[near].mean(0)
    positions = np.zeros((len(present), body.num_joints, 3))
    positions[present, 0] = vertices[:, near].mean(1) + rotations[:, 0] @ arm
    whole = np.broadcast_to(np.eye(3), (len(present), body.num_joints, 3, 3)).copy()
    whole[present] = rotations
    return BodyPose(whole, positions, np.zeros(body.num_shapes))
