"""The `.tracks.npz` that `anthrotap track` writes of one video."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from anthrotap_hf.readers.base import (
    BadClipError,
    DatasetError,
    FilePath,
    Reader,
    load_labels,
    make_tracks,
)
from anthrotap_hf.readers.points import videos_beside
from anthrotap_hf.tracks import TrackedClip
from anthrotap_hf.video import select_frames
from anthrotap_hf.video.images import natural_key

SUFFIX = ".tracks.npz"


class TrackFileClips(Reader):
    """The tracks of one video, or of those in a folder. Labels with a finite position are valid; `person` is 0.

    Args:
        path: a `.npz`, or a folder of `NAME.tracks.npz`.
        video: the video that was tracked. By default NAME.mp4 (or another video, or a folder NAME of images) beside the
            file; there are labels only if there is none.

    Raises:
        DatasetError: if there is no such file, or none in the folder.
    """

    def __init__(self, path: FilePath, video: FilePath | None = None) -> None:
        path = Path(path)
        self.name = path.name.removesuffix(SUFFIX).removesuffix(".npz")
        self.video = None if video is None else Path(video)
        self.files = sorted(path.glob(f"*{SUFFIX}"), key=natural_key) if path.is_dir() else [path]
        if not self.files or not self.files[0].is_file():
            reason = f"no {SUFFIX} in this folder" if path.is_dir() else "no such file"
            raise DatasetError(reason, path=path, hint=f"name a {SUFFIX} of `anthrotap track`")

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> TrackedClip:
        path = self.files[index]
        name = path.name.removesuffix(SUFFIX).removesuffix(".npz")
        beside = videos_beside(path, name) if self.video is None else [self.video]
        video: Any = beside[0] if beside else None
        if video is not None and video.is_dir():
            video = partial(select_frames, video)
        arrays = load_labels(path, ("tracks", "visible", "size", "fps"), ("times",))
        try:
            xy, visible = arrays["tracks"].astype(np.float32), arrays["visible"].astype(bool)
            height, width = arrays["size"].tolist()
            times = arrays["times"].astype(np.float64) if "times" in arrays else None
            fps, valid = float(arrays["fps"]), np.isfinite(xy).all(-1)
        except (TypeError, ValueError) as error:
            raise BadClipError(f"no {SUFFIX} of `anthrotap track` ({error})", path=path) from error
        if times is not None and (times.shape != visible.shape[1:] or not np.isfinite(times).all()):
            raise BadClipError(f"its times must be one finite number a frame, got {list(times.shape)}", path=path)
        tracks = make_tracks(path, xy, visible, valid, height=height, width=width)
        return TrackedClip(tracks, video, fps, name, info={} if times is None else {"times": times})
