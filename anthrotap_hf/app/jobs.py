"""The page's heavy work: functions that a worker process runs, and that a visitor may cancel at any moment."""

from __future__ import annotations

import time
import zipfile
from contextlib import chdir
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from anthrotap_hf.utils.errors import AnthroTapError, format_error, missing_extra
from anthrotap_hf.utils.workers import report_progress

if TYPE_CHECKING:
    from anthrotap_hf.app.comparing import Differences

STAGES = {
    "detection": "detecting people",
    "mesh_recovery": "fitting bodies",
    "visibility": "testing visibility",
    "flow": "measuring motion",
    "filtering": "filtering labels",
    "labeled_motion": "looking for what has no label",
}


class JobError(AnthroTapError):
    """A job gives no result. The reason is a sentence for the visitor."""


class JobCancelledError(JobError):
    """The visitor cancelled the job."""


@dataclass(frozen=True)
class TrackerRun:
    """One tracker's work: its name, seconds of wall time, and the fraction of labels that are visible."""

    model: str
    seconds: float
    visible: float


@dataclass(frozen=True)
class TrackingResult:
    """What `track` gives.

    Attributes:
        points, frames: how many.
        runs: one for each tracker.
        overlay: the video to show; with two trackers, both side by side.
        files: all files to download.
        differences: of the two trackers; None if there is one.
    """

    points: int
    frames: int
    runs: list[TrackerRun]
    overlay: Path
    files: list[Path]
    differences: Differences | None = None


@dataclass(frozen=True)
class LabelingResult:
    """What `label` gives.

    Attributes:
        totals: the numbers of the labels, as `anthrotap_builder.video_result` has them.
        skipped: how many parts of the video have no labels.
        failure: why the video was not labeled to its end; None if it was.
        overlay: the video to show.
        picture: some of its frames.
        files: all files to download.
    """

    totals: dict[str, float]
    skipped: int
    failure: str | None
    overlay: Path
    picture: Path
    files: list[Path]


@cache
def _tracker(model: str, device: str) -> Any:
    from anthrotap_hf.pipelines import load_tracker

    return load_tracker(model, device, _report_download)


def loaded_tracker(name: str, model: str, device: str) -> Any:
    """Return a tracker, which is loaded once. Raises JobError if it can't be."""
    report_progress(f"loading {name}", 0, None)
    try:
        return _tracker(model, device)
    except AnthroTapError as error:
        reason = format_error(error.reason, hint=error.hint)
        raise JobError(f"The tracker {name} can't be loaded: {reason}") from error


def _report_download(what: str, done: int, total: int | None) -> None:
    report_progress(what, done // 10**6, None if total is None else total // 10**6)


def track(video: Path, points: list[tuple[int, float, float]], models: dict[str, str], device: str) -> TrackingResult:
    """Track points by one or two models; leave overlays and files of tracks beside the video.

    Args:
        video: the file.
        points: (t, x, y) in its pixels.
        models: folders or Hub ids, by name.
        device: where trackers run.

    Raises:
        JobError: a tracker cannot be loaded.
        VideoError: the video cannot be read.
    """
    import numpy as np

    from anthrotap_hf.app.comparing import find_differences, write_comparison
    from anthrotap_hf.export.track_files import found_tracks, track_files, write_tracks
    from anthrotap_hf.video import probe

    folder, video = video.parent, Path(video.name)
    found, runs, files = {}, [], []
    # Errors then name files as the visitor does.
    with chdir(folder):
        info = probe(video)
        for name, model in models.items():
            tracker = loaded_tracker(name, model, device)
            begin = time.perf_counter()
            found[name] = tracker(str(video), points=points, progress=partial(_report, name))
            visible = found[name]["visible"]
            runs.append(TrackerRun(name, time.perf_counter() - begin, float(visible.mean())))
            own = track_files(Path(), video.stem if len(models) == 1 else f"{video.stem}.{name}")
            num_frames = visible.shape[1]
            drawing = partial(_report_frame, f"drawing ({name})", num_frames)
            write_tracks(own, video, info, found[name], np.array(points, np.float64), name, drawing)
            files += own
        overlay, differences = files[0], None
        if len(found) == 2:
            tracks = {name: found_tracks(each, info) for name, each in found.items()}
            overlay = Path(f"{video.stem}.compared.mp4")
            write_comparison(overlay, video, info, tracks, partial(_report_frame, "comparing", num_frames))
            files.append(overlay)
            differences = find_differences(*tracks.values())
    absolute = [folder / file for file in files]
    return TrackingResult(len(points), num_frames, runs, folder / overlay, absolute, differences)


def _report(model: str, what: str, done: int, total: int | None) -> None:
    report_progress(f"{what} ({model})", done, total)


def _report_frame(what: str, total: int, done: int) -> None:
    report_progress(what, done, total)


def label(video: Path, threads: int, device: str) -> LabelingResult:
    """Label the people of a video by the open recipe; leave an overlay, a picture, and the dataset as a zip beside it.

    Args:
        video: the file.
        threads: frames worked on at once.
        device: where networks run.

    Raises:
        JobError: a package that labeling needs is missing, or the video gave no label.
        AssetError: a file that labeling needs is missing.
    """
    try:
        from anthrotap_builder.config import labeling_config
        from anthrotap_builder.label_videos import LabelOptions, label_videos
        from anthrotap_builder.utils.video_paths import OVERLAY
        from anthrotap_hf.data.shard_reader import find_shards
        from anthrotap_hf.schema import MANIFEST
    except ImportError as error:
        raise JobError(missing_extra(error)) from error

    def on_progress(_: Path, stage: str, done: int, total: int | None) -> None:
        report_progress(STAGES.get(stage, stage), done, total)

    folder, video, out = video.parent, Path(video.name), Path("labels")
    report_progress("getting ready", 0, None)
    config = labeling_config("open", {})
    options = LabelOptions(threads=threads, device=device, overwrite=True)
    with chdir(folder):
        try:
            (result,) = label_videos([video], out, config, options, on_progress)
        except ImportError as error:
            raise JobError(error) from error
        if not result.rows:
            raise JobError(
                f"Nothing was labeled: {result.failure}. It takes people who are large enough and mostly in view; "
                "fast motion, blur and dark clothes make it hard."
            )
        packed = Path(f"{video.stem}.labels.zip")
        # Parquet is compressed by itself.
        with zipfile.ZipFile(packed, "w") as archive:
            for file in (*find_shards(out / "data"), out / MANIFEST):
                archive.write(file, file.relative_to(out))
    overlay, picture = (folder / out / f"{video.stem}{end}" for end in (OVERLAY, ".tracks.jpg"))
    files = [folder / packed, overlay, picture]
    return LabelingResult(result.totals(), len(result.skipped), result.failure, overlay, picture, files)
