"""What a measure of real footage gives: counts, which are summed over clips, and examples to look at."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np


@dataclass(frozen=True)
class Example:
    """Two places in two frames that should be, or should not be, the same point.

    Attributes:
        frames: the numbers of both frames in the clip.
        xy: the label in both frames, [2] each, raster pixels.
        expected: [2], where the picture says that it is in the second frame; None where it says nothing.
        error: how bad it is; the worst are shown first.
        text: what to write beside it.
    """

    frames: tuple[int, int]
    xy: tuple[np.ndarray, np.ndarray]
    expected: np.ndarray | None
    error: float
    text: str


@dataclass(frozen=True)
class Measured:
    """Counts by name, examples by kind, and figures of each person (for JSON only)."""

    counts: dict[str, int]
    examples: dict[str, list[Example]] = field(default_factory=dict)
    people: list[dict[str, int]] = field(default_factory=list)


def summed(counts: Iterable[dict[str, int]]) -> dict[str, int]:
    """Sum counts by name."""
    total: dict[str, int] = {}
    for each in counts:
        for name, count in each.items():
            total[name] = total.get(name, 0) + count
    return total
