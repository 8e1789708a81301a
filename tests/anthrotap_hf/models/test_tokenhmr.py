"""TokenHMR: converted, its outputs are the released code's; invalid input is rejected."""

import numpy as np
import pytest
import torch
from transformers import AutoModel
from typer.testing import CliRunner

from anthrotap_hf.cli.main import app
from anthrotap_hf.models.tokenhmr import TokenHMRConfig, TokenHMRForHumanMeshRecovery
from anthrotap_hf.models.tokenhmr.convert_tokenhmr import config_of, convert_tokenhmr
from anthrotap_hf.models.tokenhmr.modeling_tokenhmr import rotations_of
from anthrotap_hf.utils.checkpoints import CheckpointError
from benchmarks.parity import tokenhmr_answers, tokenhmr_crops, tokenhmr_files
from helpers.parity_cases import assert_near

# The case's sizes are small, and its weights stand-ins, those of its means too.
pytestmark = [
    pytest.mark.filterwarnings(f"ignore:{warning}")
    for warning in ("sizes of the checkpoint", ".* differ from the checkpoint's own")
]


@pytest.fixture
def released(reference, tmp_path):
    """The parity case's files, in the released layout: checkpoint, tokenizer, mean parameters, configuration."""
    return tokenhmr_files(reference, tmp_path)


def test_outputs_are_as_released(reference, tmp_path):
    assert_near(tokenhmr_answers(reference, tmp_path))


def test_the_command_converts_and_names_the_license_of_the_weights(reference, released, tmp_path):
    checkpoint, tokenizer, means, config = map(str, released)
    folder = tmp_path / "out"
    arguments = ["convert", "tokenhmr", checkpoint, str(folder), "--tokenizer", tokenizer]
    result = CliRunner().invoke(app, [*arguments, "--mean-parameters", means, "--config", config])
    assert result.exit_code == 0, result.output
    assert "may not be passed on" in (folder / "README.md").read_text()
    assert not list(folder.glob("*.py"))
    loaded = AutoModel.from_pretrained(folder)
    assert type(loaded) is TokenHMRForHumanMeshRecovery
    with torch.inference_mode():
        ours, theirs = (m(pixel_values=tokenhmr_crops(reference)) for m in (loaded, convert_tokenhmr(*released)))
    assert torch.equal(ours.body_pose, theirs.body_pose)


