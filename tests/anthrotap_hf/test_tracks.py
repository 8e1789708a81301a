from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from anthrotap_hf.tracks import TrackedClip, Tracks, fill_invalid
from anthrotap_hf.video import VideoError


def some_tracks(count: int = 3, frames: int = 5, person: int = 0) -> Tracks:
    rng = np.random.default_rng(count)
    return Tracks.from_labels(
        xy=rng.uniform(0, 60, (count, frames, 2)).astype(np.float32),
        visible=rng.random((count, frames)) < 0.5,
        valid=rng.random((count, frames)) < 0.7,
        height=60,
        width=80,
        person=np.full(count, person, np.int32),
        vertex=np.arange(count, dtype=np.int32),
    )


def test_confidence_goes_with_its_tracks():
    tracks = replace(some_tracks(), confidence=np.linspace(0, 1, 15, dtype=np.float32).reshape(3, 5))
    assert tracks.select(np.array([2])).confidence[0, -1] == 1
    np.testing.assert_array_equal(tracks.resized(120, 160).confidence, tracks.confidence)
    assert Tracks.concatenate([tracks, tracks]).confidence.shape == (6, 5)
    assert Tracks.concatenate([tracks, some_tracks()]).confidence is None
    with pytest.raises(ValueError, match="confidence must be"):
        replace(tracks, confidence=np.zeros((3, 4), np.float32))


def test_every_label_is_visible_or_occluded_or_invalid():
    tracks = some_tracks(50)
    total = tracks.visible.astype(int) + tracks.occluded + tracks.invalid
    assert (total == 1).all()


def test_resizing_is_pure_scaling_in_raster_pixels():
    tracks = some_tracks()
    larger = tracks.resized(120, 240)
    np.testing.assert_allclose(larger.xy, tracks.xy * [3, 2], rtol=1e-6)
    assert (larger.height, larger.width) == (120, 240)


def test_select_and_concatenate_undo_each_other():
    first, second = some_tracks(3), some_tracks(4, person=1)
    both = Tracks.concatenate([first, second])
    assert len(both) == 7
    np.testing.assert_array_equal(both.select(both.person == 1).xy, second.xy)
    assert len(Tracks.empty(5, 60, 80)) == 0


def test_labels_of_some_frames_are_filled_in_anew():
    tracks = replace(some_tracks(20), confidence=np.linspace(0, 1, 100, dtype=np.float32).reshape(20, 5))
    frames = np.array([0, 2, 4])
    some = tracks.at_frames(frames)
    for name in ("visible", "valid", "confidence"):
        np.testing.assert_array_equal(getattr(some, name), getattr(tracks, name)[:, frames])
    np.testing.assert_array_equal(some.xy[some.valid], tracks.xy[:, frames][some.valid])
    # An invalid label holds a position of the frames that are left.
    np.testing.assert_array_equal(some.xy, fill_invalid(some.xy, some.valid))
    assert (some.person.shape, some.vertex.tolist()) == ((20,), list(range(20)))


@pytest.mark.parametrize("wrong", ["xy", "valid", "person"])
def test_shapes_that_disagree_are_rejected(wrong: str):
    parts = {name: getattr(some_tracks(), name) for name in ("xy", "visible", "valid", "person", "vertex")}
    parts[wrong] = parts[wrong][:-1]
    with pytest.raises(ValueError, match="need"):
        Tracks(**parts, height=60, width=80)


def test_tracks_of_different_clips_do_not_mix():
    with pytest.raises(ValueError, match="one clip"):
        Tracks.concatenate([some_tracks(frames=5), some_tracks(frames=6)])
    with pytest.raises(ValueError, match="nothing"):
        Tracks.concatenate([])


def test_a_visible_label_must_be_valid_and_every_position_finite():
    tracks = some_tracks()
    with pytest.raises(ValueError, match="must be valid"):
        replace(tracks, visible=np.ones_like(tracks.visible), valid=np.zeros_like(tracks.valid))
    with pytest.raises(ValueError, match="finite"):
        replace(tracks, xy=np.full_like(tracks.xy, np.nan))
    with pytest.raises(ValueError, match="not finite"):
        Tracks.from_labels(np.full((1, 2, 2), np.nan), *np.ones((2, 1, 2), bool), height=4, width=4)


