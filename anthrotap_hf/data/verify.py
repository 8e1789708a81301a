"""Is a dataset what it says it is? Every row of every shard is read again, and what is wrong is told.

Shards may come from anyone: whatever they hold becomes a line of the report, also where it ends the process that reads
it (some damaged footers make Parquet's library abort).
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass, field
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, Self, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from anthrotap_hf.data.manifest import ManifestError, read_manifest
from anthrotap_hf.data.shard_reader import find_shards, split_of
from anthrotap_hf.schema import COLUMNS, MANIFEST, SHA256, UNKNOWN_CONFIDENCE, wrong_columns
from anthrotap_hf.utils.atomic_files import file_sha256
from anthrotap_hf.utils.errors import one_line
from anthrotap_hf.video import VideoError, iter_frames, probe

logger = logging.getLogger(__name__)

MAX_PROBLEMS = 10_000  # that are kept; the rest are counted
MAX_VALUES = 1 << 28  # of a column in a row group: ours have a few million
ROWS_AT_ONCE = 4  # that a process is given
T = TypeVar("T")
R = TypeVar("R")
OnProgress = Callable[[str, int, int], None]
"""Is told what is looked at ("files" or "rows"), how many are done, and of how many."""


@dataclass(frozen=True)
class Problem:
    """Something that is wrong.

    Attributes:
        file: the shard, or the manifest; relative to the dataset's folder.
        reason: one line.
        row: which row of the shard, from 0 on; None where the whole file is meant.
        clip_id: the row's, where it has one.
    """

    file: str
    reason: str
    row: int | None = None
    clip_id: str | None = None

    def __str__(self) -> str:
        where = "" if self.row is None else f", row {self.row}"
        which = "" if self.clip_id is None else f" ({self.clip_id})"
        return f"{self.file}{where}{which}: {self.reason}"


@dataclass
class Report:
    """What was looked at, and what was found.

    Attributes:
        files: how many could be opened.
        rows: how many these say they have.
        clips: how many clip ids there are.
        seconds: of all clips.
        videos: how many were decoded to their end.
        not_checked: a line for each thing that could not be checked, or was not meant to be.
        problems: in order of files and rows, the first `MAX_PROBLEMS`.
        num_problems: how many there are.
    """

    files: int = 0
    rows: int = 0
    clips: int = 0
    seconds: float = 0.0
    videos: int = 0
    not_checked: list[str] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    num_problems: int = 0

    def add(self, problem: Problem) -> None:
        """Count one problem, and keep it unless there are very many."""
        self.num_problems += 1
        if len(self.problems) < MAX_PROBLEMS:
            self.problems.append(problem)

    def as_json(self) -> dict[str, Any]:
        """All of it as JSON values, and `clean`: whether nothing is wrong."""
        return {"clean": not self.num_problems, **asdict(self)}


@dataclass(frozen=True)
class Expected:
    """What a manifest promises of each row; None or False where it promises nothing.

    Attributes:
        label_version: of all rows; with meshes from files, a row's has the digest of its file behind it.
        meshes_from_files: whether they do.
        label_only: whether rows have no video.
        clip_frames: longest clip, frames.
        min_visible: in how many frames each track is seen at least.
    """

    label_version: str | None = None
    meshes_from_files: bool = False
    label_only: bool = False
    clip_frames: int | None = None
    min_visible: int | None = None

    @classmethod
    def of(cls, manifest: dict[str, Any]) -> Expected:
        """What is absent, or of another type than ours, promises nothing."""
        return cls(
            label_version=_inside(manifest, str, "label_version"),
            meshes_from_files=_inside(manifest, str, "config", "mesh_source") == "file",
            label_only=_inside(manifest, bool, "label_only") or False,
            clip_frames=_inside(manifest, int, "config", "clips", "clip_frames"),
            min_visible=_inside(manifest, int, "config", "min_visible"),
        )


@dataclass(frozen=True)
class _Shard:
    """A file to look at, and what the manifest says of it."""

    path: Path
    name: str
    rows: int | None = None
    sha256: str | None = None


@dataclass(frozen=True)
class _Opened:
    """What a shard says of itself: the rows of each row group, none where they can't be looked at."""

    groups: list[int]
    reasons: list[str]
    readable: bool = False


