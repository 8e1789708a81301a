"""What `anthrotap track` and `anthrotap export` write of one video: tracks in a file, beside the video or not."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from anthrotap_hf.readers.base import BadClipError, DatasetError, FilePath, Reader, make_tracks
from anthrotap_hf.readers.exported_files import KINDS, NOT_READ_BACK, read_file, suffix_of
from anthrotap_hf.readers.points import open_video, videos_beside
from anthrotap_hf.tracks import TrackedClip
from anthrotap_hf.utils.errors import one_line
from anthrotap_hf.video import select_frames
from anthrotap_hf.video.images import natural_key


class TrackFileClips(Reader):
    """The tracks of one video, or of those in a folder; `person` is 0.

    Args:
        path: a `.tracks.npz` or `.tracks.json` of `anthrotap track`, or a `.pt`, `.txt` or `.py` of `anthrotap export`
            for CoTracker, After Effects or Blender (see `exported_files` for what each keeps); or a folder of such
            files, of which those of the first kind in this list are taken.
        video: the video that was tracked. By default NAME.mp4 (or another video, or a folder NAME of images) beside the
            file; there are labels only if there is none. A `.pt` needs it: it does not hold the size.

    Raises:
        DatasetError: if there is no such file, or none in the folder, or one that holds too little.
    """

    def __init__(self, path: FilePath, video: FilePath | None = None) -> None:
        path = Path(path)
        self.video = None if video is None else Path(video)
        self.files = _find_files(path)
        self.name = _stem(path)

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> TrackedClip:
        path = self.files[index]
        name = _stem(path)
        # The script for Blender has the video of a row beside it as NAME.clip.mp4.
        beside = [self.video] if self.video else videos_beside(path, name) or videos_beside(path, f"{name}.clip")
        video: Any = beside[0] if beside else None
        size = num_frames = None
        if video is not None and suffix_of(path) in (".pt", ".py"):
            _, num_frames, *size = open_video(video)
        if video is not None and video.is_dir():
            video = partial(select_frames, video)
        arrays = read_file(path, num_frames)
        if size is None and "size" not in arrays:
            hint = f"put the video beside it as {name}.mp4, or name the video"
            raise BadClipError("the size of its frames is not in it, and no video", path=path, hint=hint)
        try:
            visible, valid = (np.asarray(arrays[key]).astype(bool) for key in ("visible", "valid"))
            xy = np.asarray(arrays["tracks"]).astype(np.float32)
            height, width = map(int, arrays["size"]) if "size" in arrays else size  # type: ignore[misc]
            times = np.asarray(arrays["times"], np.float64) if "times" in arrays else None
            fps = float(arrays["fps"]) if "fps" in arrays else None
        except (TypeError, ValueError, IndexError) as error:
            raise BadClipError(f"no tracks of `anthrotap track` or `export` ({one_line(error)})", path=path) from error
        if times is not None and (times.shape != visible.shape[1:] or not np.isfinite(times).all()):
            raise BadClipError(f"its times must be one finite number a frame, got {list(times.shape)}", path=path)
        tracks = make_tracks(path, xy, visible, valid, height=height, width=width)
        return TrackedClip(tracks, video, fps, name, info={} if times is None else {"times": times})


def _find_files(path: Path) -> list[Path]:
    for name, reason in NOT_READ_BACK.items():
        if path.name.endswith(name) or (path / name).is_file():
            hint = "export to another format too: csv, tapvid, cotracker and blender are read back"
            raise DatasetError(f"it can't be read back: {reason}", path=path, hint=hint)
    if not path.is_dir():
        if path.is_file():
            return [path]
        hint = f"name a {', '.join(KINDS)} of `anthrotap track` or `export`"
        raise DatasetError("no such file", path=path, hint=hint)
    for suffix in KINDS:
        if files := sorted(path.glob(f"*{suffix}"), key=natural_key):
            return files
    raise DatasetError(f"no {', '.join(KINDS)} in this folder", path=path)


def _stem(path: Path) -> str:
    suffix = next((suffix for suffix in KINDS if path.name.endswith(suffix)), path.suffix)
    return path.name.removesuffix(suffix)
