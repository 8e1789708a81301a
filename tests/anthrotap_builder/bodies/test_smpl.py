"""Bodies of the SMPL family, from made-up files with the real layout (see body_files)."""

from __future__ import annotations

import copyreg
import os
import pickle
import runpy
import sys
from collections import OrderedDict
from dataclasses import fields, replace
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
import scipy.sparse
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from anthrotap_builder.bodies import Body, load_body
from anthrotap_builder.bodies.body import BodyPose
from anthrotap_builder.bodies.smpl import AXES, LANDMARKS, joint_names, landmark_vertices
from anthrotap_builder.bodies.smpl_files import MODELS, find_model_file
from anthrotap_builder.config import LabelingConfig
from anthrotap_builder.context import ClipContext
from anthrotap_builder.geometry.camera import Camera
from anthrotap_builder.mesh_recovery.fit import Landmarks, fit_body
from anthrotap_builder.mesh_recovery.kinematics import PointChains, PoseParameters
from anthrotap_builder.mesh_recovery.mesh_file import read_meshes
from anthrotap_builder.mesh_recovery.terms import HIPS
from anthrotap_builder.pipeline import Stages, label_clip
from anthrotap_builder.utils.assets import AssetError
from anthrotap_hf.utils.safe_pickle import array_of, safe_load
from helpers.body_files import (
    LANDMARK_POSITIONS,
    joint_positions,
    person_mesh,
    smpl_arrays,
    smpl_parents,
    write_smpl,
)
from helpers.posed_people import as_person, textured_frames

JOINTS = {"smpl": 24, "smplh": 52, "smplx": 55, "smal": 33}
REAL = {"smpl": 6890, "smplh": 6890, "smplx": 10475}
SMALL = 900


