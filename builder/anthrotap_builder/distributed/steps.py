"""What the ranks of a build do: label, assign rows to shards, write them, finalize. Each step can be begun again."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from datatrove.pipeline.base import PipelineStep

from anthrotap_builder.distributed.assemble import assign_shards, finalize_dataset, write_shards
from anthrotap_builder.distributed.config import BuildConfig
from anthrotap_builder.distributed.state import IncompleteError, Journal, Plan, rows_path
from anthrotap_builder.distributed.worker import LabelJob, LabelWorker
from anthrotap_builder.utils.row_file import DamagedRowsError, RowReader, RowWriter, atomic_rows, quarantine
from anthrotap_builder.video_result import VideoResult

ROWS_PER_FILE = 4096


def label_rank(build: BuildConfig, plan: Plan, rank: int, worker: LabelWorker) -> None:
    """Label the videos of a rank of a plan, one after the other, and gather their rows in few files.

    Raises:
        BuildError: if the build can't go on.
    """
    _RankLabeling(build, plan, rank).run(worker)


class _RankLabeling:
    def __init__(self, build: BuildConfig, plan: Plan, rank: int) -> None:
        self.videos = build.folder.videos
        self.plan = plan
        self.rank = rank
        # The SHA-256 of videos whose rows are gathered already.
        self.gathered: set[str] = set()

    def run(self, worker: LabelWorker) -> None:
        sources = self.plan.sources(self.rank)
        for file in self.plan.row_files(self.rank):
            try:
                self.gathered |= {row.source_sha256 for row in RowReader(file).index()}
            except DamagedRowsError:
                quarantine(file)
        with Journal(self.plan.journal(self.rank)) as journal:
            for source in sources:
                done = journal.results.get(source.key)
                if done is None or self._is_lost(done):
                    journal.add(worker.label(source))
        self._gather([journal.results[source.key] for source in sources])

    def _is_lost(self, result: VideoResult) -> bool:
        """Whether rows that were labeled are neither gathered nor in a file of their own."""
        if not result.sha256 or not result.rows or result.sha256 in self.gathered:
            return False
        return not rows_path(self.videos, result.sha256).exists()

    def _gather(self, results: list[VideoResult]) -> None:
        """Copy the rows of these videos into few files, unless another rank has, and delete their own files."""
        contents = dict.fromkeys(result.sha256 for result in results if result.sha256 and result.rows)
        files = {sha: rows_path(self.videos, sha) for sha in contents if sha}
        waiting = [file for sha, file in files.items() if sha not in self.gathered and file.exists()]
        while waiting:
            copied = []
            with atomic_rows(self.plan.new_row_file(self.rank)) as rows:
                while waiting and len(rows) < ROWS_PER_FILE:
                    _copy(waiting[0], rows)
                    copied.append(waiting.pop(0))
            for file in copied:
                file.unlink(missing_ok=True)
        for sha in self.gathered & files.keys():
            files[sha].unlink(missing_ok=True)


def _copy(file: Path, rows: RowWriter) -> None:
    try:
        for row in RowReader(file):
            rows.write(row)
    except FileNotFoundError:
        return
    except DamagedRowsError as error:
        quarantine(file)
        raise IncompleteError(error.reason, path=error.path, hint="its video is labeled again") from error


class BuildStep(PipelineStep):
    """A step of a build, which datatrove's executors can run: all of its ranks before the next step begins.

    Args:
        build: the build.
        ranks: how many ranks do it.
    """

    type = "AnthroTAP"

    def __init__(self, build: BuildConfig, ranks: int = 1) -> None:
        super().__init__()
        self.build = build
        self.ranks = ranks

    @property
    def logs(self) -> Path:
        """The folder where datatrove keeps logs, and marks of ranks that are done."""
        return self.build.folder.state / self.name

    def run(self, data: Any = None, rank: int = 0, world_size: int = 1) -> Iterator[Any]:
        """Do one rank, as datatrove asks for it."""
        self.run_rank(rank)
        yield from ()

    def run_rank(self, rank: int) -> None:
        """Do one rank."""
        raise NotImplementedError


class LabelVideos(BuildStep):
    """Labels the videos of a plan."""

    name = "label"

    def __init__(self, build: BuildConfig, plan: Plan) -> None:
        super().__init__(build, plan.ranks)
        self.plan = plan

    @property
    def logs(self) -> Path:
        return self.plan.logs

    def run_rank(self, rank: int) -> None:
        label_rank(self.build, self.plan, rank, _process_worker(self.build, self.plan))


class AssignShards(BuildStep):
    """Decides which row goes where in the finished dataset."""

    name = "assign"

    def run_rank(self, rank: int) -> None:
        assign_shards(self.build.folder, self.build.output)


class WriteShards(BuildStep):
    """Writes the finished shards; each rank writes some of them."""

    name = "write"

    def run_rank(self, rank: int) -> None:
        write_shards(self.build, rank, self.ranks)


class FinalizeDataset(BuildStep):
    """Moves the finished shards to the dataset, with manifest and card."""

    name = "finalize"

    def run_rank(self, rank: int) -> None:
        finalize_dataset(self.build)


_process_workers: list[LabelWorker] = []


def _process_worker(build: BuildConfig, plan: Plan) -> LabelWorker:
    """One for all ranks of this process: it takes seconds to start."""
    fresh = new_worker(build, plan.known)
    if not _process_workers or _process_workers[0].job != fresh.job:
        for old in _process_workers:
            old.close()
        _process_workers[:] = [fresh]
    return _process_workers[0]


def new_worker(build: BuildConfig, known: Path | None = None, number: int = 0) -> LabelWorker:
    """A labeling process, which is not started yet.

    Args:
        build: the build.
        known: an .npy file of sorted SHA-256 of videos that are labeled already.
        number: of the worker on this machine; it picks the device.
    """
    folder = build.folder
    name = f"{socket.gethostname()}-{os.getpid()}-{number}"
    job = LabelJob(
        labeling=build.labeling,
        version=build.version,
        videos=folder.videos,
        known=known,
        scratch=folder.scratch / name,
        download=build.limits.download,
        threads=build.threads,
        device=build.devices[number % len(build.devices)],
        allow_private=build.allow_private,
    )
    return LabelWorker(job, build.limits, folder.state / "logs" / f"{name}.log")
