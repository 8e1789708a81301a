"""Calibration and triangulation: known points through known lenses."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from benchmarks.real_footage.two_views import CalibratedCamera, aim, meet, read_qca

CAMERA = """<camera serial="{name}"><fov_video left="0" right="1087" top="0" bottom="1919"/>
<transform x="{x}" y="-20" z="30" r11="{r11}" r12="0" r13="0" r21="0" r22="1" r23="0" r31="0" r32="0" r33="1"/>
<intrinsic focalLengthU="{focal}" focalLengthV="107520" centerPointU="34816" centerPointV="61440" skew="{skew}"
 radialDistortion1="-0.05" radialDistortion2="0.14" radialDistortion3="0" tangentalDistortion1="0.001"
 tangentalDistortion2="-0.002"/></camera>"""


def _qca(**changes: object) -> str:
    values = {"name": "left", "x": 10, "r11": 1, "focal": 107520, "skew": 0} | changes
    return f"<calibration><cameras>{CAMERA.format(**values)}</cameras></calibration>"


def _looking_at_origin(center: np.ndarray, name: str) -> CalibratedCamera:
    forward = -center / np.linalg.norm(center)
    right = np.cross(forward, [0, 0, 1.0])
    right /= np.linalg.norm(right)
    return CalibratedCamera(
        name=name,
        width=1080,
        height=1920,
        focal=np.array([1680.0, 1675.0]),
        principal=np.array([533.0, 948.0]),
        distortion=np.array([-0.2, 0.15, 0.002, -0.003, 0.01]),  # stronger than any lens of the clips
        rotation=np.stack([right, np.cross(forward, right), forward]),
        center=center,
    )


@pytest.fixture
def cameras() -> tuple[CalibratedCamera, CalibratedCamera]:
    """Two distorted views of the world's origin, about 130 degrees apart."""
    return (
        _looking_at_origin(np.array([1400.0, -3000.0, 1900.0]), "a"),
        _looking_at_origin(np.array([-2500.0, 2600.0, 2000.0]), "b"),
    )


@pytest.fixture
def points() -> np.ndarray:
    """[50, 3] positions within a meter of the origin, millimeters."""
    return np.random.default_rng(0).uniform(-800, 800, (50, 3))


def test_projects_as_opencv_does(cameras, points):
    camera = cameras[0]
    matrix = np.array([[1680, 0, 533.0], [0, 1675, 948], [0, 0, 1]])
    turn = cv2.Rodrigues(camera.rotation)[0]
    theirs, _ = cv2.projectPoints(
        points, turn, -camera.rotation @ camera.center, matrix, camera.distortion[[0, 1, 2, 3, 4]]
    )
    assert camera.project(points) == pytest.approx(theirs[:, 0], abs=1e-6)


def test_rays_go_through_the_projected_points(cameras, points):
    for camera in cameras:
        towards = (points - camera.center) / np.linalg.norm(points - camera.center, axis=1, keepdims=True)
        assert camera.rays(camera.project(points)) == pytest.approx(towards, abs=1e-9)


def test_a_point_behind_the_camera_has_no_position(cameras):
    camera = cameras[0]
    assert np.isnan(camera.project(camera.center * 2)).all()


def test_true_labels_meet_in_the_true_point(cameras, points):
    triangulated = meet(*cameras, *(camera.project(points) for camera in cameras))

    assert triangulated.points == pytest.approx(points, abs=1e-4)
    assert triangulated.signed == pytest.approx(0, abs=1e-4)
    assert triangulated.pixels == pytest.approx(0, abs=1e-4)


def test_the_gap_is_the_error_across_the_plane_of_the_cameras(cameras):
    a, b = cameras
    point = np.array([100.0, 50.0, -200.0])
    across = np.cross(point - a.center, point - b.center)
    across /= np.linalg.norm(across)
    signs = set()
    for error in (12.0, -12.0):
        triangulated = meet(a, b, a.project(point), b.project(point + error * across))
        assert abs(triangulated.signed) == pytest.approx(12, rel=0.01)
        assert np.linalg.norm(triangulated.gap) == pytest.approx(12, rel=0.01)
        signs.add(np.sign(triangulated.signed))
        assert triangulated.pixels.mean() == pytest.approx(6 * 1680 / 3800, rel=0.1)  # half of it in each view
    assert signs == {-1, 1}


