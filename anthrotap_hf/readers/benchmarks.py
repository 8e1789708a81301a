"""Readers of benchmarks: TAP-Vid's pickles, folders of our shards, and users' own points; one video at a time.

All of them give points as xy in raster pixels: the frame spans (0, 0) to (W, H), and resizing is pure scaling.
TAP-Vid's pickles hold points as shares of width and height, which its own reader multiplies by the size of the resized
frames: the same thing.
"""

from __future__ import annotations

import csv
import io
import itertools
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, UnidentifiedImageError

from anthrotap_hf.schema import decode_frames
from anthrotap_hf.utils.safe_pickle import array_of, byte_strings_of, safe_load
from anthrotap_hf.video import VIDEO_SUFFIXES, iter_frames

IMAGE_SUFFIXES = (".bmp", ".jpeg", ".jpg", ".png", ".webp")
COLUMNS = ("track", "t", "x", "y", "visible")
_TAPVID_PARTS = ("video", "points", "occluded")
_YES_OR_NO = {"1": True, "true": True, "1.0": True, "0": False, "false": False, "0.0": False}


class BenchmarkError(ValueError):
    """A benchmark that can't be used. The message is one line: file, reason, way out."""


@dataclass(frozen=True)
class EvaluationVideo:
    """A video with true tracks.

    Attributes:
        name: its own within the benchmark.
        frames: [T, H, W, 3] uint8 RGB.
        tracks: [N, T, 2] float64 xy, raster pixels of `frames`; anything where not visible.
        visible: [N, T] bool.
        valid: [N, T] bool, where the label is known; a visible label is always valid.
    """

    name: str
    frames: np.ndarray
    tracks: np.ndarray
    visible: np.ndarray
    valid: np.ndarray


# TAP-Vid


def read_tapvid(path: str | Path, resolution: tuple[int, int] | None = None) -> Iterator[EvaluationVideo]:
    """The videos of a TAP-Vid pickle, or of a folder of such pickles, without running anything that is in them.

    Every published layout is taken: a dict of videos by name (DAVIS, RoboTAP) or a list of them (RGB-Stacking,
    Kinetics), in one file or in several, which are read one after the other. Each video is a dict of

    - `video`: [T, H, W, 3] uint8 RGB; or T encoded images, as Kinetics has them,
    - `points`: [N, T, 2] xy as shares of width and height,
    - `occluded`: [N, T] bool.

    A file is mapped into memory and its frames are views of it; encoded images are decoded and resized one by one.

    Args:
        path: a `.pkl`, or a folder with some.
        resolution: (height, width) that frames and points are brought to; None keeps the video's own.

    Raises:
        BenchmarkError: if there is no such file, or one is damaged, laid out otherwise or asks for code.
    """
    names: set[str] = set()
    for file in tapvid_files(path):
        for name, content in _tapvid_contents(file).items():
            if name in names:
                raise BenchmarkError(f"{file}: a second video called {name}; leave one of the files out")
            names.add(name)
            try:
                yield _tapvid_video(name, content, resolution)
            except ValueError as error:
                raise BenchmarkError(
                    f"{file}: video {name}: {error}; is it a TAP-Vid pickle, whole and unchanged?"
                ) from error


def tapvid_files(path: str | Path) -> list[Path]:
    """The pickle at a path, or those in a folder, by name. Raises BenchmarkError if there are none."""
    path = Path(path)
    if path.is_dir():
        files = sorted(file for file in path.iterdir() if file.suffix == ".pkl" and file.is_file())
        if not files:
            raise BenchmarkError(
                f"{path}: no .pkl in this folder; name TAP-Vid's pickle or the folder of its shards"
            )
        return files
    if not path.is_file():
        raise BenchmarkError(
            f"{path}: no such file or folder; name TAP-Vid's pickle or the folder of its shards"
        )
    return [path]


def count_tapvid(path: str | Path) -> int | None:
    """How many videos `read_tapvid` gives, where that is cheap to know: of one file. Raises BenchmarkError as it."""
    files = tapvid_files(path)
    return len(_tapvid_contents(files[0])) if len(files) == 1 else None


