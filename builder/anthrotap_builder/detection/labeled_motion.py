"""How much of what moves in a clip has labels: where most has none, somebody was not found, or not labeled."""

from __future__ import annotations

from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass

import cv2
import numpy as np

from anthrotap_builder.context import ClipContext
from anthrotap_builder.detection.scene_motion import CELL, MIN_RESIDUAL, SceneMotion
from anthrotap_hf.tracks import Tracks

# Motion is measured from every n-th frame to the next.
EVERY = 16
# A cell is seen to move if the two frames, with the background's motion undone, differ there by so much on average,
# levels of 255. Flow alone reaches over contours.
MIN_CHANGE = 12.0
# The background's motion is known where this fraction of the cells follows it.
MIN_BACKGROUND = 0.1
# A cell has labels if a visible one is this near, pixels of a frame with a short side of 256 (12 of one of 480).
REACH = 6.4


@dataclass(frozen=True)
class LabeledMotion:
    """What moves otherwise than the background does, in some frames of a clip; those of several clips add up.

    Attributes:
        moving: how many cells of 8 x 8 pixels do.
        unlabeled: how many of them have no visible label near.
    """

    moving: int = 0
    unlabeled: int = 0

    def __add__(self, other: LabeledMotion) -> LabeledMotion:
        return LabeledMotion(self.moving + other.moving, self.unlabeled + other.unlabeled)

    @property
    def unlabeled_fraction(self) -> float:
        """Fraction of the moving area without labels; NaN where nothing moves."""
        return self.unlabeled / self.moving if self.moving else float("nan")


def measure_labeled_motion(context: ClipContext, tracks: Tracks) -> LabeledMotion:
    """Measure what moves in a clip, and how much of it has visible labels near."""
    total = LabeledMotion()
    with ThreadPoolExecutor(context.threads) as pool:
        for t in range(0, len(context.frames) - 1, EVERY):
            moving = _moving_cells(context.frames[t : t + 2], pool)
            empty = np.ones(moving.shape, np.uint8)
            columns, rows = (tracks.xy[tracks.visible[:, t], t] // CELL).astype(int).T
            empty[rows, columns] = 0
            # In cells, to the nearest one with a label.
            distance = cv2.distanceTransform(empty, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
            far = (distance * CELL > REACH * context.unit) | (not tracks.visible[:, t].any())
            total += LabeledMotion(int(moving.sum()), int((moving & far).sum()))
    return total


def _moving_cells(pair: np.ndarray, pool: Executor) -> np.ndarray:
    """[h, w] bool, the cells of the first of two frames [2, H, W, 3] that are seen to move against the background."""
    motion = SceneMotion.of(pair, pool)
    moving, still = motion.moving(0), motion.residual[0] <= MIN_RESIDUAL
    if still.mean() < MIN_BACKGROUND:
        return np.zeros_like(moving)
    # An affine motion of the background, from pixel to pixel in OpenCV's coordinates, by least squares.
    height, width = pair.shape[1:3]
    rows, columns = moving.shape
    x, y = np.meshgrid(np.arange(columns) * CELL + CELL / 2 - 0.5, np.arange(rows) * CELL + CELL / 2 - 0.5)
    here = np.stack([x[still], y[still], np.ones(np.count_nonzero(still))], axis=1)
    affine, *_ = np.linalg.lstsq(here, here[:, :2] + motion.forward[0][still], rcond=None)
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    undone = cv2.warpAffine(pair[1], affine.T, (width, height), flags=flags, borderMode=cv2.BORDER_REPLICATE)
    change = cv2.absdiff(pair[0], undone).max(2).astype(np.float32)
    # Cells at the border may reach out of the frame.
    change = cv2.copyMakeBorder(change, 0, rows * CELL - height, 0, columns * CELL - width, cv2.BORDER_REPLICATE)
    return moving & (cv2.resize(change, (columns, rows), interpolation=cv2.INTER_AREA) > MIN_CHANGE)
