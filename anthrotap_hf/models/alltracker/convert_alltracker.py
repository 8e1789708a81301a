"""Released AllTracker checkpoints (`.pth`, full and tiny) to this package's layout."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import partial
from pathlib import Path

from torch import Tensor

from anthrotap_hf.models.alltracker.configuration_alltracker import AllTrackerConfig
from anthrotap_hf.models.alltracker.modeling_alltracker import AllTrackerForPointTracking, time_embedding
from anthrotap_hf.utils.checkpoints import (
    CheckpointError,
    Rename,
    build_model,
    load_tensors,
    size_of,
    sizes_make,
    warn_of_other_sines,
    warn_unless_released,
)

# Sines that the files store; ours are computed.
TIME_TABLE = "time_emb"
HEAD_SIZE = 16
TINY = AllTrackerConfig(
    encoder="residual", encoder_channels=[64, 96, 128, 128], encoder_blocks=[2, 2, 2, 2], feature_size=128
)
RELEASED = (AllTrackerConfig(), TINY)
SIZES = (
    *("encoder", "encoder_channels", "encoder_blocks", "feature_size", "window_size", "num_levels", "support_radius"),
    *("hidden_size", "num_layers", "num_attention_heads"),
)
ANCHORS = (
    *("fnet.conv1.weight", "cnn.features.0.0.weight", "flow_head.0.weight", "update_block.compressor.weight"),
    "update_block.motion_encoder.convc1.weight",
)
_PARTS = ("weight", "bias")
# Places of a ConvNeXt block's parts.
_CONVNEXT = (("conv", 0), ("norm", 2), ("expand", 3), ("contract", 5))
_UPDATE = "update_block."


def table_of(config: AllTrackerConfig) -> list[Rename]:
    """Return the lines for a model's names: the two encoders are different networks."""
    pairs, scales = [], []
    motion = f"{_UPDATE}motion_encoder."
    for ours, theirs in (
        *(("correlation1", "convc1"), ("correlation2", "convc2"), ("flow1", "convf1")),
        *(("flow2", "convf2"), ("merge", "conv")),
    ):
        pairs.append((f"motion_encoder.{ours}", motion + theirs))
    for ours, theirs in (
        ("flow_head", "flow_head"),
        ("state_head", "visconf_head"),
        ("upsample_head", "upsample_weight"),
    ):
        pairs += [(f"{ours}.{layer}", f"{theirs}.{layer}") for layer in (0, 2)]
    pairs += [("compress", f"{_UPDATE}compressor"), ("project", f"{_UPDATE}final_conv")]
    for layer in range(config.num_layers):
        time, space = f"{_UPDATE}refine.{2 * layer}", f"{_UPDATE}refine.{2 * layer + 1}"
        for ours, theirs in (
            *(("query", "attn.to_q"), ("key_value", "attn.to_kv"), ("out", "attn.to_out")),
            *(("expand", "mlp.fc1"), ("contract", "mlp.fc2")),
        ):
            pairs.append((f"time_layers.{layer}.{ours}", f"{time}.block.{theirs}"))
        pairs += [(f"space_layers.{layer}.{ours}", f"{space}.block.{place}") for ours, place in _CONVNEXT]
        scales += [(f"time_layers.{layer}", time), (f"space_layers.{layer}", space)]
    if config.encoder == "convnext":
        places = [(0, 0), (2, 1), (4, 1)]
        for number, (feature, place) in enumerate(places):
            pairs.append((f"encoder.convs.{number}", f"cnn.features.{feature}.{place}"))
            pairs.append((f"encoder.norms.{number}", f"cnn.features.{feature}.{1 - place}"))
            for block in range(config.encoder_blocks[number]):
                ours, theirs = f"encoder.stages.{number}.{block}", f"cnn.features.{feature + 1}.{block}"
                pairs += [(f"{ours}.{own}", f"{theirs}.block.{place}") for own, place in _CONVNEXT]
                scales.append((ours, theirs))
        pairs.append(("encoder.project", "dot_conv"))
    else:
        pairs += [(f"encoder.{own}", f"fnet.conv{n}") for n, own in enumerate(("stem", "merge", "project"), start=1)]
        for stage, blocks in enumerate(config.encoder_blocks):
            for block in range(blocks):
                ours, theirs = f"encoder.stages.{stage}.{block}", f"fnet.layer{stage + 1}.{block}"
                pairs += [(f"{ours}.{conv}", f"{theirs}.{conv}") for conv in ("conv1", "conv2")]
                pairs.append((f"{ours}.shortcut", f"{theirs}.downsample.0"))
    return [
        *(Rename(f"{ours}.{part}", (f"{theirs}.{part}",)) for ours, theirs in pairs for part in _PARTS),
        # [C, 1, 1] or [C, 1].
        *(
            Rename(f"{ours}.scale", (f"{theirs}.layer_scale",), lambda tensor: tensor.flatten())
            for ours, theirs in scales
        ),
    ]


