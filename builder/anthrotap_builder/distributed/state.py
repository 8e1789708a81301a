"""What a build has done so far, in the folder `.build` beside the data: the next run resumes from it.

    .build/inputs.jsonl                                the videos of the last run, as they were found
    .build/<label version>/videos/ab/<sha256>.rows     rows of one video, until its rank is done
    .build/<label version>/plan-000/sources.jsonl      the videos that were not yet labeled when the plan was made
    .build/<label version>/plan-000/rank-0000007.jsonl     what came of the videos of a rank, a line each: its journal
    .build/<label version>/plan-000/rank-0000007-000.rows  the rows of the rank
    .build/finish/                                     the finished shards, before they are moved to `data`

A video is known by the SHA-256 of its bytes. `anthrotap_builder.utils.row_file` describes the files of rows.
"""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Self

import numpy as np

from anthrotap_builder.distributed.video_sources import Source
from anthrotap_builder.video_result import VideoResult
from anthrotap_hf.utils.atomic_files import atomic_write
from anthrotap_hf.utils.errors import AnthroTapError


class BuildError(AnthroTapError):
    """The build can't go on."""


class IncompleteError(BuildError):
    """Some videos have no labels yet, or lost them."""


class BuildFolder:
    """The state of the build in one folder, for one label version.

    Args:
        out: the dataset's folder.
        version: the label version.
    """

    def __init__(self, out: str | os.PathLike[str], version: str) -> None:
        self.out = Path(out)
        self.state = self.out / ".build"
        self.versioned = self.state / version
        self.videos = self.versioned / "videos"
        self.finish = self.state / "finish"
        self.scratch = self.state / "scratch"
        self.inputs = self.state / "inputs.jsonl"

    def plans(self) -> list[Plan]:
        """All plans, the oldest first."""
        return [Plan(path) for path in sorted(self.versioned.glob("plan-*")) if (path / Plan.SIZES).exists()]

    def new_plan(self, sources: list[Source], ranks: int, known: Iterable[str] = ()) -> Plan:
        """A plan to label `sources` in so many ranks; videos of these SHA-256 have their labels."""
        taken = [int(path.name.partition("-")[2]) for path in self.versioned.glob("plan-*")]
        plan = Plan(self.versioned / f"plan-{max(taken, default=-1) + 1:03d}")
        plan.write(sources, ranks, known)
        return plan

    def results(self) -> dict[str, VideoResult]:
        """What came of each video, by `Source.key`; the last plan that has it counts.

        A video whose bytes an earlier plan has labeled, under another name, has what came of them there.
        """
        results = {result.source: result for plan in self.plans() for result in plan.results()}
        labeled = {result.sha256: result for result in results.values() if result.rows}
        for key, result in results.items():
            if result.rows is None and (first := labeled.get(result.sha256)):
                results[key] = replace(first, video=result.video, name=result.name, source=result.source, rows=None)
        return results

    def row_files(self) -> list[Path]:
        """All files with rows: of ranks, and of videos whose rank is not done."""
        gathered = [file for plan in self.plans() for file in plan.row_files()]
        return gathered + sorted(self.videos.glob("*/[0-9a-f]*.rows"))

    def save_inputs(self, sources: list[Source]) -> None:
        """Keep what this run was asked for."""
        with atomic_write(self.inputs) as tmp_path:
            write_lines(tmp_path, map(asdict, sources))

    def load_inputs(self) -> list[Source]:
        """What the last run was asked for."""
        return [Source(**line) for line in read_lines(self.inputs)]


def rows_path(videos: Path, sha256: str) -> Path:
    """The file of the rows of one video, until its rank is done."""
    return videos / sha256[:2] / f"{sha256}.rows"


