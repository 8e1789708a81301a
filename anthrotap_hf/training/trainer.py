"""Training of a tracker by transformers' Trainer: with one process or many, resumed at any step."""

from __future__ import annotations

import dataclasses
import inspect
import logging
import math
import re
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch.utils.data import SequentialSampler
from transformers import (
    PreTrainedModel,
    ProgressCallback,
    Trainer,
    TrainingArguments,
    set_seed,
)

from anthrotap_hf.evaluation.report import MAIN
from anthrotap_hf.hub.licenses import COMPONENTS, ROW_COLUMNS, components_of_rows
from anthrotap_hf.hub.provenance import provenance_of_training
from anthrotap_hf.pipelines import find_tracker
from anthrotap_hf.training.callbacks import LossBar, SaveAndStop
from anthrotap_hf.training.config import EvaluationSettings, ModelSettings, OneCycle, TrainingRecipe
from anthrotap_hf.training.losses import loss_of
from anthrotap_hf.training.mixture import MixtureComponent, MixtureDataset
from anthrotap_hf.training.resume import MODEL_FOLDER, TrainingError, find_checkpoint
from anthrotap_hf.utils.atomic_files import atomic_dir
from anthrotap_hf.utils.errors import AnthroTapError, one_line
from anthrotap_hf.utils.folder_lock import locked_folder
from anthrotap_hf.utils.hub_errors import describe_hub_error
from anthrotap_hf.utils.provenance import Component, public_name
from anthrotap_hf.utils.stop_signals import uninterrupted

if TYPE_CHECKING:
    from torch import Tensor

    from anthrotap_hf.pipelines import PointTrackingPipeline

logger = logging.getLogger(__name__)


def train(recipe: TrainingRecipe, out: Path, on_start: Callable[[str], object] = lambda line: None) -> Path:
    """Train a model by a recipe, or resume from the last checkpoint of the same recipe in the folder.

    Under `torchrun` (or `accelerate launch`) each process calls this, and takes its own part of the steps' batches.

    In the main thread of a program that has entered `stopped_by_signals`, as the command has, a run of one process that
    is stopped by Ctrl-C or SIGTERM ends after the step at hand, or in the middle of an evaluation, with a checkpoint of
    that step, and raises KeyboardInterrupt. Elsewhere signals do what they do without this package: Ctrl-C raises
    KeyboardInterrupt at once, and the next call resumes from the last checkpoint. It is left to the program because
    `stopped_by_signals` may end the whole process, which is wrong in a notebook.

    Args:
        recipe: what to learn.
        out: for `recipe.json`, `checkpoint-*`, and at the end `model/`, which `pipeline("point-tracking")` reads.
        on_start: called with lines that describe the run before it starts.

    Returns:
        The model's folder.

    Raises:
        FolderInUseError: if another run is at work in the folder.
        TrainingError: if the loss is not finite any more, or the folder holds another recipe's run.
        TooManyBadSamplesError: if the data are mostly bad.
        DatasetError: if a source cannot be read.
        ValueError: if the initial weights or a setting cannot be used.
    """
    arguments = _arguments(recipe, out)
    # The first process locks the folder for all.
    with locked_folder(out) if arguments.process_index == 0 else nullcontext():
        return _train(recipe, arguments, out, on_start)


