"""How fast training samples are made: CPU-seconds a sample, from made-up files of each layout.

    python -m benchmarks.training_samples
    python -m benchmarks.training_samples --folder /tmp/samples --rounds 5     # keeps the files it makes
    python -m benchmarks.training_samples --released ~/AnthroTAP               # beside the authors' loader

Clips of 10 and 30 s have 10 frames a second, 3,000 tracks and x264's usual key frames (one in 250 frames at least). A
sample is the paper's: 48 frames, every second one, 256 queries, smooth affine and flip, 256x256. CPU time is that of
all threads. The first sample of a kind is not counted.

With `--released`, the loader in your own checkout of cvlab-kaist/AnthroTAP (it needs decord and scikit-image) makes the
same samples of the same files with the settings of its experiment.py, turn by turn with ours in one process; ours are
then collated and brought to float in [-1, 1], as its are.
"""

from __future__ import annotations

import argparse
import importlib.util
import statistics
import sys
import tempfile
import time
import types
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from anthrotap_hf.readers.base import SHORT_SIDE
from anthrotap_hf.readers.lets_dance import LetsDanceClips
from anthrotap_hf.readers.procedural import ProceduralClips
from anthrotap_hf.readers.shards import clip_of_row
from anthrotap_hf.training.samples import SampleSettings, collate, make_sample
from anthrotap_hf.video import encode_video, write_video

CLIPS = {  # height, width, frames
    "1080p, 10 s": (1080, 1920, 100),
    "1080p, 30 s": (1080, 1920, 300),
    "720p, 30 s": (720, 1280, 300),
}
NUM_TRACKS = 3000


