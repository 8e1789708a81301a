"""A body over a whole track as a least-squares problem: its terms, their linear system, and Levenberg-Marquardt."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from anthrotap_builder.bodies.body import Body
from anthrotap_builder.context import ClipContext
from anthrotap_builder.geometry.surface import SurfacePoints
from anthrotap_builder.mesh_recovery.kinematics import PointChains, PoseParameters
from anthrotap_builder.mesh_recovery.motion import FLOW_POINTS
from anthrotap_builder.mesh_recovery.normal_equations import NormalEquations
from anthrotap_builder.mesh_recovery.terms import (
    SILHOUETTE_POINTS,
    FlowMotion,
    Silhouette,
    Smoothness,
    project,
)

# Points on the body, whose motion guides optical flow.
SURFACE_POINTS = 1024
# Levenberg-Marquardt: steps with the silhouette, and after flow was measured; the relative gain of a step below which
# they
# end; damping at first, its factors after a rejected and after an accepted step, and its bounds.
SILHOUETTE_ITERATIONS = 4
FLOW_ITERATIONS = 4
TOLERANCE = 3e-3
DAMPING = 1e-2
DAMPING_UP, DAMPING_DOWN = 6, 5
MAX_DAMPING, MIN_DAMPING = 1e6, 1e-6


class KeypointTerm(Protocol):
    """A term over the body's keypoints [T, K, 3]."""

    def cost(self, points: np.ndarray) -> float: ...
    def add_to(self, system: NormalEquations, points: np.ndarray, jacobian: np.ndarray) -> None: ...


class PoseTerm(Protocol):
    """A term over the pose [T, P] and the shape [S]."""

    def cost(self, values: np.ndarray, shape: np.ndarray) -> float: ...
    def add_to(self, system: NormalEquations, values: np.ndarray, shape: np.ndarray) -> None: ...


@dataclass(frozen=True)
class Problem:
    """The objective of a body over a track: the sum of its terms (see `terms`).

    Attributes:
        context: the clip.
        body: that is fitted.
        keypoints: the body's keypoints.
        surface: points spread over the body.
        surface_chains: the first of them, as points that the fit can move.
        smoothness, pose_terms, keypoint_terms: terms.
        silhouette: of the first SILHOUETTE_POINTS surface points, if any.
        motions: of the first FLOW_POINTS surface points.
    """

    context: ClipContext
    body: Body
    keypoints: PointChains
    surface: SurfacePoints
    surface_chains: PointChains
    smoothness: Smoothness
    pose_terms: tuple[PoseTerm, ...]
    keypoint_terms: tuple[KeypointTerm, ...] = ()
    silhouette: Silhouette | None = None
    motions: tuple[FlowMotion, ...] = ()

    @classmethod
    def of(
        cls,
        context: ClipContext,
        pose_terms: tuple[PoseTerm, ...],
        keypoint_terms: tuple[KeypointTerm, ...] = (),
    ) -> Problem:
        """Make a problem of smoothness and these terms, without a silhouette and flow."""
        body = context.body_model
        surface = body.surface_points(SURFACE_POINTS, seed=1)
        # Farthest-point sampling: the first points are themselves spread evenly.
        moved = surface.first(max(SILHOUETTE_POINTS, FLOW_POINTS))
        return cls(
            context,
            body,
            PointChains.of(body, body.keypoints),
            surface,
            PointChains.of(body, body.body_points(moved)),
            Smoothness.of(context.fps, body.num_joints),
            pose_terms,
            keypoint_terms,
        )

    def cost(self, parameters: PoseParameters) -> float:
        """Return the sum of all terms."""
        values, shape = parameters.values, parameters.shape
        cost = self.smoothness.cost(values) + sum(term.cost(values, shape) for term in self.pose_terms)
        if self.keypoint_terms:
            points = parameters.points(self.body, self.keypoints)
            cost += sum(term.cost(points) for term in self.keypoint_terms)
        if self.silhouette or self.motions:
            xy = project(self.context.camera, parameters.points(self.body, self.surface_chains))
            if self.silhouette:
                cost += self.silhouette.cost(xy[:, :SILHOUETTE_POINTS])
            cost += sum(motion.cost(xy[:, :FLOW_POINTS]) for motion in self.motions)
        return cost

    def linearize(self, parameters: PoseParameters) -> NormalEquations:
        """Return the normal equations of all terms at `parameters`."""
        values, shape = parameters.values, parameters.shape
        system = NormalEquations(len(values), values.shape[1], self.body.num_shapes)
        if self.keypoint_terms:
            points, jacobian = parameters.points_and_jacobian(self.body, self.keypoints)
            for keypoint_term in self.keypoint_terms:
                keypoint_term.add_to(system, points, jacobian)
        if self.silhouette or self.motions:
            points, jacobian = parameters.points_and_jacobian(self.body, self.surface_chains)
            xy, rows = project(self.context.camera, points, jacobian)
            if self.silhouette:
                self.silhouette.add_to(system, xy[:, :SILHOUETTE_POINTS], rows[:, :SILHOUETTE_POINTS])
            for motion in self.motions:
                motion.add_to(system, xy[:, :FLOW_POINTS], rows[:, :FLOW_POINTS])
        for pose_term in self.pose_terms:
            pose_term.add_to(system, values, shape)
        self.smoothness.add_to(system, values)
        return system


def solve(problem: Problem, start: PoseParameters, max_steps: int) -> tuple[PoseParameters, int]:
    """Minimize the problem's cost by Levenberg-Marquardt, until a step gains less than TOLERANCE of it.

    Returns:
        The parameters, and the number of steps taken.
    """
    current, cost, damping = start, problem.cost(start), DAMPING
    for step in range(max_steps):
        system = problem.linearize(current)
        # Raise the damping until a step lowers the cost.
        while True:
            change, shape_change = system.solve(damping)
            candidate = PoseParameters(current.values + change, current.shape + shape_change, current.reference)
            new_cost = problem.cost(candidate)
            if new_cost < cost:
                break
            damping *= DAMPING_UP
            if damping > MAX_DAMPING:
                return current, step
        gain = (cost - new_cost) / cost
        current, cost, damping = candidate, new_cost, max(damping / DAMPING_DOWN, MIN_DAMPING)
        if gain < TOLERANCE:
            return current, step + 1
    return current, max_steps
