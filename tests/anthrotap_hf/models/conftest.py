"""Tiny trackers, so that every path runs in a moment."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from anthrotap_hf.models.locotrack import LocoTrackConfig, LocoTrackForPointTracking
from anthrotap_hf.models.tapnext import TAPNextConfig, TAPNextForPointTracking
from benchmarks.parity import Reference


@pytest.fixture(autouse=True)
def _seed_and_threads():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def reference() -> Reference:
    """The parity cases."""
    return Reference(Path(__file__).parents[3] / "../shared/reference")


@pytest.fixture
def locotrack() -> LocoTrackForPointTracking:
    torch.manual_seed(1)
    config = LocoTrackConfig(
        stage_channels=[8, 12, 16, 16],
        stage_blocks=[1, 2, 1, 1],
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        correlation_channels=[16, 32],
        correlation_kernels=[5, 2],
        correlation_strides=[4, 2],
        num_iterations=2,
        initial_resolution=[32, 48],
    )
    return LocoTrackForPointTracking(config).eval()


@pytest.fixture
def tapnext() -> TAPNextForPointTracking:
    torch.manual_seed(1)
    config = TAPNextConfig(
        image_size=32,
        hidden_size=32,
        recurrent_size=48,
        num_hidden_layers=2,
        num_attention_heads=2,
        head_hidden_size=16,
        soft_argmax_radius=5,
    )
    return TAPNextForPointTracking(config).eval()


@pytest.fixture
def video() -> torch.Tensor:
    """[1, 5, 3, 32, 48]."""
    return torch.rand(1, 5, 3, 32, 48, generator=torch.Generator().manual_seed(2)) * 2 - 1


@pytest.fixture
def queries() -> torch.Tensor:
    """[1, 4, 3]: whole frames, corners of the frame among them."""
    return torch.tensor([[[0, 10.5, 8.2], [4, 48, 32], [2, 0, 0], [1, 30.1, 20.7]]])
