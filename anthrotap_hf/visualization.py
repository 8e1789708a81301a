"""Pictures of tracks: dots coloured by track, filled where seen, hollow where hidden, absent where unknown."""

from __future__ import annotations

import colorsys

import cv2
import numpy as np

from anthrotap_hf.tracks import Tracks

_SUBPIXEL = 4  # bits of fraction that OpenCV's drawing takes


def track_colors(tracks: Tracks) -> np.ndarray:
    """[N, 3] uint8 RGB: the hue runs down each person's tracks, by their height at first sight, so that neighbours
    are alike and a jump to another body part shows; each person starts at another hue."""
    colors = np.zeros((len(tracks), 3), np.uint8)
    if not len(tracks):
        return colors
    first = np.where(tracks.valid.any(1), tracks.valid.argmax(1), 0)
    height = tracks.xy[np.arange(len(tracks)), first, 1]
    for person in np.unique(tracks.person):
        own = np.flatnonzero(tracks.person == person)
        rank = np.argsort(np.argsort(height[own])) / max(len(own) - 1, 1)
        # Golden-ratio steps keep the hue ranges of neighbouring people apart.
        hues = (0.618 * person + 0.45 * rank) % 1
        colors[own] = [[round(255 * c) for c in colorsys.hsv_to_rgb(hue, 0.85, 1.0)] for hue in hues]
    return colors


def draw_tracks(
    image: np.ndarray, tracks: Tracks, t: int, colors: np.ndarray | None = None, trail: int = 0
) -> np.ndarray:
    """A copy of frame `t` with its labels drawn on it.

    Args:
        image: [H, W, 3] uint8 RGB, of the size that the tracks refer to.
        tracks: the labels.
        t: which of their frames this is.
        colors: [N, 3] uint8 RGB, one a track; `track_colors` when left out.
        trail: how many frames back a line follows each seen point.

    Raises:
        ValueError: if the image has another size than the tracks.
    """
    if image.shape[:2] != (tracks.height, tracks.width):
        raise ValueError(
            f"image is {image.shape[1]}x{image.shape[0]}, tracks refer to {tracks.width}x{tracks.height}"
        )
    colors = track_colors(tracks) if colors is None else colors
    canvas = np.ascontiguousarray(image).copy()
    radius = max(1.6, min(image.shape[:2]) / 240)
    scale = 1 << _SUBPIXEL
    # OpenCV's first pixel centre is (0, 0).
    places = np.round((np.nan_to_num(tracks.xy) - 0.5) * scale).astype(int)
    seen, hidden = tracks.seen, tracks.hidden
    for n in np.flatnonzero(seen[:, max(t - trail, 0) : t + 1].all(1)) if trail else ():
        path = places[n, max(t - trail, 0) : t + 1].reshape(-1, 1, 2)
        cv2.polylines(canvas, [path], False, colors[n].tolist(), 1, cv2.LINE_AA, _SUBPIXEL)
    for labels, width, size in ((hidden, 1, 1.5 * radius), (seen, cv2.FILLED, radius)):
        for n in np.flatnonzero(labels[:, t]):
            x, y = places[n, t].tolist()
            cv2.circle(canvas, (x, y), round(size * scale), colors[n].tolist(), width, cv2.LINE_AA, _SUBPIXEL)
    return canvas


def around_tracks(tracks: Tracks) -> tuple[slice, slice]:
    """Rows and columns that hold all trusted labels with some room, at least half the frame each way."""
    places = tracks.xy[tracks.valid]
    if not len(places):
        return slice(0, tracks.height), slice(0, tracks.width)
    bounds = []
    for axis, size in ((1, tracks.height), (0, tracks.width)):
        low, high = places[:, axis].min(), places[:, axis].max()
        half = min(size, max(1.2 * (high - low), size / 2)) / 2
        middle = min(max((low + high) / 2, half), size - half)
        bounds.append(slice(round(middle - half), round(middle + half)))
    return bounds[0], bounds[1]


def contact_sheet(images: list[np.ndarray], columns: int = 4, width: int = 1920) -> np.ndarray:
    """Pictures side by side on one sheet about `width` pixels wide, [H, W, 3] uint8 RGB.

    Raises:
        ValueError: if there is no picture.
    """
    if not images:
        raise ValueError("a contact sheet needs at least one picture")
    columns = min(columns, len(images))
    cell = width // columns
    # Pictures of other shapes fit inside cells of the middle one's.
    height = round(cell * float(np.median([image.shape[0] / image.shape[1] for image in images])))
    rows = -(-len(images) // columns)
    sheet = np.zeros((rows * height, columns * cell, 3), np.uint8)
    for index, image in enumerate(images):
        row, column = divmod(index, columns)
        scale = min(cell / image.shape[1], height / image.shape[0])
        size = min(cell, round(image.shape[1] * scale)), min(height, round(image.shape[0] * scale))
        fitted = cv2.resize(image, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC)
        y, x = row * height + (height - size[1]) // 2, column * cell + (cell - size[0]) // 2
        sheet[y : y + size[1], x : x + size[0]] = fitted
    return sheet
