"""Trackers that need no training, as baselines: static points, and Lucas-Kanade from frame to frame.

They are called as `pipeline("point-tracking")` is, and return the same.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from anthrotap_builder.flow.lucas_kanade import lucas_kanade
from anthrotap_hf.evaluation.runner import EvaluatedModel


@dataclass(frozen=True)
class Static:
    """Every point stays at its query, and is visible."""

    def __call__(self, frames: np.ndarray, points: np.ndarray, **_: object) -> dict[str, np.ndarray]:
        """frames [T, H, W, 3] uint8, points [N, 3] (t, x, y); -> tracks [N, T, 2], visible [N, T]."""
        tracks = np.repeat(np.asarray(points, float)[:, None, 1:], len(frames), axis=1)
        return {"tracks": tracks, "visible": np.ones(tracks.shape[:2], bool)}


@dataclass(frozen=True)
class LucasKanade:
    """Pyramidal Lucas-Kanade (Bouguet 2001, as OpenCV has it), both ways in time from each query.

    A point whose forward-backward error exceeds `tolerance` pixels, or that leaves the frame, is lost for good: it
    counts as occluded and stays where it was. (Chosen on the tracking set's validation clips: 4 and 8 pixels are alike
    in average Jaccard, 2 and 16 are worse at one of the windows; points that move on when lost cost 2 to 4 points of
    average delta.)

    Attributes:
        window: side of the patch that is matched, pixels.
        tolerance: pixels.
        levels: of the pyramid, besides the frame itself.
    """

    window: int
    tolerance: float = 8.0
    levels: int = 3

    def __call__(self, frames: np.ndarray, points: np.ndarray, **_: object) -> dict[str, np.ndarray]:
        """As `StandingStill`."""
        gray = [cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in frames]
        times, count = np.asarray(points)[:, 0].astype(int), len(frames)
        tracks = np.repeat(np.asarray(points, float)[:, None, 1:], count, axis=1)
        visible = np.ones(tracks.shape[:2], bool)
        size = np.array(gray[0].shape[::-1])
        for step in (1, -1):
            for t in range(count - 1) if step > 0 else range(count - 1, 0, -1):
                begun = times <= t if step > 0 else times >= t
                tracks[begun, t + step] = tracks[begun, t]
                visible[begun, t + step] = False
                moving = np.flatnonzero(begun & visible[:, t])
                if not len(moving):
                    continue
                start = tracks[moving, t]
                end, found = lucas_kanade(gray[t], gray[t + step], start, self.window, self.levels)
                back, found_back = lucas_kanade(gray[t + step], gray[t], end, self.window, self.levels)
                kept = found & found_back & (np.linalg.norm(back - start, axis=1) <= self.tolerance)
                kept &= ((end >= 0) & (end <= size)).all(1)
                tracks[moving[kept], t + step] = end[kept]
                visible[moving[kept], t + step] = True
        return {"tracks": tracks, "visible": visible}


def baselines() -> list[EvaluatedModel]:
    """Return what every tracker should beat: static points, and Lucas-Kanade at two sizes of its window."""
    code = hashlib.sha256(Path(__file__).read_bytes()).hexdigest()[:8]
    models = [EvaluatedModel("static", Static(), f"static-{code}")]
    for window in (11, 21):
        models.append(EvaluatedModel(f"LK {window}", LucasKanade(window), f"lk{window}-{code}"))
    return models
