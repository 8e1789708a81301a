"""Videos that may not be passed on, put back: a label-only dataset and the user's own videos become the whole."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import ValidationError

from anthrotap_builder.clips import Clip, read_clips
from anthrotap_builder.config import ClipSettings
from anthrotap_builder.distributed.assemble import VIDEOS
from anthrotap_builder.shards import MAX_BATCH_ROWS
from anthrotap_hf.data.manifest import read_manifest
from anthrotap_hf.data.shard_reader import (
    ShardError,
    check_columns,
    find_shards,
    iter_batches,
    read_footer,
    split_of,
)
from anthrotap_hf.schema import MANIFEST, SHA256, features
from anthrotap_hf.utils.atomic_files import atomic_dir, file_sha256
from anthrotap_hf.utils.errors import one_line
from anthrotap_hf.video import VideoError, encode_video

NAMED = 5  # missing videos that an error names
SHARD = re.compile(r"(?P<stem>.+)-\d{5}-of-\d{5}\.parquet")
KEYS = ("source_sha256", "start_frame", "num_frames")
SHOWN = ("clip_id", "source_video", "height", "width", "frames_sha256")
Key = tuple[str, int, int]
"""Which clip of all videos: SHA-256 of the video, start frame, number of frames."""
OnProgress = Callable[[str, int, int], None]
"""Is told what is worked on ("videos" that are told apart, "clips" that are cut, "rows" that are written), how many
are done, and of how many."""


class AttachError(ValueError):
    """Videos can't be attached. The message is one line: what, why, and the way out."""


@dataclass(frozen=True)
class Wanted:
    """A row's clip: its key and columns."""

    key: Key
    clip_id: str
    source_video: str
    height: int
    width: int
    frames_sha256: str


@dataclass
class Attached:
    """What a run did.

    Attributes:
        rows: of the label-only dataset.
        written: rows with a video.
        videos: how many videos the rows are of.
        found: how many of these were given.
        left_out: a line for each row that got no video.
        files: the shards, as in the manifest.
    """

    rows: int = 0
    written: int = 0
    videos: int = 0
    found: int = 0
    left_out: list[str] = field(default_factory=list)
    files: list[dict[str, Any]] = field(default_factory=list)


def attach_videos(
    folder: Path,
    videos: Sequence[Path],
    out: Path,
    partial: bool = False,
    allow_other_decoder: bool = False,
    replace: bool = False,
    on_progress: OnProgress | None = None,
) -> Attached:
    """Writes the dataset with its videos: each is found by its bytes, cut and encoded again as it was for the labels.

    Splits, order and shards stay. The new folder is there whole or not at all; beside it each clip lies once while
    it waits for its shard. Memory does not grow with the dataset, but for its rows' ids.

    Args:
        folder: a label-only dataset.
        videos: files; those that no row is of are passed over.
        out: the new folder.
        partial: whether rows without a video may be left out.
        allow_other_decoder: whether frames may differ from those that were labeled, if their size does not.
        replace: whether a dataset in `out` may be replaced.
        on_progress: is told how far it is.

    Raises:
        AttachError: if videos are missing or of other bytes, frames differ, or the dataset can't be used.
        FileExistsError: if there is a dataset in `out`, and `replace` is false.
        FileNotFoundError: if there is no dataset in `folder`.
    """
    manifest, settings = _read_label_only(folder)
    _check_out(folder, out, replace)
    tell = on_progress or (lambda stage, done, total: None)
    shards = find_shards(folder)
    wanted = [row for shard in shards for row in _wanted(shard)]
    if not wanted:
        raise FileNotFoundError(f"{folder}: no row of a dataset in this folder; fetch it again")
    sources, missing = _find_sources(wanted, videos, partial, tell)
    result = Attached(rows=len(wanted), videos=len(sources) + len(missing), found=len(sources))
    with atomic_dir(out) as tmp_path:
        waiting = tmp_path / "clips"
        waiting.mkdir()
        refused = _cut_all(wanted, sources, settings, waiting, partial, allow_other_decoder, tell)
        for row in wanted:
            reason = refused.get(row.key) or missing.get(row.key[0])
            if reason:
                result.left_out.append(f"{row.clip_id}: {reason}")
        if len(result.left_out) == len(wanted):
            raise AttachError(f"{folder}: no row can be attached; {result.left_out[0]}")
        _write_shards(
            folder,
            shards,
            features(settings.clip_frames).arrow_schema,
            tmp_path,
            waiting,
            wanted,
            result,
            tell,
        )
        waiting.rmdir()
        if (folder / VIDEOS).is_file():
            shutil.copyfile(folder / VIDEOS, tmp_path / VIDEOS)
        _write_manifest(tmp_path, manifest, result)
    return result


