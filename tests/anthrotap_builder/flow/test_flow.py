import numpy as np
import pytest

from anthrotap_builder.config import FlowSettings
from anthrotap_builder.flow.dis import load_dis
from anthrotap_builder.flow.track_flow import sample_flow, track_flow
from helpers.clip_contexts import clip_context


def shifted_noise(frames: int, shift: tuple[int, int], size: tuple[int, int] = (96, 128)) -> np.ndarray:
    """Texture that moves by `shift` = (x, y) pixels a frame."""
    import cv2

    rng = np.random.default_rng(0)
    wide = cv2.GaussianBlur(rng.integers(0, 255, (400, 400, 3)).astype(np.uint8), (0, 0), 2)
    wide = cv2.normalize(wide, None, 0, 255, cv2.NORM_MINMAX)
    return np.stack([wide[150 - t * shift[1] :, 150 - t * shift[0] :][: size[0], : size[1]] for t in range(frames)])


def moving_points(frames: int, shift: tuple[float, float], error: float = 0.0) -> np.ndarray:
    """[N, T, 2] points that move by `shift` a frame, plus a steady error in x."""
    x, y = np.meshgrid(np.arange(30, 100, 6.0), np.arange(25, 75, 6.0))
    start = np.stack([x.ravel(), y.ravel()], 1)[:, None]
    motion = np.array(shift) + [error, 0]
    return (start + np.arange(frames)[None, :, None] * motion).astype(np.float32)


@pytest.mark.parametrize("shift", [(3, 0), (0, -2), (-4, 5)])
def test_flow_has_the_sign_scale_and_axes_of_the_motion(shift: tuple[int, int]):
    first, second = shifted_noise(2, shift)
    flow = load_dis(FlowSettings(), "cpu")(first, second)
    assert flow.shape == (96, 128, 2)
    np.testing.assert_allclose(np.median(flow[20:-20, 20:-20], axis=(0, 1)), shift, atol=0.2)


@pytest.mark.parametrize("error", [0.0, 0.7, -2.0])
def test_flow_finds_the_errors_of_the_tracks(error: float):
    frames = shifted_noise(4, (3, -1))
    xy = moving_points(4, (3, -1), error)
    found = track_flow(clip_context(frames), xy, np.ones(xy.shape[:2], bool))[0]
    assert found.displacement.shape == (len(xy), 3, 2)
    np.testing.assert_allclose(np.median(found.displacement, axis=(0, 1)), (3, -1), atol=0.1)
    assert np.median(found.fb_error) < 0.2


def test_a_good_prediction_carries_flow_over_motion_that_it_could_not_find_alone():
    motion = (40, 10)
    frames = shifted_noise(2, motion)
    xy = moving_points(2, motion)[:30]
    alone = sample_flow(load_dis(FlowSettings(), "cpu")(*frames), xy[:, 0])
    found = track_flow(clip_context(frames), xy, np.ones(xy.shape[:2], bool))[0]
    assert np.median(np.linalg.norm(alone - motion, axis=1)) > 5
    assert np.median(np.linalg.norm(found.displacement[:, 0] - motion, axis=1)) < 0.5


def test_flow_does_not_depend_on_threads():
    frames, xy = shifted_noise(4, (2, 1)), moving_points(4, (2, 1), 0.4)
    visible = np.random.default_rng(0).random(xy.shape[:2]) < 0.8
    one, three = (track_flow(clip_context(frames, threads=threads), xy, visible)[0] for threads in (1, 3))
    np.testing.assert_array_equal(one.displacement, three.displacement)
    np.testing.assert_array_equal(one.fb_error, three.fb_error)


def test_a_point_without_a_position_has_no_flow_and_disturbs_no_other():
    frames, xy = shifted_noise(3, (2, 1)), moving_points(3, (2, 1))
    xy[0, 1] = np.nan
    found = track_flow(clip_context(frames), xy, np.ones(xy.shape[:2], bool))[0]
    assert np.isnan(found.displacement[0, 1]).all()
    assert np.isnan(found.fb_error[0, 1])
    np.testing.assert_allclose(found.displacement[1:].mean((0, 1)), (2, 1), atol=0.2)
    untracked = track_flow(clip_context(frames), np.full_like(xy, np.nan), np.ones(xy.shape[:2], bool))[0]
    assert np.isnan(untracked.displacement).all()


def test_sampling_is_bilinear_between_pixel_centers():
    flow = np.zeros((4, 6, 2), np.float32)
    flow[..., 0], flow[..., 1] = np.arange(6)[None], 10 * np.arange(4)[:, None]
    xy = np.array([[0.5, 0.5], [1.0, 0.5], [2.5, 1.75], [0.0, 9.0], [np.nan, 1.0]])
    got = sample_flow(flow, xy)
    np.testing.assert_allclose(got[:4], [[0, 0], [0.5, 0], [2, 12.5], [0, 30]], atol=0.02)
    assert np.isnan(got[4]).all()


def test_flow_over_several_frames_finds_the_same_error_of_the_tracks():
    frames = shifted_noise(10, (3, -1))
    xy = moving_points(10, (3, -1), 0.1)
    found = track_flow(clip_context(frames), xy, np.ones(xy.shape[:2], bool))
    assert [(each.lag, each.start.tolist()) for each in found] == [(1, [*range(9)]), (8, [0]), (24, [])]
    np.testing.assert_allclose(np.median(found[1].displacement, axis=(0, 1)), (24, -8), atol=0.3)


def test_one_frame_has_no_flow():
    frames = np.zeros((1, 32, 32, 3), np.uint8)
    found = track_flow(clip_context(frames), np.ones((5, 1, 2), np.float32), np.ones((5, 1), bool))[0]
    assert found.displacement.shape == (5, 0, 2)
    assert found.fb_error.shape == (5, 0)
