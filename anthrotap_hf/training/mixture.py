"""The mixture of datasets: which clips a training step sees, as a function of the seed and the step alone."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import cv2
import numpy as np

from anthrotap_hf.readers.base import BAD_CLIP, DatasetError, Reader
from anthrotap_hf.training.flow_samples import make_flow_sample
from anthrotap_hf.training.samples import Sample, SampleSettings, collate, make_sample
from anthrotap_hf.utils import opencv_threads
from anthrotap_hf.utils.errors import AnthroTapError, one_line
from anthrotap_hf.utils.stop_signals import leave_stopping_to_parent

logger = logging.getLogger(__name__)

# Steps whose components are drawn at once.
BLOCK = 4096
# Draws of a clip before the fraction of bad ones counts.
MIN_TRIED = 20


class TooManyBadSamplesError(AnthroTapError):
    """Too many draws gave a clip that can't be used; the message has the reason of the last one."""


@dataclass(frozen=True)
class MixtureComponent:
    """A dataset in a mixture.

    Attributes:
        reader: its clips.
        weight: how often it is drawn, relative to the others' weights.
        settings: how samples are cut from its clips.
        name: what batches call it; the reader's name by default.
    """

    reader: Reader
    weight: float = 1.0
    settings: SampleSettings = field(default_factory=SampleSettings)
    name: str = ""

    def __post_init__(self) -> None:
        if not self.name:
            object.__setattr__(self, "name", self.reader.name)


