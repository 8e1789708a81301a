"""Seen, hidden, or too close to call: a fitted mesh is a little off, and so are its contours and depth order."""

from __future__ import annotations

import numpy as np

from anthrotap_builder.bodies.surface import SurfacePoints
from anthrotap_builder.config import VisibilitySettings
from anthrotap_builder.projection import Camera
from anthrotap_builder.visibility import visible_points

ASIDE = np.array([[-1.0, 0, 0], [1, 0, 0], [0, -1, 0], [0, 1, 0]])


def see_points(
    vertices: list[np.ndarray],
    faces: np.ndarray,
    surface: SurfacePoints,
    camera: Camera,
    settings: VisibilitySettings,
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Which surface points of everyone are visible, and of which that can be told for certain.

    A point is looked at where it is, exactly, and again at four places beside it that are lifted towards the
    camera. Visible is certain if the surface is not grazed and all four are visible: no contour passes nearby.
    Hidden is certain if all four are hidden: what hides the point reaches further, and is nearer by more than the
    lift.

    Args:
        vertices: one entry a person, float [V, 3], camera coordinates, metres.
        faces: int [F, 3], of everyone.
        surface: the K points, on everyone.
        camera: of the clip.
        settings: how far beside, how much lifted.

    Returns:
        One entry a person: visible and certain, bool [K] each.
    """
    count = len(surface)
    repeated = SurfacePoints(
        np.tile(surface.face, 5), np.tile(surface.barycentric, (5, 1)), np.tile(surface.vertex, 5)
    )
    offsets, facing = [], []
    for mesh in vertices:
        places = surface.positions(mesh.astype(np.float64), faces)
        distance = np.linalg.norm(places, axis=1, keepdims=True)
        to_camera = -places / distance
        corners = mesh[faces[surface.face]].astype(np.float64)
        normal = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
        normal /= np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-12)
        facing.append((normal * to_camera).sum(1))
        pixels = settings.contour_pixels * min(camera.height, camera.width) / 256
        beside = pixels / camera.focal * places[:, 2:]  # metres, at each point's depth
        moved = [settings.lift * to_camera + beside * aside for aside in ASIDE]
        offsets.append(np.concatenate([np.zeros_like(places), *moved]))
    looks = visible_points(vertices, [faces] * len(vertices), [repeated] * len(vertices), offsets)
    result = []
    for look, cosine in zip(looks, facing, strict=True):
        visible, around = look[:count], look[count:].reshape(4, count)
        certain = np.where(visible, around.all(0) & (cosine > settings.grazing), ~around.any(0))
        result.append((visible, certain))
    return result
