"""Where labeled clips come from. Every source says whether its labels are on people, and gives `LabeledClip`s.

Map-style sources (`ClipSource`) know their length and give any clip. A stream (`ClipStream`) has no end; near the place
where it was read last any clip can be had, so that a training step may draw from a window of it.
"""

from __future__ import annotations

import hashlib
import os
import struct
import tokenize
import zipfile
import zlib
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any, Protocol, runtime_checkable

import cv2
import numpy as np

from anthrotap_hf.data.shard_reader import DamagedShardError, ShardReader, check_columns
from anthrotap_hf.schema import decode_tracks, video_source
from anthrotap_hf.training.samples import BadSampleError, LabeledClip
from anthrotap_hf.utils.safe_pickle import array_of, read_npy_header, safe_load_npy
from anthrotap_hf.video import VideoError, VideoWriter, iter_frames, select_frames

# Frames are scaled to this while their colors are converted, by area: it costs nothing, and a warp that shrinks much
# would alias.
SHORT_SIDE = 540

# What zipfile and numpy raise, each in its place, for files that are damaged, encrypted or say they are huge.
_NPZ_DAMAGE = (
    *(ValueError, EOFError, KeyError, TypeError, struct.error, zipfile.BadZipFile, zlib.error),
    *(NotImplementedError, RuntimeError, MemoryError, OverflowError, SyntaxError, tokenize.TokenError),
)


@runtime_checkable
class ClipSource(Protocol):
    """Clips by number. `clip[i]` raises BadSampleError, VideoError or OSError where one can't be read."""

    name: str
    human: bool

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> LabeledClip: ...


@runtime_checkable
class ClipStream(Protocol):
    """Clips in order, without end: after clip i, those from i - window + 1 on can be had cheaply."""

    name: str
    human: bool
    window: int

    def __getitem__(self, index: int) -> LabeledClip: ...


class ShardClips:
    """Our shards, map-style: labels on people.

    Args:
        dataset: a `datasets.Dataset` of our rows, such as `anthrotap_hf.load_dataset(split="train")`.
        short_side: of decoded frames, at most; None for their own size.

    Raises:
        ValueError: if the dataset has no rows, or lacks our columns.
    """

    human = True

    def __init__(self, dataset: Any, *, name: str = "shards", short_side: int | None = SHORT_SIDE) -> None:
        if not len(dataset):
            raise ValueError(f"{name}: the dataset has no rows")
        self.name = name
        self.short_side = short_side
        self._rows = _plain_rows(dataset, name)

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int) -> LabeledClip:
        return clip_of_row(self._rows[index], self.short_side)


class StreamedShards:
    """Our shards, streamed: rows in the order of the dataset, again and again.

    The order never depends on the number of DataLoader workers. Of `ShardReader` only the row groups that hold what is
    asked for are read, wherever a run goes on. A `datasets.IterableDataset` is read by each worker from its start, not
    decoded, up to the row that is asked for; one behind the window starts it anew.

    Args:
        dataset: `ShardReader`, or a `datasets.IterableDataset` of our rows.
        window: rows that a sample is drawn from; so many are kept.
        short_side: as in `ShardClips`.

    Raises:
        ValueError: if the window is empty, or the dataset lacks our columns.
    """

    human = True

    def __init__(
        self,
        dataset: Any,
        *,
        name: str = "streamed shards",
        window: int = 32,
        short_side: int | None = SHORT_SIDE,
    ) -> None:
        if window < 1:
            raise ValueError(f"window must be at least 1, got {window}")
        self.name = name
        self.window = window
        self.short_side = short_side
        self._dataset = dataset if isinstance(dataset, ShardReader) else _plain_rows(dataset, name)
        self._reader: Iterator[Mapping[str, Any]] | None = None
        self._kept: deque[Mapping[str, Any]] = deque(maxlen=window)
        self._read = 0

    def __getitem__(self, index: int) -> LabeledClip:
        if index < 0:
            raise IndexError(f"{self.name}: row {index}")
        if isinstance(self._dataset, ShardReader):
            try:
                row = self._dataset[index % len(self._dataset)]
            except DamagedShardError as error:
                raise BadSampleError(str(error)) from error
            return clip_of_row(row, self.short_side)
        if self._reader is None or index < self._read - len(self._kept):
            self._kept.clear()
            self._read = 0
            self._reader = _again_and_again(self._dataset, self.name)
        while self._read <= index:
            try:
                self._kept.append(next(self._reader))
            except BaseException:  # a reader that has failed, or was stopped, can't go on
                self._reader = None
                raise
            self._read += 1
        return clip_of_row(self._kept[index - self._read + len(self._kept)], self.short_side)

    def __getstate__(self) -> dict[str, Any]:  # an open reader can't go to a worker
        return self.__dict__ | {"_reader": None, "_kept": deque(maxlen=self.window), "_read": 0}


