"""Released TAPNext checkpoints to this package's layout.

TAPNext, BootsTAPNext and Anthro-TAPNext in JAX's `.npz`; TAPNext and TAPNext++ in a `.pt` or Lightning `.ckpt`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from anthrotap_hf.models.tapnext.configuration_tapnext import TAPNextConfig
from anthrotap_hf.models.tapnext.modeling_tapnext import TAPNextForPointTracking, embed_position
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

# Sines that the PyTorch files store; ours are computed.
POSITION_TABLE = "query_pos_embed"
SIZES = (
    *("image_size", "patch_size", "hidden_size", "num_hidden_layers", "num_attention_heads"),
    *("recurrent_size", "conv_width", "head_hidden_size"),
)
# Of the PyTorch files, and of JAX's.
ANCHORS = (
    *("lin_proj.weight", "image_pos_emb", "coordinate_head.0.bias"),
    *("backbone/embedding/kernel", "backbone/pos_embedding", "coordinate_head/layers_0/bias"),
)


def _same(tensor: Tensor) -> Tensor:
    return tensor


def _flat(*tensors: Tensor) -> Tensor:
    return torch.cat([tensor.flatten() for tensor in tensors])


def _transposed(*kernels: Tensor) -> Tensor:
    """Stack JAX's [in, out], transposed."""
    return torch.cat([kernel.mT for kernel in kernels])


def _stack(*tensors: Tensor) -> Tensor:
    return torch.cat(tensors)


def _stack_last(*tensors: Tensor) -> Tensor:
    return torch.cat(tensors, dim=-1)


def _gated_weight(weight: Tensor) -> Tensor:
    """Map [2, in, out] to [2 out, in]."""
    return weight.transpose(1, 2).flatten(0, 1)


def _stack_heads(*kernels: Tensor) -> Tensor:
    """Stack JAX's [in, heads, head size] of query, key and value."""
    return torch.cat([kernel.flatten(1).mT for kernel in kernels])


def _join_heads(kernel: Tensor) -> Tensor:
    """Map JAX's [heads, head size, out] to [out, in]."""
    return kernel.flatten(0, 1).mT


def _patch_kernel(kernel: Tensor) -> Tensor:
    """Map JAX's [1, height, width, in, out] to [out, in, height, width]."""
    return kernel[0].permute(3, 2, 0, 1)


class Row(NamedTuple):
    """One line of the table: our name, and what it is made from in either released layout."""

    ours: str
    torch: tuple[str, ...]
    jax: tuple[str, ...]
    from_torch: Callable[..., Tensor] = _same
    from_jax: Callable[..., Tensor] = _same


_OURS, _T_SSM, _T_VIT = "blocks.{}.", "blocks.{}.ssm_block.", "blocks.{}.vit_block."
_J_BLOCK = "backbone/Transformer/encoderblock_{}/"
_J_SSM, _J_VIT = _J_BLOCK + "ssm_block/", _J_BLOCK + "vit_block/"
_T_REC, _J_REC = _T_SSM + "recurrent_block.", _J_SSM + "recurrent_block/"
_J_ATT = _J_VIT + "MultiHeadDotProductAttention_0/"


def _dense(ours: str, theirs: str, jax: str) -> list[Row]:
    return [
        Row(f"{ours}.weight", (f"{theirs}.weight",), (f"{jax}/kernel",), from_jax=_transposed),
        Row(f"{ours}.bias", (f"{theirs}.bias",), (f"{jax}/bias",)),
    ]


def _norm(ours: str, theirs: str, jax: str) -> list[Row]:
    return [
        Row(f"{ours}.weight", (f"{theirs}.weight",), (f"{jax}/scale",)),
        Row(f"{ours}.bias", (f"{theirs}.bias",), (f"{jax}/bias",)),
    ]