def test_tensors_that_do_not_fit_are_listed(released, tmp_path):
    checkpoint, tokenizer, means, config = released

    def changed(path, change, holder):
        content = torch.load(path, weights_only=True)
        change(content[holder])
        torch.save(content, tmp_path / "changed")
        return tmp_path / "changed"

    def lose(tensors):
        del tensors["smpl_head.deccam.bias"]
        tensors["smpl_head.extra"] = torch.zeros(1)
        tensors["smpl_head.decshape.bias"] = torch.zeros(3)

    with pytest.raises(CheckpointError) as caught:
        convert_tokenhmr(changed(checkpoint, lose, "state_dict"), tokenizer, means, config)
    for part in ("1 missing: smpl_head.deccam.bias", "1 not expected: smpl_head.extra", "decshape.bias [3]"):
        assert part in str(caught.value)
    for name in ("smpl_head.decshape.weight", "smpl_head.decpose.mixer_norm_layer.ff.0.weight"):
        lost = changed(checkpoint, lambda tensors, name=name: tensors.pop(name), "state_dict")
        with pytest.raises(CheckpointError, match=rf"1 missing: {name}$"):
            convert_tokenhmr(lost, tokenizer, means, config)
        number = changed(checkpoint, lambda tensors, name=name: tensors.update({name: torch.ones(())}), "state_dict")
        with pytest.raises(CheckpointError, match=rf"{name} is \[\]: too few axes for a TokenHMR"):
            convert_tokenhmr(number, tokenizer, means, config)
    broken = changed(checkpoint, lambda tensors: tensors["smpl_head.deccam.bias"].fill_(torch.nan), "state_dict")
    with pytest.raises(CheckpointError, match=r"1 not finite: smpl_head\.deccam\.bias"):
        convert_tokenhmr(broken, tokenizer, means, config)
    lost = changed(tokenizer, lambda net: net.pop("decoder.decoder.15.bias"), "net")
    with pytest.raises(CheckpointError, match=r"1 missing: tokenizer\.decoder\.decoder\.15\.bias"):
        convert_tokenhmr(checkpoint, lost, means, config)
    with pytest.raises(CheckpointError, match=r"tokenizer\.pth: it holds more than tensors where weights should be"):
        convert_tokenhmr(tokenizer, tokenizer, means, config)
    with pytest.raises(CheckpointError, match="this is no TokenHMR tokenizer checkpoint"):
        convert_tokenhmr(checkpoint, checkpoint, means, config)
    torch.save({"state_dict": {"model.resnet.weight": torch.zeros(2)}}, tmp_path / "locotrack.ckpt")
    with pytest.raises(CheckpointError, match="this is no TokenHMR checkpoint"):
        convert_tokenhmr(tmp_path / "locotrack.ckpt", tokenizer, means, config)
    np.savez(tmp_path / "other.npz", pose=np.zeros(72))
    with pytest.raises(CheckpointError, match="has no shape, cam: it is no file of SMPL's mean parameters"):
        convert_tokenhmr(checkpoint, tokenizer, tmp_path / "other.npz", config)
    np.savez(tmp_path / "other.npz", pose=np.zeros(72), shape=np.zeros(10), cam=np.zeros(3))
    with pytest.raises(CheckpointError, match=r"means.pose \[72\]"):
        convert_tokenhmr(checkpoint, tokenizer, tmp_path / "other.npz", config)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ('{"mixer": 3}', "TokenHMRConfig has no mixer"),
        ('{"to_dict": 3}', "TokenHMRConfig has no to_dict"),
        ('{"backbone_config": {"heads": 4}}', r"TokenHMRConfig has no backbone_config\.heads"),
        ('{"backbone_config": 4}', "backbone_config must be an object of settings, got 4"),
        ('{"backbone_config": {"num_attention_heads": 7}}', "the sizes make no TokenHMR: .* 96 .* 7"),
        ('{"backbone_config": {"hidden_act": "none"}}', "the sizes make no TokenHMR: 'none'"),
        ('{"decoder_heads": 0}', "decoder_heads must be a whole number from 1 up, got 0"),
        ('{"decoder_heads": "8"}', "decoder_heads must be a whole number from 1 up, got '8'"),
        ('{"decoder_heads": 3}', "decoder_heads 3 do not divide the attention's width 512"),
        ('{"mixer_layers": 0.5}', r"mixer_layers must be a whole number from 1 up, got 0\.5"),
        ('{"num_tokens": 5}', "num_tokens must be more than the 21 joints, got 5"),
        ('{"image_size": 128}', r"of another shape: backbone\.pos_embed \[1, 193, 96\]"),
        ("[4]", "must be an object of settings"),
        ("nothing", "not JSON"),
    ],
)
def test_settings_that_make_no_sense_are_rejected_in_one_line(released, settings, message):
    released[3].write_text(settings)
    with pytest.raises(CheckpointError, match=message) as caught:
        convert_tokenhmr(*released)
    assert "\n" not in str(caught.value)


def test_means_that_are_not_the_checkpoint_s_give_a_warning(released, recwarn, tmp_path):
    with pytest.warns(UserWarning, match="pose, shape, cam in .* differ from the checkpoint's own"):
        convert_tokenhmr(*released)
    recwarn.clear()
    own = torch.load(released[0], weights_only=True)["state_dict"]
    names = {"pose": "init_body_pose", "shape": "init_betas", "cam": "init_cam"}
    np.savez(tmp_path / "own.npz", **{ours: own[f"smpl_head.{name}"] for ours, name in names.items()})
    model = convert_tokenhmr(released[0], released[1], tmp_path / "own.npz", released[3])
    assert torch.equal(model.mean_camera, own["smpl_head.init_cam"][0])
    assert not [warning for warning in recwarn if "differ from" in str(warning.message)]


