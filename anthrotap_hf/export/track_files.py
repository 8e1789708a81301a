"""The results of tracking a video: an overlay, and the tracks as .npz and .json; for the command line and the page."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from anthrotap_hf.tracks import Tracks
from anthrotap_hf.utils.atomic_files import atomic_write, file_change
from anthrotap_hf.video import Frame, VideoError, VideoInfo, iter_frames, measured_rate
from anthrotap_hf.visualization.overlay import DEFAULT_FPS, write_overlay


def track_files(folder: Path, stem: str) -> list[Path]:
    """Return the paths of the three files of a video: .mp4, .npz, .json."""
    return [folder / f"{stem}.tracks{suffix}" for suffix in (".mp4", ".npz", ".json")]


def found_tracks(found: Mapping[str, np.ndarray], info: VideoInfo) -> Tracks:
    """Return what the pipeline found in a video as `Tracks`; all labels are valid where it does not say which are."""
    visible = found["visible"]
    valid = found.get("valid", np.ones_like(visible))
    return Tracks.from_labels(found["tracks"], visible, valid, height=info.height, width=info.width)


def write_tracks(
    files: list[Path],
    video: Path,
    info: VideoInfo,
    found: Mapping[str, np.ndarray],
    queries: np.ndarray,
    model: str,
    on_frame: Callable[[int], object],
    sha256: str | None = None,
) -> None:
    """Write the overlay and the tracks of a video, each file atomically.

    The overlay plays with the video's own times. Beside the tracks the files hold `times` [T], seconds from the first
    frame on, and `fps`, the mean rate by these times where they do not agree with what the video says.

    Args:
        files: the three paths, as `track_files` names them.
        video: the file.
        info: its size and rate.
        found: "tracks" [N, T, 2] float32 in the video's pixels, "visible" [N, T] bool, "scores" and "uncertainty"
            [N, T] float32; what else it has is written as it is.
        queries: [N, 3] (t, x, y).
        model: the tracker's name.
        on_frame: called with the number of frames of the overlay that are drawn.
        sha256: of the video when it was tracked, if it may have changed since.

    Raises:
        VideoError: the video is another one by now; nothing is left.
    """
    times: list[float] = []

    def frames() -> Iterator[Frame]:
        # Of a damaged video, those before the damage were tracked.
        for frame in islice(iter_frames(video, folder_fps=info.fps), found["visible"].shape[1]):
            times.append(frame.time)
            yield frame

    write_overlay(files[0], frames(), info.fps or DEFAULT_FPS, found_tracks(found, info), on_frame)
    if sha256 is not None and (change := file_change(video, sha256)):
        files[0].unlink(missing_ok=True)
        raise VideoError(f"{change} while it was tracked", path=video)
    fps = measured_rate(times, None if info.variable_rate else info.fps) or DEFAULT_FPS
    arrays: dict[str, Any] = {
        **found,
        "queries": queries.astype(np.float32),
        "fps": np.float32(fps),
        "times": np.array(times) - times[0],
        "size": np.array([info.height, info.width], np.int32),
        "model": np.array(model),
    }
    plain = {key: value.tolist() for key, value in arrays.items()}
    with atomic_write(files[1]) as tmp_path:
        np.savez_compressed(tmp_path, **arrays)
    with atomic_write(files[2]) as tmp_path:
        tmp_path.write_text(json.dumps(plain))