def _train(recipe: TrainingRecipe, arguments: TrainingArguments, out: Path, on_start: Callable[[str], object]) -> Path:
    if recipe.evaluation is not None:
        check_evaluation(recipe.evaluation)
    components = [
        MixtureComponent(source.open(), source.weight, source.sample, name) for name, source in recipe.sources.items()
    ]
    num_batches = recipe.steps * arguments.gradient_accumulation_steps * arguments.world_size
    mixture = MixtureDataset(
        components,
        batch_size=recipe.batch_size,
        num_steps=num_batches,
        seed=recipe.seed,
        max_bad_fraction=recipe.max_bad_fraction,
    )
    mixture.check_lengths()
    set_seed(recipe.seed)
    model = build_model(recipe.model)
    if unknown := sorted((recipe.forward or {}).keys() - inspect.signature(model.forward).parameters.keys()):
        raise ValueError(f"forward: {recipe.model.type} has no {', '.join(unknown)}")
    trainer = TrackerTrainer(recipe, model, arguments, mixture)
    with arguments.main_process_first(local=False, desc="the folder of the run"):
        checkpoint = find_checkpoint(out, recipe, arguments.world_size, write=trainer.is_world_process_zero())
    if trainer.is_world_process_zero():
        # Now, so that what can't be read is known before hours of training.
        provenance = provenance_of_training(
            recipe.model_dump(mode="json"), recipe.model.start, _source_components(recipe)
        )
        where = "from nothing" if recipe.model.start is None else f"from {recipe.model.start}"
        on_start(
            f"{recipe.name}: {model.num_parameters():,} parameters, {recipe.steps:,} steps of "
            f"{arguments.world_size * arguments.gradient_accumulation_steps} x {recipe.batch_size} clips on "
            f"{arguments.device}, {where if checkpoint is None else f'resuming from {checkpoint}'}"
        )
        for component in components:
            order = "" if component.reader.window is None else ", read in order"
            on_start(f"  {component.name}: {len(component.reader):,} clips{order}, weight {component.weight:g}")
    # Several processes would have to agree on the step at which they stop: they are interrupted at once.
    with uninterrupted(long=True) if arguments.world_size == 1 else nullcontext(lambda: False) as is_stopped:
        trainer.is_stopped = is_stopped
        trainer.add_callback(SaveAndStop(is_stopped))
        try:
            trainer.train(resume_from_checkpoint=None if checkpoint is None else str(checkpoint))
        except RuntimeError as error:
            # The signal came to all processes of the run, and ended those that make its batches before they were ready.
            if is_stopped() and re.match(r"DataLoader worker \(pid.*\) (is killed|exited unexpectedly)", str(error)):
                raise KeyboardInterrupt from error
            raise
    if _lacks_last_evaluation(recipe, trainer.state.log_history):
        # The run was stopped at its last step, before the evaluation that belongs to it.
        trainer.evaluate()
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


