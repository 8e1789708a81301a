import cv2
import numpy as np

from anthrotap_builder.flow.chains import MAX_STEPS, find_shown
from helpers.clip_contexts import clip_context

T, SIZE = 16, 128
# When the gray bar reaches the point, and how wide it is.
BAR_FRAMES = range(6, 11)


def textured_frames(bar: bool) -> np.ndarray:
    """A texture that moves one pixel a frame to the right; if asked, a plain bar covers its middle in BAR_FRAMES."""
    rng = np.random.default_rng(0)
    texture = cv2.GaussianBlur(rng.integers(0, 255, (SIZE, SIZE + T, 3)).astype(np.uint8), (0, 0), 1.5)
    texture = cv2.normalize(texture, None, 0, 255, cv2.NORM_MINMAX)
    frames = np.stack([texture[:, T - t : T - t + SIZE] for t in range(T)])
    if bar:
        for t in BAR_FRAMES:
            frames[t, :, 40:90] = 90
    return frames


def labels() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A point that moves with the texture, and says that it is occluded in BAR_FRAMES."""
    xy = np.array([[[58.0 + t, 64.5] for t in range(T)]], np.float32)
    occluded = np.zeros((1, T), bool)
    occluded[0, BAR_FRAMES] = True
    return xy, ~occluded, occluded


def test_a_point_that_nothing_covers_is_shown():
    xy, visible, occluded = labels()
    shown = find_shown(clip_context(textured_frames(bar=False)), xy, visible, occluded)
    np.testing.assert_array_equal(shown, occluded)


def test_a_covered_point_is_not_shown():
    xy, visible, occluded = labels()
    assert not find_shown(clip_context(textured_frames(bar=True)), xy, visible, occluded).any()


def test_labels_far_from_any_visible_one_are_left_alone():
    xy, visible, occluded = labels()
    visible[:] = False
    visible[0, 0] = True
    occluded = ~visible
    shown = find_shown(clip_context(textured_frames(bar=False)), xy, visible, occluded)
    assert shown[0].tolist() == [False, *[True] * MAX_STEPS, *[False] * (T - 1 - MAX_STEPS)]


def test_a_plain_picture_says_nothing():
    xy, visible, occluded = labels()
    plain = np.full((T, SIZE, SIZE, 3), 128, np.uint8)
    assert not find_shown(clip_context(plain), xy, visible, occluded).any()