def test_an_error_within_that_plane_leaves_no_gap(cameras):
    a, b = cameras
    point = np.array([100.0, 50.0, -200.0])
    within = (a.center - point) / np.linalg.norm(a.center - point)
    triangulated = meet(a, b, a.project(point), b.project(point + 30 * within))
    assert triangulated.signed == pytest.approx(0, abs=1e-4)


def test_rays_of_unknown_positions_meet_nowhere(cameras):
    triangulated = meet(*cameras, np.full((2, 2), np.nan), np.zeros((2, 2)))
    assert np.isnan(triangulated.signed).all()
    assert np.isnan(triangulated.points).all()


def test_a_picture_between_black_bars_is_the_same_camera(cameras, points):
    full = replace(cameras[0], width=1088, height=1920)
    barred = full.fitted_into(1080, 1920)
    scale = 1080 / 1088

    assert barred.project(points) == pytest.approx(
        scale * full.project(points) + [0, (1920 - 1920 * scale) / 2], abs=1e-6
    )
    assert full.fitted_into(1088, 1920).project(points) == pytest.approx(full.project(points))


def test_aim_finds_by_how_much_a_camera_was_moved(cameras, points):
    first, second = cameras
    moved = replace(first, principal=first.principal + [23.0, -11.0])
    aimed = aim(first, second, moved.project(points), second.project(points))
    assert aimed.principal == pytest.approx(moved.principal, abs=0.01)


def test_aim_wants_three_points(cameras):
    with pytest.raises(ValueError, match="3 points"):
        aim(*cameras, np.zeros((2, 2)), np.zeros((2, 2)))


def test_reads_pixels_of_64_parts_counted_from_the_first_center(tmp_path):
    path = tmp_path / "cameras.qca.txt"
    path.write_text(_qca())

    camera = read_qca(path)["left"]

    assert (camera.width, camera.height) == (1088, 1920)
    assert camera.focal == pytest.approx([1680, 1680])
    assert camera.principal == pytest.approx([34816 / 64 + 0.5, 61440 / 64 + 0.5])
    assert camera.distortion == pytest.approx([-0.05, 0.14, 0.001, -0.002, 0])
    # The file's camera has y up and looks along -z: a point below and ahead of it is so in ours too.
    assert camera.rotation == pytest.approx(np.diag([1, -1, -1]))
    x, y = camera.project(np.array([10.0, -20 - 100, 30 - 1000]))
    assert x == pytest.approx(camera.principal[0], abs=1)
    assert y == pytest.approx(camera.principal[1] + 168, abs=2)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("no xml at all", "syntax error"),
        (f'<!DOCTYPE a [<!ENTITY b "c">]>{_qca()}', "document type"),
        ("<calibration><cameras/></calibration>", "no <cameras>"),
        (_qca(focal="long"), "focalLengthU of <intrinsic> is 'long'"),
        (_qca(focal="nan"), "not finite"),
        (_qca(focal="-1"), "make no camera"),
        (_qca(r11=2), "no rotation"),
        (_qca(r11=-1), "no rotation"),
        (_qca(skew=3), "skew 3"),
        (_qca().replace("<transform", "<transformed"), "<transform> is missing"),
        (_qca().replace('x="10"', ""), "x of <transform> is None"),
    ],
)
def test_a_bad_file_gets_one_clear_line(tmp_path: Path, content: str, reason: str):
    path = tmp_path / "bad.qca.txt"
    path.write_text(content)
    with pytest.raises(ValueError, match=r"bad\.qca\.txt") as error:
        read_qca(path)
    assert reason in str(error.value)
    assert "\n" not in str(error.value)


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"gone\.qca\.txt: cannot be read"):
        read_qca(tmp_path / "gone.qca.txt")


def test_the_real_cameras_agree_on_still_points(clips_dir):
    from benchmarks.real_footage.evaluation import CALIBRATION
    from benchmarks.real_footage.two_views import SCENE_POINTS

    calibration = read_qca(clips_dir / CALIBRATION)
    first = calibration["cam01"].fitted_into(1080, 1920)
    second = calibration["cam03"].fitted_into(1088, 1920)
    positions = np.array(list(SCENE_POINTS.values()))
    aimed = aim(first, second, positions[:4, 0], positions[:4, 1])

    others = meet(aimed, second, positions[4:, 0], positions[4:, 1])

    assert np.abs(others.signed).max() < 5  # millimeters, at points that were not used for the aim
    assert np.ptp(others.points[:4, 2]) < 15  # the four bolts are level
