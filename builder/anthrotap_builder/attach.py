"""Puts the videos back into a label-only dataset: it and the user's own videos become a dataset that trains."""

from __future__ import annotations

import hashlib
import re
import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
from pydantic import ValidationError

from anthrotap_builder.clips import VideoClip, read_clips
from anthrotap_builder.config import ClipSettings
from anthrotap_builder.shards import MAX_GROUP_ROWS, ShardFile, describe_file, save_manifest, shard_name
from anthrotap_hf.data.manifest import read_manifest
from anthrotap_hf.data.shard_reader import (
    ShardError,
    check_columns,
    find_shards,
    iter_batches,
    read_footer,
    split_of,
)
from anthrotap_hf.schema import MANIFEST, SHA256, VIDEO_LIST, features
from anthrotap_hf.utils.atomic_files import atomic_dir, file_sha256
from anthrotap_hf.utils.errors import AnthroTapError, one_line
from anthrotap_hf.video import VideoError, encode_video

# Missing videos that an error names.
MAX_NAMED = 5
SHARD_NAME = re.compile(r"(?P<stem>.+)-\d{5}-of-\d{5}\.parquet")
KEY_COLUMNS = ("source_sha256", "start_frame", "num_frames")
ROW_COLUMNS = ("clip_id", "source_video", "height", "width", "frames_sha256")
Key = tuple[str, int, int]
"""Identifies a clip among those of all videos: SHA-256 of the video, start frame, number of frames."""
OnProgress = Callable[[str, int, int], object]
"""Is called with what is worked on ("videos" that are identified, "clips" that are cut, "rows" that are written), how
many are done, and of how many."""


class AttachError(AnthroTapError):
    """Videos can't be attached.

    Attributes:
        way_out: the argument of `attach_videos` that would accept it: "partial" or "allow_other_decoder"; or None.
    """

    way_out: str | None = None

    @classmethod
    def accepted_by(cls, way_out: str, reason: str, **fields: Any) -> AttachError:
        """An error that an argument of `attach_videos` would accept."""
        error = cls(reason, **fields)
        error.way_out = way_out
        return error


@dataclass(frozen=True)
class LabeledRow:
    """What identifies the clip of a row, and what its frames must be."""

    key: Key
    clip_id: str
    source_video: str
    height: int
    width: int
    frames_sha256: str


@dataclass
class AttachReport:
    """What a run did.

    Attributes:
        rows: rows of the label-only dataset.
        written: rows with a video.
        videos: how many videos the rows are of.
        found: how many of these were given.
        skipped: a line for each row that got no video.
        files: the shards, as in the manifest.
    """

    rows: int = 0
    written: int = 0
    videos: int = 0
    found: int = 0
    skipped: list[str] = field(default_factory=list)
    files: list[dict[str, Any]] = field(default_factory=list)


