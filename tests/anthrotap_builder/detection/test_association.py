"""Sightings into tracks, on made-up people who walk, cross, leave and come back."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pytest

from anthrotap_builder.config import PeopleSettings
from anthrotap_builder.detection.association import (
    difference,
    distinct,
    follow,
    gaps,
    is_person,
    link,
    settle,
    similarity,
    stitch,
)

SETTINGS = PeopleSettings()
SIZE = 100.0
POSE = np.random.default_rng(0).uniform(-40, 40, (33, 2)) * (0.4, 1)


@dataclass
class Seen:
    """A detection at a place, of a person with a number."""

    x: float
    y: float = 120
    person: int = 0
    detection: float = 0.9
    score: float = 1.0
    size: float = SIZE
    angle: float = 0.0
    pose: np.ndarray = field(default_factory=lambda: POSE)

    @property
    def landmarks(self) -> np.ndarray:
        return np.column_stack([self.pose + np.array([self.x, self.y]), np.ones(33)])

    @property
    def look(self) -> np.ndarray:
        return np.eye(8)[self.person] * 0.8 + np.eye(8)[7] * 0.6

    @property
    def cells(self) -> np.ndarray:
        y, x = np.mgrid[:30, :60] * 8 + 4
        return (abs(x - self.x) < 16) & (abs(y - self.y) < 40)


def people_of(tracks: list[dict[int, Seen]]) -> list[set[int]]:
    return [{detection.person for detection in track.values()} for track in tracks]


def test_similarity_is_one_for_the_same_pose_and_forgives_swapped_sides():
    a = Seen(100).landmarks
    swapped = a.copy()
    swapped[[11, 12, 13, 14, 15, 16, 23, 24, 25, 26, 27, 28]] = a[
        [12, 11, 14, 13, 16, 15, 24, 23, 26, 25, 28, 27]
    ]
    assert similarity(a, a, 8) == 1
    assert similarity(a, swapped, 8) == 1
    assert similarity(a, Seen(108).landmarks, 8) == pytest.approx(np.exp(-0.5), abs=0.05)
    assert similarity(a, Seen(300).landmarks, 8) < 0.01


def test_difference_of_looks_runs_from_zero_to_one():
    assert difference(np.eye(4)[0], np.eye(4)[0]) == 0
    assert difference(np.eye(4)[0], np.eye(4)[1]) == 1


@pytest.mark.parametrize("every", [1, 2, 4])
def test_people_who_cross_keep_their_tracks(every):
    detections = {
        t: [Seen(40 + 6 * t, person=0), Seen(400 - 6 * t, y=126, person=1)][:: 1 if t % 2 else -1]
        for t in range(0, 60, every)
    }
    tracks = link(detections, SETTINGS)
    assert sorted(map(len, tracks)) == [len(detections)] * 2
    assert all(len(people) == 1 for people in people_of(tracks))


def test_crossing_people_who_look_alike_go_on_as_they_moved():
    detections = {t: [Seen(40 + 6 * t), Seen(400 - 6 * t, y=130)] for t in range(0, 60, 2)}
    for track in link(detections, SETTINGS):
        steps = np.diff([track[t].x for t in sorted(track)])
        assert np.all(steps == steps[0])


def test_who_is_missed_for_a_while_is_linked_and_who_is_gone_for_long_is_not():
    short = {t: [Seen(100 + t)] for t in range(30) if not 10 <= t < 18}
    long = {t: [Seen(100)] for t in [*range(10), *range(10 + SETTINGS.max_gap + 1, 40)]}
    assert len(link(short, SETTINGS)) == 1
    assert len(link(long, SETTINGS)) == 2


def test_another_person_at_the_same_place_is_another_track():
    detections = {t: [Seen(100, person=int(t >= 10))] for t in range(20)}
    assert people_of(link(detections, SETTINGS)) == [{0}, {1}]


def test_an_empty_clip_has_no_tracks():
    assert link({}, SETTINGS) == []
    assert link({0: [], 1: []}, SETTINGS) == []


def test_follow_fills_gaps_from_both_ends_and_stops_where_nobody_is():
    track = {5: Seen(105), 20: Seen(120)}

    def look(t, _):
        return None if 9 <= t <= 13 else Seen(100 + t, detection=0)

    assert list(gaps(track, 30)) == [range(0, 5), range(6, 20), range(21, 30)]
    assert sorted(follow(track, range(6, 20), look, SETTINGS)) == [6, 7, 8, *range(14, 20)]
    assert sorted(follow(track, range(21, 30), look, SETTINGS)) == list(range(21, 30))
    assert sorted(follow(track, range(0, 5), look, SETTINGS)) == list(range(0, 5))


def test_follow_passes_a_short_miss_and_refuses_a_jump():
    track = {0: Seen(100)}
    missing = {4, 5}
    found = follow(track, range(1, 10), lambda t, _: None if t in missing else Seen(100), SETTINGS)
    assert sorted(found) == [1, 2, 3, 6, 7, 8, 9]
    assert follow(track, range(1, 10), lambda t, _: Seen(300), SETTINGS) == {}


def test_nobody_is_upside_down_at_once():
    track = {0: Seen(100)}
    assert follow(track, range(1, 5), lambda t, _: Seen(100, angle=3), SETTINGS) == {}
    somersault = follow(track, range(1, 20), lambda t, _: Seen(100, angle=0.4 * t), SETTINGS)
    assert sorted(somersault) == list(range(1, 20))
    inverted = {t: Seen(100, angle=3) for t in range(12, 30)}
    upright = {t: Seen(100) for t in range(0, 20)}
    assert settle([inverted, upright], [], SETTINGS) == [{}, upright]


def test_two_tracks_on_one_person_become_one():
    a = {t: Seen(100 + t) for t in range(0, 20)}
    b = {t: Seen(101 + t) for t in range(15, 30)}
    one, none = settle([a, b], [], SETTINGS)
    assert sorted(one) == list(range(30))
    assert none == {}


def test_a_track_that_strayed_onto_another_person_is_cut_back():
    front = {t: Seen(200, person=0) for t in range(40)}
    behind = {
        t: Seen(20 + 9 * t, person=1) if t < 18 else Seen(200, person=0, detection=0) for t in range(30)
    }
    for tracks in ([front, behind], [behind, front]):
        found = {
            min(people): track for track in settle(tracks, [], SETTINGS) for people in people_of([track])
        }
        assert sorted(found[0]) == list(range(40))
        assert {detection.person for detection in found[1].values()} == {1}


def test_known_people_lose_nothing_and_are_not_found_again():
    known = {t: Seen(100) for t in range(20)}
    again = {t: Seen(103) for t in range(20)}
    assert settle([again], [known], SETTINGS) == [{}]
    assert len(known) == 20


def test_pieces_are_stitched_before_inside_and_after():
    whole = {t: Seen(100 + t) for t in [*range(10, 20), *range(26, 36)]}
    pieces = [
        {t: Seen(100 + t) for t in range(20, 26)},
        {t: Seen(100 + t) for t in range(0, 8)},
        {t: Seen(100 + t) for t in range(38, 40)},
    ]
    (one,) = stitch([whole, *pieces], SETTINGS)
    assert sorted(one) == [*range(0, 8), *range(10, 36), 38, 39]


def test_people_far_apart_or_at_the_same_time_are_not_stitched():
    a = {t: Seen(100) for t in range(10)}
    assert len(stitch([a, {t: Seen(300) for t in range(11, 20)}], SETTINGS)) == 2
    assert len(stitch([a, {t: Seen(100) for t in range(9, 20)}], SETTINGS)) == 2


def test_of_two_sightings_of_one_person_the_better_stays():
    kept = distinct([Seen(100, detection=0.6), Seen(102, detection=0.9), Seen(300, detection=0.5)], SETTINGS)
    assert [detection.x for detection in kept] == [102, 300]


@pytest.mark.parametrize(
    ("frames", "detection", "detected", "expected"),
    [(8, 0.9, 2, True), (7, 0.9, 7, False), (20, 0.7, 20, False), (20, 0.9, 1, False)],
)
def test_a_person_is_seen_long_enough_often_enough_and_surely(frames, detection, detected, expected):
    track = {t: Seen(100, detection=detection if t < detected else 0) for t in range(frames)}
    assert is_person(track, SETTINGS) is expected
