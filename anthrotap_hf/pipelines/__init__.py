"""`pipeline("point-tracking")`: the pipeline, and the image processor that brings videos to a model's size."""

from __future__ import annotations

import importlib
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from anthrotap_hf.models import TRACKERS
from anthrotap_hf.utils.hub_names import may_be_loaded, split_revision
from anthrotap_hf.utils.import_hooks import is_half_imported, on_import

if TYPE_CHECKING:
    from types import ModuleType

    from anthrotap_hf.pipelines.image_processing_point_tracking import PointTrackingImageProcessor
    from anthrotap_hf.pipelines.point_tracking import PointTrackingPipeline

__all__ = ["PointTrackingImageProcessor", "PointTrackingPipeline"]

_MODELS = Path(__file__).parents[1] / "models"
BUNDLED = {"flowchain": _MODELS / "flowchain/default", "locotrack-tiny": _MODELS / "locotrack/default"}
"""Trackers that come with the package: commands know them by these names."""
DEFAULT_MODEL = BUNDLED["locotrack-tiny"]

_IMPORT_STRUCTURE = {
    "PointTrackingImageProcessor": "image_processing_point_tracking",
    "PointTrackingPipeline": "point_tracking",
}


def find_tracker(name: str) -> tuple[str, str | None]:
    """Where a tracker is, as `from_pretrained` takes it, and its pinned revision: a bundled one by its name, a folder,
    or a Hub id. Raises ValueError for what can be none of these, so that the Hub is not asked for a folder."""
    if name in BUNDLED:
        if os.path.exists(os.path.join(name, "config.json")):
            raise ValueError(
                f"a tracker that comes along is called so, and a folder here: ./{name} is the folder"
            )
        return str(BUNDLED[name]), None
    if not may_be_loaded(name):
        raise ValueError(
            f"no such folder, none of the trackers that come along ({', '.join(BUNDLED)}), and no Hub id, which is "
            "user/name"
        )
    return split_revision(os.path.expanduser(name))


_PIPELINES = "transformers.pipelines"
_AUTO_PROCESSOR = "transformers.models.auto.image_processing_auto"


def register_with_transformers() -> None:
    """Make `pipeline()` know the task, and `AutoImageProcessor` our processor, as soon as transformers has them."""
    for name in (_PIPELINES, f"{__name__}.point_tracking"):
        on_import(name, _register_pipeline)
    for name in (_AUTO_PROCESSOR, f"{__name__}.image_processing_point_tracking"):
        on_import(name, _register_processor)


def _register_pipeline(finished: ModuleType) -> None:
    transformers = sys.modules.get(_PIPELINES)
    ours = f"{__name__}.point_tracking"
    if transformers is None or any(is_half_imported(name, finished) for name in (_PIPELINES, ours)):
        return  # the one that is still being imported calls again
    tracking = importlib.import_module(ours)
    if tracking.TASK not in transformers.PIPELINE_REGISTRY.supported_tasks:
        transformers.PIPELINE_REGISTRY.register_pipeline(
            tracking.TASK,
            pipeline_class=tracking.PointTrackingPipeline,
            pt_model=(transformers.AutoModel,),
            default={"model": (str(DEFAULT_MODEL), None)},
            type="video",
        )


def _register_processor(finished: ModuleType) -> None:
    auto = sys.modules.get(_AUTO_PROCESSOR)
    ours = f"{__name__}.image_processing_point_tracking"
    if auto is None or any(is_half_imported(name, finished) for name in (_AUTO_PROCESSOR, ours)):
        return
    processor = importlib.import_module(ours).PointTrackingImageProcessor
    for folder, prefix in TRACKERS.items():
        config = importlib.import_module(f"anthrotap_hf.models.{folder}.configuration_{folder}")
        auto.AutoImageProcessor.register(
            getattr(config, f"{prefix}Config"), image_processor_classes={"pil": processor}, exist_ok=True
        )


def __getattr__(name: str) -> Any:
    if name not in _IMPORT_STRUCTURE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_IMPORT_STRUCTURE[name]}"), name)
