"""The last stage: labeled clips become Parquet shards with the videos inside, and a manifest of what went in."""

from __future__ import annotations

import importlib.metadata
import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from anthrotap_builder.config import LabelingConfig
from anthrotap_hf.data.shard_reader import find_shards, read_footer
from anthrotap_hf.schema import LABEL_COLUMNS, MANIFEST, decode_tracks, encode_row, encode_table, features
from anthrotap_hf.tracks import TrackedClip, Tracks
from anthrotap_hf.utils.atomic_files import atomic_write, beside, file_sha256

# A row group is ended by whichever is reached first.
GROUP_BYTES = 32 << 20
MAX_GROUP_ROWS = 4
# Packages whose versions are in the manifest.
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


class ShardFile:
    """Writes one Parquet shard, a few rows in each row group; every shard of this project is written by it.

    Args:
        path: the file.
        schema: of the rows; that of the first table if None. The metadata of `features(...).arrow_schema` brings
            Video and Array3D back in `load_dataset`.
        group_rows: rows of a row group, at most.
    """

    def __init__(self, path: Path, schema: pa.Schema | None = None, group_rows: int = MAX_GROUP_ROWS) -> None:
        self.path = path
        self.schema = schema
        self.group_rows = group_rows
        self.num_rows = 0
        self.num_bytes = 0
        self._writer: pq.ParquetWriter | None = None
        self._rows: list[pa.Table] = []
        self._group_bytes = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self.close(kind is None)

    def write(self, table: pa.Table) -> None:
        """Add rows."""
        self.schema = self.schema or table.schema
        for number in range(table.num_rows):
            row = table.slice(number, 1)
            self._rows.append(row.cast(self.schema))
            self.num_rows += 1
            self.num_bytes += row.nbytes
            self._group_bytes += row.nbytes
            if len(self._rows) >= self.group_rows or self._group_bytes >= GROUP_BYTES:
                self._flush()

    @property
    def is_group_complete(self) -> bool:
        """Whether no row waits for others of its row group."""
        return not self._rows

    def close(self, complete: bool = True) -> None:
        """End the file; with `complete` false, rows that wait for their group are dropped."""
        if complete:
            self._flush()
        if self._writer is not None:
            self._writer.close()

    def _flush(self) -> None:
        if self._rows:
            self._writer = self._writer or pq.ParquetWriter(self.path, self.schema)
            self._writer.write_table(pa.concat_tables(self._rows))
        self._rows, self._group_bytes = [], 0


class ShardWriter:
    """Writes labeled clips into Parquet shards of a folder, all or nothing.

    Shards are written under hidden names and get their own (`train-00000-of-00003.parquet`) when the block ends
    without an error; an exception removes them. `datasets.load_dataset(folder)` reads the result. Several writers may
    fill one folder if each has its own `stem`. Without a clip there is no shard: `datasets` fails on an empty one.

        with ShardWriter("out", clip_frames=48) as writer:
            writer.write(clip)

    Args:
        directory: the folder, made if absent.
        clip_frames: longest clip, frames.
        stem: how the names begin; the part up to the first "-" names the split.
        max_shard_bytes: a shard is ended after the row group with which its rows reach this size.
        overwrite: whether shards of the same stem from an earlier run may be replaced.
        group_rows: rows of a row group, at most.

    Raises:
        FileExistsError: on entering, if there are shards of this stem and `overwrite` is false.
    """

    def __init__(
        self,
        directory: str | os.PathLike[str],
        clip_frames: int,
        stem: str = "train",
        max_shard_bytes: int = 500 << 20,
        overwrite: bool = False,
        group_rows: int = MAX_GROUP_ROWS,
    ) -> None:
        self.directory = Path(directory)
        self.clip_frames = clip_frames
        self.features = features(clip_frames)
        self.stem = stem
        self.max_shard_bytes = max_shard_bytes
        self.overwrite = overwrite
        self.group_rows = group_rows
        # The finished shards, once the block has ended.
        self.paths: list[Path] = []
        self._shards: list[ShardFile] = []
        self._made_directory = False

    def __enter__(self) -> Self:
        self._made_directory = not self.directory.exists()
        self.directory.mkdir(parents=True, exist_ok=True)
        if not self.overwrite:
            check_no_shards(self.directory, self.stem)
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if self._shards:
                self._shards[-1].close(kind is None)
            if kind is None:
                self._finish()
        finally:
            for shard in self._shards:
                shard.path.unlink(missing_ok=True)
            if self._made_directory and not any(self.directory.iterdir()):
                self.directory.rmdir()

    def write(self, clip: TrackedClip) -> None:
        """Add one clip. Raises ValueError as `encode_row` does."""
        self.write_row(encode_table([encode_row(clip, self.clip_frames)], self.features))

    def write_row(self, row: pa.Table) -> None:
        """Add a table of one row with the columns of `schema.features`."""
        last = self._shards[-1] if self._shards else None
        if last is None or (last.num_bytes >= self.max_shard_bytes and last.is_group_complete):
            if last:
                last.close()
            path = beside(self.directory / f"{self.stem}-{len(self._shards):05d}.parquet", "incomplete")
            self._shards.append(ShardFile(path, self.features.arrow_schema, self.group_rows))
        self._shards[-1].write(row)

    def _finish(self) -> None:
        # Another program may have written some meanwhile.
        if not self.overwrite:
            check_no_shards(self.directory, self.stem)
        # A run that made nothing replaces nothing.
        stale = set(_shards_of(self.directory, self.stem)) if self._shards else set()
        for number, shard in enumerate(self._shards):
            path = self.directory / shard_name(self.stem, number, len(self._shards))
            os.replace(shard.path, path)
            self.paths.append(path)
        for path in stale - set(self.paths):
            path.unlink()


