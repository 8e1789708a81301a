"""Who is where: each person of a clip, frame by frame, as landmarks and a mask."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass
class PersonTrack:
    """One person over a clip.

    Attributes:
        landmarks: [T, 33, 3] float32, BlazePose's 33 landmarks as x, y in raster pixels and a confidence in
            [0, 1]. NaN in frames where the person was not found.
        world_landmarks: [T, 33, 3] float32, metres, relative to the middle of the hips, x right, y down,
            z away from the camera. NaN in the same frames.
        mask: [T, H, W] bool, the person's pixels as the landmark network saw them; False where not found.
    """

    landmarks: np.ndarray
    world_landmarks: np.ndarray
    mask: np.ndarray

    @property
    def found(self) -> np.ndarray:
        """[T] bool: the frames in which the person was found."""
        return np.isfinite(self.landmarks[:, 0, 0])
