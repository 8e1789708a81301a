"""Overlays: tracks drawn on frames, as dots that are filled where visible, hollow where occluded, absent where invalid.

Dots have a color a track, and a dark rim, so that they stand out from anything of their color.
"""

from __future__ import annotations

import colorsys
import os
from collections.abc import Callable, Iterable

import cv2
import numpy as np

from anthrotap_hf.tracks import Tracks
from anthrotap_hf.video import Frame, VideoWriter

# Frames back that the trails of an overlay go.
TRAIL = 12
# Frames a second of an overlay, where the video does not tell.
DEFAULT_FPS = 25.0

# Bits of fraction that OpenCV's drawing takes.
_SUBPIXEL = 4
_RIM = (20, 20, 20)
# OpenCV's own small circles are diamonds.
_CIRCLE = np.stack([np.cos(np.arange(16) * np.pi / 8), np.sin(np.arange(16) * np.pi / 8)], axis=1)


def track_colors(tracks: Tracks) -> np.ndarray:
    """Return a color for each track, [N, 3] uint8 RGB, none of them dark.

    The hue runs down each person's tracks, by their height where they are first valid: neighbors are alike, and a jump
    to another body part shows. Each person starts at another hue.
    """
    colors = np.zeros((len(tracks), 3), np.uint8)
    if not len(tracks):
        return colors
    height = _first_positions(tracks)[:, 1]
    for person in np.unique(tracks.person):
        own = np.flatnonzero(tracks.person == person)
        rank = np.argsort(np.argsort(height[own])) / max(len(own) - 1, 1)
        # Golden-ratio steps keep neighboring people apart; the last sixth is not used, or both ends would be alike.
        hues = (0.618 * person + 0.83 * rank) % 1
        colors[own] = [_light(hue) for hue in hues]
    return colors


def _light(hue: float) -> np.ndarray:
    """Return the RGB values [3] of a hue, 0 to 255; blue and similar ones are mixed with white."""
    color = np.array(colorsys.hsv_to_rgb(hue, 0.9, 1.0))
    luma = color @ [0.299, 0.587, 0.114]
    return np.round(255 * (color + max(0.0, (0.5 - luma) / (1 - luma)) * (1 - color)))


def dot_radius(tracks: Tracks) -> float:
    """Return the radius of dots in pixels: by the frame's size, and smaller where a person's tracks are crowded."""
    frame = tracks.height * tracks.width
    xy = _first_positions(tracks)
    spacing = [float("inf")]
    for person in np.unique(tracks.person):
        own = xy[tracks.person == person]
        spacing.append((max(np.ptp(own, axis=0).prod(), frame / 10) / len(own)) ** 0.5)
    return max(1.5, min(min(tracks.height, tracks.width) / 130, 0.17 * min(spacing)))


def _first_positions(tracks: Tracks) -> np.ndarray:
    """Return the xy [N, 2] of each track where it is first valid."""
    first = np.where(tracks.valid.any(1), tracks.valid.argmax(1), 0)
    return tracks.xy[np.arange(len(tracks)), first]


