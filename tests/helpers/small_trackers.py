"""Trackers of hardly any size, random weights: one of each kind that is published."""

from __future__ import annotations

from anthrotap_hf.models.locotrack import LocoTrackConfig, LocoTrackForPointTracking
from anthrotap_hf.models.tapnext import TAPNextConfig, TAPNextForPointTracking


def small_locotrack() -> LocoTrackForPointTracking:
    return LocoTrackForPointTracking(
        LocoTrackConfig(
            stage_channels=(16, 16, 16, 16),
            stage_blocks=(1, 1, 1, 1),
            hidden_size=16,
            num_hidden_layers=1,
            num_attention_heads=2,
            correlation_channels=(16,),
            correlation_kernels=(3,),
            correlation_strides=(2,),
            num_iterations=1,
            support_radius=1,
            initial_resolution=(32, 32),
        )
    )


def small_tapnext() -> TAPNextForPointTracking:
    return TAPNextForPointTracking(
        TAPNextConfig(
            image_size=32, hidden_size=32, recurrent_size=32, num_hidden_layers=1, num_attention_heads=2
        )
    )
