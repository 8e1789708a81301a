"""The paper's own path end to end, with made-up files: the labels are meaningless, the stages are the real ones."""

import json
import shutil
import sys
from dataclasses import replace

import datasets
import numpy as np
import pytest
from typer.testing import CliRunner

from anthrotap_builder.bodies import load_body
from anthrotap_builder.config import LabelingConfig, labeling_config
from anthrotap_builder.context import ClipContext
from anthrotap_builder.detection import PersonTrack
from anthrotap_builder.geometry.camera import Camera
from anthrotap_builder.mesh_recovery.mesh_file import read_meshes
from anthrotap_builder.mesh_recovery.tokenhmr import load_tokenhmr, recover_meshes
from anthrotap_hf.cli.main import app
from anthrotap_hf.utils.settings import parse_settings as parse
from helpers.body_files import write_smpl
from helpers.tiny_detector import save_tiny_detector
from helpers.tiny_tokenhmr import save_tiny_tokenhmr

EXAMPLE = "filter.rule=none"


def parse_settings(arguments):
    return parse(arguments, EXAMPLE)


pytest.importorskip("edgefirst.tracker", reason="needs the extra: pip install 'anthrotap[detector]'")


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory):
    """A user's licensed files: `detector`, `tokenhmr` and `smpl/SMPL_NEUTRAL.npz`."""
    folder = tmp_path_factory.mktemp("files")
    save_tiny_detector(folder / "detector")
    save_tiny_tokenhmr(folder / "tokenhmr")
    write_smpl(folder / "smpl" / "SMPL_NEUTRAL.npz")
    return folder


@pytest.fixture
def settings(files) -> list[str]:
    """The paper's recipe, but with DIS, as RAFT's weights can't be had here, and without its check of rubbish."""
    return [
        f"detection.detector_model={files / 'detector'}",
        f"tokenhmr={files / 'tokenhmr'}",
        f"body_file={files}",
        "flow.model=dis",
        "filter.rule=none",
        "points=64",
    ]


@pytest.mark.parametrize("refine", [False, True])
def test_the_command_goes_all_the_way(settings, make_video, tmp_path, refine):
    out = tmp_path / "out"
    arguments = [word for setting in settings for word in ("--set", setting)]
    arguments += ["--refine"] if refine else []
    video = make_video(shots=[12], size=(128, 160), fps=10)
    result = CliRunner().invoke(
        app, ["label", str(video), "--out", str(out), "--recipe", "anthrotap-ld", "--write-meshes", *arguments]
    )
    assert result.exit_code == 0, result.output
    rows = datasets.load_dataset("parquet", data_files=str(out / "data" / "*.parquet"), split="train")
    assert rows[0]["body_model"] == "smpl"
    assert rows[0]["mesh_source"] == "tokenhmr"
    assert len(rows[0]["tracks"]) > 0
    meshes = read_meshes(out / f"{video.stem}.meshes.npz")
    assert meshes.body == "smpl"
    manifest = json.loads((out / "manifest.json").read_text())
    assert manifest["config"]["tokenhmr"].startswith("sha256:")
    assert manifest["config"]["refine"] is refine
    assert str(tmp_path.parent) not in json.dumps(manifest["config"])


def test_the_recipe_s_version_does_not_depend_on_where_files_lie(files, settings, tmp_path):
    first = labeling_config("anthrotap-ld", parse_settings(settings))
    (tmp_path / "elsewhere").symlink_to(files)
    moved = [setting.replace(str(files), str(tmp_path / "elsewhere")) for setting in settings]
    second = labeling_config("anthrotap-ld", parse_settings(moved))
    assert first != second
    assert first.version() == second.version()
    assert first.version() != labeling_config("anthrotap-ld", parse_settings([*settings, "seed=1"])).version()


def test_bodies_stand_in_their_boxes(files):
    body = load_body("smpl", "neutral", files)
    config = LabelingConfig(body="smpl", body_file=files, mesh_source="tokenhmr", tokenhmr=str(files / "tokenhmr"))
    frames = np.random.default_rng(0).integers(0, 255, (3, 240, 320, 3)).astype(np.uint8)
    boxes = np.array([[100, 20, 180, 220], [np.nan] * 4, [110, 20, 190, 220]], np.float32)
    camera = Camera.guess(320, 240, 5000 / 256)
    context = ClipContext(frames, 10.0, camera, body, config)
    (track,) = recover_meshes(context, [PersonTrack(boxes)])
    assert track.present.tolist() == [True, False, True]
    assert np.isnan(track.vertices[1]).all()
    xy = camera.project(track.vertices[0])
    # The model's origin, which in the made-up body lies between the feet, is put in the box's middle.
    rest = body.joints[0] + np.tensordot(track.pose.shape[0], body.joint_directions[:, 0], 1)
    origin = camera.project(track.pose.positions[0, 0] - rest)
    assert np.abs(origin - [140, 120]).max() < 25
    assert 100 < np.ptp(xy[:, 1]) < 260
    # Upright: the head's vertices are above the feet's.
    assert xy[body.template[:, 1].argmax(), 1] < xy[body.template[:, 1].argmin(), 1]
    (again,) = recover_meshes(replace(context, threads=1), [PersonTrack(boxes)])
    np.testing.assert_allclose(again.vertices, track.vertices, atol=1e-4)


