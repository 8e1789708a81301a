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

from anthrotap_builder.distributed.config import BuildConfig, OutputConfig, sort_key
from anthrotap_builder.distributed.state import (
    BuildError,
    BuildFolder,
    IncompleteError,
    read_lines,
    write_lines,
)
from anthrotap_builder.shards import (
    ShardFile,
    Tally,
    describe_file,
    describe_labels,
    save_manifest,
    shard_name,
)
from anthrotap_builder.utils.row_file import DamagedRowsError, RowLocation, RowReader, quarantine
from anthrotap_builder.video_result import LISTED, VideoResult
from anthrotap_hf.data.shard_reader import find_shards, split_of
from anthrotap_hf.schema import VIDEO_LIST, features
from anthrotap_hf.utils.atomic_files import atomic_dir, atomic_write

LABELED_AGAIN = "its videos are labeled again"
# Files of rows whose index is kept in memory.
OPEN_FILES = 16
READ_THREADS = 16


def assign_shards(folder: BuildFolder, output: OutputConfig) -> None:
    """Write the list of rows of each shard of the dataset into `folder.finish`, and the list of videos.

    The same rows come out in the same order, whichever files they lie in.

    Raises:
        IncompleteError: if videos have no result, or rows were lost; damaged files get another name.
    """
    shutil.rmtree(folder.finish, ignore_errors=True)
    (folder.finish / "data").mkdir(parents=True)
    results = _results_of_inputs(folder)
    # Rows of each content; None where only an earlier plan knows.
    wanted: dict[str, int | None] = {}
    for result in results:
        if result.sha256 and result.rows != 0:
            wanted[result.sha256] = result.rows or wanted.get(result.sha256)
    rows = _find_rows(folder, set(wanted))
    found = Counter(row.source_sha256 for row in rows)
    lost = [sha for sha, count in wanted.items() if not found[sha] or (count and found[sha] != count)]
    if lost:
        for plan in folder.plans():
            plan.forget(set(lost))
        raise IncompleteError(f"rows of {len(lost)} videos are lost or damaged", path=folder.out)
    kept = _deduplicate(rows)
    if not kept and find_shards(folder.out / "data"):
        reason = next((result.message for result in results if result.failure), "no clip")
        raise BuildError(f"no video gave a clip ({reason}); the dataset that is in {folder.out} stays")
    names = _names(results)
    splits = defaultdict(list)
    for row in kept:
        splits[output.split_of(row.source_sha256)].append(row)
    for split, members in splits.items():
        members.sort(key=lambda row: sort_key(f"{output.seed}:{row.clip_id}"))
        shards = _cut(members, output.shard_bytes)
        for number, shard in enumerate(shards):
            lines = (
                {
                    "file": os.path.relpath(row.file, folder.state),
                    "number": row.number,
                    "source_video": names[row.source_sha256],
                }
                for row in shard
            )
            name = Path(shard_name(split, number, len(shards)))
            write_lines(folder.finish / name.with_suffix(".jsonl"), lines)
    videos = _describe_videos(results, Counter(row.source_sha256 for row in kept), output)
    write_lines(folder.finish / VIDEO_LIST, videos)


def write_shards(build: BuildConfig, rank: int = 0, num_ranks: int = 1) -> None:
    """Write every `num_ranks`-th shard, from the rank-th on, into the folder `finish`, and a tally beside it.

    Raises:
        IncompleteError: if a file of rows is damaged; it gets another name.
    """
    folder = build.folder
    schema = features(build.labeling.clips.clip_frames).arrow_schema
    open_file = lru_cache(OPEN_FILES)(RowReader)
    for listed in sorted(folder.finish.glob("*-of-*.jsonl"))[rank::num_ranks]:
        tally = Tally()
        path = folder.finish / "data" / f"{listed.stem}.parquet"
        with atomic_write(path) as tmp_path, ShardFile(tmp_path, schema) as shard:
            for line in read_lines(listed):
                try:
                    row = open_file(folder.state / line["file"]).row(line["number"])
                except FileNotFoundError as error:
                    # Another rank has given it another name.
                    raise IncompleteError("damaged", path=error.filename, hint=LABELED_AGAIN) from error
                except DamagedRowsError as error:
                    quarantine(folder.state / line["file"])
                    raise IncompleteError(error.reason, path=error.path, hint=LABELED_AGAIN) from error
                row = _set_value(row, "source_video", line["source_video"])
                if build.output.label_only:
                    row = _set_value(row, "video", None)
                tally.add_row(row)
                shard.write(row)
        described = {**describe_file(path, folder.finish), "tally": asdict(tally)}
        with atomic_write(path.with_suffix(".json")) as tmp_path:
            tmp_path.write_text(json.dumps(described))


