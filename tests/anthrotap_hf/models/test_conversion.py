"""The converters: from the released layouts, models with the released code's outputs."""

import re

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from anthrotap_hf.cli.main import app
from anthrotap_hf.models.locotrack import LocoTrackForPointTracking
from anthrotap_hf.models.locotrack.convert_locotrack import convert_locotrack
from anthrotap_hf.models.tapnext import TAPNextForPointTracking
from anthrotap_hf.models.tapnext.convert_tapnext import convert_tapnext
from anthrotap_hf.pipelines import PointTrackingPipeline
from anthrotap_hf.pipelines.queries import support_points
from anthrotap_hf.utils.checkpoints import CheckpointError
from benchmarks.parity import LAYOUTS, LOCOTRACK, TAPNEXTPP, tapnext_answers, tapnext_file
from benchmarks.parity_joint import ALLTRACKER, COTRACKER3
from helpers.parity_cases import assert_near
from helpers.released_layouts import backwards, released_locotrack


@pytest.mark.parametrize("case", LOCOTRACK, ids=lambda case: case.name)
@pytest.mark.filterwarnings("error:sizes of the checkpoint")
def test_locotrack_outputs_are_as_released(case, reference, tmp_path):
    assert_near(case.answers(reference, tmp_path))


@pytest.mark.slow
@pytest.mark.parametrize("case", COTRACKER3, ids=lambda case: case.name)
@pytest.mark.filterwarnings("error:sizes of the checkpoint")
def test_cotracker3_outputs_are_as_released(case, reference, tmp_path):
    assert_near(case.answers(reference, tmp_path))


@pytest.mark.slow
@pytest.mark.parametrize("case", ALLTRACKER, ids=lambda case: f"{case.name}_{case.part}")
@pytest.mark.filterwarnings("error:sizes of the checkpoint")
def test_alltracker_outputs_are_as_released(case, reference, tmp_path):
    assert_near(case.answers(reference, tmp_path))


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.filterwarnings("ignore:query_pos_embed", "ignore:sizes of the checkpoint")  # noise, and small
def test_tapnext_outputs_are_as_released_in_every_layout(layout, reference, tmp_path):
    file = tapnext_file(reference, "tapnext_w96d3", 1, layout, tmp_path)
    for pairs in tapnext_answers(reference, "tapnext_w96d3", file, 6, 1):
        assert_near(pairs)


@pytest.mark.parametrize(
    "case", [TAPNEXTPP[0], pytest.param(TAPNEXTPP[1], marks=pytest.mark.slow)], ids=lambda case: case.name
)
@pytest.mark.filterwarnings("ignore:sizes of the checkpoint")
def test_tapnextpp_outputs_are_as_released_at_either_size(case, reference, tmp_path):
    assert_near(case.answers(reference, tmp_path))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:sizes of the checkpoint")
def test_tapnextpp_of_512_tracks_with_support_points_as_the_released_wrapper(reference, tmp_path):
    case = reference.case("tapnextpp_w96d3_wrapper")
    model = TAPNEXTPP[1].model(reference, tmp_path)
    assert model.config.frame_size == 512
    frames = reference.stand_in.video(3, 120, 200, 4)
    points = np.concatenate([np.zeros((6, 1)), case["query_points_xy"]], axis=1)
    both = np.concatenate([points, support_points(points, 64, 120, 200)])
    np.testing.assert_allclose(both[6:, 1:], case["support_points_xy"], atol=1e-5)

    # 1. The model, on frames that are resized as there.
    video = torch.nn.functional.interpolate(
        torch.from_numpy(frames).permute(0, 3, 1, 2).float(), (512, 512), mode="bilinear"
    )
    scale = torch.tensor([512 / 200, 512 / 120])
    queries = torch.from_numpy(both).float() * torch.tensor([1, *scale])
    with torch.inference_mode():
        out = model(pixel_values_videos=video[None] / 127.5 - 1, query_points=queries[None])
    tracks = (out.tracks[0] / scale).numpy()
    np.testing.assert_allclose(tracks[:6], case["tracks_xy"], atol=1e-2)
    np.testing.assert_allclose(tracks[6:, -1], case["support_tracks_xy_last"], atol=1e-2)
    assert ((out.visible_logits[0, :6] > 0).numpy() == case["visible"]).all()

    # 2. The pipeline, which resizes bytes and rounds them.
    tracker = PointTrackingPipeline(model, device="cpu")
    found = tracker(frames, points=points, support_points=64)
    assert found["tracks"].shape == (6, 3, 2)
    assert np.median(np.abs(found["tracks"] - case["tracks_xy"])) < 0.1
    alone = tracker(frames, points=points)
    assert np.median(np.abs(alone["tracks"][:, -1] - case["tracks_xy_last_without_support"])) < 0.1


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:query_pos_embed", "error:sizes of the checkpoint")
def test_tapnext_of_the_released_size_has_the_released_outputs(reference, tmp_path):
    file = tapnext_file(reference, "tapnext_full", 2, "pt", tmp_path)
    for pairs in tapnext_answers(reference, "tapnext_full", file, 2, 2):
        assert_near(pairs)


