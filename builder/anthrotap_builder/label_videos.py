"""What `anthrotap label` does: videos in; shards, a manifest, overlays and pictures out, with progress shown."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import cv2
import numpy as np
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

from anthrotap_builder import pipeline
from anthrotap_builder.bodies import load_body
from anthrotap_builder.config import LabelingConfig
from anthrotap_builder.mesh_recovery.mesh_file import SUFFIX, MeshFile, MeshFileError, read_meshes
from anthrotap_builder.mesh_recovery.mesh_writer import MeshWriter
from anthrotap_builder.pipeline import LabeledClip, load_parts
from anthrotap_builder.shards import ShardWriter, Tally, write_manifest
from anthrotap_builder.utils.assets import AssetError
from anthrotap_builder.utils.prefetch import prefetch
from anthrotap_builder.utils.video_paths import OVERLAY
from anthrotap_hf.utils.atomic_files import atomic_write, file_sha256
from anthrotap_hf.video import VideoError, VideoWriter, probe
from anthrotap_hf.visualization.overlay import around_tracks, contact_sheet, draw_tracks, track_colors

logger = logging.getLogger(__name__)

SHEET_PICTURES = 8


@dataclass
class VideoReport:
    """What came out of one video.

    Attributes:
        video: the file.
        clips: numbers of each labeled clip.
        left_out: a line for each part that gave no labels.
        failure: why the video gave nothing, or not all of it.
        seconds: wall time.
    """

    video: Path
    clips: list[dict] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)
    failure: str | None = None
    seconds: float = 0.0

    def totals(self) -> dict[str, float]:
        """The video's numbers: counts add up, `people` is the most in one clip, the rest are means over clips."""
        labels = max(sum(clip["labels"] for clip in self.clips), 1)

        def mean(key: str) -> float:
            return float(np.mean([clip[key] for clip in self.clips])) if self.clips else float("nan")

        stages = dict.fromkeys(stage for clip in self.clips for stage in clip["stages"])
        return {
            "frames": sum(clip["frames"] for clip in self.clips),
            "clips": len(self.clips),
            "people": max((clip["people"] for clip in self.clips), default=0),
            "tracks": sum(clip["tracks"] for clip in self.clips),
            **{
                key: sum(clip[key] for clip in self.clips) / labels
                for key in ("visible", "occluded", "invalid")
            },
            **{key: mean(key) for key in ("rejected", "fit_error", "mask_overlap")},
            "seconds": self.seconds,
            **{
                f"{stage}_seconds": sum(clip["stages"].get(stage, 0.0) for clip in self.clips)
                for stage in stages
            },
        }


def find_meshes(path: Path, videos: list[Path]) -> dict[Path, MeshFile]:
    """The meshes of each video: from one file for one video, or a folder with a file for each, by the video's name.

    Raises:
        MeshFileError: if a file is missing or can't be used, or one has meshes of another body than the others.
    """
    if path.is_dir():
        files = {video: path / f"{video.stem}{SUFFIX}" for video in videos}
    elif len(videos) == 1:
        files = {videos[0]: path}
    else:
        raise MeshFileError(
            f"{path}: one file for {len(videos)} videos; name a folder with a NAME{SUFFIX} for each NAME.mp4"
        )
    meshes = {video: read_meshes(file) for video, file in files.items()}
    first = next(iter(meshes.values()))
    for other in meshes.values():
        if other.body != first.body:
            raise MeshFileError(
                f"{other.path}: meshes of the body {other.body!r}, those of {first.path} of {first.body!r}; "
                "label them in two runs"
            )
    return meshes


def label_videos(
    videos: list[Path],
    out: Path,
    config: LabelingConfig,
    threads: int,
    replace: bool,
    console: Console,
    meshes: Mapping[Path, MeshFile] | None = None,
    write_meshes: bool = False,
    device: str = "cpu",
    on_progress: Callable[[str, int, int | None], object] | None = None,
) -> list[VideoReport]:
    """Labels videos into one folder of shards; a bad video costs only itself and is listed in the manifest.

    Args:
        videos: the files.
        out: folder for `data/train-*.parquet`, `manifest.json`, and per video `*.tracks.mp4` and `*.tracks.jpg`.
        config: everything that changes a label.
        threads: how many frames are worked on at once.
        replace: whether shards of an earlier run may be replaced.
        console: where progress is shown.
        meshes: of each video, where `config.mesh_source` is "file".
        write_meshes: whether to leave each video's meshes in a `*.meshes.npz`.
        device: where networks run, as torch names it.
        on_progress: is told of each video's stages as they begin, with the frames labeled before, and how many there
            are about (None: the file does not say).

    Raises:
        FileExistsError: if `out` holds shards and `replace` is false.
    """
    if (config.mesh_source == "file") != bool(meshes):
        raise ValueError("mesh_source: file needs --meshes, and goes only with it")
    load_parts(config, device)
    for file in (meshes or {}).values():
        file.surface(config.body, config.gender, config.body_file)
    tally = Tally()
    reports = [VideoReport(video) for video in videos]
    names = _unique_names(videos)
    out.mkdir(parents=True, exist_ok=True)
    with (
        ShardWriter(out / "data", config.clips.clip_frames, replace=replace) as shards,
        _progress(console) as progress,
    ):
        for report in reports:
            given = (meshes or {}).get(report.video)
            stem = out / names[report.video]
            _label_one(
                report,
                stem,
                shards,
                tally,
                config,
                threads,
                progress,
                given,
                write_meshes,
                device,
                on_progress,
            )
    if shards.paths or not (out / "manifest.json").exists():
        write_manifest(out, config, tally)
    else:
        logger.warning("%s: nothing was labeled, so what an earlier run left there stays", out)
    return reports


