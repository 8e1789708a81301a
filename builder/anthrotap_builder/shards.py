"""Last stage: labeled clips become Parquet shards with the videos inside, and a manifest of what went in."""

from __future__ import annotations

import importlib.metadata
import json
import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from anthrotap_builder.config import LabelingConfig
from anthrotap_hf.schema import MANIFEST, encode_row, encode_table, features
from anthrotap_hf.tracks import Tracks
from anthrotap_hf.utils.atomic_files import atomic_write, file_sha256

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


class ShardWriter:
    """Writes labeled clips into Parquet shards of a folder, all or nothing.

    Shards are written tmp_path, under hidden names, and get their own names (`train-00000-of-00003.parquet`)
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
        self._tmp_paths: list[Path] = []
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
            for path in self._tmp_paths:
                path.unlink(missing_ok=True)
            if self._made and not any(self.directory.iterdir()):
                self.directory.rmdir()

    def write(self, clip: LabeledClip) -> None:
        """Add one clip. Raises ValueError as `encode_row` does."""
        row = encode_row(clip, self.clip_frames)
        self._rows.append(row)
        self._rows_bytes += len(row["video"]["bytes"]) + row["tracks"].nbytes + 2 * row["valid"].nbytes
        if self._rows_bytes >= BATCH_BYTES or len(self._rows) >= MAX_BATCH_ROWS:
            self._flush()

    def _earlier(self) -> list[Path]:
        return sorted(self.directory.glob(f"{self.stem}-?????-of-?????.parquet"))

    def _flush(self) -> None:
        if self._rows:
            self._write_group(encode_table(self._rows, self.features))
        self._shard_bytes += self._rows_bytes
        self._rows, self._rows_bytes = [], 0
        if self._shard_bytes >= self.max_shard_bytes:
            self._close()

    def _write_group(self, table: pa.Table) -> None:
        if self._writer is None:
            path = self.directory / f".{self.stem}-{len(self._tmp_paths):05d}.{os.getpid()}.incomplete"
            self._tmp_paths.append(path)
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
        stale = set(self._earlier()) if self._tmp_paths else set()  # nothing made, nothing replaced
        for number, tmp_path in enumerate(self._tmp_paths):
            path = self.directory / f"{self.stem}-{number:05d}-of-{len(self._tmp_paths):05d}.parquet"
            os.replace(tmp_path, path)
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
    visible: int = 0
    occluded: int = 0
    invalid: int = 0
    rejected_fraction_sum: float = 0.0

    def add(self, tracks: Tracks, rejected_fraction: float) -> None:
        """Count one clip."""
        self.clips += 1
        people = len(np.unique(tracks.person))
        self.people += people
        self.clips_without_people += people == 0
        self.frames += tracks.num_frames
        self.tracks += len(tracks)
        self.visible += int(tracks.visible.sum())
        self.occluded += int(tracks.occluded.sum())
        self.invalid += int(tracks.invalid.sum())
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
    path = Path(directory) / MANIFEST
    with atomic_write(path) as tmp_path:
        text = json.dumps(
            {**manifest_of(config, tally), "files": files, **given}, indent=2, ensure_ascii=False
        )
        tmp_path.write_text(text + "\n", encoding="utf-8")
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
        "label_version": config.version(),
        "config": config.describe(),
        "counts": counts,
        "packages": {name: version for name in PACKAGES if (version := _version(name))},
    }


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None
