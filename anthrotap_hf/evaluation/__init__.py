"""Evaluation of trackers by TAP-Vid's metrics, and statistics of datasets of point tracks."""

from __future__ import annotations

from typing import TYPE_CHECKING

import lazy_loader

if TYPE_CHECKING:
    from anthrotap_hf.evaluation.metrics import sample_queries, tapvid_metrics
    from anthrotap_hf.readers.tapvid import read_tapvid

__all__ = ["read_tapvid", "sample_queries", "tapvid_metrics"]

__getattr__, __dir__, _ = lazy_loader.attach(
    "anthrotap_hf",
    submod_attrs={
        "evaluation.metrics": ["sample_queries", "tapvid_metrics"],
        "readers.tapvid": ["read_tapvid"],
    },
)
