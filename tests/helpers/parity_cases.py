"""How near outputs must be to those of the released code."""

import torch

from benchmarks.parity import Pair

# Pixels, log-odds, numbers around 1.
TOLERANCE = {"tracks": 1e-2, "logits": 1e-3, "others": 1e-4}


def assert_near(pairs: list[Pair]) -> None:
    """Assert that the outputs of each pair are within the tolerance of their kind."""
    assert pairs
    for pair in pairs:
        torch.testing.assert_close(pair.ours, pair.theirs, atol=TOLERANCE[pair.kind], rtol=0)
