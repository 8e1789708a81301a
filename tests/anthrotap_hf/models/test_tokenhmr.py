"""TokenHMR: through the converter it answers as released; what it refuses."""

import json

import numpy as np
import pytest
import torch
from test_conversion import REFERENCE, needs_reference, stand_in
from transformers import AutoModel
from typer.testing import CliRunner

from anthrotap_hf.checkpoints import CheckpointError
from anthrotap_hf.cli import app
from anthrotap_hf.models.tokenhmr import TokenHMRConfig, TokenHMRForHumanMeshRecovery
from anthrotap_hf.models.tokenhmr.convert_tokenhmr import convert_tokenhmr
from anthrotap_hf.models.tokenhmr.modeling_tokenhmr import rotations_of

MEAN, DEVIATION = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]


@pytest.fixture
def released(tmp_path):
    """The parity case's files, in the released layout: checkpoint, tokenizer, mean parameters, configuration."""
    shapes = json.loads((REFERENCE / "tokenhmr_tiny_keys.json").read_text())
    case = np.load(REFERENCE / "tokenhmr_tiny.npz")

    def filled(part: str) -> dict[str, torch.Tensor]:
        return {k: torch.from_numpy(stand_in().fill(k, tuple(s), 1)) for k, s in shapes[part].items()}

    model = filled("model") | {"initialized": torch.tensor(True), "smpl.betas": torch.zeros(3)}
    codes = {name.removeprefix("tokenizer."): tensor for name, tensor in filled("tokenizer").items()}
    torch.save({"state_dict": model, "epoch": 3}, tmp_path / "tokenhmr.ckpt")
    torch.save(
        {"hparams": {"a": 1}, "net": codes | {"encoder.x": torch.zeros(2)}}, tmp_path / "tokenizer.pth"
    )
    np.savez(tmp_path / "means.npz", **{n: case[f"mean_{n}"] for n in ("pose", "shape", "cam")})
    (tmp_path / "config.json").write_text('{"backbone_config": {"num_attention_heads": 4}}')
    return [tmp_path / name for name in ("tokenhmr.ckpt", "tokenizer.pth", "means.npz", "config.json")]


def crops() -> torch.Tensor:
    pixels = torch.from_numpy(stand_in().video(2, 256, 256, 1)).permute(0, 3, 1, 2) / 255
    return (pixels - torch.tensor(MEAN)[:, None, None]) / torch.tensor(DEVIATION)[:, None, None]


@needs_reference
def test_it_answers_as_released(released):
    case = np.load(REFERENCE / "tokenhmr_tiny.npz")
    model = convert_tokenhmr(*released)
    with torch.inference_mode():
        out = model(pixel_values=crops())
    probabilities = out.token_logits.softmax(-1)
    np.testing.assert_array_equal(probabilities.argmax(-1), case["token_probs_argmax"])
    found = {"token_probs_max": probabilities.amax(-1)}
    found |= {name: out[name] for name in ("global_orient", "body_pose", "betas", "pred_cam")}
    for name, value in found.items():
        print(name, np.abs(value.numpy() - case[name]).max())
        np.testing.assert_allclose(value.numpy(), case[name], atol=1e-4)
