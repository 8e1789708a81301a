"""The smallest trackers that the pipeline's tests run, random weights."""

from __future__ import annotations

from anthrotap_hf.models.locotrack import LocoTrackConfig, LocoTrackForPointTracking


def tiny_locotrack() -> LocoTrackForPointTracking:
    config = LocoTrackConfig(
        stage_channels=[8, 12, 16, 16],
        stage_blocks=[1, 1, 1, 1],
        hidden_size=32,
        num_hidden_layers=1,
        num_attention_heads=4,
        correlation_channels=[16, 32],
        correlation_kernels=[5, 2],
        correlation_strides=[4, 2],
        num_iterations=1,
        initial_resolution=[32, 32],
    )
    return LocoTrackForPointTracking(config)
