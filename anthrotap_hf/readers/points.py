"""Points that a user marked in videos, as in BADJA."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from anthrotap_hf.readers.base import BadClipError, DatasetError, FilePath, Reader, make_tracks, sort_clips
from anthrotap_hf.readers.exported_files import TRACKS_JSON
from anthrotap_hf.tracks import FrameLoader, TrackedClip, fill_invalid
from anthrotap_hf.utils.errors import one_line
from anthrotap_hf.utils.file_limits import read_json
from anthrotap_hf.video import VIDEO_SUFFIXES, VideoError, image_folder, iter_frames, select_frames

COLUMNS = ("track", "t", "x", "y", "visible")
_YES_OR_NO = {"1": True, "true": True, "1.0": True, "0": False, "false": False, "0.0": False}


class PointClips(Reader):
    """`NAME.csv` or `NAME.json` beside `NAME.mp4` (or another video, or a folder NAME of images, in natural order).

    A CSV has a heading and the columns, in any order,

    - `track`: which point, any text,
    - `t`: the frame, a whole number from 0,
    - `x`, `y`: raster pixels of the video (the first pixel's center is (0.5, 0.5)); may be empty where not visible,
    - `visible`: 1 or 0; 1 everywhere where the column is absent,
    - `person`: a whole number, the same for all of a track; 0 where the column is absent.

    What is not listed is invalid and not scored. A JSON file has the same: a list of {"track": ..., "t": ..., ...} or
    of rows in the order above, by itself or under the name `points`. The tracks are float64.

    Args:
        path: one such file, or a folder of them; a `.tracks.json` of `anthrotap track` in it is left out.

    Raises:
        DatasetError: if there are none, or two for one video.
    """

    def __init__(self, path: FilePath) -> None:
        path = Path(path)
        self.name = str(path)
        self.files = [path]
        if path.is_file():
            return
        if not path.is_dir():
            raise DatasetError(
                "no such file or folder",
                path=path,
                hint="name a .csv or .json of points, or a folder of them",
            )
        found = (
            file
            for file in path.iterdir()
            if file.suffix.lower() in (".csv", ".json") and not file.name.endswith(TRACKS_JSON) and file.is_file()
        )
        self.files = sort_clips(found, ".csv or .json of points", path)
        by_stem: dict[str, Path] = {}
        for file in self.files:
            one = by_stem.setdefault(file.stem, file)
            if one is not file:
                raise DatasetError(f"{one.name} has points of the same video", path=file, hint="leave one out")

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> TrackedClip:
        file = self.files[index]
        rows = _read_rows(file)
        frames, num_frames, height, width = open_video(_find_video(file))
        try:
            xy, visible, valid = _tracks_of_rows(rows, num_frames, height, width)
        except ValueError as error:
            raise BadClipError(one_line(error, 300), path=file) from error
        # An occluded point may have no position: it is scored for its visibility alone.
        known = np.isfinite(xy).all(-1)
        xy = fill_invalid(xy, known)
        tracks = make_tracks(file, xy, visible, valid, height=height, width=width)
        tracks = replace(tracks, person=_persons(file, rows))
        return TrackedClip(tracks, frames, clip_id=file.stem, info={"position_known": known})


def videos_beside(file: Path, stem: str) -> list[Path]:
    """Return the videos, and the folder of images, of this stem beside a file."""
    folder = file.with_name(stem)
    videos = sorted(
        other
        for other in file.parent.iterdir()
        if other.stem == stem and other.suffix.lower() in VIDEO_SUFFIXES and other.is_file()
    )
    return [*videos, *([folder] if folder.is_dir() else [])]


def _find_video(file: Path) -> Path:
    """Return the one video, or folder of images, of a file of points."""
    found = videos_beside(file, file.stem)
    if len(found) != 1:
        got = ", ".join(other.name for other in found) or "none"
        raise BadClipError(
            f"there must be one video beside it, {file.stem}.mp4 or a folder {file.stem} of images; got {got}",
            path=file,
        )
    return found[0]


def open_video(path: Path) -> tuple[FrameLoader | Path, int, int, int]:
    """Return what `TrackedClip.video` takes, the number of frames, height and width."""
    try:
        folder = image_folder(path)
        shapes = {folder.image(number).shape for number in range(len(folder))} if folder else set()
    except VideoError as error:
        raise BadClipError(error.reason, path=error.path, hint=error.hint) from error
    if folder:
        if len(shapes) > 1:
            raise BadClipError("its images differ in size; points would mean nothing", path=path)
        height, width, _ = shapes.pop()
        return partial(select_frames, path), len(folder), height, width
    # A file's own number of frames is often a guess: count them.
    count, height, width = 0, 0, 0
    for frame in iter_frames(path):
        height, width = frame.image.shape[:2]
        count += 1
    return path, count, height, width


def _read_rows(file: Path) -> list[dict[str, Any]]:
    """Return rows of COLUMNS, as they stand in the file."""
    try:
        # Excel begins its files with a byte order mark: utf-8-sig drops it.
        if file.suffix.lower() == ".json":
            rows = _json_rows(read_json(file, "utf-8-sig"))
        else:
            with file.open(newline="", encoding="utf-8-sig") as lines:
                reader = csv.DictReader(lines, skipinitialspace=True)
                heading = [name.strip() for name in reader.fieldnames or ()]
                reader.fieldnames = heading
                if not set(COLUMNS[:-1]) <= set(heading):
                    raise ValueError(f"its heading must have {', '.join(COLUMNS)}, got {', '.join(heading) or 'none'}")
                rows = list(reader)
    except UnicodeDecodeError as error:
        raise BadClipError("not a text file (not UTF-8)", path=file) from error
    except (ValueError, csv.Error, RecursionError) as error:
        raise BadClipError(one_line(error), path=file) from error
    except OSError as error:
        raise BadClipError(f"can't be read ({error.strerror})", path=file) from error
    if not rows:
        raise BadClipError("no point in it", path=file, hint=f"leave it out, or give rows of {', '.join(COLUMNS)}")
    return rows


def _json_rows(content: Any) -> list[dict[str, Any]]:
    rows = content.get("points") if isinstance(content, dict) else content
    if not isinstance(rows, list):
        raise ValueError(f"must hold a list of {', '.join(COLUMNS)}, by itself or under the name points")
    named = [
        dict(zip(COLUMNS, row, strict=False)) if isinstance(row, list) and len(row) in (4, 5) else row for row in rows
    ]
    for number, row in enumerate(named):
        if not isinstance(row, dict) or not set(COLUMNS[:-1]) <= set(row):
            raise ValueError(f"entry {number} must have {', '.join(COLUMNS)}, got {json.dumps(row)[:80]}")
    return named


def _tracks_of_rows(
    rows: Sequence[Mapping[str, Any]], num_frames: int, height: int, width: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return tracks [N, T, 2] float64, visible and valid [N, T]; tracks in the order of their first rows."""
    number = {name: n for n, name in enumerate(dict.fromkeys(str(row["track"]) for row in rows))}
    xy = np.full((len(number), num_frames, 2), np.nan)
    visible, valid = (np.zeros((len(number), num_frames), bool) for _ in range(2))
    for count, row in enumerate(rows, 1):
        where = f"point {count} (track {row['track']!s:.40}, t {row['t']!s:.40})"
        t, flag = _number(row["t"], where), _YES_OR_NO.get(str(row.get("visible", "1")).strip().lower())
        x, y = (np.nan if row[axis] in (None, "") else _number(row[axis], where) for axis in "xy")
        if flag is None:
            raise ValueError(f"{where}: visible must be 1 or 0, got {row.get('visible')}")
        if not (t == int(t) and 0 <= t < num_frames):
            raise ValueError(f"{where}: t must be a whole number from 0 to {num_frames - 1}, the video's last frame")
        if flag and not (0 <= x <= width and 0 <= y <= height):
            raise ValueError(f"{where}: ({x:g}, {y:g}) lies outside the video of {width}x{height}; set visible to 0")
        label = number[str(row["track"])], int(t)
        if valid[label]:
            raise ValueError(f"{where}: there is a second row for it; leave one out")
        xy[label], visible[label], valid[label] = (x, y), flag, True
    return xy, visible, valid


def _persons(file: Path, rows: Sequence[Mapping[str, Any]]) -> np.ndarray:
    """Return the person of each track, [N] int32, in the order of the tracks' first rows."""
    found: dict[str, str] = {}
    for row in rows:
        track, person = str(row["track"]), str(row.get("person") or 0).strip()
        if found.setdefault(track, person) != person:
            raise BadClipError(f"track {track} is of two persons, {found[track]} and {person}", path=file)
    if strange := [person for person in found.values() if not person.isdecimal() or int(person) >= 2**31]:
        raise BadClipError(f"person must be a whole number, got {one_line(strange[0])}", path=file)
    return np.array([*map(int, found.values())], np.int32)


def _number(value: Any, where: str) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError) as error:
        raise ValueError(f"{where}: {one_line(repr(value))} is no number") from error
    if not np.isfinite(number):
        raise ValueError(f"{where}: {value!r} is no finite number")
    return number
