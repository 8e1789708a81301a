"""How fast the trackers are and what memory they take, with random weights: seconds a frame, peak memory, sizes.

    python -m benchmarks.trackers
    python -m benchmarks.trackers --models tapnext --frames 4 --queries 64 --dtype bfloat16

Each line is measured in a process of its own, so that its peak memory is its own.
"""

from __future__ import annotations

import argparse
import multiprocessing
import resource
import statistics
import time
from dataclasses import dataclass
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

MODELS = ("locotrack-small", "locotrack-base", "tapnext")


@dataclass(frozen=True)
class Case:
    """One line of the table."""

    model: str
    frames: int
    queries: int
    calls: int  # the queries come in so many calls, over features computed once
    dtype: str
    rounds: int
    threads: int
    compiled: bool
    window: int | None  # of LocoTrack, frames; the configuration's if None


def build(name: str) -> torch.nn.Module:
    """A tracker of a released size."""
    from anthrotap_hf import (
        LocoTrackConfig,
        LocoTrackForPointTracking,
        TAPNextConfig,
        TAPNextForPointTracking,
    )

    if name == "tapnext":
        return TAPNextForPointTracking(TAPNextConfig()).eval()
    if name == "locotrack-base":
        return LocoTrackForPointTracking(LocoTrackConfig()).eval()
    config = LocoTrackConfig(
        hidden_size=256,
        num_attention_heads=4,
        correlation_channels=[64, 128],
        correlation_kernels=[5, 2],
        correlation_strides=[4, 2],
    )
    return LocoTrackForPointTracking(config).eval()


@torch.inference_mode()
def measure(case: Case) -> tuple[int, float, float, float]:
    """Parameters, wall and CPU seconds a frame (medians, after one run to warm up), peak memory in MB."""
    torch.set_num_threads(case.threads)
    torch.manual_seed(0)
    model: Any = build(case.model).to(getattr(torch, case.dtype))
    run = torch.compile(model) if case.compiled else model
    video = torch.randint(0, 256, (1, case.frames, 3, 256, 256), dtype=torch.uint8)
    queries = torch.rand(1, case.queries, 3) * torch.tensor([case.frames - 1, 255.0, 255.0])
    queries[..., 0] = queries[..., 0].round()

    def track() -> None:
        if case.model == "tapnext":  # queries attend to each other: always one call
            run(pixel_values_videos=video, query_points=queries)
            return
        if case.calls == 1:
            run(pixel_values_videos=video, query_points=queries, window_size=case.window)
            return
        features = model.get_video_features(video)
        for part in queries.chunk(case.calls, dim=1):
            run(video_features=features, query_points=part)

    walls, cpus = [], []
    for _ in range(case.rounds + 1):
        wall, cpu = time.perf_counter(), time.process_time()
        track()
        walls.append((time.perf_counter() - wall) / case.frames)
        cpus.append((time.process_time() - cpu) / case.frames)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    parameters = sum(weight.numel() for weight in model.parameters())
    return parameters, statistics.median(walls[1:]), statistics.median(cpus[1:]), peak


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", choices=MODELS, default=MODELS)
    parser.add_argument("--frames", type=int, default=24)
    parser.add_argument("--queries", type=int, nargs="+", default=[64, 256])
    parser.add_argument("--calls", type=int, default=1)
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--window", type=int, help="of LocoTrack: frames whose features are held at once")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--compile", action="store_true")
    options = parser.parse_args()

    table = Table(title=f"{options.frames} frames of 256 x 256, {options.dtype}, {options.threads} threads")
    for column in ("model", "parameters", "queries", "s a frame", "CPU-s a frame", "peak MB"):
        table.add_column(column, justify="left" if column == "model" else "right")
    fresh = multiprocessing.get_context("spawn")
    for model in options.models:
        for queries in options.queries:
            case = Case(
                model,
                options.frames,
                queries,
                options.calls,
                options.dtype,
                options.rounds,
                options.threads,
                options.compile,
                options.window,
            )
            with fresh.Pool(1) as pool:
                parameters, wall, cpu, peak = pool.apply(measure, (case,))
            table.add_row(model, f"{parameters:,}", str(queries), f"{wall:.3f}", f"{cpu:.3f}", f"{peak:,.0f}")
    Console().print(table)


if __name__ == "__main__":
    main()