def _tapvid_contents(file: Path) -> dict[str, Any]:
    """What a pickle holds of each video, by name."""
    try:
        content = safe_load(file)
    except ValueError as error:
        raise BenchmarkError(
            f"{file}: {error}; TAP-Vid's pickles hold arrays only: fetch the file again from where it is published"
        ) from error
    except OSError as error:
        raise BenchmarkError(f"{file}: can't be read ({error.strerror}); check the file") from error
    if isinstance(content, list | tuple):
        content = {f"{file.stem}-{number:04d}": each for number, each in enumerate(content)}
    if not isinstance(content, dict):
        raise BenchmarkError(
            f"{file}: it holds a {type(content).__name__}, not a dict or list of videos as TAP-Vid's pickles do"
        )
    if not content:
        raise BenchmarkError(f"{file}: it holds no video; leave it out, or fetch it again")
    if set(_TAPVID_PARTS) <= set(content):  # a single video, not wrapped
        content = {file.stem: content}
    return {str(name): each for name, each in content.items()}


def _tapvid_video(name: str, content: Any, resolution: tuple[int, int] | None) -> EvaluationVideo:
    missing = [part for part in _TAPVID_PARTS if not isinstance(content, Mapping) or part not in content]
    if missing:
        raise ValueError(f"it has no {' and no '.join(missing)}")
    points, occluded = array_of(content["points"]), array_of(content["occluded"]) != 0
    frames = _stacked(*_tapvid_frames(content["video"]), resolution)
    shape = (points.shape[0] if points.ndim else 0, len(frames))
    if points.shape != (*shape, 2) or occluded.shape != shape:
        raise ValueError(
            f"points must be [N, T, 2] and occluded [N, T] with T = {len(frames)} frames, got "
            f"{list(points.shape)} and {list(occluded.shape)}"
        )
    tracks = points.astype(np.float64) * [frames.shape[2], frames.shape[1]]
    if not np.isfinite(tracks[~occluded]).all():
        raise ValueError("a visible point has no finite place")
    return EvaluationVideo(name, frames, tracks, ~occluded, np.ones_like(occluded))


def _tapvid_frames(video: Any) -> tuple[Iterable[np.ndarray], int]:
    """Frames [H, W, 3] uint8, and their number."""
    encoded = byte_strings_of(video)
    if encoded:
        return (_decoded(io.BytesIO(image), f"frame {t}") for t, image in enumerate(encoded)), len(encoded)
    if isinstance(video, list | tuple):
        return (_image(array_of(frame)) for frame in video), len(video)
    frames = array_of(video)
    if frames.ndim != 4:
        raise ValueError(f"video must be [T, H, W, 3], got {list(frames.shape)}")
    return (_image(frame) for frame in frames), len(frames)


def _image(frame: np.ndarray) -> np.ndarray:
    if frame.ndim != 3 or frame.shape[2] != 3 or frame.dtype != np.uint8 or 0 in frame.shape:
        raise ValueError(f"frames must be [H, W, 3] uint8, got {frame.dtype} {list(frame.shape)}")
    return frame


# Our shards


def read_shards(path: str | Path, resolution: tuple[int, int] | None = None) -> Iterator[EvaluationVideo]:
    """The clips of our Parquet shards, one at a time. Unknown labels are not valid: nothing is scored there.

    Args:
        path: a folder as `anthrotap label` writes it (shards in it, or in its `data/`), or one shard.
        resolution: as for `read_tapvid`.

    Raises:
        ShardError: if there is no shard, or one is damaged or not of this project.
    """
    from anthrotap_hf.data.shard_reader import ShardReader

    reader = ShardReader.from_path(path)
    for number in range(len(reader)):
        clip = reader.clip(number)
        try:
            frames = decode_frames(clip)
        except ValueError as error:
            raise reader.error(number, error) from error
        frames = _stacked(frames, len(frames), resolution)
        tracks = clip.tracks.resized(*frames.shape[1:3])
        xy = tracks.xy.astype(np.float64)
        yield EvaluationVideo(clip.clip_id, frames, xy, tracks.visible, tracks.valid)


def count_shards(path: str | Path) -> int:
    """How many clips `read_shards` gives. Raises as it."""
    from anthrotap_hf.data.shard_reader import ShardReader

    return len(ShardReader.from_path(path))


# Users' points


