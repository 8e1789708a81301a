"""TokenHMR as mesh source: the meshes of each person, frames without one, invalid network folders."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from anthrotap_builder.bodies import Body, load_body
from anthrotap_builder.config import LabelingConfig
from anthrotap_builder.context import ClipContext
from anthrotap_builder.detection import PersonTrack
from anthrotap_builder.geometry.camera import Camera
from anthrotap_builder.mesh_recovery.crops import crop_person, crop_to_frame_translation
from anthrotap_builder.mesh_recovery.tokenhmr import BATCH, estimate, load_tokenhmr, recover_meshes
from anthrotap_builder.mesh_recovery.track import MeshTrack
from anthrotap_builder.utils.assets import AssetError
from helpers.body_files import write_smpl
from helpers.tiny_tokenhmr import save_tiny_tokenhmr

CAMERA = Camera.guess(320, 240, 5000 / 256)
NOWHERE = [np.nan] * 4


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("files")
    write_smpl(folder / "smpl" / "SMPL_NEUTRAL.npz")
    save_tiny_tokenhmr(folder / "tokenhmr")
    return folder


@pytest.fixture(scope="module")
def body(folder) -> Body:
    return load_body("smpl", "neutral", folder)


@pytest.fixture
def network(folder):
    """The network that `recover_meshes` loads, so that a test may change it."""
    load_tokenhmr.cache_clear()
    yield load_tokenhmr(str(folder / "tokenhmr"), "cpu")
    load_tokenhmr.cache_clear()


@pytest.fixture
def find(folder, body):
    def find(*boxes: list[list[float]], threads: int = 2) -> list[MeshTrack]:
        config = LabelingConfig(
            body="smpl", body_file=folder, mesh_source="tokenhmr", tokenhmr=str(folder / "tokenhmr")
        )
        people = [PersonTrack(np.array(each, np.float32)) for each in boxes]
        images = frames(len(boxes[0]) if boxes else 1)
        return recover_meshes(ClipContext(images, 10.0, CAMERA, body, config, threads), people)

    return find


def frames(count: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 255, (count, 240, 320, 3)).astype(np.uint8)


def walk(count: int, left: float) -> list[list[float]]:
    return [[left + t, 20, left + t + 80, 220] for t in range(count)]


def test_each_frame_s_mesh_is_what_the_network_predicts_for_it(find, body, network):
    """By blend skinning written out, with the shape of that frame."""
    boxes = walk(3, 100)
    (track,) = find(boxes)
    assert not np.allclose(track.pose.shape[0], track.pose.shape[1], atol=1e-6)
    for t, box in enumerate(np.array(boxes)):
        (local,), (betas,), cam = estimate(network, crop_person(frames(3)[t], box)[None])
        rest = body.template + np.tensordot(betas, body.shape_directions[: len(betas)], 1)
        joints = body.joints + np.tensordot(betas, body.joint_directions[: len(betas)], 1)
        bends = (local[1:] - np.eye(3)).ravel()
        rest = rest + np.tensordot(bends, body.pose_directions, 1)
        turned, positions = [local[0]], [joints[0]]
        for joint, parent in enumerate(body.parents[1:], 1):
            positions.append(positions[parent] + turned[parent] @ (joints[joint] - joints[parent]))
            turned.append(turned[parent] @ local[joint])
        carried = [(rest - joints[j]) @ turned[j].T + positions[j] for j in range(len(joints))]
        skinned = np.einsum("vj,jvx->vx", body.weights, carried)
        translation = crop_to_frame_translation(cam, box[None], CAMERA)
        np.testing.assert_allclose(track.vertices[t], skinned + translation, atol=1e-4)


def test_people_share_batches_and_do_not_mix(find):
    first, second = walk(BATCH + 3, 60), walk(BATCH + 3, 200)
    second[2] = NOWHERE
    both = find(first, second)
    assert [track.person for track in both] == [0, 1]
    assert np.flatnonzero(~both[1].present).tolist() == [2]
    for track, boxes in zip(both, (first, second), strict=True):
        (alone,) = find(boxes)
        np.testing.assert_allclose(track.vertices, alone.vertices, atol=1e-4)


def test_the_number_of_threads_changes_nothing(find):
    (one,), (four,) = (find(walk(2 * BATCH + 1, 60), threads=threads) for threads in (1, 4))
    np.testing.assert_array_equal(one.vertices, four.vertices)


def test_no_people_give_no_meshes(find):
    assert find() == []


@pytest.mark.parametrize("nothing", [NOWHERE, [500, 20, 580, 220], [10, 10, 10, 60]])
def test_frames_without_a_box_that_shows_something_have_no_mesh(find, nothing):
    (never,) = find([nothing] * 3)
    sometimes, other = find([*walk(2, 60), nothing], [nothing] * 3)
    assert never.vertices.shape == sometimes.vertices.shape
    assert not never.present.any()
    assert not other.present.any()
    assert np.isnan(never.vertices).all()
    assert sometimes.present.tolist() == [True, True, False]
    assert np.isnan(sometimes.vertices[2]).all()
    assert np.isfinite(sometimes.vertices[:2]).all()


def test_a_body_behind_the_camera_is_rejected(find, network):
    with torch.no_grad():
        network.mean_camera[0] = -0.9
    (track,) = find(walk(2, 60))
    assert not track.present.any()
    assert np.isnan(track.vertices).all()


def saved(folder: Path, **changes: object) -> str:
    save_tiny_tokenhmr(folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | changes))
    return str(folder)


def test_another_model_s_folder_is_rejected(tmp_path):
    """Transformers would load it, with random weights."""
    with pytest.raises(AssetError, match=r"holds no converted TokenHMR \(it is of type locotrack\); get"):
        load_tokenhmr(saved(tmp_path, model_type="locotrack"), "cpu")


def test_weights_that_are_missing_are_not_made_up(tmp_path):
    folder = saved(tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    del weights["camera_head.weight"], weights["mean_pose"]
    save_file(weights, tmp_path / "model.safetensors", {"format": "pt"})
    with pytest.raises(AssetError, match=r"they lack camera_head.weight, and 1 more"):
        load_tokenhmr(folder, "cpu")


@pytest.mark.parametrize("changes", [{"num_tokens": "many"}, {"decoder_layers": 2}, {"num_betas": 9}])
def test_a_configuration_that_does_not_fit_is_rejected(tmp_path, changes):
    with pytest.raises(AssetError, match="holds no converted TokenHMR") as caught:
        load_tokenhmr(saved(tmp_path, **changes), "cpu")
    assert "\n" not in str(caught.value)
