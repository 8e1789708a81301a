"""Labels videos and reports what happened: the one loop behind `anthrotap label`, `anthrotap build` and `datasets`.

`VideoLabeling` yields the labeled clips of one video and says in a `VideoResult` what came of it. `label_into_rows`
leaves the clips' rows in a file, which waits until a shard takes them. `label_videos` does so with several videos and
writes the dataset.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import time
from collections import Counter
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from anthrotap_builder import pipeline
from anthrotap_builder.bodies import load_body
from anthrotap_builder.config import LabelingConfig
from anthrotap_builder.mesh_recovery.mesh_file import SUFFIX, MeshFile, MeshFileError
from anthrotap_builder.mesh_recovery.mesh_writer import MeshWriter
from anthrotap_builder.overlay_files import OverlayFiles
from anthrotap_builder.shards import ShardWriter, Tally, check_no_shards, write_manifest
from anthrotap_builder.utils.malloc import limit_malloc_arenas
from anthrotap_builder.utils.prefetch import prefetch
from anthrotap_builder.utils.row_file import RowReader, atomic_rows
from anthrotap_builder.utils.thread_limits import thread_environment
from anthrotap_builder.utils.video_paths import OVERLAY, SHEET
from anthrotap_builder.video_result import (
    LISTED,
    VideoResult,
    concerns_all_videos,
    describe_error,
    summarize_clip,
)
from anthrotap_hf.schema import MANIFEST, encode_row, encode_table, features
from anthrotap_hf.utils.atomic_files import beside, file_change, file_sha256, replace_dir
from anthrotap_hf.utils.errors import format_error
from anthrotap_hf.utils.folder_lock import locked_folder
from anthrotap_hf.utils.stop_signals import uninterrupted
from anthrotap_hf.utils.workers import WorkerError, WorkerPool, progress_reporter
from anthrotap_hf.video import VideoError, check_video, probe

if TYPE_CHECKING:
    from anthrotap_builder.pipeline import LabeledClip

logger = logging.getLogger(__name__)

RESULT = "anthrotap.result"
"""The note of a file of rows that holds the `VideoResult`, as JSON."""
OnProgress = Callable[[Path, str, int, int | None], object]
"""Is called with a video, the stage that begins, the number of frames labeled before, and about how many there are
(None: the file does not say)."""


@dataclass(frozen=True)
class VideoJob:
    """A video to label, and how.

    Attributes:
        path: the file.
        config: everything that changes a label.
        video: how messages name it; the path if empty.
        name: the file's name in the dataset; that of the path if empty.
        threads: how many frames are worked on at once.
        device: where networks run, as torch names it.
        meshes: of the video, where `config.mesh_source` is "file".
        rows: where to leave the rows.
        overlay: the path without suffix of an overlay video and a picture to leave, or None.
        write_meshes: whether to leave the meshes beside the overlay.
        keep_partial: whether the clips before an error in labeling are kept.
    """

    path: Path
    config: LabelingConfig
    video: str = ""
    name: str = ""
    threads: int = 2
    device: str = "cpu"
    meshes: MeshFile | None = None
    rows: Path = Path()
    overlay: Path | None = None
    write_meshes: bool = False
    keep_partial: bool = False

    def new_result(self) -> VideoResult:
        """The result before anything has happened."""
        overlay = self.overlay.name + OVERLAY if self.overlay else None
        return VideoResult(self.video or os.fspath(self.path), self.name or self.path.name, overlay=overlay)


class VideoLabeling:
    """The labeling of one video: an iterator over its clips, those without tracks too, which fills in `result`.

    Whatever is the video's own fault ends the iteration and becomes the result's failure. The next clip is labeled
    while one is used, unless the job has one thread.

    Args:
        job: the video, and how to label it.
        on_stage: is called with the name of each stage as it begins.

    Raises:
        AssetError, ImportError, MemoryError: while iterating, for what no other video would get around.
        OSError: likewise, for `SYSTEM_ERRORS`.
    """

    def __init__(self, job: VideoJob, on_stage: Callable[[str], object] | None = None) -> None:
        self.job = job
        self.result = job.new_result()
        self._on_stage = on_stage

    def __iter__(self) -> Generator[LabeledClip, None, None]:
        begin, job, result = time.perf_counter(), self.job, self.result
        limit_malloc_arenas()
        try:
            clips = pipeline.label_video(
                job.path,
                job.config,
                job.threads,
                job.device,
                on_stage=self._on_stage,
                on_skipped=result.skipped.append,
                meshes=job.meshes,
            )
            for clip in prefetch(clips, job.threads):
                clip = replace(clip, source_video=result.name)
                self._count(clip)
                yield clip
        except VideoError as error:
            result.fail(format_error(error.reason, None, error.hint), "content")
        except Exception as error:
            if concerns_all_videos(error):
                raise
            if isinstance(error, OSError):
                result.fail(describe_error(error), "unavailable")
            else:
                logger.debug("%s", job.path, exc_info=True)
                result.fail(f"stopped by an error in labeling ({describe_error(error)})", "error")
        if not result.rows and not result.failure:
            left_out = Counter[str]()
            for frames in result.skipped:
                left_out[frames.reason] += frames.num_frames
            reasons = "; ".join(f"{count} frames: {reason}" for reason, count in left_out.items())
            result.fail(f"no label ({reasons or 'no clip'})", "content")
        result.skipped.sort(key=lambda frames: frames.start_frame)
        result.seconds = time.perf_counter() - begin

    def _count(self, clip: LabeledClip) -> None:
        result = self.result
        result.sha256 = clip.source_sha256
        result.tally.add(clip.tracks, clip.rejected_fraction)
        result.motion += clip.motion
        for person in clip.people:
            result.see(person["person"], clip.start_frame, clip.tracks.num_frames, person["no_track"])
        if clip.skipped:
            result.skipped.append(clip.skipped)
            return
        result.rows = (result.rows or 0) + 1
        result.frames += clip.tracks.num_frames
        result.clips.append(summarize_clip(clip))


def label_into_rows(job: VideoJob) -> VideoResult:
    """Label a video and leave its rows, with the result, in a file; there is no file if there is no row.

    Progress is reported as `report_progress` does: the stage, frames labeled so far, and about how many there are.

    Raises:
        AssetError, ImportError, MemoryError, OSError: as `VideoLabeling`.
    """
    expected = _expected_frames(job)
    done = 0
    report = progress_reporter()
    labeling = VideoLabeling(job, lambda stage: report(stage, done, expected))
    result = labeling.result
    columns = features(job.config.clips.clip_frames)
    with ExitStack() as stack:
        rows = stack.enter_context(atomic_rows(job.rows))
        overlay = stack.enter_context(OverlayFiles(job.overlay)) if job.overlay else None
        meshes = stack.enter_context(_mesh_writer(job)) if job.write_meshes else None
        for clip in stack.enter_context(closing(iter(labeling))):
            if overlay:
                overlay.add(clip)
            if meshes and clip.camera:
                meshes.add(clip.mesh_frames, clip.meshes, clip.camera)
            if not clip.skipped:
                rows.write(encode_table([encode_row(clip, job.config.clips.clip_frames)], columns))
            done += clip.tracks.num_frames
        change = file_change(job.path, result.sha256)
        if change:
            # Which of its bytes were read, nobody knows.
            result.fail(f"{change} while it was labeled", "unavailable")
        if change == "changed" or (not result.is_final and not job.keep_partial):
            rows.discard()
            result.rows, result.frames, result.clips = 0, 0, []
        rows.notes[RESULT] = json.dumps(result.as_json())
    return result


def _mesh_writer(job: VideoJob) -> MeshWriter:
    surface = job.meshes.surface if job.meshes else load_body
    body = surface(job.config.body, job.config.gender, job.config.body_file)
    stem = job.overlay or job.rows
    return MeshWriter(stem.with_name(stem.name + SUFFIX), body)


def _can_be_opened(video: Path) -> bool:
    """Whether a video is one; what is none fails by itself, and needs no part of the labeling."""
    try:
        check_video(video)
    except VideoError:
        return False
    return True


def _expected_frames(job: VideoJob) -> int | None:
    """About how many frames will be labeled; None if the file does not say."""
    try:
        info = probe(job.path)
    except VideoError:
        # Labeling will meet the same error, and report it.
        return None
    if not info.fps or not info.duration:
        return None
    return round(info.duration * min(info.fps, job.config.clips.fps or info.fps))


@dataclass(frozen=True)
class LabelOptions:
    """How `label_videos` works, and what it leaves.

    Attributes:
        workers: how many videos are labeled at once; with more than one, each in a process of its own.
        threads: how many frames of a video are worked on at once.
        device: where networks run, as torch names it.
        overwrite: whether shards of an earlier run may be replaced.
        meshes: of each video, where `mesh_source` is "file"; an error is that video's failure.
        write_meshes: whether to leave each video's meshes in a `*.meshes.npz`.
    """

    workers: int = 1
    threads: int = 2
    device: str = "cpu"
    overwrite: bool = False
    meshes: Mapping[Path, MeshFile | MeshFileError] | None = None
    write_meshes: bool = False


def label_videos(
    videos: Sequence[Path],
    out: Path,
    config: LabelingConfig,
    options: LabelOptions | None = None,
    on_progress: OnProgress | None = None,
) -> list[VideoResult]:
    """Label videos into one folder of shards; a bad video costs only itself and is listed in the manifest.

    Args:
        videos: the files.
        out: folder for `data/train-*.parquet`, `manifest.json`, and per video `*.tracks.mp4` and `*.tracks.jpg`.
        config: everything that changes a label.
        options: how to work, and what to leave.
        on_progress: is called as each stage of a video begins, and with the stage "done" as a video ends.

    Returns:
        What came of each video, in their order.

    Raises:
        AssetError, ImportError: for what labeling needs and is missing.
        MemoryError, OSError: for what no other video would get around, as `VideoLabeling`.
        FileExistsError: if `out` holds shards that may not be replaced.
        FolderInUseError: if another run is at work there.
    """
    options = options or LabelOptions()
    given, bad = _sorted_meshes(config, options.meshes or {})
    if config.meshes_from_file != bool(options.meshes):
        raise ValueError("mesh_source: file needs files of meshes, and goes only with them")
    # Before anything that takes long.
    if not options.overwrite:
        check_no_shards(out / "data")
    if any(map(_can_be_opened, videos)):
        pipeline.load_parts(config, options.device)
    names = _unique_names(videos)
    # All that is written waits in a folder of its own: a run that does not end leaves nothing.
    staged = beside(out / "labels", "incomplete")
    with locked_folder(out, "data"):
        if not options.overwrite:
            check_no_shards(out / "data")
        (staged / "rows").mkdir(parents=True)
        (staged / "overlays").mkdir()
        try:
            jobs = [
                VideoJob(
                    path=video,
                    config=config,
                    threads=options.threads,
                    device=options.device,
                    meshes=given.get(video),
                    rows=staged / f"rows/{number}.rows",
                    overlay=staged / "overlays" / names[video],
                    write_meshes=options.write_meshes,
                    keep_partial=True,
                )
                for number, video in enumerate(videos)
            ]
            found = _label_jobs(jobs, bad, options, on_progress)
            with ShardWriter(staged / "data", config.clips.clip_frames) as shards:
                for job, result in zip(jobs, found, strict=True):
                    # A process may have died between its file and its answer: that is a failed video, without rows.
                    if result.rows:
                        for row in RowReader(job.rows):
                            shards.write_row(row)
            if shards.paths or not (out / MANIFEST).exists():
                _keep_other_files(out / "data", staged / "data")
                tally = Tally.merge(result.tally for result in found)
                write_manifest(staged, config, tally, _describe_videos(found, [given.get(video) for video in videos]))
            else:
                logger.warning("%s: nothing was labeled, so what an earlier run left in it stays", out)
            with uninterrupted():
                with_rows = [names[video] for video, result in zip(videos, found, strict=True) if result.rows]
                _move_results(staged, out, with_rows, options.overwrite)
        finally:
            shutil.rmtree(staged, ignore_errors=True)
    return found


def _keep_other_files(data: Path, staged: Path) -> None:
    """Let a new folder of shards have the files of the old one that label no videos: of other splits, or a user's."""
    others = [path for path in data.glob("*") if not path.match("train-?????-of-?????.parquet")]
    for path in others:
        staged.mkdir(exist_ok=True)
        if path.is_dir():
            shutil.copytree(path, staged / path.name)
        else:
            shutil.copyfile(path, staged / path.name)


