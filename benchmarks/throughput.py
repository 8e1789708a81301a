"""What labeling costs, stage by stage, and what that means for many videos: tables in Markdown.

    python -m benchmarks.throughput VIDEO... --side-by-side VIDEO

CPU seconds of each stage by one process with one thread; frames a second of one process with one thread, one with two
threads, and two with one each, in turn; and from these, by multiplication, time and disk for 1.4 thousand and 15
million videos. The open default uses no GPU; the paper's own path is reckoned with the GPU times of
benchmarks/research_path.py.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from statistics import median

STAGES = ("reading", "detection", "mesh_recovery", "visibility", "flow", "filtering", "labeled_motion", "writing")
ARRANGEMENTS = {
    "1 process, 1 thread": (1, 1),
    "1 process, 2 threads": (1, 2),
    "2 processes, 1 thread each": (2, 1),
}
WARM_UP = 8  # frames

VIDEO_SECONDS, VIDEO_FPS = 10, 30  # of a video as in Let's Dance, 480 pixels high, one person
CORES_A_GPU = 8
# Fraction of the time that cores or GPUs work: stragglers, restarts, videos without people.
BUSY = 0.9
RESEARCH_GPU_MS = {"D-FINE": 5, "TokenHMR, one person": 12, "RAFT large": 66}  # a frame, by research_path.py
PLANS = ((1_400, 4), (1_400, 256), (15_000_000, 4), (15_000_000, 256))  # videos, GPUs


@dataclass(frozen=True)
class Cost:
    """What one process found: `start` CPU seconds before the first frame, CPU seconds and bytes a frame, and rates."""

    start: float
    stages: dict[str, float]
    size: float
    rows: int
    frames: int
    seconds: float

    @property
    def frame(self) -> float:
        return sum(self.stages.values())


class Stopwatch:
    """CPU seconds of the whole process, all threads, by the stage that last began."""

    def __init__(self) -> None:
        self.spent: dict[str, float] = defaultdict(float)
        self._now, self._since = "reading", time.process_time()

    def __call__(self, stage: str) -> None:
        at = time.process_time()
        self.spent[self._now] += at - self._since
        self._now, self._since = stage, at


def label(video: Path, threads: int, clips: int) -> dict:
    """Labels the first clips of a video and writes a shard, in this process, which has done nothing before."""
    import numpy as np

    from anthrotap_builder.config import LabelingConfig
    from anthrotap_builder.pipeline import label_clip, label_video, load_parts
    from anthrotap_builder.shards import ShardWriter
    from anthrotap_hf.video import iter_frames

    config = LabelingConfig()
    load_parts(config)
    first = np.stack([frame.image for frame in islice(iter_frames(video, config.clips.short_side), WARM_UP)])
    label_clip(first, 30, config, threads=threads)
    start = time.process_time()
    label_clip(first, 30, config, threads=threads)
    start -= time.process_time() - start

    begin, watch, frames, rows = time.perf_counter(), Stopwatch(), 0, 0
    with tempfile.TemporaryDirectory() as folder:
        with ShardWriter(folder, config.clips.clip_frames) as shards:
            for clip in islice(label_video(video, config, threads, on_stage=watch), clips):
                watch("writing")
                frames += len(clip.frames)
                if not clip.skipped:
                    shards.write(clip)
                    rows += 1
        watch("end")
        size = sum(path.stat().st_size for path in shards.paths)
    seconds = time.perf_counter() - begin
    stages = {stage: watch.spent[stage] / frames for stage in STAGES}
    return vars(Cost(start, stages, size / frames, rows, frames, seconds))


def run(video: Path, processes: int, threads: int, clips: int) -> list[Cost]:
    """The same by processes side by side."""
    command = [sys.executable, __file__, str(video), "--child", str(threads), "--clips", str(clips)]
    with open(os.devnull, "wb") as nowhere:
        children = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=nowhere) for _ in range(processes)]
        outputs = [child.communicate()[0] for child in children]
    return [Cost(**json.loads(output)) for output in outputs]


def stage_table(costs: dict[str, Cost]) -> None:
    print(f"\n| CPU ms a frame, one thread | {' | '.join(costs)} | fraction |")
    print(f"|---|{'---|' * len(costs)}---|")
    total = sum(cost.frame for cost in costs.values())
    for stage in STAGES:
        each = [cost.stages[stage] for cost in costs.values()]
        print(f"| {stage} | {' | '.join(f'{1000 * one:.1f}' for one in each)} | {sum(each) / total:.0%} |")
    print(f"| all | {' | '.join(f'{1000 * cost.frame:.0f}' for cost in costs.values())} | |")
    print(f"| start of a process, CPU s | {' | '.join(f'{cost.start:.1f}' for cost in costs.values())} | |")
    print(f"| KB on disk a frame | {' | '.join(f'{cost.size / 1000:.0f}' for cost in costs.values())} | |")


def side_by_side(video: Path, rounds: int, clips: int) -> None:
    rates: dict[str, list[float]] = {name: [] for name in ARRANGEMENTS}
    cpu: dict[str, list[float]] = {name: [] for name in ARRANGEMENTS}
    for _ in range(rounds):
        for name, (processes, threads) in ARRANGEMENTS.items():
            costs = run(video, processes, threads, clips)
            rates[name].append(sum(cost.frames / cost.seconds for cost in costs))
            cpu[name].append(sum(cost.frame for cost in costs) / len(costs))
    print(f"\n| {video.name}, medians of {rounds} | frames/s | CPU ms a frame | cores busy | videos an hour |")
    print("|---|---|---|---|---|")
    for name in ARRANGEMENTS:
        rate, spent = median(rates[name]), median(cpu[name])
        hourly = 3600 * rate / (VIDEO_SECONDS * VIDEO_FPS)
        print(f"| {name} | {rate:.1f} | {1000 * spent:.0f} | {rate * spent:.2f} | {hourly:.0f} |")
    print(f"\nA video: {VIDEO_SECONDS} s, {VIDEO_FPS} frames a second, 480 pixels, one person; start not counted.")


def projection(cost: Cost) -> None:
    """Time and disk for many videos, by multiplication."""
    rest = cost.frame - cost.stages["reading"]
    cpu_alone = sum(cost.stages[stage] for stage in ("visibility", "filtering", "writing"))
    gpu = sum(RESEARCH_GPU_MS.values()) / 1000
    print(
        f"\nAssumed: videos of {VIDEO_SECONDS} s at {VIDEO_FPS} frames a second, one person throughout; every frame "
        f"is read ({1000 * cost.stages['reading']:.1f} CPU ms), those that are labeled cost {1000 * rest:.0f} CPU ms "
        f"and {cost.size / 1000:.0f} KB more; a core has one video at a time; "
        f"{CORES_A_GPU} cores like this one a GPU, {BUSY:.0%} of the time at work. "
        f"Paper's path: {1000 * gpu:.0f} GPU ms a labeled frame "
        f"({', '.join(f'{name} {ms}' for name, ms in RESEARCH_GPU_MS.items())}), estimated, not measured, beside "
        f"{1000 * cpu_alone:.0f} CPU ms for visibility, filtering and writing."
    )
    print("\n| videos | labeled at | GPUs (cores) | open default, cores only | paper's path | on disk |")
    print("|---|---|---|---|---|---|")
    for videos, gpus in PLANS:
        for fps in (10, VIDEO_FPS):
            cores = CORES_A_GPU * gpus
            labeled = VIDEO_SECONDS * fps  # frames a video
            reading = VIDEO_SECONDS * VIDEO_FPS * cost.stages["reading"]
            ours = math.ceil(videos / cores) * (reading + labeled * rest)
            theirs = max(
                math.ceil(videos / gpus) * labeled * gpu,
                math.ceil(videos / cores) * (reading + labeled * cpu_alone),
            )
            ours, theirs = ((cost.start + seconds) / BUSY for seconds in (ours, theirs))
            print(
                f"| {videos:,} | {fps}/s | {gpus} ({cores:,}) | {_span(ours)} | {_span(theirs)} "
                f"| {_bytes(videos * labeled * cost.size)} |"
            )


def _span(seconds: float) -> str:
    hours = seconds / 3600
    if hours < 1:
        return f"{60 * hours:.1f} min" if seconds > 60 else f"{seconds:.0f} s"
    return f"{hours:.1f} h" if hours < 48 else f"{hours / 24:,.0f} days"


def _bytes(count: float) -> str:
    return f"{count / 1e9:.1f} GB" if count < 1e12 else f"{count / 1e12:,.1f} TB"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("videos", nargs="+", type=Path, metavar="VIDEO", help="the projection is by the first")
    parser.add_argument("--side-by-side", type=Path, metavar="VIDEO", help="also run this one in three ways")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--clips", type=int, default=1000, help="of each video, the first ones")
    parser.add_argument("--child", type=int, metavar="THREADS", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        print(json.dumps(label(options.videos[0], options.child, options.clips)))
        return
    run(options.videos[0], 1, 1, 1)  # not counted: compiles
    costs = {video.name: run(video, 1, 1, options.clips)[0] for video in options.videos}
    stage_table(costs)
    if options.side_by_side:
        side_by_side(options.side_by_side, options.rounds, options.clips)
    projection(next(iter(costs.values())))


if __name__ == "__main__":
    main()
