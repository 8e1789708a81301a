"""`anthrotap train`: train or fine-tune a tracker, by a recipe."""

from __future__ import annotations

import json
import os
import sys
from contextlib import nullcontext, redirect_stdout
from typing import TYPE_CHECKING, Annotated

import typer

from anthrotap_hf.cli import common
from anthrotap_hf.utils.errors import AnthroTapError, missing_extra

if TYPE_CHECKING:
    from anthrotap_hf.training.config import TrainingRecipe


def train(
    out: common.Out,
    recipe: Annotated[
        str | None,
        typer.Argument(
            help="A recipe's name, or a YAML file. Default: the one that fine-tunes the architecture of --model.",
            metavar="[RECIPE]",
            show_default=False,
            autocompletion=lambda: common.recipe_names("anthrotap_hf.training"),
        ),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            help="Weights to start from: a tracker's folder, Hub id or name (`anthrotap trackers`). Default: as in the "
            "recipe.",
            autocompletion=common.tracker_names,
        ),
    ] = None,
    data: Annotated[
        str | None,
        typer.Option(
            help="Labels to train on: a folder of `anthrotap label` or `build`, or a Hub id. Default: as in the recipe."
        ),
    ] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="Optimizer steps. Default: as in the recipe.")] = None,
    device: Annotated[
        str | None,
        typer.Option(help="Where it trains: cpu, cuda, cuda:1, mps. Default: a GPU if there is one."),
    ] = None,
    settings: common.Set = None,
    as_json: common.Json = False,
) -> None:
    """Train or fine-tune a tracker. The same command resumes an interrupted run.

    Writes checkpoints (ten a run, and one when it is stopped) and, at the end, the model to DIR/model. On several
    processes, GPUs or machines: `torchrun --nproc_per_node 4 -m anthrotap_hf.cli.main train RECIPE --out DIR`. Without
    a recipe, the tracker of --model is fine-tuned by the one of its architecture: half of the steps on labels, half on
    moving shapes.

    Example: anthrotap train --model locotrack-tiny --data labels --out runs/mine --steps 200
    """
    try:
        from anthrotap_hf.training.trainer import train as run
    except ImportError as error:
        common.fail(str(missing_extra(error, "training")))
    interrupted = f"the same command resumes from the last checkpoint in {out}, if there is one"
    with common.cli_errors(out, interrupted):
        common.check_writable(out)
        asked = _read_recipe(recipe or _recipe_of(model), settings or [], model, data, steps, device)
        # transformers' Trainer prints its figures.
        with redirect_stdout(sys.stderr) if as_json else nullcontext():
            folder = run(asked, out, print)
    if as_json:
        provenance = json.loads((folder / "provenance.json").read_text("utf-8"))
        common.print_json({"model": str(folder), "provenance": provenance})
    else:
        print(f"model: {folder}")


def _recipe_of(model: str | None) -> str:
    """Return the name of the recipe of a tracker's architecture, and say so."""
    from anthrotap_hf.training.config import fine_tuning_recipe

    if model is None:
        hint = "name one, or --model, a tracker to fine-tune"
        raise AnthroTapError("no RECIPE", hint=hint)
    name = fine_tuning_recipe(model)
    common.print_error(f"no RECIPE: {name} is taken, which fine-tunes trackers like {model}", "yellow")
    return name


def _read_recipe(
    name: str, settings: list[str], model: str | None, data: str | None, steps: int | None, device: str | None
) -> TrainingRecipe:
    """Read a recipe, with the changes that the options ask for: they win over `settings`."""
    from anthrotap_hf.training.config import training_recipe
    from anthrotap_hf.utils.settings import merged, parse_settings

    changes = parse_settings(settings, "steps=20")
    if steps is not None:
        changes = merged(changes, {"steps": steps})
    if model is not None:
        changes = merged(changes, {"model": {"start": model}})
    if device is not None:
        changes = merged(changes, {"training": {"use_cpu": _use(device)}})
    asked = training_recipe(name, changes)
    if data is None:
        return asked
    labels = [source for source, values in asked.sources.items() if values.kind == "shards"]
    if len(labels) != 1:
        found = f"{len(labels)} of them: {', '.join(labels)}" if labels else "none"
        reason = f"the recipe {name} must have one source of kind shards; it has {found}"
        raise AnthroTapError(reason, hint="use --set sources.NAME.data=", argument="data")
    return training_recipe(name, merged(changes, {"sources": {labels[0]: {"data": data}}}))


def _use(device: str) -> bool:
    """Make a device the one that the Trainer takes; return whether it is the processor."""
    from anthrotap_hf.utils.devices import check_device

    kind, _, number = device.partition(":")
    if number and kind == "cuda":
        # Before torch first looks for GPUs: it then knows this one only.
        os.environ["CUDA_VISIBLE_DEVICES"] = _visible_gpu(device, number)
    check_device(kind)
    return kind == "cpu"


def _visible_gpu(device: str, number: str) -> str:
    """Return what CUDA_VISIBLE_DEVICES calls the GPU of this number: its numbers count the GPUs that it lists."""
    if int(os.environ.get("WORLD_SIZE") or 1) > 1:
        reason = "a numbered device can't be used by several processes"
        raise AnthroTapError(reason, path=device, hint="use cuda: each process takes its own GPU", argument="device")
    if not number.isdecimal():
        raise AnthroTapError("not a GPU's number", path=device, hint="use cuda:0", argument="device")
    listed = os.environ.get("CUDA_VISIBLE_DEVICES")
    if listed is None:
        return number
    gpus = [gpu.strip() for gpu in listed.split(",") if gpu.strip()]
    if int(number) >= len(gpus):
        reason = f"there is no such GPU: CUDA_VISIBLE_DEVICES={listed} has {len(gpus)}"
        raise AnthroTapError(reason, path=device, argument="device")
    return gpus[int(number)]
