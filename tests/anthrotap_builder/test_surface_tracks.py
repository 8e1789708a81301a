"""Visibility of surface points and its margin, on sheets before a camera."""

import numpy as np
import pytest

from anthrotap_builder import surface_tracks
from anthrotap_builder.bodies import MeshSurface
from anthrotap_builder.geometry.camera import Camera
from anthrotap_builder.geometry.surface import SurfacePoints
from anthrotap_builder.mesh_recovery import MeshTrack
from anthrotap_builder.surface_tracks import CONTOUR_TOLERANCE, project_and_test_visibility, visibility_with_margin
from helpers.clip_contexts import clip_context

CAMERA = Camera(focal=256.0, width=256, height=256)
FRAMES = np.zeros((1, 256, 256, 3), np.uint8)


def square(depth: float, left: float, right: float, steps: int = 40, slope: float = 0.0) -> np.ndarray:
    """A sheet of `steps` x `steps` cells, facing the camera, x from left to right, at z = depth + slope x."""
    x, y = np.meshgrid(np.linspace(left, right, steps + 1), np.linspace(-0.5, 0.5, steps + 1))
    return np.stack([x, y, depth + slope * x], -1).reshape(-1, 3)


def sheet_faces(steps: int = 40) -> np.ndarray:
    """Wound so that the sheet faces the camera."""
    corner = (np.arange(steps)[:, None] * (steps + 1) + np.arange(steps)).reshape(-1)
    first = np.stack([corner, corner + steps + 1, corner + 1], 1)
    second = np.stack([corner + 1, corner + steps + 1, corner + steps + 2], 1)
    return np.concatenate([first, second]).astype(np.int32)


FACES = sheet_faces()
POINTS = SurfacePoints(
    np.arange(len(FACES), dtype=np.int32), np.full((len(FACES), 3), 1 / 3), FACES[:, 0].astype(np.int32)
)


CONTEXT = clip_context(FRAMES, MeshSurface("mesh", square(2.0, -0.5, 0.5), FACES), CAMERA)


@pytest.fixture(autouse=True)
def _all_neighbors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(surface_tracks, "MIN_OCCLUDED_NEIGHBORS", 4)
    monkeypatch.setattr(surface_tracks, "MIN_NORMAL_COSINE", 0.2)


def cast(*sheets: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The first sheet's points' pixels, visible and certain, with the others around."""
    visible, certain = visibility_with_margin(CONTEXT, list(sheets), POINTS)[0]
    return CAMERA.project(POINTS.positions(sheets[0], FACES)), visible, certain


def test_an_open_surface_is_certainly_visible():
    _, visible, certain = cast(square(2.0, -0.5, 0.5))
    assert visible.all()
    assert certain.all()


def test_near_an_occluders_contour_nothing_is_certain():
    xy, visible, certain = cast(square(2.0, -0.5, 0.5), square(1.0, -0.5, 0.0))
    from_contour = xy[:, 0] - 128  # the occluder ends at x = 0
    np.testing.assert_array_equal(visible, from_contour > 0)
    np.testing.assert_array_equal(certain, np.abs(from_contour) > CONTOUR_TOLERANCE)


def test_how_many_neighbors_of_an_occluded_point_must_be_occluded_is_a_constant(monkeypatch):
    sheets = [square(2.0, -0.5, 0.5), square(1.0, -0.5, 0.0)]
    occluded = CAMERA.project(POINTS.positions(sheets[0], FACES))[:, 0] < 128
    fractions = []
    for neighbors in (0, 2, 4):
        monkeypatch.setattr(surface_tracks, "MIN_OCCLUDED_NEIGHBORS", neighbors)
        _, _, certain = cast(*sheets)
        fractions.append(certain[occluded].mean())
    assert fractions[0] == 1
    assert fractions[0] >= fractions[1] > fractions[2]


def test_without_a_margin_visibility_is_that_of_the_rays_and_without_rays_all_is_visible():
    sheets = [square(2.0, -0.5, 0.5), square(1.0, -0.5, 0.0)]
    with_margin = visibility_with_margin(CONTEXT, sheets, POINTS)
    for rule in ("rays", "none"):
        body = CONTEXT.body
        found = visibility_with_margin(clip_context(FRAMES, body, CAMERA, visibility=rule), sheets, POINTS)
        for (visible, certain), (expected, _) in zip(found, with_margin, strict=True):
            np.testing.assert_array_equal(visible, expected if rule == "rays" else True)
            assert certain.all()


@pytest.mark.parametrize(("gap", "known"), [(0.01, False), (0.2, True)])
def test_points_barely_behind_a_surface_are_not_certainly_occluded(gap: float, known: bool):
    xy, visible, certain = cast(square(2.0 + gap, -0.2, 0.2), square(2.0, -0.5, 0.5))
    middle = np.abs(xy - 128).max(1) < 20
    assert not visible[middle].any()
    assert (certain[middle] == known).all()


def test_a_surface_at_a_grazing_angle_is_not_certainly_visible():
    _, visible, certain = cast(square(2.0, 0.0, 0.1, slope=15.0))
    assert visible.any()
    assert not certain.any()


@pytest.mark.parametrize(("degrees_per_frame", "known"), [(0, True), (2, True), (25, False)])
def test_a_surface_that_turns_away_fast_is_uncertain_before_it_is_at_a_grazing_angle(
    degrees_per_frame: float, known: bool
):
    angles = np.radians(60 + degrees_per_frame * np.array([-1, 0, 1]))
    sheets = np.stack([square(2.0, -0.05 * np.cos(a), 0.05 * np.cos(a), slope=np.tan(a)) for a in angles])
    mesh = MeshTrack(0, sheets.astype(np.float32), np.ones(3, bool), np.zeros(3), np.ones(3))
    context = clip_context(np.repeat(FRAMES, 3, axis=0), MeshSurface("mesh", sheets[0], FACES), CAMERA)
    tracks = project_and_test_visibility(context, [mesh])
    inside = np.abs(tracks.xy[:, 1] - 128).max(1) < 40
    assert tracks.visible[inside, 1].all()
    assert (tracks.certain[inside, 1] == known).all()


def test_the_own_body_is_told_from_another_one_in_front():
    sheets = [square(2.0, -0.5, 0.5), square(1.0, -0.5, 0.5)]
    meshes = [
        MeshTrack(i, sheet[None].astype(np.float32), np.ones(1, bool), np.zeros(1), np.ones(1))
        for i, sheet in enumerate(sheets)
    ]
    tracks = project_and_test_visibility(CONTEXT, meshes)
    behind = tracks.person == 0
    assert not tracks.visible[behind].any()
    assert not tracks.self_occluded.any()


def test_no_people_have_no_visibility():
    assert visibility_with_margin(CONTEXT, [], POINTS) == []
