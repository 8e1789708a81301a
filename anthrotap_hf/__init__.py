"""AnthroTAP: trustworthy point tracks on people, as a dataset and in trackers.

Importing this registers the dataset's name, the models and the pipeline's task; heavy imports stay lazy.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import lazy_loader

from anthrotap_hf import evaluation, models, pipelines
from anthrotap_hf.utils.import_hooks import when_imported

if TYPE_CHECKING:
    from types import ModuleType

    from anthrotap_hf.data.loading import load_dataset
    from anthrotap_hf.data.streaming import StreamedClips, stream_clips
    from anthrotap_hf.models.alltracker import AllTrackerConfig, AllTrackerForPointTracking
    from anthrotap_hf.models.cotracker3 import CoTracker3Config, CoTracker3ForPointTracking
    from anthrotap_hf.models.flowchain import FlowChainConfig, FlowChainForPointTracking
    from anthrotap_hf.models.locotrack import LocoTrackConfig, LocoTrackForPointTracking
    from anthrotap_hf.models.tapir import TAPIRConfig, TAPIRForPointTracking
    from anthrotap_hf.models.tapnext import TAPNextConfig, TAPNextForPointTracking
    from anthrotap_hf.models.tokenhmr import TokenHMRConfig, TokenHMRForHumanMeshRecovery
    from anthrotap_hf.pipelines import OnlineTracker, PointTrackingImageProcessor, PointTrackingPipeline
    from anthrotap_hf.schema import decode_clip, decode_row, decode_tracks
    from anthrotap_hf.tracks import TrackedClip, Tracks
    from anthrotap_hf.training.samples import collate, to_training_sample

__all__ = [
    "AllTrackerConfig",
    "AllTrackerForPointTracking",
    "CoTracker3Config",
    "CoTracker3ForPointTracking",
    "FlowChainConfig",
    "FlowChainForPointTracking",
    "LocoTrackConfig",
    "LocoTrackForPointTracking",
    "OnlineTracker",
    "PointTrackingImageProcessor",
    "PointTrackingPipeline",
    "StreamedClips",
    "TAPIRConfig",
    "TAPIRForPointTracking",
    "TAPNextConfig",
    "TAPNextForPointTracking",
    "TokenHMRConfig",
    "TokenHMRForHumanMeshRecovery",
    "TrackedClip",
    "Tracks",
    "__version__",
    "collate",
    "decode_clip",
    "decode_row",
    "decode_tracks",
    "evaluation",
    "load_dataset",
    "stream_clips",
    "to_training_sample",
]

_lazy_getattr, _, _ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "data.loading": ["load_dataset"],
        "data.streaming": ["StreamedClips", "stream_clips"],
        "models.alltracker": ["AllTrackerConfig", "AllTrackerForPointTracking"],
        "models.cotracker3": ["CoTracker3Config", "CoTracker3ForPointTracking"],
        "models.flowchain": ["FlowChainConfig", "FlowChainForPointTracking"],
        "models.locotrack": ["LocoTrackConfig", "LocoTrackForPointTracking"],
        "models.tapir": ["TAPIRConfig", "TAPIRForPointTracking"],
        "models.tapnext": ["TAPNextConfig", "TAPNextForPointTracking"],
        "models.tokenhmr": ["TokenHMRConfig", "TokenHMRForHumanMeshRecovery"],
        "pipelines": ["OnlineTracker", "PointTrackingImageProcessor", "PointTrackingPipeline"],
        "schema": ["decode_clip", "decode_row", "decode_tracks"],
        "tracks": ["TrackedClip", "Tracks"],
        "training.samples": ["collate", "to_training_sample"],
    },
)


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("anthrotap")
    return _lazy_getattr(name)


def __dir__() -> list[str]:
    return list(__all__)


def _register_dataset_name(module: ModuleType) -> None:
    from anthrotap_hf.data.loading import register_dataset_name

    register_dataset_name(module)


def _end_opencv_threads_before_forks(module: ModuleType) -> None:
    from anthrotap_hf.utils import opencv_threads

    opencv_threads.end_before_forks()


def _name_the_collate_function(module: ModuleType) -> None:
    """Let torch's own collate function say what to pass for rows of this package.

    It fails at the None that a row's video has as path. `default_collate_fn_map` is where torch takes functions for
    further types; the error stays the same but for the hint.
    """

    def refuse(batch: object, *, collate_fn_map: object = None) -> None:
        raise TypeError(
            "default_collate: batch must contain tensors, numpy arrays, numbers, dicts or lists; found "
            f"{type(None)}; for rows of an AnthroTAP dataset, pass collate_fn=anthrotap_hf.collate to the DataLoader"
        )

    module.default_collate_fn_map.setdefault(type(None), refuse)


when_imported("datasets.load", _register_dataset_name)
when_imported("torch.utils.data._utils.collate", _name_the_collate_function)
when_imported("cv2", _end_opencv_threads_before_forks)
models.register_with_transformers()
pipelines.register_with_transformers()
