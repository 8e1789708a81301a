"""A build from its inputs to a dataset: find videos, plan, label, arrange, write, conclude."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from anthrotap_builder.distributed import executors
from anthrotap_builder.distributed.config import Build, Limits
from anthrotap_builder.distributed.executors import ClusterSettings, Stage
from anthrotap_builder.distributed.state import BuildError, BuildFolder, IncompleteError, Plan, VideoResult
from anthrotap_builder.distributed.steps import ArrangeRows, Conclude, LabelVideos, WriteShards, new_labeler
from anthrotap_builder.distributed.video_sources import Source

EXECUTORS = ("local", "slurm", "ray")
REPLACED = ("data", "manifest.json", "videos.jsonl", "README.md")
FINISHING = ("arrange", "write", "conclude", "finish")  # folders of .build, with marks of what is completed
ROUNDS = 20  # of labeling again what turned out lost or damaged: each finds one file, or a few
VIDEOS_A_RANK = 64
RANKS_A_WORKER = 4


@dataclass
class BuildReport:
    """What a build did.

    Attributes:
        videos: that it was given.
        labeled: of them in this run.
        failed: why videos gave nothing, or not all of it, a line each.
        rows: by split; None while Slurm is at work.
        jobs: numbers of Slurm jobs.
        seconds: wall time.
    """

    videos: int
    labeled: int = 0
    failed: list[str] = field(default_factory=list)
    rows: dict[str, int] | None = None
    jobs: list[str] = field(default_factory=list)
    seconds: float = 0.0


Watch = Callable[[Plan | None, str], None]
"""Is called again and again with the plan at work and the name of the stage."""


def build_dataset(
    build: Build,
    sources: list[Source],
    executor: str = "local",
    workers: int = 1,
    cluster: ClusterSettings | None = None,
    videos_a_rank: int | None = None,
    retry_failed: bool = False,
    watch: Watch | None = None,
) -> BuildReport:
    """Labels what has no labels yet of this recipe, and makes a dataset of all.

    Args:
        build: what to make, and where.
        sources: the videos.
        executor: where it runs, of EXECUTORS. "slurm" submits jobs and returns; all others wait.
        workers: processes at once, each of which labels one video at a time.
        cluster: for Slurm and Ray.
        videos_a_rank: how the work is cut; only speed depends on it.
        retry_failed: whether videos that an earlier run gave up are tried again.
        watch: see `Watch`.

    Raises:
        BuildError: if it can't go on; what was labeled stays, and the same call goes on.
    """
    begin = time.perf_counter()
    folder = build.folder
    cluster = cluster or ClusterSettings()
    report = BuildReport(len(sources))
    note = folder.state / "slurm.json"
    _check_out(folder, sources)
    with folder.locked():
        if jobs := executors.slurm_jobs_at_work(note):
            done = len({source.key for source in sources} & folder.outcomes().keys())
            raise BuildError(
                f"{folder.out}: Slurm jobs {', '.join(jobs)} are at work here, {done} of {len(sources)} videos are "
                "done; wait for them, or scancel them"
            )
        _clear(folder)
        folder.save_inputs(sources)
        for attempt in range(ROUNDS):
            for name in FINISHING:
                shutil.rmtree(folder.state / name, ignore_errors=True)
            plan = _plan(build, sources, workers, videos_a_rank, retry_failed and not attempt)
            if plan and plan.path.name == "plan-000" and executor != "slurm" and not attempt:
                _check_parts(build)
            report.labeled += len(plan.sources()) - len(list(plan.outcomes())) if plan else 0
            stages = _stages(build, plan, workers)
            if executor == "slurm":
                report.jobs = executors.submit_to_slurm(stages, workers, cluster, note)
                return report
            try:
                _run(stages, plan, executor, workers, cluster, watch)
                break
            except IncompleteError as error:
                if attempt == ROUNDS - 1:
                    raise BuildError(f"{error}, again and again: is the disk sound?") from error
        shutil.rmtree(folder.finish, ignore_errors=True)
        _clear(folder)
        outcomes = folder.outcomes()
    found = [outcomes[source.key] for source in sources]
    report.failed = [outcome.failure for outcome in found if outcome.failure]
    report.rows = _rows_by_split(folder.out)
    report.seconds = time.perf_counter() - begin
    return report


def _check_out(folder: BuildFolder, sources: list[Source]) -> None:
    """Nothing that is not a build's is replaced, and nothing of a build is labeled."""
    if not sources:
        raise BuildError("no video to label")
    if not folder.state.exists():
        foreign = [name for name in REPLACED if (folder.out / name).exists()]
        if foreign and not _is_build(folder.out / "manifest.json"):
            raise BuildError(
                f"{folder.out}: holds {foreign[0]}, which no build has made; take another folder"
            )
    inside = [source for source in sources if Path(source.address).is_relative_to(folder.out)]
    if inside:
        raise BuildError(
            f"{inside[0].shown}: lies in the folder of the dataset, {folder.out}; take another for --out"
        )


