"""`pipeline("point-tracking")`: the pipeline, and the image processor that brings videos to a model's size."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import lazy_loader

from anthrotap_hf.models import CONFIGS, TRACKERS
from anthrotap_hf.utils.hub_names import may_be_loaded, split_revision
from anthrotap_hf.utils.import_hooks import when_imported

if TYPE_CHECKING:
    from types import ModuleType

    from anthrotap_hf.pipelines.image_processing_point_tracking import PointTrackingImageProcessor
    from anthrotap_hf.pipelines.loading import TrackerError, load_tracker
    from anthrotap_hf.pipelines.point_tracking import PointTrackingPipeline

__all__ = ["PointTrackingImageProcessor", "PointTrackingPipeline", "TrackerError", "load_tracker"]

_MODELS = Path(__file__).parents[1] / "models"
BUNDLED = {"flowchain": _MODELS / "flowchain/default", "locotrack-tiny": _MODELS / "locotrack/default"}
"""Trackers that come with the package: commands know them by these names."""
DEFAULT_MODEL = BUNDLED["locotrack-tiny"]

__getattr__, __dir__, _ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "image_processing_point_tracking": ["PointTrackingImageProcessor"],
        "loading": ["TrackerError", "load_tracker"],
        "point_tracking": ["PointTrackingPipeline"],
    },
)


def find_tracker(name: str) -> tuple[str, str | None]:
    """Where a tracker is, as `from_pretrained` takes it, and its pinned revision: a bundled one by its name, a folder,
    or a Hub id. Raises ValueError for what can be none of these, so that the Hub is not asked for a folder."""
    if name in BUNDLED:
        if os.path.exists(os.path.join(name, "config.json")):
            raise ValueError(f"a tracker that comes along is called so, and a folder here: ./{name} is the folder")
        return str(BUNDLED[name]), None
    if not may_be_loaded(name):
        raise ValueError(
            f"no such folder, none of the trackers that come along ({', '.join(BUNDLED)}), and no Hub id, which is "
            "user/name"
        )
    return split_revision(os.path.expanduser(name))


def register_with_transformers() -> None:
    """Make `pipeline()` know the task, and `AutoImageProcessor` our processor, as soon as transformers has them."""
    when_imported("transformers.pipelines", _register_pipeline, not_during=[f"{__name__}.point_tracking"])
    when_imported(
        "transformers.models.auto.image_processing_auto",
        _register_processor,
        not_during=[f"{__name__}.image_processing_point_tracking"],
    )


def _register_pipeline(transformers_pipelines: ModuleType) -> None:
    from anthrotap_hf.pipelines.point_tracking import TASK, PointTrackingPipeline

    transformers_pipelines.PIPELINE_REGISTRY.register_pipeline(
        TASK,
        pipeline_class=PointTrackingPipeline,
        pt_model=(transformers_pipelines.AutoModel,),
        default={"model": (str(DEFAULT_MODEL), None)},
        type="video",
    )


def _register_processor(auto: ModuleType) -> None:
    from anthrotap_hf.pipelines.image_processing_point_tracking import PointTrackingImageProcessor

    for name in TRACKERS:
        auto.AutoImageProcessor.register(
            CONFIGS.load(name), image_processor_classes={"pil": PointTrackingImageProcessor}, exist_ok=True
        )
