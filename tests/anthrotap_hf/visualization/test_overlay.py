import colorsys

import numpy as np
import pytest

from anthrotap_hf.tracks import Tracks
from anthrotap_hf.visualization.overlay import contact_sheet, dot_radius, draw_tracks, track_colors


def one_track(visible: bool, valid: bool) -> Tracks:
    return Tracks(
        xy=np.array([[[40.5, 30.5]]], np.float32),
        visible=np.array([[visible]]),
        valid=np.array([[valid]]),
        height=60,
        width=80,
        person=np.zeros(1, np.int32),
        vertex=np.zeros(1, np.int32),
    )


def test_visible_is_filled_occluded_is_hollow_invalid_is_absent():
    black = np.zeros((60, 80, 3), np.uint8)
    visible = draw_tracks(black, one_track(True, True), 0)
    occluded = draw_tracks(black, one_track(False, True), 0)
    invalid = draw_tracks(black, one_track(False, False), 0)
    assert visible[30, 40].max() > 200
    assert occluded.any()
    assert occluded[30, 40].max() < visible[30, 40].max()
    assert not invalid.any()
    assert not black.any()  # a copy was drawn on


def test_the_dot_is_centered_on_the_point():
    big = Tracks(**{**one_track(True, True).__dict__, "height": 960, "width": 960})
    drawn = draw_tracks(np.zeros((960, 960, 3), np.uint8), big, 0).sum(-1).astype(float)
    y, x = np.mgrid[:960, :960] + 0.5  # raster: the first pixel's center is (0.5, 0.5)
    assert (x * drawn).sum() / drawn.sum() == pytest.approx(40.5, abs=0.15)
    assert (y * drawn).sum() / drawn.sum() == pytest.approx(30.5, abs=0.15)


def test_frames_of_another_size_are_rejected():
    with pytest.raises(ValueError, match="tracks refer to 80x60"):
        draw_tracks(np.zeros((61, 80, 3), np.uint8), one_track(True, True), 0)


def test_people_have_different_colors():
    tracks = Tracks.concatenate([one_track(True, True), one_track(True, True)])
    two = Tracks(**{**tracks.__dict__, "person": np.array([0, 1], np.int32)})
    colors = track_colors(two).astype(int)
    assert np.abs(colors[0] - colors[1]).max() > 100


def test_contact_sheet_holds_every_picture():
    pictures = [np.full((30, 40, 3), 40 * i + 20, np.uint8) for i in range(5)]
    sheet = contact_sheet(pictures, columns=2, width=80)
    assert sheet.shape == (90, 80, 3)
    assert [sheet[15, 20, 0], sheet[15, 60, 0], sheet[75, 20, 0]] == [20, 60, 180]
    with pytest.raises(ValueError, match="at least one"):
        contact_sheet([])


def grid_tracks(side: int, frames: int = 1, size: tuple[int, int] = (720, 1280)) -> Tracks:
    """Points that stand still, all visible."""
    y, x = np.mgrid[:side, :side].reshape(2, -1, 1) + 0.5
    xy = np.concatenate([x * size[1] / side, y * size[0] / side], axis=1).astype(np.float32)
    yes, no_person = np.ones((side * side, frames), bool), np.zeros(side * side, np.int32)
    return Tracks(np.repeat(xy[:, None], frames, 1), yes, yes, *size, person=no_person, vertex=no_person)


def test_hues_go_all_the_way_round_and_none_is_dark():
    tracks = grid_tracks(12)
    colors = track_colors(tracks) / 255
    hues = np.array([colorsys.rgb_to_hsv(*color)[0] for color in colors])
    assert (np.histogram(hues, 6, (0, 1))[0][:5] > 10).all()  # red to violet
    green = (colors[:, 1] > 1.2 * colors[:, 0]) & (colors[:, 1] > 1.2 * colors[:, 2])
    assert green.mean() < 0.35
    assert (colors @ [0.299, 0.587, 0.114]).min() > 0.3


def test_dots_grow_with_the_frame_and_shrink_in_a_crowd():
    assert 5 <= dot_radius(grid_tracks(12)) <= 6
    assert dot_radius(grid_tracks(12, size=(360, 640))) == pytest.approx(dot_radius(grid_tracks(12)) / 2)
    crowd = grid_tracks(32, size=(480, 854))
    crowd.xy[..., 0] = 400 + crowd.xy[..., 0] / 7  # as wide as a person
    assert 1.5 <= dot_radius(crowd) <= 2
    few = grid_tracks(2)
    few.xy[:] = 100
    assert dot_radius(few) == dot_radius(grid_tracks(12))


def test_a_dot_shows_on_its_own_color():
    tracks = grid_tracks(1)
    color = track_colors(tracks)[0]
    drawn = draw_tracks(np.full((720, 1280, 3), color, np.uint8), tracks, 0)
    assert drawn.max(-1).min() < 60  # the rim


def test_a_trail_has_a_gap_where_the_point_was_not_visible():
    tracks = grid_tracks(1, frames=9)
    tracks.xy[0, :, 0] = 640 + 40 * np.arange(9)
    tracks.visible[0, 4] = False
    drawn = draw_tracks(np.zeros((720, 1280, 3), np.uint8), tracks, 8, trail=8)[358:363].max((0, 2))
    assert drawn[660:760:40].min() > 100
    assert drawn[860:950:40].min() > 100
    assert drawn[766:834].max() == 0
