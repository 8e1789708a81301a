"""CPU-seconds a frame and peak memory of our trackers beside the released code, in turn, with random weights.

    git clone https://github.com/cvlab-kaist/locotrack       # and the others that are wanted
    python -m benchmarks.released_code --locotrack locotrack --cotracker3 co-tracker --tapir tapnet

The released code is run as it is, out of its clone, and is no part of this package; it needs einops (LocoTrack,
AllTracker), and dm-tree and einshape (TAPIR). Each measurement is a process of its own. The clip is of noise, all
queries lie in its first frame, and both see it at the resolution that the released code uses: 256x256, CoTracker3
384x512.
"""

from __future__ import annotations

import argparse
import importlib.util
import multiprocessing
import resource
import statistics
import sys
import time
import types
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

Run = Callable[[], Any]


@dataclass(frozen=True)
class Case:
    """One measurement: of which tracker, the released code in a clone or, without one, ours."""

    model: str
    clone: str | None
    frames: int
    queries: int


def locotrack(clone: str | None, video: torch.Tensor, queries: torch.Tensor) -> Run:
    """LocoTrack base."""
    if clone is None:
        from anthrotap_hf import LocoTrackConfig, LocoTrackForPointTracking

        return _ours(LocoTrackForPointTracking(LocoTrackConfig()), video, queries)
    sys.path.insert(0, str(Path(clone) / "locotrack_pytorch"))
    model = importlib.import_module("models.locotrack_model").LocoTrack(model_size="base").eval()
    return lambda: model(video, queries[..., [0, 2, 1]])


def tapir(clone: str | None, video: torch.Tensor, queries: torch.Tensor) -> Run:
    """BootsTAPIR."""
    if clone is None:
        from anthrotap_hf import TAPIRConfig, TAPIRForPointTracking

        config = TAPIRConfig(pyramid_level=1, num_extra_blocks=5)
        return _ours(TAPIRForPointTracking(config), video, queries)
    sys.path.insert(0, clone)
    model = importlib.import_module("tapnet.torch.tapir_model").TAPIR(pyramid_level=1, extra_convs=True).eval()
    return lambda: model(video, queries[..., [0, 2, 1]])


def cotracker3(clone: str | None, video: torch.Tensor, queries: torch.Tensor) -> Run:
    """CoTracker3, offline: six iterations, as its predictor asks; without the predictor's support points."""
    frames = video.permute(0, 1, 4, 2, 3)
    frames = torch.nn.functional.interpolate(frames[0], (384, 512), mode="bilinear")[None]
    queries = queries * torch.tensor([1, 512 / 256, 384 / 256])
    if clone is None:
        from anthrotap_hf import CoTracker3Config, CoTracker3ForPointTracking

        model = CoTracker3ForPointTracking(CoTracker3Config(support_grid_size=0)).eval()
        return lambda: model(pixel_values_videos=frames, query_points=queries, num_iterations=6)
    sys.path.insert(0, clone)
    module = importlib.import_module("cotracker.models.core.cotracker.cotracker3_offline")
    released = module.CoTrackerThreeOffline(stride=4, corr_radius=3, window_len=60).eval()
    return lambda: released((frames + 1) * 127.5, queries, iters=6)


