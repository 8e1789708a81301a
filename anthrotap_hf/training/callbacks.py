"""What is done at each step of a training besides: the progress bar, and the end of a run that is stopped."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from transformers import ProgressCallback, TrainerCallback, TrainerControl, TrainerState, TrainingArguments


class LossBar(ProgressCallback):
    """The Trainer's bar, which shows step, rate and time left, with the last loss beside it."""

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, Any] | None = None,
        **options: Any,
    ) -> None:
        super().on_log(args, state, control, logs=logs, **options)
        if self.training_bar is not None and logs and "loss" in logs:
            self.training_bar.set_postfix_str(f"loss {float(logs['loss']):.4g}")


class SaveAndStop(TrainerCallback):
    """Ends a run that is stopped after the step at hand, with a checkpoint of it."""

    def __init__(self, is_stopped: Callable[[], bool]) -> None:
        self._is_stopped = is_stopped

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> TrainerControl:
        if self._is_stopped():
            control.should_training_stop = control.should_save = True
            control.should_evaluate = False
        return control
