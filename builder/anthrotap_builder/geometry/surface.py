"""Points on a body's surface, and a sample of them spread evenly."""

from __future__ import annotations

from dataclasses import dataclass

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
        """Return the first `count` points."""
        return SurfacePoints(self.face[:count], self.barycentric[:count], self.vertex[:count])

    def positions(self, vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
        """Return the positions [..., K, 3] of the points on `vertices` [..., V, 3] joined by `faces` [F, 3]."""
        corners = vertices[..., faces[self.face], :]
        return np.einsum("...kcx,kc->...kx", corners, self.barycentric)

    def view_cosines(self, vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
        """Return the cosines [K] float64 between the surface's normal at each point and the direction to the camera.

        Args:
            vertices: [V, 3] float, camera coordinates.
            faces: [F, 3] int, counterclockwise as seen from outside.
        """
        corners = vertices[faces[self.face]].astype(np.float64)
        normal = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
        position = self.positions(vertices.astype(np.float64), faces)
        lengths = np.linalg.norm(normal, axis=1) * np.linalg.norm(position, axis=1)
        return -(normal * position).sum(1) / np.maximum(lengths, 1e-12)


def sample_surface(
    vertices: np.ndarray, faces: np.ndarray, count: int, seed: int, allowed: np.ndarray | None = None
) -> SurfacePoints:
    """Sample points spread evenly over a surface: farthest-point sampling among random candidates.

    Args:
        vertices: [V, 3] float, the mesh at rest.
        faces: [F, 3] int.
        count: number of points.
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
    positions = np.ascontiguousarray(np.einsum("kcx,kc->kx", corners[face], barycentric).T)
    # Each next point is the candidate that is farthest from all points chosen so far.
    chosen = np.empty(count, np.int64)
    distance = np.full(candidates, np.inf)
    chosen[0] = 0
    for i in range(1, count):
        distance = np.minimum(distance, ((positions - positions[:, chosen[i - 1], None]) ** 2).sum(0))
        chosen[i] = distance.argmax()
    face, barycentric = face[chosen].astype(np.int32), barycentric[chosen]
    vertex = faces[face, barycentric.argmax(1)].astype(np.int32)
    return SurfacePoints(face, barycentric, vertex)
