"""Fits a body to a person's whole track at once, by Levenberg-Marquardt (open default mesh source)."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np
from scipy.spatial.transform import Rotation
from threadpoolctl import threadpool_limits

from anthrotap_builder.bodies.body import Body
from anthrotap_builder.context import ClipContext
from anthrotap_builder.detection import PersonTrack, person_masks, union_mask
from anthrotap_builder.geometry.camera import Camera
from anthrotap_builder.mesh_recovery.depth_order import order_in_depth
from anthrotap_builder.mesh_recovery.facing import resolve_sides
from anthrotap_builder.mesh_recovery.interpolation import interpolate, mean_rotation, unwrap
from anthrotap_builder.mesh_recovery.kinematics import PoseParameters
from anthrotap_builder.mesh_recovery.masks import MIN_OVERLAP, mask_overlap
from anthrotap_builder.mesh_recovery.motion import agreement, measure_motion
from anthrotap_builder.mesh_recovery.presence import bridge_gaps, keep_runs, misplaced, short_gaps
from anthrotap_builder.mesh_recovery.problem import FLOW_ITERATIONS, SILHOUETTE_ITERATIONS, Problem, solve
from anthrotap_builder.mesh_recovery.terms import HIPS, SIGMA_2D, Landmarks2D, Landmarks3D, Prior, Silhouette
from anthrotap_builder.mesh_recovery.track import MeshTrack

# Landmarks of at least this confidence count in the reprojection error.
MIN_CONFIDENCE = 0.5
# Fraction of its weight that a landmark keeps outside the frame, where the network guesses.
OUTSIDE_WEIGHT = 0.1
# The same in frames where the person was not detected, whose landmarks are interpolated.
MISSING_WEIGHT = 1e-3
LANDMARK_ITERATIONS = 14
# A frame with a larger reprojection error, as a fraction of the person's size, is rejected.
MAX_REPROJECTION_ERROR = 0.06
# BlazePose's landmarks of left and right shoulder, left and right hip.
TORSO = [11, 12, 23, 24]


def recover_meshes(context: ClipContext, people: list[PersonTrack]) -> list[MeshTrack]:
    """Fit the body to each person's landmarks, mask and flow, and reject frames where the fit is bad.

    Raises:
        ValueError: if people have no landmarks or no masks, or the body has no keypoints.
    """
    if not people:
        return []
    body, camera, masks = context.body_model, context.camera, person_masks(people)
    people_mask = union_mask(people)
    inner = replace(context, threads=max(1, context.threads // len(people)))

    def fit(index: int) -> MeshTrack:
        person, mask = people[index], masks[index]
        result = fit_body(inner, person, people_mask)
        pose = result.parameters.posed(body)
        vertices = body.pose_vertices(pose)
        overlap = mask_overlap(camera.project(vertices), mask, people_mask & ~mask)
        with np.errstate(invalid="ignore"):
            fits = result.reprojection_error <= MAX_REPROJECTION_ERROR * result.size[:, 0]
        # The mask may be as misplaced as the landmarks are.
        on_mask = (overlap >= MIN_OVERLAP).astype(float)
        on_mask[np.isnan(overlap) | (~result.placed & (on_mask == 0))] = np.nan
        good = fits & (on_mask == 1)
        bridged = bridge_gaps(good, on_mask, result.agrees_with_flow, context.fps)
        present = keep_runs(good | bridged, good, person.found, context.fps)
        vertices[~present] = np.nan
        return MeshTrack(
            person=index,
            vertices=vertices,
            present=present,
            reprojection_error=result.reprojection_error,
            mask_overlap=overlap,
            pose=pose,
            recovered=person.found | bridged,
            off_mask=present & (on_mask != 1),
            segment=np.cumsum(result.cut),
        )

    # One BLAS thread: the solve is many small steps, which several threads slow down five times.
    with threadpool_limits(1, "blas"), ThreadPoolExecutor(context.threads) as pool:
        meshes = list(pool.map(fit, range(len(people))))
        return order_in_depth(meshes, masks, camera, context.fps)


@dataclass(frozen=True)
class Fit:
    """A fitted track.

    Attributes:
        parameters: pose of every frame of the clip (interpolated where the person was not detected) and the shape.
        reprojection_error: [T] float, median distance of keypoints from reliable landmarks, pixels; NaN without any.
        size: [T, 1] float, the person's size by the landmarks, pixels.
        iterations: Levenberg-Marquardt steps taken.
        placed: [T] bool, frames in which the person was found, and not somewhere else.
        agrees_with_flow: [T - 1] float, whether the surface moves to the next frame as flow does, 1 or 0; NaN where
            too little flow is known.
        cut: [T] bool, frames before which the facing may have changed, see `Sides`.
    """

    parameters: PoseParameters
    reprojection_error: np.ndarray
    size: np.ndarray
    iterations: int
    placed: np.ndarray
    agrees_with_flow: np.ndarray
    cut: np.ndarray


def fit_body(context: ClipContext, person: PersonTrack, people_mask: np.ndarray) -> Fit:
    """Fit the body to a person: landmarks, silhouette, flow, pose prior, smoothness, one shape for the track.

    Args:
        context: the clip.
        person: landmarks over T frames; they are held constant before the first and after the last detection.
        people_mask: [T, H, W] bool, all people's masks together: where this person may be, in front or behind.

    Raises:
        ValueError: if the person was detected in no frame, or has no landmarks or no mask, or the body no keypoints.
    """
    if not person.found.any():
        raise ValueError("a person who was found in no frame cannot be fitted")
    if person.mask is None:
        raise ValueError("the fit needs masks of the people: detect them with blazepose")
    body, camera = context.body_model, context.camera
    landmarks = Landmarks.of(body, person, camera, context.fps)
    # Landmarks first, from a rough start; then the silhouette; then flow, measured around the pose so far.
    problem = Problem.of(
        context,
        pose_terms=(Prior(body.prior, len(person.found)),),
        keypoint_terms=(
            Landmarks2D(landmarks.xy, landmarks.weights, SIGMA_2D * landmarks.size, camera),
            Landmarks3D(landmarks.relative, landmarks.weights),
        ),
    )
    parameters, iterations = solve(problem, landmarks.initial_pose(body, camera), LANDMARK_ITERATIONS)
    problem = replace(problem, silhouette=Silhouette.of(people_mask, landmarks.placed, landmarks.size))
    parameters, taken = solve(problem, parameters, SILHOUETTE_ITERATIONS)
    iterations += taken
    agrees = np.full(len(person.found) - 1, np.nan)
    if context.config.fit_flow:
        # In short gaps the person has no mask, or a wrong one, but is not where others are.
        mask = person.mask & landmarks.placed[:, None, None]
        gaps = short_gaps(landmarks.placed, context.fps)
        mask[gaps] = ~(people_mask[gaps] & ~person.mask[gaps])
        motions = measure_motion(context, problem.surface, parameters, mask)
        parameters, taken = solve(replace(problem, motions=motions), parameters, FLOW_ITERATIONS)
        iterations += taken
        agrees = agreement(motions, parameters.points(body, problem.surface_chains), context)
    xy = camera.project(parameters.points(body, problem.keypoints))
    return Fit(
        parameters,
        landmarks.reprojection_error(xy),
        landmarks.size,
        iterations,
        landmarks.placed,
        agrees,
        landmarks.cut,
    )


@dataclass(frozen=True)
class Landmarks:
    """A person's landmarks that the body has keypoints for, in every frame (interpolated where not detected).

    Attributes:
        xy: [T, K, 2] float64 raster pixels.
        world: [T, K, 3] float64 meters, camera axes.
        weights: [T, K] float64, reliability of each.
        reliable: [T, K] bool, those that the reprojection error is taken over.
        size: [T, 1] float64, the person's size, pixels.
        torso: [T, 4, 3] float64 meters: left and right shoulder, left and right hip.
        placed: [T] bool, frames in which the person was found, and not somewhere else.
        cut: [T] bool, see `Sides`.
    """

    xy: np.ndarray
    world: np.ndarray
    weights: np.ndarray
    reliable: np.ndarray
    size: np.ndarray
    torso: np.ndarray
    placed: np.ndarray
    cut: np.ndarray

    @classmethod
    def of(cls, body: Body, person: PersonTrack, camera: Camera, fps: float) -> Landmarks:
        """Take the landmarks of a person. Raise ValueError if there are none, or the body has no keypoints."""
        if person.landmarks is None or person.world_landmarks is None:
            raise ValueError("the fit needs landmarks of the people: detect them with blazepose")
        if not len(body.keypoints):
            raise ValueError(
                f"the fit needs to know where landmarks are on the body, and of {body.name} it does not: "
                "only meshes that come from elsewhere can use this body"
            )
        found, chosen = person.found, body.keypoint_landmarks
        sides = resolve_sides(person.landmarks, person.world_landmarks, found, fps)
        points = sides.landmarks[:, chosen]
        size = _size(points, found)
        placed = found & ~misplaced(sides.landmarks[:, TORSO, :2], size, found, fps)
        points, world = interpolate(points, placed), interpolate(sides.world_landmarks, placed)
        xy, confidence = points[..., :2], np.clip(points[..., 2], 0, 1)
        inside = camera.contains(xy)
        weights = body.keypoint_weights * confidence * np.where(inside, 1, OUTSIDE_WEIGHT)
        weights *= np.where(placed, 1, MISSING_WEIGHT)[:, None]
        reliable = (confidence > MIN_CONFIDENCE) & inside & placed[:, None]
        return cls(xy, world[:, chosen], weights, reliable, _size(points, placed), world[:, TORSO], placed, sides.cut)

    @property
    def relative(self) -> np.ndarray:
        """[T, K, 3] meters, relative to the middle of the hips."""
        return self.world - self.world[:, HIPS].mean(1, keepdims=True)

    def initial_pose(self, body: Body, camera: Camera) -> PoseParameters:
        """Return the mean body in its mean pose, whose torso lies on the 3D landmarks, and these on the 2D
        landmarks."""
        # The torso's axes. Columns of the rotation: where the body's left, back and up point in the camera.
        left_shoulder, right_shoulder, left_hip, right_hip = self.torso.swapaxes(0, 1)
        hips = (left_hip + right_hip) / 2
        up = _unit((left_shoulder + right_shoulder) / 2 - hips)
        left = left_hip - right_hip + left_shoulder - right_shoulder
        left = _unit(left - (left * up).sum(-1, keepdims=True) * up)
        rotation = np.stack([left, np.cross(up, left), up], axis=-1) @ body.axes.T

        # Weak perspective: the scale that takes the 3D landmarks to the 2D ones by weighted least squares gives the
        # depth,
        # and the weighted means the position; at least one pixel a meter.
        weights = self.weights / self.weights.sum(1, keepdims=True)
        mean_2d = np.einsum("tk,tkx->tx", weights, self.xy)
        mean_3d = np.einsum("tk,tkx->tx", weights, self.world)
        flat = self.world[..., :2] - mean_3d[:, None, :2]
        around = self.xy - mean_2d[:, None]
        scale = np.einsum("tk,tkx->t", weights, around * flat) / np.einsum("tk,tkx->t", weights, flat**2)
        depth = camera.focal / np.maximum(scale, 1.0)
        position = (mean_2d - camera.center) / camera.focal * depth[:, None] - mean_3d[:, :2]
        position = np.concatenate([position, (depth - mean_3d[:, 2])[:, None]], axis=1) + hips

        # Rotation vectors: the root's relative to the mean rotation, the others' at the prior's mean, w = axes v.
        reference = mean_rotation(rotation)
        root = unwrap(Rotation.from_matrix(rotation @ reference.T).as_rotvec())
        rest = np.einsum("jab,jb->ja", body.prior.axes, body.prior.mean)[1:].reshape(-1)
        values = np.concatenate([position, root, np.tile(rest, (len(position), 1))], axis=1)
        return PoseParameters(values, np.zeros(body.num_shapes), reference)

    def reprojection_error(self, xy: np.ndarray) -> np.ndarray:
        """Return [T], the median distance of projected keypoints [T, K, 2] from reliable landmarks; NaN without any."""
        distance = np.linalg.norm(xy - self.xy, axis=-1)
        distance[~self.reliable] = np.nan
        error = np.full(len(xy), np.nan)
        known = np.isfinite(distance).any(1)
        error[known] = np.nanmedian(distance[known], axis=1)
        return error


def _size(landmarks: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Return the person's size by landmarks [T, K, 2 or more], [T, 1] pixels; in frames that are not known, any."""
    # 0.8 times the diagonal of the landmarks' box, half of it as in the median frame; at least 16 pixels.
    extent = np.linalg.norm(np.ptp(landmarks[..., :2], axis=1), axis=-1)
    return (0.4 * np.median(extent[known]) + 0.4 * np.nan_to_num(extent)).clip(16)[:, None]


def _unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-9)
