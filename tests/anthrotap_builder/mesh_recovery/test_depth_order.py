"""Who is in front of whom, by the masks."""

import numpy as np

from anthrotap_builder.geometry.camera import Camera
from anthrotap_builder.mesh_recovery.depth_order import order_in_depth
from anthrotap_builder.mesh_recovery.track import MeshTrack

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
