"""`anthrotap stats`: statistics of datasets of point tracks, side by side."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from anthrotap_hf.cli import common
from anthrotap_hf.utils.errors import AnthroTapError


def stats(
    data: Annotated[
        list[Path],
        typer.Argument(help="Datasets: a file or folder each, as its kind says.", metavar="DATA..."),
    ],
    out: common.Out,
    kind: Annotated[
        list[str] | None,
        typer.Option(
            help="One for all datasets, or one for each in their order. shards (the default): a folder of `anthrotap "
            "label`; letsdance: the released labels, a folder of .npy; kubric (as CoTracker lays it out), "
            "point-odyssey, dynamic-replica, egopoints, panning-movi-e (TFRecords), drivetrack: a folder of clips; "
            "prepared: a folder of `python -m benchmarks.training_cache`; procedural: DATA is a number of clips; "
            "tapvid: a pickle or our .npz, points: a .csv or .json beside its video, tracks: a .tracks.npz of "
            "`anthrotap track`; or a folder of them."
        ),
    ] = None,
    split: common.Split = None,
    limit: common.Limit = None,
    as_json: common.Json = False,
) -> None:
    """Measure datasets of point tracks: number, length, visibility, speed, complexity and diversity of tracks.

    Writes figures, tables and a plot. Only labels are read, except of points.
    `python -m pydoc anthrotap_hf.evaluation.track_statistics` defines each figure.

    Example: anthrotap stats labels 200 --kind shards --kind procedural --out stats
    """
    from anthrotap_hf.evaluation.dataset_statistics_report import (
        plot_statistics,
        statistics_tables,
        write_text,
    )

    with common.cli_errors(out):
        common.check_writable(out)
        report = _measure(data, _kinds(kind or [], len(data)), limit, split)
        files = [out / f"stats{suffix}" for suffix in (".json", ".txt", ".png")]
        written = common.write_report(report, files, write_text, plot_statistics)
    if as_json:
        common.print_json(report)
        return
    Console().print(statistics_tables(report))
    print("\n".join(map(str, written)))


def _kinds(given: list[str], number: int) -> list[str]:
    kinds = given or ["shards"]
    if len(kinds) not in (1, number):
        reason = f"{len(kinds)} for {number} datasets"
        raise AnthroTapError(reason, hint="give one for all, or one for each", argument="kind")
    return kinds * number if len(kinds) == 1 else kinds


def _measure(data: list[Path], kinds: list[str], limit: int | None, split: str | None) -> dict[str, Any]:
    """Measure each dataset, with a progress bar. What can be checked is checked before."""
    from anthrotap_hf.evaluation.dataset_statistics import measure_dataset
    from anthrotap_hf.evaluation.report import short_names
    from anthrotap_hf.readers import open_reader

    names = [str(path) if kind != "procedural" else kind for path, kind in zip(data, kinds, strict=True)]
    if len(set(names)) < len(names):
        raise AnthroTapError(f"a dataset is named twice: {', '.join(map(str, data))}")
    readers = [open_reader(kind, path, labels_only=True, split=split) for path, kind in zip(data, kinds, strict=True)]
    found = []
    with common.progress_bars() as on_progress:
        for name, path, kind, reader in zip(short_names(names), data, kinds, readers, strict=True):
            total = min(len(reader), limit or len(reader))
            clips = itertools.count(1)

            def on_clip(name: str = name, total: int = total, clips: Iterator[int] = clips) -> None:
                on_progress(name, next(clips), total)

            measured = measure_dataset(reader, limit, on_clip)
            found.append({"name": name, "kind": kind, "data": str(path), **measured})
    return {"resolution": [256, 256], "datasets": found}
