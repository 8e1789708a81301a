"""Verify a dataset: read every file and every row of it again, compare them with its manifest, and list what is wrong.

Shards may come from anyone. Whatever they hold becomes a line of the report, also where it ends the process that reads
it (some damaged footers make Parquet's library abort).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from anthrotap_hf.data.manifest import Expected, ManifestError, json_value, read_manifest
from anthrotap_hf.data.row_checks import CheckedRow, RowGroup, check_group
from anthrotap_hf.data.shard_reader import DamagedShardError, find_shards, read_footer, split_of
from anthrotap_hf.schema import MANIFEST, wrong_columns
from anthrotap_hf.utils.atomic_files import file_sha256
from anthrotap_hf.utils.errors import format_error, one_line
from anthrotap_hf.utils.workers import WorkerError, WorkerPool

MAX_PROBLEMS = 10_000
"""Problems that a report keeps; the rest are counted."""
MAX_VALUES = 1 << 28
"""Values of a column in a row group that is read; ours have a few million."""

T = TypeVar("T")
R = TypeVar("R")
OnProgress = Callable[[str, int, int], None]
"""Is called with what is checked ("files" or "rows"), how many are done, and how many there are."""


@dataclass(frozen=True)
class Problem:
    """Something that is wrong.

    Attributes:
        file: the shard, or the manifest; relative to the dataset's folder.
        reason: one line.
        row: the number of the row within the shard; None where the whole file is meant.
        clip_id: the row's, where it has one.
    """

    file: str
    reason: str
    row: int | None = None
    clip_id: str | None = None

    def __str__(self) -> str:
        row = "" if self.row is None else f", row {self.row}"
        clip_id = "" if self.clip_id is None else f" ({self.clip_id})"
        return f"{self.file}{row}{clip_id}: {self.reason}"


@dataclass
class Report:
    """What was checked, and what was found.

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

    def add(self, file: str, reason: str, row: CheckedRow | None = None) -> None:
        """Count one problem, and keep it unless there are very many."""
        self.num_problems += 1
        if len(self.problems) < MAX_PROBLEMS:
            number, clip_id = (None, None) if row is None else (row.number, row.clip_id)
            self.problems.append(Problem(file, reason, number, clip_id))

    def as_json(self) -> dict[str, Any]:
        """All of it as JSON values, and `clean`: whether nothing is wrong."""
        return {"clean": not self.num_problems, **asdict(self)}


@dataclass(frozen=True)
class _Shard:
    """A file to check, and what the manifest says of it."""

    path: Path
    name: str
    rows: int | None = None
    sha256: str | None = None


@dataclass(frozen=True)
class _CheckedFile:
    """A file after its checks: the rows of each row group, none where they can't be read."""

    readable: bool
    group_rows: list[int]
    reasons: list[str]


