"""From a video to published shards: everything that makes labels. Heavy parts load when used."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from anthrotap_builder.config import LabelingConfig, labeling_config
    from anthrotap_builder.pipeline import LabeledClip, label_clip, label_video

__all__ = ["LabeledClip", "LabelingConfig", "label_clip", "label_video", "labeling_config"]

_IMPORT_STRUCTURE = {
    "LabeledClip": "labeling",
    "label_clip": "labeling",
    "label_video": "labeling",
    "LabelingConfig": "config",
    "labeling_config": "config",
}


def __getattr__(name: str) -> Any:
    import importlib

    if name not in _IMPORT_STRUCTURE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_IMPORT_STRUCTURE[name]}"), name)


def __dir__() -> list[str]:
    return __all__