# Without the cases: released layouts of the tiny models, made by the table backwards


@pytest.fixture
def locotrack_weights(locotrack):
    return released_locotrack(locotrack)


def converted(weights, tmp_path, **settings):
    torch.save({"state_dict": {f"model.{key}": tensor for key, tensor in weights.items()}}, tmp_path / "x.ckpt")
    return convert_locotrack(tmp_path / "x.ckpt", **settings)


def test_every_weight_of_a_small_locotrack_arrives(locotrack, locotrack_weights, tmp_path):
    model = converted(locotrack_weights, tmp_path, num_attention_heads=4, num_iterations=2)
    for name, weight in locotrack.state_dict().items():
        assert torch.equal(model.state_dict()[name], weight), name
    assert model.config.stage_channels == [8, 12, 16, 16]
    assert model.config.stage_blocks == [1, 2, 1, 1]
    assert model.config.num_iterations == 2
    assert model.config.correlation_strides == [4, 2]


def test_missing_extra_and_misshapen_tensors_are_listed(locotrack_weights, tmp_path):
    del (
        locotrack_weights["occ_linear.bias"],
        locotrack_weights["torch_pips_mixer.transformer.layers.1.dense.2.bias"],
    )
    locotrack_weights["left.over"] = torch.rand(1)
    locotrack_weights["cost_conv.weight"] = torch.rand(1, 3, 3, 3)
    with pytest.raises(CheckpointError) as caught:
        converted(locotrack_weights, tmp_path, num_attention_heads=4)
    for message in (
        "2 missing:",
        "occ_linear.bias",
        "torch_pips_mixer.transformer.layers.1.dense.2.bias",
        "1 not expected: left.over",
        "1 of another shape: cost_conv.weight [1, 3, 3, 3] (for matching.conv.weight [1, 2, 3, 3])",
    ):
        assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_missing_tensors_that_determine_sizes_are_listed(locotrack_weights, tmp_path):
    lost = [
        *("torch_pips_mixer.input_proj.weight", "cmdtop.0.conv.1.0.weight", "cost_conv.bias"),
        "resnet_torch.block_groups.2.blocks.0.conv_0.weight",
    ]
    for name in lost:
        del locotrack_weights[name]
    with pytest.raises(CheckpointError, match="4 missing") as caught:
        converted(locotrack_weights, tmp_path, num_attention_heads=4)
    assert all(name in str(caught.value) for name in lost)
    assert "another shape" not in str(caught.value)


@pytest.mark.parametrize("prefix", ["", "model.", "module.model."])
def test_a_tensor_of_something_else_is_listed_under_any_prefix(locotrack_weights, tmp_path, prefix):
    weights = {f"{prefix}{name}": tensor for name, tensor in locotrack_weights.items()}
    torch.save(weights | {"loss.scale": torch.ones(1)}, tmp_path / "x.ckpt")
    with pytest.raises(CheckpointError, match=r"1 not expected: loss\.scale$"):
        convert_locotrack(tmp_path / "x.ckpt", num_attention_heads=4)


def test_weights_that_are_not_finite_are_named(locotrack_weights, tmp_path):
    locotrack_weights["cost_conv.bias"][0] = float("nan")
    locotrack_weights["torch_pips_mixer.transformer.layers.1.attn.key_proj.bias"][0] = float("inf")
    with pytest.raises(CheckpointError, match="2 not finite: ") as caught:
        converted(locotrack_weights, tmp_path, num_attention_heads=4)
    for name in ("cost_conv.bias", "layers.1.attn.key_proj.bias"):
        assert name in str(caught.value)


