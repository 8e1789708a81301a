"""Poses between two looks, on a picture whose motion is known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from anthrotap_builder.detection.blazepose_networks import LANDMARK_SIZE, Pose, Region, cells_of
from anthrotap_builder.detection.pose_interpolation import agree, interpolate
from anthrotap_builder.detection.scene_motion import SceneMotion

ROWS, COLUMNS = 30, 50
STEP = 6.0


@pytest.fixture(scope="module")
def motion() -> SceneMotion:
    """The whole picture moves 6 pixels right in each of four steps."""
    flow = np.zeros((4, ROWS, COLUMNS, 2), np.float32)
    flow[..., 0] = STEP
    return SceneMotion(flow, -flow, np.zeros((5, ROWS, COLUMNS), np.float32))


def pose(t: int, x: float = 0.0) -> Pose:
    """A person who goes with the picture, and `x` pixels further right; the mask is a disc of 30 pixels."""
    region = Region(150 + STEP * t + x, 120, 200, 0.0)
    rng = np.random.default_rng(0)
    landmarks = np.column_stack([rng.uniform(-70, 70, (33, 2)) + (region.x, region.y), np.ones(33)]).astype(np.float32)
    axis = (np.arange(LANDMARK_SIZE) + 0.5) / LANDMARK_SIZE * region.size - region.size / 2
    mask = np.clip(30 - np.hypot(*np.meshgrid(axis, axis)), -1, 1).astype(np.float32)
    return Pose(
        landmarks=landmarks,
        size=160.0,
        angle=0.0,
        appearance=np.ones(64, np.float32) / 8,
        cells=cells_of(mask, region, (ROWS, COLUMNS)),
        pose_score=1.0,
        detector_score=0.9,
        region=region,
        next_region=region,
        world_landmarks=np.zeros((33, 3), np.float32),
        mask=mask,
        layer=0,
    )


def test_who_goes_with_the_picture_is_interpolated(motion):
    first, last = pose(0), pose(4)
    assert agree(motion, first, 0, last, 4)
    between = interpolate(motion, first, 0, last, 4, 1)
    expected = pose(1)
    np.testing.assert_allclose(between.landmarks, expected.landmarks, atol=0.01)
    window, confidence = between.frame_mask(8 * ROWS, 8 * COLUMNS)
    expected_window, expected_confidence = expected.frame_mask(8 * ROWS, 8 * COLUMNS)
    assert window == expected_window
    assert ((confidence > 0) != (expected_confidence > 0)).sum() < 0.02 * (expected_confidence > 0).sum()
    np.testing.assert_array_equal(between.cells, expected.cells)
    assert between.detector_score == 0


def test_errors_of_both_ends_cancel(motion):
    # The picture lags behind the person by 2 pixels over the gap.
    between = interpolate(motion, pose(0), 0, pose(2, x=2), 2, 1)
    np.testing.assert_allclose(between.landmarks[:, 0], pose(1, x=1).landmarks[:, 0], atol=0.01)


@pytest.mark.parametrize("change", ["elsewhere", "arm", "mask", "turned round", "unsure"])
def test_who_changes_is_looked_at_again(motion, change):
    first, last = pose(0), pose(4)
    if change == "elsewhere":
        last = pose(4, x=12)
    elif change == "arm":
        last.landmarks[15, 1] += 20
    elif change == "mask":
        last = replace(last, mask=np.where(np.arange(LANDMARK_SIZE) > 140, -1, last.mask).astype(np.float32))
    elif change == "turned round":
        last = replace(last, world_landmarks=last.world_landmarks + np.float32(0.2))
    else:
        last.landmarks[:, 2] = 0.1
    assert not agree(motion, first, 0, last, 4)


def test_a_long_gap_must_agree_better(motion):
    assert agree(motion, pose(0), 0, pose(1, x=4.5), 1)
    assert not agree(motion, pose(0), 0, pose(4, x=4.5), 4)
