"""LocoTrack: local correlation and a transformer over time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from anthrotap_hf.models.locotrack.configuration_locotrack import LocoTrackConfig
    from anthrotap_hf.models.locotrack.modeling_locotrack import (
        LocoTrackFeatures,
        LocoTrackForPointTracking,
        LocoTrackOutput,
    )

__all__ = ["LocoTrackConfig", "LocoTrackFeatures", "LocoTrackForPointTracking", "LocoTrackOutput"]


def __getattr__(name: str) -> Any:
    from anthrotap_hf.models import lazy_member

    return lazy_member(__name__, name, __all__)
