"""Two trackers on the same points: how far they differ, and their overlays in one picture."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from anthrotap_hf.tracks import Tracks
from anthrotap_hf.video import VideoInfo, VideoWriter, iter_frames
from anthrotap_hf.visualization.overlay import DEFAULT_FPS, TRAIL, draw_tracks, track_colors

GAP = 8  # pixels between the two pictures
INK, PAPER = (240, 240, 240), (24, 26, 32)
MOST = 1920  # pixels, along which the two pictures are put together: larger ones are made smaller before


def differences(first: Tracks, second: Tracks) -> dict[str, Any]:
    """How far two trackers' answers to the same N queries are apart; distances in pixels of the video.

    Returns:
        `median` and `most` (90 % are below) of the distance where both see the point, None where they never do;
        `agree`, the share of (track, frame) where both say visible or both say hidden; `by_frame`, for each frame the
        median distance, None where no point is seen by both.
    """
    away = np.hypot(*np.moveaxis(first.xy - second.xy, -1, 0))
    both = first.visible & second.visible
    by_frame = [
        float(np.median(away[both[:, t], t])) if both[:, t].any() else None for t in range(both.shape[1])
    ]
    known = away[both]
    return {
        "median": float(np.median(known)) if len(known) else None,
        "most": float(np.quantile(known, 0.9)) if len(known) else None,
        "agree": float((first.visible == second.visible).mean()),
        "by_frame": by_frame,
    }


def write_compared(
    path: Path,
    video: Path,
    info: VideoInfo,
    tracks: Mapping[str, Tracks],
    on_frame: Callable[[int], object],
) -> None:
    """One video of the overlays, each under its tracker's name, that plays them in step: one below the other where they
    are wider than high, else side by side.

    Args:
        path: the file.
        video: what was tracked.
        info: what it says of itself.
        tracks: by tracker.
        on_frame: is told how many frames are drawn.
    """
    below = info.width > info.height
    scale = min(1.0, (MOST - GAP) / 2 / min(info.width, info.height))
    width, height = round(info.width * scale), round(info.height * scale)
    strip = max(24, round(height / 14))
    colors = {name: track_colors(one) for name, one in tracks.items()}
    with VideoWriter(path, info.fps or DEFAULT_FPS) as writer:
        for t, frame in enumerate(iter_frames(video)):
            parts = []
            for name, one in tracks.items():
                drawn = draw_tracks(frame.image, one, t, colors[name], TRAIL)
                drawn = cv2.resize(drawn, (width, height), interpolation=cv2.INTER_AREA)
                parts += [
                    np.concatenate([_title(name, width, strip), drawn]),
                    np.full((GAP, width, 3) if below else (strip + height, GAP, 3), PAPER),
                ]
            sheet = np.concatenate(parts[:-1], axis=0 if below else 1).astype(np.uint8)
            odd = ((0, sheet.shape[0] % 2), (0, sheet.shape[1] % 2), (0, 0))
            writer.write(np.pad(sheet, odd, mode="edge"))
            on_frame(t + 1)


def _title(name: str, width: int, height: int) -> np.ndarray:
    """[height, width, 3] uint8: a name on a dark strip, as large as fits."""
    strip = np.full((height, width, 3), PAPER, np.uint8)
    font, size = cv2.FONT_HERSHEY_SIMPLEX, height / 36
    (long, high), _ = cv2.getTextSize(name, font, size, 1)
    size *= min(1.0, 0.94 * width / max(long, 1))
    (long, high), _ = cv2.getTextSize(name, font, size, 1)
    place = (width - long) // 2, (height + high) // 2
    cv2.putText(strip, name, place, font, size, INK, 1, cv2.LINE_AA)
    return strip
