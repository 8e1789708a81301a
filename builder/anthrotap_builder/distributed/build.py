"""A build from its inputs to a dataset: find videos, plan, label, assign rows to shards, write, finalize."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from anthrotap_builder.distributed import executors
from anthrotap_builder.distributed.config import BuildConfig, ResourceLimits
from anthrotap_builder.distributed.executors import ClusterSettings
from anthrotap_builder.distributed.state import BuildError, BuildFolder, IncompleteError, Plan
from anthrotap_builder.distributed.steps import (
    AssignShards,
    BuildStep,
    FinalizeDataset,
    LabelVideos,
    WriteShards,
    new_worker,
)
from anthrotap_builder.distributed.video_sources import Source
from anthrotap_builder.video_result import VideoResult
from anthrotap_hf.schema import MANIFEST, VIDEO_LIST
from anthrotap_hf.utils.atomic_files import sweep
from anthrotap_hf.utils.folder_lock import locked_folder

EXECUTORS = ("local", "slurm", "ray")
# What a build puts beside its `.build`, and may replace.
DATASET_FILES = ("data", MANIFEST, VIDEO_LIST, "README.md")
# Folders of `.build`, with datatrove's marks of what is done.
FINISHING = (AssignShards.name, WriteShards.name, FinalizeDataset.name, "finish")
# Attempts to label again what turned out lost or damaged: each finds one file, or a few.
MAX_ROUNDS = 20
MAX_VIDEOS_PER_RANK = 64
RANKS_PER_WORKER = 4

OnProgress = Callable[[str, int | None, int, int], object]
"""Is called again and again with the name of the step, the number of videos (None for a step without such a
number), of those that are labeled, and of those that failed."""


@dataclass(frozen=True)
class RunOptions:
    """Where and how a build runs; nothing of the result depends on it.

    Attributes:
        executor: of EXECUTORS. "slurm" submits jobs and returns; all others wait.
        workers: processes at once, each of which labels one video at a time.
        cluster: for Slurm and Ray.
        videos_per_rank: how many videos are one unit of work; None chooses.
        retry_failed: whether videos that an earlier run gave up are tried again.
    """

    executor: str = "local"
    workers: int = 1
    cluster: ClusterSettings = field(default_factory=ClusterSettings)
    videos_per_rank: int | None = None
    retry_failed: bool = False


@dataclass
class BuildReport:
    """What a build did.

    Attributes:
        videos: how many it was given.
        labeled: how many of them in this run.
        failed: a line for each video that gave no labels, or not all of them.
        skipped: how many frames make no row, by reason.
        people: how many have labels, added up over the videos.
        people_found: how many were found.
        unlabeled: in how many clips people have no label, by reason.
        warnings: a line for each video to look at.
        rows: by split; None while Slurm is at work.
        jobs: numbers of Slurm jobs.
        exceeded: the limits that videos exceeded, of those of `ResourceLimits`.
        seconds: wall time.
    """

    videos: int
    labeled: int = 0
    failed: list[str] = field(default_factory=list)
    skipped: dict[str, int] = field(default_factory=dict)
    people: int = 0
    people_found: int = 0
    unlabeled: dict[str, int] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    rows: dict[str, int] | None = None
    jobs: list[str] = field(default_factory=list)
    exceeded: list[str] = field(default_factory=list)
    seconds: float = 0.0


def build_dataset(
    build: BuildConfig,
    sources: Sequence[Source],
    options: RunOptions | None = None,
    on_progress: OnProgress | None = None,
) -> BuildReport:
    """Label the videos that have no labels of this recipe yet, and make a dataset of all.

    Args:
        build: what to make, and where.
        sources: the videos.
        options: where and how it runs.
        on_progress: see `OnProgress`.

    Raises:
        BuildError: if it can't go on; what was labeled stays, and the same call goes on.
    """
    begin = time.perf_counter()
    options = options or RunOptions()
    folder = build.folder
    report = BuildReport(len(sources))
    note = folder.state / "slurm.json"
    _check_out(folder, sources)
    # Slurm jobs may be at work there: only then is it known what is left of runs that were killed.
    with locked_folder(folder.out, clean=False):
        if jobs := executors.slurm_jobs_at_work(note):
            done = len({source.key for source in sources} & folder.results().keys())
            raise BuildError(
                f"Slurm jobs {', '.join(jobs)} are at work here, {done} of {len(sources)} videos are done",
                path=folder.out,
                hint="wait for them, or scancel them",
            )
        _clean(folder)
        folder.save_inputs(list(sources))
        for attempt in range(MAX_ROUNDS):
            for name in FINISHING:
                shutil.rmtree(folder.state / name, ignore_errors=True)
            plan = _plan(build, sources, options, options.retry_failed and not attempt)
            if plan and plan.path.name == "plan-000" and not attempt and _starts_several(options):
                _check_parts(build)
            report.labeled += len(plan.sources()) - len(list(plan.results())) if plan else 0
            steps = _steps(build, plan, options.workers)
            if options.executor == "slurm":
                report.jobs = executors.submit_to_slurm(steps, options.workers, options.cluster, note)
                return report
            try:
                _run(steps, options, on_progress)
                break
            except IncompleteError as error:
                if attempt == MAX_ROUNDS - 1:
                    raise BuildError(f"{error}, again and again: is the disk sound?") from error
        _clean(folder)
        results = folder.results()
    found = [results[source.key] for source in sources]
    report.failed = [result.message for result in found if result.message]
    report.warnings = [f"{result.video}: {line}" for result in found for line in result.warnings]
    # Copies of a video count once.
    in_order = sorted(found, key=lambda result: result.rows != 0)
    contents = list({result.sha256 or result.source: result for result in in_order}.values())
    report.people = sum(len(result.labeled_people) for result in contents)
    report.people_found = sum(len(result.people) for result in contents)
    for result in contents:
        for frames in result.skipped:
            report.skipped[frames.reason] = report.skipped.get(frames.reason, 0) + frames.num_frames
        for person in result.unlabeled:
            report.unlabeled[person.reason] = report.unlabeled.get(person.reason, 0) + 1
    report.exceeded = sorted({limit for result in found for limit in result.exceeded})
    report.rows = _rows_by_split(folder.out)
    report.seconds = time.perf_counter() - begin
    return report


def _check_out(folder: BuildFolder, sources: Sequence[Source]) -> None:
    """Refuse to replace what no build has made, and to label what a build has made."""
    if not sources:
        raise BuildError("no video to label")
    if not folder.state.exists():
        foreign = [name for name in DATASET_FILES if (folder.out / name).exists()]
        if foreign and not _is_build(folder.out / MANIFEST):
            raise BuildError(
                f"holds {foreign[0]}, which no build has made", path=folder.out, hint="take another folder"
            )
    for source in sources:
        if Path(source.address).is_relative_to(folder.out):
            reason = f"lies in the folder of the dataset, {folder.out}"
            raise BuildError(reason, path=source.display_name, hint="take another for --out")


def _is_build(manifest: Path) -> bool:
    try:
        return "splits" in json.loads(manifest.read_text())
    except (OSError, ValueError, TypeError):
        return False


def _plan(build: BuildConfig, sources: Sequence[Source], options: RunOptions, retry_failed: bool) -> Plan | None:
    """What is still to do: the last plan, if it is just that; None for nothing."""
    folder = build.folder
    results = folder.results()
    to_do = [source for source in sources if _is_open(results.get(source.key), build.limits, retry_failed)]
    if not to_do:
        return None
    plans = folder.plans()
    left = [source for source in plans[-1].sources() if source.key not in results] if plans else []
    if to_do == left:
        return plans[-1]
    # Few enough videos in each rank that all workers end at about the same time.
    even = max(1, min(MAX_VIDEOS_PER_RANK, len(to_do) // (RANKS_PER_WORKER * options.workers)))
    known = {result.sha256 for result in results.values() if result.sha256 and not result.failure}
    return folder.new_plan(to_do, -(-len(to_do) // (options.videos_per_rank or even)), known)


def _is_open(result: VideoResult | None, limits: ResourceLimits, retry_failed: bool) -> bool:
    """Whether a video is to be labeled, for the first time or again."""
    if result is None or (result.failure and result.failure_kind == "unavailable"):
        return True
    raised = any(getattr(limits, name) > allowed for name, allowed in result.exceeded.items())
    return raised or (retry_failed and result.failure is not None)


def _steps(build: BuildConfig, plan: Plan | None, workers: int) -> list[BuildStep]:
    """The whole build, top to bottom."""
    label = [] if plan is None else [LabelVideos(build, plan)]
    return [*label, AssignShards(build), WriteShards(build, workers), FinalizeDataset(build)]


def _run(steps: list[BuildStep], options: RunOptions, on_progress: OnProgress | None) -> None:
    seen: dict[Path, tuple[int, int, int]] = {}
    for step in steps:
        total = len(step.plan.sources()) if isinstance(step, LabelVideos) else None

        def report(step: BuildStep = step, total: int | None = total) -> None:
            if on_progress:
                counts = step.plan.progress(seen) if isinstance(step, LabelVideos) else (0, 0)
                on_progress(step.name, total, *counts)

        report()
        if options.executor == "ray" and isinstance(step, LabelVideos):
            executors.run_on_ray(step, options.workers, options.cluster)
        else:
            executors.run_locally(step, options.workers, report)
        report()


def _clean(folder: BuildFolder) -> None:
    """Delete what processes that were killed left half-written."""
    shutil.rmtree(folder.scratch, ignore_errors=True)
    for path in (folder.out, *(Path(state) for state, _, _ in os.walk(folder.state))):
        sweep(path)


def _starts_several(options: RunOptions) -> bool:
    """Whether several workers would meet the same missing part, or make the same cache, at a time."""
    return options.executor == "ray" or (options.executor == "local" and options.workers > 1)


def _check_parts(build: BuildConfig) -> None:
    """Find out what is missing before any worker starts, and make caches once, not in all workers at a time."""
    worker = new_worker(build)
    try:
        worker.start()
    finally:
        worker.close()


def _rows_by_split(out: Path) -> dict[str, int]:
    splits = json.loads((out / MANIFEST).read_text())["splits"]
    return {name: split["rows"] for name, split in splits.items()}


def count_cores() -> int:
    """The number of cores of this machine that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
