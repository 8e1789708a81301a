"""Dynamic Replica (Karaev et al., CVPR 2023), with point tracks as CoTracker trains and tests on them."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from anthrotap_hf.readers.base import (
    BadClipError,
    DatasetError,
    FilePath,
    Reader,
    make_tracks,
    read_flags,
    read_points,
)
from anthrotap_hf.tracks import TrackedClip
from anthrotap_hf.utils.errors import AnthroTapError, one_line
from anthrotap_hf.utils.file_limits import MAX_EXPANDED_BYTES, FileLimitError, check_clip_size, parse_json

CAMERA = "left"


class DynamicReplicaClips(Reader):
    """Sequences that `SPLIT/frame_annotations_SPLIT.jgz` lists, with a `.pth` for each frame.

    The list is gzipped JSON with an entry for each frame and camera: `sequence_name`, `frame_number`, `camera_name`
    and `trajectories` {"path": of the .pth, below the split's folder}. The .pth holds `traj_2d` [N, 2 or more] (x and
    y in pixels come first), `verts_inds_vis` [N] and the frame, `img` [H, W, 3]
    (cotracker/datasets/dr_dataset.py of facebookresearch/co-tracker). It is read without running code. As there, only
    the left camera is taken, all labels are valid, and what lies outside the frame is not visible.

    Args:
        folder: the dataset's folder, or that of a split.
        name: what messages call the dataset.
        num_tracks: largest number of tracks of a sequence, evenly chosen of all.

    Raises:
        DatasetError: if there is no list of frames, or one that can't be read.
    """

    def __init__(self, folder: FilePath, name: str = "dynamic replica", num_tracks: int = 2048) -> None:
        self.name = name
        self.num_tracks = num_tracks
        pattern = "frame_annotations_*.jgz"
        lists = sorted([*Path(folder).glob(pattern), *Path(folder).glob(f"*/{pattern}")])
        if not lists:
            raise DatasetError(f"no {pattern} in this folder or in that of a split", path=folder)
        # The files of each sequence's frames, in order.
        self.clips: dict[tuple[Path, str], list[Path]] = {}
        for path in lists:
            for name, files in _sequences(path).items():
                self.clips[path.parent, name] = files
        self._keys = list(self.clips)

    def __len__(self) -> int:
        return len(self._keys)

    def __getitem__(self, index: int) -> TrackedClip:
        folder, name = self._keys[index]
        files = self.clips[folder, name]
        try:
            check_clip_size(len(files))
        except FileLimitError as error:
            raise BadClipError(error.reason, path=folder / name) from error
        height, width = _image(files[0], _load(files[0])).shape[:2]
        frames = [_labels(file) for file in files]
        if len({len(points) for points, _ in frames}) > 1:
            raise BadClipError("its frames have different numbers of points", path=folder / name)
        every = slice(None, None, -(-len(frames[0][0]) // self.num_tracks) or 1)
        xy, visible = ([each[every] for each in arrays] for arrays in zip(*frames, strict=True))
        tracks = np.stack(xy, 1)
        finite = np.isfinite(tracks).all(-1)
        with np.errstate(invalid="ignore"):
            inside = ((tracks >= 0) & (tracks <= (width, height))).all(-1)
        labels = make_tracks(folder / name, tracks, np.stack(visible, 1) & inside, finite, height=height, width=width)
        return TrackedClip(labels, partial(_frames, files), clip_id=name)


def _sequences(path: Path) -> dict[str, list[Path]]:
    """Return the frames' files of each sequence in a list of frames."""
    try:
        with gzip.open(path) as file:
            content = file.read(MAX_EXPANDED_BYTES + 1)
        entries = parse_json(content, MAX_EXPANDED_BYTES)
        found: dict[str, dict[int, Path]] = {}
        for entry in entries:
            if entry.get("camera_name") != CAMERA or not entry.get("trajectories"):
                continue
            name, number = str(entry["sequence_name"]), int(entry["frame_number"])
            below = PurePosixPath(entry["trajectories"]["path"])
            if below.is_absolute() or ".." in below.parts:
                raise DatasetError(f"it names a file outside its folder: {below}", path=path)
            found.setdefault(name, {})[number] = path.parent / below
    except FileLimitError as error:
        raise DatasetError(error.reason, path=path) from error
    except DatasetError:
        raise
    except (gzip.BadGzipFile, zlib.error, EOFError) as error:
        raise DatasetError("it is no gzipped file, or a damaged one", path=path, hint="fetch it again") from error
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise DatasetError("it is no list of frames with trajectories", path=path) from error
    if not found:
        raise DatasetError(f"it lists no frame of the {CAMERA} camera with trajectories", path=path)
    return {name: [files[number] for number in sorted(files)] for name, files in found.items()}


def _load(path: Path) -> dict[str, Any]:
    from anthrotap_hf.utils.checkpoints import load_torch

    try:
        content = load_torch(path)
    except AnthroTapError as error:
        raise BadClipError(error.reason, path=path, hint="fetch it again from where it is published") from error
    missing = [key for key in ("traj_2d", "verts_inds_vis", "img") if not hasattr(_entry(content, key), "numpy")]
    if missing:
        raise BadClipError(f"it holds no tensor {', '.join(missing)}", path=path)
    try:
        return {key: content[key].detach().numpy() for key in ("traj_2d", "verts_inds_vis", "img")}
    except (AttributeError, RuntimeError, TypeError) as error:
        # numpy has no bfloat16, and no sparse or quantized arrays.
        raise BadClipError(f"a tensor in it is no array of plain numbers ({one_line(error)})", path=path) from error


def _labels(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Return the points [N, 2] of a frame and their flags of visibility [N]."""
    content = _load(path)
    points = read_points(path, content["traj_2d"][None, ..., :2])[0]
    flags = read_flags(path, content["verts_inds_vis"][None])[0]
    if len(points) != len(flags):
        raise BadClipError(f"{len(points)} points, but {len(flags)} flags of visibility", path=path)
    return points, flags


def _entry(content: Any, key: str) -> Any:
    return content.get(key) if isinstance(content, dict) else None


def _image(path: Path, content: dict[str, Any]) -> np.ndarray:
    """Return a frame [H, W, 3] uint8."""
    image: np.ndarray = content["img"]
    if image.ndim != 3 or image.shape[2] != 3 or 0 in image.shape:
        raise BadClipError(f"its img is {image.dtype} {list(image.shape)}, not [H, W, 3]", path=path)
    return image.astype(np.uint8)


def _frames(files: Sequence[Path], numbers: Sequence[int]) -> Iterator[np.ndarray]:
    return (_image(files[number], _load(files[number])) for number in numbers)
