"""Weights of a model in a released layout, by a converter's table read from right to left."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import numpy as np
from torch import Tensor


def backwards(model: Any, table: Mapping[str, tuple[str, ...]]) -> dict[str, Tensor]:
    """Return the model's weights under the names that `table` gives for each of ours."""
    result = {}
    for name, tensor in model.state_dict().items():
        numbers = re.findall(r"(?<=\.)\d+(?=\.)", name)
        sources = table.get(name) or table[re.sub(r"(?<=\.)\d+(?=\.)", "{}", name)]
        for source, part in zip(sources, tensor.chunk(len(sources)), strict=True):
            result[source.format(*numbers)] = part.clone()
    return result


def released_locotrack(model: Any) -> dict[str, Tensor]:
    """Return the weights of a LocoTrack under their released names."""
    from anthrotap_hf.models.locotrack.convert_locotrack import TABLE

    return backwards(model, {line.target: line.sources for line in TABLE})


def released_cotracker3(model: Any) -> dict[str, Tensor]:
    """Return the weights of a CoTracker3, and the sines that lie beside them, under their released names."""
    from anthrotap_hf.models.cotracker3.convert_cotracker3 import TABLE
    from anthrotap_hf.models.cotracker3.modeling_cotracker3 import time_embedding

    weights = backwards(model, {line.target: line.sources for line in TABLE})
    weights["updateformer.virual_tracks"] = weights["updateformer.virual_tracks"][None, :, None]
    return weights | {"time_emb": time_embedding(model.config.window_size, model.transformer.token_size)[None]}


def released_alltracker(model: Any) -> dict[str, Tensor]:
    """Return the weights of an AllTracker, and the sines that lie beside them, under their released names."""
    from anthrotap_hf.models.alltracker.convert_alltracker import table_of
    from anthrotap_hf.models.alltracker.modeling_alltracker import time_embedding

    weights = backwards(model, {line.target: line.sources for line in table_of(model.config)})
    weights |= {name: scale[:, None] for name, scale in weights.items() if name.endswith("layer_scale")}
    return weights | {"time_emb": time_embedding(model.config.window_size, model.config.hidden_size)[None]}


def released_tapir(model: Any) -> dict[str, Tensor]:
    """The released PyTorch layout of a model, with the depthwise kernels' channels side by side."""
    from anthrotap_hf.models.tapir.convert_tapir import table

    names = {row.ours: row.torch for row in table(model.config)}
    result = {}
    for name, tensor in model.state_dict().items():
        numbers = re.findall(r"(?<=\.)\d+(?=\.)", name)
        source = (names.get(name) or names[re.sub(r"(?<=\.)\d+(?=\.)", "{}", name)]).format(*numbers)
        if name.endswith(("widen_weight", "narrow_weight")):
            tensor = tensor.permute(2, 1, 0).reshape(-1, 1, 3)
        elif name.endswith(("widen_bias", "narrow_bias")):
            tensor = tensor.T.reshape(-1)
        result[source] = tensor.clone()
    return result


def tapir_in_jax(weights: dict[str, Tensor]) -> dict[str, dict[str, np.ndarray]]:
    """The released JAX layout, from the PyTorch one, as TRACKERS.md A.8 has it."""
    params: dict[str, dict[str, np.ndarray]] = {}
    for name, tensor in weights.items():
        *path, leaf = name.split(".")
        if path[0] == "resnet_torch":
            parts = {"proj_conv": "shortcut_conv", "bn_0": "instancenorm_0", "bn_1": "instancenorm_1"}
            where = f"block_group_{path[2]}/~/block_{path[4]}/~/" if len(path) > 2 else ""
            module = f"resnet/~/{where}{parts.get(path[-1], path[-1])}"
        elif path[0] == "extra_convs":
            block, part = int(path[2]), path[3]
            kind, number = (
                ("layer_norm", block) if part == "layer_norm" else ("conv2_d", 2 * block + (part == "conv_1"))
            )
            module = f"extra_convs/{kind}" + (f"_{number}" if number else "")
        elif path[0] == "torch_cost_volume_track_mods":
            module = {
                "hid1": "cost_volume_regression_1",
                "hid2": "cost_volume_regression_2",
                "hid3": "cost_volume_occlusion_1",
                "hid4": "cost_volume_occlusion_2",
                "occ_out": "occlusion_out",
            }[path[1]]
        elif len(path) > 2:
            module = "pips_mlp_mixer/block" + (f"_{path[2]}" if path[2] != "0" else "") + f"/{path[-1]}"
        else:
            module = f"pips_mlp_mixer/{path[1]}"
        norm = "norm" in module
        array = tensor.numpy()
        if leaf == "weight" and not norm:
            axes = {4: (2, 3, 1, 0), 3: (2, 1, 0), 2: (1, 0)}[array.ndim]
            array = array.transpose(axes)
        leaf = {"weight": "scale" if norm else "w", "bias": "offset" if norm else "b"}[leaf]
        params.setdefault(f"tapir/~/{module}", {})[leaf] = array
    return params
