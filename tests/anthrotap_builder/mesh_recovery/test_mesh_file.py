"""Files of meshes: they are read as they were written, with any camera; an invalid file is an error in one line."""

import re
import zipfile

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from anthrotap_builder.bodies import Body, MeshSurface
from anthrotap_builder.bodies.body import BodyPose
from anthrotap_builder.detection import PersonTrack
from anthrotap_builder.geometry.camera import Camera
from anthrotap_builder.mesh_recovery.kinematics import PoseParameters
from anthrotap_builder.mesh_recovery.masks import match_masks
from anthrotap_builder.mesh_recovery.mesh_file import MeshFile, MeshFileError, read_meshes
from anthrotap_builder.mesh_recovery.mesh_writer import MeshWriter
from anthrotap_builder.mesh_recovery.source_prior import pose_parameters
from anthrotap_builder.mesh_recovery.track import MeshTrack

CUBE = np.array([[x, y, z] for x in (0, 1) for y in (0, 1) for z in (0, 1)], np.float32)
FACES = np.array([[0, 1, 2], [1, 3, 2], [4, 6, 5], [5, 6, 7], [0, 4, 1], [1, 4, 5], [2, 3, 6], [3, 7, 6]])


def cubes(count: int = 4) -> dict:
    """One person's cube that moves to the right."""
    return {
        "frame": np.arange(count),
        "person": np.zeros(count, int),
        "size": np.array([48, 64]),
        "focal": np.array(80.0),
        "vertices": CUBE + np.array([0, 0, 5]) + np.arange(count)[:, None, None] * np.array([0.1, 0, 0]),
        "faces": FACES,
    }


def written(path, arrays: dict) -> MeshFile:
    np.savez(path, **arrays)
    return read_meshes(path)


def test_meshes_come_in_the_frames_of_the_clip_in_any_order(tmp_path):
    arrays = cubes()
    order = [2, 0, 3, 1]
    file = written(
        tmp_path / "m.npz",
        {k: v[order] if len(np.atleast_1d(v)) == 4 and k != "size" else v for k, v in arrays.items()},
    )
    (track,) = file.tracks(np.array([1, 1, 3, 9]), file.surface("mesh"), file.camera(64, 48))
    assert track.present.tolist() == [True, True, True, False]
    np.testing.assert_array_equal(track.vertices[:3], arrays["vertices"][[1, 1, 3]].astype(np.float32))
    assert np.isnan(track.vertices[3]).all()
    assert file.tracks(np.array([7, 8]), file.surface("mesh"), file.camera(64, 48)) == []


@settings(max_examples=30, deadline=None)
@given(
    focal=st.tuples(st.floats(40, 200), st.floats(40, 200)),
    center=st.tuples(st.floats(10, 50), st.floats(10, 40)),
    size=st.tuples(st.integers(20, 200), st.integers(20, 200)),
)
def test_any_pinhole_camera_keeps_each_point_on_its_pixel_and_its_depth(tmp_path_factory, focal, center, size):
    arrays = cubes() | {"focal": np.array(focal), "principal_point": np.array(center)}
    file = written(tmp_path_factory.mktemp("meshes") / "m.npz", arrays)
    width, height = size
    camera = file.camera(width, height)
    (track,) = file.tracks(np.arange(4), file.surface("mesh"), camera)
    given_positions = arrays["vertices"][..., :2] / arrays["vertices"][..., 2:] * focal + center
    expected = given_positions * [width / 64, height / 48]
    np.testing.assert_allclose(camera.project(track.vertices), expected, rtol=1e-4, atol=1e-3)
    np.testing.assert_allclose(track.vertices[..., 2], arrays["vertices"][..., 2], rtol=1e-6)


def test_written_meshes_are_read_unchanged(tmp_path):
    file = written(tmp_path / "m.npz", cubes())
    surface, camera = file.surface("mesh"), Camera(60.0, 64, 48)
    rng = np.random.default_rng(0)
    no_scores = np.full(3, np.nan)
    clips = []
    with MeshWriter(tmp_path / "out.npz", surface) as writer:
        for start in (0, 3):
            present = np.array([True, False, True])
            vertices = rng.normal(size=(3, 8, 3)).astype(np.float32) + 5
            meshes = [MeshTrack(person, vertices + person, present, no_scores, no_scores) for person in (0, 2)]
            writer.add(np.arange(start, start + 3), meshes, camera)
            clips.append(meshes)
        assert not (tmp_path / "out.npz").exists()
    back = read_meshes(tmp_path / "out.npz")
    assert back.camera(64, 48) == camera
    for start, meshes in zip((0, 3), clips, strict=True):
        read = back.tracks(np.arange(start, start + 3), back.surface("mesh"), camera)
        assert [track.person for track in read] == [0, 2]
        for ours, theirs in zip(read, meshes, strict=True):
            np.testing.assert_array_equal(ours.present, theirs.present)
            np.testing.assert_array_equal(ours.vertices[ours.present], theirs.vertices[theirs.present])
    assert [p.name for p in tmp_path.iterdir() if p.name.startswith(".")] == []


