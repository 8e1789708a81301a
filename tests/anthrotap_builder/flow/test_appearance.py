import cv2
import numpy as np

from anthrotap_builder.flow.appearance import REACH, find_briefly_occluded, find_foreign, sample_looks
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


def briefly_occluded(frames: np.ndarray, xy: np.ndarray, visible: np.ndarray) -> np.ndarray:
    return find_briefly_occluded(sample_looks(clip_context(frames), xy, visible), visible)


def test_labels_behind_something_that_passes_are_found_and_no_others():
    xy, visible = labels()
    covered = range(8, 11)
    found = briefly_occluded(frames_of(covered), xy, visible)
    expected = np.zeros((2, T), bool)
    expected[0, covered] = True
    np.testing.assert_array_equal(found, expected)


def test_one_frame_is_enough():
    xy, visible = labels()
    found = briefly_occluded(frames_of(range(9, 10)), xy, visible)
    assert np.argwhere(found).tolist() == [[0, 9]]


def test_looks_that_change_for_good_are_no_occlusion():
    xy, visible = labels()
    assert not briefly_occluded(frames_of(range(8, T)), xy, visible).any()


def test_something_that_stays_longer_than_looks_are_compared_is_left_alone():
    xy, visible = labels()
    assert not briefly_occluded(frames_of(range(2, 2 + 2 * REACH + 2)), xy, visible).any()


def test_light_that_changes_slowly_is_no_occlusion():
    xy, visible = labels()
    frames = frames_of(range(0)).astype(float) * np.linspace(0.5, 1, T)[:, None, None, None]
    assert not briefly_occluded(frames.astype(np.uint8), xy, visible).any()


def test_only_labels_called_visible_are_judged():
    xy, visible = labels()
    visible[0, 8:11] = False
    assert not briefly_occluded(frames_of(range(8, 11)), xy, visible).any()
    assert briefly_occluded(frames_of(range(0)), xy[:0], visible[:0]).shape == (0, T)


GRAY, RED, FRAMES = (128, 128, 128), (136, 208, 195), 30  # CIELAB, 8 bits


def striped(run: range, of_body: tuple[int, int, int] = GRAY) -> tuple[np.ndarray, np.ndarray]:
    """Looks of eight gray tracks side by side, every other one perhaps of another color; in a run the first is red."""
    rng = np.random.default_rng(0)
    looks = np.full((8, FRAMES, 25, 3), GRAY, np.uint8)
    looks[1::2] = of_body
    looks += rng.integers(0, 8, looks.shape, np.uint8)
    looks[0, run] = RED
    visible = np.ones((8, FRAMES), bool)
    visible[0, [run.start - 1, run.stop]] = False
    return looks, visible


def foreign(looks: np.ndarray, visible: np.ndarray, places: np.ndarray) -> np.ndarray:
    return find_foreign(looks, visible, np.zeros(len(looks), int), np.arange(len(looks)), places)


def test_a_short_run_of_a_color_that_no_label_around_has_is_found():
    side_by_side = np.arange(8)[:, None] * np.array([0.01, 0, 0])
    looks, visible = striped(range(10, 16))
    expected = np.zeros_like(visible)
    expected[0, 10:16] = True
    np.testing.assert_array_equal(foreign(looks, visible, side_by_side), expected)
    # Neither a long one, nor one of a color that the body has there.
    assert not foreign(*striped(range(8, 20)), side_by_side).any()
    assert not foreign(*striped(range(10, 16), of_body=RED), side_by_side).any()
    # Nor where there are too few labels around to tell.
    assert not foreign(looks, visible, 50 * side_by_side).any()
    assert foreign(looks[:0], visible[:0], side_by_side).shape == (0, FRAMES)
