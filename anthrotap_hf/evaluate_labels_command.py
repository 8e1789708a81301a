"""`anthrotap evaluate-labels`: labels held against exact truth; the work is in `anthrotap_builder.proving_ground`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from anthrotap_hf.commands import LabelRecipe, in_one_line, print_json, stop
from anthrotap_hf.imports import missing_extra


def evaluate_labels(
    out: Annotated[Path, typer.Option(help="Folder for rendered clips, figures, tables and plots.")] = Path(
        "outputs/proving_ground"
    ),
    half: Annotated[
        str | None, typer.Option(help="Only this half of the standard set: tuning or held_out.")
    ] = None,
    clips: Annotated[
        list[str] | None, typer.Option("--clip", help="Only this clip; may be repeated.")
    ] = None,
    ablation: Annotated[
        bool, typer.Option(help="Also leave out each stage, and put the truth in the place of each.")
    ] = True,
    recipe: LabelRecipe = "open",
    processes: Annotated[int, typer.Option(min=1, help="Clips worked on at once.")] = 2,
    as_json: Annotated[bool, typer.Option("--json", help="Print the figures as JSON, no table.")] = False,
) -> None:
    """How right are the labels? Renders clips with exact truth, labels them, and measures every stage.

    The standard set is twenty clips: about twenty minutes on two cores with the ablation, five without. What is done
    is kept in the folder, so a run that was stopped goes on. The tables are wide; labels.txt keeps them.

    Example: anthrotap evaluate-labels --half held_out --no-ablation
    """
    try:
        from anthrotap_builder.assets import AssetError
        from anthrotap_builder.proving_ground.evaluation import WIDTH, evaluate_and_report, report_tables
        from anthrotap_hf.settings import recipe_named
    except ImportError as error:
        stop(str(missing_extra(error, "proving-ground")))
    with in_one_line(out, left="what is done is kept: the same command goes on", also=(AssetError,)):
        report = evaluate_and_report(
            out, half, clips or [], recipe_named(recipe), ablation, processes, Console(stderr=True)
        )
    if as_json:
        print_json(report)
    else:
        terminal = Console()
        Console(width=max(WIDTH, terminal.width)).print(report_tables(report))
        print(f"figures: {out / 'labels.json'}; plots: {out / 'labels.png'}")
