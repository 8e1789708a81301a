"""Optical flow at tracks: how the points of a body move from frame to frame, guided by a prediction of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import cv2
import numpy as np
from numba import njit

from anthrotap_builder.context import ClipContext
from anthrotap_builder.flow import Flow
from anthrotap_builder.registries import FLOWS
from anthrotap_builder.utils.torch_threads import one_torch_thread

# Frames between the two ends of a measurement -> step between measurements. Neighboring frames are compared for every
# motion; frames further apart hold a slow drift, which sums of small errors would hide.
LAGS = {1: 1, 8: 4, 24: 8}
# The forward-backward error may be larger by this fraction of the motion: as in Sundaram et al., "Dense Point
# Trajectories by GPU-accelerated Large Displacement Optical Flow" (ECCV 2010), who compare squares with 0.01.
RELATIVE_FB_ERROR = 0.1
# Pixels around a body that guided flow may use.
WINDOW_MARGIN = 24
# Pixels from a point up to which its predicted motion is taken over.
MAX_SPREAD = 25
# Side of the cells in which the nearest point is looked up, pixels.
SPREAD_STEP = 2

Pair = TypeVar("Pair")
Result = TypeVar("Result")


@dataclass(frozen=True)
class TrackFlow:
    """Flow at tracks over a number of frames.

    Attributes:
        lag: frames between the two ends.
        start: [n] int, the earlier frames.
        displacement: [N, n, 2] float32 pixels, from the track's position; NaN where unknown.
        fb_error: [N, n] float32 pixels, the forward-backward error: the distance from the start after the flow
            forth and back; NaN likewise.
    """

    lag: int
    start: np.ndarray
    displacement: np.ndarray
    fb_error: np.ndarray

    def within(self, threshold: float, relative: float = RELATIVE_FB_ERROR) -> np.ndarray:
        """Return [N, n] bool: whether the forward-backward error is at most `threshold` pixels plus this fraction of
        the motion; False where it is unknown."""
        limit = threshold + relative * np.nan_to_num(np.linalg.norm(self.displacement, axis=-1))
        return np.nan_to_num(self.fb_error, nan=np.inf) <= limit


def for_each_pair(context: ClipContext, work: Callable[[Flow, Pair], Result], pairs: Iterable[Pair]) -> list[Result]:
    """Return what `work` returns for each frame pair, in order.

    Args:
        context: the clip, whose configuration says which flow.
        work: is called with the flow and one of `pairs`, by several threads at once.
        pairs: what `work` knows frame pairs by.

    Raises:
        ImportError, AssetError: the flow needs a package or weights that are missing.
    """
    settings = context.config.flow
    flow = FLOWS.load(settings.model)(settings, context.device)
    torch_threads = one_torch_thread() if settings.model == "raft" else nullcontext()
    with torch_threads, ThreadPoolExecutor(context.threads) as pool:
        return list(pool.map(partial(work, flow), pairs))


def flow_images(context: ClipContext) -> list[np.ndarray]:
    """Return the clip's frames as its flow takes them: those of DIS in gray, which is all that it knows."""
    if context.config.flow.model != "dis":
        return list(context.frames)
    return [cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in context.frames]


def track_flow(context: ClipContext, xy: np.ndarray, visible: np.ndarray) -> list[TrackFlow]:
    """Measure flow at tracks, guided by them: between neighboring frames, for the rule "drift" over all LAGS.

    Args:
        context: the clip.
        xy: [N, T, 2] float32, raster pixels; NaN where there is no label.
        visible: [N, T] bool.

    Raises:
        ImportError, AssetError: the flow needs a package or weights that are missing.
    """
    images = flow_images(context)
    found = []
    lags = LAGS if context.config.filter.rule == "drift" else {1: LAGS[1]}
    for lag, step in lags.items():
        start = np.arange(0, len(images) - lag, step)
        count = len(xy), len(start)
        found.append(TrackFlow(lag, start, np.empty((*count, 2), np.float32), np.empty(count, np.float32)))

    def work(flow: Flow, pair: tuple[int, int]) -> None:
        of_lag, index = found[pair[0]], pair[1]
        first = int(of_lag.start[index])
        ends = [first, first + of_lag.lag]
        of_lag.displacement[:, index], of_lag.fb_error[:, index] = guided_displacement(
            flow, images[ends[0]], images[ends[1]], xy[:, ends], visible[:, ends]
        )

    for_each_pair(context, work, [(number, i) for number, each in enumerate(found) for i in range(len(each.start))])
    return found


def sample_flow(flow: np.ndarray, xy: np.ndarray) -> np.ndarray:
    """Sample flow [H, W, 2] at raster positions [N, 2], bilinearly; the edge's value beyond it, NaN at NaN."""
    # OpenCV's first pixel center is (0, 0).
    pixels = (xy - 0.5).astype(np.float32)
    known = np.all(np.isfinite(pixels), axis=-1)
    values = _interpolate(flow, np.where(known[:, None], pixels, 0))
    values[~known] = np.nan
    return values


def _interpolate(flow: np.ndarray, pixels: np.ndarray) -> np.ndarray:
    """Sample flow [H, W, 2] at OpenCV's positions [N, 2], bilinearly; the edge's value beyond it."""
    values = np.empty((len(pixels), 2), np.float32)
    # cv2.remap takes no more rows.
    limit = 32_000
    for first in range(0, len(pixels), limit):
        part = pixels[first : first + limit, None]
        values[first : first + limit] = cv2.remap(flow, part, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)[
            :, 0
        ]
    return values