@pytest.fixture(scope="session")
def model_files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A small file of each model by name; "smpl.pkl" is a pickle."""
    folder = tmp_path_factory.mktemp("models")
    files = {name: write_smpl(folder / f"{name}.npz", SMALL, joints) for name, joints in JOINTS.items()}
    return files | {"smpl.pkl": write_smpl(folder / "smpl.pkl", SMALL, 24)}


@pytest.fixture(scope="session")
def people(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Body]:
    """A body with the real number of vertices of each model of people."""
    folder = tmp_path_factory.mktemp("people")
    return {
        name: load_body(name, file=write_smpl(folder / f"{name}.npz", count, JOINTS[name]))
        for name, count in REAL.items()
    }


def random_pose(body: Body, seed: int, frames: int = 2) -> tuple[np.ndarray, PoseParameters]:
    """Rotation vectors [T, J, 3], and the same as parameters; the root is turned and placed as well."""
    rng = np.random.default_rng(seed)
    vectors = rng.normal(0, 0.6, (frames, body.num_joints, 3))
    values = np.concatenate([rng.normal(0, 1, (frames, 3)), vectors.reshape(frames, -1)], axis=1)
    return vectors, PoseParameters(values, rng.normal(0, 1, body.num_shapes), np.eye(3))


def plain_skinning(arrays: dict[str, np.ndarray], shape: np.ndarray, vectors: np.ndarray) -> np.ndarray:
    """[V, 3]: SMPL as its paper writes it down, one frame, root at its rest place (Loper et al. 2015, eq. 2 to 10)."""
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
        pose = BodyPose.of_local(body, local, parameters.shape, there)  # as smplx's parameters say it
        np.testing.assert_allclose(body.pose_vertices(pose)[0], want, atol=2e-6)
    np.testing.assert_allclose(body.pose_vertices(parameters.posed(body), slice(1, 2)), got[1:], atol=1e-6)


@settings(deadline=None, max_examples=25)
@given(
    joint=st.integers(0, 23),
    vector=st.lists(st.floats(-3, 3), min_size=3, max_size=3),
    shape=st.lists(st.floats(-3, 3), min_size=10, max_size=10),
)
def test_any_single_joint_turns_as_written_down(
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
        model = smplx.SMPLX(
            str(tmp_path / "model.npz"), use_pca=False, flat_hand_mean=True, dtype=torch.float64
        )
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
    places = parameters.posed(body).positions[0] + root
    np.testing.assert_allclose(places, result.joints[0, : body.num_joints].numpy(), atol=1e-6)


@pytest.mark.parametrize("name", ["smpl", "smplh", "smplx"])
def test_keypoints_of_people_are_where_their_names_say(name: str, people: dict[str, Body]):
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

    def place(vectors: np.ndarray, joint: str) -> np.ndarray:
        values = np.concatenate([[0, 0, 0], vectors.ravel()])[None]
        posed = PoseParameters(values, np.zeros(10), np.eye(3)).posed(body)
        return posed.positions[0, names.index(joint)]

    for side in ("left", "right"):
        assert place(rest, f"{side}_wrist")[1] < place(0 * rest, f"{side}_wrist")[1] - 0.3
        for part, axis, end, forward in (("knee", 0, "ankle", -1), ("elbow", 1, "wrist", 1)):
            joint, bent = names.index(f"{side}_{part}"), np.zeros_like(rest)
            limits = body.prior.lower[joint, axis], body.prior.upper[joint, axis]
            bent[joint, axis] = max(limits, key=abs) / 2
            moved = place(bent, f"{side}_{end}") - place(0 * rest, f"{side}_{end}")
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


def test_a_clip_is_labeled_with_the_body_that_the_configuration_names(tmp_path: Path, camera: Camera):
    path = write_smpl(tmp_path / "smpl" / "SMPL_FEMALE.npz", 6890)
    config = LabelingConfig(body="smpl", gender="female", body_file=tmp_path, points=200)
    body = load_body("smpl", "female", path)
    pose = turning(body, 8)
    pose.values[:, 4] *= 0.1  # turns little, so that what is seen stays seen
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


def test_a_file_of_parameters_finds_its_body_where_the_configuration_says(model_files, tmp_path: Path):
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


def test_the_initial_pose_of_bodies_with_other_axes_is_the_same_person(
    anny: Body, people, dance, camera: Camera
):
    person = as_person(anny, dance, camera)
    for body in (anny, people["smpl"]):
        guess = Landmarks.of(body, person, camera).initial_pose(body, camera)
        rotations = guess.posed(body).rotations[:, 0]
        left, back, up = np.moveaxis(rotations[:4] @ body.axes, -1, 0)
        assert (left[:, 0] > 0.8).all()  # the dance begins facing the camera
        assert (back[:, 2] > 0.8).all()
        assert (up[:, 1] < -0.8).all()


def test_animals_have_no_keypoints_and_the_fit_says_so(model_files, anny: Body, dance, camera: Camera):
    body = load_body("smal", file=model_files["smal"])
    assert body.num_joints == 33
    assert len(body.keypoints) == len(body.keypoint_landmarks) == len(body.keypoint_weights) == 0
    assert body.keypoints.moment_directions.shape == (10, 0, 33, 3)
    assert len(body.surface_points(64, 0)) == 64
    with pytest.raises(
        ValueError, match="where landmarks are on the body, and of smal it does not"
    ) as caught:
        Landmarks.of(body, as_person(anny, dance, camera), camera)
    assert "\n" not in str(caught.value)
    # A person of unknown vertices is in the same place.
    assert len(load_body("smpl", file=model_files["smpl"]).keypoints) == 0


def test_a_saved_body_loads_as_it_was(model_files, tmp_path: Path):
    body = load_body("smplx", file=model_files["smplx"])
    body.save(tmp_path / "body.npz")
    again = Body.load(tmp_path / "body.npz")
    for each in fields(Body):
        if each.name not in ("keypoints", "prior"):
            np.testing.assert_array_equal(getattr(again, each.name), getattr(body, each.name))
    assert again.source.startswith("smplx.npz sha256:")


def test_a_body_saved_before_it_had_these_loads_with_what_anny_has(anny: Body, tmp_path: Path):
    anny.save(tmp_path / "new.npz")
    with np.load(tmp_path / "new.npz") as archive:
        assert "pose_directions" not in archive.files
        np.savez(
            tmp_path / "old.npz", **{k: archive[k] for k in archive.files if k not in ("axes", "source")}
        )
    old = Body.load(tmp_path / "old.npz")
    np.testing.assert_array_equal(old.axes, np.eye(3))
    assert old.pose_directions is None
    assert old.source == ""


def test_only_the_first_ten_shape_coefficients_are_taken(tmp_path: Path):
    arrays = smpl_arrays(SMALL, 55, shapes=20)
    body = load_body("smplx", file=write_smpl(tmp_path / "smplx.npz", SMALL, 55, shapes=20))
    np.testing.assert_allclose(
        body.shape_directions.transpose(1, 2, 0), arrays["shapedirs"][..., :10], atol=1e-7
    )
    few = load_body("smplx", file=write_smpl(tmp_path / "few.npz", SMALL, 55, shapes=4))
    assert few.num_shapes == 4


# Where files are found


@pytest.fixture
def nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache folder, and no other place to look in."""
    monkeypatch.setenv("ANTHROTAP_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("ANTHROTAP_BODY_MODELS", raising=False)
    return tmp_path / "cache" / "body_models"


@pytest.mark.parametrize(
    ("name", "gender", "place"),
    [
        ("smpl", "neutral", "smpl/SMPL_NEUTRAL.pkl"),
        ("smpl", "neutral", "smpl/basicModel_neutral_lbs_10_207_0_v1.0.0.pkl"),
        ("smpl", "male", "smpl/basicmodel_m_lbs_10_207_0_v1.1.0.pkl"),
        ("smpl", "female", "basicModel_f_lbs_10_207_0_v1.0.0.pkl"),
        ("smplh", "male", "smplh/SMPLH_male.pkl"),
        ("smplh", "female", "smplh/SMPLH_FEMALE.npz"),
        ("smplx", "female", "smplx/SMPLX_FEMALE.npz"),
        ("smplx", "neutral", "SMPLX_NEUTRAL.npz"),
    ],
)
@pytest.mark.parametrize("where", ["argument", "environment", "cache"])
def test_files_are_found_by_the_names_that_people_have(
    name, gender, place, where, nowhere, tmp_path, monkeypatch
):
    root = nowhere if where == "cache" else tmp_path / "models"
    path = root / place
    path.parent.mkdir(parents=True)
    path.touch()
    if where == "environment":
        monkeypatch.setenv("ANTHROTAP_BODY_MODELS", str(root))
    found = find_model_file(name, gender, root if where == "argument" else None)
    assert found.samefile(path)
    if where == "argument":
        assert find_model_file(name, gender, path) == path


@pytest.mark.parametrize(
    ("name", "page"),
    [
        ("smpl", "https://smpl.is.tue.mpg.de"),
        ("smplh", "https://mano.is.tue.mpg.de"),
        ("smplx", "https://smpl-x.is.tue.mpg.de"),
    ],
)
def test_a_missing_file_says_where_to_get_it_and_where_to_put_it(name, page, nowhere):
    with pytest.raises(AssetError) as caught:
        load_body(name, "female")
    message = str(caught.value)
    assert "\n" not in message
    assert f"no female {MODELS[name].title} body model" in message
    assert f"register at {page} (free for non-commercial research" in message
    put = nowhere / name / f"{name.upper()}_FEMALE.pkl"
    assert f"put it at {put} (or .npz)" in message
    write_smpl(put.with_suffix(".npz"), SMALL, JOINTS[name])
    assert load_body(name, "female") is load_body(name, "female")
    with pytest.raises(AssetError, match=rf"no male {MODELS[name].title} body model \(only female\)"):
        load_body(name, "male")


def test_a_missing_path_and_a_wrong_gender_are_said(tmp_path: Path, model_files):
    with pytest.raises(
        AssetError,
        match=r"/lion\.pkl: there is no such body model; register at https://smal\.is\.tue\.mpg\.de",
    ):
        load_body("smal", file=tmp_path / "lion.pkl")
    with pytest.raises(AssetError, match=r"/SMPL_MALE\.pkl: there is no such body model; .* put it there"):
        load_body("smpl", "male", tmp_path / "SMPL_MALE.pkl")
    male = write_smpl(tmp_path / "basicmodel_m_lbs_10_207_0_v1.1.0.pkl", SMALL)
    with pytest.raises(
        AssetError, match=r"v1\.1\.0\.pkl: it is male by its name; set gender to male, not neutral"
    ):
        load_body("smpl", file=male)
    assert load_body("smpl", "male", male).num_joints == 24
    with pytest.raises(ValueError, match="no gender 'other': choose from neutral, male, female"):
        load_body("smpl", "other")
    with pytest.raises(ValueError, match="smal needs a file"):
        load_body("smal")
    with pytest.raises(ValueError, match="smal has no gender"):
        load_body("smal", "male", model_files["smal"])
    with pytest.raises(ValueError, match="anny body has no gender and no file"):
        load_body("anny", "male")


# Files that are not what they should be


def without(key):
    return lambda arrays: arrays.pop(key)


def put(key, value):
    return lambda arrays: arrays.update({key: value(arrays[key]) if callable(value) else value})


def spoil(key, at, value):
    def change(arrays):
        arrays[key][at] = value

    return change


@pytest.mark.parametrize("suffix", [".npz", ".pkl"])
@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (without("posedirs"), "it has no posedirs"),
        (without("f"), "it has no f"),
        (put("weights", lambda w: w[:-1]), "weights is 899 x 24, not 900 x 24"),
        (put("v_template", lambda v: v[:800]), "shapedirs is 900 x 3 x 10, not 800 x 3 x any"),
        (put("posedirs", lambda p: p[..., :9]), "posedirs is 900 x 3 x 9, not 900 x 3 x 207"),
        (put("J_regressor", lambda r: r.T), "J_regressor is 900 x 24, not 24 x 900"),
        (put("f", lambda f: f[:, :2]), "f is 1796 x 2, not any x 3"),
        (put("f", lambda f: f[:0]), "no triangles"),
        (put("f", lambda f: f.astype(float)), "no triangles of vertex numbers"),
        (spoil("f", (0, 0), 900), "faces name vertices 0 to 900, and v_template has 900"),
        (put("f", lambda f: f[(f < 800).all(1)]), "faces name vertices 0 to 799, and v_template has 900"),
        (put("f", lambda f: f.astype(np.int32) - 1), "faces name vertices -1 to 898"),
        (put("kintree_table", lambda k: k[0]), "not two rows of joint numbers"),
        (spoil("kintree_table", (0, 1), 5), "no tree"),
        (spoil("kintree_table", (0, 5), 77), "no tree"),
        (spoil("kintree_table", (1, 5), 6), "no tree"),
        (spoil("weights", 3, 0.5), "skinning weights of a vertex do not sum to one"),
        (spoil("shapedirs", (1, 1, 1), np.nan), "shapedirs holds NaN"),
        (put("v_template", "lbs"), "v_template"),
        (put("weights", 3.0), "weights is a single number"),
        (put("v_template", lambda v: np.array([{}, 1])), "v_template: "),
    ],
)
def test_arrays_that_do_not_fit_are_said_in_one_line(change, reason, suffix, tmp_path: Path):
    arrays = smpl_arrays(SMALL, 24)
    change(arrays)
    path = tmp_path / f"broken{suffix}"
    if suffix == ".npz":
        np.savez(path, **arrays)
    else:
        path.write_bytes(pickle.dumps(arrays, 2))
    with pytest.raises(AssetError) as caught:
        load_body("smpl", file=path)
    message = str(caught.value)
    assert message.startswith(f"{path}: no SMPL body model: ")
    assert reason in message
    assert message.endswith("; those of SMPL are at https://smpl.is.tue.mpg.de")
    assert "\n" not in message