def test_single_numbers_instead_of_tensors_are_named(locotrack_weights, tmp_path):
    for name in list(locotrack_weights):
        changed = locotrack_weights | {name: torch.tensor(1.0)}
        with pytest.raises(CheckpointError) as caught:
            converted(changed, tmp_path, num_attention_heads=4)
        assert f"{name} is []" in str(caught.value) or f"{name} []" in str(caught.value)


def test_a_lost_layer_is_noticed(locotrack_weights, tmp_path):
    kept = {name: t for name, t in locotrack_weights.items() if "transformer.layers.1." not in name}
    with pytest.warns(UserWarning, match=r"none of the released ones: .*num_hidden_layers 1, not 3"):
        converted(kept, tmp_path, num_attention_heads=4)


@pytest.mark.parametrize("config", ["base", "small"])
@pytest.mark.filterwarnings("error:sizes of the checkpoint")
def test_released_sizes_give_no_warning(config, tmp_path):
    from anthrotap_hf.models.locotrack.convert_locotrack import RELEASED

    with torch.device("meta"):
        model = LocoTrackForPointTracking(RELEASED[config == "small"])
    weights = {name: torch.zeros(tensor.shape) for name, tensor in released_locotrack(model).items()}
    converted(weights, tmp_path)


def test_strides_that_kernels_do_not_determine_are_asked_for(locotrack_weights, tmp_path):
    for layer in range(3):
        locotrack_weights[f"cmdtop.{layer}.conv.1.0.weight"] = torch.rand(32, 16, 3, 3)
    with pytest.raises(CheckpointError, match="give the strides"):
        converted(locotrack_weights, tmp_path, num_attention_heads=4)
    model = converted(locotrack_weights, tmp_path, num_attention_heads=4, correlation_strides=[2, 2])
    assert model.config.correlation_strides == [2, 2]


def test_missing_jax_arrays_are_listed(tmp_path, tapnext):
    from anthrotap_hf.models.tapnext.convert_tapnext import TABLE

    weights = backwards(tapnext, {row.ours: row.jax for row in TABLE})
    arrays = {name: np.asarray(weight) for name, weight in weights.items()}
    arrays["backbone/embedding/kernel"] = np.zeros((1, 8, 8, 3, 32))
    del arrays["visible_head/layers_6/bias"]
    np.savez(tmp_path / "x.npz", **arrays)
    with pytest.raises(CheckpointError, match=r"1 missing: visible_head/layers_6/bias"):
        convert_tapnext(tmp_path / "x.npz")


@pytest.mark.parametrize("layout", ["torch", "jax"])
def test_missing_and_broken_tapnext_tensors_are_named(tmp_path, tapnext, layout):
    from anthrotap_hf.models.tapnext.convert_tapnext import TABLE

    weights = backwards(tapnext, {row.ours: getattr(row, layout) for row in TABLE})
    if layout == "jax":
        weights["backbone/embedding/kernel"] = torch.zeros(1, 8, 8, 3, 32)
    for name in weights:
        for changed, message in (
            ({key: tensor for key, tensor in weights.items() if key != name}, name),
            (weights | {name: torch.tensor(1.0)}, f"{name} "),
        ):
            with pytest.raises(CheckpointError, match=re.escape(message)):
                convert_tapnext(saved(changed, tmp_path, layout))


def saved(weights, tmp_path, layout):
    if layout == "jax":
        np.savez(tmp_path / "x.npz", **{name: np.asarray(weight) for name, weight in weights.items()})
        return tmp_path / "x.npz"
    torch.save(weights, tmp_path / "x.pt")
    return tmp_path / "x.pt"


def test_another_models_checkpoint_is_rejected(tmp_path):
    torch.save({"fc.weight": torch.rand(2)}, tmp_path / "x.pt")
    for convert, message in ((convert_locotrack, "no LocoTrack"), (convert_tapnext, "no TAPNext")):
        with pytest.raises(CheckpointError, match=message):
            convert(tmp_path / "x.pt")


def test_the_command_writes_a_folder_that_from_pretrained_reads(locotrack, locotrack_weights, tmp_path):
    torch.save({"state_dict": locotrack_weights}, tmp_path / "x.ckpt")
    arguments = [str(tmp_path / "x.ckpt"), str(tmp_path / "out"), "--heads", "4", "--iterations", "3"]
    result = CliRunner().invoke(app, ["convert", "locotrack", *arguments, "--strides", "4,2"])
    assert result.exit_code == 0, result.output
    loaded = LocoTrackForPointTracking.from_pretrained(tmp_path / "out")
    assert loaded.config.num_iterations == 3
    assert torch.equal(loaded.backbone.stem.weight, locotrack.backbone.stem.weight)


