"""Which frames of a fitted track count."""

from dataclasses import replace

import numpy as np
import pytest

from anthrotap_builder.config import LabelingConfig
from anthrotap_builder.context import ClipContext
from anthrotap_builder.detection import PersonTrack
from anthrotap_builder.mesh_recovery.fit import recover_meshes
from anthrotap_builder.mesh_recovery.masks import fill_masks
from anthrotap_builder.mesh_recovery.presence import bridge_gaps, keep_runs, misplaced
from anthrotap_builder.mesh_recovery.track import MeshTrack
from helpers.posed_people import as_person, textured_frames


def frames(text: str) -> np.ndarray:
    """[T] bool, True where the text has an x."""
    return np.array([letter == "x" for letter in text])


def numbers(text: str) -> np.ndarray:
    """[T] float: 0, 1, or NaN where the text has a dot."""
    return np.array([np.nan if letter == "." else float(letter) for letter in text])


@pytest.mark.parametrize(
    ("good", "on_mask", "agrees", "bridged"),
    [
        ("xx-xx", "11111", "....", "--x--"),  # bad landmarks, on the mask, flow unknown
        ("xx-xx", "11.11", "1111", "--x--"),  # no mask, flow agrees
        ("xx-xx", "11.11", "....", "-----"),  # nothing speaks for it
        ("xx-xx", "11011", "1111", "-----"),  # the mask contradicts
        ("xx-xx", "11111", "1011", "-----"),  # flow contradicts
        ("x---x", "11111", "1111", "-xxx-"),
        ("x-----x", "1111111", "111111", "-------"),  # too long at 24 frames a second
        ("--xx-", "11111", "1111", "-----"),  # not between good frames
    ],
)
def test_gaps_are_bridged_unless_the_picture_contradicts(good: str, on_mask: str, agrees: str, bridged: str):
    got = bridge_gaps(frames(good), numbers(on_mask), numbers(agrees), 24.0)
    np.testing.assert_array_equal(got, frames(bridged))


def test_long_runs_of_a_seldom_fitting_body_are_kept():
    good = frames("xxxxxxxxxx--x---x-xx--x----x---x--xx")
    found = np.ones(len(good), bool)
    np.testing.assert_array_equal(keep_runs(good, good, found, 24.0), frames("xxxxxxxxxx" + "-" * 26))
    # Mostly good: all of it counts.
    good = frames("xxxxxxxxxx--x--xxxxxxxxx")
    np.testing.assert_array_equal(keep_runs(good, good, found[: len(good)], 24.0), good)


def test_landmarks_that_jump_to_someone_else_and_back_are_misplaced():
    torso = np.tile(np.array([[100.0, 100], [140, 100], [105, 180], [135, 180]]), (24, 1, 1))
    torso += np.arange(24)[:, None, None] * [12.0, 0]  # a run across the picture
    truth = torso.copy()
    torso[7:9] += [0, 120]
    torso[15] -= [200, 0]
    found = np.ones(24, bool)
    found[3] = False
    size = np.full((24, 1), 200.0)
    np.testing.assert_array_equal(np.flatnonzero(misplaced(torso, size, found, 24.0)), [7, 8, 15])
    assert not misplaced(truth, size, found, 24.0).any()


def test_frames_without_the_person_are_bridged_and_get_a_mask(anny, dance, camera):
    """As by a detector that misses the person in two frames, and takes someone else for them in another."""
    truth = as_person(anny, dance, camera)
    person = PersonTrack(truth.boxes, truth.landmarks.copy(), truth.world_landmarks.copy(), truth.mask.copy())
    for values in (person.boxes, person.landmarks, person.world_landmarks):
        values[8:10] = np.nan
    person.mask[8:10] = False
    person.landmarks[15, :, 0] += 150
    person.mask[15] = np.roll(truth.mask[15], 150, axis=1)
    context = ClipContext(textured_frames(anny, dance, camera), 24.0, camera, anny, LabelingConfig(), 2)
    (mesh,) = recover_meshes(context, [person])
    assert mesh.present.all()
    np.testing.assert_array_equal(np.flatnonzero(mesh.off_mask), [8, 9, 15])
    (filled,) = fill_masks([person], [mesh], camera)
    for t in (8, 9, 15):
        overlap = (filled.mask[t] & truth.mask[t]).sum() / (filled.mask[t] | truth.mask[t]).sum()
        assert overlap > 0.7
    np.testing.assert_array_equal(filled.mask[14], person.mask[14])


def test_where_masks_are_missing_each_pixel_becomes_one_person_s(camera):
    """Two boards of dots that overlap, without masks, and a third person whose mask is right."""

    def board(person: int, x: float, depth: float) -> MeshTrack:
        side = np.linspace(-0.5, 0.5, 80)
        points = np.stack([*np.meshgrid(side + x, side), np.full((80, 80), depth)], -1).reshape(1, -1, 3)
        unknown, there = np.full(1, np.nan), np.ones(1, bool)
        return MeshTrack(person, points.astype(np.float32), there, unknown, unknown, off_mask=there)

    wrong, right = np.zeros((2, 1, camera.height, camera.width), bool)
    wrong[:, :5] = True
    right[:, :, int(camera.center[0]) - 4 : int(camera.center[0]) + 4] = True
    boxes = np.zeros((1, 4), np.float32)
    people = [PersonTrack(boxes, mask=mask) for mask in (wrong, wrong.copy(), right)]
    third = replace(board(2, 0.0, 5.0), off_mask=None)
    far, near, same = fill_masks(people, [board(0, -0.2, 4.2), board(1, 0.2, 4.0), third], camera)
    assert same.mask is right
    owners = np.sum([person.mask for person in (far, near, same)], axis=0)
    assert owners.max() == 1
    row = int(camera.center[1])
    pixel = int(camera.center[0] + 0.2 * camera.focal / 4.1)
    assert near.mask[0, row, pixel]
    assert far.mask[0, row, int(camera.center[0] - 0.5 * camera.focal / 4.2)]
    # The wrong masks are gone.
    assert not far.mask[0, 0, 0]
    assert not near.mask[0, 0, 0]
