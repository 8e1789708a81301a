"""TAP-Vid's layout of a video, in a .npz without pickle: `video`, `points`, `occluded`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from anthrotap_hf.export.frames import frames_of
from anthrotap_hf.tracks import Tracks
from anthrotap_hf.utils.atomic_files import atomic_write
from anthrotap_hf.video import VideoSource


def write_tapvid(tracks: Tracks, fps: float, path: Path, video: VideoSource | None = None) -> None:
    """The arrays that TAP-Vid's pickles (DAVIS, RoboTAP, Kinetics) hold of each video, by the same names.

    - `points`: [N, T, 2] float32, x and y as shares of width and height: x / W, y / H. TAP-Vid's reader multiplies them
      by the size of the (resized) frames and calls the product raster coordinates, in which the frame spans (0, 0) to
      (W, H), as here: https://github.com/google-deepmind/tapnet, tapnet/tapvid/evaluation_datasets.py and README.md.
      0 where unknown.
    - `occluded`: [N, T] bool, true where hidden or unknown: TAP-Vid has no third state.
    - `valid`: [N, T] bool, our addition, which its readers leave alone: false where unknown.
    - `fps`: float32, our addition.
    - `video`: [T, H, W, 3] uint8 RGB, if there is a video.

    Hidden and unknown are one to a reader who knows TAP-Vid only, and it would score unknown labels as occluded: give
    it the tracks that `valid` calls known in every frame, or mask by `valid`.

    Raises:
        VideoError: as `frames_of`.
    """
    shares = tracks.xy / np.array([tracks.width, tracks.height], np.float32)
    arrays: dict[str, Any] = {
        "points": np.where(tracks.valid[..., None], shares, 0).astype(np.float32),
        "occluded": ~tracks.visible,
        "valid": tracks.valid,
        "fps": np.float32(fps),
    }
    if video is not None:
        frames = np.empty((tracks.num_frames, tracks.height, tracks.width, 3), np.uint8)
        for t, frame in enumerate(frames_of(video, tracks)):
            frames[t] = frame
        arrays["video"] = frames
    with atomic_write(path) as tmp_path, tmp_path.open("wb") as file:
        np.savez_compressed(file, **arrays)
