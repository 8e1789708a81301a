"""`pipeline("point-tracking")`: the pipeline, and the image processor that brings videos to a model's size."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from anthrotap_hf.imports import when_imported
from anthrotap_hf.models import MODELS

if TYPE_CHECKING:
    from types import ModuleType

    from anthrotap_hf.pipelines.image_processing_point_tracking import PointTrackingImageProcessor
    from anthrotap_hf.pipelines.point_tracking import PointTrackingPipeline

__all__ = ["PointTrackingImageProcessor", "PointTrackingPipeline"]

DEFAULT_MODEL = Path(__file__).parents[1] / "models/flowchain/default"

_HOMES = {
    "PointTrackingImageProcessor": "image_processing_point_tracking",
    "PointTrackingPipeline": "point_tracking",
}


def register_with_transformers() -> None:
    """Make `pipeline()` know the task, and `AutoImageProcessor` our processor, as soon as transformers has them."""
    when_imported("transformers.pipelines", _register_pipeline)
    when_imported("transformers.models.auto.image_processing_auto", _register_processor)


def _register_pipeline(module: ModuleType) -> None:
    from anthrotap_hf.pipelines.point_tracking import TASK, PointTrackingPipeline

    module.PIPELINE_REGISTRY.register_pipeline(
        TASK,
        pipeline_class=PointTrackingPipeline,
        pt_model=(module.AutoModel,),
        default={"model": (str(DEFAULT_MODEL), None)},
        type="video",
    )


def _register_processor(module: ModuleType) -> None:
    from anthrotap_hf.pipelines.image_processing_point_tracking import PointTrackingImageProcessor

    for folder, prefix in MODELS.items():
        config = getattr(
            importlib.import_module(f"anthrotap_hf.models.{folder}.configuration_{folder}"), f"{prefix}Config"
        )
        module.AutoImageProcessor.register(
            config, image_processor_classes={"pil": PointTrackingImageProcessor}, exist_ok=True
        )


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