def check_no_shards(directory: Path, stem: str = "train") -> None:
    """Raise FileExistsError if a folder holds shards of this stem."""
    if earlier := _shards_of(directory, stem):
        raise FileExistsError(f"{directory}: already holds {earlier[0].name}; take another folder or delete its shards")


def _shards_of(directory: Path, stem: str) -> list[Path]:
    return sorted(directory.glob(f"{stem}-?????-of-?????.parquet"))


def shard_name(stem: str, number: int, count: int) -> str:
    """The name of one of `count` shards: "train-00000-of-00003.parquet"."""
    return f"{stem}-{number:05d}-of-{count:05d}.parquet"


def describe_file(path: Path, folder: Path) -> dict[str, Any]:
    """A shard's entry in the manifest: its name within the dataset's folder, its number of rows, its SHA-256."""
    return {
        "name": path.relative_to(folder).as_posix(),
        "rows": read_footer(path).num_rows,
        "sha256": file_sha256(path),
    }


@dataclass
class Tally:
    """Counts of a dataset's labels, for its manifest; the tallies of several parts add up with `merge`.

    Attributes:
        clips, clips_without_people, people, frames, tracks: counts.
        visible, occluded, invalid: counts of (track, frame) labels.
        rejected_fraction_sum: the clips' `rejected_fraction`, added up.
    """

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

    def add_row(self, row: pa.Table) -> None:
        """Count one row of a shard."""
        import datasets

        values = datasets.Dataset(row.select([*LABEL_COLUMNS, "rejected_fraction"])).with_format("numpy")[0]
        self.add(decode_tracks(values), float(values["rejected_fraction"]))

    @classmethod
    def merge(cls, tallies: Iterable[Tally]) -> Tally:
        """The sum of several tallies."""
        total = cls()
        for tally in tallies:
            for name, value in asdict(tally).items():
                setattr(total, name, getattr(total, name) + value)
        return total


def write_manifest(
    directory: str | os.PathLike[str],
    config: LabelingConfig,
    tally: Tally,
    videos: Mapping[str, Any] | None = None,
) -> Path:
    """Write `manifest.json`: what is in the shards of `directory`/data, and how it came to be.

    Args:
        directory: the dataset's folder.
        config: how the labels were made.
        tally: how many there are.
        videos: further entries, such as `inputs`, `failed` and `skipped` of `anthrotap label`.
    """
    directory = Path(directory)
    files = [describe_file(path, directory) for path in find_shards(directory / "data")]
    return save_manifest(directory, {**describe_labels(config, tally), "files": files, **(videos or {})})


def save_manifest(directory: Path, manifest: Mapping[str, Any]) -> Path:
    """Write a manifest into the folder of its dataset."""
    path = directory / MANIFEST
    with atomic_write(path) as tmp_path:
        tmp_path.write_text(json.dumps(manifest, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    return path


def describe_labels(config: LabelingConfig, tally: Tally) -> dict[str, Any]:
    """The entries of a manifest that say how labels were made, and how many there are."""
    counts = asdict(tally)
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
