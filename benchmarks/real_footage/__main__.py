"""`python -m benchmarks.real_footage`: how good the labels of real videos are, without ground truth."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from anthrotap_builder.config import labeling_config
from anthrotap_hf.cli.common import LabelRecipe, cli_errors
from anthrotap_hf.utils.atomic_files import atomic_write
from benchmarks.real_footage.evaluation import evaluate_real_footage
from benchmarks.real_footage.footage import find_footage
from benchmarks.real_footage.label_measures import measure_footage
from benchmarks.real_footage.label_tables import label_tables
from benchmarks.real_footage.report import report_tables

app = typer.Typer(add_completion=False)
WIDTH = 210


@app.command()
def evaluate(
    footage: Annotated[Path, typer.Option(help="Folder of clips, some with masks.")] = Path("../shared/real"),
    clips: Annotated[Path | None, typer.Option(help="Another folder of clips; those of two views are there.")] = None,
    only_clips: Annotated[list[str] | None, typer.Option("--clip", help="Only this clip; may be repeated.")] = None,
    only: Annotated[str, typer.Option(help="labels or references.")] = "labels",
    labels: Annotated[Path | None, typer.Option(help="Measure these shards, not the labels of this code.")] = None,
    out: Annotated[Path, typer.Option(help="Folder for kept labels and sheets.")] = Path("outputs/real_footage"),
    as_json: Annotated[Path | None, typer.Option("--json", help="Where to write all figures.")] = None,
    recipe: LabelRecipe = "open",
    threads: Annotated[int, typer.Option(min=1, help="Frames processed at once.")] = 2,
) -> None:
    """How good are the labels of real videos?"""
    config = labeling_config(recipe)
    console, progress = Console(width=WIDTH), Console(stderr=True)
    with cli_errors(out):
        if only == "references":
            result = evaluate_real_footage(clips or Path("../shared/clips"), config, threads, progress.print)
            tables = report_tables(result)
        else:
            videos = find_footage([footage, *([clips] if clips else [])], only_clips or [])
            result, _ = measure_footage(videos, config, out / "labels", labels, threads, progress.print)
            tables = label_tables(result)
    for table in tables:
        console.print(table)
    if as_json:
        with atomic_write(as_json) as tmp_path:
            tmp_path.write_text(json.dumps(result, indent=1))


if __name__ == "__main__":
    app(prog_name="python -m benchmarks.real_footage")