def test_a_network_that_is_not_there_is_an_error_with_a_hint(tmp_path):
    from anthrotap_builder.utils.assets import AssetError

    with pytest.raises(AssetError, match=r"there is no converted TokenHMR; get the released files.*anthrotap convert"):
        load_tokenhmr(str(tmp_path), "cpu")
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(AssetError, match="holds no converted TokenHMR"):
        load_tokenhmr(str(tmp_path), "cpu")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["mesh_source=tokenhmr"], "set body: smpl"),
        (["tokenhmr=x"], "fit does not use tokenhmr"),
        (["detection.detector=boxes"], "fit needs landmarks"),
        (["detection.detector=boxes", "mesh_source=tokenhmr", "body=smpl"], "filter.masks needs masks"),
        (["refine=true"], "refine is for other mesh sources"),
        (["body=mesh"], "body: mesh is for a file of vertices"),
    ],
)
def test_stages_that_do_not_fit_together_are_errors(settings, message):
    with pytest.raises(ValueError, match=message):
        labeling_config("open", parse_settings(settings))


def test_a_setting_is_a_name_and_a_value():
    assert parse_settings(["a.b=1", "a.c=x", "d=null"]) == {"a": {"b": 1, "c": "x"}, "d": None}
    for wrong in ("a", "=1", "a=[1"):
        with pytest.raises(ValueError, match=r"NAME=VALUE|no YAML"):
            parse_settings([wrong])


def test_a_missing_device_is_an_error(make_video, tmp_path):
    result = CliRunner().invoke(app, ["label", str(make_video()), "--out", str(tmp_path), "--device", "cuda:7"])
    assert result.exit_code == 2
    assert "--device cuda:7: can't be used" in result.output


def test_missing_parts_are_reported_before_the_first_frame(files, settings, make_video, tmp_path, monkeypatch):
    """One line of error, and no folder: first for the network, then for the flow's package."""
    video, out = make_video(), tmp_path / "out"
    arguments = [word for setting in settings for word in ("--set", setting)]

    def run(*more: str):
        return CliRunner().invoke(
            app, ["label", str(video), "--out", str(out), "--recipe", "anthrotap-ld", *arguments, *more]
        )

    result = run("--set", f"tokenhmr={tmp_path}")
    assert result.exit_code == 2
    assert "there is no converted TokenHMR" in result.output
    monkeypatch.setitem(sys.modules, "torchvision", None)
    monkeypatch.setitem(sys.modules, "torchvision.models", None)
    result = run("--set", "flow.model=raft")
    assert result.exit_code == 2
    assert "pip install 'anthrotap[raft]'" in result.output
    assert not out.exists()


def test_another_network_at_the_same_path_is_another_version(files, settings, tmp_path, monkeypatch):
    monkeypatch.setenv("ANTHROTAP_CACHE", str(tmp_path))
    shutil.copytree(files / "tokenhmr", tmp_path / "tokenhmr")
    default = [setting for setting in settings if not setting.startswith("tokenhmr=")]
    before = labeling_config("anthrotap-ld", parse_settings(default)).version()
    assert before == labeling_config("anthrotap-ld", parse_settings(settings)).version()
    (tmp_path / "tokenhmr" / "README.md").write_text("changes no label")
    assert labeling_config("anthrotap-ld", parse_settings(default)).version() == before
    weights = tmp_path / "tokenhmr" / "model.safetensors"
    weights.write_bytes(weights.read_bytes() + b" ")
    assert labeling_config("anthrotap-ld", parse_settings(default)).version() != before


def test_refine_is_a_flag(make_video, tmp_path):
    arguments = ["label", str(make_video()), "--out", str(tmp_path), "--refine", "--set", "refine.sigma=1"]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 2
    assert "refine: Input should be a valid boolean" in result.output
