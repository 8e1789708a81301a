"""How much of what moves has labels near: a square that moves over a background that moves otherwise."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from anthrotap_builder.detection.labeled_motion import EVERY, LabeledMotion, measure_labeled_motion
from anthrotap_hf.tracks import Tracks
from helpers.clip_contexts import clip_context

FRAMES, HEIGHT, WIDTH, SIDE = 2 * EVERY + 2, 240, 400, 80
PAN, STEP = 2, 4


@pytest.fixture(scope="module")
def frames() -> np.ndarray:
    """The camera turns by 2 pixels a frame, the square moves by 4."""
    rng = np.random.default_rng(0)
    texture = cv2.resize(rng.integers(0, 255, (80, 140, 3), dtype=np.uint8), (560, 320))
    patch = cv2.resize(rng.integers(0, 255, (20, 20, 3), dtype=np.uint8), (SIDE, SIDE))
    frames = []
    for t in range(FRAMES):
        frame = texture[:HEIGHT, PAN * t : PAN * t + WIDTH].copy()
        frame[80 : 80 + SIDE, 100 + STEP * t : 100 + SIDE + STEP * t] = patch
        frames.append(frame)
    return np.stack(frames)


def labels(columns: range, visible: bool = True) -> Tracks:
    """Labels at every fourth pixel of these columns of the square."""
    x, y = (grid.ravel() for grid in np.meshgrid(np.array(columns[::4]), np.arange(2, SIDE, 4)))
    xy = np.stack([100 + x[:, None] + STEP * np.arange(FRAMES), np.repeat(80 + y[:, None], FRAMES, 1)], -1)
    given = np.ones((len(x), FRAMES), bool)
    return Tracks.from_labels(xy.astype(np.float32), given & visible, given, height=HEIGHT, width=WIDTH)


def test_labels_all_over_the_square_leave_nothing(frames):
    motion = measure_labeled_motion(clip_context(frames), labels(range(2, SIDE)))
    assert 3 * 80 < motion.moving < 3 * 200  # 100 cells in each of three frames, and those at its edge
    assert motion.unlabeled < 0.1 * motion.moving


def test_without_visible_labels_all_of_it_is_left(frames):
    for tracks in (Tracks.empty(FRAMES, HEIGHT, WIDTH), labels(range(2, SIDE), visible=False)):
        motion = measure_labeled_motion(clip_context(frames), tracks)
        assert motion.moving == motion.unlabeled > 3 * 80
        assert motion.unlabeled_fraction == 1


def test_labels_on_a_quarter_leave_the_rest(frames):
    motion = measure_labeled_motion(clip_context(frames), labels(range(2, SIDE // 4)))
    assert 0.5 < motion.unlabeled_fraction < 0.8


def test_where_nothing_moves_there_is_no_fraction(frames):
    motion = measure_labeled_motion(clip_context(frames[:1].repeat(20, 0)), Tracks.empty(20, HEIGHT, WIDTH))
    assert motion == LabeledMotion(0, 0)
    assert np.isnan(motion.unlabeled_fraction)
    assert LabeledMotion(4, 1) + LabeledMotion(2, 2) == LabeledMotion(6, 3)
