"""Refines a mesh source's body poses with the person's mask and with flow, by the solver of the open default."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np
from scipy.spatial.transform import Rotation
from threadpoolctl import threadpool_limits

from anthrotap_builder.bodies.body import Body, BodyPose
from anthrotap_builder.config import FitSettings, FlowSettings, LabelingConfig, RefineSettings
from anthrotap_builder.detection import PersonTrack, anyone, masks_of
from anthrotap_builder.geometry.camera import Camera
from anthrotap_builder.mesh_recovery.kinematics import PoseParameters
from anthrotap_builder.mesh_recovery.normal_equations import NormalEquations
from anthrotap_builder.mesh_recovery.problem import Problem, interpolate, mean_rotation, solve, unwrap
from anthrotap_builder.mesh_recovery.terms import Silhouette
from anthrotap_builder.mesh_recovery.track import MeshTrack

MISSING_WEIGHT = 1e-3  # frames between two meshes of the source are interpolated, and hardly count


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
    meshes: list[MeshTrack],
    people: list[PersonTrack],
    frames: np.ndarray,
    body: Body,
    camera: Camera,
    fps: float,
    config: LabelingConfig,
    threads: int = 2,
    device: str = "cpu",
) -> list[MeshTrack]:
    """Each mesh source's body as the fit's solver refines it, with the masks of the people where they have any.

    Raises:
        ValueError: if a mesh comes without the pose of a body.
    """
    assert config.refine is not None
    refinement = config.refine
    masks = masks_of(people) if any(person.mask is not None for person in people) else []
    everyone = anyone(people) if masks else None
    inner = max(1, threads // max(len(meshes), 1))

    def refine(mesh: MeshTrack) -> MeshTrack:
        if mesh.pose is None:
            raise ValueError(
                "refining needs a body's parameters, seen by a camera of square pixels whose principal point is the "
                "middle of the frame: these meshes are vertices alone, or their camera is another"
            )
        if not mesh.present.any():
            return mesh
        mask = masks[mesh.person] if masks else None
        pose = refine_pose(
            *(body, mesh.pose, mesh.present, mask, everyone, frames, camera, fps),
            *(config.fit, refinement, config.flow, inner, device),
        )
        vertices = body.pose_vertices(pose)
        vertices[~mesh.present] = np.nan
        return replace(mesh, vertices=vertices, pose=pose)

    with threadpool_limits(1, "blas"), ThreadPoolExecutor(threads) as pool:
        return list(pool.map(refine, meshes))


def refine_pose(
    body: Body,
    pose: BodyPose,
    present: np.ndarray,
    mask: np.ndarray | None,
    people_mask: np.ndarray | None,
    frames: np.ndarray,
    camera: Camera,
    fps: float,
    settings: FitSettings,
    refinement: RefineSettings,
    flow: FlowSettings,
    threads: int = 1,
    device: str = "cpu",
) -> BodyPose:
    """The pose near the source's that agrees best with mask, flow and smooth motion.

    Args:
        body: the body model.
        pose: the source's, over T frames; anything in frames that are not `present`.
        present: [T] bool, at least one.
        mask: [T, H, W] bool, the person's pixels; None: unknown, then the mask's outline and its inside count for
            nothing.
        people_mask: [T, H, W] bool, all people's masks together; None likewise.
        frames: [T, H, W, 3] uint8 RGB.
        camera: of the clip.
        fps: frames a second.
        settings: weights of silhouette, flow and smoothness.
        refinement: how far off the source may be.
        flow: which flow.
        threads: how many frame pairs flow is measured on at once.
        device: where a flow that is a network runs, as torch names it.

    Raises:
        ValueError: if no frame is present.
    """
    if not present.any():
        raise ValueError("a person without any mesh cannot be refined")
    start = pose_parameters(body, pose, present)
    sigma = np.full(start.values.shape[1], refinement.sigma_rotation)
    sigma[:3] = refinement.sigma_place, refinement.sigma_place, refinement.sigma_depth
    weights = np.where(present, 1.0, MISSING_WEIGHT)
    near = NearSource(
        start.values,
        sigma,
        weights,
        start.shape,
        settings.shape_weight * len(present) / refinement.sigma_shape**2,
    )
    problem = Problem.of(body, camera, fps, settings, pose_terms=(near,))
    if people_mask is not None and mask is not None and settings.silhouette_weight:
        rows, columns = mask.any(2), mask.any(1)
        size = np.hypot(rows.sum(1), columns.sum(1))[:, None]  # of the box around the person, about
        silhouette = Silhouette.of(
            people_mask,
            present & mask.any((1, 2)),
            np.maximum(settings.sigma_silhouette * size, 1.0),
            settings.silhouette_weight / settings.silhouette_points,
        )
        problem = replace(problem, silhouette=silhouette)
    parameters, _ = solve(problem, start, settings.silhouette_iterations)
    if settings.flow_points and settings.flow_weight:
        problem = problem.with_flow(parameters, frames, mask, flow, threads, device)
        parameters, _ = solve(problem, parameters, settings.flow_iterations)
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
