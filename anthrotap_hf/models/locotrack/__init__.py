"""LocoTrack: local correlation and a transformer over time."""

from anthrotap_hf.models.locotrack.configuration_locotrack import LocoTrackConfig
from anthrotap_hf.models.locotrack.modeling_locotrack import (
    LocoTrackFeatures,
    LocoTrackForPointTracking,
    LocoTrackOutput,
    visible_logits,
)

__all__ = [
    "LocoTrackConfig",
    "LocoTrackFeatures",
    "LocoTrackForPointTracking",
    "LocoTrackOutput",
    "visible_logits",
]
