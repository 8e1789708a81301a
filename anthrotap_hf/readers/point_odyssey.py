"""PointOdyssey (Zheng et al., ICCV 2023)."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from anthrotap_hf.readers.base import (
    FilePath,
    Reader,
    load_images,
    load_labels,
    make_tracks,
    read_flags,
    read_points,
    sort_clips,
)
from anthrotap_hf.tracks import TrackedClip


class PointOdysseyClips(Reader):
    """Clips in folders, each with `anno.npz` and images in `rgbs/`.

    The file holds `trajs_2d` [T, N, 2] xy, `visibs` and `valids` [T, N] (datasets of aharley/pips2). Labels that are
    not in `valids`, or not finite, are invalid.

    Args:
        folder: the folder of one split, such as `train`.
        name: what messages call the dataset.

    Raises:
        DatasetError: if there is no clip in the folder.
    """

    def __init__(self, folder: FilePath, name: str = "point odyssey") -> None:
        self.name = name
        self.clips = sort_clips(
            (path.parent for path in Path(folder).glob("*/anno.npz")), "clip laid out as NAME/anno.npz", folder
        )

    def __len__(self) -> int:
        return len(self.clips)

    def __getitem__(self, index: int) -> TrackedClip:
        folder = self.clips[index]
        path = folder / "anno.npz"
        keys = ("trajs_2d", "visibs", "valids")
        labels = load_labels(path, keys)
        xy = read_points(path, labels["trajs_2d"]).swapaxes(0, 1)
        visible, valid = (read_flags(path, labels[key]).swapaxes(0, 1) for key in keys[1:])
        if xy.shape[:2] == valid.shape:
            valid = valid & np.isfinite(xy).all(-1)
        frames, height, width = load_images(folder / "rgbs", visible.shape[1])
        tracks = make_tracks(path, xy, visible, valid, height=height, width=width)
        return TrackedClip(tracks, frames, clip_id=str(folder))
