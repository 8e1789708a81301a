"""Do better labels make better trackers? Labels of real clips in four ways, to fine-tune one small tracker on.

    python -m benchmarks.proof CLIP... --out outputs/proof/labels

writes four folders of shards, as `anthrotap label` does, of the same clips:

    unfiltered       every point that the mesh projects into the frame is visible
    ray-casting      + occluded where the meshes occlude it
    flow-filtering   + the forward-backward check of single steps: the paper's stages, on a fit to landmarks
    improved         the open default: flow in the fit, masks, visibility margin, accumulated drift

The runs on them are recipes: see docs/numbers.md, "Better labels, better trackers".
"""

from __future__ import annotations

import argparse
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from rich.console import Console
from rich.progress import track

from anthrotap_builder.clips import read_clips
from anthrotap_builder.config import labeling_config
from anthrotap_builder.shards import ShardWriter
from benchmarks.label_accuracy.ablation import ABLATION, DEFAULT, Workbench

WAYS = {
    "unfiltered": "projection of the mesh",
    "ray-casting": "+ ray casting",
    "flow-filtering": "+ forward-backward check of steps (the paper's rule)",
    "improved": DEFAULT,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("videos", nargs="+", type=Path, metavar="CLIP")
    parser.add_argument("--out", type=Path, required=True, help="folder for the four folders of shards")
    parser.add_argument("--frames", type=int, default=480, help="only so many of each video, the first")
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    console = Console(stderr=True)
    for video in options.videos:
        if all((options.out / way / f"train-{video.stem}-00000-of-00001.parquet").exists() for way in WAYS):
            continue
        label(video, options.out, options.frames, options.threads, console)
    for way in WAYS:
        shards = sorted((options.out / way).glob("*.parquet"))
        print(f"{way}: {len(shards)} shards, {sum(path.stat().st_size for path in shards) / 1e6:.0f} MB")


def label(video: Path, out: Path, frames: int, threads: int, console: Console) -> None:
    config = labeling_config("open")
    clips = read_clips(video, config.clips)
    with ExitStack() as stack:
        writers = {
            way: stack.enter_context(
                ShardWriter(out / way, config.clips.clip_frames, f"train-{video.stem}", overwrite=True)
            )
            for way in WAYS
        }
        for clip in track(clips, f"{video.name}, clips of {config.clips.clip_frames} frames", console=console):
            if clip.start_frame + len(clip.frames) > frames:
                break
            bench = Workbench(clip, threads)
            for way, row in WAYS.items():
                labeled = bench.label(config, ABLATION[row])
                if labeled.skipped is None:
                    named = replace(
                        labeled,
                        clip_id=clip.clip_id,
                        source_video=clip.source_video,
                        start_frame=clip.start_frame,
                        source_frames=clip.source_frames,
                    )
                    writers[way].write(named)


if __name__ == "__main__":
    main()
