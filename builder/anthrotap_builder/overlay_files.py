"""What `anthrotap label` leaves to look at: the overlay video of each input, and a sheet of some of its frames."""

from __future__ import annotations

from pathlib import Path
from typing import Self

import cv2
import numpy as np

from anthrotap_builder.utils.video_paths import OVERLAY, SHEET
from anthrotap_hf.tracks import TrackedClip
from anthrotap_hf.utils.atomic_files import atomic_write
from anthrotap_hf.video import VideoWriter
from anthrotap_hf.visualization.overlay import DEFAULT_FPS, around_tracks, contact_sheet, draw_tracks, track_colors

SHEET_PICTURES = 8


class OverlayFiles:
    """Writes NAME.tracks.mp4 and NAME.tracks.jpg of one video; neither if no clip has a track.

    Args:
        stem: their path without the suffix.
    """

    def __init__(self, stem: Path) -> None:
        self.video = stem.with_name(stem.name + OVERLAY)
        self.sheet = stem.with_name(stem.name + SHEET)
        self._writer: VideoWriter | None = None
        # Height and width of the first clip, and so of the overlay.
        self._size = (0, 0)
        self._pictures: list[np.ndarray] = []
        self._frames = 0
        # Seconds; clips differ in their rates.
        self._time = 0.0
        self._any_track = False
        # Frames between two pictures: it grows with the video, so that memory does not.
        self._every = 1

    def __enter__(self) -> Self:
        return self

    def add(self, clip: TrackedClip) -> None:
        """Draw the next clip."""
        size = clip.tracks.height, clip.tracks.width
        if self._writer is None:
            self._writer = VideoWriter(self.video, clip.fps or 0)
            self._size = size
        self._any_track |= len(clip.tracks) > 0
        colors = track_colors(clip.tracks)
        crop = around_tracks(clip.tracks)
        for t, image in enumerate(clip.frames):
            drawn = draw_tracks(image, clip.tracks, t, colors)
            self._writer.write(drawn if size == self._size else _fit_into(drawn, self._size), self._time)
            self._time += 1 / (clip.fps or DEFAULT_FPS)
            if self._frames % self._every == 0:
                self._pictures.append(drawn[crop])
            self._frames += 1
            if len(self._pictures) == 2 * SHEET_PICTURES:
                self._pictures = self._pictures[::2]
                self._every *= 2

    def __exit__(self, kind: type[BaseException] | None, *error: object) -> None:
        if self._writer is None:
            return
        if not self._any_track:
            self._writer.discard()
            return
        self._writer.__exit__(kind, *error)
        if kind is None:
            count = min(len(self._pictures), SHEET_PICTURES)
            chosen = np.linspace(0, len(self._pictures) - 1, count).astype(int)
            sheet = contact_sheet([self._pictures[i] for i in chosen])
            _, encoded = cv2.imencode(".jpg", sheet[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 92])
            with atomic_write(self.sheet) as tmp_path:
                tmp_path.write_bytes(encoded.tobytes())


def _fit_into(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Return an image [h, w, 3] of another clip, whole and in its own shape, on black in a frame of `size` (H, W)."""
    height, width = size
    scale = min(height / image.shape[0], width / image.shape[1])
    h, w = (max(1, round(side * scale)) for side in image.shape[:2])
    frame = np.zeros((height, width, 3), np.uint8)
    top, left = (height - h) // 2, (width - w) // 2
    frame[top : top + h, left : left + w] = cv2.resize(image, (w, h), interpolation=cv2.INTER_AREA)
    return frame
