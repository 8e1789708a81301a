"""An object detector of transformers, small and with random weights: it sees persons everywhere."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch


def save_tiny_detector(folder: Path, labels: Sequence[str] = ("dog", "person", "chair")) -> Path:
    """D-FINE of 0.1 M parameters, as `from_pretrained` reads it; pictures go in at 128 by 128."""
    from transformers import DFineConfig, DFineForObjectDetection, HGNetV2Config, RTDetrImageProcessorPil

    four_stages = {
        "stage_in_channels": [8, 16, 24, 32],
        "stage_mid_channels": [8, 8, 8, 8],
        "stage_out_channels": [16, 24, 32, 48],
        "stage_num_blocks": [1, 1, 1, 1],
        "stage_downsample": [False, True, True, True],
        "stage_light_block": [False, False, True, True],
        "stage_kernel_size": [3, 3, 5, 5],
        "stage_numb_of_layers": [1, 1, 1, 1],
        "hidden_sizes": [16, 24, 32, 48],
        "depths": [1, 1, 1, 1],
    }
    backbone = HGNetV2Config(
        stem_channels=[3, 8, 8], embedding_size=8, out_features=["stage2", "stage3", "stage4"], **four_stages
    )
    config = DFineConfig(
        backbone_config=backbone,
        encoder_in_channels=[24, 32, 48],
        encoder_hidden_dim=32,
        encoder_ffn_dim=32,
        encoder_attention_heads=2,
        encoder_layers=1,
        hidden_expansion=0.5,
        depth_mult=0.34,
        d_model=32,
        decoder_in_channels=[32, 32, 32],
        decoder_ffn_dim=32,
        decoder_attention_heads=2,
        decoder_layers=2,
        decoder_n_points=[3, 3, 3],
        num_queries=5,
        num_denoising=0,
        id2label=dict(enumerate(labels)),
        label2id={label: index for index, label in enumerate(labels)},
    )
    torch.manual_seed(0)
    model = DFineForObjectDetection(config)
    for head in model.class_embed:
        head.bias.data[[label == "person" for label in labels]] += 3
    model.save_pretrained(folder)
    RTDetrImageProcessorPil(size={"height": 128, "width": 128}).save_pretrained(folder)
    return folder
