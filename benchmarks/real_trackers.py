"""Trackers on real footage: joints of animals marked by hand (BADJA), and dancers by masks.

    python -m benchmarks.real_trackers FOOTAGE --model FOLDER

FOOTAGE has `badja_*.csv` beside their videos, and folders NAME with NAME.mp4 and masks.npz (`np.packbits`, [T, H, W]).
Of the joints, average delta, AJ and OA at 256x256, mode *first*. Of each clip with masks, 64 points well within the
mask of a frame are followed for 24 frames, from three frames: how many of them are then called visible and are within
the mask, grown by 4 pixels; and how many of 64 points around the person are then called visible on the person.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from rich.console import Console
from rich.table import Table

from anthrotap_hf.evaluation.runner import EvaluatedModel, evaluate, open_benchmark
from anthrotap_hf.pipelines import load_tracker
from anthrotap_hf.utils.atomic_files import write_json
from anthrotap_hf.video import decode_video

POINTS, LAG, STARTS = 64, 24, 3
# Pixels of the mask's frame: how far inside a query is, how far around one on the background, and what counts as on it.
INSIDE, AROUND, GROWN = 2, 12, 4


def _disc(radius: int) -> np.ndarray:
    return cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius + 1, 2 * radius + 1))


def follow_masks(tracker: Callable[..., dict[str, Any]], folder: Path) -> dict[str, float]:
    """Return in percent: `kept` (visible and on the person after `LAG` frames), `stray` (background on the person)."""
    frames = decode_video(folder / f"{folder.name}.mp4")
    height, width = frames.shape[1:3]
    with np.load(folder / "masks.npz", allow_pickle=False) as archive:
        masks = np.unpackbits(archive["masks"], axis=-1)[..., :width]
    kept, stray = [], []
    for start in np.linspace(0, len(frames) - LAG - 1, STARTS).astype(int):
        rng = np.random.default_rng([22, int(start)])
        first, last = masks[start], masks[start + LAG]
        queries = []
        for area in (cv2.erode(first, _disc(INSIDE)), 1 - cv2.dilate(first, _disc(AROUND))):
            rows, columns = np.nonzero(area)
            chosen = rng.choice(len(rows), min(POINTS, len(rows)), replace=False)
            queries.append(np.stack([0 * chosen, columns[chosen] + 0.5, rows[chosen] + 0.5], axis=1))
        found = tracker(frames[start : start + LAG + 1], points=np.concatenate(queries), progress=False)
        x, y = np.floor(found["tracks"][:, -1]).astype(int).T
        there = (x >= 0) & (y >= 0) & (x < width) & (y < height) & found["visible"][:, -1]
        x, y = x.clip(0, width - 1), y.clip(0, height - 1)
        number = len(queries[0])
        kept.append((there & (cv2.dilate(last, _disc(GROWN))[y, x] > 0))[:number].mean())
        stray.append((there & (cv2.erode(last, _disc(INSIDE))[y, x] > 0))[number:].mean())
    return {"kept": 100 * float(np.mean(kept)), "stray": 100 * float(np.mean(stray))}


def follow_joints(tracker: Any, label: str, file: Path) -> dict[str, float]:
    """Return TAP-Vid's metrics of a file of points beside its video, in percent."""
    with tempfile.TemporaryDirectory() as folder:
        report = evaluate([EvaluatedModel.of(label, tracker)], open_benchmark("points", file), Path(folder))
    mean = report["models"][0]["mean"]
    names = {"delta": "average_pts_within_thresh", "AJ": "average_jaccard", "OA": "occlusion_accuracy"}
    return {short: 100 * mean[name] for short, name in names.items()}


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("footage", type=Path, help="folder of the clips")
    parser.add_argument("--model", action="append", default=[], help="a tracker's name or folder")
    parser.add_argument("--clip", action="append", default=[], help="names of clips; all by default")
    parser.add_argument("--json", type=Path, help="file for all figures")
    options = parser.parse_args(arguments)
    cv2.setNumThreads(1)
    joints = sorted(options.footage.glob("badja_*.csv"))
    masked = sorted(path.parent for path in options.footage.glob("*/masks.npz"))
    if options.clip:
        joints = [file for file in joints if file.stem in options.clip]
        masked = [folder for folder in masked if folder.name in options.clip]
    table = Table("tracker", "clip", "figures", title="real footage, %")
    result: dict[str, dict[str, dict[str, float]]] = {}
    for model in options.model or ["locotrack-tiny"]:
        tracker = load_tracker(model, "cpu")
        result[model] = {file.stem: follow_joints(tracker, model, file) for file in joints}
        result[model] |= {folder.name: follow_masks(tracker, folder) for folder in masked}
        for clip, values in result[model].items():
            table.add_row(Path(model).name, clip, ", ".join(f"{name} {value:.1f}" for name, value in values.items()))
    if options.json:
        write_json(options.json, result)
    Console(width=140).print(table)


if __name__ == "__main__":
    main()