def _read_label_only(folder: Path) -> tuple[dict[str, Any], ClipSettings]:
    """The manifest, and how its videos were cut."""
    manifest = read_manifest(folder)
    path = folder / MANIFEST
    if manifest.get("label_only") is not True:
        raise AttachError(f"{path}: not a label-only dataset: its rows have their videos")
    config = manifest.get("config")
    clips = config.get("clips") if isinstance(config, dict) else None
    try:
        return manifest, ClipSettings.model_validate(clips)
    except ValidationError as error:
        wrong = "; ".join(
            ".".join(map(str, ("config.clips", *e["loc"]))) + f": {e['msg']}" for e in error.errors()
        )
        raise AttachError(
            f"{path}: does not say how videos were cut ({one_line(wrong)}); fetch it again"
        ) from error


def _check_out(folder: Path, out: Path, replace: bool) -> None:
    """Raises before any work if `out` can't become the dataset. Nothing but a dataset is ever replaced."""
    if out.resolve() == folder.resolve():
        raise AttachError(f"{out}: is the label-only dataset itself; take another folder")
    if not out.exists():
        return
    if not out.is_dir():
        raise AttachError(f"{out}: is a file; take another folder")
    shards = find_shards(out)
    if shards and not replace:
        raise FileExistsError(f"{out}: already holds {shards[0].name}; take another folder")
    ours = {*shards, out / MANIFEST, out / VIDEOS, out / "data"}
    others = sorted(path for path in (*out.glob("*"), *out.glob("data/*")) if path not in ours)
    if others:
        raise AttachError(
            f"{out}: holds {others[0].relative_to(out)}, no part of a dataset; take another folder"
        )


def _wanted(shard: Path) -> Iterator[Wanted]:
    """The clips of a shard's rows. Raises ShardError for a shard that can't be used."""
    check_columns(read_footer(shard).columns, shard, complete=True)
    rows = (row for batch in iter_batches(shard, [*KEYS, *SHOWN]) for row in batch.to_pylist())
    for number, row in enumerate(rows):
        if None in row.values() or not SHA256.fullmatch(row["source_sha256"]):
            reason = "it does not say which clip of which video it is of"
            raise ShardError(reason, path=shard, row=number, hint="`anthrotap verify` says more")
        yield Wanted(key=_key(row), **{name: row[name] for name in SHOWN})


def _key(row: dict[str, Any]) -> Key:
    return row["source_sha256"], row["start_frame"], row["num_frames"]


