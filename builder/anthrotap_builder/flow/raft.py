"""RAFT by torchvision: the paper's flow, on a GPU where there is one."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from functools import cache
from itertools import chain
from pathlib import Path
from threading import local

import numpy as np
import torch

from anthrotap_builder.config import FlowSettings
from anthrotap_builder.utils.assets import AssetError
from anthrotap_hf.utils.checkpoints import CheckpointError, load_tensors
from anthrotap_hf.utils.errors import one_line

# RAFT's updates of its estimate.
NUM_UPDATES = 12
# Frames with longer sides are cut into tiles of this side, pixels, which overlap by at least this fraction of it.
TILE = 1024
OVERLAP = 1 / 4
# The network needs sides that are multiples of this one; below the other, the coarsest of its four correlation levels
# would be empty.
STRIDE = 8
MIN_SIDE = 128

Network = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
"""Two batches of images, [1, 3, h, w] float32 RGB in [-1, 1], to the flow from one to the other, [1, 2, h, w]."""


def load_raft(settings: FlowSettings, device: str) -> RAFTFlow:
    """Load RAFT with the weights that the settings name, once a process.

    Raises:
        ImportError: if torchvision is absent, or was built for another torch.
        AssetError: if the weights cannot be fetched or read, or are those of another network.
    """
    own = _OwnModel(_load_model(settings.raft_size, settings.weights, device))
    return RAFTFlow(lambda first, second: own.model(first, second, num_flow_updates=NUM_UPDATES)[-1], device=device)


class _OwnModel(local):
    """A model for each thread: torchvision's RAFT keeps the correlations of its pair in itself. Weights are shared."""

    def __init__(self, model: torch.nn.Module) -> None:
        shared = {id(tensor): tensor for tensor in chain(model.parameters(), model.buffers())}
        self.model = copy.deepcopy(model, shared)


class RAFTFlow:
    """Recurrent All-Pairs Field Transforms (Teed and Deng, ECCV 2020); a `Flow`.

    Memory goes into the correlation of all pixels with all: measured 0.7 GB for 854 by 480 pixels, 3.7 GB for 1024 by
    1024, growing with the square of the area, in each thread. Tiles bound it.

    Args:
        network: RAFT itself; called by as many threads at once as call this.
        tile: longer sides are cut into overlapping tiles of this many pixels, which are blended smoothly.
        device: of the network.
    """

    def __init__(self, network: Network, tile: int = TILE, device: str = "cpu") -> None:
        self._network, self._tile, self._device = network, tile, device

    def __call__(self, first: np.ndarray, second: np.ndarray) -> np.ndarray:
        """Estimate flow; see `anthrotap_builder.flow.Flow`."""
        height, width = first.shape[:2]
        flow = np.zeros((height, width, 2), np.float32)
        weights = np.zeros((height, width, 1), np.float32)
        for rows in _tiles(height, self._tile):
            for columns in _tiles(width, self._tile):
                window = rows, columns
                weight = np.outer(_weights(rows, height), _weights(columns, width))[..., None]
                flow[window] += weight * self._tile_flow(first[window], second[window])
                weights[window] += weight
        return flow / weights

    def _tile_flow(self, first: np.ndarray, second: np.ndarray) -> np.ndarray:
        """[h, w, 2] float32 of two images [h, w, 3] uint8 of any size, in one piece."""
        height, width = first.shape[:2]
        above, below = _padding(height)
        left, right = _padding(width)

        def prepared(image: np.ndarray) -> torch.Tensor:
            # Pad by the edge's pixels, as beyond frames elsewhere in this package.
            padded = np.pad(image, ((above, below), (left, right), (0, 0)), mode="edge")
            return torch.from_numpy(padded).to(self._device).permute(2, 0, 1)[None].float() / 127.5 - 1

        with torch.inference_mode():
            flow = self._network(prepared(first), prepared(second))[0].float().cpu()
        # As in OpenCV: x is the first channel, a displacement counts pixels, from the first image to the second.
        return flow.permute(1, 2, 0).numpy()[above : above + height, left : left + width]


def _padding(side: int) -> tuple[int, int]:
    """Return how many pixels to add before and after a side."""
    missing = max(MIN_SIDE, math.ceil(side / STRIDE) * STRIDE) - side
    return missing // 2, missing - missing // 2


def _tiles(side: int, tile: int) -> list[slice]:
    """Return tiles over a side, evenly spread."""
    if side <= tile:
        return [slice(0, side)]
    count = math.ceil((side - tile) / (tile * (1 - OVERLAP))) + 1
    starts = np.linspace(0, side - tile, count).round().astype(int)
    return [slice(start, start + tile) for start in starts.tolist()]


def _weights(tile: slice, side: int) -> np.ndarray:
    """Return the weight of each pixel of a tile along a side: falls towards the tile's ends, and stays positive."""
    length = tile.stop - tile.start
    if length == side:
        return np.ones(length, np.float32)
    return (np.sin(np.pi * (np.arange(length) + 0.5) / length) ** 2).astype(np.float32)


@cache
def _load_model(size: str, weights: str | None, device: str) -> torch.nn.Module:
    try:
        from torchvision.models import optical_flow
    except (ImportError, RuntimeError) as error:  # RuntimeError: beside a torch that it was not built for
        raise ImportError(
            f"RAFT needs a torchvision that fits torch {torch.__version__} "
            f"({' '.join(str(error).split())}): pip install 'anthrotap[raft]'",
            name="torchvision",
        ) from error
    make = {"small": optical_flow.raft_small, "large": optical_flow.raft_large}[size]
    # By name and not as DEFAULT, which another release may change, and labels with it.
    released = {
        "small": optical_flow.Raft_Small_Weights.C_T_V2,
        "large": optical_flow.Raft_Large_Weights.C_T_SKHT_V2,
    }[size]
    if weights is None:
        try:
            model = make(weights=released, progress=False)
        except (OSError, RuntimeError) as error:  # RuntimeError: what came has another hash
            raise AssetError(
                f"cannot get RAFT's weights ({one_line(error)})",
                hint=f"on a machine with network fetch {released.url}, and set flow.weights to the file",
            ) from error
    else:
        model = make(weights=None)
        _fill(model, weights, size)
    return model.eval().requires_grad_(False).to(device)


def _fill(model: torch.nn.Module, path: str, size: str) -> None:
    """Load the weights of a file into a model, without running code of the file."""
    try:
        state = load_tensors(Path(path), list(model.state_dict()))
    except (OSError, CheckpointError) as error:
        reason = error.reason if isinstance(error, CheckpointError) else error.strerror
        raise AssetError(reason, path=path, hint="set flow.weights to a file of weights") from error
    own = {name: list(value.shape) for name, value in model.state_dict().items()}
    got = {name: list(value.shape) for name, value in state.items()}
    wrong = [name for name in {**own, **got} if own.get(name) != got.get(name)]
    if wrong:
        name = wrong[0]
        more = f", and {len(wrong) - 1} more" if len(wrong) > 1 else ""
        raise AssetError(
            f"is not torchvision's raft_{size}: {name} is {got.get(name, 'absent')} in the file and "
            f"{own.get(name, 'absent')} in the network{more}",
            path=path,
            hint="set flow.raft_size or flow.weights",
        )
    model.load_state_dict(state)