def read_points(path: str | Path, resolution: tuple[int, int] | None = None) -> Iterator[EvaluationVideo]:
    """Videos with points that somebody marked, as in BADJA: `NAME.csv` or `NAME.json` beside `NAME.mp4` (or another
    video, or a folder NAME of images in the order of their names).

    A CSV has a heading and the columns, in any order,

    - `track`: which point, any text,
    - `t`: the frame, a whole number from 0,
    - `x`, `y`: raster pixels of the video (the first pixel's center is (0.5, 0.5)); may be empty where not visible,
    - `visible`: 1 or 0; 1 everywhere where the column is absent.

    What is not listed is unknown and not scored. A JSON file has the same: a list of {"track": ..., "t": ..., ...} or
    of rows in the order above, by itself or under the name `points`.

    Args:
        path: one such file, or a folder of them.
        resolution: as for `read_tapvid`.

    Raises:
        BenchmarkError: for a file of points that is none, or has no video.
        VideoError: for a video that can't be read.
    """
    for file in point_files(path):
        rows = _point_rows(file)
        frames, (width, height) = _read_video(_video_of(file), resolution)
        try:
            tracks, visible, valid = _point_tracks(rows, len(frames), width, height)
        except ValueError as error:
            raise BenchmarkError(f"{file}: {error}") from error
        tracks *= np.array([frames.shape[2], frames.shape[1]]) / (width, height)
        yield EvaluationVideo(file.stem, frames, tracks, visible, valid)


def point_files(path: str | Path) -> list[Path]:
    """The files of points at a path, by name. Raises BenchmarkError if there are none, or two for a video."""
    path = Path(path)
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise BenchmarkError(
            f"{path}: no such file or folder; name a .csv or .json of points, or a folder of them"
        )
    files = sorted(
        file for file in path.iterdir() if file.suffix.lower() in (".csv", ".json") and file.is_file()
    )
    if not files:
        raise BenchmarkError(f"{path}: no .csv or .json of points in this folder")
    for one, other in itertools.pairwise(files):
        if one.stem == other.stem:
            raise BenchmarkError(f"{other}: {one.name} has points of the same video; leave one out")
    return files


def _video_of(file: Path) -> Path:
    folder = file.with_suffix("")
    beside = sorted(
        other
        for other in file.parent.iterdir()
        if other.stem == file.stem and other.suffix.lower() in VIDEO_SUFFIXES and other.is_file()
    )
    found = [*beside, *([folder] if folder.is_dir() else [])]
    if len(found) != 1:
        got = ", ".join(other.name for other in found) or "none"
        raise BenchmarkError(
            f"{file}: there must be one video beside it, {file.stem}.mp4 or a folder {file.stem} of images; got {got}"
        )
    return found[0]


def _read_video(path: Path, resolution: tuple[int, int] | None) -> tuple[np.ndarray, tuple[int, int]]:
    """Frames at `resolution`, and (width, height) of the file's."""
    if path.is_dir():
        files = sorted(file for file in path.iterdir() if file.suffix.lower() in IMAGE_SUFFIXES)
        if not files:
            raise BenchmarkError(f"{path}: no image in this folder ({', '.join(IMAGE_SUFFIXES)})")
        images: Iterator[np.ndarray] = (_decoded(file, str(file)) for file in files)
    else:
        images = (frame.image for frame in iter_frames(path))
    frames, shapes = [], set()
    try:
        for image in images:
            shapes.add(image.shape)
            frames.append(_resized(image, resolution))
    except ValueError as error:
        raise BenchmarkError(str(error)) from error
    if len(shapes) > 1:
        raise BenchmarkError(f"{path}: its images differ in size; points would mean nothing")
    height, width, _ = shapes.pop()
    return np.stack(frames), (width, height)


def _point_rows(file: Path) -> list[dict[str, Any]]:
    """Rows of COLUMNS, as they stand in the file."""
    try:  # utf-8-sig: Excel begins its files with a mark
        if file.suffix.lower() == ".json":
            rows = _json_rows(json.loads(file.read_text("utf-8-sig")))
        else:
            with file.open(newline="", encoding="utf-8-sig") as lines:
                reader = csv.DictReader(lines, skipinitialspace=True)
                heading = [name.strip() for name in reader.fieldnames or ()]
                reader.fieldnames = heading
                if not set(COLUMNS[:-1]) <= set(heading):
                    raise ValueError(
                        f"its heading must have {', '.join(COLUMNS)}, got {', '.join(heading) or 'none'}"
                    )
                rows = list(reader)
    except UnicodeDecodeError as error:
        raise BenchmarkError(f"{file}: not a text file (not UTF-8)") from error
    except (ValueError, csv.Error, RecursionError) as error:
        raise BenchmarkError(f"{file}: {' '.join(str(error).split())}") from error
    except OSError as error:
        raise BenchmarkError(f"{file}: can't be read ({error.strerror})") from error
    if not rows:
        raise BenchmarkError(f"{file}: no point in it; leave it out, or give rows of {', '.join(COLUMNS)}")
    return rows


