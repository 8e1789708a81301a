"""Results of trackers on benchmarks: as measured by `anthrotap evaluate`, or as the paper published them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from anthrotap_hf.evaluation.report import MAIN
from anthrotap_hf.utils.errors import AnthroTapError
from anthrotap_hf.utils.file_limits import read_json

if TYPE_CHECKING:
    from huggingface_hub import EvalResultEntry

PAPER = "https://arxiv.org/abs/2507.06233"
DATASETS = {"tapvid-davis": "jxie/tapvid-davis"}
"""Datasets of the Hub that hold a benchmark's videos: the Hub's entries of results must name one."""
# AJ, average delta and OA in percent, of the paper's main table.
PUBLISHED = {
    "anthro-locotrack-base": (
        ("tapvid-davis", "first", 64.8, 77.3, 89.1),
        ("tapvid-davis", "strided", 69.0, 81.0, 90.8),
        ("tapvid-kinetics", "first", 53.9, 68.4, 86.4),
        ("robotap", "first", 64.7, 79.2, 88.4),
    ),
    "anthro-tapnext": (
        ("tapvid-davis", "first", 66.1, 79.3, 91.7),
        ("tapvid-davis", "strided", 71.4, 83.5, 92.4),
        ("robotap", "first", 63.4, 76.3, 90.2),
    ),
}


def published_results(card: str | None) -> list[dict[str, Any]]:
    """Return the paper's results of a named tracker: `benchmark`, `mode` and `mean`, the metrics as fractions."""
    return [
        {
            "benchmark": benchmark,
            "mode": mode,
            "mean": {metric: value / 100 for metric, value in zip(MAIN, percent, strict=True)},
        }
        for benchmark, mode, *percent in PUBLISHED.get(card or "", ())
    ]


def read_report(path: Path, key: str) -> dict[str, Any]:
    """Read the results of one tracker in a report: `benchmark`, `mode`, `videos` (how many) and `mean`.

    Args:
        path: The report of `anthrotap evaluate`, `BENCHMARK-MODE.json`.
        key: The tracker's `EvaluatedModel.key`: results of other weights, or of other code, are not its own.

    Raises:
        AnthroTapError: if it is not such a report, or not of this tracker.
        OSError: if it can't be opened.
    """
    try:
        report = read_json(path, limit=None)
        models = {model["key"]: model["mean"] for model in report["models"]}
        found = {name: report[name] for name in ("benchmark", "mode", "videos")}
    except (ValueError, KeyError, TypeError) as error:
        raise AnthroTapError(f"not a report of `anthrotap evaluate` ({error})", path=path) from error
    if key not in models:
        raise AnthroTapError(
            f"it evaluates other weights or other code ({', '.join(models)}), not this tracker ({key})",
            path=path,
            hint="run `anthrotap evaluate` on it",
        )
    return found | {"mean": models[key]}


def result_files(published: Iterable[Mapping[str, Any]], measured: Iterable[Mapping[str, Any]]) -> dict[str, bytes]:
    """Return the Hub's result entries, `.eval_results/BENCHMARK.yaml`, for benchmarks that have a dataset there."""
    from huggingface_hub import eval_result_entries_to_yaml

    entries: dict[str, list[EvalResultEntry]] = defaultdict(list)
    for row in published:
        source = {"source_url": PAPER, "source_name": "AnthroTAP, CVPR 2026"}
        entries[row["benchmark"]] += _entries(row, "as published, not measured here", source)
    for row in measured:
        entries[row["benchmark"]] += _entries(row, f"{row['videos']} videos, by anthrotap evaluate", {})
    return {
        f".eval_results/{benchmark}.yaml": yaml.safe_dump(eval_result_entries_to_yaml(found), sort_keys=False).encode()
        for benchmark, found in entries.items()
        if found
    }


def _entries(row: Mapping[str, Any], notes: str, source: Mapping[str, str]) -> list[EvalResultEntry]:
    from huggingface_hub import EvalResultEntry

    if row["benchmark"] not in DATASETS:
        return []
    return [
        EvalResultEntry(
            dataset_id=DATASETS[row["benchmark"]],
            task_id=f"{row['mode']}_{metric}",
            value=round(100 * row["mean"][metric], 2),
            notes=f"{row['mode']}, 256x256, {notes}",
            **source,
        )
        for metric in MAIN
    ]
