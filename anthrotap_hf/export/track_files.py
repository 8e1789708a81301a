"""The results of tracking a video: an overlay, and the tracks as .npz and .json; for the command line and the page."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from anthrotap_hf.tracks import Tracks
from anthrotap_hf.utils.atomic_files import atomic_write
from anthrotap_hf.video import VideoInfo, iter_frames
from anthrotap_hf.visualization.overlay import DEFAULT_FPS, write_overlay


def track_files(folder: Path, stem: str) -> list[Path]:
    """Return the paths of the three files of a video: .mp4, .npz, .json."""
    return [folder / f"{stem}.tracks{suffix}" for suffix in (".mp4", ".npz", ".json")]


def found_tracks(found: Mapping[str, np.ndarray], info: VideoInfo) -> Tracks:
    """Return what the pipeline found in a video as `Tracks`, all labels valid."""
    visible = found["visible"]
    valid = np.ones_like(visible)
    return Tracks.from_labels(found["tracks"], visible, valid, height=info.height, width=info.width)


def write_tracks(
    files: list[Path],
    video: Path,
    info: VideoInfo,
    found: Mapping[str, np.ndarray],
    queries: np.ndarray,
    model: str,
    on_frame: Callable[[int], object],
) -> None:
    """Write the overlay and the tracks of a video, each file atomically.

    Args:
        files: the three paths, as `track_files` names them.
        video: the file.
        info: its size and rate.
        found: "tracks" [N, T, 2] float32 in the video's pixels, "visible" [N, T] bool, "scores" [N, T] float32.
        queries: [N, 3] (t, x, y).
        model: the tracker's name.
        on_frame: called with the number of frames of the overlay that are drawn.
    """
    fps = info.fps or DEFAULT_FPS
    arrays: dict[str, Any] = {
        **found,
        "queries": queries.astype(np.float32),
        "fps": np.float32(fps),
        "size": np.array([info.height, info.width], np.int32),
        "model": np.array(model),
    }
    plain = {key: value.tolist() for key, value in arrays.items()}
    images = (frame.image for frame in iter_frames(video))
    write_overlay(files[0], images, fps, found_tracks(found, info), on_frame)
    with atomic_write(files[1]) as tmp_path:
        np.savez_compressed(tmp_path, **arrays)
    with atomic_write(files[2]) as tmp_path:
        tmp_path.write_text(json.dumps(plain))
