"""Formats with vertices: any surface, people without numbers, a file for each frame."""

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch

from anthrotap_builder.mesh_recovery.formats import read_mesh_file
from anthrotap_builder.mesh_recovery.formats.finding import find_meshes
from anthrotap_builder.mesh_recovery.mesh_export import export_obj
from anthrotap_builder.mesh_recovery.mesh_file import MeshFile, MeshFileError
from helpers.mesh_layouts import write_obj, write_ply

SIZE, COUNT, FPS = (96, 160), 12, 10.0
# An octahedron with a point more on one side, so that none of its turns is itself.
SHAPE = np.array([[1, 0, 0], [-1, 0, 0], [0, 1, 0], [0, -1, 0], [0, 0, 1], [0, 0, -1.4]]) * [0.3, 0.9, 0.2]
FACES = np.array([[0, 2, 4], [2, 1, 4], [1, 3, 4], [3, 0, 4], [2, 0, 5], [1, 2, 5], [3, 1, 5], [0, 3, 5]])


def people_of(frame: int) -> np.ndarray:
    """[P, 6, 3]: one to the left, nearer, gone in frames 5 and 6; one to the right, who comes in frame 2."""
    left = SHAPE + [-0.9 + 0.03 * frame, 0, 4.0]
    right = SHAPE + [0.9 - 0.03 * frame, 0.1, 4.5]
    found = [left] * (frame not in (5, 6)) + [right] * (frame >= 2)
    return np.stack(found) if found else np.zeros((0, 6, 3))


@pytest.fixture
def video(make_video) -> Path:
    return make_video("dance.mp4", shots=[COUNT], size=SIZE, fps=FPS)


def check(file: MeshFile, focal: float, atol: float = 1e-6) -> None:
    """Both people in their frames, each under one number."""
    assert file.camera(SIZE[1], SIZE[0]).focal == pytest.approx(focal)
    tracks = file.tracks(np.arange(COUNT), file.surface(file.body), file.camera(SIZE[1], SIZE[0]))
    assert len(tracks) == 2
    left, right = sorted(tracks, key=lambda track: np.nanmean(track.vertices[..., 0]))
    assert np.flatnonzero(~left.present).tolist() == [5, 6]
    assert np.flatnonzero(~right.present).tolist() == [0, 1]
    for frame in range(COUNT):
        truth = people_of(frame)
        found = [track.vertices[frame] for track in (left, right) if track.present[frame]]
        np.testing.assert_allclose(found, truth, atol=atol)


def in_another_process(file: MeshFile) -> MeshFile:
    """The file as a process of its own gets it."""
    return pickle.loads(pickle.dumps(file))  # noqa: S301


def test_multi_hmr_s_pictures(video, tmp_path):
    folder = tmp_path / "demo_out"
    folder.mkdir()
    for frame in range(COUNT):
        # The nearest first, as the demo sorts them; the first picture of FFmpeg is 1.
        array = np.asarray(list(people_of(frame).astype(np.float32)))
        np.save(folder / f"{frame + 1:06d}.jpg_multiHMR_896_L.png.npy", array)
    with pytest.raises(MeshFileError, match=r"have 6 vertices, and known bodies have 13718 \(anny\).*faces\.npy"):
        read_mesh_file(folder, video)
    np.save(folder / "faces.npy", FACES)
    file = read_mesh_file(folder, video)
    assert file.mesh_source == "file:multi-hmr"
    check(file, 160 / (2 * np.tan(np.radians(30))))
    check(read_mesh_file(folder, video, focal=200.0), 200)
    check(in_another_process(file), 160 / (2 * np.tan(np.radians(30))))


@pytest.mark.parametrize("model", ["multiHMR_896_L", "anny_672"])
def test_multi_hmr_s_pictures_named_without_their_own_suffix(video, tmp_path, model):
    np.save(tmp_path / "faces.npy", FACES)
    for frame in range(COUNT):
        array = np.asarray(list(people_of(frame).astype(np.float32)))
        np.save(tmp_path / f"{frame:04d}_{model}.png.npy", array)
    check(read_mesh_file(tmp_path, video, "multi-hmr"), 160 / (2 * np.tan(np.radians(30))))


@pytest.mark.parametrize(
    ("numbers", "first", "warned"), [((1, COUNT - 1), 1, True), ((1, COUNT), 0, False), ((0, 3), 0, False)]
)
def test_frames_that_may_count_from_1_are_warned_of(video, tmp_path, caplog, numbers, first, warned):
    np.save(tmp_path / "faces.npy", FACES)
    begin, end = numbers
    for number in range(begin, end + 1):
        write_obj(tmp_path / f"{number:05d}.obj", people_of(0)[0], FACES)
    file = read_mesh_file(tmp_path, video, focal=200.0)
    assert file.frame[0] == first
    assert ("taken to count from 0: subtract 1 from each if" in caplog.text) == warned


