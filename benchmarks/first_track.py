"""What a user waits for the first track by name: download on loopback, check, conversion; and that every name tracks.

    PYTHONPATH=.:tests python -m benchmarks.first_track VIDEO --reference REFERENCE_FOLDER            # every name
    PYTHONPATH=.:tests python -m benchmarks.first_track VIDEO --released-size

Each file has random weights in the released layout, and a server of this process has it where the table of known
trackers says that it lies. They are small, so that all names take minutes; with `--released-size` they are as large as
the released ones. Seconds are CPU-seconds of this process, which serves the files, too.
"""

from __future__ import annotations

import argparse
import io
import tempfile
import time
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from anthrotap_hf.models import CONFIGS, TRACKERS
from anthrotap_hf.models.checkpoints import Checkpoint, checkpoints
from anthrotap_hf.pipelines import load_tracker
from anthrotap_hf.video import iter_frames, write_video

TINY_ALLTRACKER = {"encoder": "residual", "encoder_channels": [64, 96, 128, 128], "encoder_blocks": [2, 2, 2, 2]}
# Released networks of which files are made in their own size, and what is not the default of their configurations.
RELEASED: dict[str, dict[str, Any]] = {
    "locotrack-base": {},
    "tapir": {},
    "bootstapir": {"pyramid_level": 1, "num_extra_blocks": 5},
    "alltracker": {},
    "alltracker-tiny": {**TINY_ALLTRACKER, "feature_size": 128},
    "cotracker3-offline": {},
}


def released_size(row: Checkpoint) -> bytes:
    """Return a file of random weights as large as a released one."""
    from helpers import released_layouts  # type: ignore[import-not-found]

    settings = RELEASED[row.name]
    torch.manual_seed(0)
    model = TRACKERS.load(row.architecture)(CONFIGS.load(row.architecture)(**settings))
    content = io.BytesIO()
    torch.save(getattr(released_layouts, f"released_{row.architecture}")(model), content)
    return content.getvalue()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("video", type=Path)
    parser.add_argument("--reference", type=Path, help="folder of the parity cases, for TAPNext's layouts")
    parser.add_argument("--names", nargs="+", default=[], choices=list(checkpoints()))
    parser.add_argument("--frames", type=int, default=5, help="frames of the video that are tracked")
    parser.add_argument("--released-size", action="store_true", help=f"for {', '.join(RELEASED)}")
    options = parser.parse_args()
    from helpers.stand_in_files import served, stand_in  # type: ignore[import-not-found]

    torch.set_num_threads(1)
    table = Table(title=f"{options.video.name}, {options.frames} frames, 9 points, one thread, CPU-seconds")
    for column in ("tracker", "file, MB", "first load", "second load", "tracking", "at", "tracks"):
        table.add_column(column, justify="left" if column == "tracker" else "right")
    for name in options.names or (RELEASED if options.released_size else checkpoints()):
        with tempfile.TemporaryDirectory() as scratch:
            folder = Path(scratch)
            clip = folder / options.video.name
            frames = [frame.image for frame in islice(iter_frames(options.video), options.frames)]
            write_video(clip, frames, 25)
            sizes: list[int] = []

            def make(row: Checkpoint, folder: Path = folder, sizes: list[int] = sizes) -> bytes:
                content = released_size(row) if options.released_size else stand_in(row, options.reference, folder)
                sizes.append(len(content))
                return content

            with served([name], make, folder):
                seconds = []
                for _ in range(2):
                    begin = time.process_time()
                    tracker = load_tracker(name)
                    seconds.append(time.process_time() - begin)
                begin = time.process_time()
                found = tracker(str(clip), grid_size=3)
                seconds.append(time.process_time() - begin)
        height, width = (tracker.image_processor.size[side] for side in ("height", "width"))
        cells = [f"{sizes[0] / 1e6:.1f}", *(f"{value:.1f}" for value in seconds), f"{height}x{width}"]
        table.add_row(name, *cells, str([*found["tracks"].shape]))
        print(name, *cells, flush=True)
    Console(width=110).print(table)


if __name__ == "__main__":
    main()
