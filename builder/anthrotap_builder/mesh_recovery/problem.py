"""A body over a whole track as a least-squares problem: its terms, their linear system, and Levenberg-Marquardt."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from anthrotap_builder.bodies.body import Body
from anthrotap_builder.context import ClipContext
from anthrotap_builder.geometry.camera import Camera
from anthrotap_builder.geometry.surface import SurfacePoints
from anthrotap_builder.mesh_recovery.kinematics import PointChains, PoseParameters
from anthrotap_builder.mesh_recovery.motion import FLOW_POINTS, MotionObserver
from anthrotap_builder.mesh_recovery.normal_equations import NormalEquations
from anthrotap_builder.mesh_recovery.terms import Motion, Silhouette, Smoothness, project

# Frames between the two ends of a flow measurement -> step between measurements. A short lag sees fast motion, a
# long one slow drift; a second pass over flow gains half a point of average delta for half as much time again.
FLOW_LAGS = {1: 1, 8: 2}
SURFACE_POINTS = 1024
# Surface points that must stay inside the mask, how many landmarks they count for together, and the error of the mask
# as a fraction of the person's size.
SILHOUETTE_POINTS = 160
SILHOUETTE_WEIGHT = 60.0
SIGMA_SILHOUETTE = 0.008
# Smoothness, at 30 frames a second: rotations of joints in radians a frame^2 and radians a frame, the root's position
# in meters a frame^2.
SIGMA_ACCELERATION = 0.10
SIGMA_VELOCITY = 1.0
SIGMA_ROOT_ACCELERATION = 0.03
# Weight of the shape prior for each frame.
SHAPE_WEIGHT = 1 / 16
# Levenberg-Marquardt steps with the silhouette, and after the measurement of flow; and the relative gain of a step
# below which they end.
SILHOUETTE_ITERATIONS = 4
FLOW_ITERATIONS = 4
TOLERANCE = 3e-3


class PointTerm(Protocol):
    """What the body's keypoints [T, K, 3] are asked to agree with."""

    def cost(self, points: np.ndarray) -> float: ...
    def add_to(self, system: NormalEquations, points: np.ndarray, jacobian: np.ndarray) -> None: ...


class PoseTerm(Protocol):
    """What the pose [T, P] and the shape [S] are asked to agree with."""

    def cost(self, values: np.ndarray, shape: np.ndarray) -> float: ...
    def add_to(self, system: NormalEquations, values: np.ndarray, shape: np.ndarray) -> None: ...


def body_model(context: ClipContext) -> Body:
    """Return the body of a clip. Raises ValueError if it is a surface that cannot be posed."""
    if not isinstance(context.body, Body):
        raise ValueError(f"{context.body.name} is a surface without a pose: it cannot be fitted")
    return context.body


@dataclass(frozen=True)
class Problem:
    """What a body over a track is asked to agree with.

    Attributes:
        context: the clip; its body is the one that is fitted.
        keypoints: the body's keypoints.
        surface: points spread over the body, whose motion pictures are warped by.
        surface_chains: the first of them, as points that the fit can move.
        keypoint_terms, pose_terms, smoothness: see `terms`.
        silhouette: for the first SILHOUETTE_POINTS surface points; None asks for none.
        motions: for the first FLOW_POINTS surface points.
    """

    context: ClipContext
    body: Body
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
        context: ClipContext,
        pose_terms: tuple[PoseTerm, ...],
        keypoint_terms: tuple[PointTerm, ...] = (),
    ) -> Problem:
        """Smoothness, and these terms; no silhouette and no flow yet."""
        body = body_model(context)
        # Farthest-point sampling: the first points are themselves spread evenly.
        surface = body.surface_points(SURFACE_POINTS, seed=1)
        count = max(SILHOUETTE_POINTS, FLOW_POINTS)
        pace = (context.fps / 30) ** 2
        rotations = np.full(3 * body.num_joints, 1.0)
        still, free = np.full(3, SIGMA_ROOT_ACCELERATION), np.zeros(3)
        acceleration = pace / np.concatenate([still, rotations * SIGMA_ACCELERATION])
        velocity = np.sqrt(pace) * np.concatenate([free, rotations / SIGMA_VELOCITY])
        return cls(
            context,
            body,
            PointChains.of(body, body.keypoints),
            surface,
            PointChains.of(body, body.body_points(surface.first(count))),
            Smoothness(acceleration**2, velocity**2),
            pose_terms,
            keypoint_terms,
        )

    def with_silhouette(self, people_mask: np.ndarray, found: np.ndarray, size: np.ndarray) -> Problem:
        """The same, and surface points stay inside the mask of all people.

        Args:
            people_mask: [T, H, W] bool, all people's masks together.
            found: [T] bool, the frames in which the person has a mask.
            size: [T, 1] the person's size, pixels.
        """
        sigma = np.maximum(SIGMA_SILHOUETTE * size, 1.0)
        weight = SILHOUETTE_WEIGHT / SILHOUETTE_POINTS
        return replace(self, silhouette=Silhouette.of(people_mask, found, sigma, weight))

    def with_flow(self, parameters: PoseParameters, mask: np.ndarray | None) -> Problem:
        """The same, and surface points move as flow says, which is measured around the pose at hand.

        Args:
            parameters: the pose at hand.
            mask: [T, H, W] bool, the person's pixels, outside which flow counts for nothing; None: unknown.
        """
        observer = MotionObserver(self.context, self.body, self.surface, mask)
        return replace(self, motions=tuple(observer.observe(parameters, FLOW_LAGS)))

    @property
    def camera(self) -> Camera:
        return self.context.camera

    def cost(self, parameters: PoseParameters) -> float:
        values, shape = parameters.values, parameters.shape
        cost = self.smoothness.cost(values) + sum(term.cost(values, shape) for term in self.pose_terms)
        if self.keypoint_terms:
            points = parameters.points(self.body, self.keypoints)
            cost += sum(term.cost(points) for term in self.keypoint_terms)
        if self.silhouette or self.motions:
            xy = project(self.camera, parameters.points(self.body, self.surface_chains))
            if self.silhouette:
                cost += self.silhouette.cost(xy[:, :SILHOUETTE_POINTS])
            cost += sum(motion.cost(xy[:, :FLOW_POINTS]) for motion in self.motions)
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
            outline = slice(None), slice(SILHOUETTE_POINTS)
            if self.silhouette:
                self.silhouette.add_to(system, xy[outline], rows[outline])
            inner = slice(None), slice(FLOW_POINTS)
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
        if gain < TOLERANCE:
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
