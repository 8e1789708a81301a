"""People keep their numbers from clip to clip."""

from dataclasses import replace

import numpy as np

from anthrotap_builder.geometry.camera import Camera
from anthrotap_builder.mesh_recovery import MeshTrack
from anthrotap_builder.pipeline import LabeledClip
from anthrotap_builder.video_people import VideoPeople
from anthrotap_hf.tracks import Tracks

T, K = 9, 64
HEIGHT, WIDTH = 120, 240
CAMERA = Camera(focal=200.0, width=WIDTH, height=HEIGHT)
RED, BLUE = (200, 40, 40), (40, 40, 200)
# The body: points on a square, 0.4 m wide, 4 m before the camera.
GRID = np.linspace(-0.2, 0.2, 8)
BODY = np.stack([*np.meshgrid(GRID, GRID), np.full((8, 8), 4.0)], -1).reshape(-1, 3)


def clip(start: int, *people: tuple[float, tuple[int, int, int]]) -> LabeledClip:
    """A clip of people who stand still, each at x meters in clothes of one color."""
    frames = np.full((T, HEIGHT, WIDTH, 3), 128, np.uint8)
    meshes, xy = [], []
    for number, (x, color) in enumerate(people):
        vertices = np.repeat((BODY + [x, 0, 0])[None], T, axis=0).astype(np.float32)
        meshes.append(MeshTrack(number, vertices, np.ones(T, bool), np.zeros(T), np.ones(T)))
        points = CAMERA.project(vertices).transpose(1, 0, 2)
        xy.append(points)
        (left, top), (right, bottom) = np.floor(points.min((0, 1))).astype(int), np.ceil(points.max((0, 1))).astype(int)
        frames[:, top - 4 : bottom + 4, left - 4 : right + 4] = color
    tracks = Tracks.from_labels(
        np.concatenate(xy).astype(np.float32),
        np.ones((K * len(people), T), bool),
        height=HEIGHT,
        width=WIDTH,
        person=np.repeat(np.arange(len(people)), K),
        vertex=np.tile(np.arange(K), len(people)),
    )
    return LabeledClip(
        tracks,
        frames,
        fps=25.0,
        start_frame=start,
        source_frames=start + np.arange(T),
        people=[{"person": number} for number in range(len(people))],
        meshes=meshes,
        camera=CAMERA,
    )


def numbers(*clips: LabeledClip) -> list[list[int]]:
    """The people of each clip, in its order; tracks, meshes and qualities agree."""
    people = VideoPeople(np.arange(K))
    found = []
    for one in clips:
        labeled = people.number(one)
        order = [mesh.person for mesh in labeled.meshes]
        assert [quality["person"] for quality in labeled.people] == order
        assert labeled.tracks.person.tolist() == np.repeat(order, K).tolist()
        found.append(order)
    return found


def test_people_go_on_in_the_next_clip_whatever_their_order():
    assert numbers(clip(0, (-0.8, RED), (0.8, BLUE)), clip(T, (0.8, BLUE), (-0.8, RED))) == [[0, 1], [1, 0]]


def test_twins_are_told_apart_by_where_they_stand():
    assert numbers(clip(0, (-0.8, RED), (0.8, RED)), clip(T, (0.8, RED), (-0.8, RED))) == [[0, 1], [1, 0]]


def test_someone_new_gets_a_new_number():
    assert numbers(clip(0, (-0.8, RED)), clip(T, (0.8, BLUE), (-0.8, RED))) == [[0], [1, 0]]


def test_a_person_in_other_clothes_at_the_same_place_is_another_one():
    assert numbers(clip(0, (0.0, RED)), clip(T, (0.0, BLUE))) == [[0], [1]]


def test_who_comes_back_after_a_shot_change_is_known_by_the_clothes():
    assert numbers(clip(0, (-0.8, RED), (0.8, BLUE)), clip(500, (0.0, BLUE))) == [[0, 1], [1]]


def test_twins_who_come_back_get_new_numbers():
    assert numbers(clip(0, (-0.8, RED), (0.8, RED)), clip(500, (0.0, RED))) == [[0, 1], [2]]


def test_who_leaves_and_returns_keeps_the_number():
    assert numbers(clip(0, (-0.8, RED), (0.8, BLUE)), clip(T, (0.8, BLUE)), clip(2 * T, (0.8, BLUE), (-0.8, RED))) == [
        [0, 1],
        [1],
        [1, 0],
    ]


def test_a_clip_without_people_is_left_as_it_is():
    empty = LabeledClip(Tracks.empty(T, HEIGHT, WIDTH), source_frames=np.arange(T), fps=25.0)
    assert VideoPeople(np.arange(K)).number(empty).tracks is empty.tracks


def test_a_number_is_not_given_twice_even_if_its_person_had_no_mesh():
    first = clip(0, (-0.8, RED), (0.8, BLUE))
    hidden = replace(first.meshes[1], present=np.zeros(T, bool))
    people = VideoPeople(np.arange(K))
    assert [mesh.person for mesh in people.number(replace(first, meshes=[first.meshes[0], hidden])).meshes] == [0, 1]
    later = people.number(clip(T, (-0.8, RED), (0.0, BLUE)))
    assert [mesh.person for mesh in later.meshes] == [0, 2]
