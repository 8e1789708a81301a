"""EgoPoints (Darkhalil et al., WACV 2025): points in videos of head-mounted cameras, which often leave the frame."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from anthrotap_hf.readers.base import (
    BadClipError,
    FilePath,
    Reader,
    load_images,
    load_labels,
    make_tracks,
    read_flags,
    read_points,
    sort_clips,
)
from anthrotap_hf.tracks import TrackedClip, fill_invalid

FLAGS = ("valids", "visibs", "vis_valids", "out_of_view", "occluded")


class EgoPointsClips(Reader):
    """Clips in folders, each with `annot.npz` and images in `rgbs/`.

    The file holds `trajs_2d` [T, N, 2] xy in pixels, and flags [T, N] (egopoints_dataloader.py of
    AhmadDarKhalil/EgoPoints): `valids` (the position is known), `visibs`, `vis_valids` (whether `visibs` is known),
    `out_of_view` and `occluded`. A label is valid if any of `valids`, `out_of_view` and `occluded` says what it is.
    It is visible if its position is known, and nothing says that it is hidden.

    The `info` of a clip has, each [N, T] bool, `position_known`, `out_of_view` and `occluded`: `evaluate` takes
    EgoPoints' own figures from them. Query frame 0 (mode "start"), as the benchmark does.

    Args:
        folder: the folder of sequences.
        name: what messages call the dataset.

    Raises:
        DatasetError: if there is no sequence in the folder.
    """

    def __init__(self, folder: FilePath, name: str = "egopoints") -> None:
        self.name = name
        self.clips = sort_clips(
            (path.parent for path in Path(folder).glob("*/annot.npz")), "clip laid out as NAME/annot.npz", folder
        )

    def __len__(self) -> int:
        return len(self.clips)

    def __getitem__(self, index: int) -> TrackedClip:
        folder = self.clips[index]
        path = folder / "annot.npz"
        labels = load_labels(path, ("trajs_2d", *FLAGS))
        xy = read_points(path, labels["trajs_2d"]).swapaxes(0, 1)
        flags = [read_flags(path, labels[key]).swapaxes(0, 1) for key in FLAGS]
        if {xy.shape[:2]} != {flag.shape for flag in flags}:
            raise BadClipError("its points and flags differ in shape", path=path)
        known, visible, visibility_known, away, occluded = flags
        known = known & np.isfinite(xy).all(-1)
        visible = known & ~away & ~occluded & (visible | ~visibility_known)
        # What is known to be hidden is scored for that, wherever it is.
        valid = known | away | occluded
        frames, height, width = load_images(folder / "rgbs", visible.shape[1])
        tracks = make_tracks(path, fill_invalid(xy, known), visible, valid, height=height, width=width)
        info = {"position_known": known, "out_of_view": away, "occluded": occluded}
        return TrackedClip(tracks, frames, clip_id=folder.name, info=info)
