"""Crops show the square around a box; the crop's camera and the frame's agree on where points project to."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter

from anthrotap_builder.geometry.camera import Camera
from anthrotap_builder.mesh_recovery.crops import (
    CROP_SIZE,
    DEVIATION,
    MEAN,
    crop_person,
    crop_to_frame_translation,
    overlaps_frame,
    square_of,
)


def ramp(height: int = 400, width: int = 600) -> np.ndarray:
    """A frame whose red encodes x and whose green encodes y, in thirds of a raster pixel's level."""
    x, y = np.meshgrid(np.arange(width) + 0.5, np.arange(height) + 0.5)
    return np.stack([x / width * 255, y / height * 255, 0 * x], -1).round().astype(np.uint8)


def levels(crop: np.ndarray) -> np.ndarray:
    """[256, 256, 3] levels of a normalized crop."""
    return (crop.transpose(1, 2, 0) * DEVIATION + MEAN) * 255


def test_a_crop_spans_the_square_around_its_box():
    crop = levels(crop_person(ramp(), np.array([250.0, 60.0, 330.0, 260.0])))
    assert crop.shape == (CROP_SIZE, CROP_SIZE, 3)
    # The square: x from 190 to 390, y from 60 to 260.
    x = 190 + (np.arange(CROP_SIZE) + 0.5) * 200 / CROP_SIZE
    y = 60 + (np.arange(CROP_SIZE) + 0.5) * 200 / CROP_SIZE
    np.testing.assert_allclose(crop[100, :, 0], x / 600 * 255, atol=0.8)
    np.testing.assert_allclose(crop[:, 100, 1], y / 400 * 255, atol=0.8)


def test_crops_are_black_beyond_the_frame():
    crop = levels(crop_person(np.full((100, 100, 3), 200, np.uint8), np.array([-50.0, 0.0, 50.0, 100.0])))
    np.testing.assert_allclose(crop[:, : CROP_SIZE // 2 - 2], 0, atol=1e-3)
    # At the frame's own border it fades to black over a pixel of the frame.
    np.testing.assert_allclose(crop[3:-3, CROP_SIZE // 2 + 2 :], 200, atol=1e-3)


def test_strong_downscaling_blurs_first():
    stripes = np.zeros((1200, 1200, 3), np.uint8)
    stripes[:, ::2] = 255  # too fine to be resolved
    crop = levels(crop_person(stripes, np.array([0.0, 0.0, 1200.0, 1200.0])))
    inner = crop[20:-20, 20:-20]
    assert np.ptp(inner) < 110
    assert abs(inner.mean() - 127.5) < 3
    small = np.zeros((500, 500, 3), np.uint8)
    small[:, ::2] = 255
    sharp = levels(crop_person(small, np.array([0.0, 0.0, 500.0, 500.0])))
    assert np.ptp(sharp) > 200  # 500 / 512 is not much


def test_the_blur_is_a_gaussian_to_4_sigma_that_continues_the_edge():
    frame = np.random.default_rng(0).integers(0, 255, (768, 768, 3)).astype(np.uint8)
    crop = levels(crop_person(frame, np.array([0.0, 0.0, 768.0, 768.0])))
    blurred = gaussian_filter(frame.astype(np.float64), (0.25, 0.25, 0), mode="nearest", truncate=4)
    # Three pixels of the frame are one of the crop, whose middle is the middle one's.
    np.testing.assert_allclose(crop, blurred[1::3, 1::3], atol=2e-2)


@pytest.mark.parametrize(
    ("box", "message"),
    [
        ((10, 10, 10, 50), "with an area"),
        ((np.nan, 0, 10, 10), "with an area"),
        ((50, 10, 40, 50), "with an area"),
        ((700, 10, 800, 50), "lies outside the frame of 600 x 400 pixels"),
        ((10, -60, 50, -10), "lies outside the frame"),
    ],
)
def test_a_box_without_a_crop_is_rejected(box, message):
    with pytest.raises(ValueError, match=message):
        crop_person(ramp(), np.array(box, np.float32))
    inside = (-50, -50, 1, 1)
    assert overlaps_frame(np.array([box, inside], np.float32), (400, 600)).tolist() == [False, True]


@given(
    scale=st.floats(0.3, 1.5),
    shift=st.tuples(st.floats(-0.3, 0.3), st.floats(-0.3, 0.3)),
    corner=st.tuples(st.floats(0, 300), st.floats(0, 200)),
    side=st.floats(50, 300),
)
def test_a_point_projects_to_one_position_through_both_the_crop_and_the_frame_camera(scale, shift, corner, side):
    """Weak perspective in the crop, a long lens in the frame: they agree for points at the body's depth."""
    box = np.array([[*corner, corner[0] + side, corner[1] + side]])
    pred_cam = np.array([[scale, *shift]])
    camera = Camera(12_000.0, 640, 480)
    translation = crop_to_frame_translation(pred_cam, box, camera)
    points = np.array([[0.0, 0.0, 0.0], [0.4, -0.7, 0.0], [-0.3, 0.9, 0.0]])
    in_crop = (scale * (points[:, :2] + shift) + 1) / 2  # of its side
    center, length = square_of(box)
    expected = center - length / 2 + in_crop * length
    np.testing.assert_allclose(camera.project(points + translation), expected, atol=1e-6)