def test_a_writer_that_is_stopped_or_has_no_mesh_leaves_nothing(tmp_path):
    surface = MeshSurface("mesh", CUBE, FACES)
    with MeshWriter(tmp_path / "none.npz", surface):
        pass
    with pytest.raises(RuntimeError), MeshWriter(tmp_path / "none.npz", surface):
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []


def test_body_parameters_are_the_pose_that_they_were_taken_from(anny: Body, dance: PoseParameters, tmp_path):
    pose = dance.posed(anny)
    frames = len(pose.positions)
    local = pose.local_rotations(anny)
    root = anny.joints[0] + np.tensordot(dance.shape, anny.joint_directions[:, 0], 1)
    common = {
        "frame": np.arange(frames),
        "person": np.zeros(frames, int),
        "size": np.array([480, 640]),
        "focal": np.array(700.0),
        "body": np.array("anny"),
        "betas": dance.shape,
        "translation": pose.positions[:, 0] - root,
    }
    vectors = Rotation.from_matrix(local.reshape(-1, 3, 3)).as_rotvec().reshape(frames, -1, 3)
    for name, turns in (("matrices", local), ("vectors", vectors)):
        arrays = common | {"global_orient": turns[:, 0], "body_pose": turns[:, 1:]}
        file = written(tmp_path / f"{name}.npz", arrays)
        (track,) = file.tracks(np.arange(frames), file.surface("anny"), file.camera(640, 480))
        np.testing.assert_allclose(track.vertices, anny.pose_vertices(pose), atol=1e-5)
        assert track.pose is not None
        again = pose_parameters(anny, track.pose, track.present).posed(anny)
        np.testing.assert_allclose(again.rotations, pose.rotations, atol=1e-9)
        np.testing.assert_allclose(again.positions, pose.positions, atol=1e-9)


def test_the_shape_may_change_from_frame_to_frame(anny: Body, dance: PoseParameters):
    pose = dance.posed(anny)
    shapes = np.tile(dance.shape, (len(pose.positions), 1))
    np.testing.assert_array_equal(
        anny.pose_vertices(BodyPose(pose.rotations, pose.positions, shapes)), anny.pose_vertices(pose)
    )
    shapes[1] += 1
    one = BodyPose(pose.rotations[1:2], pose.positions[1:2], shapes[1])
    both = anny.pose_vertices(BodyPose(pose.rotations, pose.positions, shapes), slice(0, 3))
    np.testing.assert_allclose(both[1], anny.pose_vertices(one)[0], atol=1e-6)


def test_masks_are_given_to_the_meshes_that_lie_on_them(caplog):
    camera = Camera(60.0, 64, 48)
    grid = np.stack(np.meshgrid(np.linspace(-0.5, 0.5, 20), np.linspace(-0.5, 0.5, 20)), -1).reshape(-1, 2)
    square = np.concatenate([grid, np.full((400, 1), 5.0)], axis=1).astype(np.float32)
    no_scores = np.full(2, np.nan)
    meshes = [
        MeshTrack(p, np.tile(square + [x, 0, 0], (2, 1, 1)).astype(np.float32), np.ones(2, bool), no_scores, no_scores)
        for p, x in ((0, 1.5), (3, -1.5), (4, 0.0))
    ]
    people = []
    for x in (-1.5, 1.5):  # no person was detected in the middle
        mask = np.zeros((2, 48, 64), bool)
        left = int(camera.project(np.array([x - 0.5, 0, 5.0]))[0])
        mask[:, 18:30, left : left + 12] = True
        people.append(PersonTrack(np.zeros((2, 4), np.float32), mask=mask))
    placed = match_masks(meshes, people, camera)
    assert placed[0] is people[1]
    assert placed[3] is people[0]
    assert len(placed) == 5
    assert not placed[4].mask.any()
    assert "of person 4: their labels are rejected" in caplog.text
    alone = match_masks(meshes, [], camera)  # no person was detected at all
    assert len(alone) == 5
    assert not any(person.mask.any() for person in alone)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"frame": None}, "frame is missing"),
        ({"person": np.zeros(3, int)}, "person must be [4], got [3]"),
        ({"person": np.zeros(4)}, "person must be whole numbers, got float64"),
        ({"person": np.full(4, 10_000)}, "person from 0 to 9999"),
        ({"frame": np.zeros(4, int)}, "one person has two meshes in one frame"),
        ({"frame": np.arange(4) - 1}, "frame must be from 0 up"),
        ({"focal": np.array(0.0)}, "size and focal must be positive"),
        ({"vertices": np.zeros((4, 8, 2))}, "vertices must be [4, 'any', 3], got [4, 8, 2]"),
        ({"vertices": np.full((4, 8, 3), np.nan)}, "vertices holds numbers that are not finite"),
        ({"vertices": np.zeros((4, 6, 3))}, "faces must name vertices from 0 to 5"),
        ({"faces": None}, "faces is missing"),
        ({"vertices": None}, "neither vertices nor the name of a body"),
        ({"body": np.array("golem")}, "no body model 'golem'; there are anny"),
        ({"vertices": None, "body": np.array("anny")}, "global_orient is missing"),
    ],
)
def test_a_bad_file_is_an_error_in_one_line(tmp_path, change, message):
    arrays = {k: v for k, v in (cubes() | change).items() if v is not None}
    with pytest.raises(MeshFileError, match=re.escape(message)) as caught:
        written(tmp_path / "m.npz", arrays)
    assert str(tmp_path / "m.npz") in str(caught.value)
    assert "\n" not in str(caught.value)


