"""Points of a rendered clip, and their exact tracks."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from benchmarks.synthetic.ground_truth import GroundTruth
from benchmarks.synthetic.raster import NEAR
from benchmarks.synthetic.renderer import Scene

POINTS, ON_BACKGROUND = 64, 16
# Frames in which a query point is visible, at least.
MIN_VISIBLE = 5
# Pixels around a query point that show the surface it is on.
EDGE_MARGIN = 0.75


def sample_tracks(
    scene: Scene,
    truth: GroundTruth,
    rng: np.random.Generator,
    count: int = POINTS,
    on_background: int = ON_BACKGROUND,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Choose points at random among those that pixels of random frames show, and track each through all frames.

    Points that are visible in fewer than `MIN_VISIBLE` frames, or that are at the very edge of their surface when they
    are first visible, are skipped: they would make ambiguous queries.

    Args:
        scene, truth: the clip.
        rng: of the choice.
        count: how many points.
        on_background: how many of them are on the room or its furniture.

    Returns:
        xy, visible, owner, as in `RenderedTracks`; points of people or objects first.

    Raises:
        ValueError: if the scene does not show enough such points, or something is too near the camera to be rendered.
    """
    for vertices in (*truth.people, truth.occluders):
        depth = vertices[..., 2]
        if ((depth > 0) & (depth < NEAR)).any():
            raise ValueError(f"something comes nearer to the camera than {NEAR} m")
    movers = len(truth.people)
    surfaces = _with_furniture(truth)
    found = _sample_surface(scene, surfaces, movers, rng)
    parts = []
    for background, wanted in ((False, count - on_background), (True, on_background)):
        own = found.of((found.owner < 0) | (found.owner >= movers) if background else
                       (found.owner >= 0) & (found.owner < movers))  # fmt: skip
        own = own.of(rng.permutation(len(own.owner))[: 4 * wanted])
        xy, visible = track_points(scene, surfaces, own)
        good = np.flatnonzero((visible.sum(1) >= MIN_VISIBLE) & _clear_of_edges(surfaces, own, xy, visible, movers))
        if len(good) < wanted:
            where = "the background" if background else "people or objects"
            raise ValueError(f"only {len(good)} of {wanted} points on {where} are visible enough")
        good = np.sort(good[:wanted])
        parts.append((xy[good], visible[good], np.where(own.owner < movers, own.owner, -1)[good]))
    xy, visible, owner = (np.concatenate(part) for part in zip(*parts, strict=True))
    return xy, visible, owner


@dataclass(frozen=True)
class SurfaceSamples:
    """K points on surfaces.

    Attributes:
        owner: [K] int, the mesh that each point is on; -1 for the room.
        face, barycentric: [K] int and [K, 3], the position on the mesh.
        world: [K, 3], the position in the world of points on the room.
    """

    owner: np.ndarray
    face: np.ndarray
    barycentric: np.ndarray
    world: np.ndarray

    def of(self, index: np.ndarray) -> SurfaceSamples:
        return SurfaceSamples(self.owner[index], self.face[index], self.barycentric[index], self.world[index])


def _with_furniture(truth: GroundTruth) -> GroundTruth:
    """Return the ground truth with its furniture as another mesh that has points."""
    return replace(
        truth,
        people=[*truth.people, truth.occluders],
        faces=[*truth.faces, truth.occluder_faces],
        occluders=truth.occluders[:, :0],
        occluder_faces=truth.occluder_faces[:0],
    )


def _sample_surface(scene: Scene, surfaces: GroundTruth, movers: int, rng: np.random.Generator) -> SurfaceSamples:
    """Sample what random pixels of random frames show.

    In each of 16 frames, these are up to 40 points of each person or object, and 60 of the background.
    """
    parts = []
    for t in np.sort(rng.choice(surfaces.num_frames, min(16, surfaces.num_frames), replace=False)):
        xy = rng.uniform(0, 1, (1500, 2)) * [surfaces.width, surfaces.height]
        owner, face, barycentric = surfaces.surface_point_under(int(t), xy)
        world = room_points_under(scene, int(t), xy)
        shown = SurfaceSamples(owner, face, barycentric, world)
        parts += [shown.of(np.flatnonzero(owner == mover)[:40]) for mover in range(movers)]
        parts.append(shown.of(np.flatnonzero((owner < 0) | (owner >= movers))[:60]))
    return SurfaceSamples(
        *(np.concatenate([getattr(part, name) for part in parts]) for name in SurfaceSamples.__dataclass_fields__)
    )


def room_points_under(scene: Scene, t: int, xy: np.ndarray) -> np.ndarray:
    """Return the positions [K, 3] on the inside of the room that lie behind raster positions [K, 2] of frame t."""
    rotation, position, focal = scene.camera.rotations()[t], scene.camera.position[t], scene.camera.focal[t]
    rays = np.concatenate([(xy - [scene.width / 2, scene.height / 2]) / focal, np.ones((len(xy), 1))], axis=1)
    rays = rays @ rotation
    with np.errstate(divide="ignore"):
        reach = (np.where(rays > 0, scene.room.high, scene.room.low) - position) / rays
    return position + reach.min(1, keepdims=True) * rays


def track_points(scene: Scene, surfaces: GroundTruth, points: SurfaceSamples) -> tuple[np.ndarray, np.ndarray]:
    """Return xy [K, T, 2] and visible [K, T] of points in all frames of a clip.

    Where a point is behind the camera, xy is that of the nearest frame in which it is not.
    """
    # Points of the room are added as triangles without area, which occlude nothing.
    room = (points.world - scene.camera.position[:, None]) @ scene.camera.rotations().transpose(0, 2, 1)
    count = len(points.owner)
    surfaces = replace(
        surfaces,
        people=[*surfaces.people, room],
        faces=[*surfaces.faces, np.arange(count, dtype=np.int32)[:, None].repeat(3, 1)],
    )
    in_room = points.owner < 0
    owner = np.where(in_room, len(surfaces.people) - 1, points.owner)
    face = np.where(in_room, np.arange(count), points.face)
    barycentric = np.where(in_room[:, None], [1.0, 0, 0], points.barycentric)
    xy = np.empty((count, surfaces.num_frames, 2))
    visible = np.empty((count, surfaces.num_frames), bool)
    for t in range(surfaces.num_frames):
        xy[:, t], visible[:, t] = surfaces.locate(t, owner, face, barycentric)
    known = ~np.isnan(xy[..., 0])
    frames = np.arange(surfaces.num_frames)
    for k in np.flatnonzero(~known.all(1)):
        in_front = np.flatnonzero(known[k])
        xy[k] = xy[k, in_front[np.abs(frames[:, None] - in_front).argmin(1)]]
    return xy, visible


def _clear_of_edges(
    surfaces: GroundTruth, points: SurfaceSamples, xy: np.ndarray, visible: np.ndarray, movers: int
) -> np.ndarray:
    """Return whether the pixels around each point, where it is first visible, show its own mesh or the background."""
    clear = np.array(visible.any(1))
    first = visible.argmax(1)
    own = np.where(points.owner < movers, points.owner, -1)
    for t in np.unique(first):
        current = np.flatnonzero(first == t)
        for offset in ((EDGE_MARGIN, 0), (-EDGE_MARGIN, 0), (0, EDGE_MARGIN), (0, -EDGE_MARGIN)):
            around = np.clip(xy[current, t] + offset, 0.01, [surfaces.width - 0.01, surfaces.height - 0.01])
            owner = surfaces.surface_point_under(int(t), around)[0]
            clear[current] &= np.where(owner < movers, owner, -1) == own[current]
    return clear
