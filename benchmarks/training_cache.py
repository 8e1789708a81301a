"""Render clips to train trackers on, with exact tracks and occlusion, and prepare them for training.

    python -m benchmarks.training_cache FOLDER --clips 400        # 400 clips in 20 minutes on one core

Each clip is written twice: as it is rendered, and with pieces passing in front. Clips that exist are not made again;
`anthrotap_hf.readers.prepared` says what a folder holds.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np

from anthrotap_hf.readers.prepared import prepare_clip
from anthrotap_hf.video import decode_video, write_video
from benchmarks.synthetic.objects import ObjectScene, render_objects
from benchmarks.synthetic.renderer import render_scene
from benchmarks.synthetic.tracking_set.points import sample_tracks
from benchmarks.synthetic.training_set import ON_BACKGROUND, POINTS, training_scene, with_overlays


def make_clip(folder: Path, number: int) -> bool:
    """Render a clip into `folder`, plain and with overlays; return False if it shows too few points."""
    scene, rng = training_scene(number)
    rendered = render_objects(scene, 1) if isinstance(scene, ObjectScene) else render_scene(scene, 1)
    try:
        xy, visible, _ = sample_tracks(scene, rendered.truth, rng, POINTS, ON_BACKGROUND)
    except ValueError:
        return False
    covered, hidden = with_overlays(rng, rendered.frames, xy, visible)
    for kind, frames, shown in (("plain", rendered.frames, visible), ("covered", covered, hidden)):
        crf = rng.choice([0, 23, 28, 32])
        frames = compressed(frames, scene.fps, int(crf)) if crf else frames
        prepare_clip(folder / f"{number:05d}-{kind}", frames, xy, shown, np.ones_like(shown))
    return True


def compressed(frames: np.ndarray, fps: float, crf: int) -> np.ndarray:
    """Return frames as H.264 of a constant rate factor shows them."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "clip.mp4"
        write_video(path, frames, fps, crf)
        return decode_video(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="folder for the clips")
    parser.add_argument("--first", type=int, default=0, help="number of the first clip")
    parser.add_argument("--clips", type=int, default=400, help="how many numbers are tried")
    options = parser.parse_args()
    cv2.setNumThreads(1)
    options.out.mkdir(parents=True, exist_ok=True)
    start, made, skipped = time.process_time(), 0, 0
    for number in range(options.first, options.first + options.clips):
        if (options.out / f"{number:05d}-covered").exists():
            continue
        if make_clip(options.out, number):
            made += 1
        else:
            skipped += 1
        seconds = time.process_time() - start
        print(f"{number}: {made} made, {skipped} show too few points, {seconds:.0f} CPU-s", flush=True)


if __name__ == "__main__":
    main()
