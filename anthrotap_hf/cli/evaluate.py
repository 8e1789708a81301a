"""`anthrotap evaluate`: how well trackers follow the points of a benchmark, side by side."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from anthrotap_hf.cli.common import (
    check_writable,
    cli_errors,
    load_tracker,
    print_json,
    trackers,
    write_report,
)

if TYPE_CHECKING:
    from anthrotap_hf.evaluation.runner import EvaluatedModel

MANY_VIDEOS = 60  # more are listed in the text file only


class Mode(StrEnum):
    first = "first"
    strided = "strided"


def evaluate(
    benchmark: Annotated[
        str,
        typer.Option(
            help="tapvid-davis, tapvid-rgb-stacking, tapvid-kinetics, robotap: a pickle, or a folder of them; "
            "shards: a folder of `anthrotap label`; points: a .csv or .json of track,t,x,y,visible beside "
            "its video, or a folder of such."
        ),
    ],
    data: Annotated[Path, typer.Option(help="The benchmark's file or folder.")],
    out: Annotated[Path, typer.Option(help="Folder for figures, tables and a plot.")],
    model: Annotated[
        list[str] | None,
        typer.Option(
            help="A tracker's folder or Hub id, flowchain, or locotrack-tiny (the default); may be repeated.",
            autocompletion=trackers,
        ),
    ] = None,
    mode: Annotated[
        Mode, typer.Option(help="Where queries are: each point's first frame, or every fifth frame.")
    ] = Mode.first,
    limit: Annotated[int | None, typer.Option(min=1, help="Only so many videos, the first.")] = None,
    device: Annotated[str, typer.Option(help="Where the models run: cpu, cuda, cuda:1, mps.")] = "cpu",
    as_json: Annotated[bool, typer.Option("--json", help="Print the figures as JSON, no table.")] = False,
) -> None:
    """Judge trackers by TAP-Vid's metrics at 256x256, on its benchmarks or on your own data.

    Figures of each video are kept in the folder: a run that was stopped goes on, and a model more costs only itself.

    Example: anthrotap evaluate --benchmark tapvid-davis --data tapvid_davis.pkl --out judged --model flowchain
    """
    errors = Console(stderr=True)
    with cli_errors(
        out, left=f"what is done is kept in {out / 'videos'}: the same command goes on from there"
    ):
        check_writable(out)
        report = _evaluate(benchmark, data, out, model or [], mode, limit, device, errors)
        name = f"{benchmark}-{mode}"
        files = [out / f"{name}{suffix}" for suffix in (".json", ".txt", ".png")]
        missing = _write(report, files)
    if missing:
        errors.print(f"no plot: {missing}", markup=False, highlight=False, soft_wrap=True)
        files.pop()
    if as_json:
        print_json(report)
        return
    _show(report, files[1])
    print("\n".join(map(str, files)))


def _evaluate(
    benchmark: str,
    data: Path,
    out: Path,
    models: list[str],
    mode: str,
    limit: int | None,
    device: str,
    errors: Console,
) -> dict[str, Any]:
    """Run with progress on the console. What can be known to go wrong is said before a model is loaded."""
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        SpinnerColumn,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    from anthrotap_hf.evaluation.runner import evaluate as run
    from anthrotap_hf.evaluation.runner import find_benchmark

    known = find_benchmark(benchmark)
    count = known.count(data)
    total = limit if count is None else min(count, limit or count)
    entrants = _entrants(models, device, errors)
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
    )
    with Progress(*columns, TimeElapsedColumn(), TimeRemainingColumn(), console=errors) as progress:
        bar = progress.add_task("reading", total=total)

        def on_step(video: str, label: str | None) -> None:
            if label is None:
                progress.update(bar, advance=1, description="reading")
            else:
                progress.update(bar, description=f"{video}: {Path(label).name}")

        report = run(entrants, benchmark, data, mode, out, limit, on_step)
        progress.update(bar, description="videos")
    return report


def _entrants(models: list[str], device: str, errors: Console) -> list[EvaluatedModel]:
    from anthrotap_hf.evaluation.runner import EvaluatedModel

    if len(set(models)) < len(models):
        raise ValueError(f"--model: one is named twice: {', '.join(models)}")
    if not models:
        errors.print("no --model: the bundled locotrack-tiny is judged", markup=False)
        models = ["locotrack-tiny"]
    return [EvaluatedModel.of(model, load_tracker(model, device)) for model in models]


def _write(report: dict[str, Any], files: list[Path]) -> str | None:
    from anthrotap_hf.evaluation.report import plot_report, write_text

    return write_report(report, files, write_text, plot_report)


def _show(report: dict[str, Any], text: Path) -> None:
    from anthrotap_hf.evaluation.report import means_table, report_tables

    console = Console()
    if report["videos"] + len(report["left_out"]) <= MANY_VIDEOS:
        console.print(report_tables(report))
    else:
        left_out = f", {len(report['left_out'])} left out" if report["left_out"] else ""
        console.print(means_table(report))
        print(f"{report['videos']} videos{left_out}, one by one: {text}")
