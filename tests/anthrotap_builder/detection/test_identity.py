"""Identity over a clip, on synthetic people who cross, hide each other and look alike."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from anthrotap_builder.detection.identity import drop_turned, resolve_identities
from tests.anthrotap_builder.detection.test_association import Detected, people_of

UPRIGHT = np.random.default_rng(0).uniform(-8, 8, (33, 2))
UPRIGHT[[11, 12, 23, 24]] = [(8, -20), (-8, -20), (8, 10), (-8, 10)]


@dataclass
class Mixed(Detected):
    """A detection with a given look."""

    look: np.ndarray = field(default_factory=lambda: np.eye(8)[0])

    @property
    def appearance(self) -> np.ndarray:
        return self.look


def turned(degrees: float, torso: float = 1.0) -> Detected:
    """A person turned in the picture, whose torso is so many times as long."""
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    return Detected(100, pose=UPRIGHT * (1, torso) @ np.array([[c, s], [-s, c]]), angle=np.radians(degrees))


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


def test_a_track_that_goes_over_to_another_person_in_some_frames_is_cut_though_there_is_no_other_track():
    """As of two who hold each other and turn: the mask is of both for some frames."""

    def share(t: int) -> Detected:
        detection, other = Detected(100 + t, person=0), Detected(100 + t, person=1)
        part = np.clip((t - 22) / 5, 0, 1)
        # At the end the look differs by 0.38 from that of the beginning.
        return Mixed(
            100 + t, look=np.sqrt((1 - 0.4 * part) * detection.appearance**2 + 0.4 * part * other.appearance**2)
        )

    track = {t: share(t) for t in range(48)}
    assert len(resolve_identities([track])) == 2


def test_poses_that_are_upside_down_for_some_frames_are_dropped():
    """Of a child who is mostly hidden, as in bedroom.mp4."""
    degrees = dict.fromkeys(range(30), 10.0) | dict.fromkeys(range(12, 16), 150.0) | {16: -110.0, 20: 140.0, 21: 150.0}
    track = {t: turned(degrees[t]) for t in sorted(degrees) if t not in (5, 6)}
    assert sorted({*track} - {*drop_turned(track)}) == [12, 13, 14, 15, 16, 20, 21]


def test_who_turns_over_or_is_upside_down_keeps_all_poses():
    flip = {t: turned(30 * t) for t in range(25)}
    assert drop_turned(flip) == flip
    on_the_hands = {t: turned(180 + 20 * np.sin(t)) for t in range(20)}
    assert drop_turned(on_the_hands) == on_the_hands
    # After a gap anybody may be turned.
    lost = {t: turned(0 if t < 10 else 180) for t in range(30) if not 8 <= t < 14}
    assert drop_turned(lost) == lost
    # Seen from above, the direction of the torso in the picture means little.
    rng = np.random.default_rng(0)
    from_above = {t: turned(rng.uniform(0, 360), torso=0.1) for t in range(20)}
    assert drop_turned(from_above) == from_above
    assert drop_turned({}) == {}


def test_a_track_that_found_another_person_after_a_gap_is_cut_there():
    """The one who was lost goes on under the same identity, by looks."""
    first = {t: Detected(100 + 5 * t, person=0) for t in range(20)}
    wrong = {t: Detected(100 + 5 * t, person=1) for t in range(5)} | {
        t: Detected(100 + 5 * t, person=0) for t in range(30, 50)
    }
    tracks = resolve_identities([first, wrong])
    assert sorted(people_of(tracks), key=min) == [{0}, {1}]
    assert max(len(track) for track in tracks) >= 38