def _plain_rows(dataset: Any, name: str) -> Any:
    """Rows as numpy arrays, videos undecoded."""
    from datasets import Video

    check_columns(dataset.column_names or [], name)
    return dataset.cast_column("video", Video(decode=False)).with_format("numpy")


def _again_and_again(dataset: Iterable[Mapping[str, Any]], name: str) -> Iterator[Mapping[str, Any]]:
    while True:
        count = 0
        for row in dataset:
            count += 1
            yield row
        if not count:
            raise ValueError(f"{name}: the dataset has no rows")


def clip_of_row(row: Mapping[str, Any], short_side: int | None = SHORT_SIDE) -> LabeledClip:
    """A row of our dataset as a clip; nothing is decoded yet. Raises BadSampleError if it is damaged."""
    name = str(row.get("clip_id", "a row"))
    try:
        tracks = decode_tracks(row)
        video = video_source(row["video"])
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise BadSampleError(f"{name}: a damaged row ({_one_line(error)}); build the shard again") from error
    if not isinstance(video, (str, bytes, os.PathLike)):
        raise BadSampleError(f"{name}: the row has no video")
    return LabeledClip(
        name=name,
        tracks=tracks.xy,
        visible=tracks.visible,
        valid=tracks.valid,
        height=tracks.height,
        width=tracks.width,
        frames=partial(select_frames, video, short_side=short_side),
    )


class LetsDanceClips:
    """The released labels (Hub dataset hamacojr/AnthroTAP-LetsDance): one `.npy` a video, holding a pickled dict.

    `tracks` [T, N, 2] xy in pixels of `video_size` (height, width), `occlusion` [T, N] bool, and `video_path`, with
    some machine's prefix before `lets_dance/`. Hidden and unknown are not told apart: what is not seen is not valid.
    Files are read without running their pickles.

    Args:
        labels: a folder, searched with all below it.
        videos: the folder that holds `lets_dance/`, or is it, or its `mp4_10fps`; None where only labels are wanted:
            frames then raise BadSampleError.
        short_side: as in `ShardClips`.
        cache: a folder for copies of the videos that are quick to read from the middle (scaled to `short_side`, a key
            frame every 12 frames), each made when its video is first used; None reads the videos themselves. Of a long
            1080p video most of a sample's time goes into decoding from the last key frame on.

    Raises:
        FileNotFoundError: if there is no such folder, or no `.npy` file in `labels`.
    """

    human = True

    def __init__(
        self,
        labels: str | os.PathLike[str],
        videos: str | os.PathLike[str] | None,
        *,
        name: str = "lets dance",
        short_side: int | None = SHORT_SIDE,
        cache: str | os.PathLike[str] | None = None,
    ) -> None:
        self.name = name
        self.videos = None if videos is None else Path(videos)
        self.cache = None if cache is None else Path(cache)
        self.short_side = short_side
        if self.videos is not None and not self.videos.is_dir():
            raise FileNotFoundError(f"{videos}: no such folder of videos")
        self.files = sorted(Path(labels).rglob("*.npy"))
        if not self.files:
            raise FileNotFoundError(f"{labels}: no .npy file in or below this folder")

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> LabeledClip:
        path = self.files[index]
        labels = _pickled_labels(path, ("tracks", "occlusion", "video_size", "video_path"))
        try:
            height, width = (int(side) for side in array_of(labels["video_size"]))
        except (TypeError, ValueError) as error:
            raise BadSampleError(f"{path}: video_size is not (height, width)") from error
        tracks, occluded = _points(path, labels["tracks"]), _flags(path, labels["occlusion"])
        seen = ~occluded.swapaxes(0, 1)
        return LabeledClip(
            name=str(path),
            tracks=tracks.swapaxes(0, 1),
            visible=seen,
            valid=seen,
            height=height,
            width=width,
            frames=partial(self._frames, path, self._video(path, labels["video_path"])),
        )

    def _frames(self, path: Path, video: Path | None, indices: Sequence[int]) -> Iterator[np.ndarray]:
        if video is None:
            raise BadSampleError(f"{path}: no folder of videos was given")
        if self.cache is not None:
            video = quick_copy(video, self.cache, self.short_side)
        yield from select_frames(video, indices, self.short_side)

    def _video(self, path: Path, named: Any) -> Path | None:
        if self.videos is None:
            return None
        parts = PurePosixPath(str(named).replace("\\", "/")).parts
        if "lets_dance" not in parts or ".." in parts:
            raise BadSampleError(f"{path}: video_path {named!r} does not name a file below lets_dance/")
        below = parts[len(parts) - parts[::-1].index("lets_dance") :]
        short = below[1:] if below[:1] == ("mp4_10fps",) else below
        tried = [self.videos.joinpath(*tail) for tail in (below, short, ("lets_dance", *below)) if tail]
        found = next((video for video in tried if video.is_file()), None)
        if found is None:
            raise BadSampleError(f"{path}: no video {'/'.join(below)} in {self.videos}")
        return found