def test_the_defaults_are_the_released_sizes(reference):
    tiny = reference.shapes("tokenhmr_tiny")
    released = {
        "model": {96: 1280, 288: 3 * 1280, 384: 4 * 1280},
        "tokenizer": {48: 512, 32: 256, 64: 2048},
    }
    tensors = {}
    for part, shapes in tiny.items():
        for name, shape in shapes.items():
            sizes = [released[part].get(size, size) for size in shape]
            if "class_pred_layer" in name:
                sizes[0] = 2048
            for stack, count in (("backbone.blocks", 32), ("transformer.transformer.layers", 6)):
                for layer in range(2, count) if f"{stack}.1." in name else ():
                    deeper = name.replace(f"{stack}.1.", f"{stack}.{layer}.")
                    tensors[deeper] = torch.empty(sizes, device="meta")
            tensors[name] = torch.empty(sizes, device="meta")
    assert config_of(tensors).to_dict() == TokenHMRConfig().to_dict()


@pytest.fixture
def tokenhmr() -> TokenHMRForHumanMeshRecovery:
    small = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    sizes = {"decoder_hidden_size": 32, "decoder_layers": 1, "num_classes": 8, "tokenizer_size": 8}
    config = TokenHMRConfig(backbone_config=small, decoder_intermediate_size=32, token_size=8, **sizes)
    return TokenHMRForHumanMeshRecovery(config).eval()


def test_an_empty_batch_gives_an_empty_output(tokenhmr):
    with torch.inference_mode():
        out = tokenhmr(pixel_values=torch.zeros(0, 3, 256, 256))
    assert out.global_orient.shape == (0, 1, 3, 3)
    assert out.body_pose.shape == (0, 23, 3, 3)
    assert out.betas.shape == (0, 10)
    assert out.pred_cam.shape == (0, 3)


def test_people_of_a_batch_do_not_mix_and_attention_may_be_eager(tokenhmr):
    pixels = torch.randn(3, 3, 256, 256)
    with torch.inference_mode():
        batch = tokenhmr(pixel_values=pixels)
        alone = tokenhmr(pixel_values=pixels[1:2])
        torch.testing.assert_close(batch.body_pose[1:2], alone.body_pose, atol=1e-5, rtol=0)
        tokenhmr.set_attn_implementation("eager")
        eager = tokenhmr(pixel_values=pixels)
    torch.testing.assert_close(batch.body_pose, eager.body_pose, atol=1e-5, rtol=0)


def test_bfloat16_gives_rotations_too(tokenhmr):
    with torch.inference_mode():
        out = tokenhmr.to(torch.bfloat16)(pixel_values=torch.randn(2, 3, 256, 256))
    product = out.body_pose @ out.body_pose.transpose(-1, -2)
    torch.testing.assert_close(product, torch.eye(3).expand_as(product), atol=1e-3, rtol=0)


def test_autocast_touches_the_backbone_alone(tokenhmr):
    pixels = torch.randn(2, 3, 256, 256)
    with torch.inference_mode():
        exact = tokenhmr(pixel_values=pixels)
        with torch.autocast("cpu", torch.bfloat16):
            out = tokenhmr(pixel_values=pixels)
    assert {value.dtype for value in out.to_tuple()} == {torch.float32}
    assert not torch.equal(out.betas, exact.betas)
    for name in ("global_orient", "body_pose", "betas", "pred_cam"):
        torch.testing.assert_close(out[name], exact[name], atol=5e-3, rtol=0)


@pytest.mark.parametrize("checkpointing", [False, True])
def test_gradients_reach_every_weight(tokenhmr, checkpointing):
    if checkpointing:
        tokenhmr.activation_checkpointing_enable()
    tokenhmr.train()
    out = tokenhmr(pixel_values=torch.randn(2, 3, 256, 256))
    loss = out.betas.sum() + out.pred_cam.sum() + (out.body_pose * torch.randn_like(out.body_pose)).sum()
    (loss + out.global_orient.sum()).backward()
    missing = [name for name, weight in tokenhmr.named_parameters() if weight.grad is None]
    assert missing == []


@pytest.mark.parametrize("shape", [(1, 3, 256, 192), (3, 256, 256), (1, 1, 256, 256)])
def test_other_crops_are_rejected(tokenhmr, shape):
    with pytest.raises(ValueError, match=r"pixel_values must be \[B, 3, 256, 256\]"):
        tokenhmr(pixel_values=torch.zeros(shape))


def test_six_numbers_are_two_rows_of_a_rotation():
    turn = torch.linalg.qr(torch.randn(5, 3, 3))[0]
    turn = turn * torch.linalg.det(turn)[:, None, None]
    torch.testing.assert_close(rotations_of(3 * turn[:, :2].flatten(1)), turn, atol=1e-5, rtol=0)
