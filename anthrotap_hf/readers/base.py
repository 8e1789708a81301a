"""What all readers share: the protocol, the errors, and checks of what is in somebody else's files."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, Self

import cv2
import numpy as np
from PIL import Image

from anthrotap_hf.tracks import FrameLoader, TrackedClip, Tracks
from anthrotap_hf.utils.errors import AnthroTapError
from anthrotap_hf.utils.safe_npz import safe_load_npz
from anthrotap_hf.utils.safe_pickle import UnsafeFileError, array_of, safe_load_npy
from anthrotap_hf.video import VideoError
from anthrotap_hf.video.containers import check_size
from anthrotap_hf.video.images import IMAGE_DAMAGE, natural_key, natural_path_key

FilePath = str | os.PathLike[str]

SHORT_SIDE = 540
"""Pixels that training scales the shorter side of frames to, at most. It happens by area while colors are converted,
which costs nothing, and without it a warp that shrinks much would alias."""


class DatasetError(AnthroTapError):
    """A dataset or a part of it cannot be used."""


class BadClipError(DatasetError):
    """One clip of a dataset cannot be used; the others may."""


BAD_CLIP = (BadClipError, VideoError, OSError)
"""What may be wrong with one clip. Any other exception is a fault of ours."""


class Reader(Protocol):
    """Clips with point tracks in one layout of files. Readers subclass this and inherit the defaults.

    Frames are decoded when they are asked for; a layout that does not store sizes or numbers of frames decodes earlier
    what it needs to know them.

    Attributes:
        name: what messages and batches call the dataset.
        human: whether all tracks lie on people.
        knows_occlusion: whether occluded labels are distinguished from invalid ones.
        knows_person: whether `Tracks.person` distinguishes people.
        has_flow: whether clips come with flow's chains from every label that may be a query, as `info["flow"]`
            (`anthrotap_hf.readers.prepared.FlowChains`).
        window: None where clips are read in any order. Otherwise reading in order is cheap, and reading any of the
            last `window` clips again is, too.
    """

    name: str
    human: bool = False
    knows_occlusion: bool = True
    knows_person: bool = False
    has_flow: bool = False
    window: int | None = None

    @classmethod
    def open(cls, data: FilePath, labels_only: bool = False) -> Self:
        """Open the dataset at a path with the defaults; with `labels_only`, clips may come without their videos.

        Raises:
            DatasetError: if there is no dataset of this layout.
            ShardError: the same, of our own shards (`ShardClips`).
        """
        return cls(data)  # type: ignore[call-arg]

    def longest(self) -> int | None:
        """Return the number of frames of the longest clip, where that is known without reading the clips; else None."""
        return None

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> TrackedClip:
        """Return one clip.

        Raises:
            IndexError: past the end.
            BadClipError, VideoError, OSError: if this clip cannot be used.
        """
        ...

    def __iter__(self) -> Iterator[TrackedClip]:
        return (self[index] for index in range(len(self)))


def sort_clips(found: Iterable[Path], wanted: str, folder: FilePath) -> list[Path]:
    """Return the files or folders that were found in a dataset's folder, in natural order of their names.

    Args:
        found: the files or folders; those of one name in several folders are sorted by their folders.
        wanted: what they are, for the message: "clip laid out as NAME/annot.npz".
        folder: where they were looked for.

    Raises:
        DatasetError: if none was found.
    """
    clips = sorted(found, key=natural_path_key)
    if not clips:
        raise DatasetError(f"no {wanted} in this folder", path=folder)
    return clips


def make_tracks(
    path: FilePath, xy: np.ndarray, visible: np.ndarray, valid: np.ndarray, *, height: int, width: int
) -> Tracks:
    """Return `Tracks` of labels out of a file.

    Raises:
        BadClipError: if shapes disagree, frames have no pixels, or a valid label has no finite position.
    """
    if min(height, width) < 1:
        raise BadClipError(f"its frames are {width}x{height} pixels", path=path)
    try:
        return Tracks.from_labels(xy, visible, valid, height=height, width=width)
    except ValueError as error:
        raise BadClipError(error, path=path) from error


def load_labels(path: Path, keys: Sequence[str], optional: Sequence[str] = ()) -> Mapping[str, Any]:
    """Return what a file holds under these keys: an `.npz`, or an `.npy` with a dict, whose pickle is not run.

    Those of `optional` may be missing.

    Raises:
        BadClipError: if the file is damaged, or lacks one of the keys.
    """
    try:
        labels = safe_load_npz(path, [*keys, *optional]) if path.suffix == ".npz" else safe_load_npy(path)
    except UnsafeFileError as error:
        raise BadClipError(error.reason, path=path, hint="fetch it again from where it is published") from error
    return require_keys(path, labels, keys)


def require_keys(path: Path, labels: Any, keys: Sequence[str]) -> Mapping[str, Any]:
    """Return `labels`; raise BadClipError if it is no dict with these keys."""
    found: Mapping[str, Any] = labels if isinstance(labels, Mapping) else {}
    if missing := [key for key in keys if key not in found]:
        raise BadClipError(f"its labels have no {', '.join(missing)}", path=path)
    return found


def read_points(path: FilePath, value: Any) -> np.ndarray:
    """Return points [A, B, 2] as float32; raise BadClipError for anything else."""
    points = _read_array(path, value, "points")
    if points.dtype.kind not in "fiu" or points.shape[2:] != (2,):
        raise BadClipError(f"its points are {points.dtype} {list(points.shape)}, not numbers [.., .., 2]", path=path)
    # A number too large for float32 becomes infinite, and so no position.
    with np.errstate(over="ignore"):
        return points.astype(np.float32, copy=False)


def read_flags(path: FilePath, value: Any) -> np.ndarray:
    """Return flags [A, B] as bool; raise BadClipError for anything else."""
    flags = _read_array(path, value, "flags of visibility")
    if flags.ndim != 2:
        raise BadClipError(f"its flags of visibility are {list(flags.shape)}, not a table", path=path)
    return flags.astype(bool)


def _read_array(path: FilePath, value: Any, what: str) -> np.ndarray:
    try:
        return array_of(value)
    except UnsafeFileError as error:
        raise BadClipError(f"its {what} are {error.reason}", path=path) from error


def load_images(folder: Path, num_frames: int) -> tuple[FrameLoader, int, int]:
    """Return a loader of the images in a folder (.png or .jpg, in natural order of their names), and height and width
    of the first.

    Raises:
        BadClipError: if there are none, or of both kinds, or not `num_frames`.
    """
    kinds = [[*folder.glob(f"*.{kind}")] for kind in ("png", "jpg")]
    if sum(map(bool, kinds)) != 1:
        raise BadClipError("no images, or of two kinds (.png and .jpg)", path=folder)
    files = sorted(kinds[0] or kinds[1], key=natural_key)
    if len(files) != num_frames:
        raise BadClipError(f"{len(files)} images, but labels of {num_frames} frames", path=folder)
    height, width = _read_image(files[0]).shape[:2]

    def load(numbers: Sequence[int]) -> Iterator[np.ndarray]:
        return (_read_image(files[number]) for number in numbers)

    return load, height, width


def _read_image(path: Path) -> np.ndarray:
    """Return an image file as [H, W, 3] uint8 RGB."""
    try:
        with Image.open(path) as header:
            check_size(*header.size, str(path))
        image = cv2.imread(str(path), cv2.IMREAD_COLOR)
    except VideoError as error:
        raise BadClipError(error.reason, path=path) from error
    except (*IMAGE_DAMAGE, cv2.error):
        image = None
    if image is None:
        raise BadClipError("not a readable image", path=path)
    rgb: np.ndarray = cv2.cvtColor(image, cv2.COLOR_BGR2RGB)
    return rgb
