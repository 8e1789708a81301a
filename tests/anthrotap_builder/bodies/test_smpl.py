"""Bodies of the SMPL family, from made-up files with the real layout (see body_files)."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import fields, replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from anthrotap_builder.bodies import Body, load_body
from anthrotap_builder.bodies.body import BodyPose
from anthrotap_builder.bodies.smpl import AXES, LANDMARKS, joint_names, landmark_vertices
from anthrotap_builder.config import LabelingConfig
from anthrotap_builder.context import ClipContext
from anthrotap_builder.geometry.camera import Camera
from anthrotap_builder.mesh_recovery.fit import Landmarks, fit_body
from anthrotap_builder.mesh_recovery.kinematics import PointChains, PoseParameters
from anthrotap_builder.mesh_recovery.mesh_file import read_meshes
from anthrotap_builder.mesh_recovery.terms import HIPS
from anthrotap_builder.pipeline import Stages, label_clip
from helpers.body_files import (
    JOINTS,
    LANDMARK_POSITIONS,
    REAL,
    SMALL,
    joint_positions,
    person_mesh,
    smpl_arrays,
    smpl_parents,
    write_smpl,
)
from helpers.posed_people import as_person, textured_frames


def random_pose(body: Body, seed: int, frames: int = 2) -> tuple[np.ndarray, PoseParameters]:
    """Rotation vectors [T, J, 3], and the same as parameters; the root is turned and moved as well."""
    rng = np.random.default_rng(seed)
    vectors = rng.normal(0, 0.6, (frames, body.num_joints, 3))
    values = np.concatenate([rng.normal(0, 1, (frames, 3)), vectors.reshape(frames, -1)], axis=1)
    return vectors, PoseParameters(values, rng.normal(0, 1, body.num_shapes), np.eye(3))


def plain_skinning(arrays: dict[str, np.ndarray], shape: np.ndarray, vectors: np.ndarray) -> np.ndarray:
    """[V, 3]: SMPL as its paper writes it down, one frame, root at its rest position (Loper et al. 2015, eq. 2 to
    10)."""
    parents = [-1, *arrays["kintree_table"][0, 1:].tolist()]
    shaped = arrays["v_template"] + arrays["shapedirs"][..., : len(shape)] @ shape
    joints = arrays["J_regressor"] @ shaped
    local = Rotation.from_rotvec(vectors).as_matrix()
    posed = shaped + arrays["posedirs"] @ (local[1:] - np.eye(3)).ravel()
    world: list[np.ndarray] = []
    for joint, parent in enumerate(parents):
        step = np.eye(4)
        step[:3, :3] = local[joint]
        step[:3, 3] = joints[joint] - (joints[parent] if parent >= 0 else 0)
        world.append(world[parent] @ step if parent >= 0 else step)
    out = np.zeros_like(posed)
    for joint, transform in enumerate(world):
        moved = (posed - joints[joint]) @ transform[:3, :3].T + transform[:3, 3]
        out += arrays["weights"][:, joint, None] * moved
    return out


@pytest.mark.parametrize("name", ["smpl", "smplh", "smplx", "smal", "smpl.pkl"])
def test_a_posed_body_is_plain_linear_blend_skinning(name: str, model_files):
    path = model_files[name]
    body = load_body(name.partition(".")[0], file=path)
    arrays = smpl_arrays(SMALL, body.num_joints)
    vectors, parameters = random_pose(body, seed=1)
    got = body.pose_vertices(parameters.posed(body))
    joints = arrays["J_regressor"] @ (arrays["v_template"] + arrays["shapedirs"] @ parameters.shape)
    for t in range(2):
        want = plain_skinning(arrays, parameters.shape, vectors[t]) - joints[0] + parameters.values[t, :3]
        np.testing.assert_allclose(got[t], want, atol=2e-6)
        local = Rotation.from_rotvec(vectors[t]).as_matrix()[None]
        there = parameters.values[t : t + 1, :3] - joints[0]
        pose = BodyPose.of_local(body, local, parameters.shape, there)  # as smplx's parameters define it
        np.testing.assert_allclose(body.pose_vertices(pose)[0], want, atol=2e-6)
    np.testing.assert_allclose(body.pose_vertices(parameters.posed(body), slice(1, 2)), got[1:], atol=1e-6)


@settings(deadline=None, max_examples=25)
@given(
    joint=st.integers(0, 23),
    vector=st.lists(st.floats(-3, 3), min_size=3, max_size=3),
    shape=st.lists(st.floats(-3, 3), min_size=10, max_size=10),
)
def test_any_single_joint_rotates_as_the_paper_defines(
    joint: int, vector: list[float], shape: list[float], model_files
):
    body, arrays = load_body("smpl", file=model_files["smpl"]), smpl_arrays(SMALL, 24)
    values = np.zeros((1, 3 + 3 * 24))
    values[0, 3 + 3 * joint : 6 + 3 * joint] = vector
    parameters = PoseParameters(values, np.array(shape), np.eye(3))
    want = plain_skinning(arrays, parameters.shape, values[0, 3:].reshape(24, 3))
    root = arrays["J_regressor"][0] @ (arrays["v_template"] + arrays["shapedirs"] @ parameters.shape)
    np.testing.assert_allclose(body.pose_vertices(parameters.posed(body))[0], want - root, atol=5e-6)


@pytest.mark.parametrize("name", ["smpl", "smplh", "smplx"])
def test_a_posed_body_is_that_of_the_smplx_package(name: str, people: dict[str, Body], tmp_path: Path):
    smplx, torch = pytest.importorskip("smplx"), pytest.importorskip("torch")
    body, arrays = people[name], smpl_arrays(REAL[name], JOINTS[name])
    vectors, parameters = random_pose(body, seed=2, frames=1)
    hands = {f"hands_components{side}": np.zeros((45, 45)) for side in "lr"}
    hands |= {f"hands_mean{side}": np.zeros(45) for side in "lr"}
    face = {
        "lmk_faces_idx": np.zeros(51, np.int64), "lmk_bary_coords": np.full((51, 3), 1 / 3),
        "dynamic_lmk_faces_idx": np.zeros((79, 17), np.int64), "dynamic_lmk_bary_coords": np.full((79, 17, 3), 1 / 3),
    }  # fmt: skip
    if name == "smplx":  # it wants expressions, and reads files itself
        padded = np.concatenate([arrays["shapedirs"], np.zeros_like(arrays["shapedirs"])], axis=-1)
        np.savez(tmp_path / "model.npz", **{**arrays, **hands, **face, "shapedirs": padded})
        model = smplx.SMPLX(str(tmp_path / "model.npz"), use_pca=False, flat_hand_mean=True, dtype=torch.float64)
    else:
        data = SimpleNamespace(**arrays, **hands)
        options = {"use_pca": False, "flat_hand_mean": True} if name == "smplh" else {}
        kind = smplx.SMPL if name == "smpl" else smplx.SMPLH
        model = kind("", data_struct=data, dtype=torch.float64, **options)
    parts = {
        "smpl": ("body_pose",),
        "smplh": ("body_pose", "left_hand_pose", "right_hand_pose"),
        "smplx": ("body_pose", "jaw_pose", "leye_pose", "reye_pose", "left_hand_pose", "right_hand_pose"),
    }[name]
    sizes = {"body_pose": 23 if name == "smpl" else 21, "left_hand_pose": 15, "right_hand_pose": 15}
    arguments, at = {"global_orient": vectors[:, 0]}, 1
    for part in parts:
        size = sizes.get(part, 1)
        arguments[part] = vectors[:, at : at + size].reshape(1, -1)
        at += size
    assert at == body.num_joints
    arguments |= {"betas": parameters.shape[None], "transl": parameters.values[:, :3]}
    with torch.no_grad():
        result = model(**{key: torch.as_tensor(value) for key, value in arguments.items()})
    root = body.joints[0] + parameters.shape @ body.joint_directions[:, 0]
    got = body.pose_vertices(parameters.posed(body))[0] + root
    difference = np.abs(got - result.vertices[0].numpy()).max()
    print(f"{name}: largest difference {difference:.2e} m")
    assert difference < 5e-6
    positions = parameters.posed(body).positions[0] + root
    np.testing.assert_allclose(positions, result.joints[0, : body.num_joints].numpy(), atol=1e-6)


@pytest.mark.parametrize("name", ["smpl", "smplh", "smplx"])
def test_keypoints_of_people_are_at_the_joints_they_are_named_after(name: str, people: dict[str, Body]):
    body = people[name]
    at = dict(zip(body.keypoint_landmarks.tolist(), body.keypoints.moment.sum(1), strict=True))
    assert {0, 2, 5, 7, 8, *range(11, 17), *range(23, 33)} <= set(at)
    assert body.keypoint_landmarks[list(HIPS)].tolist() == [23, 24]
    np.testing.assert_allclose(body.keypoints.mass.sum(1), 1, atol=1e-9)
    for landmark, position in LANDMARK_POSITIONS.items():
        assert np.linalg.norm(at[landmark] - position) < 0.04
    left, back, up = body.axes.T
    assert (at[0] - at[7]) @ back < 0  # the nose is in front of the ear
    assert at[11] @ left > 0 > at[12] @ left
    assert at[11] @ up > at[23] @ up > at[25] @ up > at[27] @ up
    np.testing.assert_allclose(np.linalg.det(body.axes), 1)
    assert body.prior.sigma.shape == (body.num_joints, 3)
    assert (body.prior.lower < body.prior.mean).all()
    assert (body.prior.mean < body.prior.upper).all()
    assert body.outer.mean() > 0.9
    # Skinned without pose blend shapes, a vertex of the mesh and its keypoint are the same.
    _, parameters = random_pose(body, seed=3)
    points = parameters.points(body, PointChains.of(body, body.keypoints))
    skinned = replace(body, pose_directions=None).pose_vertices(parameters.posed(body))
    assert len(landmark_vertices(name)) == 9
    for part, vertex in landmark_vertices(name).items():
        keypoint = body.keypoint_landmarks.tolist().index(LANDMARKS[part][0])
        np.testing.assert_allclose(points[:, keypoint], skinned[:, vertex], atol=1e-4)


def test_the_prior_lets_arms_hang_and_hinges_bend_the_right_way(people: dict[str, Body]):
    body = people["smpl"]
    names = joint_names("smpl")
    rest = np.einsum("jab,jb->ja", body.prior.axes, body.prior.mean)

    def position(vectors: np.ndarray, joint: str) -> np.ndarray:
        values = np.concatenate([[0, 0, 0], vectors.ravel()])[None]
        posed = PoseParameters(values, np.zeros(10), np.eye(3)).posed(body)
        return posed.positions[0, names.index(joint)]

    for side in ("left", "right"):
        assert position(rest, f"{side}_wrist")[1] < position(0 * rest, f"{side}_wrist")[1] - 0.3
        for part, axis, end, forward in (("knee", 0, "ankle", -1), ("elbow", 1, "wrist", 1)):
            joint, bent = names.index(f"{side}_{part}"), np.zeros_like(rest)
            limits = body.prior.lower[joint, axis], body.prior.upper[joint, axis]
            bent[joint, axis] = max(limits, key=abs) / 2
            moved = position(bent, f"{side}_{end}") - position(0 * rest, f"{side}_{end}")
            assert moved[2] * forward > 0.15
            assert min(map(abs, limits)) < 0.2  # and hardly the other way


def turning(body: Body, frames: int) -> PoseParameters:
    """A person four meters away who turns about the vertical, lifts an arm and bends a knee."""
    time = np.linspace(0, 1, frames)
    values = np.zeros((frames, 3 + 3 * body.num_joints))
    values[:, :3] = [0.1, -0.1, 4]
    joints = values[:, 3:].reshape(frames, -1, 3)
    joints[:, 0, 1] = 2.5 * time
    joints[:, 16, 2], joints[:, 17, 2] = -1 + 0.5 * time, 1.1
    joints[:, 1, 0], joints[:, 4, 0], joints[:, 18, 1] = -0.8 * time, 0.2 + time, -0.5
    shape = np.zeros(body.num_shapes)
    shape[0] = 0.8
    return PoseParameters(values, shape, np.diag([1.0, -1, -1]))


@pytest.mark.parametrize("name", ["smpl", "smplx"])
def test_a_track_of_a_person_is_recovered(name: str, people: dict[str, Body], camera: Camera):
    """The first guess knows the model's axes, the prior its rest pose: a turning, bending body is found again."""
    body, truth = people[name], turning(people[name], 6)
    person = as_person(body, truth, camera, noise=0.5)
    frames = np.zeros((*person.mask.shape, 3), np.uint8)
    context = ClipContext(frames, 30.0, camera, body, LabelingConfig(fit_flow=False))
    result = fit_body(context, person, person.mask)
    assert np.nanmax(result.reprojection_error) < 1.5
    xy = [camera.project(body.pose_vertices(pose.posed(body))) for pose in (result.parameters, truth)]
    assert np.median(np.linalg.norm(xy[0] - xy[1], axis=-1), axis=1).max() < 2


