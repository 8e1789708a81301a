"""Association of detections to tracks, on synthetic people who walk, cross, leave and come back."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pytest

from anthrotap_builder.detection.association import (
    MAX_GAP,
    Detection,
    appearance_distance,
    drop_contradicted,
    gaps,
    is_confirmed,
    link,
    link_tracklets,
    merge_duplicates,
    pose_similarity,
    propagate,
    suppress_duplicates,
)

SIZE = 100.0
POSE = np.random.default_rng(0).uniform(-40, 40, (33, 2)) * (0.4, 1)


@dataclass
class Detected:
    """A detection at a position, of a person with a number."""

    x: float
    y: float = 120
    person: int = 0
    detector_score: float = 0.9
    pose_score: float = 1.0
    size: float = SIZE
    angle: float = 0.0
    confidence: float = 1.0
    pose: np.ndarray = field(default_factory=lambda: POSE)

    @property
    def inside(self) -> np.ndarray:
        return np.ones(33, bool)

    @property
    def landmarks(self) -> np.ndarray:
        return np.column_stack([self.pose + np.array([self.x, self.y]), np.ones(33)])

    @property
    def appearance(self) -> np.ndarray:
        return np.eye(8)[self.person] * 0.8 + np.eye(8)[7] * 0.6

    @property
    def cells(self) -> np.ndarray:
        y, x = np.mgrid[:30, :60] * 8 + 4
        return (abs(x - self.x) < 16) & (abs(y - self.y) < 40)


def people_of(tracks: list[dict[int, Detected]]) -> list[set[int]]:
    return [{detection.person for detection in track.values()} for track in tracks]


def test_similarity_is_one_for_the_same_pose_and_forgives_swapped_sides():
    a = Detected(100).landmarks
    swapped = a.copy()
    swapped[[11, 12, 13, 14, 15, 16, 23, 24, 25, 26, 27, 28]] = a[[12, 11, 14, 13, 16, 15, 24, 23, 26, 25, 28, 27]]
    assert pose_similarity(a, a, 8) == 1
    assert pose_similarity(a, swapped, 8) == 1
    assert pose_similarity(a, Detected(108).landmarks, 8) == pytest.approx(np.exp(-0.5), abs=0.05)
    assert pose_similarity(a, Detected(300).landmarks, 8) < 0.01


def test_distance_of_appearances_runs_from_zero_to_one():
    assert appearance_distance(np.eye(4)[0], np.eye(4)[0]) == 0
    assert appearance_distance(np.eye(4)[0], np.eye(4)[1]) == 1


@pytest.mark.parametrize("every", [1, 2, 4])
def test_people_who_cross_keep_their_tracks(every):
    detections = {
        t: [Detected(40 + 6 * t, person=0), Detected(400 - 6 * t, y=126, person=1)][:: 1 if t % 2 else -1]
        for t in range(0, 60, every)
    }
    tracks = link(detections)
    assert sorted(map(len, tracks)) == [len(detections)] * 2
    assert all(len(people) == 1 for people in people_of(tracks))


def test_crossing_people_of_one_appearance_continue_as_they_moved():
    detections = {t: [Detected(40 + 6 * t), Detected(400 - 6 * t, y=130)] for t in range(0, 60, 2)}
    for track in link(detections):
        steps = np.diff([track[t].x for t in sorted(track)])
        assert np.all(steps == steps[0])


def test_tracks_are_linked_over_short_gaps_and_not_over_long_ones():
    short = {t: [Detected(100 + t)] for t in range(30) if not 10 <= t < 18}
    long = {t: [Detected(100)] for t in [*range(10), *range(10 + MAX_GAP + 1, 40)]}
    assert len(link(short)) == 1
    assert len(link(long)) == 2


def test_another_person_at_the_same_position_is_another_track():
    detections = {t: [Detected(100, person=int(t >= 10))] for t in range(20)}
    assert people_of(link(detections)) == [{0}, {1}]


def test_an_empty_clip_has_no_tracks():
    assert link({}) == []
    assert link({0: [], 1: []}) == []


def test_propagation_fills_gaps_from_both_ends_and_stops_where_no_person_is():
    track = {5: Detected(105), 20: Detected(120)}

    def observe(t, _):
        return None if 9 <= t <= 13 else Detected(100 + t, detector_score=0)

    assert list(gaps(track, 30)) == [range(0, 5), range(6, 20), range(21, 30)]
    assert sorted(propagate(track, range(6, 20), observe)) == [6, 7, 8, *range(14, 20)]
    assert sorted(propagate(track, range(21, 30), observe)) == list(range(21, 30))
    assert sorted(propagate(track, range(0, 5), observe)) == list(range(0, 5))


def test_propagation_passes_a_short_miss_and_rejects_a_jump():
    track = {0: Detected(100)}
    missing = {4, 5}
    found = propagate(track, range(1, 10), lambda t, _: None if t in missing else Detected(100))
    assert sorted(found) == [1, 2, 3, 6, 7, 8, 9]
    assert propagate(track, range(1, 10), lambda t, _: Detected(300)) == {}


def test_no_person_is_upside_down_at_once():
    track = {0: Detected(100)}
    assert propagate(track, range(1, 5), lambda t, _: Detected(100, angle=3)) == {}
    somersault = propagate(track, range(1, 20), lambda t, _: Detected(100, angle=0.4 * t))
    assert sorted(somersault) == list(range(1, 20))
    inverted = {t: Detected(100, angle=3) for t in range(12, 30)}
    upright = {t: Detected(100) for t in range(0, 20)}
    assert merge_duplicates([inverted, upright], []) == [{}, upright]


def test_two_tracks_on_one_person_become_one():
    a = {t: Detected(100 + t) for t in range(0, 20)}
    b = {t: Detected(101 + t) for t in range(15, 30)}
    one, none = merge_duplicates([a, b], [])
    assert sorted(one) == list(range(30))
    assert none == {}


def test_a_track_that_strayed_onto_another_person_is_cut_back():
    front = {t: Detected(200, person=0) for t in range(40)}
    behind = {
        t: Detected(20 + 9 * t, person=1) if t < 18 else Detected(200, person=0, detector_score=0) for t in range(30)
    }
    for tracks in ([front, behind], [behind, front]):
        found = {min(people): track for track in merge_duplicates(tracks, []) for people in people_of([track])}
        assert sorted(found[0]) == list(range(40))
        assert {detection.person for detection in found[1].values()} == {1}


def test_known_people_lose_nothing_and_are_not_found_again():
    known = {t: Detected(100) for t in range(20)}
    again = {t: Detected(103) for t in range(20)}
    assert merge_duplicates([again], [known]) == [{}]
    assert len(known) == 20


def test_tracklets_are_linked_before_inside_and_after():
    whole = {t: Detected(100 + t) for t in [*range(10, 20), *range(26, 36)]}
    pieces = [
        {t: Detected(100 + t) for t in range(20, 26)},
        {t: Detected(100 + t) for t in range(0, 8)},
        {t: Detected(100 + t) for t in range(38, 40)},
    ]
    (one,) = link_tracklets([whole, *pieces])
    assert sorted(one) == [*range(0, 8), *range(10, 36), 38, 39]


def test_people_far_apart_or_at_the_same_time_are_not_linked():
    a = {t: Detected(100) for t in range(10)}
    assert len(link_tracklets([a, {t: Detected(300) for t in range(11, 20)}])) == 2
    assert len(link_tracklets([a, {t: Detected(100) for t in range(9, 20)}])) == 2


def test_of_two_detections_of_one_person_the_better_stays():
    kept = suppress_duplicates(
        [
            Detected(100, detector_score=0.6),
            Detected(102, detector_score=0.9),
            Detected(300, detector_score=0.5),
        ]
    )
    assert [detection.x for detection in kept] == [102, 300]


@pytest.mark.parametrize(
    ("frames", "score", "detected", "expected"),
    [(8, 0.9, 2, True), (7, 0.9, 7, False), (20, 0.7, 20, False), (20, 0.9, 1, False)],
)
def test_a_person_is_detected_long_enough_often_enough_and_confidently(frames, score, detected, expected):
    track = {t: Detected(100, detector_score=score if t < detected else 0) for t in range(frames)}
    assert is_confirmed(track, 0.75) is expected


def test_landmarks_outside_the_frame_do_not_count_in_the_confidence():
    """Of a person who is seen from the waist up, the network does not know where the legs are."""
    landmarks = np.column_stack([np.full((33, 2), 100.0), np.full(33, 0.9)])
    landmarks[23:] = (100, 300, 0.01)
    seen = Detection(landmarks, 400.0, 0.0, np.ones(1), np.zeros((30, 60), bool), 1.0, 0.9)
    assert seen.inside.tolist() == [True] * 23 + [False] * 10
    assert seen.confidence == pytest.approx(0.9)
    assert is_confirmed(dict.fromkeys(range(8), seen), 0.75)
    # What is cut off at the border and not clearly a person, as a cup in a picture, is none.
    landmarks[:23, 2] = 0.6
    assert seen.confidence == pytest.approx(0.6)
    assert not is_confirmed(dict.fromkeys(range(8), seen), 0.75)
    landmarks[23:, :2] = 100
    landmarks[23:, 2] = 0.6
    assert is_confirmed(dict.fromkeys(range(8), seen), 0.75)
    landmarks[:, 1] = 300
    assert seen.confidence == 0


def test_poses_that_another_tracks_detections_show_to_be_upside_down_are_dropped():
    """As of somebody who has turned over at once: propagated back, the track has them upside down all along."""
    standing = {t: Detected(100) for t in (0, 4, 8)}
    turned = {t: Detected(100, angle=np.pi, detector_score=0.9 * (t >= 16)) for t in range(30)}
    assert sorted(drop_contradicted(turned, [standing])) == list(range(13, 30))
    # Not where the detector takes a person for one upside down only for a moment.
    agreeing = {t: Detected(100, angle=np.pi) for t in (0, 4)}
    assert drop_contradicted(turned, [agreeing, {t: Detected(100) for t in (8, 12)}]) == turned
    # Nor those of a track that has no detection of its own left.
    alone = {t: Detected(100, angle=np.pi, detector_score=0.0) for t in range(10, 30)}
    assert drop_contradicted(alone, [standing]) == alone
    # Not those of others who stand beside, nor between a track's own detections.
    beside = {t: Detected(300) for t in (0, 4, 8)}
    assert drop_contradicted(turned, [beside]) == turned
    assert drop_contradicted(turned, [{t: Detected(100) for t in (18, 20)}]) == turned
