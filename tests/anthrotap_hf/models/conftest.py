"""Tiny trackers, so that every path runs in a moment."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from anthrotap_hf.models.locotrack import LocoTrackForPointTracking
from anthrotap_hf.models.tapir import TAPIRForPointTracking
from anthrotap_hf.models.tapnext import TAPNextForPointTracking
from benchmarks.parity import Reference
from helpers.trackers import tiny_locotrack, tiny_tapir, tiny_tapnext


@pytest.fixture(autouse=True)
def _seed_and_threads():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def reference(reference_dir: Path) -> Reference:
    """The parity cases; skips where they are absent."""
    return Reference(reference_dir)


@pytest.fixture
def locotrack() -> LocoTrackForPointTracking:
    return tiny_locotrack(stage_blocks=[1, 2, 1, 1], num_hidden_layers=2, num_iterations=2, initial_resolution=[32, 48])


@pytest.fixture
def tapir() -> TAPIRForPointTracking:
    """Like BootsTAPIR: with a pyramid and extra blocks."""
    return tiny_tapir(pyramid_level=1, num_extra_blocks=2)


@pytest.fixture
def causal_tapir() -> TAPIRForPointTracking:
    return tiny_tapir(causal=True)


@pytest.fixture
def tapnext() -> TAPNextForPointTracking:
    return tiny_tapnext(recurrent_size=48, num_hidden_layers=2, head_hidden_size=16, soft_argmax_radius=5)


@pytest.fixture
def video() -> torch.Tensor:
    """[1, 5, 3, 32, 48]."""
    return torch.rand(1, 5, 3, 32, 48, generator=torch.Generator().manual_seed(2)) * 2 - 1


@pytest.fixture
def queries() -> torch.Tensor:
    """[1, 4, 3]: whole frames, corners of the frame among them."""
    return torch.tensor([[[0, 10.5, 8.2], [4, 48, 32], [2, 0, 0], [1, 30.1, 20.7]]])
