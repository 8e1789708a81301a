"""Trackers on what hides points: moving occluders, points that leave and come back, pans, fast limbs; with exact truth.

    python -m benchmarks.occlusion                                # the default tracker and the baselines
    python -m benchmarks.occlusion --model FOLDER --sheets /tmp/sheets

30 clips of 32 frames at 256x256, half a CPU-minute a tracker. They share nothing with any training clip but the way
that overlays are drawn. A point counts from its query, in frame 0, on; figures are percentages:

    off before    of the visible frames before a point is first hidden, those more than 8 pixels off
    lost after    of the visible frames after that, those more than 8 pixels off
    on occluder   of the hidden frames (occluded or out of frame), those called visible
    kept          of all visible frames, those called visible
    delta avg     TAP-Vid's, of all visible frames
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import skimage.data
from rich.console import Console
from rich.table import Table

from anthrotap_hf.evaluation.metrics import THRESHOLDS
from anthrotap_hf.pipelines import load_tracker
from anthrotap_hf.utils.atomic_files import atomic_write, write_json
from anthrotap_hf.visualization.overlay import contact_sheet
from benchmarks.synthetic.baselines import LucasKanade
from benchmarks.synthetic.objects import PHOTOS
from benchmarks.synthetic.overlays import Overlay, centered, passing, texture

FIRST_SEED = 330_000_000
SIDE, FRAMES, POINTS = 256, 32, 64
CLIPS_OF_KIND = 6
LOST = 8.0  # pixels
# Pixels between a query point and what hides it in frame 0, at least.
CLEAR = 3.0
MEASURES = ("off before", "lost after", "on occluder", "kept", "delta avg")


@dataclass(frozen=True)
class OcclusionClip:
    """Frames [T, H, W, 3] uint8, xy [N, T, 2] of points wherever they are, visible [N, T]; all are visible at first."""

    name: str
    frames: np.ndarray
    xy: np.ndarray
    visible: np.ndarray


@dataclass(frozen=True)
class Backdrop:
    """A picture larger than the frame, and where its left top corner is in each frame, [T, 2] pixels."""

    picture: np.ndarray
    corner: np.ndarray

    @classmethod
    def draw(cls, rng: np.random.Generator, shift: np.ndarray) -> Backdrop:
        """Draw a picture for a camera that is `shift` [T, 2] pixels from its start, with sensor noise later on."""
        margin = int(np.ceil(np.abs(shift).max())) + 8
        side = SIDE + 2 * margin
        if rng.random() < 0.5:
            picture = texture(rng, side, side)
        else:
            photo = getattr(skimage.data, str(rng.choice(PHOTOS)))()[..., :3]
            cut = min(photo.shape[:2])
            top, left = (int(rng.integers(size - cut + 1)) for size in photo.shape[:2])
            picture = cv2.resize(photo[top : top + cut, left : left + cut], (side, side), interpolation=cv2.INTER_AREA)
        return cls(picture, shift - margin)

    def frame(self, t: int) -> np.ndarray:
        x, y = self.corner[t]
        matrix = np.array([[1, 0, x], [0, 1, y]], float)
        return cv2.warpAffine(self.picture, matrix, (SIDE, SIDE), flags=cv2.INTER_LINEAR)

    def follow(self, points: np.ndarray) -> np.ndarray:
        """Return xy [N, T, 2] of points [N, 2] that lie on the picture in frame 0."""
        return points[:, None] + (self.corner - self.corner[0])


def _camera(rng: np.random.Generator, pace: float) -> np.ndarray:
    """Return shifts [T, 2] of a hand-held camera that goes `pace` pixels a frame in one direction."""
    t = np.arange(FRAMES)[:, None]
    angle = rng.uniform(0, 2 * np.pi)
    shake = rng.uniform(0, 1.5, 2) * np.sin(t * rng.uniform(0.2, 0.9, 2) + rng.uniform(0, 6, 2))
    return pace * t * [np.cos(angle), np.sin(angle)] + shake


def _bars(rng: np.random.Generator) -> tuple[Backdrop, list[Overlay]]:
    """Bars cross a still or slowly moving picture: 4 to 16 pixels a frame, 20 to 90 wide."""
    overlays = []
    for _ in range(int(rng.integers(1, 4))):
        width = int(rng.uniform(20, 90))
        picture = texture(rng, int(rng.uniform(0.6, 1.6) * SIDE), width)
        picture = np.dstack([picture, np.full(picture.shape[:2], 255, np.uint8)])
        direction, speed = rng.uniform(0, 2 * np.pi), rng.uniform(4, 16)
        ahead = np.array([np.cos(direction), np.sin(direction)])
        start = SIDE / 2 - ahead * rng.uniform(0.45, 0.75) * SIDE
        place = start + speed * np.arange(FRAMES)[:, None] * ahead
        overlays.append(Overlay(picture, centered(picture, place, np.full(FRAMES, direction))))
    return Backdrop.draw(rng, _camera(rng, float(rng.choice([0, 0, 0.7])))), overlays


def _pieces(rng: np.random.Generator) -> tuple[Backdrop, list[Overlay]]:
    """Pieces of any form cross, there and back."""
    overlays = [passing(rng, FRAMES, SIDE, SIDE) for _ in range(int(rng.integers(2, 5)))]
    return Backdrop.draw(rng, _camera(rng, float(rng.uniform(0, 1)))), overlays


def _exits(rng: np.random.Generator) -> tuple[Backdrop, list[Overlay]]:
    """The camera turns away by a quarter to three quarters of the frame, and back."""
    t = np.arange(FRAMES)[:, None] / (FRAMES - 1)
    reach = rng.uniform(0.25, 0.75) * SIDE
    angle = rng.choice([0, np.pi / 2, np.pi, 3 * np.pi / 2]) + rng.normal(0, 0.2)
    away = 0.5 - 0.5 * np.cos(2 * np.pi * t)
    return Backdrop.draw(rng, _camera(rng, 0) + reach * away * [np.cos(angle), np.sin(angle)]), []


def _pans(rng: np.random.Generator) -> tuple[Backdrop, list[Overlay]]:
    """A pan of 3 to 14 pixels a frame, without a way back, and at times something in front."""
    overlays = [passing(rng, FRAMES, SIDE, SIDE)] if rng.random() < 0.5 else []
    return Backdrop.draw(rng, _camera(rng, rng.uniform(3, 14))), overlays


def _limb(rng: np.random.Generator) -> tuple[Overlay, Overlay]:
    """Draw an arm of two parts that swings about a shoulder in the frame: the hand goes up to 25 pixels a frame."""
    t = np.arange(FRAMES)
    shoulder = rng.uniform(0.3, 0.7, 2) * SIDE + _camera(rng, 0)
    length, width = rng.uniform(45, 70, 2), rng.uniform(14, 26)
    rate, swing = rng.uniform(0.12, 0.28), rng.uniform(0.7, 1.3)
    upper = rng.uniform(0, 2 * np.pi) + swing * np.sin(rate * t + rng.uniform(0, 6))
    lower = upper + 0.7 + 0.7 * np.sin(rate * t + rng.uniform(0, 6))
    elbow = shoulder + length[0] * np.stack([np.cos(upper), np.sin(upper)], 1)
    parts = []
    for joint, angle, size in ((shoulder, upper, length[0]), (elbow, lower, length[1])):
        sides = int(width), int(size + width / 2)
        picture = np.dstack([texture(rng, *sides), np.zeros(sides, np.uint8)])
        picture[1:-1, 1:-1, 3] = 255
        place = joint + (size - width / 4) / 2 * np.stack([np.cos(angle), np.sin(angle)], 1)
        parts.append(Overlay(picture, centered(picture, place, angle)))
    return parts[0], parts[1]


KINDS: dict[str, Callable[[np.random.Generator], tuple[Backdrop, list[Overlay]]]] = {
    "bars": _bars,
    "pieces": _pieces,
    "exits": _exits,
    "pans": _pans,
}


def occlusion_clip(kind: str, number: int) -> OcclusionClip:
    """Make a clip of one of `KINDS` or "limbs"; the same for the same number."""
    rng = np.random.default_rng([FIRST_SEED, [*KINDS, "limbs"].index(kind), number])
    limbs: list[Overlay] = []
    if kind == "limbs":
        backdrop, overlays = Backdrop.draw(rng, _camera(rng, rng.uniform(0, 1))), []
        limbs = [part for _ in range(2) for part in _limb(rng)]
        if rng.random() < 0.5:
            overlays = [passing(rng, FRAMES, SIDE, SIDE)]
    else:
        backdrop, overlays = KINDS[kind](rng)
    # Candidates: points of the backdrop, and of each limb, that show in frame 0.
    layers = [*limbs, *overlays]
    points = rng.uniform(4, SIDE - 4, (40 * POINTS, 2))
    parts, shown = [], []
    for depth in range(-1, len(limbs)):
        front = layers[depth + 1 :]
        if depth < 0:
            xy = backdrop.follow(points)
        else:
            xy = _follow(limbs[depth], points)
        hidden = np.zeros(xy.shape[:2], bool)
        near = np.zeros(len(xy), bool)
        for layer in front:
            hidden |= layer.covers(xy)
            around = xy[:, :1] + CLEAR * np.array([[0, 0], [1, 0], [-1, 0], [0, 1], [0, -1]])[None]
            start = Overlay(layer.picture, layer.matrices[:1].repeat(5, 0))
            near |= start.covers(around).any(1)
        inside = np.asarray(((xy >= 0) & (xy < SIDE)).all(-1))
        good = np.flatnonzero(~near & inside[:, 0] & (_on(limbs[depth], points) if depth >= 0 else True))
        wanted = POINTS if not limbs else (POINTS // 4 if depth < 0 else 3 * POINTS // 4 // len(limbs))
        good = good[:wanted]
        parts.append(xy[good])
        shown.append((inside & ~hidden)[good])
    frames = []
    noise = rng.uniform(0, 3)
    for t in range(FRAMES):
        frame = backdrop.frame(t)
        for layer in layers:
            layer.paint(frame, t)
        frames.append(np.clip(frame + rng.normal(0, noise, frame.shape) + 0.5, 0, 255).astype(np.uint8))
    return OcclusionClip(f"{kind}-{number}", np.stack(frames), np.concatenate(parts), np.concatenate(shown))


def _follow(limb: Overlay, points: np.ndarray) -> np.ndarray:
    """Return xy [N, T, 2] of what a limb shows at points [N, 2] of frame 0."""
    first = np.linalg.inv(np.concatenate([limb.matrices[0], [[0, 0, 1]]]))
    own = points @ first[:2, :2].T + first[:2, 2]
    moved: np.ndarray = np.einsum("tij,nj->nti", limb.matrices[:, :, :2], own) + limb.matrices[:, :, 2]
    return moved


def _on(limb: Overlay, points: np.ndarray) -> np.ndarray:
    """Return whether points [N, 2] of frame 0 are well within a limb."""
    around = points[:, None] + 1.5 * np.array([[0, 0], [1, 0], [-1, 0], [0, 1], [0, -1]])
    return np.asarray(Overlay(limb.picture, limb.matrices[:1].repeat(5, 0)).covers(around).all(1))


def measure(clip: OcclusionClip, tracks: np.ndarray, visible: np.ndarray) -> dict[str, tuple[float, float]]:
    """Return for each of `MEASURES` a sum and a count; tracks [N, T, 2] and visible [N, T] are the tracker's."""
    error = np.linalg.norm(tracks - clip.xy, axis=-1)[:, 1:]
    shown, called = clip.visible[:, 1:], np.asarray(visible, bool)[:, 1:]
    after = np.maximum.accumulate(~shown, axis=1)
    within = np.mean([error < threshold for threshold in THRESHOLDS], axis=0)
    values = (
        (error > LOST, shown & ~after),
        (error > LOST, shown & after),
        (called, ~shown),
        (called, shown),
        (within, shown),
    )
    return {
        name: (float(value[where].sum()), float(where.sum()))
        for name, (value, where) in zip(MEASURES, values, strict=True)
    }


