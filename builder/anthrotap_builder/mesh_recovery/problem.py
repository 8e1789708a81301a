"""A body over a whole track as a least-squares problem: its terms, their linear system, and Levenberg-Marquardt."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from anthrotap_builder.bodies.body import Body
from anthrotap_builder.config import FitSettings, FlowSettings
from anthrotap_builder.geometry.camera import Camera
from anthrotap_builder.geometry.surface import SurfacePoints
from anthrotap_builder.mesh_recovery.kinematics import PointChains, PoseParameters
from anthrotap_builder.mesh_recovery.motion import MotionObserver
from anthrotap_builder.mesh_recovery.normal_equations import NormalEquations
from anthrotap_builder.mesh_recovery.terms import Motion, Silhouette, Smoothness, project

# Frames between the two ends of a flow measurement -> step between measurements. A short lag sees fast motion, a
# long one slow drift; a second pass over flow gains half a point of average delta for half as much time again.
FLOW_LAGS = {1: 1, 8: 2}
SURFACE_POINTS = 1024


class PointTerm(Protocol):
    """What the body's keypoints [T, K, 3] are asked to agree with."""

    def cost(self, points: np.ndarray) -> float: ...
    def add_to(self, system: NormalEquations, points: np.ndarray, jacobian: np.ndarray) -> None: ...


class PoseTerm(Protocol):
    """What the pose [T, P] and the shape [S] are asked to agree with."""

    def cost(self, values: np.ndarray, shape: np.ndarray) -> float: ...
    def add_to(self, system: NormalEquations, values: np.ndarray, shape: np.ndarray) -> None: ...


@dataclass(frozen=True)
class Problem:
    """What a body over a track is asked to agree with.

    Attributes:
        body, camera, settings: of the fit.
        keypoints: the body's keypoints.
        surface: points spread over the body, whose motion pictures are warped by.
        surface_chains: the first of them, as points that the fit can move.
        keypoint_terms, pose_terms, smoothness: see `terms`.
        silhouette: for the first `settings.silhouette_points` surface points; None asks for none.
        motions: for the first `settings.flow_points` surface points.
    """

    body: Body
    camera: Camera
    settings: FitSettings
    keypoints: PointChains
    surface: SurfacePoints
    surface_chains: PointChains
    smoothness: Smoothness
    pose_terms: tuple[PoseTerm, ...]
    keypoint_terms: tuple[PointTerm, ...] = ()
    silhouette: Silhouette | None = None
    motions: tuple[Motion, ...] = ()

    @classmethod
    def of(
        cls,
        body: Body,
        camera: Camera,
        fps: float,
        settings: FitSettings,
        pose_terms: tuple[PoseTerm, ...],
        keypoint_terms: tuple[PointTerm, ...] = (),
    ) -> Problem:
        """Smoothness at `fps` frames a second, and these terms; no silhouette and no flow yet."""
        # Farthest-point sampling: the first points are themselves spread evenly.
        surface = body.surface_points(SURFACE_POINTS, seed=1)
        count = max(settings.silhouette_points, settings.flow_points)
        pace = (fps / 30) ** 2
        rotations = np.full(3 * body.num_joints, 1.0)
        still, free = np.full(3, settings.sigma_place_acceleration), np.zeros(3)
        acceleration = pace / np.concatenate([still, rotations * settings.sigma_acceleration])
        velocity = np.sqrt(pace) * np.concatenate([free, rotations / settings.sigma_velocity])
        return cls(
            body,
            camera,
            settings,
            PointChains.of(body, body.keypoints),
            surface,
            PointChains.of(body, body.body_points(surface.first(count))),
            Smoothness(acceleration**2, velocity**2),
            pose_terms,
            keypoint_terms,
        )

    def with_flow(
        self,
        parameters: PoseParameters,
        frames: np.ndarray,
        mask: np.ndarray | None,
        flow: FlowSettings,
        threads: int,
        device: str,
    ) -> Problem:
        """The same, and surface points move as flow says, which is measured around the pose at hand.

        Args:
            parameters: the pose at hand.
            frames: [T, H, W, 3] uint8 RGB.
            mask: [T, H, W] bool, the person's pixels, outside which flow counts for nothing; None: unknown.
            flow: which flow.
            threads: how many frame pairs are worked on at once.
            device: where a flow that is a network runs, as torch names it.
        """
        observer = MotionObserver(
            frames, mask, self.body, self.surface, self.camera, flow, self.settings, threads, device
        )
        return replace(self, motions=tuple(observer.observe(parameters, FLOW_LAGS)))

    def cost(self, parameters: PoseParameters) -> float:
        values, shape = parameters.values, parameters.shape
        cost = self.smoothness.cost(values) + sum(term.cost(values, shape) for term in self.pose_terms)
        if self.keypoint_terms:
            points = parameters.points(self.body, self.keypoints)
            cost += sum(term.cost(points) for term in self.keypoint_terms)
        if self.silhouette or self.motions:
            xy = project(self.camera, parameters.points(self.body, self.surface_chains))
            if self.silhouette:
                cost += self.silhouette.cost(xy[:, : self.settings.silhouette_points])
            cost += sum(motion.cost(xy[:, : self.settings.flow_points]) for motion in self.motions)
        return cost

    def linearise(self, parameters: PoseParameters) -> NormalEquations:
        values, shape = parameters.values, parameters.shape
        system = NormalEquations(len(values), values.shape[1], self.body.num_shapes)
        if self.keypoint_terms:
            points, jacobian = parameters.points_and_jacobian(self.body, self.keypoints)
            for keypoint_term in self.keypoint_terms:
                keypoint_term.add_to(system, points, jacobian)
        if self.silhouette or self.motions:
            points, jacobian = parameters.points_and_jacobian(self.body, self.surface_chains)
            xy, rows = project(self.camera, points, jacobian)
            outline = slice(None), slice(self.settings.silhouette_points)
            if self.silhouette:
                self.silhouette.add_to(system, xy[outline], rows[outline])
            inner = slice(None), slice(self.settings.flow_points)
            for motion in self.motions:
                motion.add_to(system, xy[inner], rows[inner])
        for pose_term in self.pose_terms:
            pose_term.add_to(system, values, shape)
        self.smoothness.add_to(system, values)
        return system


def solve(problem: Problem, start: PoseParameters, steps: int) -> tuple[PoseParameters, int]:
    """Minimizes the problem's cost by Levenberg-Marquardt; ends when a step gains less than the tolerance's share of
    it. Also counts the steps."""
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
        if gain < problem.settings.tolerance:
            return here, step + 1
    return here, steps


def interpolate(values: np.ndarray, found: np.ndarray) -> np.ndarray:
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


def unwrap(vectors: np.ndarray) -> np.ndarray:
    """Rotation vectors [T, 3] moved by whole turns so that each is near the one before."""
    out = vectors.copy()
    for t in range(1, len(out)):
        angle = np.linalg.norm(out[t])
        other = out[t] * (1 - 2 * np.pi / np.maximum(angle, 1e-9))
        if np.linalg.norm(other - out[t - 1]) < np.linalg.norm(out[t] - out[t - 1]):
            out[t] = other
    return out


def mean_rotation(rotations: np.ndarray) -> np.ndarray:
    """[3, 3]: the rotation nearest to the sum of rotations [T, 3, 3] (Markley et al., 2007)."""
    u, _, vt = np.linalg.svd(rotations.sum(0))
    return u @ np.diag([1, 1, np.linalg.det(u @ vt)]) @ vt
