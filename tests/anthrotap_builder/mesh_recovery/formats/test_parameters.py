"""Formats with parameters of SMPL and SMPL-X: bodies stand where their program's own camera sees them."""

import pickle
import re
from pathlib import Path

import numpy as np
import pytest
import torch

from anthrotap_builder.bodies import Body, load_body
from anthrotap_builder.bodies.body import BodyPose
from anthrotap_builder.mesh_recovery.formats import guess_format, read_mesh_file
from anthrotap_builder.mesh_recovery.mesh_file import MeshFile, MeshFileError
from helpers.body_files import write_smpl
from helpers.mesh_layouts import (
    Person,
    make_person,
    write_amass,
    write_bedlam,
    write_gvhmr,
    write_joblib,
    write_phalp,
    write_wham,
)

SIZE, COUNT, FPS = (96, 160), 12, 10.0
FOCAL = 150.0
MATRIX = np.array([[FOCAL, 0, 80], [0, FOCAL, 48], [0, 0, 1]])


@pytest.fixture(scope="module")
def bodies(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Body]:
    folder = tmp_path_factory.mktemp("bodies")
    return {
        24: load_body("smpl", "neutral", write_smpl(folder / "SMPL_NEUTRAL.npz", 900, 24)),
        55: load_body("smplx", "neutral", write_smpl(folder / "SMPLX_NEUTRAL.npz", 900, 55)),
    }


@pytest.fixture
def video(make_video) -> Path:
    return make_video("dance.mp4", shots=[COUNT], size=SIZE, fps=FPS)


def image(vertices: np.ndarray, focal: float) -> np.ndarray:
    return vertices[..., :2] / vertices[..., 2:] * focal + [SIZE[1] / 2, SIZE[0] / 2]


def vertices_of(body: Body, person: Person) -> np.ndarray:
    return body.pose_vertices(BodyPose.of_local(body, person.matrices, person.betas, person.translation))


def check(file: MeshFile, body: Body, people: dict[int, Person], focal: float) -> None:
    """Each person's vertices in the frames that have them, in pixels and in meters."""
    camera = file.camera(SIZE[1], SIZE[0])
    tracks = file.tracks(np.arange(COUNT), body, camera)
    assert [track.person for track in tracks] == list(people)
    for track, person in zip(tracks, people.values(), strict=True):
        np.testing.assert_array_equal(np.flatnonzero(track.present), person.frames)
        truth = vertices_of(body, person)
        np.testing.assert_allclose(camera.project(track.vertices[track.present]), image(truth, focal), atol=0.02)
        np.testing.assert_allclose(track.vertices[track.present], truth, atol=1e-3)
        assert track.pose is not None  # so it can be refined


@pytest.mark.parametrize("format", ["phalp", "tokenhmr"])
def test_phalp_gives_people_in_the_frames_in_which_they_were_detected(video, bodies, tmp_path, format):
    focal = 5000 * max(SIZE) / 256
    people = {
        1: make_person(24, np.arange(COUNT), -2.0, depth=90.0),
        4: make_person(24, np.array([2, 3, 4, 6, 7]), 2.0, depth=100.0, seed=1),
    }
    path = write_phalp(tmp_path / "demo_dance.pkl", people, SIZE, COUNT)
    # The terms of the two differ, and the files do not.
    with pytest.raises(MeshFileError, match="different terms; say whose it is: --meshes-format phalp or"):
        read_mesh_file(path, video)
    file = read_mesh_file(path, video, format)
    assert file.mesh_source == f"file:{format}"
    check(file, bodies[24], people, focal)


def test_phalp_pads_odd_frames_by_whole_pixels(make_video, tmp_path):
    video = make_video("odd.mp4", shots=[COUNT], size=(98, 160), fps=FPS)
    people = {1: make_person(24, np.arange(COUNT), 0.0, depth=90.0)}
    file = read_mesh_file(write_phalp(tmp_path / "demo_odd.pkl", people, (98, 160), COUNT), video, "phalp")
    np.testing.assert_array_equal(file.principal_point, [80, 49])
    file = read_mesh_file(write_phalp(tmp_path / "demo_odd.pkl", people, (97, 160), COUNT), video, "phalp")
    np.testing.assert_array_equal(file.principal_point, [80, 49])  # 31 of 63 rows lie above


