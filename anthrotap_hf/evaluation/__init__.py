"""Evaluation of trackers by the metrics of TAP-Vid and of later benchmarks, and statistics of datasets of tracks."""

from __future__ import annotations

from typing import TYPE_CHECKING

import lazy_loader

if TYPE_CHECKING:
    from anthrotap_hf.evaluation.metrics import sample_queries, tapvid_metrics
    from anthrotap_hf.evaluation.redetection import mean_redetection, redetections
    from anthrotap_hf.evaluation.trajectories import egopoints_metrics, trajectory_metrics
    from anthrotap_hf.readers.tapvid import read_tapvid

__all__ = [
    "egopoints_metrics",
    "mean_redetection",
    "read_tapvid",
    "redetections",
    "sample_queries",
    "tapvid_metrics",
    "trajectory_metrics",
]

__getattr__, __dir__, _ = lazy_loader.attach(
    "anthrotap_hf",
    submod_attrs={
        "evaluation.metrics": ["sample_queries", "tapvid_metrics"],
        "evaluation.redetection": ["mean_redetection", "redetections"],
        "evaluation.trajectories": ["egopoints_metrics", "trajectory_metrics"],
        "readers.tapvid": ["read_tapvid"],
    },
)
