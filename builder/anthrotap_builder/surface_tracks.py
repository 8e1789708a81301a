"""From meshes to labels: surface points projected in every frame, with their visibility and its margin.

A recovered mesh is a little off, and so are its contours and its depth order. The *visibility margin* says where that
could change the visibility of a point, which makes its label invalid.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields

import numpy as np

from anthrotap_builder.context import ClipContext
from anthrotap_builder.geometry.surface import SurfacePoints
from anthrotap_builder.geometry.visibility import visible_points
from anthrotap_builder.mesh_recovery import MeshTrack

# Cosine between the surface's normal and the direction to the camera: visible points below it are uncertain.
MIN_NORMAL_COSINE = 0.3
# How many frames the mesh may be ahead of a turning body, or behind: visible points that such a turn would bring below
# that cosine are uncertain too.
TURNING_FRAMES = 1.0
# Distance of the four neighbors of a point, pixels of a frame with a short side of 256: contours may be off by so much.
CONTOUR_TOLERANCE = 2.0
# How much nearer to the camera the neighbors are, meters.
DEPTH_OFFSET = 0.03
# An occluded point is certain if at least so many of its four neighbors are occluded too.
MIN_OCCLUDED_NEIGHBORS = 0

_LEFT_RIGHT_UP_DOWN = np.array([[-1.0, 0, 0], [1, 0, 0], [0, -1, 0], [0, 1, 0]])


@dataclass(frozen=True)
class SurfaceTracks:
    """Tracks of sampled surface points of all people, by the meshes alone.

    Attributes:
        xy: [N, T, 2] float32, raster pixels; NaN in frames without a mesh.
        visible: [N, T] bool, no mesh is in front of the point.
        certain: [N, T] bool, visible or occluded by more than the margin.
        self_occluded: [N, T] bool, a part of the point's own body is in front of it.
        person: [N] int32, index of the person in the clip.
        vertex: [N] int32, the nearest vertex.
    """

    xy: np.ndarray
    visible: np.ndarray
    certain: np.ndarray
    self_occluded: np.ndarray
    person: np.ndarray
    vertex: np.ndarray

    def select(self, tracks: np.ndarray) -> SurfaceTracks:
        """Return some of the tracks, in the order of their indices, [M] int; one may come several times."""
        return SurfaceTracks(*(getattr(self, each.name)[tracks] for each in fields(self)))


def project_and_test_visibility(context: ClipContext, meshes: list[MeshTrack]) -> SurfaceTracks:
    """Project the configured number of surface points of all people in every frame, and find which are visible."""
    body, camera = context.body, context.camera
    surface = body.surface_points(context.config.points, context.config.seed)
    frames = len(meshes[0].vertices)
    xy = np.full((len(meshes), len(surface), frames, 2), np.nan, np.float32)
    visible = np.zeros((len(meshes), len(surface), frames), bool)
    certain, self_occluded = np.zeros_like(visible), np.zeros_like(visible)
    cosine = np.full(visible.shape, np.nan, np.float32)

    def test(t: int) -> None:
        present = [index for index, mesh in enumerate(meshes) if mesh.present[t]]
        vertices = [meshes[index].vertices[t] for index in present]
        results = visibility_with_margin(context, vertices, surface)
        for index, mesh_vertices, result in zip(present, vertices, results, strict=True):
            xy[index, :, t] = camera.project(surface.positions(mesh_vertices, body.faces))
            visible[index, :, t], certain[index, :, t] = result
            cosine[index, :, t] = surface.view_cosines(mesh_vertices, body.faces)
            alone = result[0]
            if len(present) > 1 and context.config.visibility != "none":
                (alone,) = visible_points([mesh_vertices], [body.faces], [surface])
            self_occluded[index, :, t] = ~alone

    with ThreadPoolExecutor(context.threads) as pool:
        list(pool.map(test, range(frames)))
    if context.config.visibility == "margin":
        # The change of each cosine in a frame, the larger one of before and after; where a neighbor has no mesh, none.
        steps = np.pad(np.abs(np.nan_to_num(np.diff(cosine, axis=2))), ((0, 0), (0, 0), (1, 1)))
        turning = np.maximum(steps[..., 1:], steps[..., :-1])
        certain &= ~visible | (cosine - TURNING_FRAMES * turning > MIN_NORMAL_COSINE)
    # One entry for each segment of a mesh: a track has labels of one segment.
    parts = []
    for index, mesh in enumerate(meshes):
        segment = np.zeros(frames, int) if mesh.segment is None else mesh.segment
        parts += [(index, segment == one) for one in np.unique(segment[mesh.present])]
    of_part = [index for index, _ in parts]
    within = np.array([frames_of_part for _, frames_of_part in parts], bool).reshape(-1, 1, frames)
    return SurfaceTracks(
        np.where(within[..., None], xy[of_part], np.float32(np.nan)).reshape(-1, frames, 2),
        (visible[of_part] & within).reshape(-1, frames),
        (certain[of_part] & within).reshape(-1, frames),
        (self_occluded[of_part] & within).reshape(-1, frames),
        np.repeat([meshes[index].person for index in of_part], len(surface)).astype(np.int32),
        np.tile(surface.vertex, len(of_part)),
    )


def visibility_with_margin(
    context: ClipContext, vertices: list[np.ndarray], surface: SurfacePoints
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Find which surface points of all people are visible in a frame, and which by more than the margin.

    Rays are cast to each point and, for the margin, to four neighbors of it that are moved towards the camera.
    Visible is certain if the normal is not at a grazing angle and all four are visible: no contour passes nearby
    (`project_and_test_visibility` also takes into account how fast the surface turns).
    Occluded is certain if MIN_OCCLUDED_NEIGHBORS of the four are occluded: what occludes the point reaches further,
    and is nearer by more than the offset.

    Args:
        context: the clip, with the faces of all people in its body; `config.visibility` says what is tested.
        vertices: one entry a person, float [V, 3], camera coordinates, meters.
        surface: the K points, on each person.

    Returns:
        One entry a person: visible and certain, bool [K] each.
    """
    count, rule = len(surface), context.config.visibility
    if rule == "none":
        return [(np.ones(count, bool), np.ones(count, bool)) for _ in vertices]
    faces, camera = context.body.faces, context.camera
    directions = _LEFT_RIGHT_UP_DOWN if rule == "margin" else _LEFT_RIGHT_UP_DOWN[:0]
    min_cosine = MIN_NORMAL_COSINE if rule == "margin" else 0.0
    # The points themselves first, then all of them in each direction.
    copies = 1 + len(directions)
    repeated = SurfacePoints(
        np.tile(surface.face, copies),
        np.tile(surface.barycentric, (copies, 1)),
        np.tile(surface.vertex, copies),
    )
    offsets, cosines = [], []
    for mesh in vertices:
        positions = surface.positions(mesh.astype(np.float64), faces)
        to_camera = -positions / np.linalg.norm(positions, axis=1, keepdims=True)
        cosines.append(surface.view_cosines(mesh, faces))
        # Pixels to meters at each point's depth.
        sideways = CONTOUR_TOLERANCE * context.unit / camera.focal * positions[:, 2:]
        moved = [DEPTH_OFFSET * to_camera + sideways * direction for direction in directions]
        offsets.append(np.concatenate([np.zeros_like(positions), *moved]))
    cast = visible_points(vertices, [faces] * len(vertices), [repeated] * len(vertices), offsets)
    result = []
    for rays, cosine in zip(cast, cosines, strict=True):
        visible, neighbors = rays[:count], rays[count:].reshape(len(directions), count)
        certain = np.where(
            visible,
            neighbors.all(0) & (cosine > min_cosine),
            (~neighbors).sum(0) >= min(MIN_OCCLUDED_NEIGHBORS, len(directions)),
        )
        result.append((visible, certain))
    return result
