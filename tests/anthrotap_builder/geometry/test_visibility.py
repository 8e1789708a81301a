"""Visibility against the textbook's ray test in float64, and against the same in integers, where nothing rounds."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numba
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from anthrotap_builder.geometry.surface import SurfacePoints
from anthrotap_builder.geometry.visibility import DEPTH_MARGIN, visible_points, visible_vertices

Mesh = tuple[np.ndarray, np.ndarray]

VISIBLE, OCCLUDED, DOUBTFUL = 1, 0, -1


@numba.njit(cache=True)
def _dot(a, b):
    return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]


@numba.njit(cache=True)
def _cross(a, b):
    return a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]


@numba.njit(cache=True)
def _minus(a, b):
    return a[0] - b[0], a[1] - b[1], a[2] - b[2]


@numba.njit(cache=True)
def _length(a):
    return np.sqrt(_dot(a, a))


@numba.njit(cache=True)
def _moller_trumbore(d, a, b, c, margin, roundings):
    """Does the triangle occlude d? Moller and Trumbore's test (JGT 1997), in which boundaries count as hits.

    With `roundings` > 0 the answer is DOUBTFUL where so many float64 roundings could change it: each may alter a
    volume of three vectors by 2**-53 of the product of their lengths.
    """
    e1, e2 = _minus(b, a), _minus(c, a)
    s = _minus((0.0, 0.0, 0.0), a)
    p, q = _cross(d, e2), _cross(s, e1)
    det, u, v, t = _dot(e1, p), _dot(s, p), _dot(d, q), _dot(e2, q)
    if det < 0:
        det, u, v, t = -det, -u, -v, -t
    unit = roundings * 2.0**-53
    to_a, to_b, to_c = _length(a), _length(b), _length(c)
    plane_error = unit * _length(e1) * _length(e2) * (_length(d) + to_a)
    side_error = unit * _length(d) * (to_a * (to_a + to_b + to_c) + to_b * to_c) + plane_error
    if not np.isfinite(to_a + to_b + to_c):
        return VISIBLE
    if det <= plane_error:  # seen edge-on or without area: no hit, but rounding may make one near by
        near = abs(u) <= side_error + det and abs(v) <= side_error + det
        return DOUBTFUL if roundings > 0 and near else VISIBLE
    inside, between = min(u, min(v, det - u - v)), min(t, (1 - margin) * det - t)
    if inside < -side_error or between < -plane_error or (roundings == 0 and between == 0):
        return VISIBLE
    return OCCLUDED if roundings == 0 or (inside > side_error and between > plane_error) else DOUBTFUL


@numba.njit(cache=True)
def _brute_force(vertices, faces, targets, own_vertex, own_face, margin, roundings):
    answer = np.empty(len(targets), np.int8)
    for k in range(len(targets)):
        d = (targets[k, 0], targets[k, 1], targets[k, 2])
        answer[k] = VISIBLE if d[2] > 0 and np.isfinite(_length(d)) else OCCLUDED
        for f in range(len(faces)):
            i, j, m = faces[f, 0], faces[f, 1], faces[f, 2]
            if f == own_face[k] or i == own_vertex[k] or j == own_vertex[k] or m == own_vertex[k]:
                continue
            a = (vertices[i, 0], vertices[i, 1], vertices[i, 2])
            b = (vertices[j, 0], vertices[j, 1], vertices[j, 2])
            c = (vertices[m, 0], vertices[m, 1], vertices[m, 2])
            hit = _moller_trumbore(d, a, b, c, margin, roundings)
            if hit != VISIBLE and answer[k] != OCCLUDED:
                answer[k] = hit
            if answer[k] == OCCLUDED:
                break
    return answer


def _oracle(meshes: list[Mesh], points: list[SurfacePoints] | None = None, exact: bool = False) -> np.ndarray:
    """VISIBLE, OCCLUDED or DOUBTFUL for all vertices, or all points, of all people."""
    vertices = np.concatenate([mesh[0] for mesh in meshes]).astype(np.float64)
    starts = np.cumsum([0] + [len(mesh[0]) for mesh in meshes])
    face_starts = np.cumsum([0] + [len(mesh[1]) for mesh in meshes])
    faces = np.concatenate([mesh[1] + start for mesh, start in zip(meshes, starts[:-1], strict=True)])
    if points is None:
        targets, own_vertex = vertices, np.arange(len(vertices))
        own_face = np.full(len(vertices), -1)
    else:
        targets = np.concatenate(
            [of.positions(mesh[0].astype(float), mesh[1]) for of, mesh in zip(points, meshes, strict=True)]
        )
        own_face = np.concatenate([of.face + start for of, start in zip(points, face_starts[:-1], strict=True)])
        own_vertex = np.full(len(targets), -1)
    margin, roundings = (0.0, 0.0) if exact else (DEPTH_MARGIN, 64.0)
    return _brute_force(vertices, faces.astype(np.int64), targets, own_vertex, own_face, margin, roundings)


def _assert_agrees(meshes: list[Mesh], points: list[SurfacePoints] | None = None, doubtful: float = 0.01) -> None:
    vertices, faces = [mesh[0] for mesh in meshes], [mesh[1] for mesh in meshes]
    found = visible_vertices(vertices, faces) if points is None else visible_points(vertices, faces, points)
    expected = _oracle(meshes, points)
    sure = expected != DOUBTFUL
    np.testing.assert_array_equal(np.concatenate(found)[sure], expected[sure] == VISIBLE)
    assert (~sure).mean() <= doubtful


def _icosphere(splits: int) -> Mesh:
    g = (1 + 5**0.5) / 2
    vertices = [(-1, g, 0), (1, g, 0), (-1, -g, 0), (1, -g, 0), (0, -1, g), (0, 1, g)]
    vertices += [(0, -1, -g), (0, 1, -g), (g, 0, -1), (g, 0, 1), (-g, 0, -1), (-g, 0, 1)]
    faces = [(0, 11, 5), (0, 5, 1), (0, 1, 7), (0, 7, 10), (0, 10, 11), (1, 5, 9), (5, 11, 4), (11, 10, 2)]
    faces += [(10, 7, 6), (7, 1, 8), (3, 9, 4), (3, 4, 2), (3, 2, 6), (3, 6, 8), (3, 8, 9), (4, 9, 5)]
    faces += [(2, 4, 11), (6, 2, 10), (8, 6, 7), (9, 8, 1)]
    for _ in range(splits):
        middle: dict[tuple[int, int], int] = {}
        smaller = []
        for a, b, c in faces:
            halves = []
            for edge in ((a, b), (b, c), (c, a)):
                key = (min(edge), max(edge))
                if key not in middle:
                    middle[key] = len(vertices)
                    vertices.append(tuple(np.add(vertices[edge[0]], vertices[edge[1]])))
                halves.append(middle[key])
            ab, bc, ca = halves
            smaller += [(a, ab, ca), (b, bc, ab), (c, ca, bc), (ab, bc, ca)]
        faces = smaller
        vertices = [tuple(np.array(v) / np.linalg.norm(v)) for v in vertices]
    return np.array(vertices) / np.linalg.norm(vertices, axis=1, keepdims=True), np.array(faces)


def _capsule(start: np.ndarray, end: np.ndarray, radius: float) -> Mesh:
    """A closed limb: a sphere whose halves are drawn apart."""
    sphere, faces = _icosphere(2)
    axis = (end - start) / np.linalg.norm(end - start)
    return np.where((sphere @ axis > 0)[:, None], end, start) + radius * sphere, faces


def _join(meshes: list[Mesh]) -> Mesh:
    starts = np.cumsum([0] + [len(mesh[0]) for mesh in meshes])[:-1]
    faces = [mesh[1] + start for mesh, start in zip(meshes, starts, strict=True)]
    return np.concatenate([mesh[0] for mesh in meshes]), np.concatenate(faces)


def _body(rng: np.random.Generator, position: np.ndarray) -> Mesh:
    """A figure of capsules about as tall as a person, its limbs bent at random, its parts overlapping."""
    neck, hips = np.array([0.0, -0.5, 0.0]), np.array([0.0, 0.1, 0.0])
    parts = [_capsule(neck, hips, 0.16), _capsule(neck + [0, -0.2, 0], neck + [0, -0.27, 0], 0.11)]
    for root, length, radius in (
        (neck, 0.3, 0.05),
        (neck, 0.3, 0.05),
        (hips, 0.42, 0.08),
        (hips, 0.42, 0.08),
    ):
        joint = root + rng.normal(0, 0.1, 3)
        for _ in range(2):
            bone = np.array([0.0, 1.0, 0.0]) + rng.normal(0, 0.6, 3)
            end = joint + length * bone / np.linalg.norm(bone)
            parts.append(_capsule(joint, end, radius))
            joint = end
    vertices, faces = _join(parts)
    return (vertices + position).astype(np.float32), faces


def _random_points(rng: np.random.Generator, mesh: Mesh, count: int) -> SurfacePoints:
    face = rng.integers(0, len(mesh[1]), count).astype(np.int32)
    barycentric = rng.dirichlet([1, 1, 1], count)
    return SurfacePoints(face, barycentric, mesh[1][face, barycentric.argmax(1)].astype(np.int32))


def _soup(rng: np.random.Generator, count: int, center: np.ndarray, size: float, triangle: float) -> Mesh:
    corners = center + rng.normal(0, size, (count, 1, 3)) + rng.normal(0, triangle, (count, 3, 3))
    return corners.reshape(-1, 3), np.arange(3 * count).reshape(-1, 3)


@pytest.mark.parametrize("people", [1, 2, 3, 4])
def test_bodies_agree_with_textbook(people: int) -> None:
    rng = np.random.default_rng(people)
    bodies = [_body(rng, rng.uniform([-0.7, -0.2, 2.5], [0.7, 0.2, 5])) for _ in range(people)]
    _assert_agrees(bodies)
    _assert_agrees(bodies, [_random_points(rng, body, 500 + 10 * i) for i, body in enumerate(bodies)])


@pytest.mark.parametrize("depth", [-0.5, 0.0, 0.05, 0.3, 0.8])
def test_body_around_the_camera_agrees_with_textbook(depth: float) -> None:
    rng = np.random.default_rng(5)
    bodies = [_body(rng, np.array([0.1, 0.1, depth])), _body(rng, np.array([-0.3, 0.0, 3.0]))]
    _assert_agrees(bodies)
    _assert_agrees(bodies, [_random_points(rng, body, 500) for body in bodies])


@given(
    seed=st.integers(0, 2**32 - 1),
    people=st.integers(1, 4),
    depth=st.sampled_from([-1.0, 0.0, 0.1, 1.0, 5.0]),
    size=st.sampled_from([0.0, 0.01, 0.3, 2.0, 100.0]),
    triangle=st.sampled_from([1e-6, 1e-3, 0.1, 3.0, 1e3, 1e6]),
    stretch=st.sampled_from([1.0, 1e-4, 1e-8]),
)
@settings(deadline=None, max_examples=150)
def test_random_triangles_agree_with_textbook(
    seed: int, people: int, depth: float, size: float, triangle: float, stretch: float
) -> None:
    """Before, across and behind the camera plane, tiny and huge, in and far out of frame, flat in depth too."""
    rng = np.random.default_rng(seed)
    center = np.array([0.0, 0.0, depth])
    meshes = [_soup(rng, 40, center, size, 0.1), _soup(rng, 6, center, size, triangle)]
    meshes += [_soup(rng, int(rng.integers(0, 30)), center, 1.0, 0.3) for _ in range(people - 1)]
    meshes = [(vertices * [1, 1, stretch] + [0, 0, depth * (1 - stretch)], faces) for vertices, faces in meshes]
    _assert_agrees(meshes, doubtful=1.0)
    filled = [mesh for mesh in meshes if len(mesh[1])]
    _assert_agrees(filled, [_random_points(rng, mesh, 50) for mesh in filled], doubtful=1.0)


@given(
    coordinates=hnp.arrays(
        np.int64,
        st.tuples(st.integers(3, 40), st.just(3)),
        elements=st.integers(-3, 3),
    ),
    shift=st.integers(-2, 8),
    triangles=st.integers(1, 20),
    seed=st.integers(0, 2**32 - 1),
    scale=st.sampled_from([1.0, 0.25, 1024.0]),
)
@settings(deadline=None, max_examples=300)
def test_whole_numbers_agree_exactly(
    coordinates: np.ndarray, shift: int, triangles: int, seed: int, scale: float
) -> None:
    """Rays through corners and edges, degenerate and doubled triangles abound; nothing rounds, nothing is excused."""
    rng = np.random.default_rng(seed)
    vertices = (coordinates + [0, 0, shift]) * scale
    faces = rng.integers(0, len(vertices), (triangles, 3))
    expected = _oracle([(vertices, faces)], exact=True)
    np.testing.assert_array_equal(visible_vertices([vertices], [faces])[0], expected == VISIBLE)


@pytest.mark.parametrize("center", [(0, 0, 3), (1.5, -1, 2.2), (8, 3, 2)])
def test_convex_body_shows_the_corners_of_its_front_faces(center: tuple[float, float, float]) -> None:
    sphere, faces = _icosphere(4)
    vertices = sphere + center
    corners = vertices[faces]
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    facing = (normals * corners[:, 0]).sum(1) < 0
    expected = np.zeros(len(vertices), bool)
    expected[faces[facing]] = True
    np.testing.assert_array_equal(visible_vertices([vertices], [faces])[0], expected)


def test_points_on_edges_and_corners_are_not_occluded_by_neighbors() -> None:
    sphere, faces = _icosphere(3)
    vertices = sphere + [0.2, -0.1, 4]
    corners = vertices[faces]
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    front = np.flatnonzero((normals * corners[:, 0]).sum(1) < 0).astype(np.int32)
    for barycentric in ([1, 0, 0], [0.5, 0.5, 0], [0.1, 0, 0.9]):
        points = SurfacePoints(front, np.tile(np.float64(barycentric), (len(front), 1)), faces[front, 0])
        assert visible_points([vertices], [faces], [points])[0].all()


def test_no_ray_slips_through_the_edges_of_a_closed_mesh() -> None:
    """Targets behind a sphere, on rays through its corners and all along its edges, short of its contour."""
    rng = np.random.default_rng(0)
    sphere, faces = _icosphere(3)
    center = np.array([0.05, 0.02, 3])
    ends = (sphere + center)[faces][:, [0, 1]]
    weights = rng.uniform(0, 1, (len(faces), 1))
    targets = np.concatenate([ends[:, 0], ends[:, 0] * weights + ends[:, 1] * (1 - weights), ends.mean(1)])
    targets *= rng.uniform(2, 9, (len(targets), 1))
    off_center = np.linalg.norm(np.cross(targets, center), axis=1) / np.linalg.norm(targets, axis=1)
    targets = targets[off_center < 0.97]
    assert len(targets) > 1000
    assert not visible_vertices([sphere + center, targets], [faces, np.zeros((0, 3), int)])[1].any()


@pytest.mark.parametrize(("gap", "hides"), [(1e-2, True), (1e-6, True), (1e-8, True), (1e-12, False), (0.0, False)])
def test_sheets_close_in_depth(gap: float, hides: bool) -> None:
    """Anything nearer occludes, however little nearer, down to the margin in which surfaces count as touching."""
    rng = np.random.default_rng(3)
    sheet = np.array([[-1, -1, 2.0], [1, -1, 2.0], [1, 1, 2.0], [-1, 1, 2.0]])
    faces = np.array([[0, 1, 2], [0, 2, 3]])
    behind = np.column_stack([rng.uniform(-0.9, 0.9, (200, 2)), np.full(200, 2.0 + gap)])
    visible = visible_vertices([sheet, behind], [faces, np.zeros((0, 3), int)])[1]
    assert (visible == (not hides)).all()


def test_triangles_far_out_of_frame_occlude_what_is_in_frame() -> None:
    """One corner at |x/z| of hundreds to billions, the rest of the triangle across the picture."""
    rng = np.random.default_rng(4)
    targets = np.column_stack([rng.uniform(-1, 1, (300, 2)) * 5, np.full(300, 5.0)])
    for reach in (60.0, 1e3, 1e6, 1e9):
        slanted = np.array([[-2, -3, 2.0], [-2, 3, 2.0], [reach, 0.3, 1.0], [0.3, reach, 1e-3], [0, -1, -1.0]])
        for face in ([0, 1, 2], [0, 1, 3], [0, 2, 3], [1, 2, 4], [0, 1, 4]):
            _assert_agrees([(slanted, np.array([face])), (targets, np.zeros((0, 3), int))])


def test_answer_does_not_depend_on_order_precision_or_threads() -> None:
    rng = np.random.default_rng(6)
    bodies = [_body(rng, rng.uniform([-0.5, -0.2, 2], [0.5, 0.2, 4])) for _ in range(3)]
    vertices, faces = [body[0] for body in bodies], [body[1] for body in bodies]
    kept = [array.copy() for array in vertices + faces]
    first = visible_vertices(vertices, faces)
    assert 0.1 < np.concatenate(first).mean() < 0.6
    for one, other in zip(first, visible_vertices(vertices[::-1], faces[::-1])[::-1], strict=True):
        np.testing.assert_array_equal(one, other)
    shuffled = [rng.permutation(of_person)[:, [1, 2, 0]].astype(np.uint16) for of_person in faces]
    for one, other in zip(first, visible_vertices([v.astype(np.float64) for v in vertices], shuffled), strict=True):
        np.testing.assert_array_equal(one, other)
    with ThreadPoolExecutor(2) as pool:
        for again in pool.map(lambda _: visible_vertices(vertices, faces), range(6)):
            np.testing.assert_array_equal(np.concatenate(again), np.concatenate(first))
    for array, before in zip(vertices + faces, kept, strict=True):
        np.testing.assert_array_equal(array, before)


def test_a_triangle_does_not_occlude_its_own_corners_or_points_however_edge_on() -> None:
    rng = np.random.default_rng(7)
    face = np.array([[0, 1, 2]])
    for _ in range(100):
        a, b = rng.uniform([-2, -2, 1], [2, 2, 4], (2, 3))
        c = rng.uniform(0, 1) * a + rng.uniform(0, 1) * b  # in a plane with the camera, but for rounding
        points = SurfacePoints(np.zeros(9, np.int32), rng.dirichlet([1, 1, 1], 9), np.zeros(9, np.int32))
        assert visible_vertices([np.array([a, b, c])], [face])[0].all()
        assert visible_points([np.array([a, b, c])], [face], [points])[0].all()


def test_vertices_that_are_not_finite_are_occluded_and_occlude_nothing() -> None:
    sheet = np.array([[-1, -1, 2.0], [1, -1, 2.0], [1, 1, 2.0], [-1, 1, 2.0]])
    faces = np.array([[0, 1, 2], [0, 2, 3]])
    behind = np.array([[0.5, -0.5, 3.0], [-0.5, 0.5, 3.0]])
    for value in (np.nan, np.inf, -np.inf):
        for axis in range(3):
            broken = sheet.copy()
            broken[1, axis] = value
            on_sheet, beyond = visible_vertices([broken, behind], [faces, np.zeros((0, 3), int)])
            np.testing.assert_array_equal(on_sheet, [True, False, True, True])
            np.testing.assert_array_equal(beyond, [True, False])
    lost = visible_vertices([np.full((4, 3), np.nan), behind], [faces, np.zeros((0, 3), int)])
    assert not lost[0].any()
    assert lost[1].all()


def test_empty_meshes_and_no_people() -> None:
    assert visible_vertices([], []) == []
    assert visible_points([], [], []) == []
    nothing = np.zeros((0, 3)), np.zeros((0, 3), int)
    assert visible_vertices([nothing[0]], [nothing[1]])[0].shape == (0,)
    ahead_and_behind = np.array([[0, 0, 1.0], [0, 0, 0.0], [0, 0, -1.0]])
    for visible in (
        visible_vertices([nothing[0], ahead_and_behind], [nothing[1]] * 2),
        visible_vertices([ahead_and_behind], [nothing[1]]),
    ):
        np.testing.assert_array_equal(visible[-1], [True, False, False])
    none = SurfacePoints(np.zeros(0, np.int32), np.zeros((0, 3)), np.zeros(0, np.int32))
    assert visible_points([ahead_and_behind], [nothing[1]], [none])[0].shape == (0,)


@pytest.mark.parametrize(
    ("vertices", "faces", "message"),
    [
        (
            [np.zeros((4, 2))],
            [np.zeros((1, 3), int)],
            r"vertices\[0\] must be float \[V, 3\], not float64 \[4, 2\]",
        ),
        ([np.zeros((4, 3), int)], [np.zeros((1, 3), int)], r"vertices\[0\] must be float"),
        ([np.zeros((4, 3))], [np.zeros((1, 4), int)], r"faces\[0\] must be int \[F, 3\], not int64 \[1, 4\]"),
        ([np.zeros((4, 3))], [np.zeros((1, 3))], r"faces\[0\] must be int"),
        ([np.zeros((4, 3))], [], "faces has 0 entries but vertices 1"),
        (
            [np.zeros((4, 3))] * 2,
            [np.zeros((1, 3), int), np.array([[0, 1, 4]])],
            r"faces\[1\] has indices .* to 4",
        ),
        ([np.zeros((4, 3))], [np.array([[0, 1, -1]])], r"faces\[0\] has indices from -1"),
        ([np.zeros((4, 3))], [np.array([[0, 1, 2**32]])], r"faces\[0\] has indices from 0 to 4294967296"),
    ],
)
def test_malformed_meshes_are_rejected(vertices: list, faces: list, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        visible_vertices(vertices, faces)


@pytest.mark.parametrize(
    ("face", "barycentric", "message"),
    [
        ([[0]], np.ones((1, 3)), r"points\[0\].face must be int \[K\], not int64 \[1, 1\]"),
        ([0.5], np.ones((1, 3)), r"points\[0\].face must be int"),
        ([0], np.ones((2, 3)), r"points\[0\].barycentric must be \[1, 3\], not \[2, 3\]"),
        ([1], np.ones((1, 3)), r"points\[0\].face has indices from 1 to 1, but faces\[0\] has 1 triangles"),
        ([-1], np.ones((1, 3)), r"points\[0\].face has indices from -1"),
    ],
)
def test_malformed_points_are_rejected(face: list, barycentric: np.ndarray, message: str) -> None:
    points = SurfacePoints(np.array(face), barycentric, np.zeros(1, np.int32))
    with pytest.raises(ValueError, match=message):
        visible_points([np.zeros((3, 3))], [np.array([[0, 1, 2]])], [points])


def test_points_for_everyone_are_needed() -> None:
    with pytest.raises(ValueError, match="points has 0 entries but vertices 1"):
        visible_points([np.zeros((3, 3))], [np.array([[0, 1, 2]])], [])


@given(seed=st.integers(0, 2**32 - 1), power=st.integers(-20, 20))
@settings(deadline=None, max_examples=20)
def test_answer_does_not_depend_on_the_unit_of_length(seed: int, power: int) -> None:
    rng = np.random.default_rng(seed)
    vertices, faces = _soup(rng, 60, np.array([0, 0, 2.0]), 0.5, 0.4)
    assume(len(vertices))
    at_scale = visible_vertices([vertices * 2.0**power], [faces])[0]
    np.testing.assert_array_equal(at_scale, visible_vertices([vertices], [faces])[0])