class Plan:
    """Videos to label, cut into ranks.

    Args:
        path: its folder.
    """

    SOURCES, SIZES = "sources.jsonl", "offsets.npy"

    def __init__(self, path: Path) -> None:
        self.path = path
        self.known = path / "known.npy"
        # On clusters datatrove keeps its logs there, and marks of ranks that are done.
        self.logs = path / "logs"

    def write(self, sources: list[Source], ranks: int, known: Iterable[str]) -> None:
        """Divide `sources` among ranks, neighbors together."""
        self.path.mkdir(parents=True)
        np.save(self.known, np.sort(np.array(list(known), "S64")))
        offsets = [0]
        with open(self.path / self.SOURCES, "wb") as file:
            for of_rank in np.array_split(np.arange(len(sources)), ranks):
                for index in of_rank:
                    file.write(_line(asdict(sources[index])))
                offsets.append(file.tell())
        with atomic_write(self.path / self.SIZES) as tmp_path:
            np.save(tmp_path, np.array(offsets))

    @property
    def ranks(self) -> int:
        return len(np.load(self.path / self.SIZES)) - 1

    def sources(self, rank: int | None = None) -> list[Source]:
        """The videos of a rank, or of all."""
        offsets = np.load(self.path / self.SIZES)
        begin, end = (0, offsets[-1]) if rank is None else offsets[rank : rank + 2]
        with open(self.path / self.SOURCES, "rb") as file:
            file.seek(begin)
            return [Source(**json.loads(line)) for line in file.read(end - begin).splitlines()]

    def journal(self, rank: int) -> Path:
        return self.path / f"rank-{rank:07d}.jsonl"

    def row_files(self, rank: int | None = None) -> list[Path]:
        """The files of rows that a rank has gathered, or all ranks."""
        which = "*" if rank is None else f"{rank:07d}"
        return sorted(self.path.glob(f"rank-{which}-*.rows"))

    def new_row_file(self, rank: int) -> Path:
        """A path for another one."""
        numbers = [int(file.stem.rpartition("-")[2]) for file in self.row_files(rank)]
        return self.path / f"rank-{rank:07d}-{max(numbers, default=-1) + 1:03d}.rows"

    def forget(self, contents: set[str]) -> None:
        """Count videos of these SHA-256 as not labeled: their lines leave the journals, their ranks are open again."""
        known = np.load(self.known)
        still = known[~np.isin(known, np.array(list(contents), "S64"))]
        if len(still) < len(known):
            with atomic_write(self.known) as tmp_path:
                np.save(tmp_path, still)
        for journal in self.path.glob("rank-*.jsonl"):
            lines = journal_lines(journal)
            kept = [line for line in lines if line["sha256"] not in contents]
            if len(kept) < len(lines):
                rank = int(journal.stem.partition("-")[2])
                (self.logs / "completions" / f"{rank:05d}").unlink(missing_ok=True)
                with atomic_write(journal) as tmp_path:
                    write_lines(tmp_path, kept)

    def progress(self, seen: dict[Path, tuple[int, int, int]]) -> tuple[int, int]:
        """How many videos have a result, and how many of them a failure.

        Args:
            seen: the size, videos and failures of each journal when it was last read; only those that grew are read.
        """
        for journal in self.path.glob("rank-*.jsonl"):
            size = journal.stat().st_size
            if journal not in seen or seen[journal][0] != size:
                lines = journal_lines(journal)
                failures = sum(line["failure"] is not None for line in lines)
                seen[journal] = (size, len(lines), failures)
        return sum(done for _, done, _ in seen.values()), sum(failed for _, _, failed in seen.values())

    def results(self) -> Iterator[VideoResult]:
        """What came of its videos so far."""
        for journal in sorted(self.path.glob("rank-*.jsonl")):
            yield from map(VideoResult.from_json, journal_lines(journal))


class Journal:
    """What came of the videos of one rank: a line each, on disk before the next video begins.

    Args:
        path: the file; lines of an earlier run are kept, except one that was not written to its end.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.results: dict[str, VideoResult] = {}

    def __enter__(self) -> Self:
        if self.path.exists():
            whole = self.path.read_bytes()
            kept = whole[: whole.rfind(b"\n") + 1]
            if kept != whole:
                os.truncate(self.path, len(kept))
        found = map(VideoResult.from_json, journal_lines(self.path))
        self.results = {result.source: result for result in found}
        self._file = open(self.path, "ab", buffering=0)
        return self

    def __exit__(self, *error: object) -> None:
        self._file.close()

    def add(self, result: VideoResult) -> None:
        """Write the result of a video, durably."""
        line = _line(result.as_json())
        if self._file.write(line) != len(line):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), os.fspath(self.path))
        os.fsync(self._file.fileno())
        self.results[result.source] = result


def _line(values: dict[str, Any]) -> bytes:
    # ASCII: names of files may be no Unicode.
    return (json.dumps(values) + "\n").encode()


def journal_lines(path: Path) -> list[dict[str, Any]]:
    """The lines of a journal, except those that a power cut has damaged: their videos count as not labeled."""
    lines = []
    for line in path.read_bytes().split(b"\n")[:-1] if path.exists() else []:
        with suppress(ValueError):
            lines.append(json.loads(line))
    return lines


def write_lines(path: Path, values: Iterable[dict[str, Any]]) -> None:
    """Values as JSON, a line each."""
    with open(path, "wb") as file:
        file.writelines(map(_line, values))


def read_lines(path: Path) -> list[dict[str, Any]]:
    """All whole lines; none if there is no file."""
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_bytes().split(b"\n")[:-1]]
