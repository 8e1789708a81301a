import numpy as np
import pytest

from benchmarks.hand_checked.__main__ import HERE, along_lines, clicks_needed, moves, off_by, read_points

FRAMES = np.empty((1, 240, 320, 3), np.uint8)
FILES = sorted(HERE.glob("*.csv"))


def test_errors_are_in_pixels_of_a_frame_of_480():
    assert off_by([(0, 10, 10), (5, 20, 20)], [(10, 10), (23, 24)], FRAMES) == pytest.approx([0, 10])


def test_points_move_from_four_pixels_on():
    assert moves([(0, 10, 10), (5, 12, 10)], FRAMES)
    assert not moves([(0, 10, 10), (5, 11.9, 10)], FRAMES)


def test_lines_go_through_clicks_and_stay_outside_them():
    assert along_lines([(2, 0, 0), (4, 10, 20)], [0, 3, 4, 9]) == [(0, 0), (5, 10), (10, 20), (10, 20)]


def clicks(track, places):
    return clicks_needed(track, places, lambda found: off_by(places, found, FRAMES))


def test_clicks_are_counted_from_the_worst_place_on():
    straight = [(0, 0, 0), (10, 30, 0), (20, 60, 0)]
    assert clicks(along_lines, straight) == 1
    assert clicks(along_lines, [*straight, (30, 60, 90)]) == 2
    assert clicks(lambda _, times: [(3 * t, 0) for t in times], straight) == 0


@pytest.mark.parametrize("file", FILES, ids=[file.stem for file in FILES])
def test_points_have_a_query_and_places_in_order_of_time(file):
    for places in read_points(file).values():
        times = [t for t, _, _ in places]
        assert len(times) > 1
        assert times == sorted(set(times))
