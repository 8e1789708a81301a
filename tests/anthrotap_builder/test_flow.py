import numpy as np
import pytest

from anthrotap_builder.config import FlowSettings
from anthrotap_builder.flow import neighbour_flow, sample_flow


def shifted_noise(frames: int, shift: tuple[int, int], size: tuple[int, int] = (96, 128)) -> np.ndarray:
    """Texture that moves by `shift` = (x, y) pixels a frame."""
    import cv2

    rng = np.random.default_rng(0)
    wide = cv2.GaussianBlur(rng.integers(0, 255, (400, 400, 3)).astype(np.uint8), (0, 0), 2)
    wide = cv2.normalize(wide, None, 0, 255, cv2.NORM_MINMAX)
    return np.stack(
        [wide[150 - t * shift[1] :, 150 - t * shift[0] :][: size[0], : size[1]] for t in range(frames)]
    )


@pytest.mark.parametrize("shift", [(3, 0), (0, -2), (-4, 5)])
def test_flow_has_the_sign_scale_and_axes_of_the_motion(shift: tuple[int, int]):
    frames = shifted_noise(3, shift)
    forward, backward = neighbour_flow(frames, FlowSettings())
    assert forward.shape == (2, 96, 128, 2)
    inner = forward[:, 20:-20, 20:-20]
    np.testing.assert_allclose(np.median(inner, axis=(0, 1, 2)), shift, atol=0.2)
    np.testing.assert_allclose(
        np.median(backward[:, 20:-20, 20:-20], axis=(0, 1, 2)), -np.array(shift), atol=0.2
    )


def test_flow_does_not_depend_on_threads():
    frames = shifted_noise(4, (2, 1))
    np.testing.assert_array_equal(
        neighbour_flow(frames, FlowSettings(), 1), neighbour_flow(frames, FlowSettings(), 3)
    )


def test_sampling_is_bilinear_between_pixel_centres():
    flow = np.zeros((4, 6, 2), np.float32)
    flow[..., 0], flow[..., 1] = np.arange(6)[None], 10 * np.arange(4)[:, None]
    xy = np.array([[0.5, 0.5], [1.0, 0.5], [2.5, 1.75], [0.0, 9.0], [np.nan, 1.0]])
    got = sample_flow(flow, xy)
    np.testing.assert_allclose(got[:4], [[0, 0], [0.5, 0], [2, 12.5], [0, 30]], atol=0.02)
    assert np.isnan(got[4]).all()


def test_one_frame_has_no_flow():
    forward, _ = neighbour_flow(np.zeros((1, 32, 32, 3), np.uint8), FlowSettings())
    assert forward.shape == (0, 32, 32, 2)
