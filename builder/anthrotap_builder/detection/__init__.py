"""Detection and tracking of people: boxes in each frame; by some detectors also landmarks and masks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from anthrotap_builder.registries import DETECTORS

if TYPE_CHECKING:
    from anthrotap_builder.context import ClipContext


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
        left_out: why the person is not to be labeled, in a few words; then there are boxes alone. None for all others.
    """

    boxes: np.ndarray
    landmarks: np.ndarray | None = None
    world_landmarks: np.ndarray | None = None
    mask: np.ndarray | None = None
    left_out: str | None = None

    @property
    def found(self) -> np.ndarray:
        """[T] bool: the frames in which the person was found."""
        return np.isfinite(self.boxes[:, 0])


def mask_box(mask: np.ndarray) -> np.ndarray:
    """Return left, top, right and bottom [4] float32 of where a mask [H, W] holds; NaN if nowhere."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    if not len(rows):
        return np.full(4, np.nan, np.float32)
    return np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1], np.float32)


def person_masks(people: list[PersonTrack]) -> list[np.ndarray]:
    """Return each person's mask, [T, H, W] bool. Raise ValueError if their detector gives none."""
    masks = [person.mask for person in people if person.mask is not None]
    if len(masks) != len(people):
        raise ValueError("masks of the people are needed, and this detector gives none: detect with blazepose")
    return masks


def union_mask(people: list[PersonTrack]) -> np.ndarray:
    """Return the pixels of all people, [T, H, W] bool. Raise ValueError if there are none, or without masks."""
    # People without pixels may share one array.
    masks = {id(mask): mask for mask in person_masks(people)}
    if not masks:
        raise ValueError("no person has a mask")
    union = np.zeros_like(next(iter(masks.values())))
    for mask in masks.values():
        union |= mask
    return union


def detect_people(context: ClipContext) -> list[PersonTrack]:
    """Detect all people of a clip and track each of them through it, by the detector of the configuration.

    Nothing is smoothed over time.

    Returns:
        One track a person, longest first; empty if no person is found. People who are left out come last.

    Raises:
        AssetError: the detector's network files are missing.
        ImportError: the detector needs a package that is not installed.
    """
    return DETECTORS.load(context.config.detection.detector)(context)
