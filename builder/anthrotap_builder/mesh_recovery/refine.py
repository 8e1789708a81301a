"""Refines a mesh source's body poses with the person's mask and with flow, by the solver of the open default."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np
from scipy.spatial.transform import Rotation
from threadpoolctl import threadpool_limits

from anthrotap_builder.bodies.body import Body, BodyPose
from anthrotap_builder.context import ClipContext
from anthrotap_builder.detection import PersonTrack, person_masks, union_mask
from anthrotap_builder.mesh_recovery.kinematics import PoseParameters
from anthrotap_builder.mesh_recovery.normal_equations import NormalEquations
from anthrotap_builder.mesh_recovery.problem import (
    FLOW_ITERATIONS,
    SHAPE_WEIGHT,
    SILHOUETTE_ITERATIONS,
    Problem,
    body_model,
    interpolate,
    mean_rotation,
    solve,
    unwrap,
)
from anthrotap_builder.mesh_recovery.track import MeshTrack

MISSING_WEIGHT = 1e-3  # frames between two meshes of the source are interpolated, and hardly count
# How far off a mesh source's bodies may be: each joint's rotation, radians; the root's position right and down, and in
# depth, meters; the shape, in the body's standard deviations.
SIGMA_ROTATION = 0.15
SIGMA_ROOT = 0.05
SIGMA_DEPTH = 0.3
SIGMA_SHAPE = 1.0


@dataclass(frozen=True)
class NearSource:
    """Pose and shape stay near the source's.

    Attributes:
        values: [T, P] as `PoseParameters.values`.
        sigma: [P], how far off the source's may be.
        weights: [T].
        shape: [S] standard deviations.
        shape_weight: how many times the shape counts.
    """

    values: np.ndarray
    sigma: np.ndarray
    weights: np.ndarray
    shape: np.ndarray
    shape_weight: float

    def cost(self, values: np.ndarray, shape: np.ndarray) -> float:
        pose = (((values - self.values) / self.sigma) ** 2).sum(1) @ self.weights
        return 0.5 * float(pose + self.shape_weight * ((shape - self.shape) ** 2).sum())

    def add_to(self, system: NormalEquations, values: np.ndarray, shape: np.ndarray) -> None:
        curvature = self.weights[:, None] / self.sigma**2
        system.gradient += curvature * (values - self.values)
        at = np.arange(values.shape[1])
        system.diagonal[:, at, at] += curvature
        system.shape += self.shape_weight * np.eye(len(shape))
        system.shape_gradient += self.shape_weight * (shape - self.shape)


def refine_meshes(
    context: ClipContext, meshes: list[MeshTrack], people: list[PersonTrack]
) -> list[MeshTrack]:
    """Refine each mesh source's body by the fit's solver, with the masks of the people where they have any.

    Raises:
        ValueError: if a mesh comes without the pose of a body.
    """
    masks = person_masks(people) if any(person.mask is not None for person in people) else []
    everyone = union_mask(people) if masks else None
    inner = replace(context, threads=max(1, context.threads // max(len(meshes), 1)))

    def refine(mesh: MeshTrack) -> MeshTrack:
        if mesh.pose is None:
            raise ValueError(
                "refining needs a body's parameters, seen by a camera of square pixels whose principal point is the "
                "middle of the frame: these meshes are vertices alone, or their camera is another"
            )
        if not mesh.present.any():
            return mesh
        mask = masks[mesh.person] if masks else None
        pose = refine_pose(inner, mesh.pose, mesh.present, mask, everyone)
        vertices = body_model(context).pose_vertices(pose)
        vertices[~mesh.present] = np.nan
        return replace(mesh, vertices=vertices, pose=pose)

    with threadpool_limits(1, "blas"), ThreadPoolExecutor(context.threads) as pool:
        return list(pool.map(refine, meshes))


def refine_pose(
    context: ClipContext,
    pose: BodyPose,
    present: np.ndarray,
    mask: np.ndarray | None,
    people_mask: np.ndarray | None,
) -> BodyPose:
    """The pose near the source's that agrees best with mask, flow and smooth motion.

    Args:
        context: the clip.
        pose: the source's, over T frames; anything in frames that are not `present`.
        present: [T] bool, at least one.
        mask: [T, H, W] bool, the person's pixels; None: unknown, then the mask's outline and its inside count for
            nothing.
        people_mask: [T, H, W] bool, all people's masks together; None likewise.

    Raises:
        ValueError: if no frame is present.
    """
    if not present.any():
        raise ValueError("a person without any mesh cannot be refined")
    body = body_model(context)
    start = pose_parameters(body, pose, present)
    sigma = np.full(start.values.shape[1], SIGMA_ROTATION)
    sigma[:3] = SIGMA_ROOT, SIGMA_ROOT, SIGMA_DEPTH
    weights = np.where(present, 1.0, MISSING_WEIGHT)
    near = NearSource(
        start.values,
        sigma,
        weights,
        start.shape,
        SHAPE_WEIGHT * len(present) / SIGMA_SHAPE**2,
    )
    problem = Problem.of(context, pose_terms=(near,))
    if people_mask is not None and mask is not None:
        rows, columns = mask.any(2), mask.any(1)
        size = np.hypot(rows.sum(1), columns.sum(1))[:, None]  # of the box around the person, about
        problem = problem.with_silhouette(people_mask, present & mask.any((1, 2)), size)
    parameters, _ = solve(problem, start, SILHOUETTE_ITERATIONS)
    if context.config.fit_flow:
        problem = problem.with_flow(parameters, mask)
        parameters, _ = solve(problem, parameters, FLOW_ITERATIONS)
    return parameters.posed(body)


def pose_parameters(body: Body, pose: BodyPose, present: np.ndarray) -> PoseParameters:
    """A pose as what the solver solves for: each joint's turn from its parent; missing frames are interpolated."""
    local = pose.local_rotations(body)[present]
    reference = mean_rotation(local[:, 0])
    local[:, 0] = local[:, 0] @ reference.T
    vectors = Rotation.from_matrix(local.reshape(-1, 3, 3)).as_rotvec().reshape(*local.shape[:2], 3)
    turns = np.stack([unwrap(vectors[:, joint]) for joint in range(body.num_joints)], axis=1)
    known = np.zeros((len(present), 3 + 3 * body.num_joints))
    known[present] = np.concatenate([pose.positions[present, 0], turns.reshape(len(turns), -1)], axis=1)
    shape = pose.shape if pose.shape.ndim == 1 else pose.shape[present].mean(0)
    return PoseParameters(interpolate(known, present), shape, reference)
