"""`python -m benchmarks.label_accuracy`: labels against the exact ground truth of rendered clips."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from anthrotap_hf.cli.common import LabelRecipe, cli_errors, print_json
from benchmarks.label_accuracy.evaluation import USUAL_GROUPS, WIDTH, choose_clips, evaluate_and_report, report_tables

app = typer.Typer(add_completion=False)


@app.command()
def evaluate_labels(
    out: Annotated[Path, typer.Option(help="Folder for rendered clips, figures, tables and plots.")] = Path(
        "outputs/label_accuracy"
    ),
    half: Annotated[str | None, typer.Option(help="Only this half of the clips: tuning or held_out.")] = None,
    groups: Annotated[
        list[str] | None,
        typer.Option("--group", help="Only this group: standard, hard or bad_input; may be repeated."),
    ] = None,
    clips: Annotated[
        list[str] | None, typer.Option("--clip", help="Only this clip, of whatever group; may be repeated.")
    ] = None,
    ablation: Annotated[
        bool, typer.Option(help="Also leave out each stage, and replace each by the ground truth.")
    ] = True,
    recipe: LabelRecipe = "open",
    processes: Annotated[int, typer.Option(min=1, help="Clips processed at once.")] = 2,
    as_json: Annotated[bool, typer.Option("--json", help="Print the figures as JSON, no table.")] = False,
) -> None:
    """How accurate are the labels? Render clips with exact ground truth, label them, and measure every stage.

    Three groups of clips, each with tables of its own: standard (20 clips, one to three people), hard (20: crowds,
    contact, fast pans, cameras in the hand, backs, twins, 10 frames a second), and bad_input (input that labels may
    refuse), which is evaluated only if it is named. Finished clips are kept in the folder, so a stopped run resumes.
    The tables are wide; labels.txt holds them.

    Example: python -m benchmarks.label_accuracy --group standard --half held_out --no-ablation
    """
    with cli_errors(out, interrupted="what is done is kept: the same command goes on"):
        specs = choose_clips(half, groups or USUAL_GROUPS, clips or [])
        report = evaluate_and_report(out, specs, recipe, ablation, processes, Console(stderr=True))
    if as_json:
        print_json(report)
    else:
        terminal = Console()
        Console(width=max(WIDTH, terminal.width)).print(report_tables(report))
        print(f"figures: {out / 'labels.json'}; plots: {out / 'labels.png'}")


if __name__ == "__main__":
    app(prog_name="python -m benchmarks.label_accuracy")