def alltracker(clone: str | None, video: torch.Tensor, queries: torch.Tensor) -> Run:
    """AllTracker tiny, whose code imports torchvision without need, and wants a GPU: both are done without.

    Names stand in for torchvision where it is not there, and frames that it sends to a GPU stay where they are.
    """
    if clone is None:
        from anthrotap_hf import AllTrackerConfig, AllTrackerForPointTracking

        channels = {"encoder_channels": (64, 96, 128, 128), "encoder_blocks": (2, 2, 2, 2), "feature_size": 128}
        model = AllTrackerForPointTracking(AllTrackerConfig(encoder="residual", **channels))
        return _ours(model, video, queries)
    if importlib.util.find_spec("torchvision") is None:
        # The tiny model needs one of its modules; the others are only named.
        modules: dict[str, dict[str, Any]] = {
            "ops.misc": {"Permute": _Permute, "Conv2dNormActivation": torch.nn.Identity},
            "ops.stochastic_depth": {"StochasticDepth": lambda probability, mode: torch.nn.Identity()},
        }
        for name in ("torchvision", "torchvision.ops"):
            sys.modules[name] = types.ModuleType(name)
        for name, kinds in modules.items():
            stand_in = sys.modules[f"torchvision.{name}"] = types.ModuleType(f"torchvision.{name}")
            vars(stand_in).update(kinds)
    torch.Tensor.cuda = lambda tensor, *_, **__: tensor  # type: ignore[method-assign]
    sys.path.insert(0, clone)
    released = importlib.import_module("nets.alltracker").Net(16, use_basicencoder=True, no_split=True).eval()
    frames = (video.permute(0, 1, 4, 2, 3) + 1) * 127.5
    return lambda: released(frames, iters=4)


class _Permute(torch.nn.Module):
    """Stands in for torchvision's module that changes the order of axes."""

    def __init__(self, axes: list[int]) -> None:
        super().__init__()
        self.axes = axes

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.permute(self.axes)


def _ours(model: torch.nn.Module, video: torch.Tensor, queries: torch.Tensor) -> Run:
    pixels = video.permute(0, 1, 4, 2, 3)
    model.eval()
    return lambda: model(pixel_values_videos=pixels, query_points=queries)


MODELS: dict[str, Callable[[str | None, torch.Tensor, torch.Tensor], Run]] = {
    "locotrack": locotrack,
    "tapir": tapir,
    "cotracker3": cotracker3,
    "alltracker": alltracker,
}


@torch.inference_mode()
def measure(case: Case) -> tuple[float, float]:
    """CPU-seconds a frame, and peak memory in MB."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    video = torch.rand(1, case.frames, 256, 256, 3) * 2 - 1
    queries = torch.rand(1, case.queries, 3) * torch.tensor([0.0, 255.0, 255.0])
    run = MODELS[case.model](case.clone, video, queries)
    begin = time.process_time()
    run()
    cpu = (time.process_time() - begin) / case.frames
    return cpu, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in MODELS:
        parser.add_argument(f"--{name}", metavar="CLONE", help=f"the released code of {name}")
    parser.add_argument("--frames", type=int, default=24)
    parser.add_argument("--queries", type=int, nargs="+", default=[64, 256])
    parser.add_argument("--rounds", type=int, default=2)
    options = parser.parse_args()
    table = Table(title=f"{options.frames} frames, one thread, medians of {options.rounds} rounds in turn")
    for column in ("tracker", "queries", "ours, CPU-s a frame", "released", "ratio", "ours, MB", "released, MB"):
        table.add_column(column, justify="left" if column == "tracker" else "right")
    fresh = multiprocessing.get_context("spawn")
    for name in MODELS:
        clone = getattr(options, name)
        for queries in options.queries if clone else ():
            found: dict[bool, list[tuple[float, float]]] = {True: [], False: []}
            for _ in range(options.rounds):
                for of_clone in (None, str(Path(clone).resolve())):
                    with fresh.Pool(1) as pool:
                        measured = pool.apply(measure, (Case(name, of_clone, options.frames, queries),))
                    found[of_clone is None].append(measured)
                    print(name, queries, "ours" if of_clone is None else "released", *measured, file=sys.stderr)
            (ours, our_peak), (theirs, their_peak) = (
                (statistics.median(cpu for cpu, _ in found[own]), max(peak for _, peak in found[own]))
                for own in (True, False)
            )
            cells = (f"{ours:.3f}", f"{theirs:.3f}", f"{ours / theirs:.2f}", f"{our_peak:,.0f}", f"{their_peak:,.0f}")
            table.add_row(name, str(queries), *cells)
    Console(width=110).print(table)


if __name__ == "__main__":
    main()