TABLE = [
    Row(
        "embeddings.patches.weight",
        ("lin_proj.weight",),
        ("backbone/embedding/kernel",),
        _same,
        _patch_kernel,
    ),
    Row("embeddings.patches.bias", ("lin_proj.bias",), ("backbone/embedding/bias",)),
    Row("embeddings.patch_positions", ("image_pos_emb",), ("backbone/pos_embedding",)),
    Row("embeddings.before_query", ("unknown_token",), ("backbone/unknown_token",), _flat, _flat),
    Row("embeddings.at_query", ("point_query_token",), ("backbone/point_query_token",), _flat, _flat),
    Row("embeddings.after_query", ("mask_token",), ("backbone/mask_token",), _flat, _flat),
    *_norm("norm", "encoder_norm", "backbone/Transformer/encoder_norm"),
    *(
        row
        for head in ("visible_head", "coordinate_head")
        for kind, layers in ((_dense, (0, 3, 6)), (_norm, (1, 4)))
        for layer in layers
        for row in kind(f"{head}.{layer}", f"{head}.{layer}", f"{head}/layers_{layer}")
    ),
    # Recurrence over time
    *(
        Row(f"{_OURS}{ours}", (f"{_T_SSM}{theirs}",), (_J_SSM + theirs.replace(".", "/"),))
        for ours, theirs in (
            ("recurrence_norm.scale", "temporal_pre_norm.scale"),
            ("gated_mlp_norm.scale", "channel_pre_norm.scale"),
            ("recurrence.conv_weight", "recurrent_block.conv_1d.w"),
            ("recurrence.conv_bias", "recurrent_block.conv_1d.b"),
            ("recurrence.decay", "recurrent_block.rg_lru.a_param"),
        )
    ),
    Row(
        f"{_OURS}recurrence.project_in.weight",
        (f"{_T_REC}linear_y.weight", f"{_T_REC}linear_x.weight"),
        (f"{_J_REC}linear_y/kernel", f"{_J_REC}linear_x/kernel"),
        _stack,
        _transposed,
    ),
    Row(
        f"{_OURS}recurrence.project_in.bias",
        (f"{_T_REC}linear_y.bias", f"{_T_REC}linear_x.bias"),
        (f"{_J_REC}linear_y/bias", f"{_J_REC}linear_x/bias"),
        _stack,
        _stack,
    ),
    *(
        Row(
            f"{_OURS}recurrence.gate_{ours}",
            (f"{_T_REC}rg_lru.input_gate.{theirs}", f"{_T_REC}rg_lru.a_gate.{theirs}"),
            (f"{_J_REC}rg_lru/input_gate/{theirs}", f"{_J_REC}rg_lru/a_gate/{theirs}"),
            _stack_last,
            _stack_last,
        )
        for ours, theirs in (("weight", "w"), ("bias", "b"))
    ),
    *_dense(f"{_OURS}recurrence.project_out", f"{_T_REC}linear_out", f"{_J_REC}linear_out"),
    Row(
        f"{_OURS}gated_mlp.expand.weight",
        (f"{_T_SSM}mlp_block.ffw_up.w",),
        (f"{_J_SSM}mlp_block/ffw_up/w",),
        _gated_weight,
        _gated_weight,
    ),
    Row(
        f"{_OURS}gated_mlp.expand.bias",
        (f"{_T_SSM}mlp_block.ffw_up.b",),
        (f"{_J_SSM}mlp_block/ffw_up/b",),
        _flat,
        _flat,
    ),
    *_dense(f"{_OURS}gated_mlp.contract", f"{_T_SSM}mlp_block.ffw_down", f"{_J_SSM}mlp_block/ffw_down"),
    # Attention within frames
    *_norm(f"{_OURS}attention_norm", f"{_T_VIT}ln_1", f"{_J_VIT}LayerNorm_0"),
    *_norm(f"{_OURS}mlp_norm", f"{_T_VIT}ln_2", f"{_J_VIT}LayerNorm_1"),
    Row(
        f"{_OURS}attention.qkv.weight",
        (f"{_T_VIT}self_attention.in_proj_weight",),
        tuple(f"{_J_ATT}{kind}/kernel" for kind in ("query", "key", "value")),
        _same,
        _stack_heads,
    ),
    Row(
        f"{_OURS}attention.qkv.bias",
        (f"{_T_VIT}self_attention.in_proj_bias",),
        tuple(f"{_J_ATT}{kind}/bias" for kind in ("query", "key", "value")),
        _same,
        _flat,
    ),
    Row(
        f"{_OURS}attention.out.weight",
        (f"{_T_VIT}self_attention.out_proj.weight",),
        (f"{_J_ATT}out/kernel",),
        _same,
        _join_heads,
    ),
    Row(f"{_OURS}attention.out.bias", (f"{_T_VIT}self_attention.out_proj.bias",), (f"{_J_ATT}out/bias",)),
    *_dense(f"{_OURS}expand", f"{_T_VIT}mlp.0", f"{_J_VIT}MlpBlock_0/Dense_0"),
    *_dense(f"{_OURS}contract", f"{_T_VIT}mlp.3", f"{_J_VIT}MlpBlock_0/Dense_1"),
]


