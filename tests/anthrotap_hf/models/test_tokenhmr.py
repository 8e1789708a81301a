"""TokenHMR: through the converter it answers as released; what it refuses."""

import numpy as np
import pytest
import torch
from parity import tokenhmr_answers, tokenhmr_crops, tokenhmr_files
from test_conversion import assert_near, needs_reference
from transformers import AutoModel
from typer.testing import CliRunner

from anthrotap_hf.checkpoints import CheckpointError
from anthrotap_hf.cli import app
from anthrotap_hf.models.tokenhmr import TokenHMRConfig, TokenHMRForHumanMeshRecovery
from anthrotap_hf.models.tokenhmr.convert_tokenhmr import convert_tokenhmr
from anthrotap_hf.models.tokenhmr.modeling_tokenhmr import rotations_of

pytestmark = pytest.mark.filterwarnings("ignore:sizes of the checkpoint")


@pytest.fixture
def released(reference, tmp_path):
    """The parity case's files, in the released layout: checkpoint, tokenizer, mean parameters, configuration."""
    return tokenhmr_files(reference, tmp_path)


@needs_reference
def test_it_answers_as_released(reference, tmp_path):
    assert_near(tokenhmr_answers(reference, tmp_path))


@needs_reference
def test_the_command_converts_and_says_whose_weights_they_are(reference, released, tmp_path):
    checkpoint, tokenizer, means, config = map(str, released)
    folder = tmp_path / "out"
    words = ["convert", "tokenhmr", checkpoint, str(folder), "--tokenizer", tokenizer]
    result = CliRunner().invoke(app, [*words, "--mean-parameters", means, "--config", config])
    assert result.exit_code == 0, result.output
    assert "may not be passed on" in (folder / "README.md").read_text()
    assert not list(folder.glob("*.py"))
    loaded = AutoModel.from_pretrained(folder)
    assert type(loaded) is TokenHMRForHumanMeshRecovery
    with torch.inference_mode():
        ours, theirs = (
            m(pixel_values=tokenhmr_crops(reference)) for m in (loaded, convert_tokenhmr(*released))
        )
    assert torch.equal(ours.body_pose, theirs.body_pose)


@needs_reference
def test_what_does_not_fit_is_listed(released, tmp_path):
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
        number = changed(
            checkpoint, lambda tensors, name=name: tensors.update({name: torch.ones(())}), "state_dict"
        )
        with pytest.raises(CheckpointError, match=rf"{name} is \[\]: too few axes for a TokenHMR"):
            convert_tokenhmr(number, tokenizer, means, config)
    broken = changed(
        checkpoint, lambda tensors: tensors["smpl_head.deccam.bias"].fill_(torch.nan), "state_dict"
    )
    with pytest.raises(CheckpointError, match=r"1 not finite: smpl_head\.deccam\.bias"):
        convert_tokenhmr(broken, tokenizer, means, config)
    lost = changed(tokenizer, lambda net: net.pop("decoder.decoder.15.bias"), "net")
    with pytest.raises(CheckpointError, match=r"1 missing: tokenizer\.decoder\.decoder\.15\.bias"):
        convert_tokenhmr(checkpoint, lost, means, config)
    with pytest.raises(
        CheckpointError, match=r"tokenizer\.pth holds more than tensors where weights should be"
    ):
        convert_tokenhmr(tokenizer, tokenizer, means, config)
    with pytest.raises(CheckpointError, match="this is no TokenHMR tokenizer checkpoint"):
        convert_tokenhmr(checkpoint, checkpoint, means, config)
    np.savez(tmp_path / "other.npz", pose=np.zeros(72))
    with pytest.raises(CheckpointError, match="has no shape, cam: it is no file of SMPL's mean parameters"):
        convert_tokenhmr(checkpoint, tokenizer, tmp_path / "other.npz", config)
    np.savez(tmp_path / "other.npz", pose=np.zeros(72), shape=np.zeros(10), cam=np.zeros(3))
    with pytest.raises(CheckpointError, match=r"means.pose \[72\]"):
        convert_tokenhmr(checkpoint, tokenizer, tmp_path / "other.npz", config)
    config.write_text('{"mixer": 3}')
    with pytest.raises(CheckpointError, match="TokenHMRConfig has no mixer"):
        convert_tokenhmr(*released)
    config.write_text("nothing")
    with pytest.raises(CheckpointError, match="not JSON"):
        convert_tokenhmr(*released)


@pytest.fixture
def tokenhmr() -> TokenHMRForHumanMeshRecovery:
    small = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    sizes = {"decoder_hidden_size": 32, "decoder_layers": 1, "num_classes": 8, "tokenizer_size": 8}
    config = TokenHMRConfig(backbone_config=small, decoder_intermediate_size=32, token_size=8, **sizes)
    return TokenHMRForHumanMeshRecovery(config).eval()


def test_nobody_in_a_batch_gives_nobody(tokenhmr):
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


def test_gradients_reach_every_weight(tokenhmr):
    tokenhmr.train()
    out = tokenhmr(pixel_values=torch.randn(2, 3, 256, 256))
    loss = out.betas.sum() + out.pred_cam.sum() + (out.body_pose * torch.randn_like(out.body_pose)).sum()
    (loss + out.global_orient.sum()).backward()
    missing = [name for name, weight in tokenhmr.named_parameters() if weight.grad is None]
    assert missing == []


@pytest.mark.parametrize("shape", [(1, 3, 256, 192), (3, 256, 256), (1, 1, 256, 256)])
def test_other_crops_are_refused(tokenhmr, shape):
    with pytest.raises(ValueError, match=r"pixel_values must be \[B, 3, 256, 256\]"):
        tokenhmr(pixel_values=torch.zeros(shape))


def test_six_numbers_are_two_rows_of_a_rotation():
    turn = torch.linalg.qr(torch.randn(5, 3, 3))[0]
    turn = turn * torch.linalg.det(turn)[:, None, None]
    torch.testing.assert_close(rotations_of(3 * turn[:, :2].flatten(1)), turn, atol=1e-5, rtol=0)
