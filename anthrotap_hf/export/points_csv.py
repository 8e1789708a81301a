"""CSV: a row for each point and frame, as `anthrotap evaluate --benchmark points` and spreadsheets read them."""

from __future__ import annotations

import csv
import shutil
from functools import partial
from pathlib import Path

import numpy as np

from anthrotap_hf.export.base import Format
from anthrotap_hf.tracks import TrackedClip
from anthrotap_hf.utils.atomic_files import atomic_dir, atomic_write
from anthrotap_hf.video import VideoError, pictures_in, select_frames

COLUMNS = ("track", "t", "x", "y", "visible", "person")


def video_beside(clip: TrackedClip, path: Path) -> Path | None:
    """Return where the video of a CSV goes, so that the reader finds it; None if it lies there, or is no file."""
    if isinstance(clip.video, bytes):
        return path.with_suffix(".mp4")
    source = _source(clip)
    if source is None:
        return None
    beside = path.with_suffix("" if source.is_dir() else source.suffix)
    return None if beside.resolve() == source.resolve() else beside


def _source(clip: TrackedClip) -> Path | None:
    """Return the file of a clip's video, or the folder of its pictures."""
    video = clip.video
    if isinstance(video, partial) and video.func is select_frames:
        video = video.args[0]
    return Path(video) if isinstance(video, str | Path) else None


def _copy_video(clip: TrackedClip, beside: Path) -> None:
    source = _source(clip)
    if source is not None and source.is_dir():
        if beside.exists():
            hint = "delete it, or write the CSV under another name"
            raise VideoError("exists already, and the folder of pictures is to be copied there", path=beside, hint=hint)
        with atomic_dir(beside) as folder:
            for picture in pictures_in(source.iterdir()):
                shutil.copyfile(picture, folder / picture.name)
        return
    if source is not None and not source.is_file():
        raise VideoError("no such file", path=source, hint="name the video that was tracked")
    with atomic_write(beside) as tmp_path:
        if source is not None:
            shutil.copyfile(source, tmp_path)
        elif isinstance(clip.video, bytes):
            tmp_path.write_bytes(clip.video)


def write_csv(clip: TrackedClip, path: Path) -> None:
    """Write `track,t,x,y,visible,person`, a row for each valid label, ordered by track and frame.

    - `track`: its number; `t`: the frame, from 0; `person`: the number of the person that the track lies on.
    - `x`, `y`: raster pixels, (0.5, 0.5) the center of the first pixel: as here. The digits give the same numbers back.
    - `visible`: 1 where visible and within the frame, 0 where occluded or outside. An invalid label has no row.

    `anthrotap_hf.readers.points.PointClips` reads it back where the video has the same name and lies beside it. A video
    that is a file, a folder of pictures or bytes is copied there. Tracks without a valid label are not written.

    Raises:
        VideoError: if there is no such video, or its folder of pictures would replace another.
    """
    tracks, beside = clip.tracks, video_beside(clip, path)
    if beside is not None:
        _copy_video(clip, beside)
    inside = ((tracks.xy >= 0) & (tracks.xy <= [tracks.width, tracks.height])).all(-1)
    visible = tracks.visible & inside
    # Nine digits hold any float32, seventeen any float64.
    digits = 9 if tracks.xy.dtype == np.float32 else 17
    with atomic_write(path) as tmp_path, tmp_path.open("w", newline="", encoding="ascii") as file:
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(COLUMNS)
        for n, t in np.argwhere(tracks.valid).tolist():
            x, y = (f"{value:.{digits}g}" for value in tracks.xy[n, t].tolist())
            rows.writerow((n, t, x, y, int(visible[n, t]), int(tracks.person[n])))


FORMAT = Format(
    write_csv,
    ".csv",
    "any spreadsheet; `anthrotap evaluate --benchmark points`, with the video of the same name beside it",
    video="is copied beside it",
    sidecar=video_beside,
    program="CSV, and ground truth",
    use="A row for each point and frame, for a spreadsheet or a script; unpacked beside its video it is ground truth "
    "that `anthrotap evaluate --benchmark points` and training read.",
)
