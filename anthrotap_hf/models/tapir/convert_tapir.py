"""Released TAPIR checkpoints (TAPIR, BootsTAPIR, offline or causal) to this package's layout.

They come in two layouts: PyTorch's `.pt`, and JAX's `.npy`, a pickled dict of haiku's parameters.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import NamedTuple

from torch import Tensor

from anthrotap_hf.models.tapir.configuration_tapir import TAPIRConfig
from anthrotap_hf.models.tapir.modeling_tapir import TAPIRForPointTracking
from anthrotap_hf.utils.checkpoints import (
    CheckpointError,
    Rename,
    build_model,
    load_tensors,
    size_of,
    sizes_make,
    warn_unless_released,
)

# The released JAX code builds BootsTAPIR with another softmax temperature than TAPIR; the PyTorch code does not.
JAX_BOOTSTAPIR_TEMPERATURE = 10.0
RELEASED = (TAPIRConfig(), TAPIRConfig(pyramid_level=1), TAPIRConfig(pyramid_level=1, num_extra_blocks=5))
SIZES = (
    *("stage_channels", "stage_blocks", "num_extra_blocks", "pyramid_level", "cost_channels"),
    *("hidden_size", "num_hidden_layers", "expansion"),
)
# Cells of a patch, as released: no shape tells them apart from the levels of the pyramid.
PATCH = 49
# Of the PyTorch files, and of JAX's.
ANCHORS = (
    *("resnet_torch.initial_conv.weight", "torch_pips_mixer.linear.weight"),
    *("torch_cost_volume_track_mods.hid1.weight", "resnet/~/initial_conv/w"),
    *("pips_mlp_mixer/linear/w", "cost_volume_regression_1/w"),
)
# What belongs to the model; other parts of a file are heads that served its training.
ROOTS = re.compile(
    r"(resnet_torch|torch_cost_volume_track_mods|torch_pips_mixer|extra_convs)\."
    r"|(resnet|pips_mlp_mixer|extra_convs|cost_volume_(regression|occlusion)_[12]|occlusion_out)/"
)


def _same(tensor: Tensor) -> Tensor:
    return tensor


def _transposed(kernel: Tensor) -> Tensor:
    """Map JAX's [in, out] to [out, in]."""
    return kernel.mT


def _convolution(kernel: Tensor) -> Tensor:
    """Map JAX's [height, width, in, out] to [out, in, height, width]."""
    return kernel.permute(3, 2, 0, 1)


def _copies(size: int, kernel: Tensor) -> Tensor:
    """Map a bias [C copies], the copies of a channel side by side, to [copies, C]."""
    return kernel.view(size, -1).T


def _depthwise(size: int, kernel: Tensor) -> Tensor:
    """Map PyTorch's [C copies, 1, 3] to [3, copies, C]."""
    return kernel[:, 0].T.reshape(3, size, -1).transpose(1, 2)


def _jax_depthwise(size: int, kernel: Tensor) -> Tensor:
    """Map JAX's [3, 1, C copies] to [3, copies, C]."""
    return kernel[:, 0].reshape(3, size, -1).transpose(1, 2)


class Row(NamedTuple):
    """One line of the table: our name, and the one tensor that it is made from in either released layout.

    Attributes:
        jax: with `{}` for each number of our name, or a function of the one number.
    """

    ours: str
    torch: str
    jax: str | Callable[[int], str]
    from_torch: Callable[[Tensor], Tensor] = _same
    from_jax: Callable[[Tensor], Tensor] = _same


def _after_first(name: str, leaf: str, number: int) -> str:
    """Return haiku's name of a module's copy: the first one has no number."""
    return name.format(f"_{number}" if number else "") + leaf


def _extra_conv(second: int, leaf: str, block: int) -> str:
    """Return the name of a convolution of the extra blocks, which haiku numbers in one row."""
    return _after_first("extra_convs/conv2_d{}", leaf, 2 * block + second)


