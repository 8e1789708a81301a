"""Markers on the skin, tracked by template matching: a reference for labels nearby that uses no body model.

A marker is a small bright ball glued to the skin. It is found as a round blob and followed by normalized
cross-correlation with the patch around it where it was found. Where its appearance has changed, a new patch is
cut, centered on the blob: so errors do not add up, and a track that holds is as right on its last frame as on its
first. One that does not hold is cut off by rule: at a low correlation, where the way back from the next frame ends
elsewhere, and where the template does not sit on a blob any more.

The image is the darkest of the three colors: skin has little blue, gray and white balls have as much of
it as of red.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import cv2
import numpy as np

from anthrotap_hf.video import iter_frames
from benchmarks.label_accuracy.measure import LAGS, MIN_CASES, QUERY_EVERY, THRESHOLDS, percentage
from benchmarks.real_footage.views import View

# Pixels of a 256x256 frame between a label and the marker that it is compared with, at most.
NEAR = (4.0, 8.0)
COMPARED = ("labels", "mesh")
# Surface points that show how the skin around a marker turns, and how far from it they may be (pixels of a 256x256
# frame).
NEIGHBORS = 8
NEIGHBOR_REACH = 16.0
# Full-size pixels: holes between surface points that are closed to find where markers may be.
ON_PERSON = 14
SAME_MARKER = 6.0  # pixels: markers of this size are never glued nearer


@dataclass(frozen=True)
class MarkerSettings:
    """How markers are found and followed. Pixels are those of the pictures at hand (here: a person 900 tall).

    Attributes:
        sigma: size of the blob filter; a disc of radius 1.4 sigma answers most.
        min_response: blob response that makes a marker, gray levels.
        roundness: smaller over larger curvature of a blob, at least; edges and hairs are long.
        rim: radius of the circle around a marker that must be darker all around: a gap between arm and trunk is not.
        min_contrast: by so much, gray levels; of the circle the brightest tenth is forgiven.
        max_saturation: of a marker's color, (max - min) / max; it is gray, and rather reddish (skin) than blue.
        patch: half side of the template.
        search: a marker may differ from its steady motion by so much in a frame.
        min_score: normalized cross-correlation with the first patch, at least.
        round_trip: going to the next frame and coming back may err by so much.
        min_kept: fraction of the first blob response that must remain.
        max_off_blob: farthest that the template may sit from its blob.
        find_every: frames between two searches for new markers.
        min_frames: shorter tracks are dropped.
        min_motion: tracks that are so near to their median position for three quarters of the time are dropped: they
            are in the background, which an occluder's edge may drag along a little.
    """

    sigma: float = 3.0
    min_response: float = 9.0
    roundness: float = 0.4
    rim: float = 7.5
    min_contrast: float = 17.0
    max_saturation: float = 0.32
    patch: int = 7
    search: int = 10
    min_score: float = 0.75
    round_trip: float = 1.2
    min_kept: float = 0.4
    max_off_blob: float = 2.0
    find_every: int = 8
    min_frames: int = 9
    min_motion: float = 3.0


@dataclass(frozen=True)
class MarkerTracks:
    """Markers over a clip.

    Attributes:
        xy: [M, T, 2] float64, raster pixels; NaN where not followed.
        found: [M] int64, the frame that each one's template is from.
    """

    xy: np.ndarray
    found: np.ndarray

    def __len__(self) -> int:
        return len(self.found)


def follow_markers(frames: np.ndarray, allowed: np.ndarray, settings: MarkerSettings | None = None) -> MarkerTracks:
    """Finds and follows markers, each of them once at a time.

    Args:
        frames: [T, H, W, 3] uint8 RGB.
        allowed: [T, H, W] bool, where a marker may be *found*: on the person. Following does not ask.
        settings: thresholds.

    Raises:
        ValueError: if the shapes disagree or `frames` is not uint8 RGB.
    """
    settings = settings or MarkerSettings()
    if frames.ndim != 4 or frames.shape[3] != 3 or frames.dtype != np.uint8:
        raise ValueError(f"frames must be [T, H, W, 3] uint8, got {frames.shape} {frames.dtype}")
    if allowed.shape != frames.shape[:3]:
        raise ValueError(f"allowed must be {frames.shape[:3]} as the frames are, got {allowed.shape}")
    pictures = frames.min(axis=3)
    blobs = [_blob_response(picture, settings.sigma) for picture in pictures]
    tracks: list[np.ndarray] = []
    found: list[int] = []
    for t in range(0, len(frames), settings.find_every):
        for xy in find_blobs(blobs[t], allowed[t], settings):
            if not _looks_like_marker(frames[t], xy, settings):
                continue
            if _taken(xy[None], [track[t : t + 1] for track in tracks]):
                continue
            track = _follow(pictures, blobs, t, xy, settings)
            if _is_useful(track, settings) and not _taken(track, tracks):
                tracks.append(track)
                found.append(t)
    xy = np.stack(tracks) if tracks else np.zeros((0, len(frames), 2))
    return MarkerTracks(xy, np.array(found, np.int64))


def find_blobs(response: np.ndarray, allowed: np.ndarray, settings: MarkerSettings) -> np.ndarray:
    """[M, 2] float64 raster pixels of round blobs, the strongest first.

    Args:
        response: [H, W] float32, of the blob filter.
        allowed: [H, W] bool.
        settings: thresholds.
    """
    reach = round(2 * settings.sigma)
    peak = response == cv2.dilate(response, np.ones((2 * reach + 1, 2 * reach + 1), np.uint8))
    rows, columns = np.nonzero(peak & allowed & (response >= settings.min_response))
    height, width = response.shape
    inside = (
        (rows > settings.patch)
        & (rows < height - settings.patch - 1)
        & (columns > settings.patch)
        & (columns < width - settings.patch - 1)
    )
    rows, columns = rows[inside], columns[inside]
    xx = response[rows, columns - 1] - 2 * response[rows, columns] + response[rows, columns + 1]
    yy = response[rows - 1, columns] - 2 * response[rows, columns] + response[rows + 1, columns]
    xy = (
        response[rows + 1, columns + 1]
        + response[rows - 1, columns - 1]
        - response[rows + 1, columns - 1]
        - response[rows - 1, columns + 1]
    ) / 4
    middle, spread = (xx + yy) / 2, np.hypot((xx - yy) / 2, xy)
    with np.errstate(divide="ignore", invalid="ignore"):
        round_enough = (middle + spread) / (middle - spread) >= settings.roundness
    rows, columns = rows[round_enough], columns[round_enough]
    order = np.argsort(-response[rows, columns], kind="stable")
    return np.array(
        [_peak(response, row, column) for row, column in zip(rows[order], columns[order], strict=True)]
    ).reshape(-1, 2)


def _follow(
    pictures: np.ndarray, blobs: list[np.ndarray], start: int, xy: np.ndarray, settings: MarkerSettings
) -> np.ndarray:
    """[T, 2]: one marker, forwards and backwards from where it was found."""
    track = np.full((len(pictures), 2), np.nan)
    first = _blob_near(blobs[start], xy, settings.max_off_blob)
    if first is None or _patch(pictures[start], xy, settings.patch) is None:
        return track
    track[start] = xy
    for step in (1, -1):
        template = _patch(pictures[start], xy, settings.patch)
        position, motion, blob = xy, np.zeros(2), first
        for t in range(start + step, len(pictures) if step > 0 else -1, step):
            match = _match(pictures[t], template, position + motion, settings.search)
            if match is None or match[1] < settings.min_score:
                # It has turned, or the background has changed: search again with its last appearance.
                template = _patch(pictures[t - step], blob[0], settings.patch)
                match = _match(pictures[t], template, position + motion, settings.search)
                if match is None or match[1] < settings.min_score:
                    break
            there = match[0]
            below = _blob_near(blobs[t], there, settings.max_off_blob)
            if below is None or below[1] < settings.min_kept * first[1]:
                break
            patch = _patch(pictures[t], there, settings.patch)
            back = _match(pictures[t - step], patch, there - motion, settings.search)
            if back is None or np.linalg.norm(back[0] - position) > settings.round_trip:
                break
            position, motion, blob = there, there - position, below
            track[t] = there
    return track


def _taken(track: np.ndarray, others: list[np.ndarray]) -> bool:
    """Whether a track [T, 2] comes, in any frame, so near to another that it must be the same marker."""
    return any((np.linalg.norm(track - other, axis=1) < SAME_MARKER).any() for other in others)


def _is_useful(track: np.ndarray, settings: MarkerSettings) -> bool:
    """Whether a track is long enough, and moves."""
    there = track[np.isfinite(track[:, 0])]
    return len(there) >= settings.min_frames and bool(
        np.percentile(np.linalg.norm(there - np.median(there, axis=0), axis=1), 75) >= settings.min_motion
    )


def _looks_like_marker(frame: np.ndarray, xy: np.ndarray, settings: MarkerSettings) -> bool:
    """Return whether a position of an RGB frame is gray, and brighter than the circle around it on every side."""
    angle = np.linspace(0, 2 * np.pi, 24, endpoint=False)
    circle = xy + settings.rim * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    columns, rows = np.floor(circle).astype(int).T
    height, width = frame.shape[:2]
    if rows.min() < 0 or columns.min() < 0 or rows.max() >= height or columns.max() >= width:
        return False
    column, row = np.floor(xy).astype(int)
    middle = frame[row - 1 : row + 2, column - 1 : column + 2].mean((0, 1))
    around = np.percentile(frame[rows, columns].min(axis=1), 90)
    gray = middle.max() - middle.min() <= settings.max_saturation * middle.max() and middle[0] >= middle[2]
    return bool(gray and middle.min() - around >= settings.min_contrast)


def _blob_response(picture: np.ndarray, sigma: float) -> np.ndarray:
    """[H, W] float32, gray levels: difference of Gaussians, which answers to bright discs."""
    floating = picture.astype(np.float32)
    return cv2.GaussianBlur(floating, None, sigma / 1.26) - cv2.GaussianBlur(floating, None, sigma * 1.6)


def _blob_near(response: np.ndarray, xy: np.ndarray, reach: float) -> tuple[np.ndarray, float] | None:
    """Find the top of the blob within `reach` of a position, raster xy, and its response; None if it is farther."""
    column, row = np.floor(xy).astype(int)
    radius = int(np.ceil(reach))
    top, left = row - radius - 1, column - radius - 1
    window = response[max(top, 0) : row + radius + 2, max(left, 0) : column + radius + 2]
    if top < 0 or left < 0 or window.shape != (2 * radius + 3, 2 * radius + 3):
        return None
    y, x = (int(i) for i in np.unravel_index(window.argmax(), window.shape))
    if not (0 < y < len(window) - 1 and 0 < x < len(window) - 1):
        return None
    where = _peak(window, y, x) + (left, top)
    return (where, float(window[y, x])) if np.linalg.norm(where - xy) <= reach else None


def _patch(picture: np.ndarray, xy: np.ndarray, half: int) -> np.ndarray | None:
    """[2 half + 1, 2 half + 1] float32 around a position, between pixels too; None at the border."""
    height, width = picture.shape
    if not (half < xy[0] - 0.5 < width - 1 - half and half < xy[1] - 0.5 < height - 1 - half):
        return None
    side = 2 * half + 1
    center = (float(xy[0] - 0.5), float(xy[1] - 0.5))  # OpenCV's first pixel center is (0, 0)
    return cv2.getRectSubPix(picture, (side, side), center, patchType=cv2.CV_32F)


def _match(
    picture: np.ndarray, template: np.ndarray | None, near: np.ndarray, search: int
) -> tuple[np.ndarray, float] | None:
    """Find where `template` fits best within `search` pixels of a position, and its correlation; None at the border."""
    if template is None:
        return None
    half = template.shape[0] // 2
    column, row = np.floor(near).astype(int)
    top, left = row - search - half, column - search - half
    bottom, right = row + search + half + 1, column + search + half + 1
    if top < 0 or left < 0 or bottom > picture.shape[0] or right > picture.shape[1]:
        return None
    window = picture[top:bottom, left:right].astype(np.float32)
    scores = cv2.matchTemplate(window, template, cv2.TM_CCOEFF_NORMED)
    y, x = np.unravel_index(scores.argmax(), scores.shape)
    if not (0 < y < scores.shape[0] - 1 and 0 < x < scores.shape[1] - 1):
        return None  # it may fit better beyond
    return _peak(scores, int(y), int(x)) + (left + half, top + half), float(scores[y, x])


def _peak(values: np.ndarray, row: int, column: int) -> np.ndarray:
    """[2] raster xy of the top of the parabolas through a peak and its neighbors."""

    def shift(before: float, at: float, after: float) -> float:
        bend = before - 2 * at + after
        return 0.5 * (before - after) / bend if bend < 0 else 0.0

    at = float(values[row, column])
    dx = shift(float(values[row, column - 1]), at, float(values[row, column + 1]))
    dy = shift(float(values[row - 1, column]), at, float(values[row + 1, column]))
    return np.array([column + 0.5 + dx, row + 0.5 + dy])


def markers_of(view: View, person: int) -> MarkerTracks:
    """The markers on one person, in full-size raster pixels; looked for in the full-size video."""
    xy, visible = view.xy[person], view.mesh_visible[person]
    low = np.floor(np.nanmin(xy, axis=(0, 1))).astype(int) - 4 * ON_PERSON
    high = np.ceil(np.nanmax(xy, axis=(0, 1))).astype(int) + 4 * ON_PERSON
    (left, top), (right, bottom) = np.maximum(low, 0), np.minimum(high, [view.width, view.height])
    frames = np.stack([frame.image[top:bottom, left:right] for frame in iter_frames(view.path)])
    close = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * ON_PERSON - 9, 2 * ON_PERSON - 9))
    allowed = np.zeros(frames.shape[:3], np.uint8)
    for t, picture in enumerate(allowed):
        for x, y in xy[visible[:, t], t] - (left, top):
            cv2.circle(picture, (int(x), int(y)), ON_PERSON, 1, -1)
        picture[:] = cv2.erode(picture, close)
    found = follow_markers(frames, allowed.astype(bool))
    return MarkerTracks(found.xy + (left, top), found.found)


def compare_with_markers(view: View, person: int, markers: MarkerTracks, lags: Sequence[int] = LAGS) -> dict[str, Any]:
    """Compare the motion of labels of a person with that of the markers next to them.

    Every `QUERY_EVERY` frames each label visible near a marker, on the same part of the body (a hand may pass before a
    thigh), is a query. At the lag, where the label is still visible and the marker still tracked, the error is how much
    the offset from marker to label has changed, in pixels of a 256x256 frame. As the skin turns and comes nearer, so
    does an offset: `turned` takes that off, by the similarity that takes the `NEIGHBORS` mesh points of that part
    around the query to where the mesh has them at the lag. (It is the mesh's own word; but it multiplies offsets of
    a few pixels, and where mesh and skin slide together it changes nothing of the slide.)

    Returns:
        num_markers: tracks; `at_once`: median number in a frame; `frames`: marker positions in all.
        labels, mesh: of visible labels, and of what the mesh leaves visible, before filtering;
            by radius of `NEAR`, by lag:
            as_is, turned: `within` by threshold, average_delta, median_error;
            count: how many are compared, with how many `markers`;
            survival: percentage of queries whose label is visible at the lag, where the marker is still tracked;
            still_average_delta: that of labels that never move.
    """
    followed = np.isfinite(markers.xy[..., 0])
    same_part = [view.part == _part_under(view, person, track) for track in markers.xy]
    out: dict[str, Any] = {
        "num_markers": len(markers),
        "at_once": float(np.median(followed.sum(0))),
        "frames": int(followed.sum()),
        **{compared: {f"{radius:g}": {} for radius in NEAR} for compared in COMPARED},
    }
    for compared, radius, lag in product(COMPARED, NEAR, lags):
        given = view.label_visible[person] if compared == "labels" else view.mesh_visible[person]
        cases = [
            (m, _beside_marker(view, person, given, same_part[m], markers.xy[m], t, lag, radius))
            for m, t in product(range(len(markers)), range(0, followed.shape[1] - lag, QUERY_EVERY))
            if followed[m, t] and followed[m, t + lag]
        ]
        table = np.concatenate([np.zeros((0, 4)), *(case for _, case in cases)])
        kept = table[:, 0] > 0
        out[compared][f"{radius:g}"][str(lag)] = {
            "count": int(kept.sum()),
            "markers": len({m for m, case in cases if case[:, 0].any()}),
            "survival": percentage(kept),
            "as_is": _error_figures(table[kept, 1]),
            "turned": _error_figures(table[kept, 2]),
            "still_average_delta": _error_figures(table[kept, 3])["average_delta"],
        }
    return out


def _part_under(view: View, person: int, marker: np.ndarray) -> int:
    """The body part that a marker [T, 2] sits on: the one most often nearest; -1 if the person is never there."""
    parts = []
    for t in np.flatnonzero(np.isfinite(marker[:, 0])):
        there = np.flatnonzero(view.mesh_visible[person][:, t])
        if len(there):
            nearest = np.linalg.norm(view.xy[person][there, t] - marker[t], axis=1).argmin()
            parts.append(view.part[there[nearest]])
    return int(np.bincount(parts).argmax()) if parts else -1


def _beside_marker(
    view: View,
    person: int,
    given: np.ndarray,
    same_part: np.ndarray,
    marker: np.ndarray,
    t: int,
    lag: int,
    radius: float,
) -> np.ndarray:
    """[L, 4] for each surface point `given` [K, T] near a marker [T, 2] at `t`, among those on its part of the body
    [K]: whether it is given at the lag too, and in pixels of a 256x256 frame the change of its offset from the
    marker, the same with the offset turned, and how far the marker went."""
    xy = view.xy[person]
    visible = view.mesh_visible[person] & same_part[:, None]
    offset = xy[:, t] - marker[t]
    near = np.linalg.norm(offset * view.to_256, axis=1) <= radius
    labels = np.flatnonzero(given[:, t] & same_part & near)
    rows = np.full((len(labels), 4), np.nan)
    for row, label in zip(rows, labels, strict=True):
        change = xy[label, t + lag] - marker[t + lag] - offset[label]
        distance = np.linalg.norm((xy[:, t] - xy[label, t]) * view.to_256, axis=1)
        around = np.argsort(np.where(visible[:, t], distance, np.inf))[: NEIGHBORS + 1]  # itself too
        around = around[visible[around, t] & (distance[around] <= NEIGHBOR_REACH)]
        turn = _similarity(xy[around, t], xy[around, t + lag])
        turned = xy[label, t + lag] - marker[t + lag] - turn @ offset[label]
        row[:] = (
            given[label, t + lag],
            np.linalg.norm(change * view.to_256),
            np.linalg.norm(turned * view.to_256),
            np.linalg.norm((marker[t + lag] - marker[t]) * view.to_256),
        )
    return rows


def _similarity(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """[2, 2]: the turn and growth that best take points [N, 2] to [N, 2], wherever they go; NaN for fewer than 3."""
    if len(before) < 3:
        return np.full((2, 2), np.nan)
    a, b = ((points - points.mean(0)) @ np.array([1, 1j]) for points in (before, after))
    turn = np.vdot(a, b) / np.vdot(a, a).real
    return np.array([[turn.real, -turn.imag], [turn.imag, turn.real]])


def _error_figures(error: np.ndarray) -> dict[str, Any]:
    error = error[np.isfinite(error)]
    within = {str(limit): percentage(error < limit) for limit in THRESHOLDS}
    known = [fraction for fraction in within.values() if fraction is not None]
    return {
        "within": within,
        "average_delta": float(np.mean(known)) if known else None,
        "median_error": float(np.median(error)) if len(error) >= MIN_CASES else None,
    }
