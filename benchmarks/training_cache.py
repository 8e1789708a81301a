"""Make clips to train trackers on, and prepare them for training: rendered ones, or labeled ones of real videos.

    python -m benchmarks.training_cache FOLDER --clips 400        # 400 rendered clips in 20 minutes on one core
    python -m benchmarks.training_cache FOLDER --footage VIDEOS --labels KEPT

Each clip is written twice: as it is, and with pieces passing in front. Rendered clips have exact tracks and occlusion;
`benchmarks.training_footage` says what is known of real ones. Clips that exist are not made again;
`anthrotap_hf.readers.prepared` says what a folder holds.
"""

from __future__ import annotations

import argparse
import tempfile
import time
import zlib
from pathlib import Path

import cv2
import numpy as np

from anthrotap_builder.config import labeling_config
from anthrotap_hf.readers.prepared import prepare_clip
from anthrotap_hf.video import decode_video, write_video
from benchmarks.real_footage.footage import Footage, find_footage, iter_footage_clips, label_footage
from benchmarks.synthetic.objects import ObjectScene, render_objects
from benchmarks.synthetic.renderer import render_scene
from benchmarks.synthetic.tracking_set.points import sample_tracks
from benchmarks.synthetic.training_set import ON_BACKGROUND, POINTS, training_scene, with_overlays
from benchmarks.training_footage import FIRST_SEED, FootageSample, footage_samples


def make_clip(folder: Path, number: int) -> bool:
    """Render a clip into `folder`, plain and with overlays; return False if it shows too few points."""
    scene, rng = training_scene(number)
    rendered = render_objects(scene, 1) if isinstance(scene, ObjectScene) else render_scene(scene, 1)
    try:
        xy, visible, _ = sample_tracks(scene, rendered.truth, rng, POINTS, ON_BACKGROUND)
    except ValueError:
        return False
    _prepare(
        folder, FootageSample(f"{number:05d}", rendered.frames, xy, visible, np.ones_like(visible)), scene.fps, rng
    )
    return True


def make_footage_clips(folder: Path, footage: Footage, keep: Path) -> int:
    """Label a video (labels are kept in `keep`), and write those of its clips that are not there; return how many."""
    labeled = label_footage(footage, labeling_config("open"), keep, 1)
    rates = [clip.fps or 30.0 for clip in labeled.clips]
    rng = np.random.default_rng([FIRST_SEED, zlib.crc32(footage.name.encode())])
    count = 0
    for sample in footage_samples(list(iter_footage_clips(labeled)), rates, footage.name, rng):
        if not (folder / f"{sample.name}-covered").exists():
            _prepare(folder, sample, 30.0, np.random.default_rng([FIRST_SEED, zlib.crc32(sample.name.encode())]))
            count += 1
    return count


def _prepare(folder: Path, sample: FootageSample, fps: float, rng: np.random.Generator) -> None:
    """Write a clip plain and with overlays, as compression shows them."""
    covered, hidden = with_overlays(rng, sample.frames, sample.xy, sample.visible)
    for kind, frames, shown in (("plain", sample.frames, sample.visible), ("covered", covered, hidden)):
        crf = rng.choice([0, 23, 28, 32])
        frames = compressed(frames, fps, int(crf)) if crf else frames
        prepare_clip(folder / f"{sample.name}-{kind}", frames, sample.xy, shown, sample.valid)


def compressed(frames: np.ndarray, fps: float, crf: int) -> np.ndarray:
    """Return frames as H.264 of a constant rate factor shows them."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "clip.mp4"
        write_video(path, frames, fps, crf)
        return decode_video(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="folder for the clips")
    parser.add_argument("--first", type=int, default=0, help="number of the first rendered clip")
    parser.add_argument("--clips", type=int, default=400, help="how many numbers are tried")
    parser.add_argument("--footage", type=Path, help="folder of real videos, instead of rendered clips")
    parser.add_argument("--name", action="append", default=[], help="only this video; may be repeated")
    parser.add_argument("--labels", type=Path, default=Path("outputs/labels"), help="folder for the videos' labels")
    options = parser.parse_args()
    cv2.setNumThreads(1)
    options.out.mkdir(parents=True, exist_ok=True)
    start, made, skipped = time.process_time(), 0, 0
    if options.footage:
        for footage in find_footage([options.footage], options.name):
            made += make_footage_clips(options.out, footage, options.labels)
            print(f"{footage.name}: {made} made, {time.process_time() - start:.0f} CPU-s", flush=True)
        return
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
