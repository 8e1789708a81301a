"""Cost of person detection, and how many people are found: milliseconds a frame for each clip of a folder.

    python -m benchmarks.people ../shared/clips [--frames 48] [--repeats 3] [--threads 2]

The best of the repeats is reported: on a shared machine the others include other programs.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import av
import cv2
import numpy as np

from anthrotap_builder.config import LabelingConfig
from anthrotap_builder.context import ClipContext
from anthrotap_builder.detection import detect_people


def read(path: Path, count: int, short_side: int) -> np.ndarray:
    """[T, H, W, 3] uint8 RGB: the first frames of a video."""
    frames = []
    with av.open(str(path)) as container:
        for frame, _ in zip(container.decode(video=0), range(count), strict=False):
            image = frame.to_ndarray(format="rgb24")
            scale = short_side / min(image.shape[:2])
            size = (round(image.shape[1] * scale), round(image.shape[0] * scale))
            frames.append(cv2.resize(image, size, interpolation=cv2.INTER_AREA))
    return np.stack(frames)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("clips", type=Path)
    parser.add_argument("--frames", type=int, default=48)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()

    print(f"{'clip':24}{'size':>10}{'CPU ms':>8}{'wall ms':>9}{'people':>8}  fraction of frames in which each is found")
    for path in sorted(p for p in options.clips.iterdir() if p.suffix in {".mp4", ".mkv", ".gif"}):
        frames = read(path, options.frames, LabelingConfig().clips.short_side)
        context = ClipContext.of(frames, 30.0, threads=options.threads)
        cpu, wall = [], []
        for _ in range(options.repeats):
            cpu_start, wall_start = time.process_time(), time.perf_counter()
            people = detect_people(context)
            cpu.append(time.process_time() - cpu_start)
            wall.append(time.perf_counter() - wall_start)
        size = f"{frames.shape[2]}x{frames.shape[1]}"
        fractions = "  ".join(f"{person.found.mean():.0%}" for person in people)
        ms = 1000 / len(frames)
        print(f"{path.name:24}{size:>10}{min(cpu) * ms:8.1f}{min(wall) * ms:9.1f}{len(people):8}  {fractions}")


if __name__ == "__main__":
    main()