def _find_sources(
    wanted: list[Wanted], videos: Sequence[Path], partial: bool, tell: OnProgress
) -> tuple[dict[str, Path], dict[str, str]]:
    """By SHA-256 each source's file, or why there is none. Raises AttachError where none may be missing, or all are."""
    names = {row.key[0]: row.source_video for row in wanted}
    found: dict[str, Path] = {}
    others: dict[str, tuple[Path, str]] = {}
    tell("videos", 0, len(videos))
    for done, video in enumerate(videos, 1):
        sha256 = file_sha256(video)
        if sha256 in names:
            found.setdefault(sha256, video)
        else:
            others[video.name] = video, sha256
        tell("videos", done, len(videos))
    missing = {sha256: name for sha256, name in names.items() if sha256 not in found}
    reasons = {sha256: f"{one_line(name)} is missing" for sha256, name in missing.items()}
    refused = {
        sha256: f"{others[name][0]} is not the {name} that was labeled: its SHA-256 is {others[name][1]}, "
        f"that one's {one_line(sha256)}"
        for sha256, name in missing.items()
        if name in others
    }
    if not missing or (partial and found):
        return found, reasons | refused
    way_out = (
        "name them too, or leave their rows out with --partial" if found else "name their files or folders"
    )
    if refused:
        raise AttachError(
            f"{next(iter(refused.values()))}; fetch the same file, or leave its rows out with --partial"
        )
    first = ", ".join(one_line(name) for name in list(missing.values())[:NAMED])
    more = ", ..." if len(missing) > NAMED else ""
    raise AttachError(f"{len(missing)} of {len(names)} videos are missing ({first}{more}); {way_out}")


def _cut_all(
    wanted: list[Wanted],
    sources: dict[str, Path],
    settings: ClipSettings,
    waiting: Path,
    partial: bool,
    allow_other_decoder: bool,
    tell: OnProgress,
) -> dict[Key, str]:
    """Leaves each clip, encoded, in the folder `waiting`; says why those that are not there are not.

    Raises AttachError at the first video that does not give all its clips, unless `partial`.
    """
    rows: dict[str, list[Wanted]] = {}
    for row in {row.key: row for row in wanted}.values():
        if row.key[0] in sources:
            rows.setdefault(row.key[0], []).append(row)
    total = sum(map(len, rows.values()))
    done = 0
    refused: dict[Key, str] = {}
    tell("clips", 0, total)
    for sha256, of_video in rows.items():
        for row, reason in _cut(sources[sha256], of_video, settings, waiting, allow_other_decoder):
            done += 1
            tell("clips", done, total)
            if reason is None:
                continue
            refused[row.key] = reason
            if not partial:
                raise AttachError(f"{row.clip_id}: {reason}, or leave such rows out with --partial")
    return refused


def _cut(
    video: Path, wanted: list[Wanted], settings: ClipSettings, waiting: Path, allow_other_decoder: bool
) -> Iterator[tuple[Wanted, str | None]]:
    """Cuts one video and keeps the clips that are wanted; each with None, or why it is refused."""
    left = {row.key[1:]: row for row in wanted}
    damage = ""
    try:
        for clip in read_clips(video, settings):
            row = left.pop((clip.start_frame, len(clip.frames)), None)
            if row is None:
                continue
            reason = _refusal(video, clip, row, allow_other_decoder)
            if reason is None:
                _file(waiting, row.key).write_bytes(encode_video(clip.frames, clip.fps))
            yield row, reason
            if not left:
                return
    except VideoError as error:  # the clips before the damage are good
        damage = f" ({one_line(error)})"
    for row in left.values():
        reason = (
            f"{video}: cut here, it has no clip of {row.key[2]} frames from frame {row.key[1]} on{damage}"
        )
        yield row, f"{reason}; use the FFmpeg and OpenCV of the labels"


def _refusal(video: Path, clip: Clip, row: Wanted, allow_other_decoder: bool) -> str | None:
    """Why a clip is not the row's, in one line; None if it is."""
    size = clip.frames.shape[1:3]
    if size != (row.height, row.width):
        return (
            f"{video}: frames are {size[1]} x {size[0]} here, the labels are for {row.width} x {row.height}; "
            "use the FFmpeg of the labels"
        )
    if allow_other_decoder or hashlib.sha256(clip.frames.tobytes()).hexdigest() == row.frames_sha256:
        return None
    return (
        f"{video}: the same file, but another FFmpeg or OpenCV decodes it to other frames than those that were "
        "labeled; accept them with --allow-other-decoder"
    )