def quick_copy(video: Path, folder: Path, short_side: int | None) -> Path:
    """The video's copy in a folder, made if it is not there: same frames, scaled, with a key frame every 12 frames.

    It is tuned for decoding: half of the usual time or less, for a tenth more bytes. The name tells path, size, time of
    change and scale, so that another video never is taken for it. Raises VideoError if the video can't be read to its
    end.
    """
    stat = video.stat()
    key = f"{video.resolve()} {stat.st_size} {stat.st_mtime_ns} {short_side}"
    copy = folder / f"{video.stem}-{hashlib.sha256(key.encode()).hexdigest()[:16]}.mp4"
    if not copy.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        with VideoWriter(copy, 10, keyframe_every=12, tune="fastdecode") as writer:  # no one asks its rate
            for frame in iter_frames(video, short_side):
                height, width = (side + side % 2 for side in frame.image.shape[:2])
                whole = frame.image.shape[:2] == (height, width)
                writer.write(frame.image if whole else cv2.resize(frame.image, (width, height)))
    return copy


class KubricClips:
    """Kubric MOVi-E/F as CoTracker lays it out: a folder a clip, with `NAME/NAME.npy` and `NAME/frames/`.

    The file holds a pickled dict (read without running it): `coords` [N, T, 2] xy in raster pixels, and `visibility`
    [N, T], which is true where a point is *occluded* (cotracker/datasets/kubric_movif_dataset.py of
    facebookresearch/co-tracker inverts it). Frames are pictures in the order of their names. Exact: all labels valid.

    Args:
        folder: the folder of clips.

    Raises:
        FileNotFoundError: if there is no clip in it.
    """

    human = False

    def __init__(self, folder: str | os.PathLike[str], *, name: str = "kubric") -> None:
        self.name = name
        root = Path(folder)
        self.clips = sorted(path for path in root.glob("*") if (path / f"{path.name}.npy").is_file())
        if not self.clips:
            raise FileNotFoundError(f"{folder}: no clip laid out as NAME/NAME.npy in this folder")

    def __len__(self) -> int:
        return len(self.clips)

    def __getitem__(self, index: int) -> LabeledClip:
        folder = self.clips[index]
        path = folder / f"{folder.name}.npy"
        labels = _pickled_labels(path, ("coords", "visibility"))
        occluded = _flags(path, labels["visibility"])
        return _clip_of_pictures(
            folder / "frames", _points(path, labels["coords"]), ~occluded, np.ones_like(occluded)
        )