def test_a_clip_is_labeled_with_the_configured_body(tmp_path: Path, camera: Camera):
    path = write_smpl(tmp_path / "smpl" / "SMPL_FEMALE.npz", 6890)
    config = LabelingConfig(body="smpl", gender="female", body_file=tmp_path, points=200)
    body = load_body("smpl", "female", path)
    pose = turning(body, 8)
    pose.values[:, 4] *= 0.1  # turns little, so that visible points stay visible
    person = as_person(body, pose, camera)
    frames = textured_frames(body, pose, camera)
    clip = label_clip(frames, fps=24.0, config=config, stages=Stages(detection=lambda context: [person]))
    assert clip.info["body_model"] == "smpl"
    assert clip.people[0]["mask_overlap"] > 0.8
    assert clip.tracks.visible.any(1).sum() > 40
    surface = body.surface_points(200, config.seed)
    truth = camera.project(surface.positions(body.pose_vertices(pose.posed(body)), body.faces))
    index = {vertex: k for k, vertex in enumerate(surface.vertex.tolist())}
    off = clip.tracks.xy - truth[:, [index[v] for v in clip.tracks.vertex.tolist()]].swapaxes(0, 1)
    assert np.median(np.linalg.norm(off[clip.tracks.visible], axis=-1)) < 2


