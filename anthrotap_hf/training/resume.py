"""What a run of training left in its folder: its recipe, and the checkpoint that it resumes from."""

from __future__ import annotations

import logging
import re
from pathlib import Path
from typing import Any

import torch

from anthrotap_hf.training.config import TrainingRecipe
from anthrotap_hf.utils.atomic_files import write_json
from anthrotap_hf.utils.errors import AnthroTapError, one_line
from anthrotap_hf.utils.file_limits import read_json
from anthrotap_hf.utils.safe_pickle import DAMAGE

logger = logging.getLogger(__name__)

RECIPE_FILE = "recipe.json"
MODEL_FOLDER = "model"
# What the Trainer writes last into a checkpoint.
STATE_FILE = "trainer_state.json"
# Settings of `training` that may change when a run resumes, because they change nothing that is learned.
MAY_CHANGE = {
    "dataloader_num_workers",
    "dataloader_persistent_workers",
    "dataloader_pin_memory",
    "dataloader_prefetch_factor",
    "disable_tqdm",
    "log_level",
    "logging_first_step",
    "logging_steps",
    "logging_strategy",
    "project",
    "report_to",
    "run_name",
    "save_steps",
    "save_total_limit",
    "trackio_space_id",
    "use_cpu",
}


class TrainingError(AnthroTapError):
    """A run cannot go on."""


def find_checkpoint(out: Path, recipe: TrainingRecipe, processes: int, write: bool) -> Path | None:
    """Return the last whole checkpoint of this recipe in a folder, or None. Damaged ones are skipped.

    Args:
        out: the folder.
        recipe: what the run is to learn.
        processes: number of processes that train together: another number would see other clips.
        write: whether to write recipe and processes into a folder that has no note of them.

    Raises:
        TrainingError: if the folder's run is another recipe's, with the settings that differ, or had other processes.
    """
    note = out / RECIPE_FILE
    if note.exists():
        try:
            kept = read_json(note)
            before, number = TrainingRecipe.model_validate(kept["recipe"]), int(kept["processes"])
        except (ValueError, TypeError, KeyError) as error:
            raise TrainingError(f"damaged ({one_line(error)})", path=note, hint="choose another folder") from error
        if differing := _differences(_what_is_learned(before), _what_is_learned(recipe)):
            hint = "choose another folder"
            if differing == ["steps"]:
                hint += f"; to train its model further: --model {out / MODEL_FOLDER}"
            raise TrainingError(
                f"holds a run of another recipe (it differs in {', '.join(differing)})", path=out, hint=hint
            )
        if number != processes:
            raise TrainingError(
                f"holds a run of {number} processes, this one has {processes}: it would see other clips",
                path=out,
            )
    elif write:
        write_json(note, {"recipe": recipe.model_dump(mode="json"), "processes": processes})
    by_step = {
        int(path.name.rpartition("-")[2]): path
        for path in out.glob("checkpoint-*")
        if re.fullmatch(r"checkpoint-\d+", path.name)
    }
    for step, path in sorted(by_step.items(), reverse=True):
        damage = _damage(path, step)
        if damage is None:
            return path
        logger.warning("%s is skipped: %s", path, damage)
    return None


def _damage(checkpoint: Path, step: int) -> str | None:
    """Return what keeps a run from resuming from a checkpoint, or None."""
    from safetensors import SafetensorError, safe_open

    try:
        state = read_json(checkpoint / STATE_FILE)
        if state["global_step"] != step:
            return f"{STATE_FILE} is that of step {state['global_step']}"
        # Opening it compares the header with the file's length.
        with safe_open(checkpoint / "model.safetensors", "pt"):
            pass
        for name in ("optimizer.pt", "scheduler.pt"):
            torch.load(checkpoint / name, map_location="cpu", weights_only=True)
    except (*DAMAGE, OSError, SafetensorError) as error:
        return one_line(error)
    return None


def _what_is_learned(recipe: TrainingRecipe) -> dict[str, Any]:
    """Return the settings that a run may not change when it resumes."""
    values = recipe.model_dump(mode="json", exclude={"name", "about"})
    values["training"] = {name: value for name, value in values["training"].items() if name not in MAY_CHANGE}
    return values


def _differences(one: Any, other: Any, name: str = "") -> list[str]:
    """Return the names of the settings in which two recipes differ."""
    if isinstance(one, dict) and isinstance(other, dict):
        return [
            found
            for key in sorted(one.keys() | other.keys())
            for found in _differences(one.get(key), other.get(key), f"{name}.{key}".strip("."))
        ]
    return [] if one == other else [name]
