"""How a build ends: rows of all videos become one dataset, shuffled, split by video, each content once."""

from __future__ import annotations

import json
import os
import shutil
from collections import Counter, defaultdict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from functools import lru_cache
from itertools import groupby
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from anthrotap_builder.config import LabelingConfig
from anthrotap_builder.distributed.config import Finish, digest
from anthrotap_builder.distributed.row_file import DamagedError, RowPlace, RowReader, quarantine
from anthrotap_builder.distributed.state import (
    BuildError,
    BuildFolder,
    IncompleteError,
    VideoResult,
    read_lines,
    write_lines,
)
from anthrotap_builder.shards import Tally, manifest_of
from anthrotap_hf.hub.cards import dataset_card
from anthrotap_hf.schema import decode_tracks, features
from anthrotap_hf.utils.atomic_files import atomic_dir, atomic_write, file_sha256

OPEN_FILES = 16  # of which the index is held
ROWS_A_GROUP = 4
VIDEOS = "videos.jsonl"


def arrange(folder: BuildFolder, finish: Finish) -> None:
    """Writes the list of rows of each shard of the dataset into `folder.finish`, and the list of videos.

    The same rows come out in the same order, whichever files they lie in.

    Raises:
        IncompleteError: if videos have no outcome, or rows were lost; damaged files are set tmp_path.
    """
    shutil.rmtree(folder.finish, ignore_errors=True)
    (folder.finish / "data").mkdir(parents=True)
    outcomes = _of_inputs(folder)
    wanted: dict[str, int | None] = {}  # rows of each content; None where only an earlier plan knows
    for outcome in outcomes:
        if outcome.sha256 and outcome.rows != 0:
            wanted[outcome.sha256] = outcome.rows or wanted.get(outcome.sha256)
    rows = _find_rows(folder, set(wanted))
    found = Counter(row.source_sha256 for row in rows)
    lost = [sha for sha, count in wanted.items() if not found[sha] or (count and found[sha] != count)]
    if lost:
        _forget(folder, lost)
        raise IncompleteError(f"{folder.out}: rows of {len(lost)} videos are lost or damaged")
    kept = _each_content_once(rows)
    if not kept and any(folder.out.glob("data/*.parquet")):
        reason = next((outcome.failure for outcome in outcomes if outcome.failure), "no clip")
        raise BuildError(f"no video gave a clip ({reason}); the dataset that is in {folder.out} stays")
    names = _names(outcomes)
    for split, members in _by_split(kept, finish).items():
        members.sort(key=lambda row: digest(f"{finish.seed}:{row.clip_id}"))
        shares = _cut(members, finish.shard_bytes)
        for number, share in enumerate(shares):
            lines = (
                {
                    "file": os.path.relpath(row.file, folder.state),
                    "number": row.number,
                    "source_video": names[row.source_sha256],
                }
                for row in share
            )
            write_lines(folder.finish / f"{split}-{number:05d}-of-{len(shares):05d}.jsonl", lines)
    videos = _describe_videos(outcomes, Counter(row.source_sha256 for row in kept), finish)
    write_lines(folder.finish / VIDEOS, videos)


def write_shards(
    folder: BuildFolder, config: LabelingConfig, finish: Finish, rank: int = 0, ranks: int = 1
) -> None:
    """Writes every `ranks`-th shard, from the rank-th on, into `folder.finish`, and what it holds beside it.

    Raises:
        IncompleteError: if a file of rows is damaged; it is set tmp_path.
    """
    columns = features(config.clips.clip_frames)
    open_file = lru_cache(OPEN_FILES)(RowReader)
    for listed in sorted(folder.finish.glob("*-of-*.jsonl"))[rank::ranks]:
        tally = Tally()
        path = folder.finish / "data" / f"{listed.stem}.parquet"
        with atomic_write(path) as tmp_path, pq.ParquetWriter(tmp_path, columns.arrow_schema) as writer:
            group: list[pa.Table] = []
            for line in read_lines(listed):
                try:
                    row = open_file(folder.state / line["file"]).row(line["number"])
                except FileNotFoundError as error:  # another rank has set it aside
                    raise IncompleteError(
                        f"{error.filename}: damaged; its videos are labeled again"
                    ) from error
                except DamagedError as error:
                    quarantine(error.file)
                    raise IncompleteError(f"{error}; its videos are labeled again") from error
                row = _change(row, "source_video", [line["source_video"]])
                if finish.label_only:
                    row = _change(row, "video", [None])
                _count(tally, row)
                group.append(row.cast(columns.arrow_schema))
                if len(group) == ROWS_A_GROUP:
                    writer.write_table(pa.concat_tables(group), row_group_size=ROWS_A_GROUP)
                    group = []
            if group:
                writer.write_table(pa.concat_tables(group), row_group_size=ROWS_A_GROUP)
        described = {
            "name": f"data/{path.name}",
            "rows": tally.clips,
            "sha256": file_sha256(path),
            "tally": asdict(tally),
        }
        with atomic_write(path.with_suffix(".json")) as tmp_path:
            tmp_path.write_text(json.dumps(described))


