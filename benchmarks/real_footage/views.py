"""The labels of one real video, by person and surface point."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from anthrotap_builder.bodies import load_body
from anthrotap_builder.config import LabelingConfig
from anthrotap_builder.pipeline import Stages, label_clip
from anthrotap_builder.surface_tracks import SurfaceTracks
from anthrotap_hf.video import iter_frames, probe
from benchmarks.label_accuracy.measure import part_of_face


@dataclass(frozen=True)
class View:
    """A video's labels by person and surface point, rejected ones included.

    Attributes:
        path: the video.
        width, height: full size, which `xy` refers to.
        frames: [T, h, w, 3] uint8 RGB, as labeled.
        xy: [P, K, T, 2] float64, the position of each surface point on the mesh, full-size raster pixels.
        mesh_visible: [P, K, T] bool, whether it is visible by the meshes.
        label_visible: [P, K, T] bool, whether it is a visible label of a track that `anthrotap label` writes.
        part: [K] int, index into `measure.PARTS` of the body part that each surface point is on.
    """

    path: Path
    width: int
    height: int
    frames: np.ndarray
    xy: np.ndarray
    mesh_visible: np.ndarray
    label_visible: np.ndarray
    part: np.ndarray

    @property
    def to_256(self) -> np.ndarray:
        """[2] float64, from full-size pixels to those of a frame scaled to 256x256."""
        return np.array([256 / self.width, 256 / self.height])


def label_view(path: Path, config: LabelingConfig, threads: int, num_frames: int | None = None) -> View:
    """Label the first `num_frames` frames of a video (all if None) as one clip.

    Raises VideoError, a ValueError, if the video cannot be read.
    """
    info = probe(path)
    if info.fps is None:
        raise ValueError(f"{path}: says nothing of its frame rate; re-encode it with one")
    frames = np.stack([frame.image for frame in islice(iter_frames(path, config.clips.short_side), num_frames)])
    # The mesh's own positions and visibility, before filtering; NaN where it has no mesh.
    found: list[SurfaceTracks] = []

    def visibility(*arguments: Any) -> SurfaceTracks:
        found.append(Stages().visibility(*arguments))
        return found[0]

    # No track is dropped for being visible too rarely, so that each surface point keeps its row.
    all_tracks, stages = config.model_copy(update={"min_visible": 0}), Stages(visibility=visibility)
    tracks = label_clip(frames, info.fps, all_tracks, threads, stages=stages).tracks
    shape = (len(tracks) // config.points, config.points, len(frames))
    label_visible = tracks.visible & (tracks.visible.sum(1) >= config.min_visible)[:, None]
    scale = np.array([info.width / tracks.width, info.height / tracks.height])
    xy = (found[0].xy.astype(np.float64) * scale).reshape(*shape, 2) if found else np.zeros((*shape, 2))
    mesh_visible = (found[0].visible if found else tracks.visible).reshape(shape) & np.isfinite(xy[..., 0])
    surface = load_body(config.body).surface_points(config.points, config.seed)
    part = part_of_face()[surface.face]
    return View(path, info.width, info.height, frames, xy, mesh_visible, label_visible.reshape(shape), part)
