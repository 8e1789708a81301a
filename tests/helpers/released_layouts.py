"""Weights of a model in a released layout, by a converter's table read from right to left."""

from __future__ import annotations

import re
from collections.abc import Mapping

from torch import Tensor, nn


def backwards(model: nn.Module, table: Mapping[str, tuple[str, ...]]) -> dict[str, Tensor]:
    """Return the model's weights under the names that `table` gives for each of ours."""
    result = {}
    for name, tensor in model.state_dict().items():
        numbers = re.findall(r"(?<=\.)\d+(?=\.)", name)
        sources = table.get(name) or table[re.sub(r"(?<=\.)\d+(?=\.)", "{}", name)]
        for source, part in zip(sources, tensor.chunk(len(sources)), strict=True):
            result[source.format(*numbers)] = part.clone()
    return result


def released_locotrack(model: nn.Module) -> dict[str, Tensor]:
    """Return the weights of a LocoTrack under their released names."""
    from anthrotap_hf.models.locotrack.convert_locotrack import TABLE

    return backwards(model, {line.target: line.sources for line in TABLE})
