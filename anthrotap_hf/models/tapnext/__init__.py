"""TAPNext: recurrence over time, attention within frames; whole clips or frame by frame."""

from __future__ import annotations

from typing import TYPE_CHECKING

import lazy_loader

if TYPE_CHECKING:
    from anthrotap_hf.models.tapnext.configuration_tapnext import TAPNextConfig
    from anthrotap_hf.models.tapnext.modeling_tapnext import (
        TAPNextForPointTracking,
        TAPNextOutput,
        TAPNextState,
    )

__all__ = ["TAPNextConfig", "TAPNextForPointTracking", "TAPNextOutput", "TAPNextState"]

__getattr__, __dir__, _ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "configuration_tapnext": ["TAPNextConfig"],
        "modeling_tapnext": ["TAPNextForPointTracking", "TAPNextOutput", "TAPNextState"],
    },
)
