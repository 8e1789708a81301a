"""What a build has done so far, in the folder `.build` beside the data: whatever stops, the next run goes on from here.

    .build/lock                                   held by the run at work
    .build/inputs.jsonl                           the videos of the last run, as they were found
    .build/<label version>/videos/ab/<sha256>.rows       rows of one video, until its rank is done
    .build/<label version>/plan-000/sources.jsonl        the videos that were not yet labeled when it was made
    .build/<label version>/plan-000/rank-0000007.jsonl   what came of the videos of a rank, a line each: the journal
    .build/<label version>/plan-000/rank-0000007-000.rows    the rows of the rank
    .build/finish/                                the finished shards, before they are moved to `data`

A video is told by the SHA-256 of its bytes. How the files of rows look: `rowfile.py`.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import socket
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self

import numpy as np

from anthrotap_builder.distributed.video_sources import Source
from anthrotap_hf.utils.atomic_files import atomic_write


class BuildError(Exception):
    """The build can't go on; the message is one line with the way out."""


class IncompleteError(BuildError):
    """Some videos have no labels yet, or lost them."""


@dataclass
class VideoResult:
    """What came of one video.

    Attributes:
        source: its `Source.key`.
        shown: how messages name it.
        name: the file's name, without its folder.
        sha256: of its bytes; None if it could not be fetched.
        rows: clips that were labeled; None where a video of the same bytes was, by an earlier plan.
        frames: of these clips.
        left_out: a line for each piece that became no clip.
        failure: why it gave nothing, or not all of it.
        gone: whether it could not be fetched or read at all: a later run tries again by itself.
        exceeded: which of `Limits` it was ended by, and how much that allowed: more of it, and a later run tries again.
        attempts: how often it was tried.
        seconds: wall time of the last attempt.
    """

    source: str
    shown: str
    name: str
    sha256: str | None = None
    rows: int | None = 0
    frames: int = 0
    left_out: list[str] = field(default_factory=list)
    failure: str | None = None
    gone: bool = False
    exceeded: dict[str, float] = field(default_factory=dict)
    attempts: int = 1
    seconds: float = 0.0


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

    def outcomes(self) -> dict[str, VideoResult]:
        """What came of each video, by `Source.key`; later plans count more."""
        return {outcome.source: outcome for plan in self.plans() for outcome in plan.outcomes()}

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

    @contextmanager
    def locked(self) -> Iterator[None]:
        """No other run works here meanwhile, on this machine or, where the file system has locks, another.

        Raises:
            BuildError: if one does.
        """
        self.state.mkdir(parents=True, exist_ok=True)
        with open(self.state / "lock", "a+", encoding="utf-8") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                lock.seek(0)
                raise BuildError(
                    f"{self.out}: another build is at work here ({lock.read().strip() or 'it just began'}); "
                    "wait for it, or stop it"
                ) from error
            lock.truncate(0)
            lock.write(f"process {os.getpid()} on {socket.gethostname()}")
            lock.flush()
            yield


def part_file(videos: Path, sha256: str) -> Path:
    """Where the rows of one video are put, until its rank is done."""
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
        self.logs = path / "logs"  # datatrove's, with its marks of completed ranks

    def write(self, sources: list[Source], ranks: int, known: Iterable[str]) -> None:
        """Share out `sources` among ranks, neighbors together."""
        self.path.mkdir(parents=True)
        np.save(self.known, np.sort(np.array(list(known), "S64")))
        offsets = [0]
        with open(self.path / self.SOURCES, "wb") as file:
            for share in np.array_split(np.arange(len(sources)), ranks):
                for index in share:
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
        """Another one, that is not there yet."""
        numbers = [int(file.stem.rpartition("-")[2]) for file in self.row_files(rank)]
        return self.path / f"rank-{rank:07d}-{max(numbers, default=-1) + 1:03d}.rows"

    def forget(self, contents: set[str]) -> None:
        """Videos of these SHA-256 count as not labeled: their lines leave the journals, their ranks are open again."""
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
        """How many videos have an outcome, and how many of them a failure.

        Args:
            seen: size, videos and failures of journals as last looked at; only what has grown is read.
        """
        for journal in self.path.glob("rank-*.jsonl"):
            size = journal.stat().st_size
            if journal not in seen or seen[journal][0] != size:
                outcomes = journal_lines(journal)
                failures = sum(outcome["failure"] is not None for outcome in outcomes)
                seen[journal] = (size, len(outcomes), failures)
        return sum(done for _, done, _ in seen.values()), sum(failed for _, _, failed in seen.values())

    def outcomes(self) -> Iterator[VideoResult]:
        for journal in sorted(self.path.glob("rank-*.jsonl")):
            yield from map(_outcome, journal_lines(journal))


class Journal:
    """What came of the videos of one rank: a line each, on disk before the next video is begun.

    Args:
        path: the file; lines of an earlier run are kept, but for one that was not written to its end.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.outcomes: dict[str, VideoResult] = {}

    def __enter__(self) -> Self:
        if self.path.exists():
            whole = self.path.read_bytes()
            kept = whole[: whole.rfind(b"\n") + 1]
            if kept != whole:
                os.truncate(self.path, len(kept))
        self.outcomes = {outcome.source: outcome for outcome in map(_outcome, journal_lines(self.path))}
        self._file = open(self.path, "ab", buffering=0)
        return self

    def __exit__(self, *error: object) -> None:
        self._file.close()

    def add(self, outcome: VideoResult) -> None:
        line = _line(asdict(outcome))
        if self._file.write(line) != len(line):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), os.fspath(self.path))
        os.fsync(self._file.fileno())
        self.outcomes[outcome.source] = outcome


def _outcome(values: dict[str, Any]) -> VideoResult:
    return VideoResult(**values)


def _line(values: dict[str, Any]) -> bytes:
    return (json.dumps(values) + "\n").encode()  # ASCII: names of files may be no Unicode


def journal_lines(path: Path) -> list[dict[str, Any]]:
    """The lines of a journal, but for those that a power cut has damaged: their videos count as not labeled."""
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
