"""Judging trackers: TAP-Vid's metrics, readers of its benchmarks and of others, and the run over all videos of one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import lazy_loader

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

__getattr__, __dir__, _ = lazy_loader.attach(
    "anthrotap_hf",
    submod_attrs={
        "evaluation.metrics": ["sample_queries", "tapvid_metrics"],
        "readers.benchmarks": ["EvaluationVideo", "read_points", "read_shards", "read_tapvid"],
    },
)
