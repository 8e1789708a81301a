"""Optical flow behind one small interface, and what it says of the motion of a body's points."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Protocol, TypeVar

import cv2
import numpy as np
from numba import njit

from anthrotap_builder.config import FlowSettings
from anthrotap_builder.flow.dis import DISFlow
from anthrotap_builder.utils.torch_threads import one_torch_thread

MARGIN = 24  # pixels around a body that guided flow may use
FILL = 25  # pixels from a point up to which its predicted motion is taken over


Result = TypeVar("Result")


class Flow(Protocol):
    """Estimates flow. Several threads may use one at once; what it says of a pair depends on nothing else."""

    def __call__(self, first: np.ndarray, second: np.ndarray) -> np.ndarray:
        """[H, W, 2] float32 pixel displacements (x, y), sampled at the pixel centers of `first`; it is the caller's.

        Args:
            first, second: [H, W, 3] uint8 RGB.
        """
        ...


def _raft(settings: FlowSettings, device: str) -> Flow:
    from anthrotap_builder.flow.raft import load_raft  # torch takes seconds to import

    return load_raft(settings, device)


FLOWS: dict[str, Callable[[FlowSettings, str], Flow]] = {
    "dis": lambda settings, device: DISFlow(settings.preset),  # OpenCV has the CPU only
    "raft": _raft,
}


@dataclass(frozen=True)
class TrackFlow:
    """What flow says of tracks' motion from each frame to the next.

    Attributes:
        displacement: [N, T - 1, 2] float32 pixels, from the track's place; NaN where unknown.
        fb_error: [N, T - 1] float32 pixels, by how much going there and coming back misses the start; NaN likewise.
    """

    displacement: np.ndarray
    fb_error: np.ndarray


def for_each_pair(
    work: Callable[[Flow, int], Result],
    pairs: Iterable[int],
    settings: FlowSettings,
    threads: int,
    device: str = "cpu",
) -> list[Result]:
    """What `work` says of each frame pair, given the flow of the settings; in order.

    Args:
        work: is called with the flow and one of `pairs`, by several threads at once.
        pairs: numbers of frame pairs.
        settings: which flow, and how.
        threads: how many pairs are worked on at once; the result does not depend on it.
        device: where a flow that is a network runs, as torch names it.

    Raises:
        ImportError, AssetError: if the flow needs a package or weights that are not to be had.
    """
    flow = FLOWS[settings.model](settings, device)
    with (
        one_torch_thread() if settings.model == "raft" else nullcontext(),
        ThreadPoolExecutor(threads) as pool,
    ):
        return list(pool.map(partial(work, flow), pairs))


def track_flow(
    frames: np.ndarray,
    xy: np.ndarray,
    visible: np.ndarray,
    settings: FlowSettings,
    threads: int = 2,
    device: str = "cpu",
) -> TrackFlow:
    """Flow at tracks, between neighboring frames, guided by the tracks themselves.

    Args:
        frames: [T, H, W, 3] uint8 RGB.
        xy: [N, T, 2] float32, raster pixels; NaN where there is no label.
        visible: [N, T] bool.
        settings, threads, device: as for `for_each_pair`, whose errors are raised here too.
    """
    steps = len(frames) - 1
    found = TrackFlow(np.empty((len(xy), steps, 2), np.float32), np.empty((len(xy), steps), np.float32))

    def work(flow: Flow, t: int) -> None:
        pair = slice(t, t + 2)
        found.displacement[:, t], found.fb_error[:, t] = guided_displacement(
            flow, frames[t], frames[t + 1], xy[:, pair], visible[:, pair]
        )

    for_each_pair(work, range(steps), settings, threads, device)
    return found


def sample_flow(flow: np.ndarray, xy: np.ndarray) -> np.ndarray:
    """[N, 2] float32: flow [H, W, 2] at raster places [N, 2], bilinear; the edge's value beyond it, NaN at NaN."""
    places = (xy - 0.5).astype(np.float32)  # OpenCV's first pixel center is (0, 0)
    known = np.all(np.isfinite(places), axis=-1)
    values = _interpolate(flow, np.where(known[:, None], places, 0))
    values[~known] = np.nan
    return values


def _interpolate(flow: np.ndarray, places: np.ndarray) -> np.ndarray:
    """[N, 2] float32: flow [H, W, 2] at places [N, 2] as OpenCV counts them, bilinear; the edge's value beyond it."""
    values = np.empty((len(places), 2), np.float32)
    limit = 32_000  # cv2.remap takes no more rows
    for first in range(0, len(places), limit):
        part = places[first : first + limit, None]
        values[first : first + limit] = cv2.remap(
            flow, part, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
        )[:, 0]
    return values