def verify(
    folder: str | os.PathLike[str],
    videos: bool = True,
    processes: int = 2,
    on_progress: OnProgress | None = None,
) -> Report:
    """Check every shard of a dataset, every row, and all rows together.

    Args:
        folder: a dataset with its manifest, or a folder of shards.
        videos: whether each video is decoded.
        processes: how many work at once; with 0, all is done in this process, which hostile shards may end.
        on_progress: is called after each file and row group.

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
        report.not_checked.append(f"no {MANIFEST}: whether files are missing or were changed, and the label version")
    except ManifestError as error:
        report.add(MANIFEST, format_error(error.reason, hint=error.hint))
    expected = Expected.from_manifest(manifest)
    if manifest and json_value(manifest, list, "files") is None:
        report.not_checked.append(f"{MANIFEST} lists no files: whether some are missing or were changed")
    if manifest and expected.label_version is None:
        report.not_checked.append(f"{MANIFEST} has no label_version: that of the rows")
    shards = _compare_with_manifest(manifest, [file.relative_to(folder).as_posix() for file in files], folder, report)
    with WorkerPool(processes, "anthrotap verify") as pool:
        groups = _check_files(shards, expected, pool, report, on_progress)
        rows = _check_rows(groups, partial(check_group, expected, videos), pool, report, on_progress)
    if report.files == len(shards):
        _check_splits(manifest, groups, report)
    _check_between_rows(rows, report)
    if not videos:
        report.not_checked.append("videos: none was decoded")
    elif expected.label_only:
        report.not_checked.append(f"label-only: {report.rows} rows have no video that could be decoded")
    order = {name: number for number, name in enumerate([MANIFEST, *(shard.name for shard in shards)])}
    report.problems.sort(key=lambda p: (order.get(p.file, len(order)), p.file, -1 if p.row is None else p.row))
    return report


def _compare_with_manifest(manifest: dict[str, Any], names: list[str], folder: Path, report: Report) -> list[_Shard]:
    """The shards that are there; those that are missing, or not listed, are problems."""
    listed: dict[str, Any] = {}
    for item in json_value(manifest, list, "files") or []:
        if (name := json_value(item, str, "name")) is None:
            report.add(MANIFEST, "an entry of files has no name")
        elif name in listed:
            report.add(MANIFEST, f"{one_line(name)} is listed twice")
        else:
            listed[name] = item
    for name in sorted(listed.keys() - set(names)):
        report.add(one_line(name), f"missing, but {MANIFEST} lists it; fetch or build it again")
    if json_value(manifest, list, "files") is not None:
        for name in sorted(set(names) - listed.keys()):
            report.add(name, f"{MANIFEST} does not list it; it is of another run, remove it")
    return [
        _Shard(
            folder / name,
            name,
            json_value(listed.get(name), int, "rows"),
            json_value(listed.get(name), str, "sha256"),
        )
        for name in names
    ]


def _check_files(
    shards: list[_Shard],
    expected: Expected,
    pool: WorkerPool,
    report: Report,
    on_progress: OnProgress | None,
) -> list[tuple[str, RowGroup]]:
    """The row groups that can be read, with the names of their shards, in order."""
    found: dict[str, _CheckedFile | None] = {}
    for shard, file in _run(pool, partial(_check_file, expected), shards, "files", on_progress):
        found[shard.name] = file
    groups: list[tuple[str, RowGroup]] = []
    for shard in shards:
        if (file := found[shard.name]) is None:
            report.add(shard.name, "reading it ends the process that does; fetch or build it again")
            continue
        report.files += file.readable
        for reason in file.reasons:
            report.add(shard.name, reason)
        first = 0
        for number, num_rows in enumerate(file.group_rows):
            groups.append((shard.name, RowGroup(shard.path, number, first, num_rows)))
            first += num_rows
    return groups


def _check_file(expected: Expected, shard: _Shard) -> _CheckedFile:
    try:
        footer = read_footer(shard.path)
    except DamagedShardError as error:
        return _CheckedFile(False, [], [format_error(error.reason, hint=error.hint)])
    reasons = list(wrong_columns(footer.columns, expected.label_only))
    usable = not reasons
    if footer.max_values > MAX_VALUES:
        reasons.append(f"a row group has more than {MAX_VALUES} values; write it in groups of a few rows")
        usable = False
    elif not footer.num_rows:
        reasons.append("no rows, which `datasets` can't load; remove it")
    if not usable:
        reasons.append("its rows were not checked; build it again")
    if shard.rows is not None and shard.rows != footer.num_rows:
        reasons.append(f"{footer.num_rows} rows, {MANIFEST} says {shard.rows}; fetch or build it again")
    if shard.sha256 is not None and (sha256 := file_sha256(shard.path)) != shard.sha256:
        reasons.append(
            f"its SHA-256 is {sha256[:16]}..., {MANIFEST} says {one_line(shard.sha256)[:16]}...: "
            "changed or damaged; fetch or build it again"
        )
    return _CheckedFile(True, footer.group_rows if usable else [], reasons)


def _check_rows(
    groups: list[tuple[str, RowGroup]],
    check: Callable[[RowGroup], list[CheckedRow]],
    pool: WorkerPool,
    report: Report,
    on_progress: OnProgress | None,
) -> list[tuple[str, CheckedRow]]:
    """All rows that could be read, with the names of their shards, in order."""
    found: dict[RowGroup, list[CheckedRow]] = {}
    tasks = [group for _, group in groups]
    for group, rows in _run(pool, check, tasks, "rows", on_progress, lambda group: group.num_rows):
        if rows is None:
            reason = f"reading it, or a row up to {group.last_row}, ends the process that does; build it again"
            rows = [CheckedRow(group.first_row, reasons=[reason])]
        for row in rows:
            report.videos += row.decoded
            report.seconds += row.seconds
        found[group] = rows
    checked = [(name, row) for name, group in groups for row in found[group]]
    for name, row in checked:
        for reason in row.reasons:
            report.add(name, reason, row)
    report.rows = sum(group.num_rows for group in tasks)
    return checked


def _run(
    pool: WorkerPool,
    check: Callable[[T], R],
    tasks: Sequence[T],
    what: str,
    on_progress: OnProgress | None,
    size: Callable[[T], int] = lambda task: 1,
) -> Iterator[tuple[T, R | None]]:
    """Each task with its result as they come; None for one that ends its process."""
    done, total = 0, sum(map(size, tasks))
    tell = on_progress or (lambda what, done, total: None)
    tell(what, done, total)
    for outcome in pool.run(check, tasks):
        if outcome.error is not None and not isinstance(outcome.error, WorkerError):
            raise outcome.error
        yield outcome.task, outcome.value
        done += size(outcome.task)
        tell(what, done, total)


def _check_splits(manifest: dict[str, Any], groups: list[tuple[str, RowGroup]], report: Report) -> None:
    for split in json_value(manifest, dict, "splits") or {}:
        listed = json_value(manifest, int, "splits", split, "rows")
        found = sum(group.num_rows for name, group in groups if split_of(name) == split)
        if listed is not None and listed != found:
            report.add(MANIFEST, f"split {one_line(split)}: {found} rows were found, not the {listed} that it says")


def _check_between_rows(rows: list[tuple[str, CheckedRow]], report: Report) -> None:
    """What only shows between rows: ids and frames that appear twice, videos in two splits."""
    ids: dict[str, str] = {}
    frames: dict[bytes, str] = {}
    splits: dict[bytes, dict[str, str]] = {}
    for name, row in rows:
        this, split = f"{name}, row {row.number}", split_of(name)
        if row.source_sha256 and split not in (known := splits.setdefault(row.source_sha256, {})):
            if known:
                other, first = next(iter(known.items()))
                reason = f"its video is in split {other} too ({first}); a video belongs in one split"
                report.add(name, reason, row)
            known[split] = this
        if row.clip_id and (first := ids.setdefault(row.clip_id, this)) != this:
            report.add(name, f"clip_id is that of {first} too", row)
        elif row.frames_sha256 and (first := frames.setdefault(row.frames_sha256, this)) != this:
            report.add(name, f"a duplicate: the same frames as {first}", row)
    report.clips = len(ids)
