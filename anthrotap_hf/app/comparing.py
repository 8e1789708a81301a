"""Two trackers on the same points: how far they differ, and their overlays in one video."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import cv2
import numpy as np

from anthrotap_hf.tracks import Tracks
from anthrotap_hf.video import VideoInfo, VideoWriter, iter_frames
from anthrotap_hf.visualization.overlay import DEFAULT_FPS, TRAIL, draw_tracks, track_colors

# Pixels between the two pictures.
GAP = 8
TEXT_COLOR, BACKGROUND = (240, 240, 240), (24, 26, 32)
# Pixels, of both pictures in the direction in which they are joined; larger ones are made smaller.
MAX_SIDE = 1920


@dataclass(frozen=True)
class Differences:
    """How far two trackers' answers to the same queries are apart.

    Attributes:
        median, percentile_90: of the distance in pixels where both say visible; None where they never do.
        agreement: fraction of (track, frame) where both say visible or both say occluded.
        by_frame: the median distance in each frame, None where no point is visible to both.
    """

    median: float | None
    percentile_90: float | None
    agreement: float
    by_frame: list[float | None]


def find_differences(first: Tracks, second: Tracks) -> Differences:
    """Compare two trackers' tracks of the same N queries."""
    distance = np.hypot(*np.moveaxis(first.xy - second.xy, -1, 0))
    both = first.visible & second.visible
    by_frame = [float(np.median(distance[both[:, t], t])) if both[:, t].any() else None for t in range(both.shape[1])]
    known = distance[both]
    return Differences(
        median=float(np.median(known)) if len(known) else None,
        percentile_90=float(np.quantile(known, 0.9)) if len(known) else None,
        agreement=float((first.visible == second.visible).mean()),
        by_frame=by_frame,
    )


def write_comparison(
    path: Path,
    video: Path,
    info: VideoInfo,
    tracks: Mapping[str, Tracks],
    on_frame: Callable[[int], object],
) -> None:
    """Write one video of both overlays, each under its tracker's name, that play in step.

    They lie one below the other where they are wider than high, else side by side.

    Args:
        path: the file to write.
        video: the video that was tracked.
        info: its size and rate.
        tracks: by tracker.
        on_frame: is called with the number of frames drawn.
    """
    below = info.width > info.height
    scale = min(1.0, (MAX_SIDE - GAP) / 2 / min(info.width, info.height))
    width, height = round(info.width * scale), round(info.height * scale)
    strip = max(24, round(height / 14))
    colors = {name: track_colors(each) for name, each in tracks.items()}
    with VideoWriter(path, info.fps or DEFAULT_FPS) as writer:
        num_frames = next(iter(tracks.values())).num_frames
        for t, frame in enumerate(islice(iter_frames(video, folder_fps=info.fps), num_frames)):
            parts = []
            for name, each in tracks.items():
                drawn = draw_tracks(frame.image, each, t, colors[name], TRAIL)
                drawn = cv2.resize(drawn, (width, height), interpolation=cv2.INTER_AREA)
                parts += [
                    np.concatenate([_title(name, width, strip), drawn]),
                    np.full((GAP, width, 3) if below else (strip + height, GAP, 3), BACKGROUND),
                ]
            joined = np.concatenate(parts[:-1], axis=0 if below else 1).astype(np.uint8)
            odd = ((0, joined.shape[0] % 2), (0, joined.shape[1] % 2), (0, 0))
            writer.write(np.pad(joined, odd, mode="edge"), frame.time)
            on_frame(t + 1)


def _title(name: str, width: int, height: int) -> np.ndarray:
    """Return a name on a dark strip, as large as fits: [height, width, 3] uint8."""
    strip = np.full((height, width, 3), BACKGROUND, np.uint8)
    font, size = cv2.FONT_HERSHEY_SIMPLEX, height / 36
    (text_width, _), _ = cv2.getTextSize(name, font, size, 1)
    size *= min(1.0, 0.94 * width / max(text_width, 1))
    (text_width, text_height), _ = cv2.getTextSize(name, font, size, 1)
    corner = (width - text_width) // 2, (height + text_height) // 2
    cv2.putText(strip, name, corner, font, size, TEXT_COLOR, 1, cv2.LINE_AA)
    return strip
