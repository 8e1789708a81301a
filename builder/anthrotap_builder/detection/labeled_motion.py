"""How much of what moves in a clip has labels: where most has none, somebody was not found, or not labeled."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import cv2
import numpy as np

from anthrotap_builder.context import ClipContext
from anthrotap_builder.detection.scene_motion import CELL, SceneMotion
from anthrotap_hf.tracks import Tracks

# Motion is measured from every n-th frame to the next.
EVERY = 16
# A cell has labels if a visible one is this near, pixels of a frame with a short side of 256.
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
            moving = SceneMotion.of(context.frames[t : t + 2], pool).moving(0)
            empty = np.ones(moving.shape, np.uint8)
            columns, rows = (tracks.xy[tracks.visible[:, t], t] // CELL).astype(int).T
            empty[rows, columns] = 0
            # In cells, to the nearest one with a label; where there is none, further than any distance in the frame.
            distance = cv2.distanceTransform(empty, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
            far = distance * CELL > REACH * context.unit if tracks.visible[:, t].any() else np.ones_like(moving)
            total += LabeledMotion(int(moving.sum()), int((moving & far).sum()))
    return total
