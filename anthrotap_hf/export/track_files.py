"""What tracking a video leaves: an overlay to look at, and the tracks as .npz and .json; by command line and page."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from anthrotap_hf.tracks import Tracks
from anthrotap_hf.utils.atomic_files import atomic_write
from anthrotap_hf.video import VideoInfo, VideoWriter, iter_frames
from anthrotap_hf.visualization.overlay import draw_tracks, track_colors

TRAIL = 12  # frames back that the overlay draws
USUAL_RATE = 25.0  # frames a second, where the file does not say


def track_files(folder: Path, stem: str) -> list[Path]:
    """The three files of a video: .mp4, .npz, .json."""
    return [folder / f"{stem}.tracks{suffix}" for suffix in (".mp4", ".npz", ".json")]


def found_tracks(found: Mapping[str, np.ndarray], info: VideoInfo) -> Tracks:
    """What the pipeline gives for a video, as Tracks: of no person, all to be trusted."""
    visible = found["visible"]
    nobody = np.zeros(len(visible), np.int32)
    return Tracks(
        found["tracks"], visible, np.ones_like(visible), info.height, info.width, person=nobody, vertex=nobody
    )


def write_tracks(
    files: list[Path],
    video: Path,
    info: VideoInfo,
    found: Mapping[str, np.ndarray],
    queries: np.ndarray,
    model: str,
    on_frame: Callable[[int], object],
) -> None:
    """Writes the overlay and the tracks of a video, each whole or not at all.

    Args:
        files: their three paths, as `track_files` names them.
        video: the file.
        info: what it says of itself.
        found: "tracks" [N, T, 2] float32 in the video's pixels, "visible" [N, T] bool, "scores" [N, T] float32.
        queries: [N, 3] (t, x, y).
        model: what tracked.
        on_frame: is told how many frames of the overlay are drawn.
    """
    fps = info.fps or USUAL_RATE
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


def write_overlay(
    path: Path,
    images: Iterable[np.ndarray],
    fps: float,
    tracks: Tracks,
    on_frame: Callable[[int], object] = lambda _: None,
) -> None:
    """A video of frames [H, W, 3] uint8 RGB with their points; a row or column more where a side is odd, as H.264
    wants it. `on_frame` is told how many are drawn."""
    colors = track_colors(tracks)
    odd = ((0, tracks.height % 2), (0, tracks.width % 2), (0, 0))
    with VideoWriter(path, fps) as writer:
        for t, image in enumerate(images):
            drawn = draw_tracks(image, tracks, t, colors, TRAIL)
            writer.write(np.pad(drawn, odd, mode="edge"))
            on_frame(t + 1)
