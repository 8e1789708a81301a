"""The camera of a clip, and projection into raster pixels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Camera:
    """A pinhole camera that looks along +z, x right, y down.

    Attributes:
        focal: focal length, pixels.
        width, height: frame size, pixels; the principal point is the middle of the frame.
    """

    focal: float
    width: int
    height: int

    @classmethod
    def guess(cls, width: int, height: int, focal_ratio: float) -> Camera:
        """Guess the camera of footage of unknown origin: focal length as a multiple of the longer side.

        Depth compensates a wrong focal length: labels change by a point of average delta at most.
        """
        return cls(focal_ratio * max(width, height), width, height)

    @property
    def center(self) -> np.ndarray:
        """[2] float64, the principal point in raster pixels."""
        return np.array([self.width / 2, self.height / 2])

    def project(self, points: np.ndarray) -> np.ndarray:
        """Project points [..., 3] in camera coordinates, meters, to raster xy [..., 2]; NaN behind the camera plane."""
        depth = np.where(points[..., 2:] > 0, points[..., 2:], np.nan)
        return points[..., :2] / depth * self.focal + self.center.astype(points.dtype)

    def contains(self, xy: np.ndarray) -> np.ndarray:
        """Return which raster positions [..., 2] lie in the frame, [...] bool; NaN does not."""
        return np.all((xy >= 0) & (xy < [self.width, self.height]), axis=-1)
