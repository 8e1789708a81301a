"""What a clip of the rendered sets is, and the people that its scenes share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from benchmarks.synthetic.clothing import Clothing
from benchmarks.synthetic.motion import Motion
from benchmarks.synthetic.renderer import Actor, Scene

HALVES = ("tuning", "held_out")
# Motion samples a second.
RATE = 192.0


@dataclass(frozen=True)
class ClipSpec:
    """A clip of a rendered set.

    Attributes:
        name: unique in all groups.
        half: one of `HALVES`. Both have the same themes, but neither motions, people, rooms nor seeds in common.
        build: makes the scene.
        crf: how hard H.264 compresses it (its constant rate factor).
        group: one of `clip_sets.GROUPS`; each has figures of its own.
        fps: frames a second, as the scene's.
    """

    name: str
    half: str
    build: Callable[[], Scene]
    crf: int = 21
    group: str = "standard"
    fps: float = 24.0


def random_person(rng: np.random.Generator, controls: np.ndarray, start: tuple[float, float] = (0.0, 0.0),
                  stay: float | None = 0.9, **clothing: object) -> Actor:  # fmt: skip
    """Make a person of random shape and clothing who does `controls` around `start`; `clothing` sets its fields."""
    shape = random_shape(rng)
    seed = int(rng.integers(1 << 30))
    return Actor(Motion(controls, RATE, start, stay), shape, Clothing.random(rng, **clothing), seed)


def random_shape(rng: np.random.Generator) -> np.ndarray:
    """Draw the shape [10] of a body of about average size."""
    return np.clip(rng.normal(size=10), -1.5, 1.5) * [0.35, *[0.9] * 9]