def _is_build(manifest: Path) -> bool:
    try:
        return "splits" in json.loads(manifest.read_text())
    except (OSError, ValueError, TypeError):
        return False


def _plan(
    build: Build,
    sources: list[Source],
    workers: int,
    videos_a_rank: int | None,
    retry_failed: bool,
) -> Plan | None:
    """What is still to do: the last plan, if it is just that; None for nothing."""
    folder = build.folder
    outcomes = folder.outcomes()
    to_do = [source for source in sources if _is_open(outcomes.get(source.key), build.limits, retry_failed)]
    if not to_do:
        return None
    plans = folder.plans()
    left = [source for source in plans[-1].sources() if source.key not in outcomes] if plans else []
    if to_do == left:
        return plans[-1]
    ranks = -(-len(to_do) // (videos_a_rank or _share(len(to_do), workers)))
    return folder.new_plan(to_do, ranks, _known(outcomes))


def _is_open(outcome: VideoResult | None, limits: Limits, retry_failed: bool) -> bool:
    """Whether a video is to be labeled, for the first time or again."""
    if outcome is None or outcome.gone:
        return True
    raised = any(getattr(limits, name) > allowed for name, allowed in outcome.exceeded.items())
    return raised or (retry_failed and outcome.failure is not None)


def _share(videos: int, workers: int) -> int:
    """Videos of a rank: few enough that all workers end at about the same time."""
    return max(1, min(VIDEOS_A_RANK, videos // (RANKS_A_WORKER * workers)))


def _known(outcomes: dict[str, VideoResult]) -> set[str]:
    return {outcome.sha256 for outcome in outcomes.values() if outcome.sha256 and not outcome.failure}


def _stages(build: Build, plan: Plan | None, workers: int) -> list[Stage]:
    """The whole build, top to bottom."""
    folder = build.folder
    label = [] if plan is None else [Stage(LabelVideos(build, plan.path), plan.ranks, plan.logs, True)]
    return [
        *label,
        Stage(ArrangeRows(build), 1, folder.state / "arrange"),
        Stage(WriteShards(build), workers, folder.state / "write"),
        Stage(Conclude(build), 1, folder.state / "conclude"),
    ]


def _run(
    stages: list[Stage],
    plan: Plan | None,
    executor: str,
    workers: int,
    cluster: ClusterSettings,
    watch: Watch | None,
) -> None:
    for stage in stages:
        label = isinstance(stage.step, LabelVideos)

        def look(name: str = stage.name, plan: Plan | None = plan if label else None) -> None:
            if watch:
                watch(plan, name)

        look()
        if executor == "ray" and label:
            executors.run_on_ray([stage], workers, cluster)
        else:
            executors.run_locally([stage], workers, look)
        look()


def _clear(folder: BuildFolder) -> None:
    """What processes that were killed left half-written."""
    shutil.rmtree(folder.scratch, ignore_errors=True)
    for before in folder.out.glob(".*-before-data"):  # killed between two renames
        if not (folder.out / "data").exists():
            before.rename(folder.out / "data")
    halves = [*folder.out.glob(".*-incomplete-*"), *folder.out.glob(".*-before-data")]
    for half in [*halves, *folder.state.rglob(".*-incomplete-*")]:
        shutil.rmtree(half) if half.is_dir() else half.unlink()


def _check_parts(build: Build) -> None:
    """Says what is missing before any worker starts; makes caches once, not in all workers at a time."""
    labeler = new_labeler(build)
    try:
        labeler.start()
    finally:
        labeler.close()


def _rows_by_split(out: Path) -> dict[str, int]:
    splits = json.loads((out / "manifest.json").read_text())["splits"]
    return {name: split["rows"] for name, split in splits.items()}


def cores() -> int:
    """Of this machine, for this process."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
