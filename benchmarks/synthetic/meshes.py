"""Triangle meshes that shapes are made of: grids, spheres, and their orientation."""

from __future__ import annotations

import numpy as np


def circle(count: int) -> np.ndarray:
    return 2 * np.pi * np.arange(count) / count


def grid_faces(rows: int, columns: int, ring_rows: bool = False, ring_columns: bool = False) -> np.ndarray:
    """Two triangles for each square of a grid of vertices, row by row; a ring closes on itself."""
    last = rows - (not ring_rows), columns - (not ring_columns)
    i, j = (index.ravel() for index in np.indices(last))
    below, right = (i + 1) % rows, (j + 1) % columns
    a, b, c, d = (row * columns + column for row, column in ((i, j), (below, j), (below, right), (i, right)))
    return np.concatenate([np.stack([a, b, c], axis=1), np.stack([a, c, d], axis=1)])


def outward(vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """Return the faces of a closed mesh, oriented outwards."""
    a, b, c = np.moveaxis(vertices[faces], 1, 0)
    inside_out = np.einsum("fx,fx->", a, np.cross(b, c)) < 0
    return np.ascontiguousarray(faces[:, ::-1] if inside_out else faces, np.int32)


def sphere(divisions: int) -> tuple[np.ndarray, np.ndarray]:
    """Unit vectors and faces: an icosahedron, each of whose triangles is cut in four so many times."""
    g = (1 + np.sqrt(5)) / 2
    vertices = [np.roll([0, a, b], n) for n in range(3) for a in (-1, 1) for b in (-g, g)]
    positions = np.array(vertices)
    distance = np.linalg.norm(positions[:, None] - positions, axis=-1)
    near = np.abs(distance - 2) < 1e-6
    faces: np.ndarray = np.array(
        [(i, j, k) for i in range(12) for j in range(i) for k in range(j) if near[i, j] and near[j, k]
         and near[i, k]]
    )  # fmt: skip
    for _ in range(divisions):
        edges = np.sort(faces[:, [[0, 1], [1, 2], [2, 0]]].reshape(-1, 2), axis=1)
        pairs, number = np.unique(edges, axis=0, return_inverse=True)
        middle = number.reshape(-1, 3) + len(positions)
        positions = np.concatenate([positions, positions[pairs].mean(1)])
        a, b, c = faces.T
        ab, bc, ca = middle.T
        faces = np.concatenate(
            [np.stack(corners, axis=1) for corners in ((a, ab, ca), (ab, b, bc), (ca, bc, c), (ab, bc, ca))]
        )
    positions /= np.linalg.norm(positions, axis=1, keepdims=True)
    normals = np.cross(positions[faces[:, 1]] - positions[faces[:, 0]], positions[faces[:, 2]] - positions[faces[:, 0]])
    flip = (normals * positions[faces[:, 0]]).sum(1) < 0
    faces[flip] = faces[flip][:, ::-1]
    return positions, faces.astype(np.int32)
