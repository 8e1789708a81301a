"""What the ranks of a build do, as steps of datatrove: label, arrange, write, conclude. Each can be begun again."""

from __future__ import annotations

import os
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from datatrove.pipeline.base import PipelineStep

from anthrotap_builder.distributed.config import Build
from anthrotap_builder.distributed.row_file import (
    DamagedError,
    RowReader,
    RowWriter,
    atomic_rows,
    quarantine,
)
from anthrotap_builder.distributed.state import IncompleteError, Journal, Plan, VideoResult, part_file
from anthrotap_builder.distributed.worker import LabelerJob, LabelWorker

ROWS_A_FILE = 4096
WORKER = "ANTHROTAP_BUILD_WORKER"
"""Environment variable: the number of the local worker, which picks its device."""


class BuildStep(PipelineStep):
    """A step that knows its build."""

    type = "AnthroTAP"

    def __init__(self, build: Build) -> None:
        super().__init__()
        self.build = build


class LabelVideos(BuildStep):
    """Labels the videos of a rank of a plan, one after the other, and gathers their rows in one file.

    Args:
        build: the build.
        plan: the plan's folder.
    """

    name = "label"

    def __init__(self, build: Build, plan: Path) -> None:
        super().__init__(build)
        self.plan = Plan(plan)

    def run(self, data: Any = None, rank: int = 0, world_size: int = 1) -> Iterator[Any]:
        """One rank.

        Raises:
            BuildError: if the build can't go on.
        """
        sources = self.plan.sources(rank)
        held = self._held(rank)
        labeler = _labeler(self.build, self.plan)
        with Journal(self.plan.journal(rank)) as journal:
            for source in sources:
                done = journal.outcomes.get(source.key)
                if done is None or self._is_lost(done, held):
                    journal.add(labeler.label(source))
        self._gather([journal.outcomes[source.key] for source in sources], held, rank)
        yield from ()

    def _held(self, rank: int) -> set[str]:
        """The SHA-256 of videos whose rows this rank has gathered."""
        held = set()
        for file in self.plan.row_files(rank):
            try:
                held |= {row.source_sha256 for row in RowReader(file).index()}
            except DamagedError:
                quarantine(file)
        return held

    def _is_lost(self, outcome: VideoResult, held: set[str]) -> bool:
        """Whether rows that were labeled are neither gathered here nor a part."""
        if not outcome.sha256 or not outcome.rows or outcome.sha256 in held:
            return False
        return not part_file(self.build.folder.videos, outcome.sha256).exists()

    def _gather(self, outcomes: list[VideoResult], held: set[str], rank: int) -> None:
        """The parts of these videos become few files, unless another rank has gathered them, and go."""
        contents = dict.fromkeys(outcome.sha256 for outcome in outcomes if outcome.sha256 and outcome.rows)
        parts = {sha: part_file(self.build.folder.videos, sha) for sha in contents if sha}
        waiting = [part for sha, part in parts.items() if sha not in held and part.exists()]
        while waiting:
            gathered = []
            with atomic_rows(self.plan.new_row_file(rank)) as rows:
                while waiting and len(rows.index) < ROWS_A_FILE:
                    self._copy(waiting[0], rows)
                    gathered.append(waiting.pop(0))
            for part in gathered:
                part.unlink(missing_ok=True)
        for sha in held & parts.keys():
            parts[sha].unlink(missing_ok=True)

    def _copy(self, part: Path, rows: RowWriter) -> None:
        try:
            reader = RowReader(part)
            for number in range(len(reader)):
                rows.write(reader.row(number))
        except FileNotFoundError:
            return
        except DamagedError as error:
            quarantine(part)
            raise IncompleteError(f"{error}; its video is labeled again") from error


class ArrangeRows(BuildStep):
    """Decides which row goes where in the finished dataset. Fails if a video has no outcome, or lost its rows."""

    name = "arrange"

    def run(self, data: Any = None, rank: int = 0, world_size: int = 1) -> Iterator[Any]:
        from anthrotap_builder.distributed.assemble import arrange

        arrange(self.build.folder, self.build.finish)
        yield from ()


class WriteShards(BuildStep):
    """Writes the finished shards, each rank its share of them."""

    name = "write"

    def run(self, data: Any = None, rank: int = 0, world_size: int = 1) -> Iterator[Any]:
        from anthrotap_builder.distributed.assemble import write_shards

        write_shards(self.build.folder, self.build.config, self.build.finish, rank, world_size)
        yield from ()


class Conclude(BuildStep):
    """Puts the finished shards in their place, with manifest and card."""

    name = "conclude"

    def run(self, data: Any = None, rank: int = 0, world_size: int = 1) -> Iterator[Any]:
        from anthrotap_builder.distributed.assemble import conclude

        conclude(self.build.folder, self.build.config, self.build.finish)
        shutil.rmtree(self.build.folder.finish, ignore_errors=True)
        yield from ()


_kept: list[LabelWorker] = []


def _labeler(build: Build, plan: Plan) -> LabelWorker:
    """One for all ranks of this process: it takes seconds to start."""
    fresh = new_labeler(build, plan.known)
    if not _kept or _kept[0].job != fresh.job:
        for old in _kept:
            old.close()
        _kept[:] = [fresh]
    return _kept[0]


def new_labeler(build: Build, known: Path | None = None) -> LabelWorker:
    """One for this process.

    Args:
        build: the build.
        known: an .npy file of SHA-256 of videos that have their labels.
    """
    folder = build.folder
    worker = f"{socket.gethostname()}-{os.getpid()}"
    job = LabelerJob(
        config=build.config.model_dump(mode="json"),
        version=build.version,
        videos=os.fspath(folder.videos),
        known=None if known is None else os.fspath(known),
        scratch=os.fspath(folder.scratch / worker),
        download=build.limits.download,
        threads=build.threads,
        device=build.devices[int(os.environ.get(WORKER, "0")) % len(build.devices)],
    )
    return LabelWorker(job, build.limits, folder.state / "logs" / f"{worker}.log")
