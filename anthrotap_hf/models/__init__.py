"""Point trackers as transformers models, one folder each: configuration, model, conversion of released checkpoints."""

from __future__ import annotations


def register() -> None:
    """Make `AutoConfig` and `AutoModel` know our trackers. Imports them: call once transformers is in use."""
    from transformers import AutoConfig, AutoModel

    from anthrotap_hf.models.locotrack import LocoTrackConfig, LocoTrackForPointTracking
    from anthrotap_hf.models.tapnext import TAPNextConfig, TAPNextForPointTracking

    for config, model in (
        (LocoTrackConfig, LocoTrackForPointTracking),
        (TAPNextConfig, TAPNextForPointTracking),
    ):
        AutoConfig.register(config.model_type, config, exist_ok=True)
        AutoModel.register(config, model, exist_ok=True)
