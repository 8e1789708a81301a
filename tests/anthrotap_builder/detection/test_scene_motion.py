"""Motion of a picture: a square that moves over a background that moves otherwise."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
import pytest

from anthrotap_builder.detection.scene_motion import CELL, SceneMotion

PAN, STEP = 3, 8


@pytest.fixture(scope="module")
def motion() -> SceneMotion:
    """The background moves 3 pixels left a frame, the square 8 pixels right."""
    rng = np.random.default_rng(0)
    texture = cv2.resize(rng.integers(0, 255, (80, 140, 3), dtype=np.uint8), (560, 320))
    patch = cv2.resize(rng.integers(0, 255, (20, 20, 3), dtype=np.uint8), (80, 80))
    frames = []
    for t in range(6):
        frame = texture[:240, PAN * t : PAN * t + 400].copy()
        frame[80:160, 120 + STEP * t : 200 + STEP * t] = patch
        frames.append(frame)
    with ThreadPoolExecutor(1) as pool:
        return SceneMotion.of(np.stack(frames), pool)


def test_what_moves_otherwise_than_the_background_is_found(motion):
    moving = motion.moving(3)
    inside = moving[80 // CELL : 160 // CELL, 144 // CELL : 224 // CELL]
    assert inside.mean() > 0.9
    assert moving.sum() < 2.5 * inside.size


def test_masks_and_points_go_where_the_picture_goes(motion):
    cells = np.zeros(motion.residual.shape[1:], bool)
    cells[10:20, 15:25] = True
    # Flow reaches over contours by about a cell in four frames.
    for frame, to, least in ((0, 1, 0.75), (1, 0, 0.75), (0, 4, 0.55), (4, 0, 0.55)):
        moved = motion.carry_cells(np.roll(cells, frame, 1), frame, to)
        expected = np.roll(cells, to, 1)
        assert (moved & expected).sum() / (moved | expected).sum() > least
    points = motion.carry_points(np.array([[160.0, 120.0], [40.0, 40.0]]), 0, 4)
    np.testing.assert_allclose(points, [[160 + 4 * STEP, 120], [40 - 4 * PAN, 40]], atol=6)


def test_one_frame_has_no_motion():
    with ThreadPoolExecutor(1) as pool:
        motion = SceneMotion.of(np.zeros((1, 48, 64, 3), np.uint8), pool)
    assert motion.forward.shape == (0, 6, 8, 2)
    assert not motion.moving(0).any()