def test_wham_gives_people_in_its_frames(video, bodies, tmp_path):
    focal = float(np.hypot(*SIZE))
    people = {0: make_person(24, np.arange(3, COUNT), 0.5), 2: make_person(24, np.arange(7), -0.6, seed=2)}
    path = write_wham(tmp_path / "wham_output.pkl", people)
    file = read_mesh_file(path, video)
    assert file.mesh_source == "file:wham"
    check(file, bodies[24], people, focal)
    # A calibration is the user's to say; of a file that says its own it would be ignored, so it is an error.
    calibrated = read_mesh_file(path, video, focal=100.0)
    assert calibrated.focal.tolist() == [100, 100]
    with pytest.raises(MeshFileError, match="says its camera itself; leave out --meshes-focal"):
        read_mesh_file(tmp_path / "wham_output.pkl", video, "phalp", focal=100.0)
    for focal in (0.0, -100.0, float("nan")):
        with pytest.raises(MeshFileError, match="the focal length of its camera must be positive, got"):
            read_mesh_file(path, video, focal=focal)


def test_gvhmr_gives_one_person_in_every_frame(video, bodies, tmp_path):
    person = make_person(55, np.arange(COUNT), 0.2)
    person.turns[:, 22:] = 0  # it estimates neither jaw, eyes nor hands
    file = read_mesh_file(write_gvhmr(tmp_path / "hmr4d_results.pt", person, SIZE), video)
    assert (file.mesh_source, file.body) == ("file:gvhmr", "smplx")
    check(file, bodies[55], {0: person}, float(np.hypot(*SIZE)))


@pytest.mark.parametrize("joints", [24, 55])
def test_amass_is_brought_to_the_camera_at_the_video_s_rate(video, bodies, tmp_path, joints):
    person = make_person(joints, np.arange(COUNT), 0.2)
    motion = np.eye(4)
    motion[:3, :3] = [[1, 0, 0], [0, 0, -1], [0, 1, 0]]  # z up, as AMASS has it
    motion[:3, 3] = 0.1, 0.2, 0.3
    path = write_amass(tmp_path / "walk.npz", person, MATRIX, motion, rate=4 * FPS, every=4)
    file = read_mesh_file(path, video)
    assert (file.mesh_source, file.gender) == ("file:smplx", "neutral")
    body = bodies[joints]
    (track,) = file.tracks(np.arange(COUNT), body, file.camera(SIZE[1], SIZE[0]))
    local = person.matrices.copy()
    local[:, 0] = np.linalg.inv(motion)[:3, :3] @ local[:, 0]
    place = np.load(path)["trans"][::4]
    world = body.pose_vertices(BodyPose.of_local(body, local, person.betas, place))
    np.testing.assert_allclose(track.vertices, world @ motion[:3, :3].T + motion[:3, 3], atol=1e-4)
    assert track.pose is not None
    np.testing.assert_allclose(body.pose_vertices(track.pose), track.vertices, atol=1e-5)


def test_bedlam_gives_the_sequence_of_the_video_s_name(make_video, bodies, tmp_path):
    video = make_video("seq_1.mp4", shots=[COUNT], size=SIZE, fps=FPS)
    people = {"anna": make_person(55, np.arange(COUNT), 0.4), "ben": make_person(55, np.arange(4, 9), -0.5, seed=3)}
    path = write_bedlam(tmp_path / "scene.npz", people, MATRIX, "seq_1")
    file = read_mesh_file(path, video)
    check(file, bodies[55], {0: people["anna"], 1: people["ben"]}, FOCAL)
    with pytest.raises(MeshFileError, match="none of its 2 sequences is called other"):
        read_mesh_file(path, make_video("other.mp4", shots=[COUNT], size=SIZE, fps=FPS))


def test_people_who_are_mixed_up_get_other_numbers(video, tmp_path, caplog):
    left, right = make_person(24, np.arange(COUNT), -1.0), make_person(24, np.arange(COUNT), 1.0, seed=1)
    for first, second in ((left, right), (right, left)):
        first.translation[6:], second.translation[6:] = second.translation[6:].copy(), first.translation[6:].copy()
        break
    file = read_mesh_file(write_wham(tmp_path / "wham_output.pkl", {0: left, 1: right}), video)
    for person in np.unique(file.person):
        own = file.person == person
        assert np.abs(np.diff(file.parameters.translation[own, 0])).max(initial=0) < 0.1
    assert np.unique(file.person).tolist() == [0, 1, 2, 3]
    assert "person 0 jumps in frame 6, as if people were mixed up" in caplog.text


