"""Training of a tracker by transformers' Trainer: one process or many, stopped and gone on with at any step."""

from __future__ import annotations

import json
import logging
import pickle
import re
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch.utils.data import SequentialSampler
from transformers import PreTrainedModel, Trainer, TrainingArguments, set_seed

from anthrotap_hf.evaluation.report import MAIN
from anthrotap_hf.hub.licenses import COMPONENTS, ROW_COLUMNS, Component, components_of_rows
from anthrotap_hf.hub.provenance import Provenance, public_name
from anthrotap_hf.pipelines import find_tracker
from anthrotap_hf.readers.training_sources import ClipSource
from anthrotap_hf.training.config import EvaluationSettings, ModelSettings, OneCycle, TrainingRecipe
from anthrotap_hf.training.losses import locotrack_loss, tapnext_loss
from anthrotap_hf.training.mixture import MixedSource, MixtureDataset
from anthrotap_hf.utils.atomic_files import atomic_dir, atomic_write
from anthrotap_hf.utils.hub_errors import describe_hub_error

if TYPE_CHECKING:
    from torch import Tensor

    from anthrotap_hf.pipelines import PointTrackingPipeline

logger = logging.getLogger(__name__)

RECIPE_FILE = "recipe.json"
MODEL_FOLDER = "model"
STATE_FILE = "trainer_state.json"  # what the Trainer writes last into a checkpoint
# Of `training`: what may change when a run goes on, because it changes nothing that is learned.
FREE = {
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


class TrainingError(RuntimeError):
    """A run that can't go on. The message is one line."""


def train(recipe: TrainingRecipe, out: Path, on_start: Callable[[str], object] = print) -> Path:
    """Train a model as a recipe says; a folder that holds checkpoints of the same recipe is gone on with.

    Under `torchrun` (or `accelerate launch`) each process calls this, and takes its own share of the steps' batches.

    Args:
        recipe: what to learn.
        out: for `recipe.json`, `checkpoint-*`, and at the end `model/`, which `pipeline("point-tracking")` reads.
        on_start: is told in a sentence what is about to run.

    Returns:
        The model's folder.

    Raises:
        TrainingError: if the loss is not finite any more, or the folder holds another recipe's run.
        TooManyBadSamplesError: if the data are mostly bad.
        ValueError: if a source, the start's weights or a setting can't be used.
        OSError: if a source is not there.
    """
    arguments = _arguments(recipe, out)
    if recipe.evaluation is not None:
        check_evaluation(recipe.evaluation)
    mixed = [
        MixedSource(source.open(), source.weight, source.sample, name)
        for name, source in recipe.sources.items()
    ]
    num_batches = recipe.steps * arguments.gradient_accumulation_steps * arguments.world_size
    mixer = MixtureDataset(
        mixed,
        batch_size=recipe.batch_size,
        num_steps=num_batches,
        seed=recipe.seed,
        max_bad_share=recipe.max_bad_share,
    )
    set_seed(recipe.seed)
    model = build_model(recipe.model)
    trainer = TrackerTrainer(recipe, model, arguments, mixer)
    with arguments.main_process_first(local=False, desc="the folder of the run"):
        checkpoint = find_checkpoint(out, recipe, arguments.world_size, write=trainer.is_world_process_zero())
    if trainer.is_world_process_zero():
        # Now, so that what can't be read is known before hours of training.
        provenance = Provenance.of_training(
            recipe.model_dump(mode="json"), recipe.model.start, _source_components(recipe)
        )
        where = "from nothing" if recipe.model.start is None else f"from {recipe.model.start}"
        on_start(
            f"{recipe.name}: {model.num_parameters():,} parameters, {recipe.steps:,} steps of "
            f"{arguments.world_size * arguments.gradient_accumulation_steps} x {recipe.batch_size} clips on "
            f"{arguments.device}, {where if checkpoint is None else f'going on from {checkpoint}'}"
        )
        for source in mixed:
            clips = source.source
            size = f"{len(clips):,} clips" if isinstance(clips, ClipSource) else "a stream"
            on_start(f"  {source.name}: {size}, weight {source.weight:g}")
    trainer.train(resume_from_checkpoint=None if checkpoint is None else str(checkpoint))
    folder = out / MODEL_FOLDER
    if trainer.is_world_process_zero():
        with atomic_dir(folder) as tmp_path:
            trainer.save_tracker(tmp_path)
            evaluation = _last_evaluation(recipe, trainer.state.log_history)
            replace(provenance, evaluation=evaluation).write(tmp_path)
    return folder


def _source_components(recipe: TrainingRecipe) -> list[Component]:
    """Return what the training data are made of: for our own labels, by what their rows say."""
    found: list[Component] = []
    for source in recipe.sources.values():
        if source.kind == "shards":
            found += components_of_rows(source.distinct(ROW_COLUMNS), public_name(source.data))
        else:
            found.append(COMPONENTS["training_sources"][source.kind])
    return found


def _last_evaluation(recipe: TrainingRecipe, history: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """Return the last evaluation in the Trainer's log, as `Provenance.evaluation` holds it."""
    logged = [entry for entry in history if f"eval_{next(iter(MAIN))}" in entry]
    if recipe.evaluation is None or not logged:
        return None
    return {
        "benchmark": recipe.evaluation.benchmark,
        "mode": recipe.evaluation.mode,
        "step": logged[-1]["step"],
        "mean": {metric: logged[-1][f"eval_{metric}"] for metric in MAIN},
    }


def build_model(settings: ModelSettings) -> PreTrainedModel:
    """The network, from its start or from nothing (drawn by torch's generator).

    Raises:
        ValueError: if the start can't be loaded, is another kind of tracker or lacks weights, or a setting is none of
            its own.
    """
    from safetensors import SafetensorError
    from transformers import AutoConfig, AutoModel

    import anthrotap_hf  # noqa: F401  registers the trackers

    config = _checked_config(settings)
    if settings.start is None:
        return AutoModel.from_config(AutoConfig.for_model(settings.type, **config))
    try:
        start, revision = find_tracker(settings.start)
        kind = AutoConfig.from_pretrained(start, revision=revision).model_type
        if kind != settings.type:
            raise ValueError(f"it holds a {kind}, not a {settings.type}")
        model, loaded = AutoModel.from_pretrained(
            start, revision=revision, output_loading_info=True, **config
        )
        if lacking := sorted(
            loaded["missing_keys"] or loaded["unexpected_keys"] or loaded["mismatched_keys"]
        ):
            raise ValueError(
                f"its weights are not those of the network: {lacking[0]} and {len(lacking) - 1} others"
            )
    except (OSError, TypeError, ValueError, RuntimeError, SafetensorError) as error:
        reason = (
            describe_hub_error(error, settings.start) or f"{settings.start}: {' '.join(str(error).split())}"
        )
        raise ValueError(f"model.start: {reason}") from error
    return model


def _checked_config(settings: ModelSettings) -> dict[str, Any]:
    from transformers import AutoConfig

    default = AutoConfig.for_model(settings.type)
    unknown = [name for name in settings.config if not hasattr(default, name)]
    if unknown:
        raise ValueError(f"model.config: {settings.type} has no {', '.join(unknown)}")
    return settings.config


def check_evaluation(settings: EvaluationSettings) -> None:
    """Raises ValueError, in one line, for what the first evaluation would fail at."""
    from anthrotap_hf.evaluation.runner import find_benchmark

    find_benchmark(settings.benchmark)
    if not Path(settings.data).expanduser().exists():
        raise ValueError(f"evaluation.data: {settings.data} is not there")


def find_checkpoint(out: Path, recipe: TrainingRecipe, processes: int, write: bool) -> Path | None:
    """The last whole checkpoint of this recipe in a folder; None where no run began yet. Damaged ones are passed over.

    Args:
        out: the folder.
        recipe: what the run is to learn.
        processes: that train together: they share out the clips, so another number would see others.
        write: whether to note recipe and processes in a folder that has no note of them.

    Raises:
        TrainingError: if the folder's run is another recipe's, with the settings that differ, or had other processes.
    """
    note = out / RECIPE_FILE
    if note.exists():
        try:
            kept = json.loads(note.read_text(encoding="utf-8"))
            before, number = TrainingRecipe.model_validate(kept["recipe"]), int(kept["processes"])
        except (ValueError, TypeError, KeyError) as error:
            raise TrainingError(
                f"{note}: damaged ({' '.join(str(error).split())}); choose another --out"
            ) from error
        if differing := _differences(_what_counts(before), _what_counts(recipe)):
            raise TrainingError(
                f"{out} holds a run of another recipe (it differs in {', '.join(differing)}); choose another --out"
            )
        if number != processes:
            raise TrainingError(
                f"{out} holds a run of {number} processes, this one has {processes}: it would see other clips"
            )
    elif write:
        with atomic_write(note) as tmp_path:
            kept = {"recipe": recipe.model_dump(mode="json"), "processes": processes}
            tmp_path.write_text(json.dumps(kept, indent=1), encoding="utf-8")
    by_step = {
        int(path.name.rpartition("-")[2]): path
        for path in out.glob("checkpoint-*")
        if re.fullmatch(r"checkpoint-\d+", path.name)
    }
    for step, path in sorted(by_step.items(), reverse=True):
        damage = _damage(path, step)
        if damage is None:
            return path
        logger.warning("%s is passed over: %s", path, damage)
    return None


def _damage(checkpoint: Path, step: int) -> str | None:
    """What keeps a run from going on from a checkpoint."""
    from safetensors import SafetensorError, safe_open

    try:
        state = json.loads((checkpoint / STATE_FILE).read_text(encoding="utf-8"))
        if state["global_step"] != step:
            return f"{STATE_FILE} is that of step {state['global_step']}"
        with safe_open(checkpoint / "model.safetensors", "pt"):
            pass  # its header fits its length
        for name in ("optimizer.pt", "scheduler.pt"):
            torch.load(checkpoint / name, map_location="cpu", weights_only=True)
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, EOFError) as error:
        return " ".join(str(error).split())
    except (SafetensorError, pickle.UnpicklingError) as error:
        return " ".join(str(error).split())
    return None


def _what_counts(recipe: TrainingRecipe) -> dict[str, Any]:
    values = recipe.model_dump(mode="json", exclude={"name", "about"})
    values["training"] = {name: value for name, value in values["training"].items() if name not in FREE}
    return values


def _differences(one: Any, other: Any, place: str = "") -> list[str]:
    """Names of the settings in which two recipes differ."""
    if isinstance(one, dict) and isinstance(other, dict):
        return [
            found
            for name in sorted(one.keys() | other.keys())
            for found in _differences(one.get(name), other.get(name), f"{place}.{name}".strip("."))
        ]
    return [] if one == other else [place]


def _arguments(recipe: TrainingRecipe, out: Path) -> TrainingArguments:
    evaluation = recipe.evaluation
    own: dict[str, Any] = {
        "logging_steps": 10,
        "save_steps": 500,
        "save_total_limit": 2,
        "report_to": "none",
        "dataloader_pin_memory": torch.cuda.is_available(),
        # A batch on people teaches positions only: some heads then get no gradient.
        "ddp_find_unused_parameters": True,
    }
    try:
        return TrainingArguments(
            **own | recipe.training,
            output_dir=str(out),
            max_steps=recipe.steps,
            seed=recipe.seed,
            per_device_train_batch_size=1,  # an item of the mixer is a batch
            remove_unused_columns=False,
            eval_strategy="no" if evaluation is None else "steps",
            eval_steps=None if evaluation is None else evaluation.every,
            save_strategy="steps",
        )
    except (TypeError, ValueError, ImportError, RuntimeError) as error:
        raise ValueError(f"training: {' '.join(str(error).split())}") from error


class TrackerTrainer(Trainer):
    """transformers' Trainer on batches of a `MixtureDataset`, with our losses and TAP-Vid's metrics."""

    lr_scheduler: Any
    control: Any

    def __init__(
        self,
        recipe: TrainingRecipe,
        model: PreTrainedModel,
        arguments: TrainingArguments,
        mixer: MixtureDataset,
    ) -> None:
        super().__init__(
            model=model,
            args=arguments,
            train_dataset=mixer,
            data_collator=_only,
            eval_dataset=None if recipe.evaluation is None else [],
        )
        self.recipe = recipe
        self.model_accepts_loss_kwargs = False
        losses: dict[str, Callable[..., dict[str, Tensor]]] = {
            "locotrack": locotrack_loss,
            "tapnext": tapnext_loss,
        }
        self._loss = partial(losses[recipe.model.type], **recipe.loss.model_dump())
        self._sums: dict[str, list[Tensor]] = {}
        self._skipped = 0

    def _get_train_sampler(self, *_: Any) -> SequentialSampler:
        return SequentialSampler(self.train_dataset)  # the mixer has its own order

    def compute_loss(
        self,
        model: Any,
        inputs: Mapping[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Any = None,
    ) -> Any:
        human = inputs["human"]
        options = dict(self.recipe.forward or {})
        if self.recipe.model.type == "tapnext" and not human:
            options["output_coordinate_logits"] = True
        output = model(
            pixel_values_videos=inputs["pixel_values_videos"], query_points=inputs["query_points"], **options
        )
        parts = self._loss(output, inputs, human=human)
        if not torch.isfinite(parts["loss"]):
            raise TrainingError(
                f"the loss is {parts['loss'].item()} at step {self.state.global_step + 1} "
                f"({inputs['source']}: {', '.join(inputs['names'])}): a lower training.learning_rate may help"
            )
        for name, value in parts.items():
            self._sums.setdefault(f"{inputs['source']}/{name}", []).append(value.detach())
        self._skipped += len(inputs["skipped"])
        return (parts["loss"], output) if return_outputs else parts["loss"]

    def get_decay_parameter_names(self, model: PreTrainedModel) -> list[str]:
        """As released: weights decay, biases do not."""
        return [name for name, _ in model.named_parameters() if "bias" not in name]

    def create_scheduler(self, num_training_steps: int, optimizer: Any = None) -> Any:
        schedule: OneCycle | None = self.recipe.schedule
        if schedule is None or self.lr_scheduler is not None:
            return super().create_scheduler(num_training_steps, optimizer)
        self.lr_scheduler = torch.optim.lr_scheduler.OneCycleLR(
            self.optimizer if optimizer is None else optimizer,
            max_lr=self.args.learning_rate,
            total_steps=num_training_steps,
            **schedule.model_dump() | {"pct_start": schedule.share_up(num_training_steps)},
        )
        self._created_lr_scheduler = True
        return self.lr_scheduler

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        if "loss" in logs:
            for name, values in self._sums.items():
                logs[name] = torch.stack(values).mean().item()
            logs["skipped_clips"] = self._skipped
            self._sums = {}
        super().log(logs, start_time)

    def save_tracker(self, folder: Path) -> None:
        """The model as a folder that `pipeline("point-tracking")` reads."""
        self._tracker().save_pretrained(folder)

    def _tracker(self) -> PointTrackingPipeline:
        from anthrotap_hf.pipelines import PointTrackingImageProcessor, PointTrackingPipeline

        model = self.accelerator.unwrap_model(self.model)
        processor = PointTrackingImageProcessor.for_model(model.config)
        if self.recipe.resolution is not None:
            height, width = self.recipe.resolution
            processor = PointTrackingImageProcessor(
                {"height": height, "width": width}, processor.size_divisor
            )
        return PointTrackingPipeline(model, image_processor=processor, device=model.device)

    def evaluate(
        self, eval_dataset: Any = None, ignore_keys: Any = None, metric_key_prefix: str = "eval"
    ) -> dict[str, float]:
        """The means of TAP-Vid's metrics over the recipe's evaluation videos, by the first process."""
        from accelerate.utils import broadcast_object_list

        from anthrotap_hf.evaluation.runner import EvaluatedModel, evaluate

        setting = self.recipe.evaluation
        if setting is None:
            raise ValueError("the recipe names no evaluation")
        found: list[Any] = [None]
        if self.is_world_process_zero():
            model = self.accelerator.unwrap_model(self.model)
            training = model.training
            tracker = self._tracker()  # which puts it into evaluation mode
            with tempfile.TemporaryDirectory() as folder:
                report = evaluate(
                    [EvaluatedModel(self.recipe.name, tracker, "now")],
                    setting.benchmark,
                    Path(setting.data).expanduser(),
                    setting.mode,
                    Path(folder),
                    setting.limit,
                )
            model.train(training)
            found = [report["models"][0]["mean"]]
        means = broadcast_object_list(found)[0]
        metrics = {f"{metric_key_prefix}_{name}": value for name, value in means.items()}
        self.log(metrics)
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics


def _only(items: list[Any]) -> Any:
    """An item of the mixer is a batch already."""
    (batch,) = items
    return batch
