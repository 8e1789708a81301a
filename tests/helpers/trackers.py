"""Trackers of hardly any size with random weights, one of each kind that is published."""

from __future__ import annotations

from typing import Any

import torch

from anthrotap_hf.models.alltracker import AllTrackerConfig, AllTrackerForPointTracking
from anthrotap_hf.models.cotracker3 import CoTracker3Config, CoTracker3ForPointTracking
from anthrotap_hf.models.locotrack import LocoTrackConfig, LocoTrackForPointTracking
from anthrotap_hf.models.tapir import TAPIRConfig, TAPIRForPointTracking
from anthrotap_hf.models.tapnext import TAPNextConfig, TAPNextForPointTracking

TINY_LOCOTRACK: dict[str, Any] = {
    "stage_channels": [8, 12, 16, 16],
    "stage_blocks": [1, 1, 1, 1],
    "hidden_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 4,
    "correlation_channels": [16, 32],
    "correlation_kernels": [5, 2],
    "correlation_strides": [4, 2],
    "num_iterations": 1,
    "initial_resolution": [32, 32],
}
TINY_TAPIR: dict[str, Any] = {
    # With fewer than 16, torch 2.13 crashes in the backward pass of a strided 1x1 convolution (oneDNN, AVX-512).
    "stage_channels": [16, 16, 16, 16],
    "stage_blocks": [1, 1, 1, 1],
    "extra_channels": 20,
    "cost_channels": [4, 6, 8],
    "hidden_size": 24,
    "num_hidden_layers": 2,
    "num_iterations": 2,
    "initial_resolution": [32, 32],
}
TINY_TAPNEXT: dict[str, Any] = {
    "image_size": 32,
    "hidden_size": 32,
    "recurrent_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
}

TINY_ALLTRACKER: dict[str, Any] = {
    "resolution": [32, 48],
    "encoder": "residual",
    # Not 8: oneDNN writes beyond its memory in the backward pass of 1 x 1 convolutions of 8 channels with stride 2.
    "encoder_channels": [16, 16, 16, 16],
    "encoder_blocks": [1, 1, 1, 1],
    "feature_size": 16,
    "hidden_size": 16,
    "window_size": 4,
    "num_levels": 2,
    "support_radius": 4,
    "num_layers": 1,
    "num_attention_heads": 2,
    "num_iterations": 2,
}
TINY_COTRACKER3: dict[str, Any] = {
    "resolution": [32, 48],
    "window_size": 4,
    "stage_channels": [16, 16, 16, 16],  # not 8, as above
    "feature_size": 16,
    "num_levels": 2,
    "support_radius": 1,
    "correlation_hidden_size": 16,
    "correlation_size": 8,
    "hidden_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "num_virtual_tracks": 3,
    "num_iterations": 2,
    "support_grid_size": 2,
}


def tiny_alltracker(seed: int = 1, **settings: Any) -> AllTrackerForPointTracking:
    """Make an AllTracker; `settings` change its configuration."""
    torch.manual_seed(seed)
    return AllTrackerForPointTracking(AllTrackerConfig(**TINY_ALLTRACKER | settings)).eval()


def tiny_cotracker3(seed: int = 1, **settings: Any) -> CoTracker3ForPointTracking:
    """Make a CoTracker3; `settings` change its configuration."""
    torch.manual_seed(seed)
    model = CoTracker3ForPointTracking(CoTracker3Config(**TINY_COTRACKER3 | settings)).eval()
    # At first its heads move nothing.
    for head in (model.transformer.position_head, model.transformer.state_head):
        head.reset_parameters()
    return model


def tiny_locotrack(seed: int = 1, **settings: Any) -> LocoTrackForPointTracking:
    """Make a LocoTrack; `settings` change its configuration."""
    torch.manual_seed(seed)
    return LocoTrackForPointTracking(LocoTrackConfig(**TINY_LOCOTRACK | settings)).eval()


def tiny_tapir(seed: int = 1, **settings: Any) -> TAPIRForPointTracking:
    """Make a TAPIR; `settings` change its configuration."""
    torch.manual_seed(seed)
    return TAPIRForPointTracking(TAPIRConfig(**TINY_TAPIR | settings)).eval()


def tiny_tapnext(seed: int = 1, **settings: Any) -> TAPNextForPointTracking:
    """Make a TAPNext; `settings` change its configuration."""
    torch.manual_seed(seed)
    return TAPNextForPointTracking(TAPNextConfig(**TINY_TAPNEXT | settings)).eval()