@dataclass
class _Row:
    """What is kept of a row, to hold it against the others. `clip_id` and hashes are None where they are not ours."""

    number: int
    clip_id: str | None = None
    source: bytes | None = None
    frames: bytes | None = None
    seconds: float = 0.0
    decoded: bool = False
    reasons: list[str] = field(default_factory=list)


def verify(
    folder: str | os.PathLike[str],
    videos: bool = True,
    processes: int = 2,
    on_progress: OnProgress | None = None,
) -> Report:
    """Looks at every shard of a dataset, every row, and all rows together.

    Args:
        folder: a dataset with its manifest, or a folder of shards.
        videos: whether each video is decoded.
        processes: how many work at once; 0 works in this process, which hostile shards may end.
        on_progress: is told how far it is.

    Raises:
        FileNotFoundError: if there is no such folder, or neither shard nor manifest in it.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder}: no such folder; name one that holds a dataset")
    files = find_shards(folder)
    if not files and not (folder / MANIFEST).exists():
        raise FileNotFoundError(f"{folder}: neither a shard (.parquet) nor {MANIFEST} in this folder")
    report = Report()
    manifest: dict[str, Any] = {}
    try:
        manifest = read_manifest(folder)
    except FileNotFoundError:
        report.not_checked.append(
            f"no {MANIFEST}: whether files are missing or were changed, and the label version"
        )
    except ManifestError as error:
        report.add(Problem(MANIFEST, f"{error.reason}; {error.hint}"))
    expected = Expected.of(manifest)
    if manifest:
        report.not_checked += _silent(manifest, expected)
    shards = _held_against(manifest, [file.relative_to(folder).as_posix() for file in files], folder, report)
    with Workers(processes) as workers:
        groups = _look_at_files(shards, expected, workers, report, on_progress)
        rows = _look_at_rows(groups, expected, videos, workers, report, on_progress)
    if report.files == len(shards):
        _look_at_splits(manifest, groups, report)
    _look_at_all(rows, report)
    if not videos:
        report.not_checked.append("--no-videos: no video was decoded")
    elif expected.label_only:
        report.not_checked.append(f"label-only: {report.rows} rows have no video that could be decoded")
    order = {name: number for number, name in enumerate([MANIFEST, *(shard.name for shard in shards)])}
    report.problems.sort(
        key=lambda p: (order.get(p.file, len(order)), p.file, -1 if p.row is None else p.row)
    )
    return report


def _inside(values: Any, kind: type[T], *names: str) -> T | None:
    """A value within objects of JSON; None where it is absent or of another kind."""
    for name in names:
        values = values.get(name) if isinstance(values, dict) else None
    return values if type(values) is kind else None


def _silent(manifest: dict[str, Any], expected: Expected) -> Iterator[str]:
    """What a manifest says nothing of."""
    if _inside(manifest, list, "files") is None:
        yield f"{MANIFEST} lists no files: whether some are missing or were changed"
    if expected.label_version is None:
        yield f"{MANIFEST} has no label_version: the rows'"


def _held_against(manifest: dict[str, Any], names: list[str], folder: Path, report: Report) -> list[_Shard]:
    """The shards that are there; those that are missing, or not listed, are problems."""
    listed: dict[str, Any] = {}
    for item in _inside(manifest, list, "files") or []:
        if (name := _inside(item, str, "name")) is None:
            report.add(Problem(MANIFEST, "an entry of files has no name"))
        elif name in listed:
            report.add(Problem(MANIFEST, f"{one_line(name)} is listed twice"))
        else:
            listed[name] = item
    for name in sorted(listed.keys() - set(names)):
        report.add(Problem(one_line(name), f"missing, but {MANIFEST} lists it; fetch or build it again"))
    if _inside(manifest, list, "files") is not None:
        for name in sorted(set(names) - listed.keys()):
            report.add(Problem(name, f"{MANIFEST} does not list it; it is of another run, take it away"))
    return [
        _Shard(
            folder / name,
            name,
            _inside(listed.get(name), int, "rows"),
            _inside(listed.get(name), str, "sha256"),
        )
        for name in names
    ]


def _look_at_files(
    shards: list[_Shard],
    expected: Expected,
    workers: Workers,
    report: Report,
    on_progress: OnProgress | None,
) -> list[tuple[_Shard, list[int]]]:
    """Each shard with the rows of its row groups, in order."""
    found = {}
    if on_progress:
        on_progress("files", 0, len(shards))
    results = workers.share_out(partial(_open, expected), shards)
    for done, (shard, opened) in enumerate(results, 1):
        if opened is None:
            opened = _Opened([], ["reading it ends the process that does; fetch or build it again"])
        report.files += opened.readable
        for reason in opened.reasons:
            report.add(Problem(shard.name, reason))
        found[shard.name] = opened.groups
        if on_progress:
            on_progress("files", done, len(shards))
    return [(shard, found[shard.name]) for shard in shards]


def _look_at_rows(
    shards: list[tuple[_Shard, list[int]]],
    expected: Expected,
    videos: bool,
    workers: Workers,
    report: Report,
    on_progress: OnProgress | None,
) -> list[tuple[str, _Row]]:
    """All rows that could be read, with the names of their shards, in order."""
    names = {shard.path: shard.name for shard, _ in shards}
    total = sum(sum(groups) for _, groups in shards)
    parts = (part for shard, groups in shards for part in _parts(shard.path, groups))
    rows: list[tuple[str, _Row]] = []
    done = 0
    if on_progress:
        on_progress("rows", 0, total)
    for part, found in workers.share_out(partial(_check_rows, expected, videos), parts):
        name = names[part.path]
        if found is None:
            last = part.first_row + part.rows - 1
            reason = f"reading it, or a row up to {last}, ends the process that does; build it again"
            found = [_Row(part.first_row, reasons=[reason])]
        for row in found:
            for reason in row.reasons:
                report.add(Problem(name, reason, row.number, row.clip_id))
            row.reasons = []
            rows.append((name, row))
            report.videos += row.decoded
            report.seconds += row.seconds
        done += part.rows
        if on_progress:
            on_progress("rows", done, total)
    report.rows = total
    order = {shard.name: number for number, (shard, _) in enumerate(shards)}
    return sorted(rows, key=lambda item: (order[item[0]], item[1].number))


def _look_at_splits(manifest: dict[str, Any], shards: list[tuple[_Shard, list[int]]], report: Report) -> None:
    for split in _inside(manifest, dict, "splits") or {}:
        said = _inside(manifest, int, "splits", split, "rows")
        found = sum(sum(groups) for shard, groups in shards if split_of(shard.name) == split)
        if said is not None and said != found:
            reason = f"split {one_line(split)}: {found} rows were found, not the {said} that it says"
            report.add(Problem(MANIFEST, reason))


def _look_at_all(rows: list[tuple[str, _Row]], report: Report) -> None:
    """What only shows between rows: ids and frames that are there twice, videos in two splits."""
    ids: dict[str, str] = {}
    frames: dict[bytes, str] = {}
    splits: dict[bytes, dict[str, str]] = {}
    for name, row in rows:
        here, split = f"{name}, row {row.number}", split_of(name)
        if row.source and split not in (known := splits.setdefault(row.source, {})):
            if known:
                other, where = next(iter(known.items()))
                reason = f"its video is in split {other} too ({where}); a video belongs in one split"
                report.add(Problem(name, reason, row.number, row.clip_id))
            known[split] = here
        if row.clip_id and (where := ids.setdefault(row.clip_id, here)) != here:
            report.add(Problem(name, f"clip_id is that of {where} too", row.number, row.clip_id))
        elif row.frames and (where := frames.setdefault(row.frames, here)) != here:
            reason = f"a duplicate: the same frames as {where}"
            report.add(Problem(name, reason, row.number, row.clip_id))
    report.clips = len(ids)


# One shard, in whichever process


def _open(expected: Expected, shard: _Shard) -> _Opened:
    try:
        with pq.ParquetFile(shard.path, pre_buffer=False) as file:
            metadata = file.metadata
            groups = [metadata.row_group(number).num_rows for number in range(metadata.num_row_groups)]
            reasons = list(wrong_columns(file.schema_arrow, expected.label_only))
            unusable = bool(reasons)
            large = any(
                metadata.row_group(number).column(column).num_values > MAX_VALUES
                for number in range(metadata.num_row_groups)
                for column in range(metadata.num_columns)
            )
    except Exception as error:  # native libraries raise what they like
        logger.debug("%s", shard.path, exc_info=True)
        reason = f"no Parquet file, or a damaged one ({one_line(error)}); fetch or build it again"
        return _Opened([], [reason])
    if large:
        reasons.append(f"a row group has more than {MAX_VALUES} values; write it in groups of a few rows")
    elif not sum(groups):
        reasons.append("no rows, which `datasets` can't load; take it away")
    if unusable:
        reasons.append("its rows were not checked; build it again")
    if shard.rows is not None and shard.rows != sum(groups):
        reasons.append(f"{sum(groups)} rows, {MANIFEST} says {shard.rows}; fetch or build it again")
    if shard.sha256 is not None and (sha256 := file_sha256(shard.path)) != shard.sha256:
        reasons.append(
            f"its SHA-256 is {sha256[:16]}..., {MANIFEST} says {one_line(shard.sha256)[:16]}...: "
            "changed or damaged; fetch or build it again"
        )
    return _Opened([] if unusable or large else groups, reasons, readable=True)


@dataclass(frozen=True)
class _Part:
    """Some row groups of a shard, for one process: number of the group, and the rows before it and in it."""

    path: Path
    groups: list[tuple[int, int, int]]

    @property
    def first_row(self) -> int:
        return self.groups[0][1]

    @property
    def rows(self) -> int:
        return sum(rows for _, _, rows in self.groups)


def _parts(path: Path, groups: list[int]) -> Iterator[_Part]:
    held: list[tuple[int, int, int]] = []
    first = 0
    for number, rows in enumerate(groups):
        held.append((number, first, rows))
        first += rows
        if sum(count for _, _, count in held) >= ROWS_AT_ONCE:
            yield _Part(path, held)
            held = []
    if held:
        yield _Part(path, held)


def _check_rows(expected: Expected, videos: bool, part: _Part) -> list[_Row]:
    """The rows of some row groups, one in memory at a time. A group that can't be read ends with its first bad row."""
    found = []
    for group, first, rows in part.groups:
        number = first
        reason = "missing: its row group ends before it"
        try:
            with pq.ParquetFile(part.path, pre_buffer=False, buffer_size=1 << 20) as file:
                batches = file.iter_batches(1, row_groups=[group], columns=list(COLUMNS), use_threads=False)
                for batch in batches:
                    found.append(_check_row(batch, number, expected, videos))
                    number += 1
        except Exception as error:  # native libraries raise what they like
            logger.debug("%s", part.path, exc_info=True)
            reason = f"can't be read ({one_line(error)})"
        if number < first + rows:
            last = "" if number + 1 == first + rows else f", like the rows up to {first + rows - 1}"
            found.append(_Row(number, reasons=[f"{reason}{last}; fetch or build the shard again"]))
    return found