@pytest.mark.parametrize("asked", ["smpl", "smplh", "smplx"])
@pytest.mark.parametrize("given_", ["smpl", "smplh", "smplx", "smal"])
def test_another_models_file_is_told_apart(asked: str, given_: str, model_files):
    if asked == given_:
        return
    other = f"{JOINTS[given_]} joints, "
    other += "and" if given_ == "smal" else f"as {MODELS[given_].title} has, which is the body {given_}"
    with pytest.raises(AssetError, match=other):
        load_body(asked, file=model_files[given_])


def test_a_person_is_no_animal(people, tmp_path: Path):
    path = write_smpl(tmp_path / "smpl.npz", 6890, 24)
    with pytest.raises(AssetError, match="as SMPL has, which is the body smpl"):
        load_body("smal", file=path)
    assert load_body("smal", file=write_smpl(tmp_path / "bird.npz", SMALL, 24)).num_joints == 24


def test_files_that_are_no_archives(tmp_path: Path):
    for name, content, reason in (
        ("a.npz", b"PK\x03\x04 not really", "no SMPL body model"),
        ("b.npz", b"", "no SMPL body model"),
        ("c.pkl", b"", "no SMPL body model: it is no pickle"),
        ("d.pkl", b"\x80\x02no", "no SMPL body model"),
        ("e.pkl", pickle.dumps([1, 2]), "it holds a list, not a dictionary"),
        ("f.txt", b"", r"ends neither in \.npz nor in \.pkl"),
    ):
        path = tmp_path / name
        path.write_bytes(content)
        with pytest.raises(AssetError, match=reason) as caught:
            load_body("smpl", file=path)
        assert "\n" not in str(caught.value)
    whole = write_smpl(tmp_path / "whole.npz", SMALL).read_bytes()
    (tmp_path / "half.npz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(AssetError, match=r"half\.npz: no SMPL body model"):
        load_body("smpl", file=tmp_path / "half.npz")


# Pickles


class Ch:
    """As chumpy's class is pickled: by its attributes."""

    def __init__(self, **parts):
        self.__dict__.update(parts)


@pytest.fixture
def chumpy(monkeypatch: pytest.MonkeyPatch):
    """`chumpy(module, name, **parts)` makes an object that is pickled as one of chumpy's."""

    def make(module: str, name: str, **parts: object) -> Ch:
        for each in ("chumpy", module):
            if each not in sys.modules:
                monkeypatch.setitem(sys.modules, each, ModuleType(each))
        if not hasattr(sys.modules[module], name):
            setattr(sys.modules[module], name, type(name, (Ch,), {"__module__": module}))
        return getattr(sys.modules[module], name)(**parts)

    return make


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_all_protocols_and_kinds_of_arrays_are_read(protocol: int, tmp_path: Path):
    rng = np.random.default_rng(0)
    sparse = scipy.sparse.random(5, 7, 0.3, random_state=0)
    arrays = {
        "plain": rng.normal(size=(3, 4)),
        "fortran": np.asfortranarray(rng.normal(size=(3, 4, 2))),
        "permuted": rng.normal(size=(3, 4, 5)).transpose(2, 0, 1),
        "strided": rng.normal(size=(6, 4))[::2],
        "big endian": np.arange(3, dtype=">u4"),
        "none": np.zeros((0, 3)),
        "bool": np.array([True, False]),
        "half": np.float16([1.5]),
        "single": np.array(2.0),
    }
    matrices = {
        f"{kind}_{of}": getattr(scipy.sparse, f"{kind}_{of}")(sparse)
        for kind in ("csc", "csr", "coo")
        for of in ("matrix", "array")
    }
    others = {"scalar": np.float64(3.5), "list": [[1, 2], [3, 4]], "number": 7}
    inert = {
        "set": {1},
        "frozen": frozenset([1]),
        "ordered": OrderedDict(a=1),
        "text": "lbs",
        "none at all": None,
    }
    path = tmp_path / "arrays.pkl"
    path.write_bytes(pickle.dumps({**arrays, **matrices, **others, **inert}, protocol))
    content = safe_load(path, body_model=True)
    for key, value in {**arrays, **others}.items():
        got = array_of(content[key])
        assert got.dtype == np.asarray(value).dtype
        np.testing.assert_array_equal(got, value)
    for key, matrix in matrices.items():
        np.testing.assert_array_equal(array_of(content[key]), matrix.toarray())
    assert {key: content[key] for key in inert} == inert
    with pytest.raises(ValueError, match="no array of numbers"):
        array_of(content["text"])


@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_chumpys_arrays_are_read_without_chumpy(protocol: int, chumpy, tmp_path: Path):
    arrays = smpl_arrays(SMALL, 24, shapes=14)
    source = chumpy("chumpy.ch", "Ch", x=arrays["shapedirs"], _dirty_vars=set(), dterms=("x",))
    chosen = np.arange(arrays["shapedirs"].size).reshape(arrays["shapedirs"].shape)[..., :10]
    content = {
        **arrays,
        "shapedirs": chumpy(
            "chumpy.reordering", "Select", a=source, idxs=chosen.ravel(), preferred_shape=chosen.shape
        ),
        "v_template": chumpy("chumpy.ch", "Ch", x=arrays["v_template"]),
        "J": chumpy("chumpy.ch_ops", "MatVecMult", mtx=None, vec=source),  # nobody asks for it
    }
    path = tmp_path / "old.pkl"
    path.write_bytes(pickle.dumps(content, protocol))
    body = load_body("smpl", file=path)
    np.testing.assert_allclose(body.template, arrays["v_template"], atol=1e-6)
    np.testing.assert_allclose(
        body.shape_directions, arrays["shapedirs"][..., :10].transpose(2, 0, 1), atol=1e-7
    )
    content["posedirs"] = content["J"]
    path = tmp_path / "computed.pkl"
    path.write_bytes(pickle.dumps(content, protocol))
    with pytest.raises(
        AssetError, match=r"posedirs: a computed chumpy\.ch_ops\.MatVecMult; save it as a plain"
    ):
        load_body("smpl", file=path)


def python_2_pickle(arrays: dict[str, np.ndarray]) -> bytes:
    """What Python 2.7 with chumpy and an old scipy writes, opcode by opcode: byte strings, old module names."""

    def string(text: bytes) -> bytes:
        return b"T" + len(text).to_bytes(4, "little") + text

    def number(value: int) -> bytes:
        return b"J" + value.to_bytes(4, "little", signed=True)

    def array(value: np.ndarray) -> bytes:
        code = f"{value.dtype.kind}{value.dtype.itemsize}".encode()
        dtype = b"cnumpy\ndtype\n(" + string(code) + number(0) + number(1) + b"tR(" + number(3) + string(b"<")
        dtype += b"NNN" + number(-1) + number(-1) + number(0) + b"tb"
        made = (
            b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n("
            + number(0)
            + b"t"
            + string(b"b")
            + b"tR"
        )
        shape = b"(" + b"".join(number(size) for size in value.shape) + b"t"
        return made + b"(" + number(1) + shape + dtype + b"I00\n" + string(value.tobytes()) + b"tb"

    def thing(module: bytes, name: bytes, **state: bytes) -> bytes:
        items = b"".join(string(key.encode()) + value for key, value in state.items())
        made = b"ccopy_reg\n_reconstructor\n(c" + module + b"\n" + name + b"\nc__builtin__\nobject\nNtR"
        return made + b"}(" + items + b"ub"

    matrix = scipy.sparse.csc_matrix(arrays["J_regressor"])
    shape = b"(" + number(matrix.shape[0]) + number(matrix.shape[1]) + b"t"
    values = {key: array(value) for key, value in arrays.items()}
    values["J_regressor"] = thing(
        *(b"scipy.sparse.csc", b"csc_matrix"),
        **{"_shape": shape, "data": array(matrix.data), "maxprint": number(50)},
        **{"indices": array(matrix.indices), "indptr": array(matrix.indptr)},
    )
    values["posedirs"] = thing(
        b"chumpy.ch", b"Ch", x=array(arrays["posedirs"]), _dirty_vars=b"c__builtin__\nset\n((ltR"
    )
    values["bs_type"] = string(b"lrotmin \xff")
    return b"\x80\x02}(" + b"".join(string(key.encode()) + value for key, value in values.items()) + b"u."


def test_a_pickle_of_python_2_is_read(tmp_path: Path):
    arrays = smpl_arrays(SMALL, 24)
    path = tmp_path / "basicModel_neutral_lbs_10_207_0_v1.0.0.pkl"
    path.write_bytes(python_2_pickle(arrays))
    body = load_body("smpl", file=path)
    np.testing.assert_allclose(body.joints, arrays["J_regressor"] @ arrays["v_template"], atol=1e-12)
    np.testing.assert_allclose(body.pose_directions, arrays["posedirs"].transpose(2, 0, 1), atol=1e-7)


class Calls:
    """Pickled as a call of `function`."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


def test_pickles_that_ask_for_more_are_refused_and_run_nothing(tmp_path: Path, chumpy):
    mark = tmp_path / "was here"
    object_array = np.empty(1, object)
    object_array[0] = Calls(os.system, f"touch '{mark}'")
    attacks = {
        "posix.system": Calls(os.system, f"touch '{mark}'"),
        "builtins.eval": Calls(eval, f"open({str(mark)!r}, 'w')"),
        "builtins.exec": {"a": [Calls(exec, f"open({str(mark)!r}, 'w')")]},
        "io.open": Calls(open, str(mark), "w"),
        "builtins.getattr": Calls(getattr, "a", "upper"),
        "runpy.run_path": Calls(runpy.run_path, str(tmp_path / "none.py")),
        "builtins.bytearray": Calls(bytearray, 10**12),
        "numpy.load": Calls(np.load, "x"),
        "scipy.sparse._matrix_io.load_npz": Calls(scipy.sparse.load_npz, "x"),
        "posix.system, which": chumpy("chumpy.ch", "Ch", x=Calls(os.system, f"touch '{mark}'")),
        "posix.system, which is": object_array,
        "to encode by 'rot13'": Calls(__import__("_codecs").encode, "abc", "rot13"),
        "bytes of its own making": Calls(bytes, 10**12),
        "to make an object of <class 'set'>": Calls(copyreg._reconstructor, set, object, None),
    }
    for asked, attack in attacks.items():
        for protocol in (0, 2, 5):
            path = tmp_path / f"{protocol}.pkl"
            path.write_bytes(pickle.dumps({**smpl_arrays(SMALL, 24), "J": attack}, protocol))
            with pytest.raises(AssetError) as caught:
                load_body("smpl", file=path)
            message = str(caught.value)
            assert "asks" in message
            assert asked in message
            assert "\n" not in message
    assert not mark.exists()


def test_parts_that_lie_about_each_other_are_refused(chumpy, tmp_path: Path):
    def read(value: object) -> np.ndarray:
        path = tmp_path / "one.pkl"
        path.write_bytes(pickle.dumps({"value": value}))
        return array_of(safe_load(path, body_model=True)["value"])

    outside = scipy.sparse.csc_matrix(np.eye(3))
    outside.indices[1] = 1_000_000
    with pytest.raises(ValueError, match=r"csc_matrix whose entries lie outside its 3 x 3"):
        read(outside)
    outside.indices[1] = -1
    with pytest.raises(ValueError, match="outside"):
        read(outside)
    outside.indices[1], outside.indptr[2] = 1, 10**9
    with pytest.raises(ValueError, match="whose rows or columns do not hold its entries"):
        read(outside)
    source = chumpy("chumpy.ch", "Ch", x=np.arange(4.0))
    with pytest.raises(ValueError, match="out of bounds"):
        read(chumpy("chumpy.reordering", "Select", a=source, idxs=np.array([9])))
    with pytest.raises(ValueError, match=r"chumpy\.reordering\.Select without idxs"):
        read(chumpy("chumpy.reordering", "Select", a=source))
    endless = chumpy("chumpy.reordering", "Select", idxs=np.array([0]))
    endless.a = endless
    with pytest.raises(ValueError, match="recursion"):
        read(endless)
    with pytest.raises(ValueError, match="not of plain numbers"):
        read(np.array([(1, 2.0)], dtype=[("a", "i4"), ("b", "f8")]))
    with pytest.raises(ValueError, match="not of plain numbers"):
        read(np.array(["text"]))
    with pytest.raises(ValueError, match="not of plain numbers"):
        read(np.array([None]))


@settings(deadline=None, max_examples=300)
@given(data=st.data())
def test_a_damaged_pickle_is_a_value_error_and_nothing_else(data, tmp_path_factory: pytest.TempPathFactory):
    matrix = scipy.sparse.csc_matrix(np.eye(3))
    things = {"a": np.arange(6.0).reshape(2, 3), "m": matrix, "s": np.float32(1)}
    content = bytearray(pickle.dumps(things, data.draw(st.integers(0, 5))))
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.getbasetemp() / "fuzzed.pkl"
    path.write_bytes(content)
    try:
        found = safe_load(path, body_model=True)
        for value in found.values() if isinstance(found, dict) else [found]:
            array_of(value)
    except ValueError as error:
        assert "\n" not in str(error)  # noqa: PT017


# The helper itself


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
