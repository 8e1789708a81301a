"""Visibility of body points, by exact ray casting from the camera center to each of them (the *targets*).

All rays share one origin, so no ray tree is needed. The targets are projected and sorted into a grid over the image;
then each triangle tests, once, the targets in the grid cells that it covers. Its bounding box in the image, its depth
and the target's owner discard nearly all of them in float32, 16 at a time; the float64 ray test decides the rest, and a
target that is occluded once is not tested again.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import numba
import numpy as np

from anthrotap_builder.geometry.surface import SurfacePoints

# A triangle occludes a target only if it is nearer by more than this fraction of the target's distance: surfaces that
# touch (seams with doubled vertices, a point on the edge of a neighboring triangle) do not occlude each other.
DEPTH_MARGIN = 1e-9

# Targets tested at a time: the compiler makes one or two vector registers of them.
_BLOCK = 16
# |x/z| and |y/z| are clipped to this, so that float32 arithmetic on them stays finite.
_FARTHEST = 1e30
# Replaces a target's depth, which is >= 0, once something occludes it.
_OCCLUDED = np.float32(-1)

# Boxes around triangles are widened by this fraction of their largest coordinate. Rounding to float32 keeps order, so a
# target inside a triangle is inside its box without that; the four float32 steps include targets that are inside only
# by the rounding of the float64 ray test (about 1e-15), so that no ray along an edge slips through.
_WIDENING = np.float32(2.0**-22)

_jit = numba.njit(cache=True, nogil=True, error_model="numpy")


def visible_vertices(vertices: Sequence[np.ndarray], faces: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Find the mesh vertices that are visible from a camera at the origin.

    A vertex is visible if it lies in front of the camera (z > 0) and no triangle of any mesh cuts the open
    segment from the camera center to it. Triangles that have the vertex as a corner do not count. A triangle
    includes its boundary, so no ray slips through between neighbors; but one that has no area, or is seen exactly
    edge-on, occludes nothing, and neither does one that only touches the vertex (`DEPTH_MARGIN`).

    Runs on the calling thread, without the GIL for all but a few percent of the time.

    Args:
        vertices: one entry a person, float [V, 3], meters, in camera coordinates (x right, y down, z forward).
            A vertex that is not finite is not visible, and its triangles occlude nothing.
        faces: one entry a person, int [F, 3], indices into that person's vertices. People may differ in V and F.

    Returns:
        One entry a person, bool [V].

    Raises:
        ValueError: a shape or type is wrong, or a face names a vertex that does not exist.
    """
    scene = _join_meshes(vertices, faces)
    owners = np.arange(len(scene.vertices), dtype=np.int32)
    visible = _cast(scene, scene.vertices, scene.image, owners)
    return [visible[first:last] for first, last in scene.vertex_ranges]


def visible_points(
    vertices: Sequence[np.ndarray],
    faces: Sequence[np.ndarray],
    points: Sequence[SurfacePoints],
    offsets: Sequence[np.ndarray] | None = None,
) -> list[np.ndarray]:
    """Find the points on body surfaces that are visible from a camera at the origin.

    As `visible_vertices`, except that the triangle that does not count is the one on which the point lies.

    Args:
        vertices: one entry a person, float [V, 3], meters, in camera coordinates.
        faces: one entry a person, int [F, 3].
        points: one entry a person, K points on that person's mesh. People may differ in K.
        offsets: one entry a person, float [K, 3], meters: tests the points moved by so much instead.

    Returns:
        One entry a person, bool [K].

    Raises:
        ValueError: a shape or type is wrong, or a face or a point names something that does not exist.
    """
    scene = _join_meshes(vertices, faces)
    if len(points) != len(vertices):
        raise ValueError(f"points has {len(points)} entries but vertices {len(vertices)}: one of each a person")
    positions = [np.zeros((0, 3))]
    owners = [np.zeros(0, np.int32)]
    for person, of_person in enumerate(points):
        _check_points(of_person, len(scene.faces[person]), person)
        first, last = scene.vertex_ranges[person]
        own = of_person.positions(scene.vertices[first:last], scene.faces[person])
        positions.append(own if offsets is None else own + offsets[person])
        owners.append(np.asarray(of_person.face, np.int32) + np.int32(scene.face_owners[person]))
    targets = np.concatenate(positions)
    visible = _cast(scene, targets, _project(targets), np.concatenate(owners))
    ends = np.cumsum([len(own) for own in owners])
    return [visible[first:last] for first, last in pairwise(ends)]


