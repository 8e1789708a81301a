"""Clips prepared for training: frames, labels and flow's chains on disk, memory-mapped: a step costs the network alone.

A folder holds one folder a clip, with

    frames.npy    [T, H, W, 3] uint8 RGB
    tracks.npy    [N, T, 2] float32 xy, raster pixels; 0 where invalid
    visible.npy, valid.npy    [N, T] bool
    queries.npy   [Q, 2] int16, (track, frame) of every label that may be a query
    chains.npy    [Q, T, 2] int16, where flow leads from each query, in units of FLOW_STEP
    errors.npy    [Q, T] float16 and changes.npy [Q, T] float16, of `FlowChainSteps`

Chains of the whole frame hold for each crop of it, mirrored or played backwards, too.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from anthrotap_hf.models.flowchain.configuration_flowchain import FlowChainConfig
from anthrotap_hf.models.flowchain.modeling_flowchain import FLOW_LIMIT, FLOW_STEP, FlowChainSteps, chain_steps
from anthrotap_hf.utils.atomic_files import atomic_dir

ARRAYS = ("frames", "tracks", "visible", "valid", "queries", "chains", "errors", "changes")
# Colors are compared in any case; what counts as a change is decided when a sample is made.
CHAINS = FlowChainConfig(max_color_change=1e9)


@dataclass(frozen=True)
class PreparedClip:
    """A clip, with the arrays that the module names."""

    frames: np.ndarray
    tracks: np.ndarray
    visible: np.ndarray
    valid: np.ndarray
    queries: np.ndarray
    chains: np.ndarray
    errors: np.ndarray
    changes: np.ndarray

    @classmethod
    def prepare(cls, frames: np.ndarray, tracks: np.ndarray, visible: np.ndarray, valid: np.ndarray) -> PreparedClip:
        """Follow flow from every visible label; shapes as the module has them."""
        track, time = np.nonzero(visible)
        points = np.concatenate([time[:, None], tracks[track, time]], axis=1).astype(np.float64)
        steps = chain_steps(torch.from_numpy(frames).permute(0, 3, 1, 2), points, CHAINS)
        chains = np.clip(np.rint(steps.xy / FLOW_STEP), -FLOW_LIMIT, FLOW_LIMIT).astype(np.int16)
        return cls(
            frames=frames,
            tracks=np.where(valid[..., None], tracks, 0).astype(np.float32),
            visible=visible,
            valid=valid,
            queries=np.stack([track, time], axis=1).astype(np.int16),
            chains=chains,
            errors=steps.errors.clip(max=1e3).astype(np.float16),
            changes=steps.changes.astype(np.float16),
        )

    def write(self, folder: Path) -> None:
        """Write the clip as a folder."""
        with atomic_dir(folder) as tmp_path:
            for name in ARRAYS:
                np.save(tmp_path / f"{name}.npy", getattr(self, name), allow_pickle=False)

    @classmethod
    def read(cls, folder: Path) -> PreparedClip:
        """Map the arrays of a clip into memory; nothing is read yet."""
        return cls(**{name: np.load(folder / f"{name}.npy", mmap_mode="r", allow_pickle=False) for name in ARRAYS})

    def steps(self, chosen: np.ndarray) -> FlowChainSteps:
        """Return the chains of some queries."""
        return FlowChainSteps(
            self.chains[chosen] * np.float64(FLOW_STEP),
            self.errors[chosen].astype(np.float64),
            self.changes[chosen].astype(np.float32),
        )
