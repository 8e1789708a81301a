"""Kubric MOVi-E and MOVi-F as CoTracker lays them out."""

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


class KubricClips(Reader):
    """Clips in folders, each with `NAME/NAME.npy` and `NAME/frames/`.

    The file holds a pickled dict (read without running it): `coords` [N, T, 2] xy in raster pixels, and `visibility`
    [N, T], which is true where a point is *occluded* (cotracker/datasets/kubric_movif_dataset.py of
    facebookresearch/co-tracker inverts it). Frames are images in natural order of their names. All labels are valid.

    Args:
        folder: the folder of clips.
        name: what messages call the dataset.

    Raises:
        DatasetError: if there is no clip in the folder.
    """

    def __init__(self, folder: FilePath, name: str = "kubric") -> None:
        self.name = name
        found = (path for path in Path(folder).glob("*") if (path / f"{path.name}.npy").is_file())
        self.clips = sort_clips(found, "clip laid out as NAME/NAME.npy", folder)

    def __len__(self) -> int:
        return len(self.clips)

    def __getitem__(self, index: int) -> TrackedClip:
        folder = self.clips[index]
        path = folder / f"{folder.name}.npy"
        labels = load_labels(path, ("coords", "visibility"))
        xy, occluded = read_points(path, labels["coords"]), read_flags(path, labels["visibility"])
        frames, height, width = load_images(folder / "frames", occluded.shape[1])
        tracks = make_tracks(path, xy, ~occluded, np.ones_like(occluded), height=height, width=width)
        return TrackedClip(tracks, frames, clip_id=str(folder))
