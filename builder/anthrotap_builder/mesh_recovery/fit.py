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
from anthrotap_builder.mesh_recovery.kinematics import PoseParameters
from anthrotap_builder.mesh_recovery.masks import MIN_OVERLAP, mask_overlap
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
from anthrotap_builder.mesh_recovery.terms import HIPS, Landmarks2D, Landmarks3D, Posture
from anthrotap_builder.mesh_recovery.track import MeshTrack

BELIEVED = 0.5  # landmarks of at least this confidence count in the reported reprojection error
UNSEEN_WEIGHT = 0.1  # share of its weight that a landmark keeps outside the frame, where the network guesses
MISSING_WEIGHT = 1e-3  # in frames where the person was not found, landmarks are interpolated and hardly count
# Error of 2D landmarks as a fraction of the person's size, of 3D ones in meters; softness of joint limits, radians.
SIGMA_2D = 0.012
SIGMA_3D = 0.06
SIGMA_LIMIT = 0.1
LANDMARK_ITERATIONS = 14
# A frame with a larger reprojection error, as a fraction of the person's size, is rejected; and a person with a larger
# fraction of rejected frames is rejected whole.
MAX_REPROJECTION_ERROR = 0.06
MAX_REJECTED = 0.3


def recover_meshes(context: ClipContext, people: list[PersonTrack]) -> list[MeshTrack]:
    """Fit the body to each person's landmarks, mask and flow, and reject frames where the fit is bad."""
    if not people:
        return []
    body, camera, masks = body_model(context), context.camera, person_masks(people)
    everyone = union_mask(people)
    inner = replace(context, threads=max(1, context.threads // len(people)))

    def fit(index: int) -> MeshTrack:
        person, mask = people[index], masks[index]
        result = fit_body(inner, person, everyone)
        pose = result.parameters.posed(body)
        vertices = body.pose_vertices(pose)
        overlap = mask_overlap(camera.project(vertices), mask, everyone & ~mask)
        with np.errstate(invalid="ignore"):
            good = result.reprojection_error <= MAX_REPROJECTION_ERROR * result.size[:, 0]
        present = person.found & good & (overlap >= MIN_OVERLAP)
        if present.sum() < (1 - MAX_REJECTED) * person.found.sum():
            # A body that fits so seldom is no body: a coat, a statue's shadow, two people in one.
            present[:] = False
        vertices[~present] = np.nan
        given = np.isfinite(result.reprojection_error)
        return MeshTrack(index, vertices, present, result.reprojection_error, overlap, pose, given)

    # One BLAS thread: the solve is many small steps, which several threads slow down five times.
    with threadpool_limits(1, "blas"), ThreadPoolExecutor(context.threads) as pool:
        return list(pool.map(fit, range(len(people))))


@dataclass(frozen=True)
class Fit:
    """A fitted track.

    Attributes:
        parameters: pose of every frame of the clip (interpolated where the person was not found) and the shape.
        reprojection_error: [T] float, median distance of believed landmarks, pixels; NaN without any.
        size: [T, 1] float, the person's size by the landmarks, pixels.
        iterations: Levenberg-Marquardt steps taken.
    """

    parameters: PoseParameters
    reprojection_error: np.ndarray
    size: np.ndarray
    iterations: int


def fit_body(context: ClipContext, person: PersonTrack, people_mask: np.ndarray) -> Fit:
    """Fit the body to a person: landmarks, silhouette, flow, pose prior, smoothness, one shape for the track.

    Args:
        context: the clip.
        person: landmarks over T frames; frames before the first and after the last find are extrapolated.
        people_mask: [T, H, W] bool, all people's masks together: where this person may be, in front or behind.

    Raises:
        ValueError: if the person was found in no frame, or has no landmarks or no mask.
    """
    if not person.found.any():
        raise ValueError("a person who was found in no frame cannot be fitted")
    if person.mask is None:
        raise ValueError("the fit needs masks of the people: detect them with blazepose")
    body, camera = body_model(context), context.camera
    landmarks = Landmarks.of(body, person, camera)
    problem = Problem.of(
        context,
        pose_terms=(Posture(body.prior, SIGMA_LIMIT, SHAPE_WEIGHT * len(person.found)),),
        keypoint_terms=(
            Landmarks2D(landmarks.xy, landmarks.weights, SIGMA_2D * landmarks.size, camera),
            Landmarks3D(landmarks.relative, landmarks.weights, SIGMA_3D),
        ),
    )
    parameters, iterations = solve(problem, landmarks.first_guess(body, camera), LANDMARK_ITERATIONS)
    problem = problem.with_silhouette(people_mask, person.found, landmarks.size)
    parameters, taken = solve(problem, parameters, SILHOUETTE_ITERATIONS)
    iterations += taken
    if context.config.fit_flow:
        problem = problem.with_flow(parameters, person.mask)
        parameters, taken = solve(problem, parameters, FLOW_ITERATIONS)
        iterations += taken
    xy = camera.project(parameters.points(body, problem.keypoints))
    return Fit(parameters, landmarks.reprojection_error(xy), landmarks.size, iterations)


@dataclass(frozen=True)
class Landmarks:
    """A person's landmarks that the body has keypoints for, in every frame (interpolated where not found).

    Attributes:
        xy: [T, K, 2] float64 raster pixels.
        world: [T, K, 3] float64 meters, camera axes.
        weights: [T, K] float64, how far each is believed.
        believed: [T, K] bool, those that the reprojection error is taken over.
        size: [T, 1] float64, the person's size, pixels.
        torso: [T, 4, 3] float64 meters: left and right shoulder, left and right hip.
    """

    xy: np.ndarray
    world: np.ndarray
    weights: np.ndarray
    believed: np.ndarray
    size: np.ndarray
    torso: np.ndarray

    @classmethod
    def of(cls, body: Body, person: PersonTrack, camera: Camera) -> Landmarks:
        if person.landmarks is None or person.world_landmarks is None:
            raise ValueError("the fit needs landmarks of the people: detect them with blazepose")
        if not len(body.keypoints):
            raise ValueError(
                f"the fit needs to know where landmarks are on the body, and of {body.name} it does not: "
                "only meshes that come from elsewhere can use this body"
            )
        found, chosen = person.found, body.keypoint_landmarks
        landmarks = interpolate(person.landmarks, found)
        world = interpolate(person.world_landmarks, found)
        xy, confidence = landmarks[:, chosen, :2], np.clip(landmarks[:, chosen, 2], 0, 1)
        inside = camera.contains(xy)
        weights = body.keypoint_weights * confidence * np.where(inside, 1, UNSEEN_WEIGHT)
        weights *= np.where(found, 1, MISSING_WEIGHT)[:, None]
        extent = np.linalg.norm(xy.max(1) - xy.min(1), axis=-1)
        size = (0.4 * np.median(extent[found]) + 0.4 * extent).clip(16)[:, None]
        believed = (confidence > BELIEVED) & inside & found[:, None]
        return cls(xy, world[:, chosen], weights, believed, size, world[:, [11, 12, 23, 24]])

    @property
    def relative(self) -> np.ndarray:
        """[T, K, 3] meters, relative to the middle of the hips."""
        return self.world - self.world[:, HIPS].mean(1, keepdims=True)

    def first_guess(self, body: Body, camera: Camera) -> PoseParameters:
        """The mean body, turned and placed so that its torso lies on the world landmarks."""
        left_shoulder, right_shoulder, left_hip, right_hip = self.torso.swapaxes(0, 1)
        hips = (left_hip + right_hip) / 2
        up = _unit((left_shoulder + right_shoulder) / 2 - hips)
        left = left_hip - right_hip + left_shoulder - right_shoulder
        left = _unit(left - (left * up).sum(-1, keepdims=True) * up)
        # Columns: where the body's left, back and up point in the camera.
        rotation = np.stack([left, np.cross(up, left), up], axis=-1) @ body.axes.T

        share = self.weights / self.weights.sum(1, keepdims=True)
        mean_2d = np.einsum("tk,tkx->tx", share, self.xy)
        mean_3d = np.einsum("tk,tkx->tx", share, self.world)
        flat = self.world[..., :2] - mean_3d[:, None, :2]
        around = self.xy - mean_2d[:, None]
        scale = np.einsum("tk,tkx->t", share, around * flat) / np.einsum("tk,tkx->t", share, flat**2)
        depth = camera.focal / np.maximum(scale, 1.0)  # pixels a meter; at least one
        place = (mean_2d - camera.center) / camera.focal * depth[:, None] - mean_3d[:, :2]
        place = np.concatenate([place, (depth - mean_3d[:, 2])[:, None]], axis=1) + hips

        reference = mean_rotation(rotation)
        root = unwrap(Rotation.from_matrix(rotation @ reference.T).as_rotvec())
        rest = np.einsum("jab,jb->ja", body.prior.axes, body.prior.mean)[1:].reshape(-1)
        values = np.concatenate([place, root, np.tile(rest, (len(place), 1))], axis=1)
        return PoseParameters(values, np.zeros(body.num_shapes), reference)

    def reprojection_error(self, xy: np.ndarray) -> np.ndarray:
        """[T] median distance of projected keypoints [T, K, 2] from the believed landmarks; NaN without any."""
        distance = np.linalg.norm(xy - self.xy, axis=-1)
        distance[~self.believed] = np.nan
        error = np.full(len(xy), np.nan)
        some = np.isfinite(distance).any(1)
        error[some] = np.nanmedian(distance[some], axis=1)
        return error


def _unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-9)
