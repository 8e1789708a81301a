"""Who is where: each person of a clip, frame by frame, as landmarks and a mask."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module

import numpy as np

from anthrotap_builder.config import PeopleSettings

# A detector is a module with find_people(frames, settings, threads), imported when asked for.
DETECTORS = {
    "blazepose": "anthrotap_builder.people.blazepose",
}


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


def find_people(frames: np.ndarray, settings: PeopleSettings, threads: int = 2) -> list[PersonTrack]:
    """Every person of a clip, each followed through it; nothing is smoothed over time.

    Args:
        frames: [T, H, W, 3] uint8 RGB.
        settings: which detector, and its thresholds.
        threads: how many frames are looked at side by side; the result does not depend on it.

    Returns:
        One track a person, longest first; empty if nobody is there.

    Raises:
        ValueError: if `frames` has another shape or dtype, `threads` is below 1, or the detector is unknown.
        AssetError: if the detector's network files are not to be had.
    """
    if frames.ndim != 4 or frames.shape[-1] != 3 or frames.dtype != np.uint8 or not frames.size:
        raise ValueError(
            f"frames must be [T, H, W, 3] uint8 and not empty, got {frames.shape} {frames.dtype}"
        )
    if threads < 1:
        raise ValueError(f"threads must be at least 1, got {threads}")
    if settings.detector not in DETECTORS:
        raise ValueError(f"no people detector {settings.detector!r}; there are: {', '.join(DETECTORS)}")
    return import_module(DETECTORS[settings.detector]).find_people(frames, settings, threads)