def test_a_file_of_parameters_finds_its_body_at_the_configured_path(model_files, tmp_path: Path):
    rng = np.random.default_rng(4)
    vectors, shape = rng.normal(0, 0.4, (2, 33, 3)), rng.normal(size=8)
    np.savez(
        tmp_path / "dog.meshes.npz",
        **{"frame": [0, 1], "person": [0, 0], "size": [48, 64], "focal": 60.0, "body": "smal"},
        **{"global_orient": vectors[:, 0], "body_pose": vectors[:, 1:], "betas": shape},
        translation=[[0, 0, 3.0], [0.1, 0, 3]],
    )
    file = read_meshes(tmp_path / "dog.meshes.npz")
    with pytest.raises(ValueError, match="smal needs a file"):
        file.surface("smal")
    body = file.surface("smal", "neutral", model_files["smal"])
    (dog,) = file.tracks(np.arange(2), body, file.camera(64, 48))
    arrays = smpl_arrays(SMALL, 33)
    for t in range(2):
        want = plain_skinning(arrays, np.append(shape, [0, 0]), vectors[t]) + [0.1 * t, 0, 3]
        np.testing.assert_allclose(dog.vertices[t], want, atol=5e-6)


def test_the_initial_pose_of_bodies_with_other_axes_is_the_same_person(anny: Body, people, dance, camera: Camera):
    person = as_person(anny, dance, camera)
    for body in (anny, people["smpl"]):
        guess = Landmarks.of(body, person, camera, 30.0).initial_pose(body, camera)
        rotations = guess.posed(body).rotations[:, 0]
        left, back, up = np.moveaxis(rotations[:4] @ body.axes, -1, 0)
        assert (left[:, 0] > 0.8).all()  # the dance begins facing the camera
        assert (back[:, 2] > 0.8).all()
        assert (up[:, 1] < -0.8).all()


