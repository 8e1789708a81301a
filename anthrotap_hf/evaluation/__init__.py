"""Judging trackers: TAP-Vid's metrics, readers of its benchmarks and of others, and the run over all videos of one."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from anthrotap_hf.evaluation.metrics import sample_queries, tapvid_metrics
    from anthrotap_hf.readers.benchmarks import EvaluationVideo, read_points, read_shards, read_tapvid

__all__ = [
    "EvaluationVideo",
    "read_points",
    "read_shards",
    "read_tapvid",
    "sample_queries",
    "tapvid_metrics",
]

_IMPORT_STRUCTURE = {
    "EvaluationVideo": "readers",
    "read_points": "readers",
    "read_shards": "readers",
    "read_tapvid": "readers",
    "sample_queries": "metrics",
    "tapvid_metrics": "metrics",
}


def __getattr__(name: str) -> Any:
    if name not in _IMPORT_STRUCTURE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_IMPORT_STRUCTURE[name]}"), name)