def test_multi_hmr_s_people_pickled(video, tmp_path):
    folder = tmp_path / "people"
    folder.mkdir()
    matrix = torch.tensor([[600.0, 0, 336], [0, 600, 336], [0, 0, 1]])  # of the square of 672 pixels
    np.save(folder / "faces.npy", FACES)
    for frame in range(COUNT):
        people = [{"v3d": mesh, "K": matrix.numpy(), "transl": mesh[0]} for mesh in people_of(frame)]
        (folder / f"frame_{frame}.pkl").write_bytes(pickle.dumps(people))
    check(read_mesh_file(folder, video, "multi-hmr"), 600 * 160 / 672)
    with pytest.raises(MeshFileError, match="the file says its camera itself; leave out --meshes-focal"):
        read_mesh_file(folder, video, "multi-hmr", focal=200.0)


def sam_people(frame: int) -> list[dict]:
    """As `process_one_image` returns them: the body about its origin, and the camera's translation."""
    away = np.array([0.1, 0.2, 3.0], np.float32)
    return [
        {
            "pred_vertices": (mesh - away).astype(np.float32),
            "pred_cam_t": away,
            "focal_length": np.float32(180.0),
            "mhr_model_params": np.zeros(204, np.float32),
            "shape_params": np.zeros(45, np.float32),
            "mask": None,
        }
        for mesh in people_of(frame)
    ]


@pytest.mark.parametrize("layout", ["npz", "pkl", "one"])
def test_sam_3d_body_s_outputs(video, tmp_path, layout):
    folder = tmp_path / "sam"
    folder.mkdir()
    np.save(folder / "faces.npy", FACES)
    path = folder
    for frame in range(COUNT):
        people = sam_people(frame)
        if layout == "npz":
            names = ("pred_vertices", "pred_cam_t", "focal_length")
            np.savez(folder / f"{frame:05d}.npz", **{name: np.stack([p[name] for p in people]) for name in names})
        elif layout == "pkl":
            (folder / f"{frame:05d}.pkl").write_bytes(pickle.dumps(people))
    if layout == "one":
        path = folder / "dance.pkl"
        path.write_bytes(pickle.dumps([sam_people(frame) for frame in range(COUNT)]))
    file = read_mesh_file(path, video, "sam-3d-body")
    check(file, 180, atol=1e-5)
    check(in_another_process(file), 180, atol=1e-5)
    (folder / "faces.npy").unlink()
    with pytest.raises(MeshFileError, match=r"it has no faces; save the network's faces"):
        read_mesh_file(path, video, "sam-3d-body")


def test_gem_x_needs_vertices_of_its_own_body(video, tmp_path):
    path = tmp_path / "hpe_results.pt"
    matrix = torch.tensor([[160.0, 0, 80], [0, 160, 48], [0, 0, 1]]).repeat(COUNT, 1, 1)
    content = {"K_fullimg": matrix, "pred_body_params_incam": {"global_orient": torch.zeros(COUNT, 3)}}
    torch.save(content, path)
    with pytest.raises(MeshFileError, match=r"SOMA's parameters and no vertices.*add vertices = soma"):
        read_mesh_file(path, video)
    vertices = np.stack([SHAPE + [0.02 * frame, 0, 3] for frame in range(COUNT)]).astype(np.float32)
    torch.save(content | {"vertices": torch.from_numpy(vertices), "faces": torch.from_numpy(FACES)}, path)
    np.savez(tmp_path / "gem.npz", vertices=vertices, faces=FACES, K_fullimg=matrix.numpy())
    for file in (read_mesh_file(path, video), read_mesh_file(tmp_path / "gem.npz", video)):
        assert file.mesh_source == "file:gem-x"
        (track,) = file.tracks(np.arange(COUNT), file.surface("mesh"), file.camera(160, 96))
        np.testing.assert_allclose(track.vertices, vertices, atol=1e-6)