def _json_rows(content: Any) -> list[dict[str, Any]]:
    rows = content.get("points") if isinstance(content, dict) else content
    if not isinstance(rows, list):
        raise ValueError(f"must hold a list of {', '.join(COLUMNS)}, by itself or under the name points")
    named = [
        dict(zip(COLUMNS, row, strict=False)) if isinstance(row, list) and len(row) in (4, 5) else row
        for row in rows
    ]
    for number, row in enumerate(named):
        if not isinstance(row, dict) or not set(COLUMNS[:-1]) <= set(row):
            raise ValueError(f"entry {number} must have {', '.join(COLUMNS)}, got {json.dumps(row)[:80]}")
    return named


def _point_tracks(
    rows: Sequence[Mapping[str, Any]], num_frames: int, width: int, height: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Tracks [N, T, 2], visible and valid [N, T], of a video of this size; tracks in order of their first row."""
    number = {name: n for n, name in enumerate(dict.fromkeys(str(row["track"]) for row in rows))}
    tracks = np.full((len(number), num_frames, 2), np.nan)
    visible, valid = (np.zeros((len(number), num_frames), bool) for _ in range(2))
    for count, row in enumerate(rows, 1):
        where = f"point {count} (track {row['track']}, t {row['t']})"
        t, seen = _number(row["t"], where), _YES_OR_NO.get(str(row.get("visible", "1")).strip().lower())
        x, y = (np.nan if row[axis] in (None, "") else _number(row[axis], where) for axis in "xy")
        if seen is None:
            raise ValueError(f"{where}: visible must be 1 or 0, got {row.get('visible')}")
        if not (t == int(t) and 0 <= t < num_frames):
            raise ValueError(
                f"{where}: t must be a whole number from 0 to {num_frames - 1}, the video's last frame"
            )
        if seen and not (0 <= x <= width and 0 <= y <= height):
            raise ValueError(
                f"{where}: ({x:g}, {y:g}) lies outside the video of {width}x{height}; set visible to 0"
            )
        place = number[str(row["track"])], int(t)
        if valid[place]:
            raise ValueError(f"{where}: there is a second row for it; leave one out")
        tracks[place], visible[place], valid[place] = (x, y), seen, True
    return tracks, visible, valid


def _number(value: Any, where: str) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{where}: {value!r} is no number") from error
    if not np.isfinite(number):
        raise ValueError(f"{where}: {value!r} is no finite number")
    return number


# Frames


def _stacked(frames: Iterable[np.ndarray], count: int, resolution: tuple[int, int] | None) -> np.ndarray:
    """[T, h, w, 3] of `count` frames, resized one by one."""
    whole: np.ndarray | None = None
    for t, frame in enumerate(frames):
        resized = _resized(frame, resolution)
        if whole is None:
            whole = np.empty((count, *resized.shape), np.uint8)
        if whole[t].shape != resized.shape:
            raise ValueError(f"frame {t} is {list(frame.shape)}, the first is {list(whole[0].shape)}")
        whole[t] = resized
    if whole is None:
        raise ValueError("video has no frame")
    return whole


def _resized(frame: np.ndarray, resolution: tuple[int, int] | None) -> np.ndarray:
    """As TAP-Vid resizes: Pillow's Lanczos filter, which takes all pixels into account."""
    if resolution is None or frame.shape[:2] == resolution:
        return frame
    return np.asarray(Image.fromarray(frame).resize(resolution[::-1], Image.Resampling.LANCZOS))


def _decoded(source: Any, name: str) -> np.ndarray:
    """An encoded image [H, W, 3] uint8 RGB. Raises ValueError, naming it, if it can't be decoded."""
    try:
        with Image.open(source) as image:
            return np.asarray(image.convert("RGB"))
    except (UnidentifiedImageError, OSError, SyntaxError, Image.DecompressionBombError) as error:
        reason = (
            "it is no image" if isinstance(error, UnidentifiedImageError) else " ".join(str(error).split())
        )
        raise ValueError(f"{name}: can't be decoded ({reason})") from error
