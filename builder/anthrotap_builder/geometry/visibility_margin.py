"""Seen, hidden, or too close to call: a fitted mesh is a little off, and so are its contours and depth order."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from anthrotap_builder.bodies import Body, MeshSurface
from anthrotap_builder.config import LabelingConfig, VisibilitySettings
from anthrotap_builder.geometry.camera import Camera
from anthrotap_builder.geometry.surface import SurfacePoints
from anthrotap_builder.geometry.visibility import visible_points
from anthrotap_builder.mesh_recovery import MeshTrack

ASIDE = np.array([[-1.0, 0, 0], [1, 0, 0], [0, -1, 0], [0, 1, 0]])


@dataclass(frozen=True)
class SurfaceTracks:
    """Sampled surface points of everyone, as the meshes say.

    Attributes:
        xy: [N, T, 2] float32, raster pixels; NaN in frames without a trusted mesh.
        visible: [N, T] bool, no mesh is in front of the point.
        certain: [N, T] bool, visible, or hidden, by as much as `VisibilitySettings` asks for.
        person: [N] int32, index of the person in the clip.
        vertex: [N] int32, the nearest vertex.
    """

    xy: np.ndarray
    visible: np.ndarray
    certain: np.ndarray
    person: np.ndarray
    vertex: np.ndarray


def project_and_test_visibility(
    body: Body | MeshSurface,
    meshes: list[MeshTrack],
    camera: Camera,
    config: LabelingConfig,
    threads: int,
) -> SurfaceTracks:
    """Projects `config.points` surface points of everyone in every frame, and finds which are seen."""
    surface = body.surface_points(config.points, config.seed)
    frames = len(meshes[0].vertices)
    xy = np.full((len(meshes), len(surface), frames, 2), np.nan, np.float32)
    visible = np.zeros((len(meshes), len(surface), frames), bool)
    certain = np.zeros_like(visible)

    def look(t: int) -> None:
        there = [index for index, mesh in enumerate(meshes) if mesh.present[t]]
        vertices = [meshes[index].vertices[t] for index in there]
        seen = see_points(vertices, body.faces, surface, camera, config.visibility)
        for index, mesh_vertices, (mesh_seen, mesh_certain) in zip(there, vertices, seen, strict=True):
            xy[index, :, t] = camera.project(surface.positions(mesh_vertices, body.faces))
            visible[index, :, t], certain[index, :, t] = mesh_seen, mesh_certain

    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(look, range(frames)))
    return SurfaceTracks(
        xy.reshape(-1, frames, 2),
        visible.reshape(-1, frames),
        certain.reshape(-1, frames),
        np.repeat([mesh.person for mesh in meshes], len(surface)).astype(np.int32),
        np.tile(surface.vertex, len(meshes)),
    )


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
    Hidden is certain if `hidden_around` of the four are hidden: what hides the point reaches further, and is nearer by
    more than the lift.

    Args:
        vertices: one entry a person, float [V, 3], camera coordinates, meters.
        faces: int [F, 3], of everyone.
        surface: the K points, on everyone.
        camera: of the clip.
        settings: how far beside, how much lifted.

    Returns:
        One entry a person: visible and certain, bool [K] each.
    """
    count = len(surface)
    if not settings.rays:
        return [(np.ones(count, bool), np.ones(count, bool)) for _ in vertices]
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
        beside = pixels / camera.focal * places[:, 2:]  # meters, at each point's depth
        moved = [settings.lift * to_camera + beside * aside for aside in ASIDE]
        offsets.append(np.concatenate([np.zeros_like(places), *moved]))
    looks = visible_points(vertices, [faces] * len(vertices), [repeated] * len(vertices), offsets)
    result = []
    for look, cosine in zip(looks, facing, strict=True):
        visible, around = look[:count], look[count:].reshape(4, count)
        certain = np.where(
            visible,
            around.all(0) & (cosine > settings.grazing),
            (~around).sum(0) >= settings.hidden_around,
        )
        result.append((visible, certain))
    return result
