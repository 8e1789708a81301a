"""How right labels are on real videos, by three witnesses that know nothing of bodies.

Two synchronized cameras watch one person; each view is labeled by itself.

- **Two views**: the rays through the two labels of one surface point must meet (`two_views`).
- **Skin markers**: labels must go where a marker next to them goes (`markers`).
- **Masks**: labels must lie on somebody, as another network sees it (`masks`).

Clips are labeled whole, not in pieces of `clips.clip_frames`, so that lags of 48 frames exist; nothing else
differs from `anthrotap label`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice, product
from pathlib import Path
from typing import Any
from unittest import mock

import cv2
import numpy as np
from rich.table import Table

from anthrotap_builder import pipeline
from anthrotap_builder.bodies import load_body
from anthrotap_builder.config import LabelingConfig
from anthrotap_hf.video import iter_frames, probe
from benchmarks.label_accuracy.measure import (
    LAGS,
    MIN_CASES,
    PARTS,
    QUERY_EVERY,
    THRESHOLDS,
    part_of_face,
)
from benchmarks.real_footage.markers import MarkerTracks, follow_markers
from benchmarks.real_footage.masks import person_probability
from benchmarks.real_footage.two_views import CalibratedCamera, Meeting, aim, meet, read_qca

CALIBRATION = "balance_cameras.qca.txt"
# The second view is as its camera gave it, 1088x1920. The first is 1080 wide: the camera's picture scaled to 1080x1906
# between black bars. Registered to Pose2Sim's full-size still of that camera (710 matches) it is off by 0.05 pixel.
VIEWS = {"balance_cam01.mp4": "cam01", "balance_cam03.mp4": "cam03"}  # video: its camera's name
MASK_VIDEOS = ("juggle.mp4", "upper_body.mkv", "bedroom.mp4")  # besides the two views
MASK_FRAMES = 48  # of each of those

# Things that stand still, in full-size raster pixels of the two views: the treadmill's white dots (found to 0.1
# pixel as blobs), its four bolts and the rims of its two posts (by eye, to about a pixel).
SCENE_POINTS = {
    "dot, left back": ((518.7, 1064.7), (486.1, 1432.4)),
    "dot, right back": ((766.6, 1290.7), (165.1, 1240.9)),
    "dot, left front": ((109.6, 1060.7), (874.3, 1234.5)),
    "dot, right front": ((317.8, 1335.4), (517.0, 1091.6)),
    "bolt, left back": ((511.4, 1035.0), (520.6, 1501.4)),
    "bolt, right back": ((786.4, 1278.4), (142.0, 1269.0)),
    "bolt, left front": ((66.0, 1058.0), (912.0, 1228.6)),
    "bolt, right front": ((279.0, 1360.0), (532.6, 1077.0)),
    "post, back": ((947.4, 1424.0), (61.0, 1058.4)),
    "post, front": ((668.4, 1519.4), (260.4, 969.4)),
}
OFFSETS = range(-3, 4)  # frames by which one view is tried against the other
NEAR = (4.0, 8.0)  # pixels of a 256x256 frame between a label and the marker that judges it
JUDGED = ("labels", "mesh")
NEIGHBORS = 8  # surface points that tell how the skin around a marker turns
NEIGHBOR_REACH = 16.0  # pixels of a 256x256 frame: a farther one is elsewhere on the body
ON_PERSON = 14  # full-size pixels: holes between surface points that are closed, to say where markers may be
ALMOST_INSIDE = 2.0  # pixels of a 256x256 frame: so far outside a mask a label still counts as near it
MOVED = 8.0  # pixels of a 256x256 frame: labels moved so far are the control of the masks


@dataclass(frozen=True)
class View:
    """A video's labels by person and surface point, those that are refused too.

    Attributes:
        path: the video.
        width, height: full size, which `xy` refers to.
        frames: [T, h, w, 3] uint8 RGB, as labeled.
        xy: [P, K, T, 2] float64, where the mesh puts each surface point, full-size raster pixels.
        visible: [P, K, T] bool, whether the meshes leave it visible.
        seen: [P, K, T] bool, whether it is a seen label of a track that is given out.
        part: [K] int, index into `measure.PARTS` of the body part that each surface point is on.
    """

    path: Path
    width: int
    height: int
    frames: np.ndarray
    xy: np.ndarray
    visible: np.ndarray
    seen: np.ndarray
    part: np.ndarray

    @property
    def to_256(self) -> np.ndarray:
        """[2] float64, from full-size pixels to those of a frame scaled to 256x256."""
        return np.array([256 / self.width, 256 / self.height])


def evaluate_real_truth(
    folder: str | Path,
    config: LabelingConfig | None = None,
    threads: int = 2,
    on_step: Callable[[str], None] | None = None,
) -> dict[str, Any]:
    """Labels the real clips and holds the labels against what is known of them.

    Args:
        folder: where the clips and the calibration lie (`VIEWS`, `MASK_VIDEOS`, `CALIBRATION`).
        config: of the labeling; the open default when left out.
        threads: how many frames are worked on at once.
        on_step: is told what is being done.

    Returns:
        A dict that JSON can hold: `label_version`, `two_views` (see `judge_two_views`), `markers` by video (see
        `judge_by_markers`) and `masks` by video (see `judge_by_mask`).

    Raises:
        ValueError: if a file is missing or unusable; one line that names it.
        AssetError: if a network file is not to be had.
    """
    folder, config = Path(folder), config or LabelingConfig()
    say = on_step or (lambda _: None)
    missing = [name for name in (CALIBRATION, *VIEWS, *MASK_VIDEOS) if not (folder / name).is_file()]
    if missing:
        raise ValueError(
            f"{folder}: {', '.join(missing)} not found; name the folder of the real clips (its README says whence)"
        )
    calibration = read_qca(folder / CALIBRATION)
    cameras, views = [], []
    for name, camera in VIEWS.items():
        if camera not in calibration:
            raise ValueError(f"{folder / CALIBRATION}: has no camera {camera}, only {', '.join(calibration)}")
        say(f"labeling {name}")
        view = label_view(folder / name, config, threads)
        if not np.isfinite(view.xy).any():
            raise ValueError(
                f"{view.path}: nobody was found, so there is nothing to compare between the views"
            )
        views.append(view)
        cameras.append(calibration[camera].fitted_into(view.width, view.height))
    if len({view.xy.shape[2] for view in views}) > 1:
        raise ValueError(
            f"{folder}: {' and '.join(VIEWS)} differ in their number of frames, so are not in step"
        )
    say("two views")
    two_views = judge_two_views(views[0], views[1], cameras[0], cameras[1])

    markers, masks = {}, {}
    for view, person in zip(views, two_views["people"], strict=True):
        say(f"markers of {view.path.name}")
        found = markers_of(view, person)
        markers[view.path.name] = judge_by_markers(view, person, found)
        say(f"mask of {view.path.name}")
        masks[view.path.name] = judge_by_mask(view, threads, found)
    for name in MASK_VIDEOS:
        say(f"labels and mask of {name}")
        masks[name] = judge_by_mask(label_view(folder / name, config, threads, MASK_FRAMES), threads)
    return {
        "label_version": config.version(),
        "two_views": two_views,
        "markers": markers,
        "masks": masks,
    }


def label_view(path: Path, config: LabelingConfig, threads: int, num_frames: int | None = None) -> View:
    """Labels the first `num_frames` frames of a video (all when left out) as one clip.

    Raises VideoError, a ValueError, if the video cannot be read.
    """
    info = probe(path)
    if info.fps is None:
        raise ValueError(f"{path}: says nothing of its frame rate; re-encode it with one")
    frames = np.stack(
        [frame.image for frame in islice(iter_frames(path, config.clips.short_side), num_frames)]
    )
    # No track is dropped for being visible too seldom, so that each surface point keeps its row.
    with mock.patch.object(pipeline, "MIN_VISIBLE_FRAMES", 0):
        tracks = pipeline.label_clip(frames, info.fps, config, threads).tracks
    shape = (len(tracks) // config.points, config.points, len(frames))
    seen = tracks.visible & (tracks.visible.sum(1) >= pipeline.MIN_VISIBLE_FRAMES)[:, None]
    scale = np.array([info.width / tracks.width, info.height / tracks.height])
    xy = (tracks.xy.astype(np.float64) * scale).reshape(*shape, 2)
    visible = tracks.visible.reshape(shape) & np.isfinite(xy[..., 0])
    surface = load_body(config.body).surface_points(config.points, config.seed)
    part = part_of_face()[surface.face]
    return View(path, info.width, info.height, frames, xy, visible, seen.reshape(shape), part)


def judge_two_views(
    first: View,
    second: View,
    first_camera: CalibratedCamera,
    second_camera: CalibratedCamera,
    lags: Sequence[int] = LAGS,
    scene_points: Mapping[str, tuple[tuple[float, float], tuple[float, float]]] = SCENE_POINTS,
) -> dict[str, Any]:
    """Whether the rays of the two views' labels meet.

    Args:
        first, second: what is labeled, in step.
        first_camera, second_camera: their cameras, for frames of full size.
        lags: frames over which the gap's change is judged.
        scene_points: places in both views of things that stand still, to aim the first camera by.

    Returns:
        scene: gaps, millimeters, at the `scene_points`: `as_shipped`; `aimed`, after `aim`; `held_out`,
            each point with the aim of all others; and the `shift` of the first camera's principal point, pixels.
        pairs: median gap over all surface points for each pair of people "first, second", millimeters.
        people: the pair that agrees, which all else is about.
        offsets: median gap with the second view so many frames later; least at 0 if the views are in step.
        seen, all: for points seen in both views, and for all of the mesh: `count` of labels, of how many surface
            `points`, and, as `median` and `p90`,
            gap_mm: between the two rays;
            px: distance of the triangulated point from the label, mean of the views, full-size pixels;
            px_256: the same for a short side of 256.
            lags: by lag, how much the gap changes: `count`, `points`, slide_mm, and each view's half of it as slide_px
                and slide_px_256.
    """
    points = np.array(list(scene_points.values()))
    shipped = meet(first_camera, second_camera, points[:, 0], points[:, 1]).signed
    aimed = aim(first_camera, second_camera, points[:, 0], points[:, 1])
    held_out = []
    for index in range(len(points)):
        others = np.delete(points, index, axis=0)
        blind = aim(first_camera, second_camera, others[:, 0], others[:, 1])
        held_out.append(meet(blind, second_camera, points[index, 0], points[index, 1]).signed)
    scene = {
        "as_shipped": dict(zip(scene_points, np.round(shipped, 1).tolist(), strict=True)),
        "aimed": dict(
            zip(
                scene_points,
                np.round(meet(aimed, second_camera, points[:, 0], points[:, 1]).signed, 1).tolist(),
                strict=True,
            )
        ),
        "held_out": dict(zip(scene_points, np.round(held_out, 1).tolist(), strict=True)),
        "shift": (aimed.principal - first_camera.principal).round(2).tolist(),
    }
    gaps = {
        (i, j): float(np.nanmedian(np.abs(meet(aimed, second_camera, first.xy[i], second.xy[j]).signed)))
        for i, j in product(range(len(first.xy)), range(len(second.xy)))
    }
    one, other = min(
        gaps, key=lambda pair: np.nan_to_num(gaps[pair], nan=np.inf)
    )  # NaN: never there together
    a, b = first.xy[one], second.xy[other]
    frames = np.arange(a.shape[1])
    offsets = {}
    for offset in OFFSETS:
        t = frames[(frames + offset >= 0) & (frames + offset < len(frames))]
        meeting = meet(aimed, second_camera, a[:, t], b[:, t + offset])
        offsets[str(offset)] = float(np.nanmedian(np.abs(meeting.signed)))
    meeting = meet(aimed, second_camera, a, b)
    cameras, sizes = (aimed, second_camera), [min(v.width, v.height) for v in (first, second)]
    anywhere = np.isfinite(meeting.signed)
    both = first.visible[one] & second.visible[other] & anywhere
    return {
        "scene": scene,
        "pairs": {f"{i}, {j}": gap for (i, j), gap in gaps.items()},
        "people": [one, other],
        "offsets": offsets,
        "seen": _gap_figures(meeting, both, cameras, sizes, lags),
        "all": _gap_figures(meeting, anywhere, cameras, sizes, lags),
    }


def _gap_figures(
    meeting: Meeting,
    chosen: np.ndarray,
    cameras: tuple[CalibratedCamera, CalibratedCamera],
    sizes: Sequence[int],
    lags: Sequence[int],
) -> dict[str, Any]:
    to_256 = 256 / np.array(sizes)
    # A millimeter across the line of sight in pixels of each view; half the gap is each view's.
    depth = np.stack([np.linalg.norm(meeting.points - camera.center, axis=-1) for camera in cameras], axis=-1)
    half = np.array([camera.focal.mean() for camera in cameras]) / depth / 2
    out: dict[str, Any] = {
        "count": int(chosen.sum()),
        "points": int(chosen.any(1).sum()),
        "gap_mm": _spread(np.abs(meeting.signed[chosen])),
        "px": _spread(meeting.pixels[chosen].mean(-1)),
        "px_256": _spread((meeting.pixels[chosen] * to_256).mean(-1)),
        "lags": {},
    }
    for lag in lags:
        kept = chosen[:, lag:] & chosen[:, :-lag]
        slide = np.abs(meeting.signed[:, lag:] - meeting.signed[:, :-lag])[kept]
        out["lags"][str(lag)] = {
            "count": int(kept.sum()),
            "points": int(kept.any(1).sum()),
            "slide_mm": _spread(slide),
            "slide_px": _spread(slide * half[:, lag:][kept].mean(-1)),
            "slide_px_256": _spread(slide * (half[:, lag:][kept] * to_256).mean(-1)),
        }
    return out


def markers_of(view: View, person: int) -> MarkerTracks:
    """The markers on one person, in full-size raster pixels; looked for in the full-size video."""
    xy, visible = view.xy[person], view.visible[person]
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


def judge_by_markers(
    view: View, person: int, markers: MarkerTracks, lags: Sequence[int] = LAGS
) -> dict[str, Any]:
    """Whether labels of a person go where the markers next to them go.

    Every `QUERY_EVERY` frames each label seen near a marker, on the same part of the body (a hand may pass before a
    thigh), is a query. At the lag, where the label is still seen and the marker still followed, the error is how much
    the offset from marker to label has changed, in pixels of a 256x256 frame. As the skin turns and comes nearer, so
    does an offset: `turned` takes that off, by the similarity that takes the `NEIGHBORS` mesh points of that part
    around the query to where the mesh has them at the lag. (It is the mesh's own word; but it multiplies offsets of
    a few pixels, and where mesh and skin slide together it changes nothing of the slide.)

    Returns:
        num_markers: tracks; `at_once`: median number in a frame; `frames`: marker positions in all.
        labels, mesh: of seen labels, and of whatever the mesh leaves visible, before any check of the labels;
            by radius of `NEAR`, by lag:
            as_is, turned: `within` by threshold, average_delta, median_error;
            count: how many are judged, by how many `markers`;
            survival: share of queries still given at the lag, where the marker is still followed;
            still_average_delta: what labels that never move would get.
    """
    followed = np.isfinite(markers.xy[..., 0])
    same_part = [view.part == _part_under(view, person, track) for track in markers.xy]
    out: dict[str, Any] = {
        "num_markers": len(markers),
        "at_once": float(np.median(followed.sum(0))),
        "frames": int(followed.sum()),
        **{judged: {f"{radius:g}": {} for radius in NEAR} for judged in JUDGED},
    }
    for judged, radius, lag in product(JUDGED, NEAR, lags):
        given = view.seen[person] if judged == "labels" else view.visible[person]
        cases = [
            (m, _beside_marker(view, person, given, same_part[m], markers.xy[m], t, lag, radius))
            for m, t in product(range(len(markers)), range(0, followed.shape[1] - lag, QUERY_EVERY))
            if followed[m, t] and followed[m, t + lag]
        ]
        table = np.concatenate([np.zeros((0, 4)), *(case for _, case in cases)])
        kept = table[:, 0] > 0
        out[judged][f"{radius:g}"][str(lag)] = {
            "count": int(kept.sum()),
            "markers": len({m for m, case in cases if case[:, 0].any()}),
            "survival": _share(kept),
            "as_is": _error_figures(table[kept, 1]),
            "turned": _error_figures(table[kept, 2]),
            "still_average_delta": _error_figures(table[kept, 3])["average_delta"],
        }
    return out


def _part_under(view: View, person: int, marker: np.ndarray) -> int:
    """The body part that a marker [T, 2] sits on: the one most often nearest; -1 if the person is never there."""
    parts = []
    for t in np.flatnonzero(np.isfinite(marker[:, 0])):
        there = np.flatnonzero(view.visible[person][:, t])
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
    visible = view.visible[person] & same_part[:, None]
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


def judge_by_mask(view: View, threads: int = 2, markers: MarkerTracks | None = None) -> dict[str, Any]:
    """Share of seen labels that lie on somebody, as `masks.person_probability` sees it, in percent.

    Returns:
        inside: of seen labels, those on a pixel more probably a person's than not; `almost`: or so near to one
            (`ALMOST_INSIDE`); `count` of labels.
        mesh: the same as `inside` for whatever the mesh leaves visible in the frame, before any check of the labels.
        moved: the control: `inside` for the labels moved by `MOVED` in eight directions.
        parts: `inside` by body part; where the mask misses a part of the body, this shows it.
        markers: share of marker positions inside the mask: what the mask misses of what is surely on the body,
            much of it near contours; None without markers.
    """
    height, width = view.frames.shape[1:3]
    to_labeled = np.array([width / view.width, height / view.height])
    probability = np.zeros(view.frames.shape[:3], np.float32)
    for xy in view.xy * to_labeled:
        probability = np.maximum(probability, person_probability(view.frames, _boxes(xy), threads))
    mask = probability > 0.5
    unit = min(height, width) / 256
    reach = 2 * round(ALMOST_INSIDE * unit) + 1
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (reach, reach))
    almost = np.stack([cv2.dilate(m, disc) for m in mask.astype(np.uint8)]).astype(bool)

    labels, frame = view.xy[view.seen] * to_labeled, np.nonzero(view.seen)[2]
    with np.errstate(invalid="ignore"):
        unchecked = view.visible & ((view.xy >= 0) & (view.xy < [view.width, view.height])).all(-1)
    mesh, mesh_frame = view.xy[unchecked] * to_labeled, np.nonzero(unchecked)[2]
    circle = np.linspace(0, 2 * np.pi, 8, endpoint=False)
    moves = MOVED * unit * np.stack([np.cos(circle), np.sin(circle)], axis=1)
    part = np.broadcast_to(view.part[:, None], view.seen.shape)[view.seen]
    inside = _inside(mask, labels, frame)
    on_markers = None
    if markers is not None:
        followed = np.isfinite(markers.xy[..., 0])
        on_markers = _share(_inside(mask, markers.xy[followed] * to_labeled, np.nonzero(followed)[1]))
    return {
        "count": len(labels),
        "inside": _share(inside),
        "almost": _share(_inside(almost, labels, frame)),
        "mesh": _share(_inside(mask, mesh, mesh_frame)),
        "moved": _share(np.concatenate([_inside(mask, labels + move, frame) for move in moves])),
        "parts": {
            name: {"inside": _share(inside[part == number]), "count": int((part == number).sum())}
            for number, name in enumerate(PARTS)
        },
        "markers": on_markers,
    }


def _boxes(xy: np.ndarray) -> np.ndarray:
    """[T, 4]: left, top, right, bottom of points [K, T, 2]; NaN where they are."""
    return np.concatenate([xy.min(0), xy.max(0)], axis=1)


def _inside(mask: np.ndarray, xy: np.ndarray, frame: np.ndarray) -> np.ndarray:
    """[M] bool: which points [M, 2] of frames [M] lie in masks [T, H, W]; those out of frame do not."""
    height, width = mask.shape[1:]
    column, row = np.floor(xy).astype(int).T
    there = (column >= 0) & (row >= 0) & (column < width) & (row < height)
    out = np.zeros(len(xy), bool)
    out[there] = mask[frame[there], row[there], column[there]]
    return out


def real_truth_tables(result: Mapping[str, Any]) -> list[Table]:
    """What `evaluate_real_truth` found, for the console."""
    return [
        _scene_table(result["two_views"]),
        _two_views_table(result["two_views"]),
        _markers_table(result["markers"]),
        _masks_table(result["masks"]),
        _parts_table(result["masks"]),
    ]


def _scene_table(figures: Mapping[str, Any]) -> Table:
    scene = figures["scene"]
    table = Table(title="Calibration: gaps between rays at things that stand still, mm", title_justify="left")
    for name in ("", "as shipped", "aimed", "held out"):
        table.add_column(name, justify="right" if name else "left")
    for name in scene["as_shipped"]:
        table.add_row(name, *(f"{scene[kind][name]:.1f}" for kind in ("as_shipped", "aimed", "held_out")))
    rms = [np.sqrt(np.mean(np.square(list(scene[k].values())))) for k in ("as_shipped", "aimed", "held_out")]
    table.add_row("root mean square", *(f"{value:.1f}" for value in rms))
    x, y = scene["shift"]
    table.caption = (
        f"aimed: the first camera's principal point is moved by ({x:.1f}, {y:.1f}) pixels; labels have no say"
    )
    return table


def _two_views_table(figures: Mapping[str, Any]) -> Table:
    table = Table(title="Two views: labels of one surface point in both", title_justify="left")
    for name in ("", "lag", "labels", "points", "mm\nmedian", "\np90"):
        table.add_column(name, justify="right" if name else "left")
    for name in ("px\nmedian", "\np90", "px at 256\nmedian", "\np90"):
        table.add_column(name, justify="right")
    for key, name in (("seen", "seen in both"), ("all", "whole mesh")):
        own = figures[key]
        row = [f"gap, {name}", "", str(own["count"]), str(own["points"])]
        for quantity in ("gap_mm", "px", "px_256"):
            row += [_plain(own[quantity][kind]) for kind in ("median", "p90")]
        table.add_row(*row)
        for lag, slide in own["lags"].items():
            row = [f"slide, {name}", lag, str(slide["count"]), str(slide["points"])]
            for quantity in ("slide_mm", "slide_px", "slide_px_256"):
                row += [_plain(slide[quantity][kind]) for kind in ("median", "p90")]
            table.add_row(*row)
        table.add_section()
    pairs = "; ".join(f"persons {pair}: {gap:.0f} mm" for pair, gap in figures["pairs"].items())
    offsets = ", ".join(f"{offset}: {gap:.1f}" for offset, gap in figures["offsets"].items())
    table.caption = (
        f"median gap of {pairs}; of the mesh with the views so many frames out of step, mm: {offsets}"
    )
    return table


def _markers_table(results: Mapping[str, Mapping[str, Any]]) -> Table:
    table = Table(title="Skin markers: do labels next to one go where it goes?", title_justify="left")
    for name in ("", "markers\n(at once)", "within\npx at 256", "lag", "labels", "of\nmarkers", "kept"):
        table.add_column(name, justify="right" if name else "left")
    for kind in ("as is", "turned"):
        table.add_column(f"{kind}\ndelta", justify="right")
        for limit in THRESHOLDS:
            table.add_column(f"\n<{limit}", justify="right")
        table.add_column("\nmedian px", justify="right")
    table.add_column("standing\nstill", justify="right")
    for name, result in results.items():
        for judged, radius in (("labels", NEAR[0]), ("labels", NEAR[1]), ("mesh", NEAR[1])):
            for lag, figures in result[judged][f"{radius:g}"].items():
                row = [
                    f"{name}, {judged}",
                    f"{result['num_markers']} ({result['at_once']:.0f})",
                    f"{radius:g}",
                ]
                row += [lag, str(figures["count"]), str(figures["markers"]), _plain(figures["survival"], 0)]
                for kind in ("as_is", "turned"):
                    error = figures[kind]
                    row += [_plain(error["average_delta"]), *(_plain(v, 0) for v in error["within"].values())]
                    row.append(_plain(error["median_error"], 2))
                table.add_row(*row, _plain(figures["still_average_delta"]))
            table.add_section()
    table.caption = (
        "shares in percent; turned: offsets turned with the mesh; standing still: what unmoved labels get; "
        "mesh: whatever it leaves visible, unchecked"
    )
    return table


def _masks_table(results: Mapping[str, Mapping[str, Any]]) -> Table:
    table = Table(title="Masks by another network (selfie segmentation)", title_justify="left")
    headings = (
        "",
        "labels",
        "inside",
        f"or within\n{ALMOST_INSIDE:g} px",
        "mesh\nunchecked",
        "moved\n8 px",
        "markers",
    )
    for name in headings:
        table.add_column(name, justify="right" if name else "left")
    for name, figures in results.items():
        shares = (figures[key] for key in ("inside", "almost", "mesh", "moved", "markers"))
        table.add_row(name, str(figures["count"]), *(_plain(share) for share in shares))
    table.caption = (
        "percent of seen labels; markers are on the body for sure, so they show what the mask misses"
    )
    return table


def _parts_table(results: Mapping[str, Mapping[str, Any]]) -> Table:
    table = Table("", title="Inside the mask by body part, % (labels)", title_justify="left")
    for part in PARTS:
        table.add_column(part, justify="right")
    for name, figures in results.items():
        own = figures["parts"].values()
        table.add_row(name, *(f"{_plain(part['inside'])} ({part['count']})" for part in own))
    return table


def _plain(value: float | None, digits: int = 1) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def _error_figures(error: np.ndarray) -> dict[str, Any]:
    error = error[np.isfinite(error)]
    within = {str(limit): _share(error < limit) for limit in THRESHOLDS}
    known = [share for share in within.values() if share is not None]
    return {
        "within": within,
        "average_delta": float(np.mean(known)) if known else None,
        "median_error": float(np.median(error)) if len(error) >= MIN_CASES else None,
    }


def _spread(values: np.ndarray) -> dict[str, float | None]:
    if len(values) < MIN_CASES:
        return {"median": None, "p90": None}
    return {"median": float(np.median(values)), "p90": float(np.percentile(values, 90))}


def _share(cases: np.ndarray) -> float | None:
    return float(100 * cases.mean()) if len(cases) >= MIN_CASES else None
