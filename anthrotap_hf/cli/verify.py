"""`anthrotap verify`: check that a dataset is complete and every row valid."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from anthrotap_hf.cli.common import Json, Workers, cli_errors, print_json, progress_bars

if TYPE_CHECKING:
    from anthrotap_hf.data.verify import Report

LISTED_PROBLEMS = 50


def verify(
    folder: Annotated[Path, typer.Argument(help="A dataset, or a folder of shards (.parquet).", metavar="DIR")],
    videos: Annotated[
        bool, typer.Option("--videos/--no-videos", help="Decode each video, which takes most of the time.")
    ] = True,
    workers: Workers = 2,
    as_json: Json = False,
) -> None:
    """Check a dataset: every file, row and video.

    Exit code 0 if nothing is wrong, 1 if something is, 2 if there is nothing to read.

    Example: anthrotap verify labels
    """
    from anthrotap_hf.data.verify import verify as run

    with (
        cli_errors(folder, interrupted="the dataset was not checked to its end"),
        progress_bars(off_terminal=False) as on_progress,
    ):
        report = run(folder, videos, workers, on_progress)
    if as_json:
        print_json(report.as_json())
    else:
        for line in summary(folder, report):
            print(line)
    if report.num_problems:
        raise typer.Exit(1)


def summary(folder: Path, report: Report) -> list[str]:
    """Return the lines for a terminal: the first problems, what was not checked, and the totals."""
    lines = [str(problem) for problem in report.problems[:LISTED_PROBLEMS]]
    if report.num_problems > LISTED_PROBLEMS:
        lines.append(f"... and {report.num_problems - LISTED_PROBLEMS} more problems; --json lists them")
    lines += [f"not checked: {line}" for line in report.not_checked]
    found = f"{report.num_problems} problems" if report.num_problems else "nothing wrong"
    lines.append(
        f"{folder}: {found} in {report.files} files, {report.rows} rows, {report.clips} clips of "
        f"{report.seconds:.1f} s; {report.videos} videos decoded"
    )
    return lines
