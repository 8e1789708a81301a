"""LocoTrack: local correlation and a transformer over time."""

from __future__ import annotations

from typing import TYPE_CHECKING

import lazy_loader

if TYPE_CHECKING:
    from anthrotap_hf.models.locotrack.configuration_locotrack import LocoTrackConfig
    from anthrotap_hf.models.locotrack.modeling_locotrack import (
        LocoTrackFeatures,
        LocoTrackForPointTracking,
        LocoTrackOutput,
    )

__all__ = ["LocoTrackConfig", "LocoTrackFeatures", "LocoTrackForPointTracking", "LocoTrackOutput"]

__getattr__, __dir__, _ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "configuration_locotrack": ["LocoTrackConfig"],
        "modeling_locotrack": ["LocoTrackFeatures", "LocoTrackForPointTracking", "LocoTrackOutput"],
    },
)