def _file(waiting: Path, key: Key) -> Path:
    return waiting / "{}-{}-{}.mp4".format(*key)


def _write_shards(
    folder: Path,
    shards: list[Path],
    ours: pa.Schema,
    tmp_path: Path,
    waiting: Path,
    wanted: list[Wanted],
    result: Attached,
    tell: OnProgress,
) -> None:
    """Each shard again, a few rows at a time, with the clips that wait; a clip is gone once all its rows have it."""
    left = Counter(row.key for row in wanted)
    written: list[tuple[Path, int]] = []
    done = 0
    tell("rows", 0, len(wanted))
    for shard in shards:
        path = tmp_path / shard.relative_to(folder)
        path.parent.mkdir(exist_ok=True)
        count = 0
        writer: pq.ParquetWriter | None = None
        try:
            for batch in iter_batches(shard, batch_size=MAX_BATCH_ROWS):
                table = _with_videos(pa.Table.from_batches([batch]), waiting, left)
                if table.column_names == ours.names:  # then the file is that of a dataset made with videos
                    table = table.cast(ours)
                if table.num_rows:
                    writer = writer or pq.ParquetWriter(path, table.schema)
                    writer.write_table(table)
                count += table.num_rows
                done += batch.num_rows
                tell("rows", done, len(wanted))
        finally:
            if writer:
                writer.close()
        if count:
            written.append((path, count))
    paths = [path for path, _ in written]
    if len(written) < len(shards):
        paths = _numbered(paths)
    result.files = [
        {"name": path.relative_to(tmp_path).as_posix(), "rows": count, "sha256": file_sha256(path)}
        for path, (_, count) in zip(paths, written, strict=True)
    ]
    result.written = sum(count for _, count in written)


def _with_videos(table: pa.Table, waiting: Path, left: Counter[Key]) -> pa.Table:
    """The rows whose clip waits, with it in the column `video`."""
    videos: list[dict[str, Any]] = []
    kept = []
    for number, row in enumerate(table.select(KEYS).to_pylist()):
        key = _key(row)
        file = _file(waiting, key)
        if not file.exists():
            continue
        videos.append({"bytes": file.read_bytes(), "path": None})
        kept.append(number)
        left[key] -= 1
        if not left[key]:
            file.unlink()
    column = pa.array(videos, datasets.Video.pa_type)
    if len(kept) < len(table):
        table = table.take(pa.array(kept, pa.int64()))
    return table.set_column(table.schema.get_field_index("video"), "video", column)


def _numbered(paths: list[Path]) -> list[Path]:
    """Shards under names that count them anew, since some were left without rows."""
    stems = [match["stem"] if (match := SHARD.fullmatch(path.name)) else None for path in paths]
    counts = Counter(stems)
    numbers: Counter[str | None] = Counter()
    result = []
    for path, stem in zip(paths, stems, strict=True):
        if stem is not None:
            path = path.rename(path.with_name(f"{stem}-{numbers[stem]:05d}-of-{counts[stem]:05d}.parquet"))
            numbers[stem] += 1
        result.append(path)
    return result


def _write_manifest(tmp_path: Path, manifest: dict[str, Any], result: Attached) -> None:
    """The manifest of the label-only dataset, with the files that are here now."""
    manifest = {**manifest, "label_only": False, "files": result.files}
    if result.left_out:  # figures of all rows are not those of some
        manifest.pop("counts", None)
        rows: Counter[str] = Counter()
        for file in result.files:
            rows[split_of(file["name"])] += file["rows"]
        if "splits" in manifest:
            manifest["splits"] = {split: {"rows": count} for split, count in rows.items()}
        manifest["left_out"] = [*(manifest.get("left_out") or []), *result.left_out]
    text = json.dumps(manifest, indent=2, ensure_ascii=False) + "\n"
    (tmp_path / MANIFEST).write_text(text, encoding="utf-8")