def test_smplx_is_imported_with_its_bodies_alone():
    """Neither the package nor the open default needs it."""
    code = (
        "import sys, anthrotap_hf, anthrotap_builder.pipeline as p; p.load_body('anny'); "
        "sys.exit('smplx' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_without_smplx_an_error_names_the_extra_and_the_license(monkeypatch, tmp_path: Path):
    monkeypatch.setitem(sys.modules, "smplx", None)
    with pytest.raises(ImportError, match=r"non-commercial research only: pip install 'anthrotap\[smpl\]'"):
        load_body("smpl", file=write_smpl(tmp_path / "smpl.npz", SMALL))


def test_animals_have_no_keypoints_and_fitting_them_is_an_error(model_files, anny: Body, dance, camera: Camera):
    body = load_body("smal", file=model_files["smal"])
    assert body.num_joints == 33
    assert len(body.keypoints) == len(body.keypoint_landmarks) == len(body.keypoint_weights) == 0
    assert body.keypoints.moment_directions.shape == (10, 0, 33, 3)
    assert len(body.surface_points(64, 0)) == 64
    with pytest.raises(ValueError, match="where landmarks are on the body, and of smal it does not") as caught:
        Landmarks.of(body, as_person(anny, dance, camera), camera, 30.0)
    assert "\n" not in str(caught.value)
    # A person of unknown vertices has none either.
    assert len(load_body("smpl", file=model_files["smpl"]).keypoints) == 0


def test_a_saved_body_loads_as_it_was(model_files, tmp_path: Path):
    body = load_body("smplx", file=model_files["smplx"])
    body.save(tmp_path / "body.npz")
    again = Body.load(tmp_path / "body.npz")
    for each in fields(Body):
        if each.name not in ("keypoints", "prior"):
            np.testing.assert_array_equal(getattr(again, each.name), getattr(body, each.name))
    assert again.source.startswith("smplx.npz sha256:")


def test_a_body_saved_in_the_older_format_loads_with_defaults(anny: Body, tmp_path: Path):
    anny.save(tmp_path / "new.npz")
    with np.load(tmp_path / "new.npz") as archive:
        assert "pose_directions" not in archive.files
        np.savez(tmp_path / "old.npz", **{k: archive[k] for k in archive.files if k not in ("axes", "source")})
    old = Body.load(tmp_path / "old.npz")
    np.testing.assert_array_equal(old.axes, np.eye(3))
    assert old.pose_directions is None
    assert old.source == ""


def test_only_the_first_ten_shape_coefficients_are_taken(tmp_path: Path):
    arrays = smpl_arrays(SMALL, 55, shapes=20)
    body = load_body("smplx", file=write_smpl(tmp_path / "smplx.npz", SMALL, 55, shapes=20))
    np.testing.assert_allclose(body.shape_directions.transpose(1, 2, 0), arrays["shapedirs"][..., :10], atol=1e-7)
    few = load_body("smplx", file=write_smpl(tmp_path / "few.npz", SMALL, 55, shapes=4))
    assert few.num_shapes == 4


def test_made_up_people_are_closed_upright_and_of_a_size(people):
    for vertices in (SMALL, 6890):
        points, faces = person_mesh(vertices)
        assert points.shape == (vertices, 3)
        assert faces.shape == (2 * vertices - 4, 3)
        edges = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
        assert len(np.unique(edges, axis=0)) == len(edges)  # wound alike,
        assert (np.unique(edges, axis=0) == np.unique(edges[:, ::-1], axis=0)).all()  # and closed
        a, b, c = points[faces].swapaxes(0, 1)
        assert 0.03 < np.einsum("fx,fx->", np.cross(a, b), c) / 6 < 0.1  # outwards, cubic meters
        assert 1.6 < np.ptp(points[:, 1]) < 1.8
    for name, joints in JOINTS.items():
        parents = smpl_parents(joints)
        assert (parents[1:] < np.arange(1, joints)).all()
        lengths = np.linalg.norm(joint_positions(joints)[1:] - joint_positions(joints)[parents[1:]], axis=1)
        assert (lengths < 0.5).all(), name
    np.testing.assert_array_equal(people["smpl"].axes, AXES)
    pose = BodyPose(np.eye(3)[None, None].repeat(24, 1), people["smpl"].joints[None], np.zeros(10))
    np.testing.assert_allclose(people["smpl"].pose_vertices(pose)[0], people["smpl"].template, atol=1e-6)
