"""DriveTrack (Balasingam et al., CVPR 2024)."""

from __future__ import annotations

import struct
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path

import cv2
import numpy as np

from anthrotap_hf.readers.base import (
    BadClipError,
    FilePath,
    Reader,
    make_tracks,
    read_flags,
    read_points,
    require_keys,
    sort_clips,
)
from anthrotap_hf.tracks import TrackedClip
from anthrotap_hf.utils.errors import one_line
from anthrotap_hf.utils.safe_pickle import DAMAGE, read_npy_header


class DriveTrackClips(Reader):
    """One `.npz` for each vehicle, with its tracks and its video.

    Everybody with access to the Waymo Open Dataset makes these files by generate_drivetrack.py of arjunvb/drivetrack:
    `video` [T, 1280, 1920, 3] uint8 RGB, `tracks` [N, T, 2] xy pixels, `visibles` [N, T]; `depths` and `points3d` are
    not read. A point that is not visible may be occluded, out of the frame or behind the camera, which the files do
    not tell apart: what is not visible is invalid. Frames are views of the file, which must not be compressed.

    Args:
        folder: searched with all folders below it.
        name: what messages call the dataset.
        short_side: scale frames down to at most this, pixels; None for their own size.
        num_tracks: largest number of tracks of a clip; of more, every k-th is taken.

    Raises:
        DatasetError: if there is no `.npz` file.
    """

    knows_occlusion = False

    def __init__(
        self,
        folder: FilePath,
        name: str = "drivetrack",
        *,
        short_side: int | None = None,
        num_tracks: int = 8192,
    ) -> None:
        if num_tracks < 1:
            raise ValueError(f"num_tracks must be at least 1, got {num_tracks}")
        self.name = name
        self.short_side = short_side
        self.num_tracks = num_tracks
        self.files = sort_clips(Path(folder).rglob("*.npz"), ".npz file", folder)

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> TrackedClip:
        path = self.files[index]
        keys = ("video", "tracks", "visibles")
        try:
            found = _map_arrays(path, keys)
        except DAMAGE as error:
            raise BadClipError(f"not a readable .npz file ({one_line(error)})", path=path) from error
        labels = require_keys(path, found, keys)
        video = labels["video"]
        if video.dtype != np.uint8 or video.ndim != 4 or video.shape[3] != 3:
            raise BadClipError(f"its video is {video.dtype} {list(video.shape)}, not uint8 [T, H, W, 3]", path=path)
        if labels["tracks"].shape[1:2] != video.shape[:1]:
            raise BadClipError(f"{len(video)} frames, but tracks {list(labels['tracks'].shape)}", path=path)
        _, height, width, _ = video.shape
        every = slice(None, None, -(-len(labels["tracks"]) // self.num_tracks) or 1)
        xy, visible = read_points(path, labels["tracks"][every]), read_flags(path, labels["visibles"][every])
        if xy.shape[:2] == visible.shape:
            visible = visible & ((xy >= 0) & (xy < (width, height))).all(-1)
        tracks = make_tracks(path, xy, visible, visible, height=height, width=width)
        scale = 1.0 if self.short_side is None else self.short_side / min(height, width)
        return TrackedClip(tracks, video if scale >= 1 else partial(_scaled, video, scale), clip_id=str(path))


def _scaled(video: np.ndarray, scale: float, numbers: Sequence[int]) -> Iterator[np.ndarray]:
    """Yield the frames with these numbers, shrunk by area."""
    for number in numbers:
        yield cv2.resize(video[number], None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)


def _map_arrays(path: Path, names: Iterable[str]) -> dict[str, np.ndarray]:
    """Return the named arrays of an uncompressed `.npz` as views of the file, without those that it lacks."""
    found: dict[str, np.ndarray] = {}
    with zipfile.ZipFile(path) as archive, path.open("rb") as file:
        for name in {f"{name}.npy" for name in names} & {*archive.namelist()}:
            member = archive.getinfo(name)
            if member.compress_type != zipfile.ZIP_STORED:
                raise ValueError("it is compressed: write it anew by numpy.savez")
            # The local header has lengths of its own for name and extra field, at bytes 26 to 29.
            file.seek(member.header_offset + 26)
            start = member.header_offset + 30 + sum(struct.unpack("<HH", file.read(4)))
            file.seek(start)
            shape, fortran, dtype = read_npy_header(file)
            if dtype.hasobject or file.tell() + dtype.itemsize * np.prod(shape) > start + member.file_size:
                raise ValueError(f"{name} is no array of numbers, or not whole")
            found[name.removesuffix(".npy")] = np.memmap(path, dtype, "r", file.tell(), shape, "F" if fortran else "C")
    return found