class PointOdysseyClips:
    """PointOdyssey: a folder a clip, with `anno.npz` and pictures in `rgbs/`.

    `trajs_2d` [T, N, 2] xy, `visibs` and `valids` [T, N] (datasets of aharley/pips2). Labels that are not valid, or not
    finite, are unknown.

    Args:
        folder: of one split, such as `train`.

    Raises:
        FileNotFoundError: if there is no clip in it.
    """

    human = False

    def __init__(self, folder: str | os.PathLike[str], *, name: str = "point odyssey") -> None:
        self.name = name
        self.clips = sorted(path.parent for path in Path(folder).glob("*/anno.npz"))
        if not self.clips:
            raise FileNotFoundError(f"{folder}: no clip laid out as NAME/anno.npz in this folder")

    def __len__(self) -> int:
        return len(self.clips)

    def __getitem__(self, index: int) -> LabeledClip:
        path = self.clips[index] / "anno.npz"
        try:
            with np.load(path, allow_pickle=False) as file:
                found = {key: file[key] for key in ("trajs_2d", "visibs", "valids") if key in file}
        except _NPZ_DAMAGE as error:
            raise BadSampleError(f"{path}: not a readable .npz file ({_one_line(error)})") from error
        labels = _checked(path, found, ("trajs_2d", "visibs", "valids"))
        tracks = _points(path, labels["trajs_2d"]).swapaxes(0, 1)
        visible, valid = (_flags(path, labels[key]).swapaxes(0, 1) for key in ("visibs", "valids"))
        if tracks.shape[:2] == valid.shape:
            valid = valid & np.isfinite(tracks).all(-1)
        return _clip_of_pictures(self.clips[index] / "rgbs", tracks, visible, valid)


