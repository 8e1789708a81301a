"""AnthroTAP: trustworthy point tracks on people, as a dataset and in trackers.

Importing this registers the dataset's name, the models and the pipeline's task; heavy imports stay lazy.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from anthrotap_hf import evaluation, models, pipelines
from anthrotap_hf.utils.import_hooks import when_imported

if TYPE_CHECKING:
    from types import ModuleType

    from anthrotap_hf.data.loading import decode_row, decode_tracks, load_dataset
    from anthrotap_hf.data.streaming import StreamedClip, StreamedClips, stream_clips
    from anthrotap_hf.models.flowchain import FlowChainConfig, FlowChainForPointTracking
    from anthrotap_hf.models.locotrack import LocoTrackConfig, LocoTrackForPointTracking
    from anthrotap_hf.models.tapnext import TAPNextConfig, TAPNextForPointTracking
    from anthrotap_hf.models.tokenhmr import TokenHMRConfig, TokenHMRForHumanMeshRecovery
    from anthrotap_hf.pipelines import PointTrackingImageProcessor, PointTrackingPipeline
    from anthrotap_hf.tracks import Tracks

__all__ = [
    "FlowChainConfig",
    "FlowChainForPointTracking",
    "LocoTrackConfig",
    "LocoTrackForPointTracking",
    "PointTrackingImageProcessor",
    "PointTrackingPipeline",
    "StreamedClip",
    "StreamedClips",
    "TAPNextConfig",
    "TAPNextForPointTracking",
    "TokenHMRConfig",
    "TokenHMRForHumanMeshRecovery",
    "Tracks",
    "__version__",
    "decode_row",
    "decode_tracks",
    "evaluation",
    "load_dataset",
    "stream_clips",
]

_HOMES = {
    "FlowChainConfig": "models.flowchain",
    "FlowChainForPointTracking": "models.flowchain",
    "LocoTrackConfig": "models.locotrack",
    "LocoTrackForPointTracking": "models.locotrack",
    "PointTrackingImageProcessor": "pipelines",
    "PointTrackingPipeline": "pipelines",
    "StreamedClip": "streaming",
    "StreamedClips": "streaming",
    "TAPNextConfig": "models.tapnext",
    "TAPNextForPointTracking": "models.tapnext",
    "TokenHMRConfig": "models.tokenhmr",
    "TokenHMRForHumanMeshRecovery": "models.tokenhmr",
    "Tracks": "tracks",
    "decode_row": "loading",
    "decode_tracks": "loading",
    "load_dataset": "loading",
    "stream_clips": "streaming",
}


def _serve_dataset(module: ModuleType) -> None:
    from anthrotap_hf.data.loading import serve_name

    serve_name(module)


def _guard_forks(module: ModuleType) -> None:
    from anthrotap_hf.utils import opencv_threads

    opencv_threads.end_before_forks()


def __getattr__(name: str) -> Any:
    import importlib

    if name == "__version__":
        from importlib.metadata import version

        return version("anthrotap")
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return __all__


when_imported("datasets.load", _serve_dataset)
when_imported("cv2", _guard_forks)
models.register_with_transformers()
pipelines.register_with_transformers()
