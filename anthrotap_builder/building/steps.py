"""What the ranks of a build do, as steps of datatrove: label, arrange, write, conclude. Each can be begun again."""

from __future__ import annotations

import os
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from datatrove.pipeline.base import PipelineStep

from anthrotap_builder.building.folder import IncompleteError, Journal, Outcome, Plan, part_file
from anthrotap_builder.building.job import Build
from anthrotap_builder.building.labeler import Labeler, LabelerJob
from anthrotap_builder.building.rowfile import DamagedError, RowReader, rows_written_whole, set_aside

WORKER = "ANTHROTAP_BUILD_WORKER"
"""Environment variable: the number of the local worker, which picks its device."""


class LabelVideos(PipelineStep):
    """Labels the videos of a rank of a plan, one after the other, and gathers their rows in one file.

    Args:
        build: the build.
        plan: the plan's folder.
    """

    name = "label"
    type = "AnthroTAP"

    def __init__(self, build: Build, plan: Path) -> None:
        super().__init__()
        self.build = build
        self.plan = Plan(plan)

    def run(self, data: Any = None, rank: int = 0, world_size: int = 1) -> Iterator[Any]:
        """One rank.

        Raises:
            BuildError: if the build can't go on.
        """
        sources = self.plan.sources(rank)
        gathered = self.plan.rows(rank)
        labeler = _labeler(self.build, self.plan)
        with Journal(self.plan.journal(rank)) as journal:
            for source in sources:
                done = journal.outcomes.get(source.key)
                if done is None or (_missing(done, self.build) and not gathered.exists()):
                    journal.add(labeler.label(source))
        if not gathered.exists():
            self._gather([journal.outcomes[source.key] for source in sources], gathered)
        for outcome in journal.outcomes.values():
            if outcome.sha256 and outcome.rows:
                part_file(self.build.folder.videos, outcome.sha256).unlink(missing_ok=True)
        yield from ()

    def _gather(self, outcomes: list[Outcome], gathered: Path) -> None:
        """The rows of these videos, in one file; those that another rank has gathered are there already."""
        contents = [outcome.sha256 for outcome in outcomes if outcome.sha256 and outcome.rows]
        with rows_written_whole(gathered) as rows:
            for sha256 in dict.fromkeys(contents):
                part = part_file(self.build.folder.videos, sha256)
                try:
                    reader = RowReader(part)
                    for group in range(len(reader)):
                        rows.write(reader.row(group))
                    reader.close()
                except FileNotFoundError:
                    continue
                except DamagedError as error:
                    set_aside(part)
                    raise IncompleteError(f"{error}; its video is labelled again") from error


def _missing(outcome: Outcome, build: Build) -> bool:
    """Whether rows that were labelled are gone."""
    if not outcome.sha256 or not outcome.rows:
        return False
    return not part_file(build.folder.videos, outcome.sha256).exists()


class ArrangeRows(PipelineStep):
    """Decides which row goes where in the finished dataset. Fails if a video has no outcome, or lost its rows."""

    name = "arrange"
    type = "AnthroTAP"

    def __init__(self, build: Build) -> None:
        super().__init__()
        self.build = build

    def run(self, data: Any = None, rank: int = 0, world_size: int = 1) -> Iterator[Any]:
        from anthrotap_builder.building.arrangement import arrange

        arrange(self.build.folder, self.build.finish)
        yield from ()


class WriteShards(PipelineStep):
    """Writes the finished shards, each rank its share of them."""

    name = "write"
    type = "AnthroTAP"

    def __init__(self, build: Build) -> None:
        super().__init__()
        self.build = build

    def run(self, data: Any = None, rank: int = 0, world_size: int = 1) -> Iterator[Any]:
        from anthrotap_builder.building.arrangement import write_shards

        write_shards(self.build.folder, self.build.config, self.build.finish, rank, world_size)
        yield from ()


class Conclude(PipelineStep):
    """Puts the finished shards in their place, with manifest and card."""

    name = "conclude"
    type = "AnthroTAP"

    def __init__(self, build: Build) -> None:
        super().__init__()
        self.build = build

    def run(self, data: Any = None, rank: int = 0, world_size: int = 1) -> Iterator[Any]:
        from anthrotap_builder.building.arrangement import conclude

        conclude(self.build.folder, self.build.config, self.build.finish)
        shutil.rmtree(self.build.folder.finish, ignore_errors=True)
        yield from ()


_kept: list[Labeler] = []


def _labeler(build: Build, plan: Plan) -> Labeler:
    """One for all ranks of this process: it takes seconds to start."""
    fresh = new_labeler(build, plan.known)
    if not _kept or _kept[0].job != fresh.job:
        for old in _kept:
            old.close()
        _kept[:] = [fresh]
    return _kept[0]


def new_labeler(build: Build, known: Path | None = None) -> Labeler:
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
        threads=build.threads,
        device=build.devices[int(os.environ.get(WORKER, "0")) % len(build.devices)],
    )
    return Labeler(job, build.limits, folder.state / "logs" / f"{worker}.log")
