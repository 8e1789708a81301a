"""What optical flow says of a fitted body's motion, so that the fit can be asked to agree with it."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import cv2
import numpy as np

from anthrotap_builder.bodies.body import Body
from anthrotap_builder.config import FitSettings, FlowSettings
from anthrotap_builder.flow import Flow, for_each_pair, guided_displacement
from anthrotap_builder.geometry.camera import Camera
from anthrotap_builder.geometry.surface import SurfacePoints
from anthrotap_builder.geometry.visibility import visible_points
from anthrotap_builder.mesh_recovery.kinematics import PoseParameters
from anthrotap_builder.mesh_recovery.terms import Motion


@dataclass(frozen=True)
class MotionObserver:
    """Measures flow at a fitted body's surface points, on what the fit leaves over.

    The later frame is first warped by the fit's own motion; flow then only has to find the remainder, which it can
    over many frames and through fast motion. A point counts where it is visible and well inside the mask at both
    ends, and where going and coming back agree.

    Attributes:
        frames: [T, H, W, 3] uint8 RGB.
        mask: [T, H, W] bool, the person's pixels; None: unknown.
        body: the body model.
        surface: points spread over the body: the motion of all of them is what frames are warped by.
        camera: of the clip.
        flow: which flow.
        settings: thresholds; flow is asked for at the first `flow_points` of the surface points.
        threads: how many pairs are worked on at once.
        device: where a flow that is a network runs, as torch names it.
    """

    frames: np.ndarray
    mask: np.ndarray | None
    body: Body
    surface: SurfacePoints
    camera: Camera
    flow: FlowSettings
    settings: FitSettings
    threads: int
    device: str = "cpu"

    def observe(self, parameters: PoseParameters, lags: dict[int, int]) -> list[Motion]:
        """Flow over each of `lags` (frames between the two ends -> step between pairs), given the fit as it stands."""
        vertices = self.body.pose_vertices(parameters.posed(self.body))
        xy = self.camera.project(self.surface.positions(vertices, self.body.faces))
        xy = xy.transpose(1, 0, 2).astype(np.float32)

        def see(mesh: np.ndarray) -> np.ndarray:
            return visible_points([mesh], [self.body.faces], [self.surface])[0]

        with ThreadPoolExecutor(self.threads) as pool:
            visible = list(pool.map(see, vertices))
        seen = np.stack(visible, axis=1) & self.camera.contains(xy)
        usable = seen & self._sure(xy)
        motions = []
        for lag, step in lags.items():
            start = np.arange(0, len(self.frames) - lag, step)
            if not len(start):
                continue

            def work(flow: Flow, t: int, lag: int = lag) -> tuple[np.ndarray, np.ndarray]:
                return self._measure(flow, xy, seen, usable, t, t + lag)

            measured = for_each_pair(work, start, self.flow, self.threads, self.device)
            displacement, good = (np.stack(part) for part in zip(*measured, strict=True))
            motions.append(
                Motion(
                    lag=lag,
                    start=start,
                    flow=displacement.astype(np.float64),
                    weights=good * (self.settings.flow_weight / self.settings.flow_points),
                    sigma=self._pixels(self.settings.sigma_flow, lag),
                )
            )
        return motions

    def _pixels(self, threshold: float, lag: int) -> float:
        """A threshold in pixels of a frame with a short side of 256, in this frame's; laxer over more frames."""
        return threshold * min(self.camera.height, self.camera.width) / 256 * (1.0 if lag == 1 else 1.5)

    def _sure(self, xy: np.ndarray) -> np.ndarray:
        """[N, T] bool: well inside the mask, where there is one."""
        if self.mask is None:
            return np.ones(xy.shape[:2], bool)
        kernel = np.ones((5, 5), np.uint8)
        cells = np.clip(np.nan_to_num(xy), 0, [self.camera.width - 1, self.camera.height - 1]).astype(np.intp)
        eroded = np.stack([cv2.erode(mask.astype(np.uint8), kernel) for mask in self.mask]) > 0
        return eroded[np.arange(len(eroded)), cells[..., 1], cells[..., 0]]

    def _measure(
        self, flow: Flow, xy: np.ndarray, seen: np.ndarray, usable: np.ndarray, first: int, second: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """Displacement [n, 2] of the points that the fit uses, from one frame to another, and whether it is good."""
        count = self.settings.flow_points
        both = usable[:count, first] & usable[:count, second]
        if not both.any():
            return np.zeros((count, 2), np.float32), both
        displacement, fb_error = guided_displacement(
            flow,
            self.frames[first],
            self.frames[second],
            xy[:, [first, second]],
            seen[:, [first, second]],
            count,
        )
        allowed = self._pixels(self.settings.fb_threshold, second - first)
        return np.nan_to_num(displacement), both & (np.nan_to_num(fb_error, nan=np.inf) < allowed)
