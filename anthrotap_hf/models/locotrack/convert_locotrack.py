"""Released LocoTrack checkpoints (LocoTrack, Anthro-LocoTrack; Lightning `.ckpt`) to this package's layout."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from anthrotap_hf.checkpoints import CheckpointError, Rename, load_tensors, rename_tensors
from anthrotap_hf.models.locotrack.configuration_locotrack import LocoTrackConfig
from anthrotap_hf.models.locotrack.modeling_locotrack import LocoTrackForPointTracking

# Strides leave no trace in a checkpoint: those of the released sizes, by their kernels.
RELEASED_STRIDES = {(5, 2): (4, 2), (3, 3, 2): (2, 2, 2)}
RELEASED_HEAD_SIZE = 64

_BLOCK = ("backbone.stages.{}.{}.", "resnet_torch.block_groups.{}.blocks.{}.")
_LAYER = ("transformer.layers.{}.", "torch_pips_mixer.transformer.layers.{}.")
_PARTS = ("weight", "bias")


def _stack(*tensors: Tensor) -> Tensor:
    return torch.cat(tensors)


TABLE = [
    Rename("backbone.stem.weight", ("resnet_torch.initial_conv.weight",)),
    *(
        Rename(f"{_BLOCK[0]}{ours}.weight", (f"{_BLOCK[1]}{theirs}.weight",))
        for ours, theirs in (("conv1", "conv_0"), ("conv2", "conv_1"), ("shortcut", "proj_conv"))
    ),
    *(
        Rename(f"{ours}.{part}", (f"{theirs}.{part}",))
        for ours, theirs in (
            (f"{_BLOCK[0]}norm1", f"{_BLOCK[1]}bn_0"),
            (f"{_BLOCK[0]}norm2", f"{_BLOCK[1]}bn_1"),
            ("matching.conv", "cost_conv"),
            ("matching.occlusion", "occ_linear"),
            ("correlation_encoders.{}.convs.{}", "cmdtop.{}.conv.{}.0"),
            ("correlation_encoders.{}.norms.{}", "cmdtop.{}.conv.{}.1"),
            ("transformer.project_in", "torch_pips_mixer.input_proj"),
            ("transformer.project_out", "torch_pips_mixer.output_proj"),
            ("transformer.norm", "torch_pips_mixer.transformer.ln_out"),
            (f"{_LAYER[0]}norm1", f"{_LAYER[1]}layer_norm1"),
            (f"{_LAYER[0]}norm2", f"{_LAYER[1]}layer_norm2"),
            (f"{_LAYER[0]}out", f"{_LAYER[1]}attn.final_proj"),
            (f"{_LAYER[0]}expand", f"{_LAYER[1]}dense.0"),
            (f"{_LAYER[0]}contract", f"{_LAYER[1]}dense.2"),
        )
        for part in _PARTS
    ),
    *(
        Rename(
            f"{_LAYER[0]}qkv.{part}",
            tuple(f"{_LAYER[1]}attn.{kind}_proj.{part}" for kind in ("query", "key", "value")),
            _stack,
        )
        for part in _PARTS
    ),
]


def config_of(
    tensors: Mapping[str, Tensor],
    num_attention_heads: int | None = None,
    correlation_strides: Sequence[int] | None = None,
    num_iterations: int = 4,
) -> LocoTrackConfig:
    """Read the sizes off the shapes. What shapes can't tell is as released, or as the arguments say.

    Raises:
        CheckpointError: if `tensors` is no LocoTrack, or needs `correlation_strides`.
    """

    def count(pattern: str) -> int:
        found = [int(match[1]) for name in tensors if (match := re.match(pattern, name))]
        return max(found, default=-1) + 1

    try:
        stages = [
            tensors[f"resnet_torch.block_groups.{stage}.blocks.0.conv_0.weight"].shape[0]
            for stage in range(4)
        ]
        layers = range(count(r"cmdtop\.0\.conv\.(\d+)\.0\.weight$"))
        convs = [tensors[f"cmdtop.0.conv.{layer}.0.weight"].shape for layer in layers]
        size = tensors["torch_pips_mixer.input_proj.weight"].shape[0]
    except KeyError as error:
        raise CheckpointError(f"this is no LocoTrack checkpoint: it has no {error}") from error
    kernels = tuple(shape[-1] for shape in convs)
    strides = correlation_strides or RELEASED_STRIDES.get(kernels)
    if strides is None:
        raise CheckpointError(f"strides of correlation kernels {kernels} are unknown: say them (--strides)")
    try:
        return LocoTrackConfig(
            stage_channels=stages,
            stage_blocks=[
                count(rf"resnet_torch\.block_groups\.{stage}\.blocks\.(\d+)\.") for stage in range(4)
            ],
            hidden_size=size,
            num_hidden_layers=count(r"torch_pips_mixer\.transformer\.layers\.(\d+)\."),
            num_attention_heads=num_attention_heads or max(size // RELEASED_HEAD_SIZE, 2),
            correlation_channels=[shape[0] for shape in convs],
            correlation_kernels=list(kernels),
            correlation_strides=list(strides),
            num_iterations=num_iterations,
        )
    except ValueError as error:
        raise CheckpointError(f"the checkpoint's sizes make no LocoTrack: {error}") from error


def convert_locotrack(
    checkpoint: Path,
    num_attention_heads: int | None = None,
    correlation_strides: Sequence[int] | None = None,
    num_iterations: int = 4,
) -> LocoTrackForPointTracking:
    """The model of a released checkpoint file.

    Raises:
        CheckpointError: listing what is missing, left over or misshapen; or if the file is unsafe.
    """
    tensors = load_tensors(checkpoint, prefixes=("model.",))
    config = config_of(tensors, num_attention_heads, correlation_strides, num_iterations)
    with torch.device("meta"):
        model = LocoTrackForPointTracking(config)
    model.load_state_dict(rename_tensors(tensors, model, TABLE), assign=True)
    return model.eval()
