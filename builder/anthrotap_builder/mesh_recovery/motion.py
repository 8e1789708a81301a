"""What optical flow says of a fitted body's motion, so that the fit can be asked to agree with it."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import cv2
import numpy as np

from anthrotap_builder.bodies.body import Body
from anthrotap_builder.context import ClipContext
from anthrotap_builder.flow import Flow
from anthrotap_builder.flow.track_flow import for_each_pair, guided_displacement
from anthrotap_builder.geometry.surface import SurfacePoints
from anthrotap_builder.geometry.visibility import visible_points
from anthrotap_builder.mesh_recovery.kinematics import PoseParameters
from anthrotap_builder.mesh_recovery.terms import Motion

# Surface points whose flow the fit agrees with, and how many landmarks they count for together in each frame pair.
FLOW_POINTS = 240
FLOW_WEIGHT = 240.0
# Error of flow, and the forward-backward error up to which it counts: pixels of a frame with a short side of 256.
SIGMA_FLOW = 0.45
FB_THRESHOLD = 0.8


@dataclass(frozen=True)
class MotionObserver:
    """Measures flow at a fitted body's surface points, on what the fit leaves over.

    The later frame is first warped by the fit's own motion; flow then only has to find the remainder, which it can
    over many frames and through fast motion. A point counts where it is visible and well inside the mask at both
    ends, and where going and coming back agree.

    Attributes:
        context: the clip.
        body: the body model.
        surface: points spread over the body: the motion of all of them is what frames are warped by. Flow is measured
            at the first FLOW_POINTS of them.
        mask: [T, H, W] bool, the person's pixels; None: unknown.
    """

    context: ClipContext
    body: Body
    surface: SurfacePoints
    mask: np.ndarray | None

    def observe(self, parameters: PoseParameters, lags: dict[int, int]) -> list[Motion]:
        """Flow over each of `lags` (frames between the two ends -> step between pairs), given the fit as it stands."""
        vertices = self.body.pose_vertices(parameters.posed(self.body))
        xy = self.context.camera.project(self.surface.positions(vertices, self.body.faces))
        xy = xy.transpose(1, 0, 2).astype(np.float32)

        def see(mesh: np.ndarray) -> np.ndarray:
            return visible_points([mesh], [self.body.faces], [self.surface])[0]

        with ThreadPoolExecutor(self.context.threads) as pool:
            visible = list(pool.map(see, vertices))
        seen = np.stack(visible, axis=1) & self.context.camera.contains(xy)
        usable = seen & self._sure(xy)
        motions = []
        for lag, step in lags.items():
            start = np.arange(0, len(self.context.frames) - lag, step)
            if not len(start):
                continue

            def work(flow: Flow, t: int, lag: int = lag) -> tuple[np.ndarray, np.ndarray]:
                return self._measure(flow, xy, seen, usable, t, t + lag)

            measured = for_each_pair(self.context, work, start)
            displacement, good = (np.stack(part) for part in zip(*measured, strict=True))
            motions.append(
                Motion(
                    lag=lag,
                    start=start,
                    flow=displacement.astype(np.float64),
                    weights=good * (FLOW_WEIGHT / FLOW_POINTS),
                    sigma=self._pixels(SIGMA_FLOW, lag),
                )
            )
        return motions

    def _pixels(self, threshold: float, lag: int) -> float:
        """A threshold in pixels of a frame with a short side of 256, in this frame's; laxer over more frames."""
        return threshold * self.context.unit * (1.0 if lag == 1 else 1.5)

    def _sure(self, xy: np.ndarray) -> np.ndarray:
        """[N, T] bool: well inside the mask, where there is one."""
        if self.mask is None:
            return np.ones(xy.shape[:2], bool)
        kernel = np.ones((5, 5), np.uint8)
        cells = np.clip(
            np.nan_to_num(xy), 0, [self.context.camera.width - 1, self.context.camera.height - 1]
        ).astype(np.intp)
        eroded = np.stack([cv2.erode(mask.astype(np.uint8), kernel) for mask in self.mask]) > 0
        return eroded[np.arange(len(eroded)), cells[..., 1], cells[..., 0]]

    def _measure(
        self, flow: Flow, xy: np.ndarray, seen: np.ndarray, usable: np.ndarray, first: int, second: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """Displacement [n, 2] of the points that the fit uses, from one frame to another, and whether it is good."""
        count = FLOW_POINTS
        both = usable[:count, first] & usable[:count, second]
        if not both.any():
            return np.zeros((count, 2), np.float32), both
        displacement, fb_error = guided_displacement(
            flow,
            self.context.frames[first],
            self.context.frames[second],
            xy[:, [first, second]],
            seen[:, [first, second]],
            count,
        )
        allowed = self._pixels(FB_THRESHOLD, second - first)
        return np.nan_to_num(displacement), both & (np.nan_to_num(fb_error, nan=np.inf) < allowed)
