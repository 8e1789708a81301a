"""The editor's heavy work, which the worker process of the page runs; it keeps the clips that were edited last."""

from __future__ import annotations

import shutil
import zipfile
from collections import OrderedDict
from contextlib import chdir
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from anthrotap_hf.app.jobs import JobCancelledError, JobError, loaded_tracker
from anthrotap_hf.utils.workers import report_progress

if TYPE_CHECKING:
    from anthrotap_hf.pipelines.corrections import EditedPoint, EditedTracks, PointEditor

# Clips whose frames, at the tracker's size, are kept in memory.
MAX_EDITORS = 3
# The file in a clip's folder that holds the number of its newest change.
NEWEST = "newest"
_editors: OrderedDict[tuple[str, str], PointEditor] = OrderedDict()


def load_tracker(name: str, source: str, device: str) -> None:
    """Load a tracker, which is kept. Raises JobError if it can't be."""
    loaded_tracker(name, source, device)


def track_points(
    clip: str,
    video: Path,
    model: tuple[str, str],
    points: list[EditedPoint],
    around: int | None,
    change: int,
    device: str,
) -> EditedTracks:
    """Track the points of a clip; of a clip that was tracked before, only what has changed.

    A point is tracked in the shot of its first query.

    Args:
        clip: names the clip.
        video: its file.
        model: the tracker's name, and its folder or Hub id.
        points: all of them.
        around: only frames near this one are tracked, for a quick look; None for all.
        change: its number; once there is a newer one, this one ends, and keeps what is tracked.
        device: where the tracker runs.

    Raises:
        JobCancelledError: there is a newer change.
        JobError: the tracker can't be loaded.
        AnthroTapError: points contradict each other.
        VideoError: the video can't be read.
    """
    from anthrotap_builder.clips.shots import find_cuts
    from anthrotap_hf.pipelines.corrections import PointEditor

    name, source = model

    def check_newest() -> None:
        if (video.parent / NEWEST).read_text() != str(change):
            raise JobCancelledError("There is a newer change.")

    def on_stretch(done: int, total: int) -> None:
        report_progress("tracking", done, total)
        check_newest()

    with chdir(video.parent):
        editor = _editors.pop((clip, name), None)
        if editor is None:
            tracker = loaded_tracker(name, source, device)
            editor = PointEditor(tracker, video.name, find_cuts(video.name), progress=report_progress)
        _editors[clip, name] = editor
        while len(_editors) > MAX_EDITORS:
            _editors.popitem(last=False)
        check_newest()
        return editor.track(points, around, on_stretch)


def export_tracks(
    video: Path,
    stem: str,
    fps: float,
    size: tuple[int, int],
    tracks: EditedTracks,
    names: list[str],
    format: str,
    folder: Path,
) -> Path:
    """Write tracks as another program reads them; return the file, a zip where there are several.

    Args:
        video: the clip's file.
        stem: of the file that is written.
        fps: frames a second.
        size: height and width of the clip.
        tracks: of its points.
        names: of its points.
        format: a name of `anthrotap_hf.export.FORMATS`.
        folder: an empty one.

    Raises:
        JobError: there is nothing to export, or a package is missing.
    """
    from anthrotap_hf.export import FORMATS, export_clip
    from anthrotap_hf.export.base import Format
    from anthrotap_hf.tracks import TrackedClip, Tracks

    kind: Format = FORMATS.load(format)
    height, width = size
    report_progress(f"writing {format}", 0, None)
    found = Tracks.from_labels(tracks.xy, tracks.visible, tracks.valid, height=height, width=width)
    # The script for Blender would name the file on this machine.
    used = None if format == "blender" else video
    clip = TrackedClip(found, used, clip_id=stem, fps=fps, info={"names": names})
    out = folder / "files"
    out.mkdir()
    try:
        export_clip(clip, out / f"{stem}{kind.suffix}", format)
    except ImportError as error:
        raise JobError(error) from error
    files = sorted(path for path in out.rglob("*") if path.is_file())
    if len(files) == 1 and kind.suffix:
        return files[0]
    return zip_folder(out, folder / f"{stem}.{format}.zip")


def zip_folder(folder: Path, path: Path) -> Path:
    """Pack all files of a folder, and delete it; return the zip."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted(folder.rglob("*")):
            if file.is_file():
                archive.write(file, file.relative_to(folder))
    shutil.rmtree(folder)
    return path


def pack_tracks(tracks: Any) -> bytes:
    """Return tracks as the page reads them: xy, [N, T, 2] float32 little endian, and states, [N, T] uint8.

    A state is 2 where visible, 1 where occluded, 0 where invalid.
    """
    states = tracks.valid.astype(np.uint8) + tracks.visible
    return np.ascontiguousarray(tracks.xy, "<f4").tobytes() + states.tobytes()
