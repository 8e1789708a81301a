from dataclasses import replace

import numpy as np
import pytest

from anthrotap_hf.tracks import Tracks


def some_tracks(count: int = 3, frames: int = 5, person: int = 0) -> Tracks:
    rng = np.random.default_rng(count)
    return Tracks(
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


def test_every_label_is_seen_or_hidden_or_unknown():
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


@pytest.mark.parametrize("wrong", ["xy", "valid", "person"])
def test_shapes_that_disagree_are_refused(wrong: str):
    parts = {name: getattr(some_tracks(), name) for name in ("xy", "visible", "valid", "person", "vertex")}
    parts[wrong] = parts[wrong][:-1]
    with pytest.raises(ValueError, match="need"):
        Tracks(**parts, height=60, width=80)


def test_tracks_of_different_clips_do_not_mix():
    with pytest.raises(ValueError, match="one clip"):
        Tracks.concatenate([some_tracks(frames=5), some_tracks(frames=6)])
    with pytest.raises(ValueError, match="nothing"):
        Tracks.concatenate([])