def moving_scene(height: int, width: int, num_frames: int) -> Iterator[np.ndarray]:
    """A textured scene that sways, and a patch that moves against it."""
    rng = np.random.default_rng(0)
    large = (width * 5 // 4, height * 5 // 4)
    scene = cv2.resize(rng.integers(0, 255, (135, 240, 3), np.uint8), large, interpolation=cv2.INTER_CUBIC)
    patch = cv2.resize(rng.integers(0, 255, (40, 30, 3), np.uint8), (width // 5, height // 2))
    for t in range(num_frames):
        x, y = (0.5 + 0.4 * np.sin(t / 20)) * width / 4, (0.5 + 0.4 * np.cos(t / 15)) * height / 4
        frame = scene[int(y) : int(y) + height, int(x) : int(x) + width].copy()
        left, top = int(width * (0.4 + 0.3 * np.sin(t / 9))), int(height * (0.25 + 0.2 * np.cos(t / 7)))
        frame[top : top + patch.shape[0], left : left + patch.shape[1]] = patch
        yield frame


def write_released_layout(folder: Path, name: str) -> Path:
    """`labels/NAME/a.npy` and `lets_dance/mp4_10fps/NAME/a.mp4`, as the authors lay them out. The folder of labels."""
    height, width, num_frames = CLIPS[name]
    video = folder / "lets_dance/mp4_10fps" / name / "a.mp4"
    labels = folder / "labels" / name / "a.npy"
    for path in (video, labels):
        path.parent.mkdir(parents=True, exist_ok=True)
    if not video.exists():
        write_video(video, moving_scene(height, width, num_frames), 10)
    rng = np.random.default_rng(1)
    steps = rng.normal(0, 3, (num_frames, NUM_TRACKS, 2)).cumsum(0)
    tracks = rng.uniform(0.2, 0.8, (NUM_TRACKS, 2)) * (width, height) + steps
    contents = {
        "tracks": tracks.astype(np.float32),
        "occlusion": rng.random((num_frames, NUM_TRACKS)) < 0.3,
        "video_size": (height, width),
        "video_path": f"/media/ssd3/datasets/lets_dance/mp4_10fps/{name}/a.mp4",
    }
    np.save(labels, contents, allow_pickle=True)  # type: ignore[arg-type]
    return labels.parent


def cpu_seconds(makers: list[Callable[[int], object]], rounds: int) -> list[list[float]]:
    """CPU-seconds of each round of each maker, which take turns."""
    for make in makers:
        make(0)
    spent: list[list[float]] = [[] for _ in makers]
    for number in range(1, rounds + 1):
        for make, its in zip(makers, spent, strict=True):
            start = time.process_time()
            make(number)
            its.append(time.process_time() - start)
    return spent


def sample_of(source: LetsDanceClips, number: int) -> object:
    """Make the sample of this number from the first clip, with the settings of the paper."""
    return make_sample(source[0], SampleSettings(), np.random.default_rng(number))


def cases(folder: Path) -> Iterator[tuple[str, Callable[[int], object]]]:
    for name in CLIPS:
        labels = write_released_layout(folder, name)
        for short_side in (SHORT_SIDE, None):
            source = LetsDanceClips(labels, folder, short_side=short_side)
            decoded = "full size" if short_side is None else f"{short_side} pixels"
            yield (
                f"released layout, {name}, decoded at {decoded}",
                partial(sample_of, source),
            )
        source = LetsDanceClips(labels, folder, short_side=SHORT_SIDE, cache=folder / "cache")
        yield (
            f"released layout, {name}, from a quick copy",
            partial(sample_of, source),
        )
    height, width = 480, 854
    tracks = np.random.default_rng(0).uniform(100, 380, (1024, 1, 2)) + np.zeros((1, 48, 1))
    flags = np.ones((1024, 48), bool)
    frames = [*moving_scene(height, width, 48)]
    row = {"clip_id": "a", "num_frames": 48, "height": height, "width": width, "tracks": tracks}
    row |= {"visible": flags, "valid": flags, "video": encode_video(frames, 24)}
    row |= {"person": np.zeros(1024, int), "vertex": np.zeros(1024, int)}
    every = SampleSettings(dilation=1)
    yield (
        "a row of ours, 854x480, every frame",
        lambda number: make_sample(clip_of_row(row, SHORT_SIDE), every, np.random.default_rng(number)),
    )
    clips = ProceduralClips()
    small = SampleSettings(num_frames=24, dilation=1, height=128, width=128, affine=None, flip=0)
    yield (
        "procedural, 24 frames, 128x128",
        lambda number: make_sample(clips[number], small, np.random.default_rng(number)),
    )


def released_loader(checkout: Path, labels: Path, videos: Path) -> Callable[[int], object]:
    """The authors' loader, as their experiment.py sets it up. Exits with one line where it can't run."""
    path = checkout / "locotrack_pytorch/data/human_data.py"
    if not path.is_file():
        sys.exit(f"{path}: no such file; name a checkout of github.com/cvlab-kaist/AnthroTAP")
    for name in ("decord", "skimage"):
        if importlib.util.find_spec(name) is None:
            sys.exit(f"the authors' loader needs {name}: pip install decord scikit-image")
    for name in (
        "torchvision",
        "torchvision.transforms",
        "mediapy",
    ):  # imported there, not used with these settings
        sys.modules.setdefault(name, types.ModuleType(name))
    spec = importlib.util.spec_from_file_location("released_human_data", path)
    assert spec is not None
    assert spec.loader is not None
    module: Any = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    dataset = module.VideoTrackingDataset(
        folder_list=[str(labels)],
        sequence_length=48,
        dilation=2,
        output_size=(256, 256),
        num_queries=256,
        min_visible_frames=4,
        augment=True,
        augment_geom=True,
        aug_hflip_prob=0.5,
        aug_color_jitter=None,
        video_base_dir=str(videos),
    )

    def make(number: int) -> object:
        sample = dataset[0]
        assert tuple(sample["video"].shape) == (48, 256, 256, 3)
        assert len(sample["query_points"]) == 256
        return sample

    return make


def against_released(folder: Path, checkout: Path, rounds: int) -> Table:
    table = Table("sample", "theirs, CPU s", "ours", "ours from a quick copy", "ratio", "from a quick copy")

    def ours(source: LetsDanceClips) -> Callable[[int], object]:
        def make(number: int) -> object:
            batch = collate([make_sample(source[0], SampleSettings(), np.random.default_rng(number))], "anthrotap")
            return batch["pixel_values_videos"].to(torch.float32) / 127.5 - 1

        return make

    for name in CLIPS:
        labels = write_released_layout(folder, name)
        theirs = released_loader(checkout, labels, folder / "lets_dance/mp4_10fps")
        direct = ours(LetsDanceClips(labels, folder, short_side=SHORT_SIDE))
        copied = ours(LetsDanceClips(labels, folder, short_side=SHORT_SIDE, cache=folder / "cache"))
        medians = [statistics.median(spent) for spent in cpu_seconds([theirs, direct, copied], rounds)]
        ratios = [f"{medians[0] / median:.1f}" for median in medians[1:]]
        table.add_row(f"released layout, {name}", *(f"{median:.2f}" for median in medians), *ratios)
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, help="folder that keeps the files; default: a temporary one")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument(
        "--released", type=Path, help="your checkout of cvlab-kaist/AnthroTAP, to measure its loader too"
    )
    options = parser.parse_args()
    console = Console(width=110)
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.folder or Path(temporary)
        if options.released is not None:
            console.print(against_released(folder, options.released, options.rounds))
            return
        table = Table("sample", "CPU s, median", "samples a CPU-second")
        for name, make in cases(folder):
            median = statistics.median(cpu_seconds([make], options.rounds)[0])
            table.add_row(name, f"{median:.2f}", f"{1 / median:.1f}")
        console.print(table)
        console.print("the authors' loader was not measured: name a checkout of theirs by --released FOLDER")


if __name__ == "__main__":
    main()
