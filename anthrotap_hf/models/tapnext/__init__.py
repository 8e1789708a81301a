"""TAPNext: recurrence over time, attention within frames; whole clips or frame by frame."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from anthrotap_hf.models.tapnext.configuration_tapnext import TAPNextConfig
    from anthrotap_hf.models.tapnext.modeling_tapnext import (
        TAPNextForPointTracking,
        TAPNextOutput,
        TAPNextState,
    )

__all__ = ["TAPNextConfig", "TAPNextForPointTracking", "TAPNextOutput", "TAPNextState"]


def __getattr__(name: str) -> Any:
    from anthrotap_hf.models import lazy_member

    return lazy_member(__name__, name, __all__)