def test_labels_are_cast_and_invalid_ones_have_no_confidence():
    xy = np.ones((1, 3, 2))
    visible, valid = np.array([[1, 1, 0]], np.uint8), np.array([[1, 0, 1]], np.uint8)
    confidence = np.full((1, 3), 0.5)
    tracks = Tracks.from_labels(
        xy, visible, valid, height=4, width=4, person=np.zeros(1, int), vertex=np.zeros(1, int), confidence=confidence
    )
    assert (tracks.visible.dtype, tracks.valid.dtype) == (bool, bool)
    assert (tracks.person.dtype, tracks.vertex.dtype, tracks.confidence.dtype) == (np.int32, np.int32, np.float32)
    assert tracks.confidence.tolist() == [[0.5, 0, 0.5]]
    assert confidence.tolist() == [[0.5, 0.5, 0.5]]
    assert tracks.xy.dtype == np.float64
    for name in ("visible", "valid"):
        with pytest.raises(ValueError, match="must be bool") as caught:
            replace(tracks, **{name: getattr(tracks, name).astype(np.uint8)})
        assert "\n" not in str(caught.value)
    with pytest.raises(ValueError, match="confidence must be"):
        Tracks.from_labels(xy, visible, height=4, width=4, confidence=confidence[:, :2])


@given(st.lists(st.lists(st.booleans(), min_size=5, max_size=5), min_size=1, max_size=4), st.integers(0, 9))
def test_an_invalid_label_holds_the_nearest_valid_position_in_time(valid: list[list[bool]], seed: int):
    mask = np.array(valid)
    xy = np.random.default_rng(seed).uniform(0, 60, (*mask.shape, 2))
    xy[~mask] = np.nan
    filled = fill_invalid(xy, mask)
    for track, frame in np.ndindex(*mask.shape):
        known = np.flatnonzero(mask[track])
        expected = np.zeros(2)
        if len(known):  # of two equally near ones, the earlier
            expected = xy[track, min(known, key=lambda t: (abs(t - frame), t))]
        np.testing.assert_array_equal(filled[track, frame], expected)


def test_a_loss_times_valid_is_finite_on_labels_with_gaps():
    xy = np.full((2, 3, 2), np.nan, np.float32)
    xy[0, 1] = 7, 9
    visible = np.zeros((2, 3), bool)
    tracks = Tracks.from_labels(xy, visible, height=20, width=20)
    assert (tracks.valid == [[False, True, False], [False, False, False]]).all()
    assert np.isfinite(np.abs(tracks.xy - 1).sum(-1) * tracks.valid).all()
    np.testing.assert_array_equal(tracks.xy[0], [[7, 9]] * 3)


def test_a_clip_decodes_its_frames_when_asked():
    tracks = some_tracks(frames=3)
    frames = np.arange(3 * 60 * 80 * 3, dtype=np.uint8).reshape(3, 60, 80, 3)
    asked: list[list[int]] = []

    def load(numbers):
        asked.append(list(numbers))
        return (frames[number] for number in numbers)

    clip = TrackedClip(tracks, load, clip_id="a")
    assert not asked
    np.testing.assert_array_equal(next(clip.iter_frames([2])), frames[2])
    np.testing.assert_array_equal(clip.frames, frames)
    assert clip.frames is clip.frames
    assert asked == [[2], [0, 1, 2]]
    with pytest.raises(VideoError, match="no video"):
        TrackedClip(tracks, clip_id="b").frames  # noqa: B018
    with pytest.raises(VideoError, match="2 frames"):
        TrackedClip(tracks, lambda numbers: iter(frames[:2])).frames  # noqa: B018
    with pytest.raises(VideoError, match="2 frames"):
        TrackedClip(tracks, frames[:2]).frames  # noqa: B018