def attach_videos(
    folder: Path,
    videos: Sequence[Path],
    out: Path,
    partial: bool = False,
    allow_other_decoder: bool = False,
    overwrite: bool = False,
    on_progress: OnProgress | None = None,
) -> AttachReport:
    """Write the dataset with its videos: each is found by its bytes, cut and encoded as it was for the labels.

    Splits, order and shards stay. The new folder is there whole or not at all; in it each clip waits in a file of its
    own for its shard. Memory does not grow with the dataset, except for its rows' ids.

    Args:
        folder: a label-only dataset.
        videos: files; those that no row is of are ignored.
        out: the new folder.
        partial: whether rows without a video may be skipped.
        allow_other_decoder: whether frames may differ from those that were labeled, if their size does not.
        overwrite: whether a dataset in `out` may be replaced.
        on_progress: see `OnProgress`.

    Raises:
        AttachError: if videos are missing or of other bytes, frames differ, or the dataset can't be used.
        ShardError: if a shard can't be used.
        FileExistsError: if there is a dataset in `out`, and `overwrite` is false.
        FileNotFoundError: if there is no dataset in `folder`.
    """
    manifest, settings = _read_label_only(folder)
    _check_out(folder, out, overwrite)
    shards = find_shards(folder)
    rows = [row for shard in shards for row in _read_rows(shard)]
    if not rows:
        raise FileNotFoundError(f"{folder}: no row of a dataset in this folder; fetch it again")
    attachment = _Attachment(rows, settings, partial, allow_other_decoder, on_progress or (lambda *_: None))
    sources, missing = attachment.find_sources(videos)
    report = AttachReport(rows=len(rows), videos=len(sources) + len(missing), found=len(sources))
    with atomic_dir(out) as tmp_path:
        clips = tmp_path / "clips"
        clips.mkdir()
        rejected = attachment.cut_clips(sources, clips)
        for row in rows:
            if reason := rejected.get(row.key) or missing.get(row.key[0]):
                report.skipped.append(f"{row.clip_id}: {reason}")
        if len(report.skipped) == len(rows):
            raise AttachError(f"no row can be attached; {report.skipped[0]}", path=folder)
        targets = {shard: tmp_path / shard.relative_to(folder) for shard in shards}
        written = attachment.write_shards(targets, clips)
        report.files = [describe_file(path, tmp_path) for path in written]
        report.written = sum(file["rows"] for file in report.files)
        clips.rmdir()
        if (folder / VIDEO_LIST).is_file():
            shutil.copyfile(folder / VIDEO_LIST, tmp_path / VIDEO_LIST)
        save_manifest(tmp_path, _new_manifest(manifest, report))
    return report


def _read_label_only(folder: Path) -> tuple[dict[str, Any], ClipSettings]:
    """The manifest, and how its videos were cut."""
    manifest = read_manifest(folder)
    path = folder / MANIFEST
    if manifest.get("label_only") is not True:
        raise AttachError("not a label-only dataset: its rows have their videos", path=path)
    config = manifest.get("config")
    clips = config.get("clips") if isinstance(config, dict) else None
    try:
        return manifest, ClipSettings.model_validate(clips)
    except ValidationError as error:
        wrong = "; ".join(".".join(map(str, ("config.clips", *e["loc"]))) + f": {e['msg']}" for e in error.errors())
        raise AttachError(
            f"does not say how videos were cut ({one_line(wrong)})", path=path, hint="fetch it again"
        ) from error


def _check_out(folder: Path, out: Path, overwrite: bool) -> None:
    """Raise before any work if `out` can't become the dataset. Nothing but a dataset is ever replaced."""
    elsewhere = "take another folder"
    if out.resolve() == folder.resolve():
        raise AttachError("is the label-only dataset itself", path=out, hint=elsewhere)
    if not out.exists():
        return
    if not out.is_dir():
        raise AttachError("is a file", path=out, hint=elsewhere)
    shards = find_shards(out)
    if shards and not overwrite:
        raise FileExistsError(f"{out}: already holds {shards[0].name}; {elsewhere}")
    of_dataset = {*shards, out / MANIFEST, out / VIDEO_LIST, out / "data"}
    others = sorted(path for path in (*out.glob("*"), *out.glob("data/*")) if path not in of_dataset)
    if others:
        reason = f"holds {others[0].relative_to(out)}, no part of a dataset"
        raise AttachError(reason, path=out, hint=elsewhere)


def _read_rows(shard: Path) -> Iterator[LabeledRow]:
    """The rows of a shard. Raises ShardError for a shard that can't be used."""
    check_columns(read_footer(shard).columns, shard, complete=True)
    rows = (row for batch in iter_batches(shard, [*KEY_COLUMNS, *ROW_COLUMNS]) for row in batch.to_pylist())
    for number, row in enumerate(rows):
        if None in row.values() or not SHA256.fullmatch(row["source_sha256"]):
            reason = "it does not say which clip of which video it is of"
            raise ShardError(reason, path=shard, row=number, hint="`anthrotap verify` says more")
        yield LabeledRow(key=_key(row), **{name: row[name] for name in ROW_COLUMNS})


