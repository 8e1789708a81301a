import cv2
import numpy as np

from anthrotap_builder.flow.brief_occlusion import REACH, find_briefly_occluded
from helpers.clip_contexts import clip_context

T, SIZE = 20, 128


def frames_of(covered: range, color: tuple[int, int, int] = (200, 40, 40)) -> np.ndarray:
    """A gray texture that moves one pixel a frame to the right; in some frames a bar covers its middle."""
    rng = np.random.default_rng(0)
    texture = cv2.GaussianBlur(rng.integers(0, 255, (SIZE, SIZE + T)).astype(np.uint8), (0, 0), 3)
    frames = np.stack([cv2.cvtColor(texture[:, T - t : T - t + SIZE], cv2.COLOR_GRAY2RGB) for t in range(T)])
    for t in covered:
        frames[t, :, 50:90] = color
    return frames


def labels() -> tuple[np.ndarray, np.ndarray]:
    """A point that the bar covers, and one that it does not; both are said to be visible in all frames."""
    xy = np.array([[[60.0 + t, 64.5] for t in range(T)], [[20.0 + t, 64.5] for t in range(T)]], np.float32)
    return xy, np.ones((2, T), bool)


def test_labels_behind_something_that_passes_are_found_and_no_others():
    xy, visible = labels()
    covered = range(8, 11)
    found = find_briefly_occluded(clip_context(frames_of(covered)), xy, visible)
    expected = np.zeros((2, T), bool)
    expected[0, covered] = True
    np.testing.assert_array_equal(found, expected)


def test_one_frame_is_enough():
    xy, visible = labels()
    found = find_briefly_occluded(clip_context(frames_of(range(9, 10))), xy, visible)
    assert np.argwhere(found).tolist() == [[0, 9]]


def test_looks_that_change_for_good_are_no_occlusion():
    xy, visible = labels()
    assert not find_briefly_occluded(clip_context(frames_of(range(8, T))), xy, visible).any()


def test_something_that_stays_longer_than_looks_are_compared_is_left_alone():
    xy, visible = labels()
    assert not find_briefly_occluded(clip_context(frames_of(range(2, 2 + 2 * REACH + 2))), xy, visible).any()


def test_light_that_changes_slowly_is_no_occlusion():
    xy, visible = labels()
    frames = frames_of(range(0)).astype(float) * np.linspace(0.5, 1, T)[:, None, None, None]
    assert not find_briefly_occluded(clip_context(frames.astype(np.uint8)), xy, visible).any()


def test_only_labels_called_visible_are_judged():
    xy, visible = labels()
    visible[0, 8:11] = False
    assert not find_briefly_occluded(clip_context(frames_of(range(8, 11))), xy, visible).any()
    assert find_briefly_occluded(clip_context(frames_of(range(0))), xy[:0], visible[:0]).shape == (0, T)