def draw_tracks(
    image: np.ndarray, tracks: Tracks, t: int, colors: np.ndarray | None = None, trail: int = 0
) -> np.ndarray:
    """Return a copy of frame `t` with its labels drawn on it.

    Args:
        image: [H, W, 3] uint8 RGB, of the size that the tracks refer to.
        tracks: the labels.
        t: which of their frames this is.
        colors: [N, 3] uint8 RGB, one a track; `track_colors` by default.
        trail: how many frames back a line follows each visible point, where it was visible.

    Raises:
        ValueError: the image has another size than the tracks.
    """
    if image.shape[:2] != (tracks.height, tracks.width):
        raise ValueError(f"image is {image.shape[1]}x{image.shape[0]}, tracks refer to {tracks.width}x{tracks.height}")
    colors = track_colors(tracks) if colors is None else colors
    canvas = np.ascontiguousarray(image).copy()
    radius = dot_radius(tracks)
    line = max(1, round(radius / 3))
    # OpenCV's first pixel center is (0, 0).
    points = np.round((tracks.xy - 0.5) * (1 << _SUBPIXEL)).astype(np.int32)
    _draw_trails(canvas, points, tracks.visible[:, : t + 1], colors, trail, line)

    def circles(which: np.ndarray, size: float, width: int, color: tuple[int, int, int] | None = None) -> None:
        ring = np.round(size * (1 << _SUBPIXEL) * _CIRCLE).astype(np.int32)
        for n in np.flatnonzero(which):
            outline, paint = ring + points[n, t], color or colors[n].tolist()
            if width == cv2.FILLED:
                cv2.fillConvexPoly(canvas, outline, paint, cv2.LINE_AA, _SUBPIXEL)
            else:
                cv2.polylines(canvas, [outline], True, paint, width, cv2.LINE_AA, _SUBPIXEL)

    # All rims first: those of a crowd's dots would hide its colors.
    visible, occluded = tracks.visible[:, t], tracks.occluded[:, t]
    circles(occluded, 1.3 * radius, line + (2 if radius > 3 else 1), _RIM)
    circles(visible, radius + max(0.5, 0.25 * radius), cv2.FILLED, _RIM)
    circles(occluded, 1.3 * radius, line)
    circles(visible, radius, cv2.FILLED)
    return canvas


def _draw_trails(
    canvas: np.ndarray, points: np.ndarray, visible: np.ndarray, colors: np.ndarray, trail: int, width: int
) -> None:
    """Draw lines behind each point that is visible in the last frame of `visible`, over the `trail` frames before.

    Args:
        canvas: [H, W, 3] uint8 RGB, changed.
        points: [N, T, 2] int32, in OpenCV's pixels with a fraction of _SUBPIXEL bits.
        visible: [N, t + 1] bool.
    """
    t = visible.shape[1] - 1
    begin = max(t - trail, 0)
    if begin == t:
        return
    lines = canvas.copy()
    both = visible[:, begin:t] & visible[:, begin + 1 :]
    for n in np.flatnonzero(visible[:, t]):
        for step in begin + np.flatnonzero(both[n]):
            start, end = points[n, step : step + 2].tolist()
            cv2.line(lines, start, end, colors[n].tolist(), width, cv2.LINE_AA, _SUBPIXEL)
    cv2.addWeighted(lines, 0.7, canvas, 0.3, 0, dst=canvas)


def write_overlay(
    path: str | os.PathLike[str],
    frames: Iterable[np.ndarray | Frame],
    fps: float,
    tracks: Tracks,
    on_frame: Callable[[int], object] = lambda _: None,
) -> None:
    """Write a video of frames [H, W, 3] uint8 RGB with their points and trails.

    It plays at `fps` frames a second, or with the times of each `Frame`. It has a row or column more where a side is
    odd, as H.264 wants. `on_frame` is called with the number of frames drawn.
    """
    colors = track_colors(tracks)
    odd = ((0, tracks.height % 2), (0, tracks.width % 2), (0, 0))
    with VideoWriter(path, fps) as writer:
        for t, frame in enumerate(frames):
            image, time = (frame.image, frame.time) if isinstance(frame, Frame) else (frame, None)
            drawn = draw_tracks(image, tracks, t, colors, TRAIL)
            writer.write(np.pad(drawn, odd, mode="edge"), time)
            on_frame(t + 1)


def around_tracks(tracks: Tracks) -> tuple[slice, slice]:
    """Return the rows and columns around all valid labels with some margin, at least half the frame each way."""
    xy = tracks.xy[tracks.valid]
    if not len(xy):
        return slice(0, tracks.height), slice(0, tracks.width)
    bounds = []
    for axis, size in ((1, tracks.height), (0, tracks.width)):
        low, high = xy[:, axis].min(), xy[:, axis].max()
        half = min(size, max(1.2 * (high - low), size / 2)) / 2
        middle = min(max((low + high) / 2, half), size - half)
        bounds.append(slice(round(middle - half), round(middle + half)))
    return bounds[0], bounds[1]


def contact_sheet(images: list[np.ndarray], columns: int = 4, width: int = 1920) -> np.ndarray:
    """Return pictures side by side on one sheet about `width` pixels wide, [H, W, 3] uint8 RGB.

    Raises:
        ValueError: there is no picture.
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