def _label_one(
    report: VideoReport,
    stem: Path,
    shards: ShardWriter,
    tally: Tally,
    config: LabelingConfig,
    threads: int,
    progress: Progress,
    meshes: MeshFile | None,
    write_meshes: bool,
    device: str,
    on_progress: Callable[[str, int, int | None], object] | None,
) -> None:
    video, begin = report.video, time.perf_counter()
    expected = _expected_frames(video, config)
    bar = progress.add_task(video.name, total=expected, stage="reading")

    def on_stage(stage: str) -> None:
        progress.update(bar, stage=stage)
        if on_progress:
            on_progress(stage, round(progress.tasks[bar].completed), expected)

    def write(clip: LabeledClip) -> None:
        pictures.add(clip)
        if kept and clip.camera:
            kept.add(clip.source_frames, clip.meshes, clip.camera)
        tally.add(clip.tracks, clip.rejected_fraction)
        where = f"{clip.source_video}: {len(clip.frames)} frames from frame {clip.start_frame} on"
        report.left_out += [
            f"{where}: person {fit['person']}: no trusted track; of its meshes {fit['rejected_frames']} were refused"
            for fit in clip.people
            if not fit["tracks"] and not clip.left_out
        ]
        if clip.left_out:
            report.left_out.append(clip.left_out)
        else:
            shards.write(clip)
            report.clips.append(_numbers(clip))
        progress.advance(bar, len(clip.frames))

    def make(lines: list[str]) -> Iterator[LabeledClip]:
        return pipeline.label_video(
            video, config, threads, device, on_stage=on_stage, skipped=lines, meshes=meshes
        )

    with (
        _Pictures(stem) as pictures,
        _mesh_writer(stem, config, meshes) if write_meshes else nullcontext() as kept,
        closing(
            prefetch(make, report.left_out, threads)
        ) as clips,  # one is encoded while the next is labeled
    ):
        while clip := _next_clip(clips, report):
            write(clip)
    if not report.clips and not report.failure:
        reasons = dict.fromkeys(line.rpartition(": ")[2] for line in report.left_out)
        report.failure = f"{video}: no label ({'; '.join(reasons) or 'no clip'})"
    if report.failure:
        tally.failed.append({"file": str(video), "reason": report.failure})
    if report.clips:
        inputs = {"file": str(video), "sha256": file_sha256(video)}
        if meshes:
            inputs |= {"meshes": str(meshes.path), "meshes_sha256": file_sha256(meshes.path)}
        tally.inputs.append(inputs)
    tally.left_out += report.left_out
    report.seconds = time.perf_counter() - begin
    outcome = "done" if not report.failure else "damaged" if report.clips else "failed"
    progress.update(bar, stage=outcome, total=progress.tasks[bar].completed)


def _next_clip(clips: Iterator[LabeledClip], report: VideoReport) -> LabeledClip | None:
    """The next clip; None at the end, also at one by an error, which costs only this video and is noted."""
    try:
        return next(clips, None)
    except VideoError as error:
        report.failure = str(error)
    except (AssetError, ImportError, MemoryError):
        raise  # no other video would fare better
    except Exception as error:  # native libraries raise what they like
        logger.debug("%s", report.video, exc_info=True)
        reason = " ".join(str(error).split())
        report.failure = f"{report.video}: stopped by an error in labeling ({type(error).__name__}: {reason})"
    return None


def _mesh_writer(stem: Path, config: LabelingConfig, meshes: MeshFile | None) -> MeshWriter:
    surface = meshes.surface if meshes else load_body
    body = surface(config.body, config.gender, config.body_file)
    return MeshWriter(stem.with_name(stem.name + SUFFIX), body)


