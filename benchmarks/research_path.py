"""What the networks of the paper's path cost, by random weights of the released sizes: CPU seconds, and work for a GPU.

    python -m benchmarks.research_path

RAFT is measured where torchvision is installed. A GPU is estimated by the work: at so many TFLOP/s that it sustains.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import torch
from rich.console import Console
from rich.table import Table
from torch.utils.flop_counter import FlopCounterMode

HEIGHT, WIDTH = 480, 854


def tokenhmr() -> Callable[[], object]:
    """One person's crop."""
    from anthrotap_hf.models.tokenhmr import TokenHMRConfig, TokenHMRForHumanMeshRecovery

    model = TokenHMRForHumanMeshRecovery(TokenHMRConfig()).eval()
    crop = torch.randn(1, 3, 256, 256)
    return lambda: model(pixel_values=crop)


def detector() -> Callable[[], object]:
    """One frame, as D-FINE's processor resizes it."""
    from transformers import DFineConfig, DFineForObjectDetection

    model = DFineForObjectDetection(DFineConfig()).eval()
    frame = torch.rand(1, 3, 640, 640)
    return lambda: model(pixel_values=frame)


def raft(size: str) -> Callable[[], object]:
    """One pair of frames, one direction."""
    from torchvision.models import optical_flow

    model = getattr(optical_flow, f"raft_{size}")(weights=None).eval()
    frame = torch.rand(1, 3, HEIGHT, WIDTH // 8 * 8) * 2 - 1
    return lambda: model(frame, frame, num_flow_updates=12)


NETWORKS: dict[str, tuple[str, int, Callable[[], Callable[[], object]]]] = {
    "D-FINE": ("a frame", 1, detector),
    "TokenHMR": ("a person and frame", 1, tokenhmr),
    "RAFT small": ("a frame (both directions)", 2, lambda: raft("small")),
    "RAFT large": ("a frame (both directions)", 2, lambda: raft("large")),
}


@torch.inference_mode()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", nargs="+", choices=list(NETWORKS), default=list(NETWORKS))
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--tflops", type=float, default=20.0, help="that a GPU sustains")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    table = Table(title=f"random weights, float32, {options.threads} thread(s); frames of {WIDTH} x {HEIGHT}")
    for column in ("network", "for", "CPU s", "GFLOP", f"estimated ms at {options.tflops:g} TFLOP/s"):
        table.add_column(column)
    for name in options.networks:
        unit, times, build = NETWORKS[name]
        try:
            run = build()
        except (ImportError, RuntimeError) as error:
            table.add_row(name, unit, f"not run: {str(error).splitlines()[0]}", "", "")
            continue
        with FlopCounterMode(display=False) as counter:
            run()
        spent = []
        for _ in range(options.rounds):
            start = time.process_time()
            run()
            spent.append(time.process_time() - start)
        work = counter.get_total_flops() * times
        table.add_row(
            name,
            unit,
            f"{min(spent) * times:.1f}",
            f"{work / 1e9:,.0f}",
            f"{work / options.tflops / 1e9:.0f}",
        )
    Console(width=120).print(table)


if __name__ == "__main__":
    main()
