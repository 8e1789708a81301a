"""Who is where: each person of a clip, frame by frame, as a box; by some detectors also as landmarks and a mask."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module

import numpy as np

from anthrotap_builder.config import PeopleSettings

# A detector is a module with detect_people(frames, settings, threads, device), imported when asked for.
DETECTORS = {
    "blazepose": "anthrotap_builder.detection.blazepose",
    "boxes": "anthrotap_builder.detection.boxes",
}


@dataclass
class PersonTrack:
    """One person over a clip.

    Attributes:
        boxes: [T, 4] float32, left, top, right and bottom of the person in raster pixels; NaN in frames where the
            person was not found.
        landmarks: [T, 33, 3] float32, BlazePose's 33 landmarks as x, y in raster pixels and a confidence in
            [0, 1]; NaN in the same frames. None if the detector has none.
        world_landmarks: [T, 33, 3] float32, meters, relative to the middle of the hips, x right, y down,
            z away from the camera; NaN in the same frames. None likewise.
        mask: [T, H, W] bool, the person's pixels; False where not found. None likewise.
    """

    boxes: np.ndarray
    landmarks: np.ndarray | None = None
    world_landmarks: np.ndarray | None = None
    mask: np.ndarray | None = None

    @property
    def found(self) -> np.ndarray:
        """[T] bool: the frames in which the person was found."""
        return np.isfinite(self.boxes[:, 0])


def masks_of(people: list[PersonTrack]) -> list[np.ndarray]:
    """Each person's mask. Raises ValueError if they were found by a detector that has none."""
    masks = [person.mask for person in people if person.mask is not None]
    if len(masks) != len(people):
        raise ValueError(
            "masks of the people are needed, and this detector gives none: detect with blazepose"
        )
    return masks


def anyone(people: list[PersonTrack]) -> np.ndarray:
    """[T, H, W] bool: the pixels of all people together. Raises ValueError as `masks_of` does, or for nobody."""
    masks = {id(mask): mask for mask in masks_of(people)}  # people without pixels may share their mask
    if not masks:
        raise ValueError("nobody has a mask here")
    together = np.zeros_like(next(iter(masks.values())))
    for mask in masks.values():
        together |= mask
    return together


def detect_people(
    frames: np.ndarray, settings: PeopleSettings, threads: int = 2, device: str = "cpu"
) -> list[PersonTrack]:
    """Every person of a clip, each followed through it; nothing is smoothed over time.

    Args:
        frames: [T, H, W, 3] uint8 RGB.
        settings: which detector, and its thresholds.
        threads: how many frames are looked at side by side; the result does not depend on it.
        device: where a detector of torch runs, as torch names it.

    Returns:
        One track a person, longest first; empty if nobody is there.

    Raises:
        ValueError: if `frames` has another shape or dtype, or `threads` is below 1.
        AssetError: if the detector's network files are not to be had.
        ImportError: if it needs a package that is not installed.
    """
    if frames.ndim != 4 or frames.shape[-1] != 3 or frames.dtype != np.uint8 or not frames.size:
        raise ValueError(
            f"frames must be [T, H, W, 3] uint8 and not empty, got {frames.shape} {frames.dtype}"
        )
    if threads < 1:
        raise ValueError(f"threads must be at least 1, got {threads}")
    return import_module(DETECTORS[settings.detector]).detect_people(frames, settings, threads, device)
