"""`anthrotap train`: a tracker, by a recipe."""

from __future__ import annotations

import json
import sys
from contextlib import nullcontext, redirect_stdout
from pathlib import Path
from typing import Annotated

import typer

from anthrotap_hf.cli.common import check_writable, cli_errors, fail, print_json, recipes
from anthrotap_hf.utils.errors import missing_extra


def train(
    recipe: Annotated[
        str,
        typer.Argument(
            help="A recipe's name, or a YAML file.",
            metavar="RECIPE",
            autocompletion=lambda: recipes("anthrotap_hf.training"),
        ),
    ],
    out: Annotated[Path, typer.Option(help="Folder for checkpoints and the trained model.")],
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set", help="Change a setting: steps=20, training.learning_rate=1e-4. May be repeated."
        ),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the result as JSON; what happens goes to the error stream.")
    ] = False,
) -> None:
    """Train or fine-tune a tracker. The same command goes on where an earlier run was stopped.

    Several processes, GPUs or machines: `torchrun --nproc_per_node 4 -m anthrotap_hf.cli.main train RECIPE --out DIR`.

    Example: anthrotap train tiny-procedural --out runs/tiny --set steps=1000
    """
    try:
        from safetensors import SafetensorError

        from anthrotap_hf.training.config import training_recipe
        from anthrotap_hf.training.mixture import TooManyBadSamplesError
        from anthrotap_hf.training.trainer import TrainingError
        from anthrotap_hf.training.trainer import train as run
        from anthrotap_hf.utils.settings import parse_settings, recipe_named
    except ImportError as error:
        fail(str(missing_extra(error, "training")))
    left = f"the same command goes on from the last checkpoint in {out}, if one was written yet"
    with cli_errors(out, left, also=(TrainingError, TooManyBadSamplesError)):
        check_writable(out)
        asked = training_recipe(recipe_named(recipe), parse_settings(settings or [], "steps=20"))
        try:
            # transformers' Trainer prints its figures.
            with redirect_stdout(sys.stderr) if as_json else nullcontext():
                folder = run(asked, out)
        except SafetensorError as error:
            raise ValueError(f"{out}: weights can't be written: {error}") from error
    if as_json:
        facts = json.loads((folder / "training.json").read_text("utf-8"))
        print_json({"model": str(folder), "training": facts})
    else:
        print(f"model: {folder}")
