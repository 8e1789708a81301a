import numpy as np
import pytest
from anthrotap_builder.geometry.visibility_margin import see_points

from anthrotap_builder.config import VisibilitySettings
from anthrotap_builder.geometry.camera import Camera
from anthrotap_builder.geometry.surface import SurfacePoints

CAMERA = Camera(focal=256.0, width=256, height=256)
SETTINGS = VisibilitySettings(grazing=0.2, contour_pixels=2.0, lift=0.03, hidden_around=4)


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


def look(*sheets: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The first sheet's points' pixels, visible and certain, with the others around."""
    visible, certain = see_points(list(sheets), FACES, POINTS, CAMERA, SETTINGS)[0]
    return CAMERA.project(POINTS.positions(sheets[0], FACES)), visible, certain


def test_an_open_surface_is_seen_for_certain():
    _, visible, certain = look(square(2.0, -0.5, 0.5))
    assert visible.all()
    assert certain.all()


def test_near_an_occluders_contour_nothing_is_certain():
    xy, visible, certain = look(square(2.0, -0.5, 0.5), square(1.0, -0.5, 0.0))
    from_contour = xy[:, 0] - 128  # the occluder ends at x = 0
    np.testing.assert_array_equal(visible, from_contour > 0)
    np.testing.assert_array_equal(certain, np.abs(from_contour) > SETTINGS.contour_pixels)


def test_how_much_around_a_hidden_point_must_be_hidden_is_a_setting():
    sheets = [square(2.0, -0.5, 0.5), square(1.0, -0.5, 0.0)]
    hidden = CAMERA.project(POINTS.positions(sheets[0], FACES))[:, 0] < 128
    shares = []
    for around in (0, 2, 4):
        settings = SETTINGS.model_copy(update={"hidden_around": around})
        _, certain = see_points(sheets, FACES, POINTS, CAMERA, settings)[0]
        shares.append(certain[hidden].mean())
    assert shares[0] == 1
    assert shares[0] >= shares[1] > shares[2]


@pytest.mark.parametrize(("gap", "known"), [(0.01, False), (0.2, True)])
def test_what_is_barely_behind_is_not_hidden_for_certain(gap: float, known: bool):
    xy, visible, certain = look(square(2.0 + gap, -0.2, 0.2), square(2.0, -0.5, 0.5))
    middle = np.abs(xy - 128).max(1) < 20
    assert not visible[middle].any()
    assert (certain[middle] == known).all()


def test_a_grazed_surface_is_not_seen_for_certain():
    _, visible, certain = look(square(2.0, 0.0, 0.1, slope=15.0))
    assert visible.any()
    assert not certain.any()


def test_nobody_sees_nothing():
    assert see_points([], FACES, POINTS, CAMERA, SETTINGS) == []
