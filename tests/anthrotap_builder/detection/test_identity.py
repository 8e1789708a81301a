"""Identity over a clip, on synthetic people who cross, hide each other and look alike."""

from __future__ import annotations

import numpy as np

from anthrotap_builder.detection.identity import resolve_identities
from tests.anthrotap_builder.detection.test_association import Detected, people_of


def test_tracks_that_swapped_their_people_are_swapped_back():
    swapped = [
        {t: Detected(100 + 5 * t, person=int(t >= 20)) for t in range(40)},
        {t: Detected(300 - 5 * t, person=int(t < 20)) for t in range(40)},
    ]
    # Each person turns back where they meet: only the looks tell that.
    for track in resolve_identities(swapped):
        assert len({detection.person for detection in track.values()}) == 1


def test_a_person_who_was_lost_to_an_object_is_one_again_and_the_object_another():
    track = {t: Detected(100 + 3 * t, person=2 if 20 <= t < 30 else 0) for t in range(50)}
    people = people_of(resolve_identities([track]))
    assert sorted(people, key=min) == [{0}, {2}]


def test_twins_who_hide_each_other_and_could_be_either_are_not_joined():
    left = {t: Detected(min(100 + 5 * t, 198)) for t in range(24)} | {
        t: Detected(198 - 5 * (t - 24)) for t in range(24, 40)
    }
    right = {t: Detected(max(300 - 5 * t, 202)) for t in range(24)} | {
        t: Detected(202 + 5 * (t - 24)) for t in range(24, 40)
    }
    tracks = resolve_identities([left, right])
    assert len(tracks) == 4
    assert not any(min(track) < 15 and max(track) > 30 for track in tracks)


def test_tracks_of_one_look_are_left_as_they_are():
    rng = np.random.default_rng(0)
    tracks = [{t: Detected(100 * (p + 1) + rng.normal(), person=p) for t in range(30)} for p in range(3)]
    assert resolve_identities(tracks) == tracks
