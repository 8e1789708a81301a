"""Last stage: labeled clips become Parquet shards with the videos inside, and a manifest of what went in."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from anthrotap_builder.config import LabelingConfig
from anthrotap_hf.data.loading import UNKNOWN_CONFIDENCE
from anthrotap_hf.tracks import Tracks
from anthrotap_hf.utils.atomic_files import file_sha256, written_whole
from anthrotap_hf.video import encode_video

if TYPE_CHECKING:
    from anthrotap_builder.pipeline import LabeledClip

BATCH_BYTES = 32 << 20  # rows are written out, as one row group, when they reach this size
MAX_BATCH_ROWS = 4
PACKAGES = (
    "anthrotap",
    "ai-edge-litert",
    "anny",
    "av",
    "datasets",
    "edgefirst-tracker",
    "numpy",
    "opencv-python-headless",
    "torch",
    "torchvision",
    "transformers",
)


def features(clip_frames: int) -> datasets.Features:
    """The columns of the dataset, for clips of at most `clip_frames` frames."""
    value = datasets.Value
    return datasets.Features(
        {
            "clip_id": value("string"),
            "source_video": value("string"),
            "source_sha256": value("string"),  # of the file's bytes
            "start_frame": value("int32"),
            "num_frames": value("int32"),
            "height": value("int32"),
            "width": value("int32"),
            "fps": value("float32"),
            # Decoding needs torchcodec, which many machines lack; a broken one even fails to write. The bytes
            # are the same: `cast_column("video", Video())` turns decoding on.
            "video": datasets.Video(decode=False),
            "frames_sha256": value("string"),  # of the frames before they were encoded, RGB
            "tracks": datasets.Array3D((None, clip_frames, 2), "float32"),
            "visible": datasets.Array2D((None, clip_frames), "bool"),
            "valid": datasets.Array2D((None, clip_frames), "bool"),
            "confidence": datasets.Array2D((None, clip_frames), "uint8"),  # percent; 255: unknown
            "person": datasets.List(value("int32")),
            "vertex": datasets.List(value("int32")),
            "body_model": value("string"),
            "mesh_source": value("string"),
            "flow": value("string"),
            "label_version": value("string"),
            "rejected_fraction": value("float32"),
        }
    )


def to_row(clip: LabeledClip, clip_frames: int) -> dict[str, Any]:
    """One labeled clip as a row of `features(clip_frames)`; the frames become an H.264 mp4.

    Frames past the clip's end are NaN and not valid. `source_video` is the file's name without its folder:
    what is published says nothing of the disk it was made on.

    Raises:
        ValueError: if the clip is longer than `clip_frames`, its frames and tracks differ in size, or H or
            W is odd.
    """
    tracks = clip.tracks
    num_frames, height, width = clip.frames.shape[:3]
    if num_frames > clip_frames:
        raise ValueError(
            f"{clip.clip_id}: {num_frames} frames, the dataset's clips have {clip_frames} at most"
        )
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
        "video": {"bytes": encode_video(clip.frames, clip.fps), "path": None},
        "frames_sha256": hashlib.sha256(np.ascontiguousarray(clip.frames).reshape(-1).data).hexdigest(),
        "tracks": np.pad(tracks.xy, ((0, 0), after, (0, 0)), constant_values=np.nan),
        "visible": np.pad(tracks.visible, ((0, 0), after)),
        "valid": np.pad(tracks.valid, ((0, 0), after)),
        "confidence": np.pad(confidence, ((0, 0), after)),
        "person": tracks.person,
        "vertex": tracks.vertex,
        "body_model": clip.body_model,
        "mesh_source": clip.mesh_source,
        "flow": clip.flow,
        "label_version": clip.label_version,
        "rejected_fraction": clip.rejected_fraction,
    }


def to_table(rows: list[dict[str, Any]], columns: datasets.Features) -> pa.Table:
    """Rows of `to_row` as an Arrow table of these columns, videos inside."""
    encoded = [columns.encode_example(row) for row in rows]
    return datasets.Dataset.from_list(encoded, features=columns).data.table


class ShardWriter:
    """Writes labeled clips into Parquet shards of a folder, all or nothing.

    Shards are written aside, under hidden names, and get their own names (`train-00000-of-00003.parquet`)
    when the block ends well; an exception in it removes them. `datasets.load_dataset(folder)` reads the
    result. Several writers may fill one folder if each has its own `stem`. Without a clip there is no shard:
    `datasets` fails on an empty one.

        with ShardWriter("out", clip_frames=48) as writer:
            writer.write(clip)

    Args:
        directory: the folder, made if absent.
        clip_frames: longest clip, frames.
        stem: how the names begin; the part up to the first "-" names the split.
        max_shard_bytes: a shard is ended when its videos and tracks reach this size.
        replace: whether shards of the same stem from an earlier run may be replaced.

    Raises:
        FileExistsError: on entering, if there are shards of this stem and `replace` is false.
    """

    def __init__(
        self,
        directory: str | os.PathLike[str],
        clip_frames: int,
        stem: str = "train",
        max_shard_bytes: int = 500 << 20,
        replace: bool = False,
    ) -> None:
        self.directory = Path(directory)
        self.clip_frames = clip_frames
        self.features = features(clip_frames)
        self.stem = stem
        self.max_shard_bytes = max_shard_bytes
        self.replace = replace
        self.paths: list[Path] = []  # the finished shards, once the block has ended
        self._aside: list[Path] = []
        self._made = False
        self._writer: pq.ParquetWriter | None = None
        self._rows: list[dict[str, Any]] = []
        self._rows_bytes = 0
        self._shard_bytes = 0

    def __enter__(self) -> Self:
        self._made = not self.directory.exists()
        self.directory.mkdir(parents=True, exist_ok=True)
        if not self.replace and (earlier := self._earlier()):
            raise FileExistsError(
                f"{self.directory}: already holds {earlier[0].name}; take another folder or delete its shards"
            )
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            if kind is None:
                self._finish()
        finally:
            self._close()
            for path in self._aside:
                path.unlink(missing_ok=True)
            if self._made and not any(self.directory.iterdir()):
                self.directory.rmdir()

    def write(self, clip: LabeledClip) -> None:
        """Add one clip. Raises ValueError as `to_row` does."""
        row = to_row(clip, self.clip_frames)
        self._rows.append(row)
        self._rows_bytes += len(row["video"]["bytes"]) + row["tracks"].nbytes + 2 * row["valid"].nbytes
        if self._rows_bytes >= BATCH_BYTES or len(self._rows) >= MAX_BATCH_ROWS:
            self._flush()

    def _earlier(self) -> list[Path]:
        return sorted(self.directory.glob(f"{self.stem}-?????-of-?????.parquet"))

    def _flush(self) -> None:
        if self._rows:
            self._write_group(to_table(self._rows, self.features))
        self._shard_bytes += self._rows_bytes
        self._rows, self._rows_bytes = [], 0
        if self._shard_bytes >= self.max_shard_bytes:
            self._close()

    def _write_group(self, table: pa.Table) -> None:
        if self._writer is None:
            path = self.directory / f".{self.stem}-{len(self._aside):05d}.{os.getpid()}.incomplete"
            self._aside.append(path)
            # the schema's metadata brings Video and Array3D back in `load_dataset`
            self._writer = pq.ParquetWriter(path, self.features.arrow_schema)
        self._writer.write_table(table)

    def _close(self) -> None:
        if self._writer is not None:
            self._writer.close()
        self._writer, self._shard_bytes = None, 0

    def _finish(self) -> None:
        self._flush()
        self._close()
        stale = set(self._earlier()) if self._aside else set()  # nothing made, nothing replaced
        for number, aside in enumerate(self._aside):
            path = self.directory / f"{self.stem}-{number:05d}-of-{len(self._aside):05d}.parquet"
            os.replace(aside, path)
            self.paths.append(path)
        for path in stale - set(self.paths):
            path.unlink()


@dataclass
class Tally:
    """What a run did, for its manifest; the tallies of several workers add up with `merge`.

    Attributes:
        inputs: `file` and `sha256` of each video that went in.
        failed: `file` and `reason` of each that could not be read, or not to its end.
        left_out: a line for each piece of a video that became no clip.
        clips, clips_without_people, people, frames, tracks: counts.
        seen, hidden, unknown: counts of (track, frame) labels.
        rejected_fraction_sum: the clips' `rejected_fraction`, added up.
    """

    inputs: list[dict[str, str]] = field(default_factory=list)
    failed: list[dict[str, str]] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)
    clips: int = 0
    clips_without_people: int = 0
    people: int = 0
    frames: int = 0
    tracks: int = 0
    seen: int = 0
    hidden: int = 0
    unknown: int = 0
    rejected_fraction_sum: float = 0.0

    def add(self, tracks: Tracks, rejected_fraction: float) -> None:
        """Count one clip."""
        self.clips += 1
        people = len(np.unique(tracks.person))
        self.people += people
        self.clips_without_people += people == 0
        self.frames += tracks.num_frames
        self.tracks += len(tracks)
        self.seen += int(tracks.seen.sum())
        self.hidden += int(tracks.hidden.sum())
        self.unknown += int(tracks.unknown.sum())
        self.rejected_fraction_sum += float(rejected_fraction)

    @classmethod
    def merge(cls, tallies: Iterable[Tally]) -> Tally:
        """The sum of several tallies."""
        total = cls()
        for tally in tallies:
            total.inputs += tally.inputs
            total.failed += tally.failed
            total.left_out += tally.left_out
            for name, value in asdict(tally).items():
                if isinstance(value, int | float):
                    setattr(total, name, getattr(total, name) + value)
        return total


def write_manifest(directory: str | os.PathLike[str], config: LabelingConfig, tally: Tally) -> Path:
    """Write `manifest.json`: what is in the shards of `directory`/data, and how it came to be.

    Configuration, inputs, counts, rejections, failures, package versions, and rows and SHA-256 of each file.
    """
    files = [
        {
            "name": file.relative_to(directory).as_posix(),
            "rows": pq.read_metadata(file).num_rows,
            "sha256": file_sha256(file),
        }
        for file in sorted(Path(directory).glob("data/*.parquet"))
    ]
    given = {"inputs": tally.inputs, "failed": tally.failed, "left_out": tally.left_out}
    path = Path(directory) / "manifest.json"
    with written_whole(path) as aside:
        text = json.dumps(
            {**manifest_of(config, tally), "files": files, **given}, indent=2, ensure_ascii=False
        )
        aside.write_text(text + "\n", encoding="utf-8")
    return path


def manifest_of(config: LabelingConfig, tally: Tally) -> dict[str, Any]:
    """The part of a manifest that tells how labels were made, and how many there are."""
    counts = asdict(tally)
    for name in ("inputs", "failed", "left_out"):
        del counts[name]
    rejected = counts.pop("rejected_fraction_sum")
    with_people = tally.clips - tally.clips_without_people
    counts["mean_rejected_fraction"] = rejected / with_people if with_people else None
    return {
        "label_version": config.version,
        "config": config.described(),
        "counts": counts,
        "packages": {name: version for name in PACKAGES if (version := _version(name))},
    }


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None