def finalize_dataset(build: BuildConfig) -> None:
    """Move the shards to `data`, and write `manifest.json`, `videos.jsonl` and, if `build.write_card` is given, the
    card.

    Raises:
        IncompleteError: if a shard is missing.
    """
    folder = build.folder
    listed = sorted(folder.finish.glob("*-of-*.jsonl"))
    # The list of videos is the last that `assign_shards` writes.
    assigned = (folder.finish / VIDEO_LIST).exists()
    described = [folder.finish / "data" / f"{path.stem}.json" for path in listed]
    written = all(path.exists() and path.with_suffix(".parquet").exists() for path in described)
    if not assigned or not written:
        raise IncompleteError("not all shards were written", path=folder.out)
    shards = [json.loads(path.read_text()) for path in described]
    tallies = [Tally(**shard.pop("tally")) for shard in shards]
    splits: dict[str, Tally] = {}
    for split, group in groupby(range(len(shards)), lambda index: split_of(listed[index])):
        splits[split] = Tally.merge(tallies[index] for index in group)
    videos = read_lines(folder.finish / VIDEO_LIST)
    manifest = {
        **describe_labels(build.labeling, Tally.merge(tallies)),
        "files": shards,
        "label_only": build.output.label_only,
        "seed": build.output.seed,
        "splits": {
            split: {
                "rows": tally.clips,
                "videos": sum(video["split"] == split and video["clips"] > 0 for video in videos),
                "tracks": tally.tracks,
            }
            for split, tally in splits.items()
        },
        "videos": {
            "file": VIDEO_LIST,
            "given": len(videos),
            "labeled": sum(video["clips"] > 0 for video in videos),
            "failed": sum(video["failure"] is not None for video in videos),
        },
    }
    with atomic_dir(folder.out / "data") as tmp_path:
        for path in described:
            path.with_suffix(".parquet").rename(tmp_path / path.with_suffix(".parquet").name)
    save_manifest(folder.out, manifest)
    with atomic_write(folder.out / VIDEO_LIST) as tmp_path:
        shutil.copyfile(folder.finish / VIDEO_LIST, tmp_path)
    if build.write_card is not None:
        build.write_card(folder.out)
    shutil.rmtree(folder.finish, ignore_errors=True)


def _results_of_inputs(folder: BuildFolder) -> list[VideoResult]:
    """What came of the videos that this run was asked for, in order."""
    results = folder.results()
    sources = folder.load_inputs()
    without = [source.display_name for source in sources if source.key not in results]
    if without:
        raise IncompleteError(
            f"{len(without)} of {len(sources)} videos are not labeled yet, {without[0]} the first",
            path=folder.out,
            hint="the same command goes on",
        )
    return [results[source.key] for source in sources]


def _find_rows(folder: BuildFolder, wanted: set[str]) -> list[RowLocation]:
    """Each row of these videos once, whichever file it lies in."""

    def read(file: Path) -> list[RowLocation]:
        try:
            return RowReader(file).index()
        except DamagedRowsError:
            quarantine(file)
            return []

    rows: dict[str, RowLocation] = {}
    # Many threads: disks may be far away.
    with ThreadPoolExecutor(READ_THREADS) as threads:
        for locations in threads.map(read, folder.row_files()):
            for location in locations:
                if location.source_sha256 in wanted:
                    rows.setdefault(location.clip_id, location)
    return list(rows.values())


def _deduplicate(rows: list[RowLocation]) -> list[RowLocation]:
    """Of clips with the same frames, the one whose video's hash is the smallest."""
    first: dict[str, RowLocation] = {}
    for row in sorted(rows, key=lambda row: row.clip_id):
        first.setdefault(row.frames_sha256, row)
    return list(first.values())


def _cut(rows: list[RowLocation], shard_bytes: int) -> list[list[RowLocation]]:
    """Rows in order, in shards of about so many bytes."""
    shards: list[list[RowLocation]] = [[]]
    size = 0
    for row in rows:
        if size + row.size > shard_bytes and shards[-1]:
            shards.append([])
            size = 0
        shards[-1].append(row)
        size += row.size
    return shards


def _names(results: list[VideoResult]) -> dict[str, str]:
    """The name of each content: if several files have it, the first in the alphabet."""
    names: dict[str, str] = {}
    for result in results:
        if result.sha256:
            names[result.sha256] = min(result.name, names.get(result.sha256, result.name))
    return names


def _describe_videos(results: list[VideoResult], clips: Counter[str], output: OutputConfig) -> list[dict[str, Any]]:
    """A line for each video that was given, without its folder: this file may be published."""
    described = []
    first: dict[str, str] = {}
    for result in sorted(results, key=lambda result: (result.name, result.sha256 or "")):
        original = first.setdefault(result.sha256, result.name) if result.sha256 else result.name
        copy = original if original != result.name else None
        described.append(
            {
                "video": result.name,
                "sha256": result.sha256,
                "split": output.split_of(result.sha256) if result.sha256 else None,
                "clips": clips[result.sha256] if result.sha256 and copy is None else 0,
                "copy_of": copy,
                "failure": result.failure,
                "people": len(result.labeled_people),
                "people_found": len(result.people),
                **{name: [str(line) for line in getattr(result, name)] for name in LISTED},
            }
        )
    return described


def _set_value(row: pa.Table, column: str, value: Any) -> pa.Table:
    position = row.schema.get_field_index(column)
    field = row.schema.field(position)
    return row.set_column(position, field, pa.array([value], field.type))
