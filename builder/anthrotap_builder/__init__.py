"""From a video to published shards: everything that makes labels. Heavy parts load when used."""

from __future__ import annotations

from typing import TYPE_CHECKING

import lazy_loader

if TYPE_CHECKING:
    from anthrotap_builder.config import LabelingConfig, labeling_config
    from anthrotap_builder.filtering import filter_tracks
    from anthrotap_builder.geometry.visibility import visible_vertices
    from anthrotap_builder.pipeline import LabeledClip, label_clip, label_video

__all__ = [
    "LabeledClip",
    "LabelingConfig",
    "filter_tracks",
    "label_clip",
    "label_video",
    "labeling_config",
    "visible_vertices",
]

__getattr__, __dir__, _ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "config": ["LabelingConfig", "labeling_config"],
        "filtering": ["filter_tracks"],
        "geometry.visibility": ["visible_vertices"],
        "pipeline": ["LabeledClip", "label_clip", "label_video"],
    },
)