def _move_results(staged: Path, out: Path, names: Sequence[str], overwrite: bool) -> None:
    """Give the results of a run their places, and what lies beside the shards for the videos of these names."""
    for name in names:
        for suffix in (OVERLAY, SHEET, SUFFIX):
            if (path := staged / "overlays" / (name + suffix)).exists():
                path.replace(out / path.name)
    if not (staged / MANIFEST).exists():
        return
    if not overwrite:
        # Another program may have written some meanwhile.
        check_no_shards(out / "data")
    if (staged / "data").exists():
        replace_dir(staged / "data", out / "data")
    (staged / MANIFEST).replace(out / MANIFEST)


def _sorted_meshes(
    config: LabelingConfig, meshes: Mapping[Path, MeshFile | MeshFileError]
) -> tuple[dict[Path, MeshFile], dict[Path, MeshFileError]]:
    """The meshes that can be labeled by the configuration, and why others can't. Raises if none can."""
    good: dict[Path, MeshFile] = {}
    bad: dict[Path, MeshFileError] = {}
    for video, file in meshes.items():
        try:
            if isinstance(file, MeshFileError):
                raise file
            file.surface(config.body, config.gender, config.body_file)
            good[video] = file
        except MeshFileError as error:
            bad[video] = error
    if bad and not good:
        raise next(iter(bad.values()))
    return good, bad


