"""Export: tracks in the files that other programs read; one module a format, one function each.

    from anthrotap_hf.export import export_tracks
    export_tracks(tracks, "dance.npz", "tapvid", fps=24, video="dance.mp4")

Every module tells what becomes of seen, hidden and unknown labels, and where its coordinates are from.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from anthrotap_hf.tracks import Tracks
    from anthrotap_hf.video import VideoSource


@dataclass(frozen=True)
class Format:
    """A kind of file.

    Attributes:
        function: the module and the function that writes it.
        suffix: of the file; "" for a folder.
        reader: who reads it, and how.
        video: what a video is for; "" where it is of no use.
    """

    function: str
    suffix: str
    reader: str
    video: str

    def path(self, folder: Path, name: str) -> Path:
        """Where this format of a clip called `name` goes in a folder."""
        return folder / f"{name}{self.suffix}"


FORMATS = {
    "tapvid": Format("tapvid.write_tapvid", ".npz", "numpy.load, without pickle", "goes in, as frames"),
    "cotracker": Format(
        "cotracker.write_cotracker", ".pt", "torch.load(weights_only=True); CoTracker's Visualizer", ""
    ),
    "colmap": Format(
        "colmap.write_colmap",
        "",
        "colmap geometric_verifier, then colmap mapper",
        "gives images/, which COLMAP wants for colors and dense models",
    ),
    "after-effects": Format(
        "after_effects.write_after_effects",
        ".txt",
        "copied from a text editor, pasted onto the footage's layer at its first frame",
        "",
    ),
    "blender": Format(
        "blender.write_blender",
        ".py",
        "blender --python FILE, or Run Script in its text editor",
        "is opened with the tracks",
    ),
    "rerun": Format("rerun.write_rerun", ".rrd", "rerun FILE", "goes in, as frames"),
}


def export_tracks(
    tracks: Tracks,
    path: str | os.PathLike[str],
    format: str,
    *,
    fps: float,
    video: VideoSource | None = None,
) -> None:
    """Write tracks as other programs read them; what is at `path` is replaced.

    Args:
        tracks: of one clip.
        path: the file; for "colmap" a folder, which must be new or empty, or hold an earlier export.
        format: a name of `FORMATS`.
        fps: frames a second.
        video: the clip, a file or its bytes, whose frames are those of the tracks, one by one.

    Raises:
        ValueError: if there is no such format, the file has another suffix, or the rate is none.
        VideoError: if the video can't be read, or its frames are not those of the tracks.
        ImportError: if the format needs a package that is absent.
    """
    if format not in FORMATS:
        raise ValueError(f"no format {format!r}: choose from {', '.join(FORMATS)}")
    if not (fps > 0 and fps < float("inf")):
        raise ValueError(f"fps must be a positive number of frames a second, got {fps}")
    suffix = FORMATS[format].suffix
    if suffix and Path(path).suffix != suffix:
        raise ValueError(f"{path}: a file of format {format} ends in {suffix}")
    module, _, function = FORMATS[format].function.partition(".")
    write = getattr(import_module(f"{__name__}.{module}"), function)
    write(tracks, fps, Path(path), video)