def _check_row(batch: pa.RecordBatch, number: int, expected: Expected, videos: bool) -> _Row:
    found = _Row(number)
    try:
        batch.validate(full=True)
        values = {name: batch.column(name)[0].as_py() for name, kind in COLUMNS.items() if "list" not in kind}
        if 0 < len(values["clip_id"] or "") <= 100:
            found.clip_id = one_line(values["clip_id"])
        nulls = [name for name, value in values.items() if value is None and name != "video"]
        if nulls:
            found.reasons.append(f"no {', '.join(nulls)}; build it again")
            return found
        found.source, found.frames = _digest(values["source_sha256"]), _digest(values["frames_sha256"])
        found.reasons += _identity(values, expected)
        sizes = list(_sizes(values))
        found.reasons += sizes
        if sizes:
            return found
        found.seconds = values["num_frames"] / values["fps"]
        found.reasons += _labels(batch, values, expected)
        reasons = list(_video(values, expected, videos))
        found.reasons += reasons
        found.decoded = videos and not reasons and values["video"] is not None
    except Exception as error:  # of rows that nobody foresaw
        logger.debug("row %d", number, exc_info=True)
        found.reasons.append(f"a damaged row ({one_line(error)}); build it again")
    return found


def _digest(text: str) -> bytes | None:
    return bytes.fromhex(text) if SHA256.fullmatch(text) else None


