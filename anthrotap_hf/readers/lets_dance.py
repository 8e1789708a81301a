"""The labels of people in Let's Dance videos that the AnthroTAP authors released."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

import cv2
import numpy as np

from anthrotap_hf.readers.base import (
    BadClipError,
    DatasetError,
    FilePath,
    Reader,
    load_labels,
    make_tracks,
    read_flags,
    read_points,
    sort_clips,
)
from anthrotap_hf.tracks import TrackedClip
from anthrotap_hf.utils.safe_pickle import array_of
from anthrotap_hf.video import VideoWriter, iter_frames, select_frames

FPS = 10


class LetsDanceClips(Reader):
    """One `.npy` for each video (Hub dataset hamacojr/AnthroTAP-LetsDance), holding a pickled dict.

    The dict has `tracks` [T, N, 2] xy in pixels of `video_size` (height, width), `occlusion` [T, N] bool, and
    `video_path`, with some machine's prefix before `lets_dance/`. Occluded and invalid labels are not distinguished:
    what is not visible is invalid. Files are read without running their pickles.

    Args:
        labels: a folder, searched with all folders below it.
        videos: the folder that holds `lets_dance/`, or is it, or its `mp4_10fps`; None where only labels are wanted:
            asking for frames then raises BadClipError.
        name: what messages call the dataset.
        short_side: scale frames down to at most this, pixels; None for their own size.
        cache: a folder for copies of the videos that are quick to read from the middle (see `make_quick_copy`), each
            made when its video is first used; None reads the videos themselves. For a long 1080p video, decoding from
            the last key frame on takes most of a sample's time.

    Raises:
        DatasetError: if a folder does not exist, or `labels` has no `.npy` file.
    """

    human = True
    knows_occlusion = False

    def __init__(
        self,
        labels: FilePath,
        videos: FilePath | None = None,
        name: str = "lets dance",
        *,
        short_side: int | None = None,
        cache: FilePath | None = None,
    ) -> None:
        self.name = name
        self.videos = None if videos is None else Path(videos)
        self.cache = None if cache is None else Path(cache)
        self.short_side = short_side
        if self.videos is not None and not self.videos.is_dir():
            raise DatasetError("no such folder of videos", path=videos)
        self.files = sort_clips(Path(labels).rglob("*.npy"), ".npy file", labels)

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> TrackedClip:
        path = self.files[index]
        labels = load_labels(path, ("tracks", "occlusion", "video_size", "video_path"))
        try:
            height, width = (int(side) for side in array_of(labels["video_size"]))
        except (TypeError, ValueError) as error:
            raise BadClipError("video_size is not (height, width)", path=path) from error
        xy, occluded = read_points(path, labels["tracks"]), read_flags(path, labels["occlusion"])
        visible = ~occluded.swapaxes(0, 1)
        tracks = make_tracks(path, xy.swapaxes(0, 1), visible, visible, height=height, width=width)
        video = self._find_video(path, labels["video_path"])
        return TrackedClip(tracks, partial(self._load_frames, path, video), FPS, str(path))

    def _load_frames(self, path: Path, video: Path | None, numbers: Sequence[int]) -> Iterator[np.ndarray]:
        if video is None:
            raise BadClipError("no folder of videos was given", path=path)
        if self.cache is not None:
            video = make_quick_copy(video, self.cache, self.short_side)
        yield from select_frames(video, numbers, self.short_side)

    def _find_video(self, path: Path, named: Any) -> Path | None:
        if self.videos is None:
            return None
        parts = PurePosixPath(str(named).replace("\\", "/")).parts
        if "lets_dance" not in parts or ".." in parts:
            raise BadClipError(f"video_path {named!r} does not name a file below lets_dance/", path=path)
        below = parts[len(parts) - parts[::-1].index("lets_dance") :]
        short = below[1:] if below[:1] == ("mp4_10fps",) else below
        tried = [self.videos.joinpath(*tail) for tail in (below, short, ("lets_dance", *below)) if tail]
        found = next((video for video in tried if video.is_file()), None)
        if found is None:
            raise BadClipError(f"no video {'/'.join(below)} in {self.videos}", path=path)
        return found


def make_quick_copy(video: Path, folder: Path, short_side: int | None) -> Path:
    """Return a video's copy in a folder, made if it is not there: the same frames, scaled, for reading anywhere.

    It has a key frame every 12 frames and is tuned for decoding: half of the usual time or less, for a tenth more
    bytes. Its name follows from path, size, time of change and scale, so that another video is never taken for it.

    Raises:
        VideoError: if the video cannot be read to its end.
    """
    stat = video.stat()
    key = f"{video.resolve()} {stat.st_size} {stat.st_mtime_ns} {short_side}"
    copy = folder / f"{video.stem}-{hashlib.sha256(key.encode()).hexdigest()[:16]}.mp4"
    if not copy.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        # Frames are asked for by number, so the copy's rate does not matter.
        with VideoWriter(copy, FPS, keyframe_every=12, tune="fastdecode") as writer:
            for frame in iter_frames(video, short_side):
                height, width = (side + side % 2 for side in frame.image.shape[:2])
                even = frame.image.shape[:2] == (height, width)
                writer.write(frame.image if even else cv2.resize(frame.image, (width, height)))
    return copy
