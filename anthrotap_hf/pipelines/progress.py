"""Progress of a pipeline's work: a bar, or a function that is called. Saved pipelines take a copy along."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from transformers.utils.logging import tqdm

# Shorter work shows no progress, unless asked to.
QUIET_SECONDS = 2

Progress = bool | Callable[[str, int, int | None], object] | None


def progress_bar(what: str, unit: str, total: int | None, progress: Progress) -> Any:
    if callable(progress):
        return _ProgressCallback(what, total, progress)
    # None disables the bar where there is no terminal.
    disable = None if progress is None else not progress
    delay = 0 if progress else QUIET_SECONDS
    return tqdm(desc=what, unit=f" {unit}", total=total, disable=disable, delay=delay, leave=False)


class _ProgressCallback:
    """Stands in for a progress bar: calls a function with how far the work is."""

    def __init__(self, what: str, total: int | None, call: Callable[[str, int, int | None], object]) -> None:
        self.what, self.total, self.call, self.done = what, total, call, 0

    def __enter__(self) -> _ProgressCallback:
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def update(self, number: int) -> None:
        self.done += number
        self.call(self.what, self.done, self.total)


__all__ = ["Progress", "progress_bar"]