def _identity(row: dict[str, Any], expected: Expected) -> Iterator[str]:
    for name in ("source_sha256", "frames_sha256"):
        if not SHA256.fullmatch(row[name]):
            yield f"{name} is {one_line(row[name])!r}, not 64 hexadecimal digits"
    if SHA256.fullmatch(row["source_sha256"]):
        own = f"{row['source_sha256'][:16]}-{row['start_frame']:06d}"
        if row["clip_id"] != own:
            yield f"clip_id is {one_line(row['clip_id'])!r}, source_sha256 and start_frame make {own}"
    if row["start_frame"] < 0:
        yield f"start_frame is {row['start_frame']}"
    version, wanted = row["label_version"], expected.label_version
    if wanted is None or version == wanted:
        return
    if not (expected.meshes_from_files and version.startswith(f"{wanted}-")):
        yield f"label_version is {one_line(version)!r}, {MANIFEST} says {one_line(wanted)!r}"


def _sizes(row: dict[str, Any]) -> Iterator[str]:
    for name in ("num_frames", "height", "width"):
        if row[name] < 1:
            yield f"{name} is {row[name]}"
    if not (0 < row["fps"] < np.inf):
        yield f"fps is {row['fps']:g}"
    if not 0 <= row["rejected_fraction"] <= 1:
        yield f"rejected_fraction is {row['rejected_fraction']:g}, a share is from 0 to 1"


