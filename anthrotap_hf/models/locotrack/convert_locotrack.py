"""Released LocoTrack checkpoints (LocoTrack, Anthro-LocoTrack; Lightning `.ckpt`) to this package's layout."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from anthrotap_hf.models.locotrack.configuration_locotrack import LocoTrackConfig
from anthrotap_hf.models.locotrack.modeling_locotrack import LocoTrackForPointTracking
from anthrotap_hf.utils.checkpoints import (
    CheckpointError,
    Rename,
    build_model,
    load_tensors,
    size_of,
    sizes_make,
    warn_unless_released,
)

# No shape in a checkpoint depends on strides: those of the released sizes, by their kernels.
RELEASED_STRIDES = {(5, 2): (4, 2), (3, 3, 2): (2, 2, 2)}
RELEASED_HEAD_SIZE = 64
RELEASED = (
    LocoTrackConfig(),
    LocoTrackConfig(
        hidden_size=256,
        num_attention_heads=4,
        correlation_channels=[64, 128],
        correlation_kernels=[5, 2],
        correlation_strides=[4, 2],
    ),
)
SIZES = (
    *("stage_channels", "stage_blocks", "hidden_size", "num_hidden_layers"),
    *("correlation_channels", "correlation_kernels"),
)
ANCHORS = (
    "resnet_torch.initial_conv.weight",
    "cost_conv.weight",
    "torch_pips_mixer.input_proj.weight",
    "torch_pips_mixer.output_proj.weight",
)

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
    """Return the configuration that the tensors' shapes tell; the rest of it is as released, or as the arguments say.

    Raises:
        CheckpointError: `tensors` are no LocoTrack, or need `correlation_strides`.
    """

    def count(pattern: str) -> int:
        found = [int(match[1]) for name in tensors if (match := re.match(pattern, name))]
        return max(found, default=-1) + 1

    size = partial(size_of, tensors, "LocoTrack")

    def correlation(layer: int, axis: int) -> int:
        """Return a size of the three encoders, which are alike."""
        return size(*((f"cmdtop.{encoder}.conv.{layer}.0.weight", axis) for encoder in range(3)))

    mixer = "torch_pips_mixer."
    hidden = size((f"{mixer}input_proj.weight", 0), (f"{mixer}input_proj.bias", 0))
    blocks = [f"resnet_torch.block_groups.{stage}.blocks." for stage in range(4)]
    stages = [
        size((f"{block}0.conv_0.weight", 0), (f"{block}0.conv_1.weight", 0), (f"{block}0.bn_1.weight", 0))
        for block in blocks
    ]
    layers = range(count(r"cmdtop\.\d\.conv\.(\d+)\.0\.weight$"))
    kernels = tuple(correlation(layer, 3) for layer in layers)
    strides = correlation_strides or RELEASED_STRIDES.get(kernels)
    if strides is None:
        raise CheckpointError(f"strides of correlation kernels {kernels} are unknown", hint="give the strides")
    with sizes_make("LocoTrack"):
        return LocoTrackConfig(
            stage_channels=stages,
            stage_blocks=[count(rf"{re.escape(block)}(\d+)\.") for block in blocks],
            hidden_size=hidden,
            num_hidden_layers=count(r"torch_pips_mixer\.transformer\.layers\.(\d+)\."),
            num_attention_heads=num_attention_heads or max(hidden // RELEASED_HEAD_SIZE, 2),
            correlation_channels=[correlation(layer, 0) for layer in layers],
            correlation_kernels=list(kernels),
            correlation_strides=list(strides),
            num_iterations=num_iterations,
        )


def convert_locotrack(
    checkpoint: Path,
    num_attention_heads: int | None = None,
    correlation_strides: Sequence[int] | None = None,
    num_iterations: int = 4,
) -> LocoTrackForPointTracking:
    """Return the model of a released checkpoint file, and warn of sizes that are none of the released ones.

    Raises:
        CheckpointError: tensors are missing, not expected or misshapen; or the file is unsafe.
    """
    tensors = load_tensors(checkpoint, ANCHORS)
    config = config_of(tensors, num_attention_heads, correlation_strides, num_iterations)
    model = build_model(LocoTrackForPointTracking, config, tensors, TABLE)
    warn_unless_released(config, RELEASED, SIZES)
    return model
