"""Pictures of tracks: dots colored by track, filled where seen, hollow where hidden, absent where unknown.

Dots have a dark rim, so that they stand out from anything of their color.
"""

from __future__ import annotations

import colorsys

import cv2
import numpy as np

from anthrotap_hf.tracks import Tracks

_SUBPIXEL = 4  # bits of fraction that OpenCV's drawing takes
_RIM = (20, 20, 20)
# OpenCV's own small circles are diamonds.
_CIRCLE = np.stack([np.cos(np.arange(16) * np.pi / 8), np.sin(np.arange(16) * np.pi / 8)], axis=1)


def track_colors(tracks: Tracks) -> np.ndarray:
    """[N, 3] uint8 RGB: the hue runs down each person's tracks, by their height at first sight, so that neighbors
    are alike and a jump to another body part shows; each person starts at another hue. None is dark."""
    colors = np.zeros((len(tracks), 3), np.uint8)
    if not len(tracks):
        return colors
    height = _first_places(tracks)[:, 1]
    for person in np.unique(tracks.person):
        own = np.flatnonzero(tracks.person == person)
        rank = np.argsort(np.argsort(height[own])) / max(len(own) - 1, 1)
        # Golden-ratio steps keep neighboring people apart; the last sixth is left out, or ends would be alike.
        hues = (0.618 * person + 0.83 * rank) % 1
        colors[own] = [_light(hue) for hue in hues]
    return colors


def _light(hue: float) -> np.ndarray:
    """RGB of a hue, blue and its like mixed with white: [3] of 0 to 255."""
    color = np.array(colorsys.hsv_to_rgb(hue, 0.9, 1.0))
    luma = color @ [0.299, 0.587, 0.114]
    return np.round(255 * (color + max(0.0, (0.5 - luma) / (1 - luma)) * (1 - color)))


def dot_radius(tracks: Tracks) -> float:
    """Pixels: by the frame's size, smaller where a person's tracks, or a grid's, are crowded."""
    frame = tracks.height * tracks.width
    places = _first_places(tracks)
    room = [float("inf")]
    for person in np.unique(tracks.person):
        own = places[tracks.person == person]
        room.append((max(np.ptp(own, axis=0).prod(), frame / 10) / len(own)) ** 0.5)
    return max(1.5, min(min(tracks.height, tracks.width) / 130, 0.17 * min(room)))


def _first_places(tracks: Tracks) -> np.ndarray:
    """[N, 2] xy of each track where it is first trusted."""
    first = np.where(tracks.valid.any(1), tracks.valid.argmax(1), 0)
    return np.nan_to_num(tracks.xy[np.arange(len(tracks)), first])


def draw_tracks(
    image: np.ndarray, tracks: Tracks, t: int, colors: np.ndarray | None = None, trail: int = 0
) -> np.ndarray:
    """A copy of frame `t` with its labels drawn on it.

    Args:
        image: [H, W, 3] uint8 RGB, of the size that the tracks refer to.
        tracks: the labels.
        t: which of their frames this is.
        colors: [N, 3] uint8 RGB, one a track; `track_colors` when left out.
        trail: how many frames back a line follows each seen point, where it was seen.

    Raises:
        ValueError: if the image has another size than the tracks.
    """
    if image.shape[:2] != (tracks.height, tracks.width):
        raise ValueError(
            f"image is {image.shape[1]}x{image.shape[0]}, tracks refer to {tracks.width}x{tracks.height}"
        )
    colors = track_colors(tracks) if colors is None else colors
    canvas = np.ascontiguousarray(image).copy()
    radius = dot_radius(tracks)
    # OpenCV's first pixel center is (0, 0).
    places = np.round((np.nan_to_num(tracks.xy) - 0.5) * (1 << _SUBPIXEL)).astype(np.int32)
    seen, hidden = tracks.visible[:, t], tracks.occluded[:, t]
    _draw_trails(canvas, places, tracks.visible, t, colors, trail, max(1, round(radius / 3)))

    def circles(
        labels: np.ndarray, size: float, width: int, color: tuple[int, int, int] | None = None
    ) -> None:
        ring = np.round(size * (1 << _SUBPIXEL) * _CIRCLE).astype(np.int32)
        for n in np.flatnonzero(labels):
            outline, paint = ring + places[n, t], color or colors[n].tolist()
            if width == cv2.FILLED:
                cv2.fillConvexPoly(canvas, outline, paint, cv2.LINE_AA, _SUBPIXEL)
            else:
                cv2.polylines(canvas, [outline], True, paint, width, cv2.LINE_AA, _SUBPIXEL)

    # All rims first: those of a crowd's dots would hide its colors.
    line = max(1, round(radius / 3))
    circles(hidden, 1.3 * radius, line + (2 if radius > 3 else 1), _RIM)
    circles(seen, radius + max(0.5, 0.25 * radius), cv2.FILLED, _RIM)
    circles(hidden, 1.3 * radius, line)
    circles(seen, radius, cv2.FILLED)
    return canvas


def _draw_trails(
    canvas: np.ndarray,
    places: np.ndarray,
    seen: np.ndarray,
    t: int,
    colors: np.ndarray,
    trail: int,
    width: int,
) -> None:
    """Behind each point that is seen in frame `t`, where it was in the last `trail` frames that saw it."""
    begin = max(t - trail, 0)
    if begin == t:
        return
    lines = canvas.copy()
    both = seen[:, begin:t] & seen[:, begin + 1 : t + 1]
    for n in np.flatnonzero(seen[:, t]):
        for step in begin + np.flatnonzero(both[n]):
            start, end = places[n, step : step + 2].tolist()
            cv2.line(lines, start, end, colors[n].tolist(), width, cv2.LINE_AA, _SUBPIXEL)
    cv2.addWeighted(lines, 0.7, canvas, 0.3, 0, dst=canvas)


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