def _labels(batch: pa.RecordBatch, row: dict[str, Any], expected: Expected) -> Iterator[str]:
    """What `Tracks` and the filter promise: see anthrotap_hf/tracks.py and anthrotap_builder/filtering.py."""
    grids: dict[str, np.ndarray] = {}
    for name, kind in COLUMNS.items():
        if "list" in kind:
            try:
                grids[name] = _grid(batch.column(name), kind.count("list"))
            except ValueError as error:
                yield f"{name}: {error}"
    if len(grids) < sum("list" in kind for kind in COLUMNS.values()):
        return
    xy, visible, valid = grids["tracks"], grids["visible"], grids["valid"]
    count = len(xy)
    frames = expected.clip_frames or (xy.shape[1] if count else row["num_frames"])
    shapes = {"tracks": (count, frames, 2), "person": (count,), "vertex": (count,)}
    wrong = []
    for name, grid in grids.items():
        shape = shapes.get(name, (count, frames))
        if grid.shape != shape if count else len(grid):  # no track does not say how long it would be
            wrong.append(f"{name} is {list(grid.shape)}, not {list(shape)}")
    if wrong:
        yield "; ".join(wrong)
        return
    num_frames = row["num_frames"]
    if num_frames > frames:
        yield f"num_frames is {num_frames}, clips have {frames} at most"
        return
    if not count:
        return
    if valid[:, num_frames:].any():
        yield "past num_frames some label is called valid"
    if (visible & ~valid).any():
        yield "some label is visible but not valid"
    if not np.isfinite(xy).all():
        yield "some position is NaN or infinite"
    xy, visible, valid = xy[:, :num_frames], visible[:, :num_frames], valid[:, :num_frames]
    finite = np.isfinite(xy).all(-1)
    inside = ((xy >= 0) & (xy < [row["width"], row["height"]])).all(-1)
    if outside := int((valid & finite & ~inside).sum()):
        yield f"{outside} valid labels lie outside the frame"
    few = int(((valid & visible).sum(1) < (expected.min_visible or 1)).sum())
    if few:
        yield f"{few} tracks are visible in fewer than {expected.min_visible or 1} frames"
    if (grids["person"] < 0).any() or (grids["vertex"] < 0).any():
        yield "a person or vertex is negative"
    yield from _confidence(grids["confidence"][:, :num_frames], valid & visible)


def _confidence(percent: np.ndarray, visible: np.ndarray) -> Iterator[str]:
    unknown = percent == UNKNOWN_CONFIDENCE
    if ((percent > 100) & ~unknown).any():
        yield f"confidence is {percent[~unknown].max()}, not 0 to 100 or {UNKNOWN_CONFIDENCE} (unknown)"
    elif unknown.any() and not unknown.all():
        yield f"confidence is {UNKNOWN_CONFIDENCE} (unknown) for some labels and known for others"
    elif not unknown.any() and percent[~visible].any():
        yield "confidence is not 0 for labels that are not visible"


