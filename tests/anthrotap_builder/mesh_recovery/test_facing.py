"""Which way a person faces, from landmarks that call a front a back in some frames."""

import numpy as np
import pytest

from anthrotap_builder.bodies import Body
from anthrotap_builder.detection import PersonTrack
from anthrotap_builder.geometry.camera import Camera
from anthrotap_builder.mesh_recovery.facing import MIRRORED, Sides, resolve_sides
from anthrotap_builder.mesh_recovery.kinematics import PoseParameters
from helpers.posed_people import as_person


def turned(person: PersonTrack, frames: slice | list[int], landmarks: slice = slice(None)) -> PersonTrack:
    """The person as a network sees it that takes front for back in some frames."""
    out = PersonTrack(person.boxes, person.landmarks.copy(), person.world_landmarks.copy(), person.mask)
    out.landmarks[frames, landmarks] = person.landmarks[frames][:, MIRRORED][:, landmarks]
    out.world_landmarks[frames, landmarks] = (person.world_landmarks[frames][:, MIRRORED] * [1, 1, -1])[:, landmarks]
    return out


def resolve(person: PersonTrack) -> Sides:
    return resolve_sides(person.landmarks, person.world_landmarks, person.found, 24.0)


def assert_same(got: Sides, truth: PersonTrack) -> None:
    np.testing.assert_array_equal(got.landmarks, truth.landmarks)
    np.testing.assert_array_equal(got.world_landmarks, truth.world_landmarks)


@pytest.mark.parametrize("frames", [[6], slice(7, 16), [1, 2, 7, 9, 10, 11, 20, 23]])
def test_frames_that_are_seen_from_behind_are_turned_back(
    anny: Body, dance: PoseParameters, camera: Camera, frames: slice | list[int]
):
    truth = as_person(anny, dance, camera)
    got = resolve(turned(truth, frames))
    assert_same(got, truth)


def test_legs_alone_may_be_swapped(anny: Body, dance: PoseParameters, camera: Camera):
    truth = as_person(anny, dance, camera)
    got = resolve(turned(truth, slice(5, 9), slice(23, None)))
    assert_same(got, truth)


def test_a_right_network_is_not_contradicted(anny: Body, dance: PoseParameters, camera: Camera):
    """Also of one who turns once around, who is seen from behind for a while."""
    values = dance.values.copy()
    values[:, 3:6] = 0
    values[:, 4] = np.linspace(0, 2 * np.pi, len(values))
    for pose in (dance, PoseParameters(values, dance.shape, dance.reference)):
        truth = as_person(anny, pose, camera, noise=2.0)
        got = resolve(truth)
        # Where the hips are seen from the side, both hypotheses are the same body.
        across = truth.world_landmarks[:, 23] - truth.world_landmarks[:, 24]
        frontal = np.abs(across[:, 0]) > np.abs(across[:, 2])
        np.testing.assert_array_equal(got.landmarks[frontal], truth.landmarks[frontal])
        assert not got.cut.any()


def test_frames_without_the_person_stay_empty(anny: Body, dance: PoseParameters, camera: Camera):
    truth = as_person(anny, dance, camera)
    for values in (truth.boxes, truth.landmarks, truth.world_landmarks):
        values[8:11] = np.nan
    got = resolve(turned(truth, slice(12, 15)))
    assert_same(got, truth)