def _key(row: dict[str, Any]) -> Key:
    return row["source_sha256"], row["start_frame"], row["num_frames"]


@dataclass(frozen=True)
class _Attachment:
    """The work on one dataset."""

    rows: list[LabeledRow]
    settings: ClipSettings
    partial: bool
    allow_other_decoder: bool
    on_progress: OnProgress

    def find_sources(self, videos: Sequence[Path]) -> tuple[dict[str, Path], dict[str, str]]:
        """By SHA-256 each source's file, or why there is none. Raises AttachError if none may be missing, or all
        are."""
        names = {row.key[0]: row.source_video for row in self.rows}
        found: dict[str, Path] = {}
        others: dict[str, tuple[Path, str]] = {}
        self.on_progress("videos", 0, len(videos))
        for done, video in enumerate(videos, 1):
            sha256 = file_sha256(video)
            if sha256 in names:
                found.setdefault(sha256, video)
            else:
                others[video.name] = video, sha256
            self.on_progress("videos", done, len(videos))
        missing = {sha256: name for sha256, name in names.items() if sha256 not in found}
        reasons = {sha256: f"{one_line(name)} is missing" for sha256, name in missing.items()}
        changed = {
            sha256: f"{others[name][0]} is not the {name} that was labeled: its SHA-256 is {others[name][1]}, "
            f"that one's {one_line(sha256)}"
            for sha256, name in missing.items()
            if name in others
        }
        if not missing or (self.partial and found):
            return found, reasons | changed
        if changed:
            reason = next(iter(changed.values()))
            raise AttachError.accepted_by("partial", reason, hint="fetch the same file")
        first = ", ".join(one_line(name) for name in list(missing.values())[:MAX_NAMED])
        more = ", ..." if len(missing) > MAX_NAMED else ""
        reason = f"{len(missing)} of {len(names)} videos are missing ({first}{more})"
        if found:
            raise AttachError.accepted_by("partial", reason, hint="name them too")
        raise AttachError(reason, hint="name their files or folders")

    def cut_clips(self, sources: dict[str, Path], clips: Path) -> dict[Key, str]:
        """Leave each clip, encoded, in the folder `clips`. Returns the reason for each one that is rejected.

        Raises AttachError at the first video that does not give all its clips, unless `partial`.
        """
        by_video: dict[str, list[LabeledRow]] = {}
        for row in {row.key: row for row in self.rows}.values():
            if row.key[0] in sources:
                by_video.setdefault(row.key[0], []).append(row)
        total = sum(map(len, by_video.values()))
        done = 0
        rejected: dict[Key, str] = {}
        self.on_progress("clips", 0, total)
        for sha256, rows in by_video.items():
            for row, error in self._cut_video(sources[sha256], rows, clips):
                done += 1
                self.on_progress("clips", done, total)
                if error is None:
                    continue
                rejected[row.key] = str(error)
                if not self.partial:
                    raise AttachError.accepted_by(
                        error.way_out or "partial", f"{row.clip_id}: {error.reason}", hint=error.hint
                    )
        return rejected

    def _cut_video(
        self, video: Path, rows: list[LabeledRow], clips: Path
    ) -> Iterator[tuple[LabeledRow, AttachError | None]]:
        """Cut one video and keep the clips of these rows; each with None, or why it is rejected."""
        left = {row.key[1:]: row for row in rows}
        damage = ""
        try:
            for clip in read_clips(video, self.settings):
                row = left.pop((clip.start_frame, len(clip.frames)), None)
                if row is None:
                    continue
                error = self._check(video, clip, row)
                if error is None:
                    _clip_file(clips, row.key).write_bytes(encode_video(clip.frames, clip.fps))
                yield row, error
                if not left:
                    return
        except VideoError as error:
            # The clips before the damage are good.
            damage = f" ({one_line(error)})"
        for row in left.values():
            start, count = row.key[1:]
            yield (
                row,
                AttachError(
                    f"{video}: cut here, it has no clip of {count} frames from frame {start} on{damage}",
                    hint="use the FFmpeg and OpenCV of the labels",
                ),
            )

    def _check(self, video: Path, clip: VideoClip, row: LabeledRow) -> AttachError | None:
        """Why a clip is not the row's; None if it is."""
        height, width = clip.frames.shape[1:3]
        if (height, width) != (row.height, row.width):
            return AttachError(
                f"{video}: frames are {width} x {height} here, the labels are for {row.width} x {row.height}",
                hint="use the FFmpeg of the labels",
            )
        sha256 = hashlib.sha256(clip.frames.tobytes()).hexdigest()
        if self.allow_other_decoder or sha256 == row.frames_sha256:
            return None
        return AttachError.accepted_by(
            "allow_other_decoder",
            f"{video}: the same file, but another FFmpeg or OpenCV decodes it to other frames than those that were "
            "labeled",
        )

    def write_shards(self, targets: dict[Path, Path], clips: Path) -> list[Path]:
        """Write each shard again, with the clips that wait; a clip is deleted once all its rows have it.

        Args:
            targets: by shard the path of the new one.
            clips: the folder of the clips.

        Returns:
            The shards that have rows, numbered anew if some have none.
        """
        schema = features(self.settings.clip_frames).arrow_schema
        left = Counter(row.key for row in self.rows)
        written: list[Path] = []
        done = 0
        self.on_progress("rows", 0, len(self.rows))
        for source, path in targets.items():
            path.parent.mkdir(exist_ok=True)
            with ShardFile(path) as shard:
                for batch in iter_batches(source, batch_size=MAX_GROUP_ROWS):
                    table = _with_videos(pa.Table.from_batches([batch]), clips, left)
                    # Then the file is byte by byte that of a dataset made with videos.
                    shard.write(table.cast(schema) if table.column_names == schema.names else table)
                    done += batch.num_rows
                    self.on_progress("rows", done, len(self.rows))
            if shard.num_rows:
                written.append(path)
        return written if len(written) == len(targets) else _renumber(written)