def _grid(column: pa.Array, dimensions: int) -> np.ndarray:
    """The one value of a column of nested lists. Raises ValueError if it has nulls, or lists that differ in length."""
    shape: list[int] = []
    values = column.storage if isinstance(column, pa.ExtensionArray) else column
    for _ in range(dimensions):
        lengths = pc.list_value_length(values).drop_null().unique().to_pylist()
        if values.null_count or len(lengths) > 1:
            raise ValueError("a list in it is null, or shorter than its neighbors")
        shape.append(lengths[0] if lengths else 0)
        values = values.flatten()
    if values.null_count:
        raise ValueError("a value in it is null")
    return values.to_numpy(zero_copy_only=False).reshape(shape)


def _video(row: dict[str, Any], expected: Expected, decode: bool) -> Iterator[str]:
    video = row["video"] or {}
    data = video.get("bytes")
    if expected.label_only:
        if data is not None or video.get("path"):
            yield f"it has a video, though {MANIFEST} calls the dataset label-only"
        return
    if data is None:
        yield "no video, only its path" if video.get("path") else "no video"
        return
    if not decode:
        return
    height, width, num_frames = row["height"], row["width"], row["num_frames"]
    try:
        info = probe(data)  # before any frame is converted: a small file may hold huge ones
        if (info.height, info.width) != (height, width):
            yield f"the video is {info.width} x {info.height}, the row says {width} x {height}"
            return
        count = sum(1 for _ in islice(iter_frames(data), num_frames + 1))
    except VideoError as error:
        yield f"the video: {one_line(error).removeprefix('video in memory: ')}"
        return
    if count != num_frames:
        more = "more" if count > num_frames else str(count)
        yield f"the video has {more} frames, the row says {num_frames}"


# Processes


class Workers:
    """Processes that tasks are shared out to. A task may end the process that does it, and costs only itself.

        with Workers(2) as workers:
            for task, result in workers.share_out(work, tasks): ...

    Args:
        processes: how many; 0 works in this process, which a task may then end.
    """

    def __init__(self, processes: int) -> None:
        self.processes = processes
        self._pool: ProcessPoolExecutor | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stop()

    def share_out(self, work: Callable[[T], R], tasks: Iterable[T]) -> Iterator[tuple[T, R | None]]:
        """Each task with its result, as they come; None for one that ends its process. Few tasks wait at a time.

        `work` must be importable: processes are spawned.
        """
        if not self.processes:
            yield from ((task, work(task)) for task in tasks)
            return
        left = iter(tasks)
        waiting: dict[Future[R], T] = {}
        while True:
            for task in islice(left, 2 * self.processes - len(waiting)):
                waiting[self._submit(work, task)] = task
            if not waiting:
                return
            done, _ = wait(waiting, return_when=FIRST_COMPLETED)
            if any(isinstance(future.exception(), BrokenProcessPool) for future in done):
                self._stop()
                for task in waiting.values():  # whose fault it is shows when each is done alone
                    yield task, _alone(work, task)
                waiting = {}
                continue
            for future in done:
                yield waiting.pop(future), future.result()

    def _submit(self, work: Callable[[T], R], task: T) -> Future[R]:
        self._pool = self._pool or _pool(self.processes)
        try:
            return self._pool.submit(work, task)
        except BrokenProcessPool as error:
            future: Future[R] = Future()
            future.set_exception(error)
            return future

    def _stop(self) -> None:
        if self._pool:
            self._pool.shutdown(cancel_futures=True)
        self._pool = None


def _alone(work: Callable[[T], R], task: T) -> R | None:
    with _pool(1) as pool:
        try:
            return pool.submit(work, task).result()
        except BrokenProcessPool:
            return None


def _pool(processes: int) -> ProcessPoolExecutor:
    # Ctrl-C is for the process that waits for them.
    ignore = partial(signal.signal, signal.SIGINT, signal.SIG_IGN)
    return ProcessPoolExecutor(processes, multiprocessing.get_context("spawn"), initializer=ignore)