class _Scene(NamedTuple):
    """The meshes of all people.

    A target's *owner* is what cannot occlude it: number v < V is vertex v, so all triangles with that corner;
    number V + f is triangle f alone, counted over all people.

    vertices: float64 [V, 3], of all people.
    image: float32 [V, 3], their projections by `_project`.
    vertex_ranges: where each person's vertices begin and end.
    faces: one entry a person, int32 [F, 3], indices into that person's vertices.
    face_owners: the owner number of each person's first triangle.
    """

    vertices: np.ndarray
    image: np.ndarray
    vertex_ranges: list[tuple[int, int]]
    faces: list[np.ndarray]
    face_owners: list[int]


class _Grid(NamedTuple):
    """Cells over the image plane z = 1, in rows; positions outside belong to the cells at the border."""

    left: np.float32
    top: np.float32
    columns_per_unit: np.float32
    rows_per_unit: np.float32
    columns: int
    rows: int


class _Bins(NamedTuple):
    """Targets sorted by grid cell, row by row, so that neighboring cells in a row are one run of targets.

    start: int32 [cells + 1], where the run of each cell begins.
    x, y, depth: float32, the targets' projections; owner: int32, their owners; target: int32, their indices in the
    caller's order. `_BLOCK` occluded ones follow, so that a block may be read from any start.
    """

    start: np.ndarray
    x: np.ndarray
    y: np.ndarray
    depth: np.ndarray
    owner: np.ndarray
    target: np.ndarray


def _join_meshes(vertices: Sequence[np.ndarray], faces: Sequence[np.ndarray]) -> _Scene:
    if len(vertices) != len(faces):
        raise ValueError(f"faces has {len(faces)} entries but vertices {len(vertices)}: one of each a person")
    all_vertices = [np.zeros((0, 3))]
    all_faces = []
    for person in range(len(vertices)):
        mesh_vertices, mesh_faces = np.asarray(vertices[person]), np.asarray(faces[person])
        _check_mesh(mesh_vertices, mesh_faces, person)
        all_vertices.append(mesh_vertices)
        all_faces.append(np.ascontiguousarray(mesh_faces, np.int32))
    ends = np.cumsum([len(of_person) for of_person in all_vertices]).tolist()
    face_ends = np.cumsum([ends[-1], *[len(of_person) for of_person in all_faces]]).tolist()
    joined = np.concatenate(all_vertices, dtype=np.float64)
    return _Scene(
        vertices=joined,
        image=_project(joined),
        vertex_ranges=list(pairwise(ends)),
        faces=all_faces,
        face_owners=face_ends[:-1],
    )


def _check_mesh(vertices: np.ndarray, faces: np.ndarray, person: int) -> None:
    if vertices.ndim != 2 or vertices.shape[1] != 3 or vertices.dtype.kind != "f":
        raise ValueError(f"vertices[{person}] must be float [V, 3], not {_type_of(vertices)}")
    if faces.ndim != 2 or faces.shape[1] != 3 or faces.dtype.kind not in "iu":
        raise ValueError(f"faces[{person}] must be int [F, 3], not {_type_of(faces)}")
    _check_indices(faces, len(vertices), f"faces[{person}]", f"vertices[{person}] has {len(vertices)} vertices")


def _check_points(points: SurfacePoints, count: int, person: int) -> None:
    face, weights = np.asarray(points.face), np.asarray(points.barycentric)
    if face.ndim != 1 or face.dtype.kind not in "iu":
        raise ValueError(f"points[{person}].face must be int [K], not {_type_of(face)}")
    if weights.shape != (len(face), 3):
        raise ValueError(f"points[{person}].barycentric must be [{len(face)}, 3], not {list(weights.shape)}")
    _check_indices(face, count, f"points[{person}].face", f"faces[{person}] has {count} triangles")


