"""Answers of the released code, which lie beside the repository, and how near ours must be to them."""

from pathlib import Path

import pytest
import torch

from benchmarks.parity import Pair

REFERENCE = Path(__file__).parents[2] / "../shared/reference"
# Pixels, log-odds, numbers around 1.
TOLERANCE = {"tracks": 1e-2, "logits": 1e-3, "others": 1e-4}

needs_reference = pytest.mark.skipif(not REFERENCE.is_dir(), reason=f"no parity cases in {REFERENCE}")


def assert_near(pairs: list[Pair]) -> None:
    assert pairs
    for pair in pairs:
        torch.testing.assert_close(pair.ours, pair.theirs, atol=TOLERANCE[pair.kind], rtol=0)