def _clip_file(clips: Path, key: Key) -> Path:
    return clips / "{}-{}-{}.mp4".format(*key)


def _with_videos(table: pa.Table, clips: Path, left: Counter[Key]) -> pa.Table:
    """The rows whose clip waits, with it in the column `video`."""
    videos: list[dict[str, Any]] = []
    kept = []
    for number, row in enumerate(table.select(KEY_COLUMNS).to_pylist()):
        key = _key(row)
        file = _clip_file(clips, key)
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


def _renumber(paths: list[Path]) -> list[Path]:
    """Rename shards so that their numbers are consecutive again."""
    stems = [match["stem"] if (match := SHARD_NAME.fullmatch(path.name)) else None for path in paths]
    counts = Counter(stems)
    numbers: Counter[str | None] = Counter()
    result = []
    for path, stem in zip(paths, stems, strict=True):
        if stem is not None:
            path = path.rename(path.with_name(shard_name(stem, numbers[stem], counts[stem])))
            numbers[stem] += 1
        result.append(path)
    return result


def _new_manifest(manifest: dict[str, Any], report: AttachReport) -> dict[str, Any]:
    """The manifest of the label-only dataset, with the new files."""
    manifest = {**manifest, "label_only": False, "files": report.files}
    if report.skipped:
        # Figures of all rows are not those of some.
        manifest.pop("counts", None)
        rows: Counter[str] = Counter()
        for file in report.files:
            rows[split_of(file["name"])] += file["rows"]
        if "splits" in manifest:
            manifest["splits"] = {split: {"rows": count} for split, count in rows.items()}
        manifest["skipped"] = [*(manifest.get("skipped") or []), *report.skipped]
    return manifest