def _table(jax: bool) -> list[Rename]:
    return [
        Rename(row.ours, row.jax, row.from_jax) if jax else Rename(row.ours, row.torch, row.from_torch) for row in TABLE
    ]


def config_of(tensors: Mapping[str, Tensor], jax: bool) -> TAPNextConfig:
    """Return the configuration that the tensors' shapes tell.

    Attention has as many heads as the recurrence's gates have blocks.

    Raises:
        CheckpointError: `tensors` are no TAPNext.
    """
    numbered = re.compile(r"backbone/Transformer/encoderblock_(\d+)/" if jax else r"blocks\.(\d+)\.")
    depth = 1 + max((int(match[1]) for name in tensors if (match := numbered.match(name))), default=-1)

    size = partial(size_of, tensors, "TAPNext")

    def recurrence(name: str, axis: int) -> int:
        """Return a size of the recurrences, which are alike."""
        pattern = _J_REC + name.replace(".", "/") if jax else _T_REC + name
        return size(*((pattern.format(layer), axis) for layer in range(max(depth, 1))))

    def head(layer: int, *names: str) -> int:
        """Return the length of a bias of the prediction heads."""
        pattern = "{}_head/layers_{}/bias" if jax else "{}_head.{}.bias"
        return size(*((pattern.format(name, layer), 0) for name in names))

    positions = "backbone/pos_embedding" if jax else "image_pos_emb"
    patches, axis = ("backbone/embedding/kernel", 1) if jax else ("lin_proj.weight", 2)
    image = head(6, "coordinate") // 2
    with sizes_make("TAPNext"):
        return TAPNextConfig(
            image_size=image,
            patch_size=size((patches, axis)) if patches in tensors else round(image / size((positions, 1)) ** 0.5),
            hidden_size=size((positions, 2), ("lin_proj.bias", 0), ("backbone/embedding/bias", 0)),
            num_hidden_layers=depth,
            num_attention_heads=recurrence("rg_lru.input_gate.w", 0),
            recurrent_size=recurrence("conv_1d.w", 1),
            conv_width=recurrence("conv_1d.w", 0),
            head_hidden_size=head(0, "coordinate", "visible"),
        )


def convert_tapnext(checkpoint: Path, frame_size: int | None = None) -> TAPNextForPointTracking:
    """Return the model of a released checkpoint file, and warn of sizes that are none of the released ones.

    Args:
        frame_size: side of the frames that the weights were trained on, which their shapes do not tell; None: 512 if
            the file's name says so (tapnextpp_512.ckpt), else the number of bins.

    Raises:
        CheckpointError: tensors are missing, not expected or misshapen; or the file is unsafe.
    """
    tensors = load_tensors(checkpoint, ANCHORS)
    jax = any(name.startswith("backbone/") for name in tensors)
    config = config_of(tensors, jax)
    if frame_size is None and re.search(r"(?<!\d)512(?!\d)", checkpoint.name):
        frame_size = 512
    if frame_size is not None:
        if frame_size < 1 or frame_size % config.patch_size:
            raise CheckpointError(f"frames of {frame_size} pixels do not consist of patches of {config.patch_size}")
        config.frame_size = frame_size
    if not jax:
        _check_positions(tensors.pop(POSITION_TABLE, None), config)
    model = build_model(TAPNextForPointTracking, config, tensors, _table(jax))
    warn_unless_released(config, (TAPNextConfig(),), SIZES)
    return model


def _check_positions(table: Tensor | None, config: TAPNextConfig) -> None:
    """Warn if the stored sines [1, side * side, C], which are no parameters, are not those that the model computes."""
    if table is None:
        return
    side, channels = config.image_size, config.hidden_size
    if table.shape != (1, side * side, channels):
        raise CheckpointError(
            f"{POSITION_TABLE} is {list(table.shape)}, not [1, {side * side}, {channels}]: one row a pixel"
        )
    pixels = torch.arange(side) + 0.5
    diagonal = embed_position(torch.stack([pixels, pixels], dim=-1), side, channels)
    along_x, along_y = diagonal.chunk(2, dim=-1)
    table = table.view(side, side, 2, channels // 2)
    warn_of_other_sines(POSITION_TABLE, (table[:, :, 0], along_x[None]), (table[:, :, 1], along_y[:, None]))
