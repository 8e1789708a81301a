"""The occlusion bench: exact truth of overlays and limbs, and figures that mean what they say."""

import numpy as np
import pytest

from benchmarks.occlusion import MEASURES, OcclusionClip, measure, occlusion_clip
from benchmarks.synthetic.overlays import Overlay, centered


def test_an_overlay_hides_just_what_it_covers():
    picture = np.full((10, 20, 4), 255, np.uint8)
    overlay = Overlay(picture, centered(picture, np.array([[30.0, 20.0], [50.0, 20.0]]), np.array([0.0, np.pi / 2])))
    frames = np.zeros((2, 40, 80, 3), np.uint8)
    for t, frame in enumerate(frames):
        overlay.paint(frame, t)
    # 20 wide and 10 high around (30, 20); then turned upright around (50, 20).
    assert (frames[0].max(-1)[15:25, 20:40] == 255).all()
    assert frames[0].sum() == 255 * 3 * 200
    assert frames[1][12:28, 46:54].min() > 0
    assert frames[1][20, 60].max() == 0
    points = np.array([[30.0, 20.0], [38.0, 20.0], [50.0, 12.0]])
    covered = overlay.covers(np.repeat(points[:, None], 2, 1))
    assert covered.tolist() == [[True, False], [True, False], [False, True]]


@pytest.mark.parametrize("kind", ["exits", "limbs"])
def test_visible_points_keep_their_looks(kind):
    clip = occlusion_clip(kind, 0)
    assert clip.visible[:, 0].all()
    assert not clip.visible.all()
    assert len(clip.xy) >= 48

    def looks(t: int, shown: np.ndarray) -> np.ndarray:
        x, y = clip.xy[shown, t].astype(int).T
        return clip.frames[t, y, x].astype(float)

    for t in (8, 20):
        shown = clip.visible[:, t]
        change = np.abs(looks(t, shown) - looks(0, shown)).mean(1)
        assert np.median(change) < 20


def test_measures_count_what_they_name():
    # A point that is hidden in frames 2 and 3, and a tracker that rides on what hides it.
    xy = np.full((1, 6, 2), 50.0)
    visible = np.array([[True, True, False, False, True, True]])
    tracks = xy.copy()
    tracks[0, 3:5, 0] += 20
    called = np.array([[True, True, True, False, True, False]])
    found = measure(OcclusionClip("one", np.zeros((6, 8, 8, 3), np.uint8), xy, visible), tracks, called)
    assert tuple(found) == MEASURES
    assert found == {
        "off before": (0, 1),
        "lost after": (1, 2),
        "on occluder": (1, 2),
        "kept": (2, 3),
        "delta avg": (2, 3),
    }
