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
from anthrotap_hf.models.flowchain.modeling_flowchain import (
    FLOW_LIMIT,
    FLOW_STEP,
    FlowChainSteps,
    chain_steps,
    unbroken_logits,
)
from anthrotap_hf.readers.base import BadClipError, DatasetError, Reader
from anthrotap_hf.tracks import TrackedClip, Tracks
from anthrotap_hf.training.samples import Sample, SampleSettings
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


class PreparedClips(Reader):
    """The prepared clips of a folder.

    Args:
        folder: where they are.
        max_color_change: of flow's chains, see `LocoTrackConfig.flow_color_change`.
        human: whether the labels are pseudo-labels on people.

    Raises:
        DatasetError: if there are none.
    """

    def __init__(self, folder: str | Path, max_color_change: float | None = None, human: bool = False) -> None:
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
        clip = self._read(index)
        height, width = clip.frames.shape[1:3]
        tracks = Tracks.from_labels(clip.tracks, clip.visible, clip.valid, height=height, width=width)
        return TrackedClip(tracks, clip.frames, clip_id=self.folders[index].name)

    def _read(self, index: int) -> PreparedClip:
        try:
            return PreparedClip.read(self.folders[index])
        except ValueError as error:
            raise BadClipError(error, path=self.folders[index]) from error

    def make_sample(self, index: int, settings: SampleSettings, rng: np.random.Generator) -> Sample:
        """Cut a sample, with flow's start, out of a clip: a window of time and, at the clip's scale, of the frame.

        Mirrored or not (`flip`), forward or backward in time. Half of the queries are on tracks that are hidden for a
        while, where there are such.

        Raises:
            BadClipError: if the clip is too short or too small, or nothing is visible in it.
            OSError: if it cannot be read.
        """
        folder, clip = self.folders[index], self._read(index)
        T, height, width = clip.frames.shape[:3]
        if settings.num_frames > T or settings.height > height or settings.width > width:
            raise BadClipError(
                f"{T} frames of {width}x{height} are too few or too small for samples of {settings.num_frames} of "
                f"{settings.width}x{settings.height}",
                path=folder,
            )
        begin = int(rng.integers(T - settings.num_frames + 1))
        window = slice(begin, begin + settings.num_frames)
        corner = np.array([rng.integers(width - settings.width + 1), rng.integers(height - settings.height + 1)])
        size = np.array([settings.width, settings.height])
        # 1. Labels in the crop.
        xy = np.asarray(clip.tracks[:, window]) - corner
        valid = np.asarray(clip.valid[:, window])
        visible = clip.visible[:, window] & ((xy >= 0) & (xy < size)).all(-1)
        # 2. Queries.
        track, time = clip.queries.astype(int).T
        inside = (time >= begin) & (time < begin + settings.num_frames)
        inside[inside] = visible[track[inside], time[inside] - begin]
        inside &= visible.sum(1)[track] >= settings.min_visible
        weight = inside.astype(float)
        hidden = inside & ((valid & ~visible).sum(1) >= 2)[track]
        if hidden.any():
            weight = inside / inside.sum() + hidden / hidden.sum()
        if not inside.any():
            raise BadClipError(f"no track is visible in {settings.min_visible} frames of a crop", path=folder)
        replace = int(inside.sum()) < settings.num_queries
        chosen = rng.choice(len(track), settings.num_queries, replace=replace, p=weight / weight.sum())
        # 3. Where flow leads from them.
        track, time = track[chosen], time[chosen] - begin
        steps = clip.steps(chosen)
        steps = FlowChainSteps(steps.xy[:, window] - corner, steps.errors[:, window], steps.changes[:, window])
        config = FlowChainConfig(max_color_change=self.max_color_change)
        logits = steps.visible_logits(time, (settings.height, settings.width), config)
        if self.max_color_change is not None:
            logits = unbroken_logits(logits, time)
        x, y = corner
        video = np.array(clip.frames[window, y : y + settings.height, x : x + settings.width])
        if settings.color is not None:
            video = settings.color.apply(rng, video)
        xy, visible, valid, start = xy[track], visible[track], valid[track], steps.xy.astype(np.float32)
        # 4. Mirrored, backward.
        if rng.random() < settings.flip:
            video = video[:, :, ::-1]
            xy, start = (np.stack([size[0] - part[..., 0], part[..., 1]], axis=-1) for part in (xy, start))
        query = np.concatenate([time[:, None], xy[np.arange(len(xy)), time]], axis=1)
        if rng.random() < 0.5:
            video, xy, visible, valid, start, logits = (
                video[::-1], *(part[:, ::-1] for part in (xy, visible, valid, start, logits))
            )  # fmt: skip
            query[:, 0] = settings.num_frames - 1 - query[:, 0]
        return Sample(
            video=np.ascontiguousarray(video),
            query_points=query.astype(np.float32),
            tracks=np.where(valid[..., None], xy, 0).astype(np.float32),
            visible=np.ascontiguousarray(visible),
            valid=np.ascontiguousarray(valid),
            name=folder.name,
            flow_tracks=np.ascontiguousarray(start),
            flow_logits=np.ascontiguousarray(logits, np.float32),
        )
