"""Fits a body to a person's whole track at once, by Levenberg-Marquardt (open default mesh source)."""

from __future__ import annotations

import logging
from dataclasses import dataclass

import numpy as np
from scipy.spatial.transform import Rotation

from anthrotap_builder.bodies.body import Body
from anthrotap_builder.config import FitSettings, FlowSettings
from anthrotap_builder.meshes.kinematics import PointChains, PoseParameters
from anthrotap_builder.meshes.motion import MotionObserver
from anthrotap_builder.meshes.normal_equations import NormalEquations
from anthrotap_builder.meshes.terms import (
    HIPS,
    Landmarks2D,
    Landmarks3D,
    Motion,
    Posture,
    Silhouette,
    Smoothness,
)
from anthrotap_builder.people import PersonTrack
from anthrotap_builder.projection import Camera

logger = logging.getLogger(__name__)

BELIEVED = 0.5  # landmarks of at least this confidence count in the reported reprojection error
UNSEEN_WEIGHT = 0.1  # share of its weight that a landmark keeps outside the frame, where the network guesses
# Frames between the two ends of a flow measurement -> step between measurements. A short lag sees fast motion, a
# long one slow drift; a second pass over flow gains half a point of average delta for half as much time again.
FLOW_LAGS = {1: 1, 8: 2}
SURFACE_POINTS = 1024
MISSING_WEIGHT = 1e-3  # in frames where the person was not found, landmarks are interpolated and hardly count


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


def fit_body(
    body: Body,
    person: PersonTrack,
    people_mask: np.ndarray,
    frames: np.ndarray,
    camera: Camera,
    fps: float,
    settings: FitSettings,
    flow_settings: FlowSettings,
    threads: int = 1,
) -> Fit:
    """Fits `body` to a person: landmarks, silhouette, flow, pose prior, smoothness, one shape for the track.

    Args:
        body: the body model.
        person: landmarks over T frames; frames before the first and after the last find are extrapolated.
        people_mask: [T, H, W] bool, all people's masks together: where this person may be, in front or behind.
        frames: [T, H, W, 3] uint8 RGB, for flow.
        camera: of the clip.
        fps: frames a second, which the smoothness is relative to.
        settings: weights and iterations.
        flow_settings: which flow.
        threads: how many frame pairs flow is measured on at once.

    Raises:
        ValueError: if the person was found in no frame.
    """
    if not person.found.any():
        raise ValueError("a person who was found in no frame cannot be fitted")
    problem = _Problem(body, person, people_mask, camera, fps, settings)
    parameters, iterations = _levenberg_marquardt(
        problem, problem.initial(), settings.landmark_iterations, settings.tolerance
    )
    problem.use_silhouette = True
    parameters, taken = _levenberg_marquardt(
        problem, parameters, settings.silhouette_iterations, settings.tolerance
    )
    iterations += taken
    if settings.flow_points and settings.flow_weight:
        observer = MotionObserver(
            frames, person.mask, body, problem.surface, camera, flow_settings, settings, threads
        )
        problem.motions = observer.observe(parameters, FLOW_LAGS)
        parameters, taken = _levenberg_marquardt(
            problem, parameters, settings.flow_iterations, settings.tolerance
        )
        iterations += taken
    return Fit(parameters, problem.reprojection_error(parameters), problem.size, iterations)