def test_the_command_converts_tapnext(reference, tmp_path):
    file = str(reference.folder / "tapnext_w96d3_jax.npz")
    result = CliRunner().invoke(app, ["convert", "tapnext", file, str(tmp_path / "out")])
    assert result.exit_code == 0, result.output
    config = TAPNextForPointTracking.from_pretrained(tmp_path / "out").config
    assert (config.hidden_size, config.num_hidden_layers, config.num_attention_heads) == (96, 3, 3)


def test_a_folder_is_replaced_only_when_asked_to_and_only_whole(locotrack_weights, tmp_path, monkeypatch):
    torch.save(locotrack_weights, tmp_path / "x.ckpt")
    (tmp_path / "bad.ckpt").write_bytes(b"no checkpoint")
    other, out = tmp_path / "other", tmp_path / "out"
    other.mkdir()
    out.mkdir()  # an empty one may be there
    (other / "notes.txt").touch()

    def convert(checkpoint, folder, *arguments):
        arguments = ["convert", "locotrack", str(tmp_path / checkpoint), str(folder), "--heads", "4", *arguments]
        result = CliRunner().invoke(app, arguments)
        return result.exit_code, result.stderr.splitlines()[-1] if result.stderr else ""

    code, message = convert("x.ckpt", out)
    assert code == 0
    assert "none of the released ones" in message  # a tiny model: on stderr, one line, no source code
    assert message.startswith("sizes of the checkpoint")
    (out / "mark").touch()
    assert convert("x.ckpt", out) == (2, f"{out} is not empty; --overwrite replaces a converted model")
    code, message = convert("x.ckpt", other, "--overwrite")
    assert (code, "no config.json" in message) == (2, True)
    assert convert("bad.ckpt", out, "--overwrite")[0] == 2
    assert (out / "mark").exists()
    monkeypatch.setattr(LocoTrackForPointTracking, "save_pretrained", _disk_full)
    assert convert("x.ckpt", out, "--overwrite") == (2, "weights: No space left on device")
    assert (out / "mark").exists()
    monkeypatch.undo()
    assert convert("x.ckpt", out, "--overwrite")[0] == 0
    assert not (out / "mark").exists()
    assert {path.name for path in tmp_path.iterdir()} == {"x.ckpt", "bad.ckpt", "other", "out"}


def _disk_full(*_, **__):
    raise OSError(28, "No space left on device", "weights")


def test_the_command_stops_with_one_line(tmp_path, tapnext):
    from anthrotap_hf.models.tapnext.convert_tapnext import TABLE

    torch.save(backwards(tapnext, {row.ours: row.torch for row in TABLE}), tmp_path / "small.pt")
    torch.save({"fc.weight": torch.rand(2)}, tmp_path / "x.pt")
    (tmp_path / "taken").touch()
    checkpoint = str(tmp_path / "x.pt")
    for arguments, message in (
        (["tapnext", str(tmp_path / "no.npz"), str(tmp_path / "out")], "no such checkpoint"),
        (["tapnext", checkpoint, str(tmp_path / "out")], "no TAPNext"),
        (["locotrack", checkpoint, str(tmp_path / "out")], "no LocoTrack"),
        (["alltracker", checkpoint, str(tmp_path / "out")], "no AllTracker"),
        (["cotracker3", checkpoint, str(tmp_path / "out")], "no CoTracker3"),
        (["locotrack", checkpoint, str(tmp_path / "taken")], "is a file"),
        (["locotrack", checkpoint, str(tmp_path / "out"), "--strides", "2;2"], "--strides must be"),
        (["tapnext", str(tmp_path / "small.pt"), str(tmp_path / "out"), "--frame-size", "500"], "frames of 500 pixels"),
        (["tapnext", checkpoint, str(tmp_path / "out"), "--heads", "2"], "No such option: --heads"),
    ):
        result = CliRunner().invoke(app, ["convert", *arguments])
        assert result.exit_code == 2
        assert message in result.stderr
        assert len(result.stderr.strip().splitlines()) == 1 or "No such option" in message
    assert not (tmp_path / "out").exists()
