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
from anthrotap_builder.mesh_recovery.interpolation import interpolate, mean_rotation, unwrap
from anthrotap_builder.mesh_recovery.kinematics import PoseParameters
from anthrotap_builder.mesh_recovery.motion import measure_motion
from anthrotap_builder.mesh_recovery.normal_equations import NormalEquations
from anthrotap_builder.mesh_recovery.problem import FLOW_ITERATIONS, SILHOUETTE_ITERATIONS, Problem, solve
from anthrotap_builder.mesh_recovery.terms import SHAPE_WEIGHT, Silhouette
from anthrotap_builder.mesh_recovery.track import MeshTrack

# Weight of frames between two meshes of the source, which are interpolated.
MISSING_WEIGHT = 1e-3
# Errors of a mesh source's bodies: each joint's rotation, radians; the root's position right and down, and in depth,
# meters;
# the shape, in the body's standard deviations.
SIGMA_ROTATION = 0.15
SIGMA_ROOT = 0.05
SIGMA_DEPTH = 0.3
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


def refine_meshes(context: ClipContext, meshes: list[MeshTrack], people: list[PersonTrack]) -> list[MeshTrack]:
    """Refine each mesh source's body by the fit's solver, with the masks of the people where they have any.

    Raises:
        ValueError: if a mesh comes without the pose of a body.
    """
    body = context.body_model
    masks = person_masks(people) if any(person.mask is not None for person in people) else []
    people_mask = union_mask(people) if masks else None
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
        pose = refine_pose(inner, mesh.pose, mesh.present, mask, people_mask)
        vertices = body.pose_vertices(pose)
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
    """Find the pose near the source's that agrees best with mask, flow and smooth motion.

    Args:
        context: the clip.
        pose: the source's, over T frames; any value in frames that are not `present`.
        present: [T] bool, at least one.
        mask: [T, H, W] bool, the person's pixels; None: unknown, then there is no silhouette, and flow counts
            wherever the body is visible.
        people_mask: [T, H, W] bool, all people's masks together; None likewise.

    Raises:
        ValueError: if no frame is present.
    """
    if not present.any():
        raise ValueError("a person without any mesh cannot be refined")
    start = pose_parameters(context.body_model, pose, present)
    sigma = np.full(start.values.shape[1], SIGMA_ROTATION)
    sigma[:3] = SIGMA_ROOT, SIGMA_ROOT, SIGMA_DEPTH
    source = SourcePrior(start, sigma, np.where(present, 1.0, MISSING_WEIGHT))
    problem = Problem.of(context, pose_terms=(source,))
    if people_mask is not None and mask is not None:
        # The person's size: about the diagonal of the mask's box.
        rows, columns = mask.any(2), mask.any(1)
        size = np.hypot(rows.sum(1), columns.sum(1))[:, None]
        silhouette = Silhouette.of(people_mask, present & mask.any((1, 2)), size)
        problem = replace(problem, silhouette=silhouette)
    parameters, _ = solve(problem, start, SILHOUETTE_ITERATIONS)
    if context.config.fit_flow:
        motions = measure_motion(context, problem.surface, parameters, mask)
        parameters, _ = solve(replace(problem, motions=motions), parameters, FLOW_ITERATIONS)
    return parameters.posed(context.body_model)


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
