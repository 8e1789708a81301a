"""Results of trackers on benchmarks: as measured by `anthrotap evaluate`, or as the paper published them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from anthrotap_hf.evaluation.report import MAIN

if TYPE_CHECKING:
    from huggingface_hub import EvalResultEntry

PAPER = "https://arxiv.org/abs/2507.06233"
# Datasets of the Hub that hold a benchmark's videos: an entry of results must name one.
DATASETS = {"tapvid-davis": "jxie/tapvid-davis"}
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


def published(name: str) -> list[dict[str, Any]]:
    """What the paper says of one of its trackers, as `read_report` says it: `benchmark`, `mode`, `mean`."""
    return [
        {
            "benchmark": benchmark,
            "mode": mode,
            "mean": {metric: value / 100 for metric, value in zip(MAIN, percent, strict=True)},
        }
        for benchmark, mode, *percent in PUBLISHED.get(name, ())
    ]


def read_report(path: Path, key: str) -> dict[str, Any]:
    """What a report of `anthrotap evaluate` says of one tracker: `benchmark`, `mode`, `videos` (how many), `mean`.

    Args:
        path: the report, `BENCHMARK-MODE.json`.
        key: the tracker's `EvaluatedModel.key`: results of other weights, or of other code, are not its own.

    Raises:
        ValueError: if it is no such report, or not of this tracker.
        OSError: if it can't be opened.
    """
    try:
        report = json.loads(path.read_text("utf-8"))
        models = {model["key"]: model["mean"] for model in report["models"]}
        found = {name: report[name] for name in ("benchmark", "mode", "videos")}
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path}: no report of `anthrotap evaluate`: {error}") from error
    if key not in models:
        raise ValueError(
            f"{path}: it judges other weights or other code ({', '.join(models)}), not this tracker ({key}); "
            "run `anthrotap evaluate` on it"
        )
    return found | {"mean": models[key]}


def result_files(
    published: Iterable[Mapping[str, Any]], measured: Iterable[Mapping[str, Any]]
) -> dict[str, bytes]:
    """The Hub's entries of results, `.eval_results/BENCHMARK.yaml`, for benchmarks that a dataset of the Hub holds."""
    from huggingface_hub import eval_result_entries_to_yaml

    entries: dict[str, list[EvalResultEntry]] = {}
    for row in published:
        entries.setdefault(row["benchmark"], []).extend(
            _entries(row, "as published, not measured here", PAPER)
        )
    for report in measured:
        notes = f"{report['videos']} videos, by anthrotap evaluate"
        entries.setdefault(report["benchmark"], []).extend(_entries(report, notes, None))
    return {
        f".eval_results/{benchmark}.yaml": yaml.safe_dump(
            eval_result_entries_to_yaml(found), sort_keys=False
        ).encode()
        for benchmark, found in entries.items()
        if found
    }


def _entries(row: Mapping[str, Any], notes: str, source: str | None) -> list[EvalResultEntry]:
    from huggingface_hub import EvalResultEntry

    dataset = DATASETS.get(row["benchmark"])
    if dataset is None:
        return []
    return [
        EvalResultEntry(
            dataset_id=dataset,
            task_id=f"{row['mode']}_{metric}",
            value=round(100 * row["mean"][metric], 2),
            notes=f"{row['mode']}, 256x256, {notes}",
            source_url=source,
            source_name=None if source is None else "AnthroTAP, CVPR 2026",
        )
        for metric in MAIN
    ]
