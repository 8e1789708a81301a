"""Lucas and Kanade's flow at single points, and the patches around them."""

import cv2
import numpy as np
import pytest

from anthrotap_builder.flow.lucas_kanade import correlation, lucas_kanade, patches


@pytest.fixture
def texture() -> np.ndarray:
    noise = np.random.default_rng(3).integers(0, 256, (80, 100)).astype(np.float32)
    return cv2.normalize(cv2.GaussianBlur(noise, (0, 0), 1.5), None, 0, 255, cv2.NORM_MINMAX).astype(np.uint8)


def test_points_go_with_the_picture(texture):
    shift = np.array([3.25, -2.5])
    moved = cv2.warpAffine(texture, np.array([[1, 0, shift[0]], [0, 1, shift[1]]]), texture.shape[::-1])
    xy = np.array([[30.5, 40.5], [60.2, 30.7]])
    there, found = lucas_kanade(texture, moved, xy)
    assert found.all()
    np.testing.assert_allclose(there - xy, np.tile(shift, (2, 1)), atol=0.05)
    for result, shape in zip(lucas_kanade(texture, moved, xy[:0]), ((0, 2), (0,)), strict=True):
        assert result.shape == shape


def test_patches_are_centered_on_raster_pixels(texture):
    centers = np.array([[20.5, 10.5], [50.0, 30.5], [0.5, 0.5]])
    whole, between, corner = patches(texture, centers, 5)
    np.testing.assert_array_equal(whole, texture[8:13, 18:23])
    np.testing.assert_allclose(between, (texture[28:33, 47:52].astype(float) + texture[28:33, 48:53]) / 2, atol=0.5)
    # Beyond the border the picture goes on as it ends.
    np.testing.assert_array_equal(corner[:3, :3], np.full((3, 3), texture[0, 0]))
    assert patches(texture, centers[:0], 5).shape == (0, 5, 5)
    assert patches(texture, np.tile(centers[:1], (40_000, 1)), 3).shape == (40_000, 3, 3)


def test_correlation_ignores_brightness(texture):
    (patch,) = patches(texture, np.array([[20.5, 10.5]]), 5)
    alike = correlation(np.stack([patch] * 3), np.stack([0.5 * patch + 9, -patch, np.full((5, 5), 7.0)]))
    assert alike == pytest.approx([1, -1, 0], abs=1e-5)
