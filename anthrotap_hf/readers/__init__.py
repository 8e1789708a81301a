"""Readers of datasets: one file for each layout, all of which give `TrackedClip`s.

    from anthrotap_hf.readers import open_reader
    for clip in open_reader("tapvid", "tapvid_davis.pkl"):
        print(clip.clip_id, clip.tracks.visible.mean(), clip.frames.shape)

A new layout is a class that subclasses `anthrotap_hf.readers.base.Reader`, and one entry of `READERS`: then
`anthrotap stats` and `evaluate` read it, and training does with a source in `anthrotap_hf.training.config`.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from anthrotap_hf.utils.errors import AnthroTapError
from anthrotap_hf.utils.registry import Registry

if TYPE_CHECKING:
    from anthrotap_hf.readers.base import Reader

READERS = Registry(
    "layout",
    {
        "shards": "anthrotap_hf.readers.shards:ShardClips",
        "letsdance": "anthrotap_hf.readers.lets_dance:LetsDanceClips",
        "kubric": "anthrotap_hf.readers.kubric:KubricClips",
        "panning-movi-e": "anthrotap_hf.readers.panning_movi:PanningMoviClips",
        "point-odyssey": "anthrotap_hf.readers.point_odyssey:PointOdysseyClips",
        "egopoints": "anthrotap_hf.readers.egopoints:EgoPointsClips",
        "dynamic-replica": "anthrotap_hf.readers.dynamic_replica:DynamicReplicaClips",
        "drivetrack": "anthrotap_hf.readers.drivetrack:DriveTrackClips",
        "prepared": "anthrotap_hf.readers.prepared:PreparedClips",
        "procedural": "anthrotap_hf.readers.procedural:ProceduralClips",
        "tapvid": "anthrotap_hf.readers.tapvid:TapVidClips",
        "points": "anthrotap_hf.readers.points:PointClips",
        "tracks": "anthrotap_hf.readers.tracks_file:TrackFileClips",
    },
)


def open_reader(
    layout: str, data: str | os.PathLike[str], labels_only: bool = False, split: str | None = None
) -> Reader:
    """Open a dataset of a layout.

    Args:
        layout: a name of `READERS`.
        data: where its files are; for "procedural" the number of clips.
        labels_only: leave out videos where that saves reading them.
        split: of shards, the split to read; None: all.

    Raises:
        AnthroTapError: if there is no such layout, or no dataset of it at the path; or for a split of another layout.
    """
    if split is not None:
        if layout != "shards":
            raise AnthroTapError(f"only shards have splits, and this is {layout}", argument="split")
        from anthrotap_hf.readers.shards import ShardClips

        return ShardClips.open(data, labels_only, split)
    reader: Reader = READERS.load(layout).open(data, labels_only)
    return reader