class _Problem:
    """The track's terms, and the cost and linear system of their sum."""

    def __init__(
        self,
        body: Body,
        person: PersonTrack,
        people_mask: np.ndarray,
        camera: Camera,
        fps: float,
        settings: FitSettings,
    ) -> None:
        self.body, self.camera = body, camera
        found = person.found
        landmarks = _interpolate(person.landmarks, found)
        world = _interpolate(person.world_landmarks, found)
        self.landmarks, self.world = landmarks, world
        chosen = body.keypoint_landmarks
        xy, confidence = landmarks[:, chosen, :2], np.clip(landmarks[:, chosen, 2], 0, 1)
        inside = camera.contains(xy)
        weights = body.keypoint_weights * confidence * np.where(inside, 1, UNSEEN_WEIGHT)
        weights *= np.where(found, 1, MISSING_WEIGHT)[:, None]
        self.weights = weights
        self.believed = (confidence > BELIEVED) & inside & found[:, None]

        extent = np.linalg.norm(xy.max(1) - xy.min(1), axis=-1)
        self.size = (0.4 * np.median(extent[found]) + 0.4 * extent).clip(16)[:, None]
        target = world[:, chosen] - world[:, chosen][:, HIPS].mean(1, keepdims=True)
        self.landmarks_2d = Landmarks2D(xy, weights, settings.sigma_2d * self.size, camera)
        self.landmarks_3d = Landmarks3D(target, weights, settings.sigma_3d)
        self.silhouette = Silhouette.of(
            people_mask,
            found,
            np.maximum(settings.sigma_silhouette * self.size, 1.0),
            settings.silhouette_weight / settings.silhouette_points,
            camera,
        )
        self.posture = Posture(body.prior, settings.sigma_limit, settings.shape_weight * len(found))
        pace = (fps / 30) ** 2
        rotations = 3 * body.num_joints
        self.smoothness = Smoothness(
            acceleration=(
                pace
                / np.concatenate(
                    [
                        np.full(3, settings.sigma_place_acceleration),
                        np.full(rotations, settings.sigma_acceleration),
                    ]
                )
            )
            ** 2,
            velocity=(
                np.sqrt(pace) * np.concatenate([np.zeros(3), np.full(rotations, 1 / settings.sigma_velocity)])
            )
            ** 2,
        )
        self.chains = PointChains.of(body, body.keypoints)
        # Farthest-point sampling: the first points are themselves spread evenly.
        self.surface = body.surface_points(SURFACE_POINTS, seed=1)
        self.outline_points = settings.silhouette_points
        count = max(settings.silhouette_points, settings.flow_points)
        self.surface_chains = PointChains.of(body, body.body_points(self.surface.first(count)))
        self.flow_points = settings.flow_points
        self.use_silhouette = False
        self.motions: list[Motion] = []

    def initial(self) -> PoseParameters:
        """The mean body, turned and placed so that its torso lies on the world landmarks."""
        landmarks, world, chosen = self.landmarks, self.world, self.body.keypoint_landmarks
        hips = world[:, 23:25].mean(1)
        up = _unit(world[:, 11:13].mean(1) - hips)
        left = world[:, 23] - world[:, 24] + world[:, 11] - world[:, 12]
        left = _unit(left - (left * up).sum(-1, keepdims=True) * up)
        # Columns: where the model's x (its left), y (its back) and z (up) point in the camera.
        rotation = np.stack([left, np.cross(up, left), up], axis=-1)

        share = self.weights / self.weights.sum(1, keepdims=True)
        mean_2d = np.einsum("tk,tkx->tx", share, landmarks[:, chosen, :2])
        mean_3d = np.einsum("tk,tkx->tx", share, world[:, chosen])
        flat = world[:, chosen, :2] - mean_3d[:, None, :2]
        around = landmarks[:, chosen, :2] - mean_2d[:, None]
        scale = np.einsum("tk,tkx->t", share, around * flat) / np.einsum("tk,tkx->t", share, flat**2)
        depth = self.camera.focal / np.maximum(scale, 1.0)  # pixels a metre; at least one
        place = (mean_2d - self.camera.centre) / self.camera.focal * depth[:, None] - mean_3d[:, :2]
        place = np.concatenate([place, (depth - mean_3d[:, 2])[:, None]], axis=1) + hips

        u, _, vt = np.linalg.svd(rotation.sum(0))
        reference = u @ np.diag([1, 1, np.linalg.det(u @ vt)]) @ vt
        root = _unwrap(Rotation.from_matrix(rotation @ reference.T).as_rotvec())
        prior = self.body.prior
        rest = np.einsum("jab,jb->ja", prior.axes, prior.mean)[1:].reshape(-1)
        values = np.concatenate([place, root, np.tile(rest, (len(place), 1))], axis=1)
        return PoseParameters(values, np.zeros(self.body.num_shapes), reference)

    def cost(self, parameters: PoseParameters) -> float:
        points = parameters.points(self.body, self.chains)
        cost = self.landmarks_2d.cost(points) + self.landmarks_3d.cost(points)
        if self.use_silhouette:
            surface = parameters.points(self.body, self.surface_chains)
            cost += self.silhouette.cost(surface[:, : self.outline_points])
            cost += sum(motion.cost(surface[:, : self.flow_points]) for motion in self.motions)
        values = parameters.values
        return cost + self.posture.cost(values, parameters.shape) + self.smoothness.cost(values)

    def linearise(self, parameters: PoseParameters) -> NormalEquations:
        values = parameters.values
        system = NormalEquations(len(values), values.shape[1], self.body.num_shapes)
        points, jacobian = parameters.points_and_jacobian(self.body, self.chains)
        self.landmarks_2d.add_to(system, points, jacobian)
        self.landmarks_3d.add_to(system, points, jacobian)
        if self.use_silhouette:
            surface, slopes = parameters.points_and_jacobian(self.body, self.surface_chains)
            outline = slice(None), slice(self.outline_points)
            self.silhouette.add_to(system, surface[outline], slopes[outline])
            for motion in self.motions:
                motion.add_to(system, surface[:, : self.flow_points], slopes[:, : self.flow_points])
        self.posture.add_to(system, values, parameters.shape)
        self.smoothness.add_to(system, values)
        return system

    def reprojection_error(self, parameters: PoseParameters) -> np.ndarray:
        xy = self.camera.project(parameters.points(self.body, self.chains))
        distance = np.linalg.norm(xy - self.landmarks_2d.targets, axis=-1)
        distance[~self.believed] = np.nan
        error = np.full(len(xy), np.nan)
        some = np.isfinite(distance).any(1)
        error[some] = np.nanmedian(distance[some], axis=1)
        return error