def _logged_evaluations(history: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Return the entries of the Trainer's log that hold an evaluation."""
    return [entry for entry in history if f"eval_{next(iter(MAIN))}" in entry]


def _lacks_last_evaluation(recipe: TrainingRecipe, history: Sequence[Mapping[str, Any]]) -> bool:
    """Return whether an evaluation belongs to the last step, and the Trainer's log has none of it."""
    if recipe.evaluation is None or recipe.steps % recipe.evaluation.every:
        return False
    return all(entry["step"] != recipe.steps for entry in _logged_evaluations(history))


def _last_evaluation(recipe: TrainingRecipe, history: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """Return the last evaluation in the Trainer's log, as `Provenance.evaluation` holds it."""
    logged = _logged_evaluations(history)
    if recipe.evaluation is None or not logged:
        return None
    return {
        "benchmark": recipe.evaluation.benchmark,
        "mode": recipe.evaluation.mode,
        "step": logged[-1]["step"],
        "mean": {metric: logged[-1][f"eval_{metric}"] for metric in MAIN},
    }


def build_model(settings: ModelSettings) -> PreTrainedModel:
    """Load the network from its start, or draw its weights by torch's generator.

    Raises:
        ValueError: if the start cannot be loaded, is another kind of tracker or lacks weights, or a setting is none of
            its own.
    """
    from safetensors import SafetensorError
    from transformers import AutoConfig, AutoModel

    import anthrotap_hf  # noqa: F401  registers the trackers

    config = _checked_config(settings)
    if settings.start is None:
        return _frozen(AutoModel.from_config(AutoConfig.for_model(settings.type, **config)), settings.frozen)
    try:
        start, revision = find_tracker(settings.start)
        kind = AutoConfig.from_pretrained(start, revision=revision).model_type
        if kind != settings.type:
            raise ValueError(f"it holds a {kind}, not a {settings.type}")
        model = AutoModel.from_pretrained(start, revision=revision, **config)
    except (OSError, TypeError, ValueError, RuntimeError, SafetensorError) as error:
        known = isinstance(error, AnthroTapError) and error.path is not None
        reason = describe_hub_error(error, settings.start) or (
            error if known else f"{settings.start}: {one_line(error, limit=400)}"
        )
        raise ValueError(f"model.start: {reason}") from error
    return _frozen(model, settings.frozen)


def _frozen(model: PreTrainedModel, parts: Sequence[str]) -> PreTrainedModel:
    """Let some parts of a network keep their weights."""
    children = dict(model.named_children())
    for part in parts:
        if part not in children:
            raise ValueError(f"model.frozen: no part {part!r}: choose from {', '.join(children)}")
        children[part].requires_grad_(False)
    return model


def _checked_config(settings: ModelSettings) -> dict[str, Any]:
    from transformers import AutoConfig

    default = AutoConfig.for_model(settings.type)
    unknown = [name for name in settings.config if not hasattr(default, name)]
    if unknown:
        raise ValueError(f"model.config: {settings.type} has no {', '.join(unknown)}")
    return settings.config


def check_evaluation(settings: EvaluationSettings) -> None:
    """Raise ValueError for what the first evaluation would fail at."""
    from anthrotap_hf.evaluation.runner import layout_of

    layout_of(settings.benchmark)
    if not Path(settings.data).expanduser().exists():
        raise ValueError(f"evaluation.data: {settings.data} is not there")


def _arguments(recipe: TrainingRecipe, out: Path) -> TrainingArguments:
    evaluation = recipe.evaluation
    own: dict[str, Any] = {
        "logging_steps": 10,
        "logging_first_step": True,
        # At least ten checkpoints a run; a run that is stopped writes one more.
        "save_steps": min(500, max(1, recipe.steps // 10)),
        "save_total_limit": 2,
        "report_to": "none",
        "dataloader_pin_memory": torch.cuda.is_available(),
        # A batch on people teaches positions only: some heads then get no gradient.
        "ddp_find_unused_parameters": True,
    }
    _check_numbers(recipe.training)
    try:
        return TrainingArguments(
            **own | recipe.training,
            output_dir=str(out),
            max_steps=recipe.steps,
            seed=recipe.seed,
            # An item of the mixture is a batch.
            per_device_train_batch_size=1,
            remove_unused_columns=False,
            eval_strategy="no" if evaluation is None else "steps",
            eval_steps=None if evaluation is None else evaluation.every,
            save_strategy="steps",
        )
    except (TypeError, ValueError, ImportError, RuntimeError) as error:
        raise ValueError(f"training: {one_line(error)}") from error


def _check_numbers(training: Mapping[str, Any]) -> None:
    """Raise ValueError for a text where TrainingArguments has a number or a flag: it does not check that itself."""
    defaults = {field.name: field.default for field in dataclasses.fields(TrainingArguments)}
    for name, value in training.items():
        default = defaults.get(name)
        if isinstance(default, bool):
            fits, wanted = isinstance(value, bool), "true or false"
        elif isinstance(default, int | float):
            fits, wanted = isinstance(value, int | float) and not isinstance(value, bool), "a number"
        else:
            continue
        if value is not None and not fits:
            raise ValueError(f"training.{name} must be {wanted}, got {value!r}")


class _EvaluationStopped(Exception):  # noqa: N818  no error: the run is to end
    """A signal came while the model was evaluated."""


class TrackerTrainer(Trainer):
    """transformers' Trainer on batches of a `MixtureDataset`, with our losses and TAP-Vid's metrics.

    Attributes:
        is_stopped: whether the run is to end.
    """

    lr_scheduler: Any
    control: Any
    is_stopped: Callable[[], bool]

    def __init__(
        self,
        recipe: TrainingRecipe,
        model: PreTrainedModel,
        arguments: TrainingArguments,
        mixture: MixtureDataset,
    ) -> None:
        super().__init__(
            model=model,
            args=arguments,
            train_dataset=_Batches(mixture),
            data_collator=_only,
            eval_dataset=None if recipe.evaluation is None else [],
        )
        if not arguments.disable_tqdm:
            self.remove_callback(ProgressCallback)
            self.add_callback(LossBar)
        self.recipe = recipe
        self.is_stopped = lambda: False
        self.model_accepts_loss_kwargs = False
        self._loss = loss_of(recipe.model.type, recipe.loss.model_dump())
        self._sums: dict[str, list[Tensor]] = {}
        self._skipped = 0

    def _get_train_sampler(self, *_: Any) -> SequentialSampler:
        # The mixture has its own order.
        return SequentialSampler(self.train_dataset)

    def compute_loss(
        self,
        model: Any,
        inputs: Mapping[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Any = None,
    ) -> Any:
        if "error" in inputs:
            raise inputs["error"]
        human = inputs["human"]
        options = dict(self.recipe.forward or {})
        if self.recipe.model.type == "tapnext" and not human:
            options["output_coordinate_logits"] = True
        if self.recipe.model.type == "locotrack" and "flow_tracks" in inputs:
            options["flow_start"] = inputs["flow_tracks"], inputs["flow_logits"]
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
        """Return the names of weights, without biases: as released, only these decay."""
        return [name for name, _ in model.named_parameters() if "bias" not in name]

    def create_scheduler(self, num_training_steps: int, optimizer: Any = None) -> Any:
        schedule: OneCycle | None = self.recipe.schedule
        if schedule is None or self.lr_scheduler is not None:
            return super().create_scheduler(num_training_steps, optimizer)
        self.lr_scheduler = torch.optim.lr_scheduler.OneCycleLR(
            self.optimizer if optimizer is None else optimizer,
            max_lr=self.args.learning_rate,
            total_steps=num_training_steps,
            **schedule.model_dump() | {"pct_start": schedule.fraction_up(num_training_steps)},
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
        """Write the model as a folder that `pipeline("point-tracking")` reads."""
        with _written_to(self.args.output_dir):
            self._tracker().save_pretrained(folder)

    def _save_checkpoint(self, *arguments: Any, **options: Any) -> None:
        with _written_to(self.args.output_dir):
            super()._save_checkpoint(*arguments, **options)

    def _tracker(self) -> PointTrackingPipeline:
        from anthrotap_hf.pipelines import PointTrackingImageProcessor, PointTrackingPipeline

        model = self.accelerator.unwrap_model(self.model)
        processor = PointTrackingImageProcessor.for_model(model.config)
        if self.recipe.resolution is not None:
            height, width = self.recipe.resolution
            processor = PointTrackingImageProcessor({"height": height, "width": width}, processor.size_divisor)
        return PointTrackingPipeline(model, image_processor=processor, device=model.device)

    def _go_on(self, *_: object) -> None:
        """Raise `_EvaluationStopped` if the run is to end."""
        if self.is_stopped():
            raise _EvaluationStopped

    def evaluate(
        self, eval_dataset: Any = None, ignore_keys: Any = None, metric_key_prefix: str = "eval"
    ) -> dict[str, float]:
        """Return the means of TAP-Vid's metrics over the recipe's evaluation videos, by the first process.

        A run that is stopped meanwhile ends without them, with a checkpoint of the step.
        """
        from accelerate.utils import broadcast_object_list

        from anthrotap_hf.evaluation.runner import EvaluatedModel, evaluate, open_benchmark

        setting = self.recipe.evaluation
        if setting is None:
            raise ValueError("the recipe names no evaluation")
        found: list[Any] = [None]
        if self.is_world_process_zero():
            model = self.accelerator.unwrap_model(self.model)
            training = model.training
            # This puts the model into evaluation mode.
            tracker = self._tracker()
            try:
                with tempfile.TemporaryDirectory() as folder:
                    report = evaluate(
                        [EvaluatedModel(self.recipe.name, tracker, "now")],
                        open_benchmark(setting.benchmark, Path(setting.data).expanduser(), setting.mode),
                        Path(folder),
                        setting.limit,
                        self._go_on,
                    )
                found = [report["models"][0]["mean"]]
            except _EvaluationStopped:
                # Only a run of one process is stopped like this. The step gets a checkpoint, and no figures are logged;
                # a figure that is not a number is never the best one.
                self.control.should_training_stop = self.control.should_save = True
                self.control.should_evaluate = False
                return defaultdict(lambda: math.nan)
            finally:
                model.train(training)
        means = broadcast_object_list(found)[0]
        metrics = {f"{metric_key_prefix}_{name}": value for name, value in means.items()}
        self.log(metrics)
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics


class _Batches:
    """A mixture as workers of a DataLoader give it: an error that a user can act on is passed on as a batch.

    If a worker raised it, torch would make its text that of a traceback.
    """

    def __init__(self, mixture: MixtureDataset) -> None:
        self.mixture = mixture

    def __len__(self) -> int:
        return len(self.mixture)

    def __getitem__(self, step: int) -> dict[str, Any]:
        try:
            return self.mixture[step]
        except AnthroTapError as error:
            return {"error": error}


@contextmanager
def _written_to(out: str) -> Iterator[None]:
    """Name the folder of a run in errors of writing: torch and safetensors say no path."""
    from safetensors import SafetensorError

    try:
        yield
    except (RuntimeError, SafetensorError) as error:
        reason = f"weights can't be written: {one_line(error)}"
        raise AnthroTapError(reason, path=out, hint="is the disk full?") from error


def _only(items: list[Any]) -> Any:
    """Return the only item: an item of the mixture is a batch already."""
    (batch,) = items
    return batch
