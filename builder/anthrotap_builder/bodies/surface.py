"""Points on a body's surface, and a sample of them spread evenly."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np


@dataclass(frozen=True)
class SurfacePoints:
    """Points fixed on a mesh's surface, whatever its pose.

    Attributes:
        face: [K] int32, the triangle that each point lies on.
        barycentric: [K, 3] float64, its weights for the triangle's corners; they sum to one.
        vertex: [K] int32, the nearest corner of that triangle.
    """

    face: np.ndarray
    barycentric: np.ndarray
    vertex: np.ndarray

    def __len__(self) -> int:
        return len(self.face)

    def first(self, count: int) -> SurfacePoints:
        """The first `count` points."""
        return SurfacePoints(self.face[:count], self.barycentric[:count], self.vertex[:count])

    def positions(self, vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
        """[..., K, 3]: where the points are on `vertices` [..., V, 3] joined by `faces` [F, 3]."""
        corners = vertices[..., faces[self.face], :]
        return np.einsum("...kcx,kc->...kx", corners, self.barycentric)


@dataclass(frozen=True, eq=False)
class MeshSurface:
    """A triangle mesh that is no body model of ours.

    Attributes:
        name: as in a dataset's `body_model`.
        template: [V, 3] float32, the mesh in one pose.
        faces: [F, 3] int32.
    """

    name: str
    template: np.ndarray
    faces: np.ndarray

    def surface_points(self, count: int, seed: int) -> SurfacePoints:
        """`count` points spread evenly over the surface; the same for the same seed."""
        return _sample(self, count, seed)


def sample_surface(
    vertices: np.ndarray, faces: np.ndarray, count: int, seed: int, allowed: np.ndarray | None = None
) -> SurfacePoints:
    """Points spread evenly over a surface: farthest-point sampling among random candidates.

    Args:
        vertices: [V, 3] float, the mesh at rest.
        faces: [F, 3] int.
        count: how many points.
        seed: of the random candidates; the same seed gives the same points.
        allowed: [F] bool, faces that may carry a point; all when left out.

    Raises:
        ValueError: if `count` is not positive or no allowed face has an area.
    """
    if count < 1:
        raise ValueError(f"at least one surface point is needed, got {count}")
    rng = np.random.default_rng(seed)
    corners = vertices[faces].astype(np.float64)
    area = np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1)
    if allowed is not None:
        area = area * allowed
    if not area.sum() > 0:
        raise ValueError("no allowed face has an area to put points on")
    candidates = 8 * count
    face = rng.choice(len(faces), candidates, p=area / area.sum())
    # Uniform in a triangle by the square-root map (Osada et al., Shape Distributions, 2002).
    root, split = np.sqrt(rng.random(candidates)), rng.random(candidates)
    barycentric = np.stack([1 - root, root * (1 - split), root * split], axis=1)
    places = np.einsum("kcx,kc->kx", corners[face], barycentric)

    places = np.ascontiguousarray(places.T)
    chosen = np.empty(count, np.int64)
    distance = np.full(candidates, np.inf)
    chosen[0] = 0
    for i in range(1, count):
        distance = np.minimum(distance, ((places - places[:, chosen[i - 1], None]) ** 2).sum(0))
        chosen[i] = distance.argmax()
    face, barycentric = face[chosen].astype(np.int32), barycentric[chosen]
    vertex = faces[face, barycentric.argmax(1)].astype(np.int32)
    return SurfacePoints(face, barycentric, vertex)


def outer_faces(vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """[F] bool: faces whose middle is visible from at least one of 26 directions."""
    from anthrotap_builder.geometry.visibility import visible_points  # numba: only where a body is made

    middles = SurfacePoints(
        face=np.arange(len(faces), dtype=np.int32),
        barycentric=np.full((len(faces), 3), 1 / 3),
        vertex=faces[:, 0],
    )
    outer = np.zeros(len(faces), bool)
    steps = (-1.0, 0.0, 1.0)
    for direction in (np.array([x, y, z]) for x in steps for y in steps for z in steps if x or y or z):
        forward = direction / np.linalg.norm(direction)
        side = np.cross(forward, [0.3, 0.5, 0.8])
        side /= np.linalg.norm(side)
        view = np.stack([side, np.cross(forward, side), forward])
        outer |= visible_points([vertices @ view.T + [0, 0, 30.0]], [faces], [middles])[0]
    return outer


@lru_cache(maxsize=8)
def _sample(surface: MeshSurface, count: int, seed: int) -> SurfacePoints:
    return sample_surface(surface.template, surface.faces, count, seed)
