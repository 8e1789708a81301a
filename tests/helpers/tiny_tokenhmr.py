"""A TokenHMR with random weights, small: people who stand about, facing the camera, in every crop."""

from __future__ import annotations

from pathlib import Path

import torch

from anthrotap_hf.models.tokenhmr import TokenHMRConfig, TokenHMRForHumanMeshRecovery


def save_tiny_tokenhmr(folder: Path) -> Path:
    """Saved as the converter would save it."""
    torch.manual_seed(0)
    config = TokenHMRConfig(
        backbone_config={"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2},
        decoder_hidden_size=32,
        decoder_intermediate_size=32,
        decoder_layers=1,
        num_classes=8,
        token_size=8,
        tokenizer_size=8,
    )
    model = TokenHMRForHumanMeshRecovery(config)
    with torch.no_grad():
        for head in (model.root_head, model.hands_head, model.shape_head, model.camera_head):
            head.weight.mul_(0.05)
            head.bias.mul_(0.05)
        model.token_decoder.conv_out.weight.mul_(0.2)
        model.token_decoder.conv_out.bias.mul_(0.2)
        model.mean_pose[:6] = torch.tensor([1.0, 0, 0, 0, -1, 0])  # SMPL's y points up, the camera's down
    model.save_pretrained(folder)
    return folder