def run(tracker: Callable[..., dict[str, Any]], kinds: list[str], sheets: Path | None = None) -> dict[str, Any]:
    """Return the measures of a tracker for each kind and for all, in percent; None where nothing is counted."""
    out: dict[str, Any] = {}
    totals = {name: np.zeros(2) for name in MEASURES}
    for kind in kinds:
        sums = {name: np.zeros(2) for name in MEASURES}
        for number in range(CLIPS_OF_KIND):
            clip = occlusion_clip(kind, number)
            queries = np.concatenate([np.zeros((len(clip.xy), 1)), clip.xy[:, 0]], axis=1)
            found = tracker(clip.frames, points=queries)
            for name, value in measure(clip, np.asarray(found["tracks"]), found["visible"]).items():
                sums[name] += value
            if sheets is not None:
                _draw(sheets / f"{clip.name}.png", clip, found)
        out[kind] = {name: None if not total else 100 * value / total for name, (value, total) in sums.items()}
        for name in MEASURES:
            totals[name] += sums[name]
    out["all"] = {name: None if not total else 100 * value / total for name, (value, total) in totals.items()}
    return out


def _draw(path: Path, clip: OcclusionClip, found: dict[str, Any]) -> None:
    """Write a contact sheet: a point is green where right, red where off; a ring where it is called hidden."""
    images = []
    for t in np.linspace(0, FRAMES - 1, 8).round().astype(int):
        image = cv2.resize(clip.frames[t], None, fx=2, fy=2)
        for point, truth, shown, called in zip(
            found["tracks"][:, t], clip.xy[:, t], clip.visible[:, t], found["visible"][:, t], strict=True
        ):
            if not np.isfinite(point).all() or np.abs(point).max() > 10 * SIDE:
                continue
            color = (
                (40, 40, 255) if not shown else (0, 230, 0) if np.linalg.norm(point - truth) <= LOST else (255, 0, 0)
            )
            cv2.circle(image, tuple(int(2 * c) for c in point), 4, color, -1 if called else 1)
        images.append(image)
    with atomic_write(path) as tmp_path:
        cv2.imwrite(str(tmp_path), contact_sheet(images)[..., ::-1])


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--model", action="append", default=[], help="a tracker's name or folder, instead of the default"
    )
    parser.add_argument("--no-baselines", action="store_true", help="leave out FlowChain and Lucas-Kanade")
    parser.add_argument("--kinds", nargs="+", choices=[*KINDS, "limbs"], default=[*KINDS, "limbs"])
    parser.add_argument("--sheets", type=Path, help="folder for contact sheets, one folder a tracker")
    parser.add_argument("--json", type=Path, help="file for all figures")
    options = parser.parse_args(arguments)
    cv2.setNumThreads(1)
    trackers: dict[str, Callable[..., dict[str, Any]]] = {}
    if not options.no_baselines:
        trackers = {"Lucas-Kanade, window 21": LucasKanade(21), "FlowChain": load_tracker("flowchain", "cpu")}
    for model in options.model or ["locotrack-tiny"]:
        trackers[model] = load_tracker(model, "cpu")
    table = Table("tracker", "kind", *MEASURES, title="occlusion bench, %")
    result = {}
    for name, tracker in trackers.items():
        sheets = None if options.sheets is None else options.sheets / Path(name).name
        result[name] = run(tracker, options.kinds, sheets)
        for kind, values in result[name].items():
            cells = ["-" if value is None else f"{value:.1f}" for value in values.values()]
            table.add_row(name, kind, *cells, end_section=kind == "all")
    if options.json:
        write_json(options.json, result)
    Console(width=140).print(table)


if __name__ == "__main__":
    main()