def guided_displacement(
    flow: Flow,
    first: np.ndarray,
    second: np.ndarray,
    xy: np.ndarray,
    visible: np.ndarray,
    count: int | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Measure how points of a body move between two frames, by flow that is guided by a prediction of it.

    The second frame is warped by the predicted motion of all visible points; flow then only has to find the
    remainder, which it can over many frames and through fast motion.

    Args:
        flow: which flow.
        first, second: images of `flow_images`.
        xy: [N, 2, 2] float32, predicted raster positions of the points in the first and in the second frame; NaN
            where unknown.
        visible: [N, 2] bool, which of them are visible.
        count: how many of the points, the first ones, are measured; all if None.

    Returns:
        displacement: [count, 2] float32 pixels, from the points' positions in the first frame; NaN where unknown.
        fb_error: [count] float32 pixels, the forward-backward error; NaN likewise.
    """
    count = len(xy) if count is None else count
    known = np.isfinite(xy).all((1, 2))
    used = xy[known & visible.any(1)]
    if not len(used):
        return np.full((count, 2), np.nan, np.float32), np.full(count, np.nan, np.float32)
    # A window around all points in both frames, at least 64 pixels wide where the frame is.
    limit = np.array(first.shape[1::-1])
    low = np.clip(used.min((0, 1)) - WINDOW_MARGIN, 0, np.maximum(limit - 64, 0)).astype(int)
    high = np.clip(used.max((0, 1)) + WINDOW_MARGIN, low + 64, limit).astype(int)
    window = slice(low[1], high[1]), slice(low[0], high[0])
    start, end = (xy - low).transpose(1, 0, 2)
    images = first[window], second[window]
    # Forward from the points' positions, then backward from where that leads.
    known_start, known_end = known & visible[:, 0], known & visible[:, 1]
    forward = _guided_flow(flow, images, start[known_start], end[known_start], start[:count])
    backward = _guided_flow(flow, images[::-1], end[known_end], start[known_end], start[:count] + forward)
    return forward, np.linalg.norm(forward + backward, axis=1)


def _guided_flow(
    flow: Flow, images: tuple[np.ndarray, ...], start: np.ndarray, end: np.ndarray, xy: np.ndarray
) -> np.ndarray:
    """Return the flow, [K, 2] float32, from the first image to the second at raster positions `xy` [K, 2]; NaN at NaN.

    Args:
        flow: which flow.
        images: two windows of `flow_images`.
        start, end: [N, 2] positions of visible points in the first image, and where the prediction moves them.
        xy: where the flow is sampled.
    """
    first, second = images
    # Warp the second image by the predicted motion, spread over the pixels around the points.
    predicted, source = _spread(start, end - start, first.shape[:2])
    warped = cv2.remap(second, source, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    total = flow(first, warped)
    # The pixel at x went to x + rest(x) in the warped image, which has the second image at that position plus its
    # predicted motion. That sum is taken where it is sampled: at the four pixels around each position.
    corners = np.nan_to_num(np.floor(xy - 0.5))[:, None] + np.array([[0, 0], [1, 0], [0, 1], [1, 1]])
    pixels = np.clip(corners.reshape(-1, 2), 0, [first.shape[1] - 1, first.shape[0] - 1]).astype(np.intp)
    columns, rows = pixels.T
    rest = total[rows, columns]
    total[rows, columns] = rest + _interpolate(predicted, pixels.astype(np.float32) + rest)
    return sample_flow(total, xy)


def _spread(xy: np.ndarray, values: np.ndarray, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Return [h, w, 2] float32: at each pixel the value of the nearest point within MAX_SPREAD pixels, else zero; and
    the pixel's position plus it, in OpenCV's coordinates. The nearest point is found for cells of SPREAD_STEP pixels,
    and values are interpolated between their centers."""
    height, width = size
    inside = ((xy >= 0) & (xy < [width, height])).all(1) & np.isfinite(values).all(1)
    columns, rows = (xy[inside] / SPREAD_STEP).astype(np.intp).T
    # The distance transform labels each cell with its nearest point, and the table has the value of each label.
    empty = np.ones((-(-height // SPREAD_STEP), -(-width // SPREAD_STEP)), np.uint8)
    empty[rows, columns] = 0
    distance, label = cv2.distanceTransformWithLabels(empty, cv2.DIST_L2, 3, labelType=cv2.DIST_LABEL_PIXEL)
    table = np.zeros((int(label.max()) + 1, 2), np.float32)
    table[label[rows, columns]] = values[inside]
    cells = _look_up(distance, label, table)
    # The last cells may reach over the edge.
    full = (cells.shape[1] * SPREAD_STEP, cells.shape[0] * SPREAD_STEP)
    spread = cv2.resize(cells, full, interpolation=cv2.INTER_LINEAR)[:height, :width]
    return spread, spread + _pixels(height, width)


@njit(cache=True, nogil=True)
def _look_up(distance, label, table):
    spread = np.zeros((*label.shape, 2), np.float32)
    for i in range(label.shape[0]):
        for j in range(label.shape[1]):
            if distance[i, j] * SPREAD_STEP <= MAX_SPREAD:
                spread[i, j, 0] = table[label[i, j], 0]
                spread[i, j, 1] = table[label[i, j], 1]
    return spread


def _pixels(height: int, width: int) -> np.ndarray:
    """Return [h, w, 2] float32, the position of each pixel in OpenCV's coordinates."""
    return np.stack(np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32)), axis=-1)