def test_another_network_s_file_is_named(video, tmp_path):
    people = {0: make_person(24, np.arange(COUNT), 0.0)}
    wham = write_wham(tmp_path / "a.pkl", people)
    with pytest.raises(MeshFileError, match=r"no output of PHALP .*; it seems to be WHAM's: --meshes-format wham"):
        read_mesh_file(wham, video, "phalp")
    phalp = write_phalp(tmp_path / "b.pkl", people, SIZE, COUNT)
    with pytest.raises(MeshFileError, match=r"no output of WHAM; it seems to be PHALP .*: --meshes-format phalp"):
        read_mesh_file(phalp, video, "wham")
    gvhmr = write_gvhmr(tmp_path / "c.pt", make_person(55, np.arange(COUNT), 0.0), SIZE)
    with pytest.raises(MeshFileError, match="no output of GEM-X; it seems to be GVHMR's: --meshes-format gvhmr"):
        read_mesh_file(gvhmr, video, "gem-x")
    with pytest.raises(
        MeshFileError, match=r"does not tell what wrote it; say whose it is: --meshes-format NAME, of a"
    ):
        read_mesh_file(wham, video)
    (tmp_path / "code.pkl").write_bytes(pickle.dumps(print))
    with pytest.raises(MeshFileError, match=r"it asks for builtins\.print"):
        read_mesh_file(tmp_path / "code.pkl", video, "wham")


def test_lost_people_are_missing_frames(video, tmp_path, caplog):
    person = make_person(24, np.arange(COUNT), 0.0)
    person.translation[3] = np.nan
    file = read_mesh_file(write_wham(tmp_path / "wham_output.pkl", {0: person}), video)
    assert file.frame.tolist() == [0, 1, 2, *range(4, COUNT)]
    assert "1 of 12 meshes hold numbers that are not finite" in caplog.text


def change(person: Person, **changes) -> Person:
    return Person(**(vars(person) | changes))


@pytest.mark.parametrize(
    ("made", "message"),
    [
        (lambda p: change(p, translation=1000 * p.translation), "are 4... meters away; .* not millimeters"),
        (lambda p: change(p, translation=-p.translation), "lie behind the camera; turn axes"),
        (lambda p: change(p, translation=p.translation + [50, 0, 0]), "none of its meshes lies in the frames"),
        (lambda p: change(p, frames=3 * p.frames), "meshes up to frame 33 .*28.*, and the video has 12 frames"),
        (lambda p: change(p, translation=p.translation * np.nan), "hold numbers that are not finite"),
        (lambda p: change(p, frames=p.frames * 0), "one person has two meshes in one frame"),
    ],
)
def test_what_cannot_be_right_is_one_line(video, tmp_path, made, message):
    path = write_wham(tmp_path / "wham_output.pkl", {0: made(make_person(24, np.arange(COUNT), 0.0))})
    with pytest.raises(MeshFileError, match=message) as caught:
        read_mesh_file(path, video)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


def test_frames_of_two_cameras_of_another_size_or_without_focal_length_are_errors(video, tmp_path):
    path = tmp_path / "hmr4d_results.pt"
    person = make_person(55, np.arange(COUNT), 0.0)
    write_gvhmr(path, person, (160, 96))
    with pytest.raises(MeshFileError, match="is for frames of 96x160, and the video has 160x96"):
        read_mesh_file(path, video)
    whole = torch.load(write_gvhmr(path, person, SIZE))
    whole["K_fullimg"][5:, 0, 2] = 300.0
    torch.save(whole, path)
    with pytest.raises(MeshFileError, match="of frames of 2 sizes, 160x96 and 600x96; give each camera's meshes alone"):
        read_mesh_file(path, video)
    whole["K_fullimg"][5:, 0, 2], whole["K_fullimg"][7, 0, 0] = 80.0, 0.0
    torch.save(whole, path)
    with pytest.raises(MeshFileError, match="size and focal must be positive"):
        read_mesh_file(path, video)


def test_a_focal_length_that_changes_keeps_each_point_on_its_pixel(video, bodies, tmp_path):
    person = make_person(55, np.arange(COUNT), 0.1)
    person.turns[:, 22:] = 0
    path = write_gvhmr(tmp_path / "hmr4d_results.pt", person, SIZE)
    whole = torch.load(path)
    focal = np.linspace(100, 200, COUNT)
    whole["K_fullimg"][:, [0, 1], [0, 1]] = torch.from_numpy(focal).float()[:, None]
    torch.save(whole, path)
    file = read_mesh_file(path, video)
    camera = file.camera(SIZE[1], SIZE[0])
    assert camera.focal == pytest.approx(150)
    (track,) = file.tracks(np.arange(COUNT), bodies[55], camera)
    truth = vertices_of(bodies[55], person)
    np.testing.assert_allclose(camera.project(track.vertices), image(truth, focal[:, None, None]), atol=0.02)