def guided_displacement(
    flow: Flow,
    first: np.ndarray,
    second: np.ndarray,
    xy: np.ndarray,
    seen: np.ndarray,
    count: int | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """How points of a body move between two frames: flow that is guided by a prediction of it.

    The second frame is warped by the predicted motion of all points that show; flow then only has to find the
    remainder, which it can over many frames and through fast motion.

    Args:
        flow: which flow.
        first, second: [H, W, 3] uint8 RGB.
        xy: [N, 2, 2] float32, raster places of the points in the first and in the second frame, as predicted; NaN
            where unknown.
        seen: [N, 2] bool, which of them show.
        count: how many of the points, the first ones, are measured; all when left out.

    Returns:
        displacement: [count, 2] float32 pixels, from the points' places in the first frame; NaN where unknown.
        fb_error: [count] float32 pixels, by how much going there and coming back misses the start; NaN likewise.
    """
    count = len(xy) if count is None else count
    known = np.isfinite(xy).all((1, 2))
    places = xy[known & seen.any(1)]
    if not len(places):
        return np.full((count, 2), np.nan, np.float32), np.full(count, np.nan, np.float32)
    limit = np.array(first.shape[1::-1])
    low = np.clip(places.min((0, 1)) - MARGIN, 0, np.maximum(limit - 64, 0)).astype(int)
    high = np.clip(places.max((0, 1)) + MARGIN, low + 64, limit).astype(int)
    window = slice(low[1], high[1]), slice(low[0], high[0])
    here, there = (xy - low).transpose(1, 0, 2)
    ahead = _flow_beyond(flow, first[window], second[window], here, there, known & seen[:, 0], here[:count])
    after = here[:count] + ahead
    back = _flow_beyond(flow, second[window], first[window], there, here, known & seen[:, 1], after)
    return ahead, np.linalg.norm(ahead + back, axis=1)


def _flow_beyond(
    flow: Flow,
    first: np.ndarray,
    second: np.ndarray,
    first_xy: np.ndarray,
    second_xy: np.ndarray,
    visible: np.ndarray,
    xy: np.ndarray,
) -> np.ndarray:
    """[N, 2] float32: flow from `first` to `second` at raster places `xy` [N, 2] of `first`, NaN at NaN; found after
    taking away the motion of the surface points."""
    predicted, there = _spread(first_xy[visible], (second_xy - first_xy)[visible], first.shape[:2])
    warped = cv2.remap(second, there, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    whole = flow(first, warped)
    # The pixel at x went to x + rest(x) in the warped frame, which shows the second frame at that place plus its
    # predicted motion. That sum is taken where it is asked for: at the four pixels around each place.
    corners = np.nan_to_num(np.floor(xy - 0.5))[:, None] + np.array([[0, 0], [1, 0], [0, 1], [1, 1]])
    pixels = np.clip(corners.reshape(-1, 2), 0, [first.shape[1] - 1, first.shape[0] - 1]).astype(np.intp)
    columns, rows = pixels.T
    rest = whole[rows, columns]
    whole[rows, columns] = rest + _interpolate(predicted, pixels.astype(np.float32) + rest)
    return sample_flow(whole, xy)


def _spread(xy: np.ndarray, values: np.ndarray, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """[h, w, 2] float32: at each pixel the value of the nearest point within FILL pixels, else zero; and the pixel's
    place plus it, as OpenCV counts places."""
    height, width = size
    inside = ((xy >= 0) & (xy < [width, height])).all(1) & np.isfinite(values).all(1)
    columns, rows = xy[inside].astype(np.intp).T
    free = np.ones(size, np.uint8)
    free[rows, columns] = 0
    distance, label = cv2.distanceTransformWithLabels(free, cv2.DIST_L2, 3, labelType=cv2.DIST_LABEL_PIXEL)
    table = np.zeros((int(label.max()) + 1, 2), np.float32)
    table[label[rows, columns]] = values[inside]
    return _look_up(distance, label, table)


@njit(cache=True, nogil=True)
def _look_up(distance, label, table):
    spread = np.zeros((*label.shape, 2), np.float32)
    places = np.empty((*label.shape, 2), np.float32)
    for y in range(label.shape[0]):
        for x in range(label.shape[1]):
            if distance[y, x] <= FILL:
                spread[y, x, 0] = table[label[y, x], 0]
                spread[y, x, 1] = table[label[y, x], 1]
            places[y, x, 0] = np.float32(x) + spread[y, x, 0]
            places[y, x, 1] = np.float32(y) + spread[y, x, 1]
    return spread, places
