"""The `.tracks.npz` that `anthrotap track` writes of one video."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from anthrotap_hf.readers.base import (
    BadClipError,
    DatasetError,
    FilePath,
    Reader,
    load_labels,
    make_tracks,
)
from anthrotap_hf.tracks import TrackedClip

SUFFIX = ".tracks.npz"


class TrackFileClips(Reader):
    """One clip: the tracks of one video. Labels with a finite position are valid; `person` is 0.

    Args:
        path: the `.npz`.
        video: the video that was tracked, where frames are wanted.

    Raises:
        DatasetError: if there is no such file.
    """

    def __init__(self, path: FilePath, video: FilePath | None = None) -> None:
        self.path = Path(path)
        self.name = self.path.name.removesuffix(SUFFIX).removesuffix(".npz")
        self.video = None if video is None else Path(video)
        if not self.path.is_file():
            raise DatasetError("no such file", path=path, hint=f"name a {SUFFIX} of `anthrotap track`")

    def __len__(self) -> int:
        return 1

    def __getitem__(self, index: int) -> TrackedClip:
        if index:
            raise IndexError(f"clip {index} of 1")
        arrays = load_labels(self.path, ("tracks", "visible", "size", "fps"), ("times",))
        try:
            xy, visible = arrays["tracks"].astype(np.float32), arrays["visible"].astype(bool)
            height, width = arrays["size"].tolist()
            times = arrays["times"].astype(np.float64) if "times" in arrays else None
            fps, valid = float(arrays["fps"]), np.isfinite(xy).all(-1)
        except (TypeError, ValueError) as error:
            raise BadClipError(f"no {SUFFIX} of `anthrotap track` ({error})", path=self.path) from error
        if times is not None and (times.shape != visible.shape[1:] or not np.isfinite(times).all()):
            raise BadClipError(f"its times must be one finite number a frame, got {list(times.shape)}", path=self.path)
        tracks = make_tracks(self.path, xy, visible, valid, height=height, width=width)
        return TrackedClip(tracks, self.video, fps, self.name, info={} if times is None else {"times": times})