def summary_table(reports: list[VideoReport]) -> Table:
    """One line a video: people, tracks, fractions of visible, occluded and invalid labels, rejected fraction, fit error, rate."""
    table = Table(box=None, padding=(0, 1, 0, 0))
    table.add_column("video", overflow="fold")
    for name in ("frames", "people", "tracks", "visible", "occluded", "invalid", "rejected", "fit", "fps"):
        table.add_column(name, justify="right", no_wrap=True)
    for report in reports:
        total = report.totals()
        if not report.clips:
            table.add_row(report.video.name, *["-"] * 9)
            continue
        table.add_row(
            report.video.name,
            *(f"{total[key]}" for key in ("frames", "people", "tracks")),
            *(f"{100 * total[key]:.0f} %" for key in ("visible", "occluded", "invalid", "rejected")),
            "-" if np.isnan(total["fit_error"]) else f"{total['fit_error']:.1f} px",
            f"{total['frames'] / report.seconds:.1f}",
        )
    return table


def _numbers(clip: LabeledClip) -> dict:
    tracks = clip.tracks
    fitted = [person for person in clip.people if person["tracks"]]
    return {
        "clip_id": clip.clip_id,
        "frames": len(clip.frames),
        "people": len(fitted),
        "tracks": len(tracks),
        "labels": tracks.valid.size,
        **{key: int(getattr(tracks, key).sum()) for key in ("visible", "occluded", "invalid")},
        "rejected": clip.rejected_fraction,
        "fit_error": float(np.mean([person["reprojection_error"] for person in fitted])),
        "mask_overlap": float(np.mean([person["mask_overlap"] for person in fitted])),
        "stages": clip.seconds,
        "fits": clip.people,
    }


class _Pictures:
    """The overlay video of one input, and a contact sheet of a few of its frames."""

    def __init__(self, stem: Path) -> None:
        self.video = stem.with_name(stem.name + OVERLAY)
        self.sheet = stem.with_name(f"{stem.name}.tracks.jpg")
        self.writer: VideoWriter | None = None
        self.pictures: list[np.ndarray] = []
        self.frames = 0
        self.any_track = False
        self.every = 1  # frames between pictures kept; grows with the video, so that memory does not

    def __enter__(self) -> Self:
        return self

    def add(self, clip: LabeledClip) -> None:
        if self.writer is None:
            self.writer = VideoWriter(self.video, clip.fps)
        self.any_track |= len(clip.tracks) > 0
        colors = track_colors(clip.tracks)
        crop = around_tracks(clip.tracks)
        for t, image in enumerate(clip.frames):
            drawn = draw_tracks(image, clip.tracks, t, colors)
            self.writer.write(drawn)
            if self.frames % self.every == 0:
                self.pictures.append(drawn[crop])
            self.frames += 1
            if len(self.pictures) == 4 * SHEET_PICTURES:
                self.pictures = self.pictures[::2]
                self.every *= 2

    def __exit__(self, kind: type[BaseException] | None, *error: object) -> None:
        if self.writer is None:
            return
        if not self.any_track:  # nothing to look at
            self.writer.discard()
            return
        self.writer.__exit__(kind, *error)
        if kind is None:
            chosen = np.linspace(0, len(self.pictures) - 1, min(len(self.pictures), SHEET_PICTURES)).astype(
                int
            )
            sheet = contact_sheet([self.pictures[i] for i in chosen])
            _write_jpeg(self.sheet, sheet)


def _write_jpeg(path: Path, image: np.ndarray) -> None:
    _, encoded = cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 92])
    with atomic_write(path) as tmp_path:
        tmp_path.write_bytes(encoded.tobytes())


def _unique_names(videos: list[Path]) -> dict[Path, str]:
    """A name for each video's pictures: its stem, numbered where two videos share it."""
    names: dict[Path, str] = {}
    for video in videos:
        name, number = video.stem, 2
        while name in names.values():
            name, number = f"{video.stem}-{number}", number + 1
        names[video] = name
    return names


def _expected_frames(video: Path, config: LabelingConfig) -> int | None:
    """About how many frames will be labeled; None where the file does not say."""
    try:
        info = probe(video)
    except VideoError:  # label_video will say it again, and be heard
        return None
    if not info.fps or not info.duration:
        return None
    return round(info.duration * min(info.fps, config.clips.fps or info.fps))


def _progress(console: Console) -> Progress:
    return Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[stage]:<10}"),
        _RateColumn(),
        TimeRemainingColumn(),
        console=console,
    )


class _RateColumn(ProgressColumn):
    def render(self, task: Task) -> Text:
        elapsed = task.finished_time or task.elapsed
        return Text(f"{task.completed / elapsed:.1f} frames/s" if elapsed and task.completed else "")
