"""What `anthrotap track` and `export` write of one clip, read back; one function for each kind of file.

Each returns `tracks` [N, T, 2] float xy in raster pixels, `visible` and `valid` [N, T] bool, and those of `size`
(height, width), `fps` and `times` [T] seconds that the file holds. Files are parsed, never run. `num_frames` is the
video's number of frames, where a video is there: it counts where a file does not tell.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from anthrotap_hf.readers.base import BadClipError, load_labels
from anthrotap_hf.utils.file_limits import read_json

Arrays = Mapping[str, Any]

TRACKS_JSON = ".tracks.json"
"""The end of the names of what `anthrotap track` writes beside its overlay: no ground truth."""
AFTER_EFFECTS_HEAD = "Adobe After Effects 8.0 Keyframe Data"
# Files of tracks that hold too little to be read back, by what tells them, and why.
NOT_READ_BACK = {
    "database.db": "COLMAP's database has visible points alone: which labels are occluded or invalid is lost",
    ".rrd": "a Rerun recording is for viewing",
    ".jsx": "a script of nulls is for After Effects: its keyframe data (.txt) is read back",
}


def read_npz(path: Path, num_frames: int | None) -> Arrays:
    """Read the `.tracks.npz` of `anthrotap track`. Finite labels are valid, unless it says which are."""
    found = load_labels(path, ("tracks", "visible", "size", "fps"), ("times", "valid"))
    return {"valid": np.isfinite(found["tracks"]).all(-1), **found}


def read_tracks_json(path: Path, num_frames: int | None) -> Arrays:
    """Read the `.tracks.json` of `anthrotap track`, which has the same as the `.npz`."""
    content = read_json(path, limit=None)
    names = ("tracks", "visible", "size", "fps", "times", "valid")
    arrays = {name: np.array(content[name]) for name in names if name in content}
    return {"valid": np.isfinite(arrays["tracks"]).all(-1), **arrays}


def read_cotracker(path: Path, num_frames: int | None) -> Arrays:
    """Read a `.pt` of CoTracker's tensors. Its first pixel's center is (0, 0): half a pixel is added.

    The size of the frames is not in it. Without `valid`, as other programs write it, all labels are valid.
    """
    from anthrotap_hf.utils.checkpoints import load_torch

    content = load_torch(path)
    xy, visible = (content[name][0].numpy().swapaxes(0, 1) for name in ("pred_tracks", "pred_visibility"))
    valid = content["valid"][0].numpy().swapaxes(0, 1) if "valid" in content else np.ones_like(visible)
    fps = {"fps": float(content["fps"])} if "fps" in content else {}
    return {"tracks": xy + 0.5, "visible": visible & valid, "valid": valid, **fps}


def read_after_effects(path: Path, num_frames: int | None) -> Arrays:
    """Read After Effects's keyframe data: a keyframe of Feature Center where valid, Confidence of 100 where visible."""
    lines = path.read_text("ascii").splitlines()
    if not lines or lines[0] != AFTER_EFFECTS_HEAD or lines[-1] != "End of Keyframe Data":
        raise ValueError(f"it does not begin with {AFTER_EFFECTS_HEAD!r}, or is not whole")
    facts: dict[str, float] = {}
    blocks: dict[tuple[int, str], list[list[str]]] = {}
    rows: list[list[str]] | None = None
    for line in lines[1:]:
        cells = line.split("\t")
        if cells[0] == "Motion Trackers":
            # "Track Point #3", "Confidence"
            rows = blocks[int(cells[2].rpartition("#")[2]) - 1, cells[3]] = []
        elif rows is None and len(cells) == 3:
            facts[cells[1]] = float(cells[2])
        elif rows is not None and len(cells) > 1 and cells[1].isdecimal():
            rows.append(cells[1:])
    points = 1 + max((n for n, _ in blocks), default=-1)
    frames = 1 + max((int(row[0]) for rows in blocks.values() for row in rows), default=-1)
    arrays = _empty(points, frames)
    for (n, name), rows in blocks.items():
        for t, *values in rows:
            if name == "Feature Center":
                arrays["tracks"][n, int(t)] = float(values[0]), float(values[1])
                arrays["valid"][n, int(t)] = True
            elif name == "Confidence":
                arrays["visible"][n, int(t)] = float(values[0]) == 100
    arrays["visible"] &= arrays["valid"]
    size = np.array([facts["Source Height"], facts["Source Width"]], int)
    return {**arrays, "size": size, "fps": facts["Units Per Second"]}


def read_blender(path: Path, num_frames: int | None) -> Arrays:
    """Read the script for Blender: a list for each track of its markers, [frame from 1, x / W, 1 - y / H, state].

    Tracks without a valid label are not in it, nor is the frame rate; the number of frames is that of the last marker
    unless the video tells.
    """
    text = path.read_text("utf-8")
    size = re.search(r"^SIZE = \((\d+), (\d+)\)$", text, re.MULTILINE)
    if size is None or "\nadd_tracks(open_clip())\n" not in text:
        raise ValueError("it is no script of `anthrotap export --format blender`, or not whole")
    width, height = map(int, size.groups())
    lines = text.partition("\nTRACKS = [\n")[2].partition("\n]\n")[0].splitlines()
    all_markers = [json.loads(line.strip().removesuffix(","))[2] for line in lines if line.strip()]
    last = max((int(marker[0]) for markers in all_markers for marker in markers), default=0)
    arrays = _empty(len(all_markers), max(last, num_frames or 0))
    for n, markers in enumerate(all_markers):
        for frame, x, y, state in markers:
            # State 2 ends a run of markers where the label is invalid.
            if state in (0, 1):
                label = n, int(frame) - 1
                arrays["tracks"][label] = x * width, (1 - y) * height
                arrays["valid"][label], arrays["visible"][label] = True, state == 0
    return {**arrays, "size": np.array([height, width])}


def _empty(points: int, frames: int) -> dict[str, np.ndarray]:
    flags = {name: np.zeros((points, frames), bool) for name in ("visible", "valid")}
    return {"tracks": np.full((points, frames, 2), np.nan), **flags}


KINDS: dict[str, Callable[[Path, int | None], Arrays]] = {
    ".tracks.npz": read_npz,
    TRACKS_JSON: read_tracks_json,
    ".pt": read_cotracker,
    ".txt": read_after_effects,
    ".py": read_blender,
}
"""What reads a file, by the end of its name."""


def suffix_of(path: Path) -> str | None:
    """Return the end of a file's name that is one of `KINDS`; None for other files. Any `.npz` is taken for ours."""
    found = next((suffix for suffix in KINDS if path.name.endswith(suffix)), None)
    return ".tracks.npz" if found is None and path.suffix == ".npz" else found


def read_file(path: Path, num_frames: int | None) -> Arrays:
    """Read a file of tracks.

    Raises:
        BadClipError: if it is of no kind that is read back, or not as it was written.
    """
    suffix = suffix_of(path)
    if suffix is None:
        raise BadClipError(f"no file of tracks that is read back: {', '.join(KINDS)}", path=path)
    try:
        return KINDS[suffix](path, num_frames)
    except BadClipError:
        raise
    except (ValueError, KeyError, TypeError, IndexError, AttributeError, RecursionError, OverflowError) as error:
        reason = f"it lacks {error}" if isinstance(error, KeyError) else error
        raise BadClipError(f"not as it was written ({reason})", path=path) from error