class DriveTrackClips:
    """DriveTrack (Balasingam et al., CVPR 2024): an `.npz` a vehicle, with its tracks and its video.

    Whoever has access to the Waymo Open Dataset makes these files by generate_drivetrack.py of arjunvb/drivetrack:
    `video` [T, 1280, 1920, 3] uint8 RGB, `tracks` [N, T, 2] xy pixels, `visibles` [N, T]; `depths` and `points3d` are
    not read. A point that is not visible may be hidden, out of the frame or behind the camera, which the files do not
    tell apart: what is not seen is not valid. Arrays are views of the file (as `numpy.savez` writes it, uncompressed).

    Args:
        folder: searched with all below it.
        short_side: that frames are scaled down to, at most; None for their own size.
        num_tracks: of a clip, at most; of more every so manyth is taken.

    Raises:
        FileNotFoundError: if there is no `.npz` file.
    """

    human = False

    def __init__(
        self,
        folder: str | os.PathLike[str],
        *,
        name: str = "drivetrack",
        short_side: int | None = SHORT_SIDE,
        num_tracks: int = 8192,
    ) -> None:
        if num_tracks < 1:
            raise ValueError(f"num_tracks must be at least 1, got {num_tracks}")
        self.name = name
        self.short_side = short_side
        self.num_tracks = num_tracks
        self.files = sorted(Path(folder).rglob("*.npz"))
        if not self.files:
            raise FileNotFoundError(f"{folder}: no .npz file in or below this folder")

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> LabeledClip:
        path = self.files[index]
        try:
            found = _mapped_arrays(path, ("video", "tracks", "visibles"))
        except _NPZ_DAMAGE as error:
            raise BadSampleError(f"{path}: not a readable .npz file ({_one_line(error)})") from error
        labels = _checked(path, found, ("video", "tracks", "visibles"))
        video = labels["video"]
        if video.dtype != np.uint8 or video.ndim != 4 or video.shape[3] != 3:
            raise BadSampleError(
                f"{path}: its video is {video.dtype} {list(video.shape)}, not uint8 [T, H, W, 3]"
            )
        if labels["tracks"].shape[1:2] != video.shape[:1]:
            raise BadSampleError(f"{path}: {len(video)} frames, but tracks {list(labels['tracks'].shape)}")
        _, height, width, _ = video.shape
        thin = slice(None, None, -(-len(labels["tracks"]) // self.num_tracks) or 1)
        tracks, visible = _points(path, labels["tracks"][thin]), _flags(path, labels["visibles"][thin])
        if tracks.shape[:2] == visible.shape:
            visible = visible & ((tracks >= 0) & (tracks < (width, height))).all(-1)
        scale = 1.0 if self.short_side is None else min(1.0, self.short_side / min(height, width))

        def frames(indices: Sequence[int]) -> Iterator[np.ndarray]:
            for t in indices:
                yield (
                    video[t]
                    if scale == 1
                    else cv2.resize(video[t], None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
                )

        return LabeledClip(str(path), tracks, visible, visible, height, width, frames)


def _mapped_arrays(path: Path, names: Iterable[str]) -> dict[str, np.ndarray]:
    """Arrays of an uncompressed `.npz` as views of the file; those that are not there are left out."""
    found: dict[str, np.ndarray] = {}
    with zipfile.ZipFile(path) as archive, path.open("rb") as file:
        for name in {f"{name}.npy" for name in names} & {*archive.namelist()}:
            member = archive.getinfo(name)
            if member.compress_type != zipfile.ZIP_STORED:
                raise ValueError("it is compressed: write it anew by numpy.savez")
            file.seek(member.header_offset + 26)  # of the local header, which has lengths of its own
            start = member.header_offset + 30 + sum(struct.unpack("<HH", file.read(4)))
            file.seek(start)
            shape, fortran, dtype = read_npy_header(file)
            if dtype.hasobject or file.tell() + dtype.itemsize * np.prod(shape) > start + member.file_size:
                raise ValueError(f"{name} is no array of numbers, or not whole")
            found[name.removesuffix(".npy")] = np.memmap(
                path, dtype, "r", file.tell(), shape, "F" if fortran else "C"
            )
    return found


def _clip_of_pictures(
    folder: Path, tracks: np.ndarray, visible: np.ndarray, valid: np.ndarray
) -> LabeledClip:
    """A clip whose frames are the pictures of a folder, in the order of their names, and whose size is the first's."""
    kinds = [[*folder.glob(f"*.{kind}")] for kind in ("png", "jpg")]
    if sum(map(bool, kinds)) != 1:
        raise BadSampleError(f"{folder}: no pictures, or of two kinds (.png and .jpg)")
    pictures = sorted(kinds[0] or kinds[1], key=lambda path: (len(path.name), path.name))  # 9 before 10
    if visible.ndim == 2 and len(pictures) != visible.shape[1]:
        raise BadSampleError(f"{folder}: {len(pictures)} pictures, but labels of {visible.shape[1]} frames")
    height, width = _picture(pictures[0]).shape[:2]

    def frames(indices: Sequence[int]) -> Iterator[np.ndarray]:
        return (_picture(pictures[index]) for index in indices)

    return LabeledClip(str(folder.parent), tracks, visible, valid, height, width, frames)


def _picture(path: Path) -> np.ndarray:
    """[H, W, 3] uint8 RGB. Raises VideoError if it can't be read."""
    try:
        image = cv2.imread(str(path), cv2.IMREAD_COLOR)
    except cv2.error:  # larger than OpenCV reads
        image = None
    if image is None:
        raise VideoError(f"{path}: not a readable picture")
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


def _pickled_labels(path: Path, keys: tuple[str, ...]) -> Mapping[str, Any]:
    """What the dict in an `.npy` file holds, unread, after a look at its keys."""
    try:
        labels = safe_load_npy(path)
    except ValueError as error:
        raise BadSampleError(f"{path}: {error}; fetch it again from where it is published") from error
    return _checked(path, labels, keys)


def _checked(path: Path, labels: Any, keys: tuple[str, ...]) -> Mapping[str, Any]:
    missing = [key for key in keys if not isinstance(labels, Mapping) or key not in labels]
    if missing:
        raise BadSampleError(f"{path}: its labels have no {', '.join(missing)}")
    return labels


def _points(path: Path, value: Any) -> np.ndarray:
    points = _numbers(path, value, "points")
    if points.dtype.kind not in "fiu" or points.shape[2:] != (2,):
        raise BadSampleError(
            f"{path}: its points are {points.dtype} {list(points.shape)}, not numbers [.., .., 2]"
        )
    with np.errstate(over="ignore"):  # to infinity: no place, as it was
        return points.astype(np.float32, copy=False)


def _flags(path: Path, value: Any) -> np.ndarray:
    flags = _numbers(path, value, "flags of visibility")
    if flags.ndim != 2:
        raise BadSampleError(f"{path}: its flags of visibility are {list(flags.shape)}, not a table")
    return flags.astype(bool)


def _numbers(path: Path, value: Any, what: str) -> np.ndarray:
    try:
        return array_of(value)
    except ValueError as error:
        raise BadSampleError(f"{path}: its {what} are {error}") from error


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
