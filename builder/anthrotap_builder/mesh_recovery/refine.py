"""Refines a mesh source's body poses with the person's mask and with flow, by the solver of the open default."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
from threadpoolctl import threadpool_limits

from anthrotap_builder.bodies.body import BodyPose
from anthrotap_builder.context import ClipContext
from anthrotap_builder.detection import PersonTrack, person_masks, union_mask
from anthrotap_builder.mesh_recovery.motion import measure_motion
from anthrotap_builder.mesh_recovery.problem import FLOW_ITERATIONS, SILHOUETTE_ITERATIONS, Problem, solve
from anthrotap_builder.mesh_recovery.source_prior import MISSING_WEIGHT, SourcePrior, pose_parameters
from anthrotap_builder.mesh_recovery.terms import Silhouette
from anthrotap_builder.mesh_recovery.track import MeshTrack
from anthrotap_builder.mesh_recovery.vertex_fit import fit_to_vertices

# Errors of a mesh source's bodies: each joint's rotation, radians; the root's position right and down, and in depth,
# meters.
SIGMA_ROTATION = 0.15
SIGMA_ROOT = 0.05
SIGMA_DEPTH = 0.3


def refine_meshes(context: ClipContext, meshes: list[MeshTrack], people: list[PersonTrack]) -> list[MeshTrack]:
    """Refine each mesh source's body by the fit's solver, with the masks of the people where they have any.

    To vertices without a pose the body is fitted first.

    Raises:
        ValueError: if the body does not fit vertices that come without a pose.
    """
    body = context.body_model
    masks = person_masks(people) if any(person.mask is not None for person in people) else []
    people_mask = union_mask(people) if masks else None
    inner = replace(context, threads=max(1, context.threads // max(len(meshes), 1)))

    def refine(mesh: MeshTrack) -> MeshTrack:
        if not mesh.present.any():
            return mesh
        mask = masks[mesh.person] if masks else None
        source = fit_to_vertices(inner, mesh) if mesh.pose is None else mesh.pose
        pose = refine_pose(inner, source, mesh.present, mask, people_mask)
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
