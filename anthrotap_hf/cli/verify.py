"""`anthrotap verify`: is a dataset whole, and is every row what it should be?"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from anthrotap_hf.cli.common import cli_errors, print_json, progress_bars

if TYPE_CHECKING:
    from anthrotap_hf.data.verify import Report

SHOWN = 50


def verify(
    folder: Annotated[
        Path, typer.Argument(help="A dataset, or a folder of shards (.parquet).", metavar="DIR")
    ],
    videos: Annotated[
        bool, typer.Option("--videos/--no-videos", help="Decode each video; most of the time goes into this.")
    ] = True,
    processes: Annotated[int, typer.Option(min=1, help="How many work at once.")] = 2,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print all that was found as JSON, no lines.")
    ] = False,
) -> None:
    """Read a dataset again, every file, row and video, and say what is wrong with it.

    Ends with 0 where nothing is wrong, 1 where something is, 2 where there is nothing to read.

    Example: anthrotap verify labels
    """
    from anthrotap_hf.data.verify import verify as run

    untold = "nothing can be said of the dataset"
    with cli_errors(folder, left=untold), progress_bars(Console(stderr=True)) as on_progress:
        report = run(folder, videos, processes, on_progress)
    if as_json:
        print_json(report.as_json())
    else:
        for line in summary(folder, report):
            Console().print(line, markup=False, highlight=False, soft_wrap=True)
    if report.num_problems:
        raise typer.Exit(1)


def summary(folder: Path, report: Report) -> list[str]:
    """What a terminal shows: the first problems, what was not checked, and the sum of it."""
    lines = [str(problem) for problem in report.problems[:SHOWN]]
    if report.num_problems > SHOWN:
        lines.append(f"... and {report.num_problems - SHOWN} problems more; --json lists them")
    lines += [f"not checked: {line}" for line in report.not_checked]
    found = f"{report.num_problems} problems" if report.num_problems else "nothing wrong"
    lines.append(
        f"{folder}: {found} in {report.files} files, {report.rows} rows, {report.clips} clips of "
        f"{report.seconds:.1f} s; {report.videos} videos decoded"
    )
    return lines
