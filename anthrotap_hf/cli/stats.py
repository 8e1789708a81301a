"""`anthrotap stats`: what the point tracks of datasets are like, side by side."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from anthrotap_hf.cli.common import check_writable, cli_errors, print_json, write_report


def stats(
    data: Annotated[
        list[Path],
        typer.Argument(help="Datasets: a file or folder each, as its kind says.", metavar="DATA..."),
    ],
    out: Annotated[Path, typer.Option(help="Folder for figures, tables and a plot.")],
    kind: Annotated[
        list[str] | None,
        typer.Option(
            help="One for all datasets, or one for each in their order. shards (the default): a folder of `anthrotap "
            "label`; letsdance: the released labels, a folder of .npy; kubric (as CoTracker lays it out), "
            "pointodyssey, movi (TFRecords), drivetrack: a folder of clips; procedural: DATA is a number of clips; "
            "tapvid: a pickle, or a folder of them; points: a .csv or .json beside its video, or a folder of such."
        ),
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Only so many clips of each, the first.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the figures as JSON, no table.")] = False,
) -> None:
    """Look at datasets of point tracks: how many, how long, how visible, how fast, how complex, how diverse.

    Only labels are read, except of tapvid and points. `python -m pydoc anthrotap_hf.evaluation.track_statistics` defines
    each figure.

    Example: anthrotap stats labels 200 --kind shards --kind procedural --out stats
    """
    errors = Console(stderr=True)
    files = [out / f"stats{suffix}" for suffix in (".json", ".txt", ".png")]
    with cli_errors(out):
        check_writable(out)
        report = _survey(data, _kinds(kind or [], len(data)), limit, errors)
        missing = _write(report, files)
    if missing:
        errors.print(f"no plot: {missing}", markup=False, highlight=False, soft_wrap=True)
        files.pop()
    if as_json:
        print_json(report)
        return
    from anthrotap_hf.evaluation.dataset_statistics_report import survey_tables

    Console().print(survey_tables(report))
    print("\n".join(map(str, files)))


def _kinds(given: list[str], number: int) -> list[str]:
    kinds = given or ["shards"]
    if len(kinds) not in (1, number):
        raise ValueError(f"--kind: {len(kinds)} for {number} datasets; give one for all, or one for each")
    return kinds * number if len(kinds) == 1 else kinds


def _survey(data: list[Path], kinds: list[str], limit: int | None, errors: Console) -> dict[str, Any]:
    """Run with progress on the console. What can be known to go wrong is said before anything is measured."""
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        SpinnerColumn,
        TextColumn,
        TimeRemainingColumn,
    )

    from anthrotap_hf.evaluation.dataset_statistics import find_kind, survey
    from anthrotap_hf.evaluation.report import short_names

    names = [str(path) if kind != "procedural" else kind for path, kind in zip(data, kinds, strict=True)]
    if len(set(names)) < len(names):
        raise ValueError(f"a dataset is named twice: {', '.join(map(str, data))}")
    counts = [find_kind(kind).count(path) for path, kind in zip(data, kinds, strict=True)]
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
    )
    found = []
    with Progress(*columns, console=errors) as progress:
        for name, path, kind, count in zip(short_names(names), data, kinds, counts, strict=True):
            total = limit if count is None else min(count, limit or count)
            bar = progress.add_task(name, total=total, rate="")

            def on_clip(bar: Any = bar) -> None:
                progress.advance(bar)
                task = progress.tasks[bar]
                if task.elapsed:
                    progress.update(bar, rate=f"{task.completed / task.elapsed:.1f} clips/s")

            found.append(survey(name, kind, path, limit, on_clip))
    return {"resolution": [256, 256], "datasets": found}


def _write(report: dict[str, Any], files: list[Path]) -> str | None:
    from anthrotap_hf.evaluation.dataset_statistics_report import plot_survey, write_text

    return write_report(report, files, write_text, plot_survey)
