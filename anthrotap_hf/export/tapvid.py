"""TAP-Vid's layout of a video, in a .npz without pickle: `video`, `points`, `occluded`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from anthrotap_hf.export.base import Format, exported_frames, frame_rate
from anthrotap_hf.tracks import TrackedClip
from anthrotap_hf.utils.atomic_files import atomic_write


def write_tapvid(clip: TrackedClip, path: Path) -> None:
    """Write the arrays that TAP-Vid's pickles (DAVIS, RoboTAP, Kinetics) hold of each video, by the same names.

    - `points`: [N, T, 2] float32, x and y as fractions of width and height: x / W, y / H. TAP-Vid's reader multiplies
      them by the size of the (resized) frames and calls the product raster coordinates, in which the frame spans (0, 0)
      to (W, H), as here: https://github.com/google-deepmind/tapnet, tapnet/tapvid/evaluation_datasets.py and README.md.
      0 where invalid.
    - `occluded`: [N, T] bool, true where occluded or invalid: TAP-Vid has no third state.
    - `valid`: [N, T] bool, our addition, which its readers ignore.
    - `fps`: float32, our addition.
    - `video`: [T, H, W, 3] uint8 RGB, if there is a video.

    A reader that knows TAP-Vid only takes invalid labels for occluded ones and scores them: give it the tracks that are
    valid in every frame, or mask by `valid`.

    Raises:
        VideoError: as `exported_frames`.
    """
    tracks = clip.tracks
    fractions = tracks.xy / np.array([tracks.width, tracks.height], np.float32)
    arrays: dict[str, Any] = {
        "points": np.where(tracks.valid[..., None], fractions, 0).astype(np.float32),
        "occluded": ~tracks.visible,
        "valid": tracks.valid,
        "fps": np.float32(frame_rate(clip)),
    }
    if clip.video is not None:
        frames = np.empty((tracks.num_frames, tracks.height, tracks.width, 3), np.uint8)
        for t, frame in enumerate(exported_frames(clip)):
            frames[t] = frame
        arrays["video"] = frames
    with atomic_write(path) as tmp_path, tmp_path.open("wb") as file:
        np.savez_compressed(file, **arrays)


FORMAT = Format(
    write_tapvid,
    ".npz",
    "numpy.load, without pickle",
    video="goes in, as frames",
    program="TAP-Vid",
    use="numpy.load reads it, without pickle: the frames, points as fractions of the frame, and occluded.",
)