def test_samples_that_no_frame_meets_and_files_without_a_camera_are_errors(video, tmp_path):
    person = make_person(55, np.arange(COUNT), 0.0)
    path = write_amass(tmp_path / "walk.npz", person, MATRIX, np.eye(4), rate=25, every=1)
    with pytest.raises(MeshFileError, match="has 25 samples a second, and the video 10 frames, which does not divide"):
        read_mesh_file(path, video)
    arrays = dict(np.load(path)) | {"mocap_frame_rate": np.array(10.0)}
    del arrays["cam_int"]
    np.savez(path, **arrays)
    with pytest.raises(MeshFileError, match="it has no camera; add cam_int"):
        read_mesh_file(path, video)
    assert read_mesh_file(path, video, focal=FOCAL).focal.tolist() == [FOCAL, FOCAL]
    np.savez(path, **arrays | {"gender": np.array("robot")})
    with pytest.raises(MeshFileError, match="its gender is 'robot', not one of neutral, male, female"):
        read_mesh_file(path, video, focal=FOCAL)


def test_names_that_only_one_program_gives_tell_the_format(tmp_path):
    assert guess_format(tmp_path / "wham_output.pkl") == "wham"
    assert guess_format(tmp_path / "hpe_results.pt") == "gem-x"
    (tmp_path / "hmr4d_results.pt").touch()
    with pytest.raises(MeshFileError, match=re.escape(f"name the file in it: {tmp_path / 'hmr4d_results.pt'}")):
        guess_format(tmp_path)


def test_joblib_s_layout_is_read_compressed_or_not(tmp_path):
    from anthrotap_hf.utils.safe_joblib import number_of, safe_load_joblib
    from anthrotap_hf.utils.safe_pickle import UnsafeFileError, array_of

    rng = np.random.default_rng(0)
    arrays = [rng.normal(size=(7, 5)), np.asfortranarray(rng.normal(size=(4, 3))), np.zeros((0, 3)), np.arange(9000)]
    for compress in (False, True):
        path = write_joblib(tmp_path / "a.pkl", {"list": arrays, np.int64(4): np.float32(2.5)}, compress)
        content = safe_load_joblib(path)
        for given, array in zip(content.pop("list"), arrays, strict=True):
            np.testing.assert_array_equal(array_of(given), array)
        ((key, value),) = content.items()
        assert (number_of(key), number_of(value)) == (4, 2.5)
        cut = path.read_bytes()[:-4000] if not compress else path.read_bytes()[:-10]
        path.write_bytes(cut)
        with pytest.raises(UnsafeFileError, match="damaged"):
            safe_load_joblib(path)


def test_a_focal_length_that_the_file_says_is_not_said_again(video, make_video, tmp_path):
    person = make_person(24, np.arange(COUNT), 0.2)
    amass = write_amass(tmp_path / "walk.npz", person, MATRIX, np.eye(4), rate=FPS, every=1)
    bedlam = write_bedlam(tmp_path / "scene.npz", {"anna": make_person(55, np.arange(COUNT), 0.4)}, MATRIX, "seq_1")
    sequence = make_video("seq_1.mp4", shots=[COUNT], size=SIZE, fps=FPS)
    for path, own in ((amass, video), (bedlam, sequence)):
        with pytest.raises(MeshFileError, match="the file says its camera itself; leave out --meshes-focal"):
            read_mesh_file(path, own, focal=100.0)


@pytest.mark.parametrize("damage", [7, {"a": 1}, None, ["x"]])
@pytest.mark.parametrize("name", ["tid", "smpl", "camera", "time", "size"])
def test_a_damaged_part_of_phalp_s_file_is_an_error_of_this_file(video, tmp_path, name, damage):
    frame = {"time": 0, "tid": [1], "tracked_time": [0], "size": [list(SIZE)], "smpl": [{}], "camera": [np.zeros(3)]}
    path = tmp_path / "demo.pkl"
    path.write_bytes(pickle.dumps({"a": frame | {name: damage}}))
    with pytest.raises(MeshFileError, match=r"demo\.pkl: "):
        read_mesh_file(path, video, "phalp")
