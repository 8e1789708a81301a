"""`python -m benchmarks.real_footage`: how good the labels of real videos are, without ground truth."""

from __future__ import annotations

import io
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console, Group
from rich.table import Table

from anthrotap_builder.config import labeling_config
from anthrotap_hf.cli.common import LabelRecipe, cli_errors
from anthrotap_hf.utils.atomic_files import atomic_write, write_json
from benchmarks.real_footage.cuts import measure_cuts
from benchmarks.real_footage.evaluation import evaluate_real_footage
from benchmarks.real_footage.footage import find_footage
from benchmarks.real_footage.label_measures import measure_footage
from benchmarks.real_footage.label_tables import cut_table, label_tables
from benchmarks.real_footage.report import report_tables

app = typer.Typer(add_completion=False)
# Characters that the tables need.
WIDTH = 230


class Part(StrEnum):
    """A part of the bench."""

    labels = "labels"
    cuts = "cuts"
    references = "references"


@app.command()
def evaluate_footage(
    footage: Annotated[Path, typer.Option(help="Folder of clips; masks.npz beside a clip are its masks.")] = Path(
        "../shared/real"
    ),
    clips: Annotated[Path, typer.Option(help="Another folder of clips, those of two views among them.")] = Path(
        "../shared/clips"
    ),
    names: Annotated[list[str] | None, typer.Option("--clip", help="Only this clip; may be repeated.")] = None,
    only: Annotated[
        list[Part] | None,
        typer.Option(help="Only this part; may be repeated. The references (two views, markers) only if named."),
    ] = None,
    labels: Annotated[
        Path | None,
        typer.Option(help="Measure the labels in this folder of shards, not those of this code (then no cuts)."),
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder for kept labels, tables and sheets of pictures.")] = Path(
        "outputs/real_footage"
    ),
    as_json: Annotated[Path | None, typer.Option("--json", help="Where to write all figures.")] = None,
    recipe: LabelRecipe = "open",
    threads: Annotated[int, typer.Option(min=1, help="Frames processed at once.")] = 2,
) -> None:
    """How good are the labels of real videos? Label them, and look for what the pictures contradict.

    labels: visible labels in masks, against chains of optical flow and across gaps; occluded labels that show; ghosts;
    frames without labels. cuts: shot changes in clips of one shot, and between them when joined. references: two
    views, skin markers and another network's masks (of clips in the second folder that have them).

    Labels are kept in the folder while neither the settings nor the code change. The tables are wide; report.txt
    holds them.

    Example: python -m benchmarks.real_footage --clip breakdance --clip two_cam03 --json outputs/real_footage.json
    """
    parts = only or ([Part.labels] if labels else [Part.labels, Part.cuts])
    progress = Console(stderr=True)
    result: dict[str, Any] = {}
    tables: list[Table] = []
    with cli_errors(out, interrupted="labels of finished clips are kept: the same command goes on"):
        config = labeling_config(recipe)
        result["label_version"] = config.version()
        if Part.labels in parts or Part.cuts in parts:
            videos = find_footage([footage, clips], names or [])
        if Part.labels in parts:
            result["labels"] = measure_footage(videos, config, out, labels, threads, progress.print)
            tables += label_tables(result["labels"])
        if Part.cuts in parts:
            result["cuts"] = measure_cuts(videos, config.clips, progress.print)
            tables.append(cut_table(result["cuts"]))
        if Part.references in parts:
            result["references"] = evaluate_real_footage(clips, config, threads, progress.print)
            tables += report_tables(result["references"])
        with atomic_write(out / "report.txt") as tmp_path:
            text = Console(width=WIDTH, file=io.StringIO(), record=True)
            text.print(Group(*tables))
            tmp_path.write_text(text.export_text())
        if as_json:
            write_json(as_json, result)
    Console(width=max(WIDTH, Console().width)).print(Group(*tables))
    print(f"tables: {out / 'report.txt'}" + (f"; sheets: {out / 'sheets'}" if Part.labels in parts else ""))


if __name__ == "__main__":
    app(prog_name="python -m benchmarks.real_footage")