@pytest.mark.parametrize("layout", ["obj", "ply", "npz", "people", "opengl"])
def test_a_folder_of_surfaces(video, tmp_path, layout):
    folder = tmp_path / "meshes"
    folder.mkdir()
    for frame in range(COUNT):
        meshes = people_of(frame)
        if layout == "npz":
            np.savez(folder / f"f{frame}.npz", vertices=meshes, faces=FACES)
        for number, mesh in enumerate(meshes):
            if layout == "obj":
                write_obj(folder / f"take2_{frame + 1:06d}_{number}.obj", mesh, FACES)
            elif layout == "ply":
                write_ply(folder / f"{frame:05d}_mesh_{number:03d}.ply", mesh, FACES)
            elif layout == "opengl":
                write_obj(folder / f"{frame}_{number}.obj", mesh * [1, -1, -1], FACES)
            elif layout == "people":
                write_obj(folder / f"{int(mesh[:, 0].mean() > 0)}/{frame}.obj", mesh, FACES)
    with pytest.raises(MeshFileError, match="it has no camera; say its focal length in pixels"):
        read_mesh_file(folder, video, "folder")
    file = read_mesh_file(folder, video, "folder", focal=170.0)
    assert file.mesh_source == "file:folder"
    check(file, 170, atol=1e-5)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda mesh: 1000 * mesh, "a mesh is 1957 units large, so that it seems to be in millimeters"),
        (lambda mesh: 100 * mesh, "seems to be in centimeters; meters are needed"),
        (lambda mesh: mesh * [1, 1, 0] - [0, 0, 2], None),
        (lambda mesh: mesh * np.nan, "hold numbers that are not finite"),
        (lambda mesh: mesh + [0, 30, 0], "none of its meshes lies in the frames"),
    ],
)
def test_what_cannot_be_right_is_one_line(video, tmp_path, change, message):
    folder = tmp_path / "meshes"
    for frame in range(COUNT):
        write_obj(folder / f"{frame}.obj", change(SHAPE + [0, 0, 4]), FACES)
    if message is None:
        # Behind the camera: OpenGL's axes, which are turned.
        read_mesh_file(folder, video, focal=100.0)
        return
    with pytest.raises(MeshFileError, match=message) as caught:
        read_mesh_file(folder, video, focal=100.0)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("0.obj", "v 1 2\nv a b c\n", "0.obj: it is no .obj of a mesh, or a damaged one"),
        ("0.obj", "hello\n", "it has no vertex"),
        ("0.ply", "ply\nformat ascii 1.0\n", "0.ply: it is no .ply of a mesh"),
        (
            "0.ply",
            "ply\nformat binary_little_endian 1.0\nelement vertex 9\nend_header\n",
            "no .ply of a mesh, or a dam",
        ),
        ("a.obj", "v 1 2 3\n", "the name 'a.obj' has no number of a frame"),
    ],
)
def test_damaged_surfaces_are_one_line(video, tmp_path, name, content, message):
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / name).write_text(content)
    with pytest.raises(MeshFileError, match=message):
        read_mesh_file(tmp_path / "m", video, focal=100.0)


def test_each_video_of_several_has_its_own_folder(make_video, tmp_path):
    videos = [make_video(f"{name}.mp4", shots=[COUNT], size=SIZE, fps=FPS) for name in ("a", "b")]
    for video in videos:
        for frame in range(COUNT):
            write_obj(tmp_path / "meshes" / video.stem / f"{frame}.obj", SHAPE + [0, 0, 4], FACES)
    found = find_meshes(tmp_path / "meshes", videos, "folder", 100.0)
    assert [file.path.name for file in found.values()] == ["a", "b"]
    (found,) = find_meshes(tmp_path / "meshes/a", videos[:1], focal=100.0).values()
    assert found.path.name == "a"
    with pytest.raises(MeshFileError, match=r"one file for 2 videos; name a folder with a NAME/wham_output\.pkl"):
        find_meshes(tmp_path / "m.pkl", videos, "wham")


def test_meshes_that_are_written_as_obj_are_read_again(video, tmp_path, caplog):
    rows = [(frame, person) for person, frames in ((0, range(3, 9)), (7, range(5, 8))) for frame in frames]
    vertices = np.stack([SHAPE + [person / 10 + 0.02 * frame, 0.1, 4.0] for frame, person in rows])
    frame, person = np.array(rows).T
    arrays = {"frame": frame, "person": person, "vertices": vertices, "faces": FACES}
    np.savez(tmp_path / "a.meshes.npz", size=np.array(SIZE), focal=np.array(150.0), **arrays)
    assert export_obj(tmp_path / "a.meshes.npz", tmp_path / "a.obj") == len(rows)
    assert (tmp_path / "a.obj/7/000005.obj").exists()
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []
    file = read_mesh_file(tmp_path / "a.obj", video, focal=150.0)
    found = {(f, p): file.vertices[row] for row, (f, p) in enumerate(zip(file.frame, file.person, strict=True))}
    assert set(found) == set(rows)
    assert "its frames are 3 to 8 of 12, which are taken to count from 0" in caplog.text
    for row, key in enumerate(rows):
        np.testing.assert_allclose(found[key], vertices[row], atol=1e-6)