def config_of(tensors: Mapping[str, Tensor]) -> AllTrackerConfig:
    """Return the configuration that the tensors' shapes tell.

    Raises:
        CheckpointError: `tensors` are no AllTracker.
    """
    size = partial(size_of, tensors, "AllTracker")

    def count(pattern: str) -> int:
        return 1 + max((int(match[1]) for name in tensors if (match := re.match(pattern, name))), default=-1)

    full = any(name.startswith("cnn.") for name in tensors)
    hidden = size(
        (f"{_UPDATE}compressor.weight", 0), (f"{_UPDATE}compressor.bias", 0), (f"{_UPDATE}final_conv.bias", 0)
    )
    radius = AllTrackerConfig().support_radius
    correlations = size((f"{_UPDATE}motion_encoder.convc1.weight", 1))
    if full:
        features = (0, 2, 4)
        channels = [
            size(
                (f"cnn.features.{place}.{1 if place else 0}.weight", 0), (f"cnn.features.{place + 1}.0.layer_scale", 0)
            )
            for place in features
        ]
        blocks = [count(rf"cnn\.features\.{place + 1}\.(\d+)\.") for place in features]
        feature_size = size(("dot_conv.weight", 0), ("dot_conv.bias", 0))
    else:
        channels = [
            size((f"fnet.layer{n}.0.conv1.weight", 0), (f"fnet.layer{n}.1.conv1.weight", 0)) for n in range(1, 5)
        ]
        blocks = [count(rf"fnet\.layer{n}\.(\d+)\.") for n in range(1, 5)]
        feature_size = size(("fnet.conv3.weight", 0), ("fnet.conv3.bias", 0))
    with sizes_make("AllTracker"):
        return AllTrackerConfig(
            encoder="convnext" if full else "residual",
            encoder_channels=channels,
            encoder_blocks=blocks,
            feature_size=feature_size,
            window_size=size((TIME_TABLE, 1)),
            num_levels=correlations // (2 * radius + 1) ** 2,
            hidden_size=hidden,
            num_layers=(count(r"update_block\.refine\.(\d+)\.") + 1) // 2,
            num_attention_heads=max(hidden // HEAD_SIZE, 1),
        )


def convert_alltracker(checkpoint: Path) -> AllTrackerForPointTracking:
    """Return the model of a released checkpoint file, and warn of sizes that are none of the released ones.

    Raises:
        CheckpointError: tensors are missing, not expected or misshapen; or the file is unsafe.
    """
    tensors = load_tensors(checkpoint, ANCHORS)
    config = config_of(tensors)
    table = tensors.pop(TIME_TABLE)
    if table.shape != (1, config.window_size, config.hidden_size):
        raise CheckpointError(
            f"{TIME_TABLE} is {list(table.shape)}, not [1, {config.window_size}, {config.hidden_size}]"
        )
    warn_of_other_sines(TIME_TABLE, (table[0], time_embedding(*table.shape[1:])))
    model = build_model(AllTrackerForPointTracking, config, tensors, table_of(config))
    warn_unless_released(config, RELEASED, SIZES)
    return model
