"""`anthrotap train`: a tracker, by a recipe."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from anthrotap_hf.commands import check_writable, stop
from anthrotap_hf.imports import missing_extra


def train(
    recipe: Annotated[str, typer.Argument(help="A recipe's name, or a YAML file.", metavar="RECIPE")],
    out: Annotated[Path, typer.Option(help="Folder for checkpoints and the trained model.")],
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set", help="Change a setting: steps=20, training.learning_rate=1e-4. May be repeated."
        ),
    ] = None,
) -> None:
    """Train or fine-tune a tracker. The same command goes on where an earlier run was stopped.

    Several processes, GPUs or machines: `torchrun --nproc_per_node 4 -m anthrotap_hf.cli train RECIPE --out DIR`.

    Example: anthrotap train tiny-procedural --out runs/tiny --set steps=1000
    """
    try:
        from safetensors import SafetensorError

        from anthrotap_hf.settings import parse_settings, recipe_named
        from anthrotap_hf.training.mixer import TooManyBadSamplesError
        from anthrotap_hf.training.recipe import training_recipe
        from anthrotap_hf.training.trainer import TrainingError
        from anthrotap_hf.training.trainer import train as run
    except ImportError as error:
        stop(str(missing_extra(error, "training")))
    try:
        check_writable(out)
        folder = run(training_recipe(recipe_named(recipe), parse_settings(settings or [], "steps=20")), out)
    except KeyboardInterrupt:
        stop(f"stopped; checkpoints are kept in {out}: the same command goes on from the last one")
    except (ValueError, TrainingError, TooManyBadSamplesError, ImportError) as error:
        stop(str(error))
    except OSError as error:
        stop(f"{error.filename or out}: {error.strerror}" if error.strerror else str(error))
    except SafetensorError as error:
        stop(f"{out}: weights can't be written: {error}")
    print(f"model: {folder}")