def table(config: TAPIRConfig) -> list[Row]:
    """Return how the tensors of a model of this configuration are made."""
    stage, jax_stage = "backbone.stages.{}.{}.", "resnet/~/block_group_{}/~/block_{}/~/"
    torch_stage = "resnet_torch.block_groups.{}.blocks.{}."
    rows = [Row("backbone.stem.weight", "resnet_torch.initial_conv.weight", "resnet/~/initial_conv/w")]
    for ours, theirs, jax in (
        ("conv1", "conv_0", "conv_0"),
        ("conv2", "conv_1", "conv_1"),
        ("shortcut", "proj_conv", "shortcut_conv"),
    ):
        rows.append(Row(f"{stage}{ours}.weight", f"{torch_stage}{theirs}.weight", f"{jax_stage}{jax}/w"))
    rows = [row._replace(from_jax=_convolution) for row in rows]
    for number in (0, 1):
        for part, leaf in (("weight", "scale"), ("bias", "offset")):
            ours = f"{stage}norm{number + 1}.{part}"
            rows.append(Row(ours, f"{torch_stage}bn_{number}.{part}", f"{jax_stage}instancenorm_{number}/{leaf}"))

    extra = "backbone.extra.{}."
    for part, leaf in (("weight", "scale"), ("bias", "offset")):
        jax_norm = partial(_after_first, "extra_convs/layer_norm{}", f"/{leaf}")
        rows.append(Row(f"{extra}norm.{part}", f"extra_convs.blocks.{{}}.layer_norm.{part}", jax_norm))
    for second, (ours, theirs) in enumerate((("expand", "conv"), ("contract", "conv_1"))):
        name = f"extra_convs.blocks.{{}}.{theirs}"
        rows.append(
            Row(f"{extra}{ours}.weight", f"{name}.weight", partial(_extra_conv, second, "/w"), from_jax=_convolution)
        )
        rows.append(Row(f"{extra}{ours}.bias", f"{name}.bias", partial(_extra_conv, second, "/b")))

    cost, mixer = "torch_cost_volume_track_mods.", "pips_mlp_mixer/"
    for ours, theirs, jax, merge in (
        ("matching.shared", f"{cost}hid1", "cost_volume_regression_1", _convolution),
        ("matching.position", f"{cost}hid2", "cost_volume_regression_2", _convolution),
        ("matching.pooled", f"{cost}hid3", "cost_volume_occlusion_1", _convolution),
        ("matching.hidden", f"{cost}hid4", "cost_volume_occlusion_2", _transposed),
        ("matching.logits", f"{cost}occ_out", "occlusion_out", _transposed),
        ("mixer.project_in", "torch_pips_mixer.linear", f"{mixer}linear", _transposed),
        ("mixer.project_out", "torch_pips_mixer.linear_1", f"{mixer}linear_1", _transposed),
    ):
        rows.append(Row(f"{ours}.weight", f"{theirs}.weight", f"{jax}/w", from_jax=merge))
        rows.append(Row(f"{ours}.bias", f"{theirs}.bias", f"{jax}/b"))
    rows.append(Row("mixer.norm.weight", "torch_pips_mixer.layer_norm.weight", f"{mixer}layer_norm/scale"))

    block, jax_block, size = "mixer.blocks.{}.", mixer + "block{}/", config.hidden_size
    torch_block = "torch_pips_mixer.blocks.{}."
    for ours, theirs in (("norm1", "layer_norm"), ("norm2", "layer_norm_1")):
        scale = partial(_after_first, jax_block, f"{theirs}/scale")
        rows.append(Row(f"{block}{ours}.weight", f"{torch_block}{theirs}.weight", scale))
    for ours, theirs in (("widen", "mlp1_up"), ("narrow", "mlp1_up_1")):
        weight, bias = (partial(_after_first, jax_block, f"{theirs}/{leaf}") for leaf in "wb")
        depthwise, copies = partial(_depthwise, size), partial(_copies, size)
        rows.append(
            Row(
                f"{block}{ours}_weight",
                f"{torch_block}{theirs}.weight",
                weight,
                depthwise,
                partial(_jax_depthwise, size),
            )
        )
        rows.append(Row(f"{block}{ours}_bias", f"{torch_block}{theirs}.bias", bias, copies, copies))
    for ours, theirs in (("expand", "mlp2_up"), ("contract", "mlp2_down")):
        weight, bias = (partial(_after_first, jax_block, f"{theirs}/{leaf}") for leaf in "wb")
        name = f"{torch_block}conv_channels_mixer.{theirs}"
        rows.append(Row(f"{block}{ours}.weight", f"{name}.weight", weight, from_jax=_transposed))
        rows.append(Row(f"{block}{ours}.bias", f"{name}.bias", bias))
    return rows


def renames(config: TAPIRConfig, jax: bool) -> list[Rename]:
    """Return the table for one of the layouts."""
    lines = []
    for row in table(config):
        if not jax:
            lines.append(Rename(row.ours, (row.torch,), row.from_torch))
        elif isinstance(row.jax, str):
            lines.append(Rename(row.ours, (row.jax,), row.from_jax))
        else:
            count = max(config.num_hidden_layers, config.num_extra_blocks)
            lines += [Rename(row.ours.format(n), (row.jax(n),), row.from_jax) for n in range(count)]
    return lines


