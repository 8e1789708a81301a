"""Dense optical flow between neighbouring frames, behind one small interface."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol

import cv2
import numpy as np

from anthrotap_builder.config import FlowSettings


class Flow(Protocol):
    """Estimates flow. An instance is used by one thread at a time."""

    def __call__(self, first: np.ndarray, second: np.ndarray) -> np.ndarray:
        """[H, W, 2] float32 pixel displacements (x, y), sampled at the pixel centres of `first`.

        Args:
            first, second: [H, W, 3] uint8 RGB.
        """
        ...


class DISFlow:
    """Dense Inverse Search (Kroeger et al., ECCV 2016), OpenCV's implementation: the open default."""

    def __init__(self, preset: str) -> None:
        self._preset = {
            "ultrafast": cv2.DISOPTICAL_FLOW_PRESET_ULTRAFAST,
            "fast": cv2.DISOPTICAL_FLOW_PRESET_FAST,
            "medium": cv2.DISOPTICAL_FLOW_PRESET_MEDIUM,
        }[preset]

    def __call__(self, first: np.ndarray, second: np.ndarray) -> np.ndarray:
        # A displacement is the same whether the first pixel's centre is (0, 0), as in OpenCV, or (0.5, 0.5).
        gray, next_gray = (cv2.cvtColor(image, cv2.COLOR_RGB2GRAY) for image in (first, second))
        # An estimator remembers a little of the pair before, and labels must not depend on the order of work.
        return cv2.DISOpticalFlow.create(self._preset).calc(gray, next_gray, None)


FLOWS: dict[str, Callable[[FlowSettings], Flow]] = {"dis": lambda settings: DISFlow(settings.preset)}


def neighbour_flow(
    frames: np.ndarray, settings: FlowSettings, threads: int = 2
) -> tuple[np.ndarray, np.ndarray]:
    """Flow from each frame to the next, and back.

    Args:
        frames: [T, H, W, 3] uint8 RGB.
        settings: which flow, and how.
        threads: how many frame pairs are worked on at once; the result does not depend on it.

    Returns:
        forward, backward: [T - 1, H, W, 2] float32; forward[t] leads from frame t to t + 1, backward[t] from t + 1
        to t. Pixels, sampled at pixel centres.
    """
    steps, height, width = len(frames) - 1, *frames.shape[1:3]
    forward = np.empty((steps, height, width, 2), np.float32)
    backward = np.empty_like(forward)

    def work(share: range) -> None:
        flow = FLOWS[settings.model](settings)
        for t in share:
            forward[t] = flow(frames[t], frames[t + 1])
            backward[t] = flow(frames[t + 1], frames[t])

    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(work, [range(first, steps, threads) for first in range(threads)]))
    return forward, backward


def sample_flow(flow: np.ndarray, xy: np.ndarray) -> np.ndarray:
    """[N, 2] float32: flow [H, W, 2] at raster places [N, 2], bilinear; the edge's value beyond it, NaN at NaN."""
    places = (xy - 0.5).astype(np.float32)  # OpenCV's first pixel centre is (0, 0)
    known = np.all(np.isfinite(places), axis=-1)
    places = np.where(known[:, None], places, 0)
    values = np.empty((len(xy), 2), np.float32)
    limit = 32_000  # cv2.remap takes no more rows
    for first in range(0, len(xy), limit):
        part = places[first : first + limit]
        values[first : first + limit] = cv2.remap(
            flow, part[:, 0], part[:, 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
        ).reshape(-1, 2)
    values[~known] = np.nan
    return values
