"""The mixture of sources: which clips a training step sees, as a function of the seed and the step alone."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import cv2
import numpy as np

from anthrotap_hf.readers.training_sources import ClipSource, ClipStream
from anthrotap_hf.training.samples import BAD, Sample, SampleSettings, collate, make_sample
from anthrotap_hf.utils import opencv_threads

logger = logging.getLogger(__name__)

BLOCK = 4096  # steps whose sources are drawn at once
LEAST_TRIED = 20  # clips tried before their share of bad ones is judged


class TooManyBadSamplesError(RuntimeError):
    """Training data are mostly bad. The message is one line, with the last reason."""


@dataclass(frozen=True)
class MixedSource:
    """A source in a mixture.

    Attributes:
        source: map-style, or a stream.
        weight: how often it is drawn, beside the others' weights.
        settings: how samples are cut from its clips.
        name: what batches call it; the source's own if left out.
    """

    source: ClipSource | ClipStream
    weight: float = 1.0
    settings: SampleSettings = field(default_factory=SampleSettings)
    name: str = ""

    def __post_init__(self) -> None:
        if not self.name:
            object.__setattr__(self, "name", self.source.name)


class MixtureDataset:
    """Batches by step, each of one source (as the paper has it), as a map-style dataset of `num_steps` batches.

    `mixer[step]` depends on the seed, the step, the batch size and the sources alone: any worker may make any step, and
    a run that goes on at step k sees what an unbroken one sees. Map-style sources are gone through in another order
    each epoch; in a stream, a sample is drawn from a window that moves on one clip a sample.

    A clip that can't be used is told of once a time it is met, counted, and replaced by another one of the same source.

        loader = torch.utils.data.DataLoader(
            mixer, batch_size=None, sampler=range(start, len(mixer)), num_workers=2
        )

    Args:
        sources: what to mix, with weights; the paper takes half of the steps from synthetic clips, half from people.
        batch_size: samples of a batch.
        num_steps: batches, the length.
        seed: of everything drawn.
        max_bad_share: more bad clips than this share of those tried by this process stop the training.

    Raises:
        ValueError: if there is no source or one has no clips, or a weight or a number is out of its range.
    """

    def __init__(
        self,
        sources: Sequence[MixedSource],
        *,
        batch_size: int = 1,
        num_steps: int = 300_000,
        seed: int = 0,
        max_bad_share: float = 0.5,
    ) -> None:
        if not sources:
            raise ValueError("a mixture needs a source")
        if any(not 0 < mixed.weight < np.inf for mixed in sources):
            raise ValueError("weights must be positive and finite: leave out a source that is not wanted")
        if batch_size < 1 or num_steps < 1:
            raise ValueError(f"batch_size and num_steps must be at least 1, got {batch_size} and {num_steps}")
        if not 0 <= max_bad_share <= 1:
            raise ValueError(f"max_bad_share is a share, got {max_bad_share}")
        for mixed in sources:
            if isinstance(mixed.source, ClipSource) and not len(mixed.source):
                raise ValueError(f"{mixed.source.name}: the source has no clips")
        self.sources = list(sources)
        self.batch_size = batch_size
        self.num_steps = num_steps
        self.seed = seed
        self.max_bad_share = max_bad_share
        self.tried = 0  # clips, by this process
        self.bad = 0
        self._choices = np.zeros(0, np.int64)  # the source of each step, as far as drawn

    def __len__(self) -> int:
        return self.num_steps

    def __getitem__(self, step: int) -> dict[str, Any]:
        """The batch of a step: see `samples.collate`, and

        `source` (its name), `human` (whether its labels are on people), `step`, `skipped` (why clips were left out).

        Raises:
            IndexError: past the last step.
            TooManyBadSamplesError: if more than `max_bad_share` of the clips are bad, or no good one is found.
        """
        if not 0 <= step < self.num_steps:
            raise IndexError(f"step {step} of {self.num_steps}")
        _one_thread_in_workers()
        number, before = self._choose(step)
        mixed = self.sources[number]
        skipped: list[str] = []
        samples = [
            self._sample(mixed, number, step, place, before * self.batch_size + place, skipped)
            for place in range(self.batch_size)
        ]
        return {
            **collate(samples),
            "source": mixed.name,
            "human": mixed.source.human,
            "step": step,
            "skipped": skipped,
        }

    def batches(self, start: int = 0) -> Iterator[dict[str, Any]]:
        """The batches from a step on, in this process."""
        return (self[step] for step in range(start, self.num_steps))

    def _choose(self, step: int) -> tuple[int, int]:
        """The source of a step, and how many steps before were its own."""
        weights = np.array([mixed.weight for mixed in self.sources])
        while len(self._choices) <= step:
            rng = np.random.default_rng([self.seed, 0, len(self._choices) // BLOCK])
            block = rng.choice(len(weights), BLOCK, p=weights / weights.sum())
            self._choices = np.concatenate([self._choices, block])
        number = int(self._choices[step])
        return number, int(np.count_nonzero(self._choices[:step] == number))

    def _sample(
        self, mixed: MixedSource, number: int, step: int, place: int, ticket: int, skipped: list[str]
    ) -> Sample:
        """The sample at one place of a batch; `ticket` counts the samples taken from its source before."""
        source = mixed.source
        attempts = max(LEAST_TRIED, 2 * len(source) if isinstance(source, ClipSource) else 0)
        for attempt in range(min(attempts, 10 * LEAST_TRIED)):
            rng = np.random.default_rng([self.seed, 1, step, place, attempt])
            if not isinstance(source, ClipSource):
                index = ticket + int(rng.integers(source.window))
            elif attempt == 0:
                epoch, position = divmod(ticket, len(source))
                index = int(_order(self.seed, number, epoch, len(source))[position])
            else:
                index = int(rng.integers(len(source)))
            self.tried += 1
            try:
                return make_sample(source[index], mixed.settings, rng)
            except BAD as error:
                reason = f"{source.name} {index}: {' '.join(str(error).split())}"
            self.bad += 1
            skipped.append(reason)
            logger.warning("skipped %s", reason)
            if self.tried >= LEAST_TRIED and self.bad > self.max_bad_share * self.tried:
                raise TooManyBadSamplesError(
                    f"{self.bad} of {self.tried} clips are bad, more than {self.max_bad_share:.0%}; the last: {reason}"
                )
        raise TooManyBadSamplesError(f"no good clip among {attempt + 1} of {source.name}; the last: {reason}")


def _one_thread_in_workers() -> None:
    """Workers are many already."""
    from torch.utils.data import get_worker_info

    if get_worker_info() is not None and cv2.getNumThreads() != 1:
        opencv_threads.one()


@lru_cache(maxsize=8)
def _order(seed: int, number: int, epoch: int, length: int) -> np.ndarray:
    """The order of an epoch. int32: a million clips are 4 MB."""
    return np.random.default_rng([seed, 2, number, epoch]).permutation(np.int32(length)).astype(np.int32)
