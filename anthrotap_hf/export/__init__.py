"""Export: tracks in the files that other programs read; one module for each format.

    from anthrotap_hf.export import export_clip
    export_clip(TrackedClip(tracks, "dance.mp4", fps=24), "dance.npz", "tapvid")

Every module says what becomes of visible, occluded and invalid labels, and where its coordinates are from.
"""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from anthrotap_hf.utils.registry import Registry

if TYPE_CHECKING:
    from anthrotap_hf.export.base import Format
    from anthrotap_hf.tracks import TrackedClip

FORMATS = Registry(
    "format",
    {
        "csv": "anthrotap_hf.export.points_csv:FORMAT",
        "tapvid": "anthrotap_hf.export.tapvid:FORMAT",
        "cotracker": "anthrotap_hf.export.cotracker:FORMAT",
        "colmap": "anthrotap_hf.export.colmap:FORMAT",
        "after-effects": "anthrotap_hf.export.after_effects:FORMAT",
        "after-effects-nulls": "anthrotap_hf.export.after_effects:NULLS",
        "blender": "anthrotap_hf.export.blender:FORMAT",
        "rerun": "anthrotap_hf.export.rerun:FORMAT",
    },
)


def export_clip(clip: TrackedClip, path: str | os.PathLike[str], format: str) -> None:
    """Write a clip as other programs read it; what is at `path` is replaced.

    Args:
        clip: its tracks, its frame rate and, where frames are to go with them, its video.
        path: the file; for "colmap" a folder, which must be new or empty, or hold an earlier export.
        format: a name of `FORMATS`.

    Raises:
        AnthroTapError: if there is no such format.
        ValueError: if the file has another suffix, or the clip no frame rate.
        VideoError: if the video cannot be read, or its frames are not those of the tracks.
        ImportError: if the format needs a package that is not installed.
    """
    from anthrotap_hf.export.base import frame_rate

    chosen: Format = FORMATS.load(format)
    frame_rate(clip)
    if chosen.suffix and Path(path).suffix != chosen.suffix:
        raise ValueError(f"{path}: a file of format {format} ends in {chosen.suffix}")
    chosen.write(clip if chosen.video else replace(clip, video=None), Path(path))
