"""The checks of one row of a dataset: its columns, its labels and its video. Rows may come from anyone."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from anthrotap_hf.data.manifest import Expected
from anthrotap_hf.data.shard_reader import DamagedShardError, iter_batches
from anthrotap_hf.schema import COLUMNS, MANIFEST, SHA256, UNKNOWN_CONFIDENCE
from anthrotap_hf.tracks import fill_invalid
from anthrotap_hf.utils.errors import one_line
from anthrotap_hf.video import VideoError, iter_frames, probe

logger = logging.getLogger(__name__)

MAX_CLIP_ID = 100  # characters of one that is repeated in reports
ARRAY_DIMENSIONS = {name: kind.count("list") for name, kind in COLUMNS.items() if "list" in kind}


@dataclass(frozen=True)
class RowGroup:
    """A row group of a shard: its number, and the number of its first row and of its rows."""

    path: Path
    number: int
    first_row: int
    num_rows: int

    @property
    def last_row(self) -> int:
        return self.first_row + self.num_rows - 1


@dataclass
class CheckedRow:
    """A row after its checks, and what is needed to compare it with the others.

    Attributes:
        number: of the row within its shard.
        clip_id: its own; None where it can't be one.
        source_sha256, frames_sha256: as bytes; None where the columns are no SHA-256.
        seconds: the length of the clip; 0 where it is not known.
        decoded: whether its video was decoded to the end.
        reasons: a line for each thing that is wrong.
    """

    number: int
    clip_id: str | None = None
    source_sha256: bytes | None = None
    frames_sha256: bytes | None = None
    seconds: float = 0.0
    decoded: bool = False
    reasons: list[str] = field(default_factory=list)


def check_group(expected: Expected, decode: bool, group: RowGroup) -> list[CheckedRow]:
    """Check the rows of a row group, one in memory at a time; a group that can't be read ends with its first bad row.

    Args:
        expected: what the manifest promises of each row.
        decode: whether videos are decoded.
        group: what to check.
    """
    rows: list[CheckedRow] = []
    reason = "missing: its row group ends before it"
    try:
        for batch in iter_batches(group.path, list(COLUMNS), batch_size=1, groups=[group.number]):
            rows.append(_check_row(batch, group.first_row + len(rows), expected, decode))
    except DamagedShardError as error:
        logger.debug("%s", group.path, exc_info=True)
        reason = f"can't be read ({error.reason})"
    number = group.first_row + len(rows)
    if number <= group.last_row:
        others = "" if number == group.last_row else f", like the rows up to {group.last_row}"
        rows.append(CheckedRow(number, reasons=[f"{reason}{others}; fetch or build the shard again"]))
    return rows


def _check_row(batch: pa.RecordBatch, number: int, expected: Expected, decode: bool) -> CheckedRow:
    row = CheckedRow(number)
    try:
        batch.validate(full=True)
        values = {name: batch.column(name)[0].as_py() for name in COLUMNS if name not in ARRAY_DIMENSIONS}
        if 0 < len(values["clip_id"] or "") <= MAX_CLIP_ID:
            row.clip_id = one_line(values["clip_id"])
        if nulls := [name for name, value in values.items() if value is None and name != "video"]:
            row.reasons.append(f"no {', '.join(nulls)}; build it again")
            return row
        row.source_sha256, row.frames_sha256 = (
            _digest(values["source_sha256"]),
            _digest(values["frames_sha256"]),
        )
        row.reasons += _check_identity(values, expected)
        if sizes := list(_check_sizes(values)):
            row.reasons += sizes
            return row
        row.seconds = values["num_frames"] / values["fps"]
        row.reasons += _check_arrays(batch, values, expected)
        video = list(_check_video(values, expected, decode))
        row.reasons += video
        row.decoded = decode and not video and values["video"] is not None
    except Exception as error:  # a stranger's row may hold anything
        logger.debug("row %d", number, exc_info=True)
        row.reasons.append(f"a damaged row ({one_line(error)}); build it again")
    return row


def _digest(text: str) -> bytes | None:
    return bytes.fromhex(text) if SHA256.fullmatch(text) else None


def _check_identity(row: dict[str, Any], expected: Expected) -> Iterator[str]:
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


def _check_sizes(row: dict[str, Any]) -> Iterator[str]:
    for name in ("num_frames", "height", "width"):
        if row[name] < 1:
            yield f"{name} is {row[name]}"
    if not (0 < row["fps"] < np.inf):
        yield f"fps is {row['fps']:g}"
    if not 0 <= row["rejected_fraction"] <= 1:
        yield f"rejected_fraction is {row['rejected_fraction']:g}, not from 0 to 1"


def _check_arrays(batch: pa.RecordBatch, row: dict[str, Any], expected: Expected) -> Iterator[str]:
    """Types and shapes of the arrays, and then their values."""
    arrays: dict[str, np.ndarray] = {}
    for name, dimensions in ARRAY_DIMENSIONS.items():
        try:
            arrays[name] = _array(batch.column(name), dimensions)
        except ValueError as error:
            yield f"{name}: {error}"
    if len(arrays) < len(ARRAY_DIMENSIONS):
        return
    xy = arrays["tracks"]
    count, num_frames = len(xy), row["num_frames"]
    frames = expected.clip_frames or (xy.shape[1] if count else num_frames)
    shapes = {"tracks": (count, frames, 2), "person": (count,), "vertex": (count,)}
    wrong = []
    for name, array in arrays.items():
        shape = shapes.get(name, (count, frames))
        # An array of no tracks does not say how many frames it would have.
        if array.shape != shape if count else len(array):
            wrong.append(f"{name} is {list(array.shape)}, not {list(shape)}")
    if wrong:
        yield "; ".join(wrong)
    elif num_frames > frames:
        yield f"num_frames is {num_frames}, clips have {frames} at most"
    elif count:
        yield from _check_labels(arrays, row, expected)


def _check_labels(arrays: dict[str, np.ndarray], row: dict[str, Any], expected: Expected) -> Iterator[str]:
    """What `Tracks` and the filter of the labels promise: see `anthrotap_hf.tracks` and docs/data-format.md."""
    xy, visible, valid = arrays["tracks"], arrays["visible"], arrays["valid"]
    finite = np.isfinite(xy).all(-1)
    confidence = arrays["confidence"]
    num_frames, min_visible = row["num_frames"], expected.min_visible or 1
    inside = ((xy >= 0) & (xy < [row["width"], row["height"]])).all(-1)
    filled = fill_invalid(xy, valid)
    counts = {
        "valid labels past num_frames": valid[:, num_frames:],
        "labels that are visible but not valid": visible & ~valid,
        "positions that are NaN or infinite": ~finite,
        "valid labels outside the frame": valid & finite & ~inside,
        "invalid labels that do not hold the nearest valid position of their track": (
            (finite & (xy != filled).any(-1)) if finite[valid].all() else np.zeros(1, bool)
        ),
        f"tracks that are visible in fewer than {min_visible} frames": (
            (visible & valid)[:, :num_frames].sum(1) < min_visible
        ),
        "tracks with a negative person or vertex": (arrays["person"] < 0) | (arrays["vertex"] < 0),
    }
    for problem, where in counts.items():
        if count := int(where.sum()):
            yield f"{problem}: {count}"
    yield from _check_confidence(confidence[:, :num_frames], valid[:, :num_frames])


def _check_confidence(percent: np.ndarray, valid: np.ndarray) -> Iterator[str]:
    unknown = percent == UNKNOWN_CONFIDENCE
    if ((percent > 100) & ~unknown).any():
        yield f"confidence is {percent[~unknown].max()}, not 0 to 100 or {UNKNOWN_CONFIDENCE} (unknown)"
    elif unknown.any() and not unknown.all():
        yield f"confidence is {UNKNOWN_CONFIDENCE} (unknown) for some labels and known for others"
    elif not unknown.any() and (count := int((percent[~valid] > 0).sum())):
        yield f"invalid labels that have a confidence: {count}"


def _array(column: pa.Array, dimensions: int) -> np.ndarray:
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
    array: np.ndarray = values.to_numpy(zero_copy_only=False)
    return array.reshape(shape)


def _check_video(row: dict[str, Any], expected: Expected, decode: bool) -> Iterator[str]:
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
        # The size is known before any frame is converted: a small file may hold huge ones.
        info = probe(data)
        if (info.height, info.width) != (height, width):
            yield f"the video is {info.width} x {info.height}, the row says {width} x {height}"
            return
        count = sum(1 for _ in islice(iter_frames(data), num_frames + 1))
    except VideoError as error:
        yield f"the video: {one_line(error.reason)}"
        return
    if count != num_frames:
        more = "more" if count > num_frames else str(count)
        yield f"the video has {more} frames, the row says {num_frames}"
