"""Clips prepared for training: frames, labels and flow's chains on disk, memory-mapped: a step costs the network alone.

A folder holds one folder a clip, with

    frames.npy    [T, H, W, 3] uint8 RGB
    tracks.npy    [N, T, 2] float32 xy, raster pixels; 0 where invalid
    visible.npy, valid.npy    [N, T] bool
    queries.npy   [Q, 2] int16, (track, frame) of every label that may be a query
    chains.npy    [Q, T, 2] int16, where flow leads from each query, in units of FLOW_STEP
    errors.npy    [Q, T] float16 and changes.npy [Q, T] float16, of `FlowChainSteps`

Chains of the whole frame hold for each crop of it, mirrored or played backwards, too.
`anthrotap_hf.training.flow_samples` cuts samples out of such clips.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from anthrotap_hf.models.flowchain.configuration_flowchain import FlowChainConfig
from anthrotap_hf.models.flowchain.modeling_flowchain import (
    FLOW_LIMIT,
    FLOW_STEP,
    FlowChainSteps,
    chain_steps,
)
from anthrotap_hf.readers.base import BadClipError, DatasetError, FilePath, Reader, make_tracks
from anthrotap_hf.tracks import TrackedClip
from anthrotap_hf.utils.atomic_files import atomic_dir

LABELS = ("frames", "tracks", "visible", "valid")
FLOW = ("queries", "chains", "errors", "changes")
# Colors are compared in any case; what counts as a change is decided when a sample is made.
CHAINS = FlowChainConfig(max_color_change=1e9)


@dataclass(frozen=True)
class FlowChains:
    """Where flow leads from each label of a clip that may be a query; the arrays are those that the module names.

    Attributes:
        queries, chains, errors, changes: the arrays.
        max_color_change: of chains that hold, see `LocoTrackConfig.flow_color_change`.
    """

    queries: np.ndarray
    chains: np.ndarray
    errors: np.ndarray
    changes: np.ndarray
    max_color_change: float | None = None

    def steps(self, chosen: np.ndarray) -> FlowChainSteps:
        """Return the chains of some queries."""
        return FlowChainSteps(
            self.chains[chosen] * np.float64(FLOW_STEP),
            self.errors[chosen].astype(np.float64),
            self.changes[chosen].astype(np.float32),
        )


def prepare_clip(folder: Path, frames: np.ndarray, tracks: np.ndarray, visible: np.ndarray, valid: np.ndarray) -> None:
    """Follow flow from every visible label of a clip, and write it as a folder; shapes as the module has them.

    Raises:
        BadClipError: if nothing is visible: there is no label to follow.
    """
    track, time = np.nonzero(visible)
    if not len(track):
        raise BadClipError("no label is visible, so flow has none to follow", path=folder)
    points = np.concatenate([time[:, None], tracks[track, time]], axis=1).astype(np.float64)
    steps = chain_steps(torch.from_numpy(frames).permute(0, 3, 1, 2), points, CHAINS)
    arrays = {
        "frames": frames,
        "tracks": np.where(valid[..., None], tracks, 0).astype(np.float32),
        "visible": visible,
        "valid": valid,
        "queries": np.stack([track, time], axis=1).astype(np.int16),
        "chains": np.clip(np.rint(steps.xy / FLOW_STEP), -FLOW_LIMIT, FLOW_LIMIT).astype(np.int16),
        "errors": steps.errors.clip(max=1e3).astype(np.float16),
        "changes": steps.changes.astype(np.float16),
    }
    with atomic_dir(folder) as tmp_path:
        for name, array in arrays.items():
            np.save(tmp_path / f"{name}.npy", array, allow_pickle=False)


class PreparedClips(Reader):
    """The prepared clips of a folder.

    Args:
        folder: where they are.
        max_color_change: of flow's chains, see `LocoTrackConfig.flow_color_change`.
        human: whether the labels are pseudo-labels on people.

    Raises:
        DatasetError: if there are none.
    """

    has_flow = True

    def __init__(self, folder: FilePath, max_color_change: float | None = None, human: bool = False) -> None:
        self.name = str(folder)
        self.human = human
        self.max_color_change = max_color_change
        self.folders = sorted(path.parent for path in Path(folder).glob("*/frames.npy"))
        if not self.folders:
            raise DatasetError(
                "no prepared clip in this folder", path=folder, hint="`python -m benchmarks.training_cache` makes some"
            )

    def __len__(self) -> int:
        return len(self.folders)

    def __getitem__(self, index: int) -> TrackedClip:
        if not 0 <= index < len(self):
            raise IndexError(f"clip {index} of {len(self)}")
        folder = self.folders[index]
        try:
            # Mapped into memory: nothing is read yet.
            labels, flow = (
                {name: np.load(folder / f"{name}.npy", mmap_mode="r", allow_pickle=False) for name in names}
                for names in (LABELS, FLOW)
            )
        except ValueError as error:
            raise BadClipError(error, path=folder) from error
        frames = labels.pop("frames")
        if frames.ndim != 4:
            raise BadClipError(f"its frames are {list(frames.shape)}, not [T, H, W, 3]", path=folder)
        xy, visible, valid = labels["tracks"], labels["visible"], labels["valid"]
        tracks = make_tracks(folder, xy, visible, valid, height=frames.shape[1], width=frames.shape[2])
        info = {"flow": FlowChains(**flow, max_color_change=self.max_color_change)}
        return TrackedClip(tracks, frames, clip_id=folder.name, info=info)
