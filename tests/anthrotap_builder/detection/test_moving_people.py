"""People who move as the detector does not know them, made of a real person's picture."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from anthrotap_builder.config import LabelingConfig
from anthrotap_builder.context import ClipContext
from anthrotap_builder.detection import detect_people
from anthrotap_hf.video import iter_frames

# The person stands, and then turns over on the spot by so many degrees a frame.
STANDING, TURN, COUNT = 12, 20, 30


@pytest.fixture(scope="module")
def turning_over(clips_dir) -> tuple[np.ndarray, np.ndarray]:
    """Frames [T, H, W, 3] of a person who turns over on a plain wall, and the angle in each, degrees."""
    picture = next(iter(iter_frames(clips_dir / "juggle.mp4"))).image
    height, width = picture.shape[:2]
    (person,) = detect_people(ClipContext.of(np.stack([picture] * 12), 24.0, LabelingConfig(), 1))
    mask = cv2.GaussianBlur(person.mask[0].astype(np.float32), (0, 0), 1.5)[..., None]
    rows, columns = np.nonzero(person.mask[0])
    center = (float(columns.mean()), float(rows.mean()))
    rng = np.random.default_rng(0)
    wall = cv2.GaussianBlur(rng.integers(90, 170, (height, width, 3)).astype(np.uint8), (0, 0), 4).astype(np.float32)
    angles = np.clip(np.arange(COUNT) - STANDING, 0, 180 // TURN) * float(TURN)
    frames = []
    for angle in angles:
        turn = cv2.getRotationMatrix2D(center, -angle, 0.7)
        turn[:, 2] += np.array([width / 2, height / 2]) - center
        size = (width, height)
        there = cv2.warpAffine(mask, turn, size)[..., None]
        frames.append(wall * (1 - there) + cv2.warpAffine(picture, turn, size).astype(np.float32) * there)
    return np.stack(frames).round().astype(np.uint8), angles


@pytest.mark.slow
def test_a_person_who_turns_over_is_followed(turning_over):
    frames, angles = turning_over
    people = detect_people(ClipContext.of(frames, 24.0, LabelingConfig(), 2))
    assert len(people) == 1
    found = people[0].found
    assert found.sum() >= 0.9 * len(frames)
    shoulders, hips = (people[0].landmarks[found][:, pair, :2].mean(1) for pair in ([11, 12], [23, 24]))
    up = shoulders - hips
    # From up, clockwise in the picture.
    angle = np.degrees(np.arctan2(up[:, 0], -up[:, 1]))
    off = (angle - angles[found] + 180) % 360 - 180
    assert np.abs(off).max() < 30