def _check_indices(indices: np.ndarray, count: int, name: str, limit: str) -> None:
    if indices.size and not (indices.min() >= 0 and indices.max() < count):
        raise ValueError(f"{name} has indices from {indices.min()} to {indices.max()}, but {limit}")


def _type_of(array: np.ndarray) -> str:
    return f"{array.dtype} {list(array.shape)}"


def _cast(scene: _Scene, targets: np.ndarray, image: np.ndarray, owners: np.ndarray) -> np.ndarray:
    """Cast a ray to each target: visible, bool [K].

    Args:
        scene: what may occlude them.
        targets: float64 [K, 3].
        image: float32 [K, 3], their projections by `_project`.
        owners: int32 [K], see `_Scene`.
    """
    grid = _lay_grid(image)
    bins = _bin_targets(grid, image, owners)
    for (first, last), faces, face_owner in zip(scene.vertex_ranges, scene.faces, scene.face_owners, strict=True):
        mesh = (scene.vertices[first:last], scene.image[first:last], faces)
        _occlude_targets(grid, bins, targets, *mesh, first, face_owner)
    visible = np.zeros(len(targets), bool)
    visible[bins.target[bins.depth >= 0]] = True
    return visible


def _lay_grid(image: np.ndarray) -> _Grid:
    """Lay the grid over nearly all targets: a few far outside, next to the camera plane, must not coarsen it.

    Four cells a target, 16 times as many in a row as in a column (measured: flat optimum), since a triangle reads
    the cells that it covers in one row as a single run.
    """
    # The box of a sample of the targets, without its outermost 64th on each side.
    sample = image[:: max(1, len(image) // 256)]
    sample = np.sort(sample[sample[:, 2] >= 0, :2].astype(np.float64), axis=0)
    if not len(sample):
        return _Grid(np.float32(0), np.float32(0), np.float32(1), np.float32(1), 1, 1)
    outliers = len(sample) // 64
    left, top = sample[outliers].tolist()
    right, bottom = sample[-1 - outliers].tolist()
    width, height = max(right - left, 1e-6), max(bottom - top, 1e-6)
    side, aspect = len(image) ** 0.5, (width / height) ** 0.5
    columns = int(min(max(8 * side * aspect, 1), 2000))
    rows = int(min(max(0.5 * side / aspect, 1), 2000))
    return _Grid(
        np.float32(left),
        np.float32(top),
        np.float32(columns / width),
        np.float32(rows / height),
        columns,
        rows,
    )


# The kernels below carry no annotations: numba infers their types, and mypy cannot see through its decorator.


@_jit
def _project(points):
    """Project float64 [N, 3] to float32 [N, 3]: x/z, y/z and depth z; depth -1 where not in front or not finite.

    Divides (rather than multiplying by 1/z): then every step rounds correctly, and so never changes an order.
    """
    image = np.empty((len(points), 3), np.float32)
    for i in range(len(points)):
        x, y, z = points[i, 0], points[i, 1], points[i, 2]
        if z > 0 and np.isfinite(x) and np.isfinite(y) and np.isfinite(z):
            image[i, 0] = min(max(x / z, -_FARTHEST), _FARTHEST)
            image[i, 1] = min(max(y / z, -_FARTHEST), _FARTHEST)
            image[i, 2] = min(z, _FARTHEST)
        else:
            image[i, 0] = 0
            image[i, 1] = 0
            image[i, 2] = -1
    return image


@_jit
def _cell(position, first, cells_per_unit, count):
    """Return the row or column of a position. It never decreases with it, rounding included: the method relies on
    that."""
    cell = (position - first) * cells_per_unit
    return np.int32(min(max(cell, np.float32(0)), np.float32(count - 1)))


@_jit
def _bin_targets(grid, image, owners):
    """Sort the targets in front of the camera into the grid's cells, by a stable counting sort."""
    # Three steps on one array: start[c + 2] counts cell c; summed up, start[c + 1] is where c begins; and as it
    # advances with each target put into c, it ends up where c + 1 begins.
    start = np.zeros(grid.rows * grid.columns + 2, np.int32)
    cells = np.empty(len(image), np.int32)
    for i in range(len(image)):
        cells[i] = -1
        if image[i, 2] >= 0:
            row = _cell(image[i, 1], grid.top, grid.rows_per_unit, grid.rows)
            column = _cell(image[i, 0], grid.left, grid.columns_per_unit, grid.columns)
            cells[i] = row * grid.columns + column
            start[cells[i] + 2] += 1
    for cell in range(2, len(start)):
        start[cell] += start[cell - 1]

    size = start[-1] + _BLOCK
    x, y = np.zeros(size, np.float32), np.zeros(size, np.float32)
    depth = np.full(size, _OCCLUDED, np.float32)
    owner, target = np.full(size, -1, np.int32), np.full(size, -1, np.int32)
    for i in range(len(image)):
        if cells[i] >= 0:
            slot = start[cells[i] + 1]
            start[cells[i] + 1] += 1
            x[slot], y[slot], depth[slot] = image[i, 0], image[i, 1], image[i, 2]
            owner[slot], target[slot] = owners[i], i
    return _Bins(start[:-1], x, y, depth, owner, target)


@_jit
def _occlude_targets(grid, bins, targets, vertices, image, faces, vertex_owner, face_owner):
    """Mark in `bins.depth` all targets that one mesh occludes; its owner numbers begin at the last two."""
    for face in range(len(faces)):
        # Unsigned indices spare numba the check for negative ones.
        a, b, c = np.uint32(faces[face, 0]), np.uint32(faces[face, 1]), np.uint32(faces[face, 2])
        # The triangle's box in the image, also where the triangle is partly behind the camera.
        box = _box(_row(image, a), _row(image, b), _row(image, c))
        if box[4] < 0:
            box = _box_of_front_part(_row(vertices, a), _row(vertices, b), _row(vertices, c))
        box = _widen(box)
        left, right, top, bottom, _ = box
        # Targets that belong to its corners or to itself do not count.
        owners = (
            np.int32(vertex_owner + a),
            np.int32(vertex_owner + b),
            np.int32(vertex_owner + c),
            np.int32(face_owner + face),
        )
        # In each row of the grid, the cells that it covers are one run of targets.
        first_column = _cell(left, grid.left, grid.columns_per_unit, grid.columns)
        last_column = _cell(right, grid.left, grid.columns_per_unit, grid.columns)
        first_row = _cell(top, grid.top, grid.rows_per_unit, grid.rows)
        last_row = _cell(bottom, grid.top, grid.rows_per_unit, grid.rows)
        for row in range(first_row, last_row + 1):
            first = bins.start[np.uint32(row * grid.columns + first_column)]
            last = bins.start[np.uint32(row * grid.columns + last_column + 1)]
            for block in range(first, last, _BLOCK):
                candidates = _candidates(bins, np.uint64(block), box, owners)
                if candidates:
                    corners = _row(vertices, a), _row(vertices, b), _row(vertices, c)
                    for i in range(_BLOCK):
                        slot = np.uint64(block) + np.uint64(i)
                        if (candidates >> i) & 1 and _cuts(corners, _row(targets, np.uint32(bins.target[slot]))):
                            bins.depth[slot] = _OCCLUDED


@_jit
def _row(array, i):
    """Return array[i] as three numbers; for a view, numba would count references."""
    return array[i, 0], array[i, 1], array[i, 2]


@_jit
def _box(a, b, c):
    """Return the box of a projected triangle: left, right, top, bottom, nearest depth (-1 if not wholly in front)."""
    return (
        min(a[0], min(b[0], c[0])),
        max(a[0], max(b[0], c[0])),
        min(a[1], min(b[1], c[1])),
        max(a[1], max(b[1], c[1])),
        min(a[2], min(b[2], c[2])),
    )


@_jit
def _box_of_front_part(a, b, c):
    """Return the box of the part of a triangle (corners in space) in front of the camera; empty if there is none.

    The image of that part is the hull of the images of the corners in front and, for each side that crosses the
    camera plane, of the point at infinity in the direction of the crossing.
    """
    left, right, top, bottom = _FARTHEST, -_FARTHEST, _FARTHEST, -_FARTHEST
    # NaN is in no cell.
    if np.isfinite(a[0] + a[1] + a[2] + b[0] + b[1] + b[2] + c[0] + c[1] + c[2]):
        for p, q in ((a, b), (b, c), (c, a)):
            if p[2] > 0:
                x, y = (
                    min(max(p[0] / p[2], -_FARTHEST), _FARTHEST),
                    min(max(p[1] / p[2], -_FARTHEST), _FARTHEST),
                )
                left, right, top, bottom = min(left, x), max(right, x), min(top, y), max(bottom, y)
            if (p[2] > 0) != (q[2] > 0):
                front, back = (p, q) if p[2] > 0 else (q, p)
                left, right = _stretch_to_infinity(left, right, front[0], front[2], back[0], back[2])
                top, bottom = _stretch_to_infinity(top, bottom, front[1], front[2], back[1], back[2])
    return np.float32(left), np.float32(right), np.float32(top), np.float32(bottom), np.float32(0)


@_jit
def _stretch_to_infinity(low, high, p, p_depth, q, q_depth):
    """Stretch an interval to where the side from p (in front) to q (not) goes as it nears the camera plane."""
    # The direction of the crossing, scaled by p_depth - q_depth > 0.
    direction = q * p_depth - p * q_depth
    rounding = 1e-15 * (abs(q * p_depth) + abs(p * q_depth))
    if direction > -rounding:
        high = _FARTHEST
    if direction < rounding:
        low = -_FARTHEST
    return low, high


@_jit
def _widen(box):
    left, right, top, bottom, nearest = box
    margin = max(max(abs(left), abs(right)), max(abs(top), abs(bottom))) * _WIDENING
    return left - margin, right + margin, top - margin, bottom + margin, nearest - nearest * _WIDENING


@_jit
def _candidates(bins, block, box, owners):
    """Return the targets of a block that a triangle may occlude: bit i for target i. Without a branch, to be
    vectorized."""
    left, right, top, bottom, nearest = box
    a, b, c, face = owners
    found = np.int32(0)
    for i in range(_BLOCK):
        slot = block + np.uint64(i)
        x, y, depth, owner = bins.x[slot], bins.y[slot], bins.depth[slot], bins.owner[slot]
        inside = (x >= left) & (x <= right) & (y >= top) & (y <= bottom) & (depth >= nearest)
        foreign = (owner != a) & (owner != b) & (owner != c) & (owner != face)
        found = np.int32(found | (np.int32(inside & foreign) << np.int32(i)))
    return found


@_jit
def _cuts(corners, target):
    """Return whether a triangle cuts the open segment from the origin to a target, up to `DEPTH_MARGIN`.

    The line passes through the triangle if its volumes with the three sides have one sign or vanish. Neighbors
    compute the volume of a shared side from the same products, exactly negated, so no line passes between them
    (as in Woop, Benthin and Wald: Watertight Ray/Triangle Intersection, JCGT 2013). Depth is taken from the
    triangle's plane relative to a corner: small triangles far away cost no precision.
    """
    (ax, ay, az), (bx, by, bz), (cx, cy, cz) = corners
    x, y, z = target
    # Signed volumes of the tetrahedra that the ray spans with each side.
    side_bc = x * (by * cz - bz * cy) + y * (bz * cx - bx * cz) + z * (bx * cy - by * cx)
    side_ca = x * (cy * az - cz * ay) + y * (cz * ax - cx * az) + z * (cx * ay - cy * ax)
    side_ab = x * (ay * bz - az * by) + y * (az * bx - ax * bz) + z * (ax * by - ay * bx)
    if min(side_bc, min(side_ca, side_ab)) < 0 and max(side_bc, max(side_ca, side_ab)) > 0:
        return False
    # The triangle's normal n; the target and the plane along it, seen from the origin and from a corner.
    ux, uy, uz = bx - ax, by - ay, bz - az
    vx, vy, vz = cx - ax, cy - ay, cz - az
    nx, ny, nz = uy * vz - uz * vy, uz * vx - ux * vz, ux * vy - uy * vx
    to_target = nx * x + ny * y + nz * z
    to_plane = nx * ax + ny * ay + nz * az
    behind_plane = nx * (x - ax) + ny * (y - ay) + nz * (z - az)
    if to_target < 0:
        to_target, to_plane, behind_plane = -to_target, -to_plane, -behind_plane
    return to_plane > 0 and behind_plane > DEPTH_MARGIN * to_target