def config_of(tensors: Mapping[str, Tensor], jax: bool, causal: bool = False) -> TAPIRConfig:
    """Return the configuration that the tensors' shapes tell; the rest of it is as released, or as the arguments say.

    Raises:
        CheckpointError: `tensors` are no TAPIR.
    """
    size = partial(size_of, tensors, "TAPIR")

    def count(torch_name: str, jax_name: str) -> int:
        """Return how many numbered parts there are; haiku's first one has no number."""
        pattern = jax_name if jax else torch_name
        found = [int(match[1] or 0) for name in tensors if (match := re.match(pattern, name))]
        return max(found, default=-1) + 1

    if jax:
        channels = [size((f"resnet/~/block_group_{n}/~/block_0/~/conv_0/w", 3)) for n in range(4)]
        costs = [size((f"cost_volume_{name}/w", axis)) for name, axis in (("regression_1", 3), ("occlusion_1", 3))]
        costs.append(size(("cost_volume_occlusion_2/w", 1)))
        inputs, hidden = size(("pips_mlp_mixer/linear/w", 0)), size(("pips_mlp_mixer/linear/w", 1))
        widened = size(("pips_mlp_mixer/block/mlp1_up/b", 0), ("pips_mlp_mixer/block/mlp2_up/b", 0))
    else:
        channels = [size((f"resnet_torch.block_groups.{n}.blocks.0.conv_0.weight", 0)) for n in range(4)]
        costs = [size((f"torch_cost_volume_track_mods.hid{n}.weight", 0)) for n in (1, 3, 4)]
        inputs, hidden = size(("torch_pips_mixer.linear.weight", 1)), size(("torch_pips_mixer.linear.weight", 0))
        block = "torch_pips_mixer.blocks.0."
        widened = size((f"{block}mlp1_up.bias", 0), (f"{block}conv_channels_mixer.mlp2_up.bias", 0))
    extra = count(r"extra_convs\.blocks\.(\d+)\.", r"extra_convs/layer_norm(?:_(\d+))?/")
    grids, odd = divmod(inputs - 4 - channels[1] - channels[3], PATCH)
    if odd or grids < 2 or widened % hidden:
        raise CheckpointError(
            f"the checkpoint's sizes make no TAPIR: {inputs} inputs of the mixer, {hidden} wide, widened to {widened}"
        )
    first = "extra_convs/conv2_d/b" if jax else "extra_convs.blocks.0.conv.bias"
    with sizes_make("TAPIR"):
        return TAPIRConfig(
            causal=causal,
            stage_channels=channels,
            stage_blocks=[
                count(rf"resnet_torch\.block_groups\.{n}\.blocks\.(\d+)\.", rf"resnet/~/block_group_{n}/~/block_(\d+)/")
                for n in range(4)
            ],
            num_extra_blocks=extra,
            extra_channels=size((first, 0)) if extra else RELEASED[0].extra_channels,
            pyramid_level=grids - 2,
            cost_channels=costs,
            hidden_size=hidden,
            num_hidden_layers=count(r"torch_pips_mixer\.blocks\.(\d+)\.", r"pips_mlp_mixer/block(?:_(\d+))?/"),
            expansion=widened // hidden,
            softmax_temperature=(JAX_BOOTSTAPIR_TEMPERATURE if jax and extra else RELEASED[0].softmax_temperature),
        )


def convert_tapir(
    checkpoint: Path, causal: bool | None = None, softmax_temperature: float | None = None
) -> TAPIRForPointTracking:
    """Return the model of a released checkpoint file, and warn of sizes that are none of the released ones.

    Args:
        causal: whether these are weights for frame-by-frame tracking, which their shapes do not tell; None: whether
            the file's name says "causal" or "online".
        softmax_temperature: of the first guess; None: as the released code has it for a file of this layout.

    Raises:
        CheckpointError: tensors are missing, not expected or misshapen; or the file is unsafe.
    """
    tensors = load_tensors(checkpoint, ANCHORS)
    jax = any(name.endswith("/w") for name in tensors)
    others = [name for name in tensors if not ROOTS.match(name)]
    if causal is None:
        causal = re.search("causal|online", checkpoint.name.lower()) is not None
    config = config_of(tensors, jax, causal)
    if softmax_temperature is not None:
        config.softmax_temperature = softmax_temperature
    kept = {name: tensor for name, tensor in tensors.items() if ROOTS.match(name)}
    model = build_model(TAPIRForPointTracking, config, kept, renames(config, jax))
    if others:
        warnings.warn(
            f"{len(others)} tensors that tracking does not need are left out: {', '.join(others)}", stacklevel=2
        )
    warn_unless_released(config, RELEASED, SIZES)
    return model