class MixtureDataset:
    """Batches by step, each of one component (as the paper has it), as a map-style dataset of `num_steps` batches.

    `mixture[step]` depends on the seed, the step, the batch size and the components alone: any worker may make any
    step, and a run that resumes at step k sees what an unbroken one sees. The clips of a component are gone through in
    another order each epoch; where its reader has a window, in their own order, and a sample is drawn from a window
    that moves on by one clip a sample.

    A clip that cannot be used is logged each time it is met, counted, and replaced by another one of its component.

        loader = torch.utils.data.DataLoader(
            mixture, batch_size=None, sampler=range(start, len(mixture)), num_workers=2
        )

    Args:
        components: what to mix; the paper takes half of the steps from synthetic clips, half from people.
        batch_size: samples of a batch.
        num_steps: batches, the length.
        seed: of everything that is drawn.
        max_bad_fraction: a larger fraction of bad clips among those drawn by this process stops the training.

    Raises:
        ValueError: if there is no component or one has no clips, or a weight or a number is out of its range.
    """

    def __init__(
        self,
        components: Sequence[MixtureComponent],
        *,
        batch_size: int = 1,
        num_steps: int = 300_000,
        seed: int = 0,
        max_bad_fraction: float = 0.5,
    ) -> None:
        if not components:
            raise ValueError("a mixture needs a component")
        if any(not 0 < component.weight < np.inf for component in components):
            raise ValueError("weights must be positive and finite: leave out a component that is not wanted")
        if batch_size < 1 or num_steps < 1:
            raise ValueError(f"batch_size and num_steps must be at least 1, got {batch_size} and {num_steps}")
        if not 0 <= max_bad_fraction <= 1:
            raise ValueError(f"max_bad_fraction is a fraction, got {max_bad_fraction}")
        for component in components:
            if not len(component.reader):
                raise ValueError(f"{component.name}: the dataset has no clips")
        self.components = list(components)
        self.batch_size = batch_size
        self.num_steps = num_steps
        self.seed = seed
        self.max_bad_fraction = max_bad_fraction
        # Draws of a clip by this process, and those that gave a bad one.
        self.tried, self.bad = 0, 0
        # The component of each step, as far as drawn.
        self._choices = np.zeros(0, np.int64)

    def __len__(self) -> int:
        return self.num_steps

    def check_lengths(self) -> None:
        """Raise DatasetError if no clip of a component is as long as a sample, as far as its reader knows.

        A smaller dilation is not taken instead: how far points move between two frames is the recipe's choice.
        """
        for component in self.components:
            settings, longest = component.settings, component.reader.longest()
            if longest is None or longest >= settings.span:
                continue
            if longest >= settings.num_frames:
                # The steps between the frames must fit; a sample of one frame always does.
                changes = [f"dilation={(longest - 1) // (settings.num_frames - 1)}"]
            else:
                changes = [f"num_frames={longest}", "dilation=1"]
            raise DatasetError(
                f"no clip is long enough: the longest has {longest} frames, and a sample of {settings.num_frames} "
                f"frames with dilation {settings.dilation} needs {settings.span}",
                path=component.reader.name,
                hint=f"add {' '.join(f'--set sources.{component.name}.sample.{change}' for change in changes)}",
            )

    def __getitem__(self, step: int) -> dict[str, Any]:
        """Return the batch of a step: what `samples.collate` gives, and

        `source` (the component's name), `human` (whether its labels are on people), `step`, `skipped` (why clips were
        skipped, a line each).

        Raises:
            IndexError: past the last step.
            TooManyBadSamplesError: if more than `max_bad_fraction` of the draws gave a bad clip, or all did.
        """
        if not 0 <= step < self.num_steps:
            raise IndexError(f"step {step} of {self.num_steps}")
        _prepare_worker()
        number, before = self._choose(step)
        skipped: list[str] = []
        samples = [
            self._make_sample(number, (step, item), before * self.batch_size + item, skipped)
            for item in range(self.batch_size)
        ]
        return {
            **collate(samples, "anthrotap"),
            "source": self.components[number].name,
            "human": self.components[number].reader.human,
            "step": step,
            "skipped": skipped,
        }

    def batches(self, start: int = 0) -> Iterator[dict[str, Any]]:
        """Return the batches from a step on, made by this process."""
        return (self[step] for step in range(start, self.num_steps))

    def _choose(self, step: int) -> tuple[int, int]:
        """Return the component of a step, and how many of the steps before it were its own."""
        weights = np.array([component.weight for component in self.components])
        while len(self._choices) <= step:
            rng = np.random.default_rng([self.seed, 0, len(self._choices) // BLOCK])
            block = rng.choice(len(weights), BLOCK, p=weights / weights.sum())
            self._choices = np.concatenate([self._choices, block])
        number = int(self._choices[step])
        return number, int(np.count_nonzero(self._choices[:step] == number))

    def _make_sample(self, number: int, where: tuple[int, int], ticket: int, skipped: list[str]) -> Sample:
        """Make one sample of a batch.

        Args:
            number: of the component.
            where: the step, and the number of the sample in its batch.
            ticket: how many samples were taken from the component before.
            skipped: gets a line for each clip that cannot be used.
        """
        reader = self.components[number].reader
        attempts = MIN_TRIED if reader.window else min(max(MIN_TRIED, 2 * len(reader)), 10 * MIN_TRIED)
        for attempt in range(attempts):
            rng = np.random.default_rng([self.seed, 1, *where, attempt])
            if reader.window is not None:
                index = (ticket + int(rng.integers(reader.window))) % len(reader)
            elif attempt == 0:
                epoch, position = divmod(ticket, len(reader))
                index = int(_epoch_order(self.seed, number, epoch, len(reader))[position])
            else:
                index = int(rng.integers(len(reader)))
            self.tried += 1
            try:
                settings = self.components[number].settings
                cut = make_flow_sample if reader.has_flow else make_sample
                return cut(reader[index], settings, rng)
            except BAD_CLIP as error:
                reason = f"{reader.name} {index}: {one_line(error, limit=400)}"
            self.bad += 1
            skipped.append(reason)
            logger.warning("skipped %s", reason)
            if self.tried >= MIN_TRIED and self.bad > self.max_bad_fraction * self.tried:
                raise TooManyBadSamplesError(
                    f"{self.bad} of {self.tried} draws gave a clip that can't be used, more than "
                    f"{self.max_bad_fraction:.0%}; the last: {reason}"
                )
        raise TooManyBadSamplesError(
            f"none of {attempts} draws from {reader.name} gave a clip that can be used; the last: {reason}"
        )


def _prepare_worker() -> None:
    """In a worker of a DataLoader, let OpenCV use one thread, and signals be the training's.

    The workers are many already; and training that is stopped in good order still needs them.
    """
    from torch.utils.data import get_worker_info

    if get_worker_info() is not None:
        if cv2.getNumThreads() != 1:
            opencv_threads.use_one()
        leave_stopping_to_parent()


@lru_cache(maxsize=8)
def _epoch_order(seed: int, number: int, epoch: int, length: int) -> np.ndarray:
    """Return the order of a component's clips in an epoch, int32: a million clips are 4 MB."""
    return np.random.default_rng([seed, 2, number, epoch]).permutation(np.int32(length)).astype(np.int32)
