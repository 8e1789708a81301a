"""Our own labels: Parquet shards as `anthrotap label` and `build` write them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any, Self

from anthrotap_hf.data.shard_reader import DamagedShardError, ShardReader, check_columns
from anthrotap_hf.readers.base import BadClipError, DatasetError, FilePath, Reader
from anthrotap_hf.schema import decode_clip
from anthrotap_hf.tracks import TrackedClip
from anthrotap_hf.utils.errors import one_line
from anthrotap_hf.video import select_frames


class ShardClips(Reader):
    """Clips of our own dataset: tracks on people, with occluded and invalid labels distinguished.

    Args:
        rows: our rows by number: `ShardReader`, or a `datasets.Dataset`, such as
            `anthrotap_hf.load_dataset(split="train")`. `ShardClips.open` takes a folder or a shard.
        name: what messages call the dataset.
        short_side: scale decoded frames down to at most this, pixels; None for their own size.
        window: see `Reader`: of remote or large shards, only row groups near the one that was read last are cheap.

    Raises:
        DatasetError: if there are no rows.
        ShardError: if they lack our columns.
    """

    human = True
    knows_person = True

    def __init__(
        self, rows: Any, name: str = "shards", *, short_side: int | None = None, window: int | None = None
    ) -> None:
        if not len(rows):
            raise DatasetError("the dataset has no rows", path=name)
        if window is not None and window < 1:
            raise ValueError(f"window must be at least 1, got {window}")
        self.name = name
        self.short_side = short_side
        self.window = window
        self._rows = rows if isinstance(rows, ShardReader) else _undecoded(rows, name)

    @classmethod
    def open(cls, data: FilePath, labels_only: bool = False, split: str | None = None) -> Self:
        return cls(ShardReader.from_path(data, split, video=not labels_only), str(data))

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int) -> TrackedClip:
        if not 0 <= index < len(self):
            raise IndexError(f"{self.name}: row {index} of {len(self)}")
        try:
            row = self._rows[index]
        except DamagedShardError as error:
            raise BadClipError(error.reason, path=error.path) from error
        return clip_of_row(row, self.short_side)

    def longest(self) -> int | None:
        return max((number for number in self._column("num_frames") if number is not None), default=None)

    def find(self, clip_id: str) -> int:
        """Return the number of the first clip with this id; raise DatasetError if there is none."""
        ids = self._column("clip_id")
        if clip_id not in ids:
            known = ", ".join(map(str, ids[:3]))
            raise DatasetError(f"no clip {clip_id!r} in it; it has {known} ...", path=self.name)
        return ids.index(clip_id)

    def _column(self, name: str) -> list[Any]:
        if isinstance(self._rows, ShardReader):
            return [value for (value,) in self._rows.columns([name])]
        return list(self._rows.with_format(None)[name])


def clip_of_row(row: Mapping[str, Any], short_side: int | None = None) -> TrackedClip:
    """Return a row of our dataset as a clip whose frames are scaled down to `short_side`; nothing is decoded yet.

    Raises:
        BadClipError: if the row is damaged.
    """
    name = str(row.get("clip_id", "a row"))
    try:
        clip = decode_clip(row)
        if min(clip.tracks.height, clip.tracks.width) < 1:
            raise ValueError(f"its frames are {clip.tracks.width}x{clip.tracks.height} pixels")
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise BadClipError(f"a damaged row ({one_line(error)})", path=name) from error
    video: Any = clip.video
    if video is not None and short_side is not None:
        video = partial(select_frames, video, short_side=short_side)
    return replace(clip, video=video)


def _undecoded(dataset: Any, name: str) -> Any:
    """Return a `datasets.Dataset` whose rows are numpy arrays with undecoded videos."""
    from datasets import Video

    check_columns(dataset.column_names or [], name)
    if "video" in dataset.column_names:
        dataset = dataset.cast_column("video", Video(decode=False))
    return dataset.with_format("numpy")
