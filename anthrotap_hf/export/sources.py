"""Where tracks to export come from: the .npz of `anthrotap track`, or rows of a dataset."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np

from anthrotap_hf.data.shard_reader import DamagedShardError, ShardError, ShardReader
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
    """How many rows a dataset has. Raises ShardError as `read_clips`."""
    return len(ShardReader.from_path(path))


def read_clips(path: str | Path, clip_id: str | None = None) -> Iterator[Clip | ValueError]:
    """The rows of a dataset, or the one called `clip_id`; for a row that can't be read, the error.

    Args:
        path: a folder of shards, as `anthrotap label` and `build` write it, or one shard.
        clip_id: only this row.

    Raises:
        ShardError: if there are no shards, these are not of this project, or there is no such row.
    """
    reader = ShardReader.from_path(path)
    numbers: Sequence[int] = range(len(reader))
    if clip_id is not None:
        ids = [name for (name,) in reader.columns(["clip_id"])]
        if clip_id not in ids:
            reason = f"no clip {clip_id!r} in it; it has {', '.join(map(str, ids[:3]))} ..."
            raise ShardError(reason, path=path)
        numbers = [ids.index(clip_id)]
    for number in numbers:
        try:
            clip = reader.clip(number)
            name = clip.clip_id or f"clip-{number:06d}"
            if not re.fullmatch(r"\w[\w.-]*", name):  # shards of strangers may hold anything
                raise reader.error(number, ValueError(f"no file can be called {name[:80]!r}"))
            if clip.fps is None:
                raise reader.error(number, ValueError("no frame rate"))
            yield Clip(name, clip.tracks, clip.fps, cast("VideoSource | None", clip.video))
        except DamagedShardError as error:
            yield error
