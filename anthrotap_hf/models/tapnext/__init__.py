"""TAPNext: recurrence over time, attention within frames; whole clips or frame by frame."""

from anthrotap_hf.models.tapnext.configuration_tapnext import TAPNextConfig
from anthrotap_hf.models.tapnext.modeling_tapnext import TAPNextForPointTracking, TAPNextOutput, TAPNextState

__all__ = ["TAPNextConfig", "TAPNextForPointTracking", "TAPNextOutput", "TAPNextState"]
