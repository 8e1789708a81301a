"""Optical flow at a fitted body's surface points, for the fit to agree with."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import cv2
import numpy as np

from anthrotap_builder.context import ClipContext
from anthrotap_builder.flow import Flow
from anthrotap_builder.flow.track_flow import flow_images, for_each_pair, guided_displacement
from anthrotap_builder.geometry.surface import SurfacePoints
from anthrotap_builder.geometry.visibility import visible_points
from anthrotap_builder.mesh_recovery.kinematics import PoseParameters
from anthrotap_builder.mesh_recovery.terms import FlowMotion

# Frames between the two ends of a measurement -> step between measurements. A short lag sees fast motion, a long one
# slow
# drift; a second pass over flow gains half a point of average delta for half as much time again.
FLOW_LAGS = {1: 1, 8: 2}
# Surface points at which flow is measured, and how many landmarks they count for together in each frame pair.
FLOW_POINTS = 240
FLOW_WEIGHT = 240.0
# Error of flow, and the forward-backward error up to which it counts: pixels of a frame with a short side of 256;
# both are
# larger by a factor over more than one frame.
SIGMA_FLOW = 0.45
FB_THRESHOLD = 0.8
LONG_LAG_FACTOR = 1.5
# The surface agrees with flow in a step if the median error is at most so much, pixels of such a frame; that is known
# if so large a fraction of the points counts.
MAX_STEP_ERROR = 1.5
MIN_KNOWN = 0.1
# Side of the square by which a mask is eroded: points nearer to its edge do not count, pixels.
MASK_EROSION = 5


def measure_motion(
    context: ClipContext, surface: SurfacePoints, parameters: PoseParameters, mask: np.ndarray | None
) -> tuple[FlowMotion, ...]:
    """Measure flow at the first FLOW_POINTS surface points, over each of FLOW_LAGS.

    The later frame is first warped by the fit's own motion; flow then only has to find the remainder, which it can over
    many frames and through fast motion. A point counts where it is visible and well inside the mask at both ends, and
    where the forward-backward error is small.

    Args:
        context: the clip.
        surface: points spread over the body: frames are warped by the motion of all of them.
        parameters: the fit so far.
        mask: [T, H, W] bool, the person's pixels; None: unknown, then points count wherever they are visible.
    """
    body, camera = context.body_model, context.camera
    vertices = body.pose_vertices(parameters.posed(body))
    xy = camera.project(surface.positions(vertices, body.faces)).transpose(1, 0, 2).astype(np.float32)

    def see(mesh: np.ndarray) -> np.ndarray:
        return visible_points([mesh], [body.faces], [surface])[0]

    with ThreadPoolExecutor(context.threads) as pool:
        visible = np.stack(list(pool.map(see, vertices)), axis=1) & camera.contains(xy)
    points = _Points(context, flow_images(context), xy, visible, visible & _well_inside(mask, xy))
    motions = []
    for lag, step in FLOW_LAGS.items():
        start = np.arange(0, len(context.frames) - lag, step)
        if not len(start):
            continue

        def work(flow: Flow, t: int, lag: int = lag) -> tuple[np.ndarray, np.ndarray]:
            return points.displacement(flow, t, t + lag)

        displacement, good = map(np.stack, zip(*for_each_pair(context, work, start.tolist()), strict=True))
        weights = good * (FLOW_WEIGHT / FLOW_POINTS)
        sigma = points.pixels(SIGMA_FLOW, lag)
        motions.append(FlowMotion(lag, start, displacement.astype(np.float64), weights, sigma))
    return tuple(motions)


def agreement(motions: tuple[FlowMotion, ...], points: np.ndarray, context: ClipContext) -> np.ndarray:
    """Return whether the surface moves to the next frame as flow does: [T - 1] float, 1 or 0, NaN if unknown.

    Args:
        motions: what `measure_motion` gave.
        points: [T, FLOW_POINTS or more, 3], the surface points where the fit has them.
        context: the clip.
    """
    agrees = np.full(len(points) - 1, np.nan)
    for motion in motions:
        if motion.lag != 1:
            continue
        moved = np.diff(context.camera.project(points[:, :FLOW_POINTS]), axis=0)
        for t, flow, weights in zip(motion.start, motion.flow, motion.weights, strict=True):
            known = weights > 0
            if known.sum() >= MIN_KNOWN * FLOW_POINTS:
                error = np.linalg.norm(moved[t] - flow, axis=-1)[known]
                agrees[t] = np.median(error) <= MAX_STEP_ERROR * context.unit
    return agrees


def _well_inside(mask: np.ndarray | None, xy: np.ndarray) -> np.ndarray:
    """Return [N, T] bool: which positions [N, T, 2] lie in the eroded mask; all without one."""
    if mask is None:
        return np.ones(xy.shape[:2], bool)
    height, width = mask.shape[1:]
    kernel = np.ones((MASK_EROSION, MASK_EROSION), np.uint8)
    columns, rows = np.clip(np.nan_to_num(xy), 0, [width - 1, height - 1]).astype(np.intp).transpose(2, 1, 0)
    # Frame by frame: all eroded masks would take as much memory as the masks.
    inside = [
        cv2.erode(each.view(np.uint8), kernel)[row, column]
        for each, row, column in zip(mask, rows, columns, strict=True)
    ]
    return np.stack(inside, axis=1) > 0


@dataclass(frozen=True)
class _Points:
    """Surface points in the images, which flow is measured on: xy [N, T, 2], and where they are visible and usable,
    [N, T] bool."""

    context: ClipContext
    images: list[np.ndarray]
    xy: np.ndarray
    visible: np.ndarray
    usable: np.ndarray

    def pixels(self, threshold: float, lag: int) -> float:
        """Return a threshold in pixels of this clip's frames."""
        return threshold * self.context.unit * (1.0 if lag == 1 else LONG_LAG_FACTOR)

    def displacement(self, flow: Flow, first: int, second: int) -> tuple[np.ndarray, np.ndarray]:
        """Return displacements [FLOW_POINTS, 2] from one frame to another, and which are reliable [FLOW_POINTS]
        bool."""
        both = self.usable[:FLOW_POINTS, first] & self.usable[:FLOW_POINTS, second]
        if not both.any():
            return np.zeros((FLOW_POINTS, 2), np.float32), both
        ends = [first, second]
        displacement, fb_error = guided_displacement(
            flow, self.images[first], self.images[second], self.xy[:, ends], self.visible[:, ends], FLOW_POINTS
        )
        limit = self.pixels(FB_THRESHOLD, second - first)
        return np.nan_to_num(displacement), both & (np.nan_to_num(fb_error, nan=np.inf) < limit)
