"""Where tracks to export come from: the .npz of `anthrotap track`, or rows of a dataset."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from anthrotap_hf.tracks import Tracks
from anthrotap_hf.video import VideoSource

SUFFIX = ".tracks.npz"  # of `anthrotap track`


@dataclass(frozen=True)
class Clip:
    """What is exported at a time.

    Attributes:
        name: a file can be called so.
        tracks: the labels.
        fps: frames a second.
        video: its file or bytes; None where there is none.
    """

    name: str
    tracks: Tracks
    fps: float
    video: VideoSource | None


def read_tracks(path: str | Path) -> tuple[Tracks, float]:
    """Tracks and frame rate out of a .npz of `anthrotap track`: every label is valid, every track's person is 0.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is none of these.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file; name a {SUFFIX} of `anthrotap track`")
    try:
        with np.load(path, allow_pickle=False) as arrays:
            xy, visible = arrays["tracks"].astype(np.float32), arrays["visible"].astype(bool)
            height, width = arrays["size"].tolist()
            fps = float(arrays["fps"])
        nothing = np.zeros(len(visible), np.int32)
        tracks = Tracks(xy, visible, np.isfinite(xy).all(-1), height, width, person=nothing, vertex=nothing)
    except (ValueError, KeyError, TypeError, OSError, EOFError, zipfile.BadZipFile) as error:
        reason = f"no {error}" if isinstance(error, KeyError) else " ".join(str(error).split())
        raise ValueError(f"{path}: no {SUFFIX} of `anthrotap track`, or a damaged one ({reason})") from error
    return tracks, fps


def count_clips(path: str | Path) -> int:
    """How many rows a dataset has. Raises ValueError as `read_clips`."""
    from anthrotap_hf.readers.benchmarks import count_shards

    return count_shards(path)


def read_clips(path: str | Path, clip_id: str | None = None) -> Iterator[Clip | ValueError]:
    """The rows of a dataset, or the one called `clip_id`; for a row that can't be read, the error.

    Args:
        path: a folder of shards, as `anthrotap label` and `build` write it, or one shard.
        clip_id: only this row.

    Raises:
        ValueError: if there are no shards, these are not ours, or there is no such row.
    """
    from anthrotap_hf.data.streaming import DamagedShardError, ShardRows
    from anthrotap_hf.readers.benchmarks import shard_files
    from anthrotap_hf.schema import decode_tracks, video_source

    rows = ShardRows([str(file) for file in shard_files(path)])
    numbers: Sequence[int] = range(len(rows))
    if clip_id is not None:
        ids = [name for file in rows.files for name in _clip_ids(file)]
        if clip_id not in ids:
            raise ValueError(f"{path}: no clip {clip_id!r} in it; it has {', '.join(map(str, ids[:3]))} ...")
        numbers = [ids.index(clip_id)]
    for number in numbers:
        try:
            row = rows[number]
            name = str(row.get("clip_id", f"clip-{number:06d}"))
            if not re.fullmatch(r"\w[\w.-]*", name):  # shards of strangers may hold anything
                raise ValueError(f"{path}, row {number}: no file can be called {name[:80]!r}")
            video = video_source(row.get("video"))
            if isinstance(video, np.ndarray):
                video = video.item()
            yield Clip(name, decode_tracks(row), float(row["fps"]), video)
        except DamagedShardError as error:
            yield error
        except (ValueError, KeyError, TypeError) as error:
            yield ValueError(f"{path}, row {number}: {' '.join(str(error).split())}")


def _clip_ids(file: str) -> list[str | None]:
    import pyarrow.parquet as pq

    table = pq.read_table(file, columns=["clip_id"])
    return table["clip_id"].to_pylist() if table.num_columns else [None] * table.num_rows
