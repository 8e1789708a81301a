"""`pipeline("point-tracking")`: the pipeline, and the image processor that brings videos to a model's size."""

from __future__ import annotations

import difflib
import logging
import os
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any

import lazy_loader

from anthrotap_hf.models import CONFIGS, TRACKERS
from anthrotap_hf.utils.errors import AnthroTapError
from anthrotap_hf.utils.hub_names import may_be_loaded, split_revision
from anthrotap_hf.utils.import_hooks import when_imported

if TYPE_CHECKING:
    from types import ModuleType

    from anthrotap_hf.pipelines.image_processing_point_tracking import PointTrackingImageProcessor
    from anthrotap_hf.pipelines.loading import TrackerError, load_tracker
    from anthrotap_hf.pipelines.online import OnlineTracker
    from anthrotap_hf.pipelines.point_tracking import PointTrackingPipeline

logger = logging.getLogger(__name__)

__all__ = ["OnlineTracker", "PointTrackingImageProcessor", "PointTrackingPipeline", "TrackerError", "load_tracker"]

_MODELS = Path(__file__).parents[1] / "models"
BUNDLED = {"flowchain": _MODELS / "flowchain/default", "locotrack-tiny": _MODELS / "locotrack/default"}
"""Trackers that come with the package: commands know them by these names."""
DEFAULT_MODEL = BUNDLED["locotrack-tiny"]

__getattr__, __dir__, _ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "image_processing_point_tracking": ["PointTrackingImageProcessor"],
        "loading": ["TrackerError", "load_tracker"],
        "online": ["OnlineTracker"],
        "point_tracking": ["PointTrackingPipeline"],
    },
)


def find_tracker(name: str, progress: Callable[[str, int, int | None], object] | None = None) -> tuple[str, str | None]:
    """Where a tracker is, as `from_pretrained` takes it, and its pinned revision.

    Args:
        name: a bundled tracker's, a known one's (`anthrotap_hf/models/checkpoints.yaml`), which is downloaded and
            converted if it was not before; a folder, or a Hub id.
        progress: see `known_trackers.Progress`.

    Raises:
        AnthroTapError: it can be none of these, so that the Hub is not asked for a folder; or a known tracker can't be
            had.
        ValueError: a bundled tracker and a folder here have this name.
        OSError: a known tracker can't be written to the cache.
    """
    if name in BUNDLED:
        if os.path.exists(os.path.join(name, "config.json")):
            raise ValueError(f"a tracker that comes along is called so, and a folder here: ./{name} is the folder")
        return str(BUNDLED[name]), None
    if is_known(name):
        from anthrotap_hf.models.checkpoints import checkpoints
        from anthrotap_hf.pipelines.known_trackers import prepare

        return str(prepare(checkpoints()[name], progress)), None
    check_tracker_name(name)
    return split_revision(os.path.expanduser(name))


def is_known(name: str) -> bool:
    """Return whether a name is that of a known tracker, and not of a folder here, which goes first."""
    from anthrotap_hf.models.checkpoints import checkpoints

    if name not in checkpoints():
        return False
    if os.path.exists(os.path.join(name, "config.json")):
        logger.warning("%s is a folder here: it is taken, not the known tracker of this name", name)
        return False
    return True


def check_tracker_name(name: str) -> None:
    """Raise AnthroTapError if `find_tracker` can't find a name; nothing is downloaded for that.

    The hint names the trackers whose names are most like it, or says how all are listed. `argument` is "model".
    """
    if name in BUNDLED or is_known(name):
        return
    path = Path(name).expanduser()
    if path.is_file():
        reason = "a file, and a tracker is a folder"
        hint = f"`anthrotap convert ARCHITECTURE {name} FOLDER` makes one of a released checkpoint"
        raise AnthroTapError(reason, path=name, hint=hint, argument="model")
    if path.is_dir() and not (path / "config.json").exists() and (path / "model/config.json").is_file():
        reason = "no tracker is in this folder itself"
        hint = f"a training has written {path / 'model'}"
        raise AnthroTapError(reason, path=name, hint=hint, argument="model")
    if may_be_loaded(name):
        return
    asked = name.lower().replace("_", "-")
    # "cotracker3" is the beginning of several names, and so nearest to them.
    begun = [known for known in tracker_names() if known.startswith(asked) and len(asked) > 2]
    similar = begun or difflib.get_close_matches(asked, tracker_names())
    hint = f"did you mean {' or '.join(similar)}?" if similar else "`anthrotap trackers` lists all names"
    reason = "no tracker of that name, no such folder, and no Hub id, which is user/name"
    raise AnthroTapError(reason, path=name, hint=hint, argument="model")


def tracker_names() -> list[str]:
    """Return the names of the bundled and of the known trackers."""
    from anthrotap_hf.models.checkpoints import checkpoints

    return [*BUNDLED, *checkpoints()]


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
    _serve_names(transformers_pipelines)


def _register_processor(auto: ModuleType) -> None:
    from anthrotap_hf.pipelines.image_processing_point_tracking import PointTrackingImageProcessor

    for name in TRACKERS:
        auto.AutoImageProcessor.register(
            CONFIGS.load(name), image_processor_classes={"pil": PointTrackingImageProcessor}, exist_ok=True
        )


def _serve_names(transformers_pipelines: ModuleType) -> None:
    """Let `pipeline("point-tracking", model=...)` take the names of bundled and known trackers."""
    import transformers

    from anthrotap_hf.pipelines.point_tracking import TASK

    original = transformers_pipelines.pipeline

    @wraps(original)
    def pipeline(task: str | None = None, model: Any = None, *args: Any, **kwargs: Any) -> Any:
        if isinstance(model, str) and task in (None, TASK) and (model in BUNDLED or is_known(model)):
            task, (model, _) = TASK, find_tracker(model)
            # Our classes are here: the code that lies beside the weights is for where they are not.
            kwargs.setdefault("trust_remote_code", False)
        elif isinstance(model, str) and task == TASK:
            # The Hub would be asked for a mistyped name.
            check_tracker_name(model)
        elif model is None and task == TASK:
            # transformers would warn that nobody should rely on its choice: this one comes along.
            model = str(DEFAULT_MODEL)
            kwargs.setdefault("trust_remote_code", False)
        return original(task, model, *args, **kwargs)

    # Who imported `pipeline` before this package has the original: it asks the Hub, by this function first.
    resolve = getattr(transformers_pipelines, "resolve_revision", None)

    def resolve_revision(name: str, *args: Any, **kwargs: Any) -> Any:
        if name in BUNDLED or is_known(name):
            raise ValueError(
                f"{name} is a tracker of anthrotap_hf: import anthrotap_hf before `from transformers import pipeline`"
            )
        return resolve(name, *args, **kwargs)  # type: ignore[misc]

    if resolve is not None:
        transformers_pipelines.resolve_revision = resolve_revision  # type: ignore[attr-defined]
    transformers_pipelines.pipeline = pipeline  # type: ignore[attr-defined]
    if vars(transformers).get("pipeline") is original:
        transformers.pipeline = pipeline
