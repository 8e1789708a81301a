"""Lucas and Kanade's optical flow at single points, and the patches around them, in raster pixels."""

from __future__ import annotations

import cv2
import numpy as np

# Side of the compared squares, pixels, and levels of the pyramid besides the image itself; a point is done after so
# many iterations, or at a smaller change, pixels.
WINDOW = 21
LEVELS = 3
ITERATIONS = 30
MIN_CHANGE = 0.01
# OpenCV's maps have no more rows than this.
MAX_ROWS = 32_000


def lucas_kanade(
    first: np.ndarray,
    second: np.ndarray,
    xy: np.ndarray,
    window: int = WINDOW,
    levels: int = LEVELS,
    stop: tuple[int, float] = (ITERATIONS, MIN_CHANGE),
) -> tuple[np.ndarray, np.ndarray]:
    """Find points of one image in another by the pyramidal method (Bouguet 2001, as OpenCV has it).

    Args:
        first, second: [H, W] uint8.
        xy: [N, 2] float, raster pixels of the first.
        window: side of the squares that are compared, pixels.
        levels: of the pyramid, besides the images themselves.
        stop: after so many iterations, or at a smaller change in pixels.

    Returns:
        [N, 2] float32, raster pixels of the second, which may be outside of it, and [N] bool, whether they were found.
    """
    if not len(xy):
        return np.zeros((0, 2), np.float32), np.zeros(0, bool)
    criteria = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, *stop)
    # OpenCV's first pixel center is at (0, 0), that of raster coordinates at (0.5, 0.5).
    start = (np.asarray(xy) - 0.5).astype(np.float32)[:, None]
    moved, found, _ = cv2.calcOpticalFlowPyrLK(
        first, second, start, None, winSize=(window, window), maxLevel=levels, criteria=criteria
    )
    return moved[:, 0] + np.float32(0.5), found[:, 0] > 0


def patches(image: np.ndarray, xy: np.ndarray, side: int, spacing: float = 1.0) -> np.ndarray:
    """Cut squares out of an image [H, W] or [H, W, C] uint8, sampled between pixels; beyond its border as at it.

    Args:
        image: [H, W] or [H, W, C] uint8.
        xy: [N, 2] float, their centers, raster pixels.
        side: samples, odd.
        spacing: of the samples, pixels.

    Returns:
        [N, side, side] or [N, side, side, C] float32.
    """
    offsets = (np.arange(side, dtype=np.float32) - side // 2) * np.float32(spacing)
    found = np.zeros((len(xy), side * side, *image.shape[2:]), np.float32)
    for begin in range(0, len(xy), MAX_ROWS):
        center = (np.asarray(xy[begin : begin + MAX_ROWS]) - 0.5).astype(np.float32)
        x = center[:, :1] + np.tile(offsets, side)
        y = center[:, 1:] + np.repeat(offsets, side)
        # A row of the map for each square.
        found[begin : begin + MAX_ROWS] = cv2.remap(image, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return found.reshape(-1, side, side, *image.shape[2:])


def correlation(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """[N] float, how alike patches [N, side, side] look: normalized cross-correlation, at most 1; 0 for bare ones."""
    a, b = (each - each.mean((1, 2), keepdims=True) for each in (a, b))
    scale = np.sqrt((a**2).sum((1, 2)) * (b**2).sum((1, 2)))
    alike: np.ndarray = (a * b).sum((1, 2)) / np.maximum(scale, 1e-6)
    return alike