def _label_jobs(
    jobs: Sequence[VideoJob],
    bad: Mapping[Path, MeshFileError],
    options: LabelOptions,
    on_progress: OnProgress | None,
) -> list[VideoResult]:
    """Label videos in worker processes, or one after the other in this process; results in their order.

    Those with `bad` meshes are not labeled: that is their failure.
    """
    results: dict[Path, VideoResult] = {}
    for job in jobs:
        if job.path in bad:
            results[job.path] = job.new_result()
            results[job.path].fail(str(bad[job.path]), "content")
    size = min(options.workers, len(jobs))
    report = on_progress and partial(_forward, on_progress)
    environment = thread_environment(options.threads)
    with WorkerPool(size if size > 1 else 0, "anthrotap labeling", env=environment) as pool:
        for outcome in pool.run(label_into_rows, [job for job in jobs if job.path not in bad], on_progress=report):
            job = outcome.task
            if isinstance(outcome.error, WorkerError):
                result = job.new_result()
                result.fail_with_worker(outcome.error)
            elif outcome.error and not concerns_all_videos(outcome.error):
                logger.debug("%s", job.path, exc_info=outcome.error)
                result = job.new_result()
                result.fail(describe_error(outcome.error), "error")
            else:
                result = outcome.result()
            results[job.path] = result
            if on_progress:
                on_progress(job.path, "done", result.tally.frames, result.tally.frames)
    return [results[job.path] for job in jobs]


def _forward(on_progress: OnProgress, job: VideoJob, stage: str, done: int, expected: int | None) -> None:
    on_progress(job.path, stage, done, expected)


def _describe_videos(results: Sequence[VideoResult], meshes: Sequence[MeshFile | None]) -> dict[str, Any]:
    """The entries of the manifest about the videos."""
    inputs = []
    for result, file in zip(results, meshes, strict=True):
        if result.rows:
            of_meshes = {"meshes": str(file.path), "meshes_sha256": file_sha256(file.path)} if file else {}
            inputs.append({"file": result.video, "sha256": result.sha256, **of_meshes})
    return {
        "inputs": inputs,
        "failed": [{"file": result.video, "reason": result.message} for result in results if result.failure],
        **{
            name: [f"{result.video}: {line}" for result in results for line in getattr(result, name)] for name in LISTED
        },
    }


def _unique_names(videos: Sequence[Path]) -> dict[Path, str]:
    """A name for each video's overlay: its stem, with a number if two videos have the same."""
    names: dict[Path, str] = {}
    for video in videos:
        name, number = video.stem, 2
        while name in names.values():
            name, number = f"{video.stem}-{number}", number + 1
        names[video] = name
    return names
