"""Pictures of single labels in two frames, to look at."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from benchmarks.real_footage.examples import Example
from benchmarks.real_footage.footage import FootageClip

# Pixels of the labeled frame around a label, how often each is shown larger, and how many pairs stand in a row.
CROP = 72
ENLARGED = 2
COLUMNS = 6
LABEL, EXPECTED, TEXT = (255, 40, 40), (0, 230, 255), (255, 255, 0)  # RGB


def draw_pair(clip: FootageClip, example: Example) -> np.ndarray:
    """[h, w, 3] uint8 RGB, the label in both frames (a cross), and where the picture says that it is (a circle)."""
    parts = []
    for t, xy, mark in zip(example.frames, example.xy, (None, example.expected), strict=True):
        crop = cv2.getRectSubPix(clip.frames[t], (CROP, CROP), (float(xy[0]) - 0.5, float(xy[1]) - 0.5))
        part = cv2.resize(crop, None, fx=ENLARGED, fy=ENLARGED, interpolation=cv2.INTER_CUBIC)
        side = CROP * ENLARGED
        cv2.drawMarker(part, (side // 2, side // 2), LABEL, cv2.MARKER_CROSS, 14, 1)
        if mark is not None:
            x, y = np.round((mark - xy) * ENLARGED + side / 2).astype(int).tolist()
            cv2.circle(part, (x, y), 6, EXPECTED, 1)
        cv2.putText(part, str(t), (3, side - 5), cv2.FONT_HERSHEY_SIMPLEX, 0.4, TEXT, 1)
        parts.append(part)
    picture = cv2.hconcat(parts)
    cv2.putText(picture, example.text, (3, 12), cv2.FONT_HERSHEY_SIMPLEX, 0.4, TEXT, 1)
    return np.asarray(cv2.copyMakeBorder(picture, 2, 2, 2, 2, cv2.BORDER_CONSTANT, value=(60, 60, 60)))


def write_sheet(pictures: Sequence[np.ndarray], path: Path) -> None:
    """Write pictures of one size as a PNG, row by row."""
    blank = np.zeros_like(pictures[0])
    columns = min(COLUMNS, len(pictures))
    padded = [*pictures, *[blank] * (-len(pictures) % columns)]
    rows = [cv2.hconcat(padded[i : i + columns]) for i in range(0, len(padded), columns)]
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), cv2.cvtColor(cv2.vconcat(rows), cv2.COLOR_RGB2BGR))
