"""The columns of a row, and row <-> `TrackedClip`: the only module that knows them."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from anthrotap_hf.tracks import TrackedClip, Tracks, fill_invalid

if TYPE_CHECKING:
    import datasets
    import pyarrow as pa

MANIFEST = "manifest.json"
VIDEO_LIST = "videos.jsonl"
"""What came of each video of a build: a file beside the manifest."""
SHA256 = re.compile("[0-9a-f]{64}")
"""What a column or manifest entry that is a SHA-256 must match in full."""
UNKNOWN_CONFIDENCE = 255
"""In the column `confidence`, whose other values are percent: not known."""

COLUMNS = {
    "clip_id": "string",
    "source_video": "string",
    "source_sha256": "string",
    "start_frame": "int32",
    "num_frames": "int32",
    "height": "int32",
    "width": "int32",
    "fps": "float",
    "video": "struct<bytes: binary, path: string>",
    "frames_sha256": "string",
    "tracks": "list of list of list of float",
    "visible": "list of list of bool",
    "valid": "list of list of bool",
    "confidence": "list of list of uint8",
    "person": "list of int32",
    "vertex": "list of int32",
    "body_model": "string",
    "mesh_source": "string",
    "flow": "string",
    "label_version": "string",
    "rejected_fraction": "float",
}
"""Columns of a shard and their Arrow types, lists of lists for arrays. `features` gives them to `datasets`."""

LABEL_COLUMNS = ("tracks", "visible", "valid", "person", "vertex", "num_frames", "height", "width")
"""The columns that `decode_tracks` needs; `confidence` may be missing."""
INFO_COLUMNS = ("body_model", "mesh_source", "flow", "label_version", "rejected_fraction")
"""The columns that tell how labels were made, in `TrackedClip.info`; `encode_row` needs them there."""
CLIP_COLUMNS = frozenset(COLUMNS) - {*INFO_COLUMNS, "frames_sha256"}
"""The columns that `TrackedClip` has as fields of its own, or in its tracks."""


def features(clip_frames: int) -> datasets.Features:
    """The columns as `datasets` has them, for clips of at most `clip_frames` frames."""
    import datasets

    arrays = {
        "tracks": datasets.Array3D((None, clip_frames, 2), "float32"),
        "visible": datasets.Array2D((None, clip_frames), "bool"),
        "valid": datasets.Array2D((None, clip_frames), "bool"),
        "confidence": datasets.Array2D((None, clip_frames), "uint8"),
        "person": datasets.List(datasets.Value("int32")),
        "vertex": datasets.List(datasets.Value("int32")),
        # Decoding needs torchcodec, which many machines lack; a broken one even fails to write. The bytes are the
        # same: `cast_column("video", Video())` turns decoding on.
        "video": datasets.Video(decode=False),
    }
    scalars = {"float": "float32"}
    return datasets.Features(
        {
            name: arrays[name] if name in arrays else datasets.Value(scalars.get(kind, kind))
            for name, kind in COLUMNS.items()
        }
    )


def encode_row(clip: TrackedClip, clip_frames: int) -> dict[str, Any]:
    """One labeled clip as a row of `features(clip_frames)`; its frames become an H.264 mp4.

    Frames past the clip's end are invalid and hold the nearest valid position of their track. `source_video` is the
    file's name without its folder: what is published says nothing of the disk it was made on.

    Args:
        clip: with all of `INFO_COLUMNS` in its `info`.
        clip_frames: frames of the arrays, at least as many as the clip has.

    Raises:
        ValueError: if the clip is longer than `clip_frames`, its frames and tracks differ in size, or H or W is odd.
    """
    from anthrotap_hf.video import encode_video

    tracks = clip.tracks
    num_frames, height, width = clip.frames.shape[:3]
    if num_frames > clip_frames:
        raise ValueError(f"{clip.clip_id}: {num_frames} frames, the dataset's clips have {clip_frames} at most")
    if (tracks.num_frames, tracks.height, tracks.width) != (num_frames, height, width):
        raise ValueError(
            f"{clip.clip_id}: frames are {[num_frames, height, width]} (T, H, W), but the tracks' "
            f"{[tracks.num_frames, tracks.height, tracks.width]}"
        )
    after = (0, clip_frames - num_frames)
    if tracks.confidence is None:
        confidence = np.full(tracks.visible.shape, UNKNOWN_CONFIDENCE, np.uint8)
    else:
        confidence = np.round(100 * tracks.confidence).astype(np.uint8)
    valid = np.pad(tracks.valid, ((0, 0), after))
    return {
        "clip_id": clip.clip_id,
        "source_video": Path(clip.source_video).name,
        "source_sha256": clip.source_sha256,
        "start_frame": clip.start_frame,
        "num_frames": num_frames,
        "height": height,
        "width": width,
        "fps": clip.fps,
        # no path: `Video` would read a file of that name, if there is one, instead of the bytes
        "video": {"bytes": encode_video(clip.frames, clip.fps or 0), "path": None},
        "frames_sha256": hashlib.sha256(np.ascontiguousarray(clip.frames).reshape(-1).data).hexdigest(),
        "tracks": fill_invalid(np.pad(tracks.xy, ((0, 0), after, (0, 0))), valid),
        "visible": np.pad(tracks.visible, ((0, 0), after)),
        "valid": valid,
        "confidence": np.pad(confidence, ((0, 0), after)),
        "person": tracks.person,
        "vertex": tracks.vertex,
        **{name: clip.info[name] for name in INFO_COLUMNS},
    }


def encode_table(rows: list[dict[str, Any]], columns: datasets.Features) -> pa.Table:
    """Rows of `encode_row` as an Arrow table of these columns, videos inside."""
    import datasets

    encoded = [columns.encode_example(row) for row in rows]
    return datasets.Dataset.from_list(encoded, features=columns).data.table


def decode_clip(row: Mapping[str, Any]) -> TrackedClip:
    """A row of the dataset, in whatever format, as a `TrackedClip` whose frames are decoded when asked for.

    Rows come out fastest with `dataset.with_format("numpy")`; plain Python lists take twenty times as long.

    Raises:
        KeyError, TypeError, ValueError: if its columns are missing or do not fit together.
    """
    fps = float(_scalar(row.get("fps"), 0))
    return TrackedClip(
        tracks=decode_tracks(row),
        video=video_source(row.get("video")),
        fps=fps if fps > 0 else None,
        clip_id=str(_scalar(row.get("clip_id"), "")),
        source_video=str(_scalar(row.get("source_video"), "")),
        source_sha256=str(_scalar(row.get("source_sha256"), "")),
        start_frame=int(_scalar(row.get("start_frame"), 0)),
        info={name: _scalar(value) for name, value in row.items() if name not in CLIP_COLUMNS},
    )


def decode_row(row: Mapping[str, Any]) -> tuple[np.ndarray, Tracks]:
    """A row of the dataset, in whatever format, as frames [T, H, W, 3] uint8 RGB and their `Tracks`.

    T is the row's own number of frames, without the padding.

    Raises:
        VideoError: if the video can't be decoded, or its frames are not those of the tracks.
        KeyError, TypeError, ValueError: if its columns are missing or do not fit together.
    """
    clip = decode_clip(row)
    return decode_frames(clip), clip.tracks


def decode_frames(clip: TrackedClip) -> np.ndarray:
    """The frames of a clip, [T, H, W, 3] uint8 RGB, in the size of its tracks.

    Raises:
        VideoError: if the video can't be decoded, or its frames are not those of the tracks.
    """
    from anthrotap_hf.video import VideoError

    size = clip.tracks.height, clip.tracks.width
    if clip.frames.shape[1:3] != size:
        raise VideoError(
            f"{clip.clip_id}: frames are {list(clip.frames.shape[1:3])} (H, W), but the tracks' {list(size)}; "
            "build the shard again"
        )
    return clip.frames


def decode_tracks(row: Mapping[str, Any]) -> Tracks:
    """The tracks of a row, without decoding its video; see `decode_row`.

    Raises:
        ValueError: if its columns do not fit together.
    """
    num_frames, height, width = int(row["num_frames"]), int(row["height"]), int(row["width"])
    person = np.asarray(row["person"], np.int32)
    if not len(person):  # as plain lists, no tracks have no shape
        return Tracks.empty(num_frames, height, width)
    percent = row.get("confidence")  # shards of others may lack it
    if percent is not None:
        percent = np.asarray(percent, np.uint8)[:, :num_frames]
    if percent is None or (percent == UNKNOWN_CONFIDENCE).all():
        confidence = None
    else:
        confidence = percent.astype(np.float32) / 100
    return Tracks.from_labels(
        np.asarray(row["tracks"], np.float32)[:, :num_frames],
        np.asarray(row["visible"], bool)[:, :num_frames],
        np.asarray(row["valid"], bool)[:, :num_frames],
        height=height,
        width=width,
        person=person,
        vertex=np.asarray(row["vertex"], np.int32),
        confidence=confidence,
    )


def video_source(video: Any) -> Any:
    """The bytes of a video, from what the column `video` may hold; None where the row has no video.

    Rows come from anyone: a path in one is never opened, as it may name any file of this machine. A `Path` object is
    no part of a file: whoever made the row means it, and gets it back.

    Raises:
        ValueError: there is a path and no bytes.
    """
    video = getattr(video, "_hf_encoded", video)  # a torchcodec decoder, where decoding is on
    if isinstance(video, np.ndarray):  # how the format "numpy" has a row without video
        video = video.item()
    path = video
    if isinstance(video, Mapping):
        video, path = video.get("bytes"), video.get("path")
    if video is None and path is None:
        return None
    if not isinstance(video, (bytes, Path)):
        raise ValueError("its video is a path, which is never opened, and no bytes: build the shard again")
    return video


def wrong_columns(schema: pa.Schema, label_only: bool = False) -> Iterator[str]:
    """One line for each column of `COLUMNS` that is missing, doubled or of another type.

    Args:
        schema: of a Parquet file.
        label_only: whether it is a dataset without videos, whose column `video` may have no type.
    """
    counts = Counter(schema.names)
    if missing := [name for name in COLUMNS if not counts[name]]:
        yield f"no column {', '.join(missing)}"
    for name, kind in COLUMNS.items():
        if counts[name] > 1:
            yield f"column {name} appears twice"
        if counts[name] != 1:
            continue
        found = _kind(schema.field(name).type)
        if found != kind and not (name == "video" and label_only and found == "null"):
            yield f"column {name} is {' '.join(found.split())}, not {kind}"


def _scalar(value: Any, default: Any = None) -> Any:
    """A value in plain Python; `default` where the row has none, for which the format "numpy" has NaN."""
    if getattr(value, "ndim", None) == 0:  # of NumPy or torch
        value = value.item()
    return default if value is None or (isinstance(value, float) and value != value) else value


def _kind(of: pa.DataType) -> str:
    """An Arrow type in words; `datasets`' arrays are lists of lists."""
    import pyarrow as pa

    if isinstance(of, pa.BaseExtensionType):
        of = of.storage_type
    if pa.types.is_list(of) or pa.types.is_large_list(of) or pa.types.is_fixed_size_list(of):
        return f"list of {_kind(of.value_type)}"
    return str(of)
