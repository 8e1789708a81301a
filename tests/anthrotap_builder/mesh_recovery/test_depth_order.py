"""Who is in front of whom, by the masks."""

import time
from dataclasses import replace

import numpy as np

from anthrotap_builder.bodies.body import BodyPose
from anthrotap_builder.geometry.camera import Camera
from anthrotap_builder.mesh_recovery.depth_order import _Overlap, _solve, order_in_depth
from anthrotap_builder.mesh_recovery.track import MeshTrack
from helpers.memory import traced_memory

CAMERA = Camera(focal=300.0, width=200, height=160)
FRAMES = 10


def board(person: int, x: float, depth: float) -> MeshTrack:
    """A board of 1 by 1 meters, across the view."""
    side = np.linspace(-0.5, 0.5, 70)
    points = np.stack([*np.meshgrid(side + x, side), np.full((70, 70), depth)], -1).reshape(1, -1, 3)
    scores = np.zeros(FRAMES)
    vertices = np.tile(points, (FRAMES, 1, 1)).astype(np.float32)
    return MeshTrack(person, vertices, np.ones(FRAMES, bool), scores, scores)


def owned(meshes: list[MeshTrack], front: int) -> list[np.ndarray]:
    """Masks [T, H, W] of two boards, one of which is in front."""
    masks = []
    for mesh in meshes:
        xy = CAMERA.project(mesh.vertices[0])
        (left, top), (right, bottom) = xy.min(0).clip(0).astype(int), xy.max(0).astype(int)
        mask = np.zeros((FRAMES, CAMERA.height, CAMERA.width), bool)
        mask[:, top:bottom, left:right] = True
        masks.append(mask)
    masks[1 - front] &= ~masks[front]
    return masks


def test_a_mesh_that_masks_say_is_in_front_comes_to_the_front_and_images_stay():
    meshes = [board(0, -0.2, 3.1), board(1, 0.2, 3.0)]
    ordered = order_in_depth(meshes, owned(meshes, front=0), CAMERA, 24.0)
    assert (ordered[0].vertices[..., 2].max(1) < ordered[1].vertices[..., 2].min(1)).all()
    for before, after in zip(meshes, ordered, strict=True):
        np.testing.assert_allclose(CAMERA.project(after.vertices), CAMERA.project(before.vertices), atol=1e-3)


def test_a_right_order_is_left_alone_and_so_are_people_apart():
    meshes = [board(0, -0.2, 3.0), board(1, 0.2, 3.2)]
    for mesh, same in zip(meshes, order_in_depth(meshes, owned(meshes, front=0), CAMERA, 24.0), strict=True):
        np.testing.assert_allclose(same.vertices, mesh.vertices, rtol=1e-6)
    apart = [board(0, -1.0, 4.0), board(1, 1.0, 3.0)]
    assert order_in_depth(apart, owned(apart, front=0), CAMERA, 24.0) is apart


def test_one_bad_mask_among_frames_does_not_turn_the_order():
    meshes = [board(0, -0.2, 3.0), board(1, 0.2, 3.1)]
    masks = owned(meshes, front=0)
    other = owned(meshes, front=1)
    for mask, wrong in zip(masks, other, strict=True):
        mask[4] = wrong[4]
    ordered = order_in_depth(meshes, masks, CAMERA, 24.0)
    assert (ordered[0].vertices[..., 2].mean(1) < ordered[1].vertices[..., 2].mean(1)).all()


def test_a_mesh_that_was_scaled_has_no_pose_and_others_keep_theirs():
    pose = BodyPose(np.zeros((FRAMES, 1, 3, 3)), np.zeros((FRAMES, 1, 3)), np.zeros(1))
    meshes = [replace(mesh, pose=pose) for mesh in (board(0, -0.2, 3.1), board(1, 0.2, 3.0), board(2, 3.0, 3.0))]
    masks = [*owned(meshes[:2], front=0), np.zeros((FRAMES, CAMERA.height, CAMERA.width), bool)]
    ordered = order_in_depth(meshes, masks, CAMERA, 24.0)
    assert [mesh.pose for mesh in ordered] == [None, None, pose]


def dense_solution(overlaps: list[_Overlap], frames: int, people: int, fps: float) -> np.ndarray:
    """The minimum of the sum that `_solve` documents, by the dense least squares of its active terms."""
    scale = np.zeros((people, frames))
    largest = max(overlap.cells for overlap in overlaps)
    for _ in range(12):
        rows, values = [], []

        def add(terms: dict[tuple[int, int], float], value: float, sigma: float, rows=rows, values=values) -> None:
            row = np.zeros((people, frames))
            for at, factor in terms.items():
                row[at] = factor / sigma
            rows.append(row.ravel())
            values.append(value / sigma)

        for i in range(people):
            for t in range(frames):
                add({(i, t): 1}, 0, 0.08)
            for t in range(frames - 1):
                add({(i, t + 1): 1, (i, t): -1}, 0, 0.005 / np.sqrt(fps / 30))
        for t, i, j, ratio, sign, cells in overlaps:
            if sign * (ratio + scale[i, t] - scale[j, t]) < 0.015:
                add({(i, t): 1, (j, t): -1}, sign * 0.015 - ratio, 0.02 / np.sqrt(cells / largest))
        scale = np.linalg.lstsq(np.array(rows), np.array(values), rcond=None)[0].reshape(people, frames)
    return scale


def test_scales_are_those_of_the_documented_sum_of_squares():
    rng = np.random.default_rng(0)
    overlaps = [
        _Overlap(t, i, j, float(rng.normal(0, 0.1)), float(rng.choice([-1, 1])), int(rng.integers(12, 90)))
        for t in range(6)
        for i, j in ((1, 4), (4, 7), (1, 7))
    ]
    # The solver is given the meshes that overlap, by their indices.
    named = [
        overlap._replace(first=[1, 4, 7].index(overlap.first), second=[1, 4, 7].index(overlap.second))
        for overlap in overlaps
    ]
    np.testing.assert_allclose(_solve(overlaps, [1, 4, 7], 6, 24.0), dense_solution(named, 6, 3, 24.0), atol=1e-8)


def test_a_thousand_frames_of_sixteen_people_take_little_time_and_memory():
    """A dense system of them would have 16,000 rows and columns: 2 GB."""
    overlaps = [_Overlap(t, i, i + 1, 0.05, -1.0, 40) for t in range(1000) for i in range(0, 16, 2)]
    begin = time.process_time()
    with traced_memory() as memory:
        scale = _solve(overlaps, list(range(16)), 1000, 24.0)
    assert time.process_time() - begin < 5
    assert memory.peak < 50e6
    assert (0.05 + scale[0::2] - scale[1::2] < 0).all()
