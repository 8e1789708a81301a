"""CSV: a row for each point and frame, as `anthrotap evaluate --benchmark points` and spreadsheets read them."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np

from anthrotap_hf.export.base import Format
from anthrotap_hf.tracks import TrackedClip
from anthrotap_hf.utils.atomic_files import atomic_write

COLUMNS = ("track", "t", "x", "y", "visible", "person")


def video_beside(path: Path) -> Path:
    """Return where the video of a CSV goes if it is not a file yet: where the reader looks for it."""
    return path.with_suffix(".mp4")


def write_csv(clip: TrackedClip, path: Path) -> None:
    """Write `track,t,x,y,visible,person`, a row for each valid label, ordered by track and frame.

    - `track`: its number; `t`: the frame, from 0; `person`: the number of the person that the track lies on.
    - `x`, `y`: raster pixels, (0.5, 0.5) the center of the first pixel: as here. The digits give the same numbers back.
    - `visible`: 1 where visible and within the frame, 0 where occluded or outside. An invalid label has no row.

    `anthrotap_hf.readers.points.PointClips` reads it back where the video has the same name and lies beside it. A row
    of a dataset, whose video is not a file, has it written there. Tracks without a valid label are not written.
    """
    tracks, video = clip.tracks, clip.video
    if isinstance(video, bytes):
        with atomic_write(video_beside(path)) as tmp_path:
            tmp_path.write_bytes(video)
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
    video="lies beside it",
    sidecar=video_beside,
)