def test_matrices_that_are_no_rotations_and_another_body_are_rejected(tmp_path, anny: Body):
    arrays = cubes() | {"body": np.array("anny")}
    with pytest.raises(MeshFileError, match=f"8 vertices, but anny has {len(anny.template)}"):
        written(tmp_path / "m.npz", arrays).surface("anny")
    with pytest.raises(MeshFileError, match="of the body 'anny', not 'mesh'"):
        written(tmp_path / "m.npz", arrays).surface("mesh")
    del arrays["vertices"]
    arrays |= {"global_orient": np.zeros((4, 3)), "body_pose": np.zeros((4, 5, 3)), "betas": np.zeros(3)}
    arrays |= {"translation": np.zeros((4, 3))}
    with pytest.raises(MeshFileError, match=f"6 joints, but anny has {anny.num_joints}"):
        written(tmp_path / "m.npz", arrays).surface("anny")
    with pytest.raises(MeshFileError, match="no rotations"):
        written(tmp_path / "m.npz", arrays | {"body_pose": np.ones((4, 5, 3, 3))})


def test_pickles_and_other_files_are_rejected(tmp_path):
    path = tmp_path / "m.npz"
    np.savez(path, frame=np.array([{}], dtype=object))
    with pytest.raises(MeshFileError, match=r"no \.npz of plain arrays"):
        read_meshes(path)
    path.write_bytes(b"nothing")
    with pytest.raises(MeshFileError, match=r"no \.npz of plain arrays"):
        read_meshes(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("frame.npy", b"\x93NUMPY")
    with pytest.raises(MeshFileError, match=r"no \.npz of plain arrays"):
        read_meshes(path)
    with pytest.raises(MeshFileError, match="no such file"):
        read_meshes(tmp_path / "none.npz")


def test_a_body_that_mirrors_is_an_error(tmp_path):
    arrays = cubes() | {"body": np.array("anny"), "body_pose": np.zeros((4, 15)), "betas": np.zeros(3)}
    del arrays["vertices"]
    arrays |= {"global_orient": np.tile(np.diag([1.0, -1, 1]), (4, 1, 1)), "translation": np.zeros((4, 3))}
    with pytest.raises(MeshFileError, match="global_orient holds rotations that mirror"):
        written(tmp_path / "m.npz", arrays)


def test_zeros_at_the_end_of_a_shape_do_not_count_and_a_pose_may_be_flat(tmp_path, anny: Body):
    count = anny.num_joints - 1
    arrays = cubes() | {
        "body": np.array("anny"),
        "global_orient": np.zeros((4, 3)),
        "translation": np.ones((4, 3)),
    }
    del arrays["vertices"]
    long = arrays | {"betas": np.array([0.5] + 15 * [0.0]), "body_pose": np.full((4, 3 * count), 0.1)}
    short = arrays | {"betas": np.array([0.5]), "body_pose": np.full((4, count, 3), 0.1)}
    tracks = []
    for name, each in (("long", long), ("short", short)):
        file = written(tmp_path / f"{name}.npz", each)
        tracks += file.tracks(np.arange(4), file.surface("anny"), file.camera(64, 48))
    np.testing.assert_array_equal(tracks[0].vertices, tracks[1].vertices)


def test_a_mesh_may_be_wound_either_way(tmp_path):
    surfaces = [
        written(tmp_path / "m.npz", cubes() | {"faces": faces}).surface("mesh") for faces in (FACES, FACES[:, ::-1])
    ]
    np.testing.assert_array_equal(surfaces[0].faces, surfaces[1].faces)


def test_sizes_that_are_rounded_keep_the_pose_and_other_cameras_do_not(tmp_path, anny: Body):
    arrays = cubes() | {
        "body": np.array("anny"),
        "global_orient": np.zeros((4, 3)),
        "translation": np.ones((4, 3)),
    }
    del arrays["vertices"]
    arrays |= {"betas": np.zeros(1), "body_pose": np.zeros((4, anny.num_joints - 1, 3))}
    for size, keeps in (([1080, 1920], True), ([1080, 1900], False)):
        file = written(tmp_path / "m.npz", arrays | {"size": np.array(size), "focal": np.array(2000.0)})
        (track,) = file.tracks(np.arange(4), file.surface("anny"), file.camera(854, 480))
        assert (track.pose is not None) is keeps


def test_meshes_with_gaps_give_a_warning(tmp_path, caplog):
    arrays = cubes() | {"frame": np.arange(4) * 3}
    file = written(tmp_path / "m.npz", arrays)
    file.tracks(np.arange(10), file.surface("mesh"), file.camera(64, 48))
    assert "meshes of person 0 are 3 frames apart" in caplog.text