def _levenberg_marquardt(
    problem: _Problem, start: PoseParameters, steps: int, tolerance: float
) -> tuple[PoseParameters, int]:
    """Minimises the problem's cost; ends when a step gains less than `tolerance` of it. Also counts the steps."""
    here, cost, damping = start, problem.cost(start), 1e-2
    for step in range(steps):
        system = problem.linearise(here)
        while True:
            change, shape_change = system.solve(damping)
            there = PoseParameters(here.values + change, here.shape + shape_change, here.reference)
            new_cost = problem.cost(there)
            if new_cost < cost:
                break
            damping *= 6
            if damping > 1e6:
                return here, step
        gain = (cost - new_cost) / cost
        here, cost, damping = there, new_cost, max(damping / 5, 1e-6)
        if gain < tolerance:
            return here, step + 1
    return here, steps


def _interpolate(values: np.ndarray, found: np.ndarray) -> np.ndarray:
    """[T, ...] float64: values of the found frames, linear between them, constant before and after."""
    times = np.flatnonzero(found)
    at = np.clip(np.arange(len(found)), times[0], times[-1])
    after = np.minimum(np.searchsorted(times, at), len(times) - 1)
    before = np.maximum(after - 1, 0)
    span = np.maximum(times[after] - times[before], 1)
    share = np.clip((at - times[before]) / span, 0, 1).reshape(-1, *[1] * (values.ndim - 1))
    if len(times) == 1:
        share = np.zeros_like(share)
    known = values[times].astype(np.float64)
    return known[before] * (1 - share) + known[after] * share


def _unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-9)


def _unwrap(vectors: np.ndarray) -> np.ndarray:
    """Rotation vectors [T, 3] moved by whole turns so that each is near the one before."""
    out = vectors.copy()
    for t in range(1, len(out)):
        angle = np.linalg.norm(out[t])
        other = out[t] * (1 - 2 * np.pi / np.maximum(angle, 1e-9))
        if np.linalg.norm(other - out[t - 1]) < np.linalg.norm(out[t] - out[t - 1]):
            out[t] = other
    return out
