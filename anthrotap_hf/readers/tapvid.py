"""TAP-Vid's pickles (Doersch et al., NeurIPS 2022): DAVIS, RGB-Stacking, Kinetics, RoboTAP."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from anthrotap_hf.readers.base import (
    BadClipError,
    DatasetError,
    FilePath,
    Reader,
    make_tracks,
)
from anthrotap_hf.tracks import FrameLoader, TrackedClip, fill_invalid
from anthrotap_hf.utils.file_limits import check_clip_size
from anthrotap_hf.utils.safe_npz import safe_load_npz
from anthrotap_hf.utils.safe_pickle import array_of, bytes_of, items_of, safe_load
from anthrotap_hf.video import decode_image
from anthrotap_hf.video.images import natural_key

_PARTS = ("video", "points", "occluded")
# What `anthrotap track` and mesh recovery write into the same folder: no videos of TAP-Vid.
OWN_RESULTS = (".tracks.npz", ".meshes.npz")
_WHICH = "name TAP-Vid's pickle or the folder of its shards"


class TapVidClips(Reader):
    """The videos of a TAP-Vid pickle, or of a folder of such pickles, read without running anything that is in them.

    Every published layout is taken: a dict of videos by name (DAVIS, RoboTAP) or a list of them (RGB-Stacking,
    Kinetics), in one file or in several. Each video is a dict of

    - `video`: [T, H, W, 3] uint8 RGB; or T encoded images, as Kinetics has them, in a list or an array (of bytes or of
      objects),
    - `points`: [N, T, 2] xy as fractions of width and height, which TAP-Vid's own reader multiplies by the size of the
      resized frames: raster pixels, as here. Pixels are refused. The tracks are float64, so that they lose nothing.
    - `occluded`: [N, T] bool.

    The `.npz` that `anthrotap export --format tapvid` writes of a clip with its video is read as well, with its `valid`
    and `fps`. Pickles are mapped into memory: frames are views of them, or decoded when asked for. All labels of
    pickles are valid.

    Args:
        path: a `.pkl` or `.npz`, or a folder with some.

    Raises:
        DatasetError: if there is no such file, or one is damaged, laid out otherwise or asks for code.
    """

    def __init__(self, path: FilePath) -> None:
        self.name = str(path)
        self._videos: dict[str, tuple[Path, Any]] = {}
        for file in _pickles(Path(path)):
            for name, content in _load_videos(file).items():
                if name in self._videos:
                    raise DatasetError(f"a second video called {name}", path=file, hint="leave one of the files out")
                self._videos[name] = file, content
        self._names = list(self._videos)

    def __len__(self) -> int:
        return len(self._names)

    def __getitem__(self, index: int) -> TrackedClip:
        name = self._names[index]
        file, content = self._videos[name]
        try:
            return _read_video(name, file, safe_load_npz(file) if content is None else content)
        except ValueError as error:
            reason = getattr(error, "reason", error)
            raise BadClipError(
                f"video {name}: {reason}", path=file, hint="is it a TAP-Vid pickle, whole and unchanged?"
            ) from error


def read_tapvid(path: FilePath) -> Iterator[TrackedClip]:
    """Yield the videos of a TAP-Vid pickle or of a folder of them; see `TapVidClips` for layouts and errors."""
    return iter(TapVidClips(path))


def _pickles(path: Path) -> list[Path]:
    if path.is_dir():
        found = (f for f in path.iterdir() if f.suffix in (".pkl", ".npz") and not f.name.endswith(OWN_RESULTS))
        files = sorted((file for file in found if file.is_file()), key=natural_key)
        if not files:
            raise DatasetError("no .pkl in this folder", path=path, hint=_WHICH)
        return files
    if not path.is_file():
        raise DatasetError("no such file or folder", path=path, hint=_WHICH)
    return [path]


def _load_videos(file: Path) -> dict[str, Any]:
    """Return what a file holds of each video, by name; None of an `.npz`, which is read when it is asked for."""
    if file.suffix == ".npz":
        return {file.stem: None}
    try:
        content = safe_load(file)
    except ValueError as error:
        raise DatasetError(
            getattr(error, "reason", error),
            path=file,
            hint="TAP-Vid's pickles hold arrays only: fetch the file again from where it is published",
        ) from error
    except OSError as error:
        raise DatasetError(f"can't be read ({error.strerror})", path=file) from error
    if isinstance(content, list | tuple):
        content = {f"{file.stem}-{number:04d}": each for number, each in enumerate(content)}
    if not isinstance(content, dict):
        raise DatasetError(
            f"it holds a {type(content).__name__}, not a dict or list of videos as TAP-Vid's pickles do",
            path=file,
        )
    if not content:
        raise DatasetError("it holds no video", path=file, hint="leave it out, or fetch it again")
    if set(_PARTS) <= set(content):
        # A single video that is not wrapped in a dict.
        content = {file.stem: content}
    return {str(name): each for name, each in content.items()}


def _read_video(name: str, file: Path, content: Any) -> TrackedClip:
    missing = [part for part in _PARTS if not isinstance(content, Mapping) or part not in content]
    if missing:
        raise ValueError(f"it has no {' and no '.join(missing)}")
    points, occluded = array_of(content["points"]), array_of(content["occluded"]) != 0
    video, num_frames = _frames(name, file, content["video"])
    if not num_frames:
        raise ValueError("video has no frame")
    check_clip_size(num_frames)
    shape = (points.shape[0] if points.ndim else 0, num_frames)
    if points.shape != (*shape, 2) or occluded.shape != shape:
        raise ValueError(
            f"points must be [N, T, 2] and occluded [N, T] with T = {num_frames} frames, got "
            f"{list(points.shape)} and {list(occluded.shape)}"
        )
    first = video[0] if isinstance(video, np.ndarray) else next(video([0]))
    height, width = first.shape[:2]
    check_clip_size(num_frames, height, width)
    finite = np.isfinite(points).all(-1)
    if not finite[~occluded].all():
        raise ValueError("a visible point has no finite position")
    _check_fractions(points[~occluded], height, width)
    xy = points.astype(np.float64) * [width, height]
    # Occluded points may lie anywhere: their visibility is scored, their position is not.
    xy = fill_invalid(xy, finite)
    valid = np.ones_like(occluded)
    known = ~occluded
    if "valid" in content:
        # Our own files say which labels are valid, and give positions of occluded points too.
        known = valid = array_of(content["valid"]) != 0
    tracks = make_tracks(file, xy, ~occluded, valid, height=height, width=width)
    fps = float(content["fps"]) if file.suffix == ".npz" and "fps" in content else None
    return TrackedClip(tracks, video, fps, name, info={"position_known": known})


def _check_fractions(points: np.ndarray, height: int, width: int) -> None:
    """Raise ValueError if visible points [M, 2] cannot be fractions of the frame, as pixels cannot.

    Annotators leave visible points a hair out of frame, but none half a frame away from it.
    """
    if points.size and not (points.min() >= -0.5 and points.max() <= 1.5):
        raise ValueError(
            f"its points must be fractions of width and height, from 0 to 1; visible ones go from {points.min():g} to "
            f"{points.max():g}, as pixels would: divide x by {width} and y by {height}"
        )


def _frames(name: str, file: Path, video: Any) -> tuple[np.ndarray | FrameLoader, int]:
    """Return what `TrackedClip.video` takes, and the number of frames."""
    images = items_of(video)
    if images is not None:
        return partial(_load_images, name, file, images), len(images)
    frames = array_of(video)
    if frames.ndim != 4 or frames.shape[3] != 3 or frames.dtype != np.uint8 or 0 in frames.shape[1:]:
        raise ValueError(f"video must be [T, H, W, 3] uint8, got {frames.dtype} {list(frames.shape)}")
    return frames, len(frames)


def _load_images(name: str, file: Path, images: Sequence[Any], numbers: Sequence[int]) -> Iterator[np.ndarray]:
    """Yield frames [H, W, 3] uint8 RGB, each an encoded image or an array, all of the first one's size."""
    shape = None
    for number in numbers:
        try:
            encoded = bytes_of(images[number])
            frame = array_of(images[number]) if encoded is None else decode_image(io.BytesIO(encoded))
            if frame.ndim != 3 or frame.shape[2] != 3 or frame.dtype != np.uint8 or 0 in frame.shape:
                raise ValueError(f"must be [H, W, 3] uint8, got {frame.dtype} {list(frame.shape)}")
            shape = shape or frame.shape
            if frame.shape != shape:
                raise ValueError(f"is {list(frame.shape)}, an earlier one is {list(shape)}")
        except ValueError as error:
            raise BadClipError(f"video {name}: frame {number}: {error}", path=file) from error
        yield frame