def conclude(folder: BuildFolder, config: LabelingConfig, finish: Finish) -> None:
    """Moves the shards to `data`, and writes `manifest.json`, `videos.jsonl` and the card.

    Raises:
        IncompleteError: if a shard is missing.
    """
    listed = sorted(folder.finish.glob("*-of-*.jsonl"))
    arranged = (folder.finish / VIDEOS).exists()  # the last that `arrange` writes
    described = [folder.finish / "data" / f"{path.stem}.json" for path in listed]
    if not arranged or not all(path.exists() for path in described):
        raise IncompleteError(f"{folder.out}: not all shards were written")
    shards = [json.loads(path.read_text()) for path in described]
    tallies = [Tally(**shard.pop("tally")) for shard in shards]
    splits: dict[str, Tally] = {}
    for split, group in groupby(range(len(shards)), lambda index: listed[index].name.partition("-")[0]):
        splits[split] = Tally.merge(tallies[index] for index in group)
    videos = read_lines(folder.finish / VIDEOS)
    manifest = {
        **manifest_of(config, Tally.merge(tallies)),
        "files": shards,
        "label_only": finish.label_only,
        "seed": finish.seed,
        "splits": {
            split: {
                "rows": tally.clips,
                "videos": sum(video["split"] == split and video["clips"] > 0 for video in videos),
                "tracks": tally.tracks,
            }
            for split, tally in splits.items()
        },
        "videos": {
            "file": VIDEOS,
            "given": len(videos),
            "labeled": sum(video["clips"] > 0 for video in videos),
            "failed": sum(video["failure"] is not None for video in videos),
        },
    }
    for path in described:
        path.unlink()
    with atomic_dir(folder.out / "data") as tmp_path:
        for path in sorted((folder.finish / "data").glob("*.parquet")):
            path.rename(tmp_path / path.name)
    for name, text in (
        ("manifest.json", json.dumps(manifest, indent=2, ensure_ascii=False) + "\n"),
        (VIDEOS, (folder.finish / VIDEOS).read_text(encoding="utf-8")),
        ("README.md", dataset_card(manifest)),
    ):
        with atomic_write(folder.out / name) as tmp_path:
            tmp_path.write_text(text, encoding="utf-8")


def _of_inputs(folder: BuildFolder) -> list[VideoResult]:
    """What came of the videos that this run was asked for, in order."""
    outcomes = folder.outcomes()
    sources = folder.load_inputs()
    without = [source.shown for source in sources if source.key not in outcomes]
    if without:
        raise IncompleteError(
            f"{folder.out}: {len(without)} of {len(sources)} videos are not labeled yet, {without[0]} the first; "
            "the same command goes on"
        )
    return [outcomes[source.key] for source in sources]


def _find_rows(folder: BuildFolder, wanted: set[str]) -> list[RowPlace]:
    """Each row of these videos once, wherever it lies."""

    def read(file: Path) -> list[RowPlace]:
        try:
            return RowReader(file).index()
        except DamagedError:
            quarantine(file)
            return []

    rows: dict[str, RowPlace] = {}
    with ThreadPoolExecutor(16) as threads:  # disks may be far away
        for places in threads.map(read, folder.row_files()):
            for place in places:
                if place.source_sha256 in wanted:
                    rows.setdefault(place.clip_id, place)
    return list(rows.values())


def _forget(folder: BuildFolder, lost: list[str]) -> None:
    """Videos whose rows are gone count as not labeled."""
    for plan in folder.plans():
        plan.forget(set(lost))


def _each_content_once(rows: list[RowPlace]) -> list[RowPlace]:
    """Of clips with the same frames, the one whose video's hash is the smallest."""
    first: dict[str, RowPlace] = {}
    for row in sorted(rows, key=lambda row: row.clip_id):
        first.setdefault(row.frames_sha256, row)
    return list(first.values())


def _by_split(rows: list[RowPlace], finish: Finish) -> dict[str, list[RowPlace]]:
    splits = defaultdict(list)
    for row in rows:
        splits[finish.split(row.source_sha256)].append(row)
    return splits


def _cut(rows: list[RowPlace], shard_bytes: int) -> list[list[RowPlace]]:
    """Rows in order, in shards of about so many bytes."""
    shares: list[list[RowPlace]] = [[]]
    size = 0
    for row in rows:
        if size + row.size > shard_bytes and shares[-1]:
            shares.append([])
            size = 0
        shares[-1].append(row)
        size += row.size
    return shares


def _names(outcomes: list[VideoResult]) -> dict[str, str]:
    """The name of each content: where several files have it, the first in the alphabet."""
    names: dict[str, str] = {}
    for outcome in outcomes:
        if outcome.sha256:
            names[outcome.sha256] = min(outcome.name, names.get(outcome.sha256, outcome.name))
    return names


def _describe_videos(
    outcomes: list[VideoResult], clips: Counter[str], finish: Finish
) -> list[dict[str, Any]]:
    """A line for each video that was given, without its folder: this file may be published."""
    described = []
    first: dict[str, str] = {}
    for outcome in sorted(outcomes, key=lambda outcome: (outcome.name, outcome.sha256 or "")):
        original = first.setdefault(outcome.sha256, outcome.name) if outcome.sha256 else outcome.name
        copy = original if original != outcome.name else None
        described.append(
            {
                "video": outcome.name,
                "sha256": outcome.sha256,
                "split": finish.split(outcome.sha256) if outcome.sha256 else None,
                "clips": clips[outcome.sha256] if outcome.sha256 and copy is None else 0,
                "copy_of": copy,
                "failure": _without_folder(outcome.failure, outcome),
                "left_out": [_without_folder(line, outcome) for line in outcome.left_out],
            }
        )
    return described


def _without_folder(line: str | None, outcome: VideoResult) -> str | None:
    return line and line.replace(outcome.shown, outcome.name)


def _change(row: pa.Table, column: str, values: list[Any]) -> pa.Table:
    place = row.schema.get_field_index(column)
    return row.set_column(place, row.schema.field(place), pa.array(values, row.schema.field(place).type))


def _count(tally: Tally, row: pa.Table) -> None:
    import datasets

    names = ["num_frames", "height", "width", "tracks", "visible", "valid", "person", "vertex"]
    values = datasets.Dataset(row.select([*names, "rejected_fraction"])).with_format("numpy")[0]
    tally.add(decode_tracks(values), float(values["rejected_fraction"]))
