"""The clips of the tracking set."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from benchmarks.synthetic.renderer import Scene
from benchmarks.synthetic.tracking_set import objects, people
from benchmarks.synthetic.tracking_set.camera import CameraSettings

VALIDATION_FRAMES = 24
FILES = ("humans", "objects", "validation")

# Ways to film.
_PLAIN = CameraSettings()
_SLOW, _CLEAN = CameraSettings(fps=30.0, crf=None), CameraSettings(noise=0.5, crf=None)
_BLURRED, _NOISY = CameraSettings(shutter=0.6), CameraSettings(noise=3.5, crf=26)
_SQUEEZED, _SPARSE = CameraSettings(crf=32), CameraSettings(fps=12.0, shutter=0.35)
_SHORT = CameraSettings(num_frames=VALIDATION_FRAMES)


@dataclass(frozen=True)
class TrackingClip:
    """A clip of the set: the file that it is in, and all that determines it."""

    name: str
    file: str
    theme: Callable[[np.random.Generator, CameraSettings], Scene]
    seed: int
    settings: CameraSettings = _PLAIN

    def scene(self) -> Scene:
        return self.theme(np.random.default_rng(self.seed), self.settings)


def tracking_set(files: Sequence[str] = FILES) -> list[TrackingClip]:
    """Return the clips of some files.

    Raises:
        ValueError: for an unknown file.
    """
    for file in files:
        if file not in FILES:
            raise ValueError(f"no file {file!r} in the tracking set: choose from {', '.join(FILES)}")
    return [clip for clip in _SET if clip.file in files]


def _clips(file: str, first_seed: int, entries: Sequence[tuple[Callable, CameraSettings]]) -> list[TrackingClip]:
    kind = {"humans": "human", "objects": "object"}
    return [
        TrackingClip(
            f"{kind.get(file, 'validation')}-{theme.__name__.strip('_').replace('_', '-')}",
            file, theme, first_seed + n, settings,
        )
        for n, (theme, settings) in enumerate(entries)
    ]  # fmt: skip


_SET = [
    *_clips("humans", 7301, [
        (people.walk_by, _PLAIN), (people.walk_round, _NOISY), (people.dance, _CLEAN), (people.dance_pair, _PLAIN),
        (people.crossing, _SQUEEZED), (people.three, _PLAIN), (people.crouch, _SLOW), (people.lunge, _PLAIN),
        (people.spin, CameraSettings(fps=16.0)), (people.behind_table, _CLEAN),
        (people.behind_pillars, _PLAIN), (people.boxing, _SPARSE),
        (people.fast_arms, _BLURRED), (people.jumping, _NOISY), (people.close_up, _PLAIN),
    ]),
    *_clips("objects", 8301, [
        (objects.tumbling, _CLEAN), (objects.rolling, _PLAIN), (objects.bouncing, _BLURRED), (objects.orbit, _PLAIN),
        (objects.flag, _CLEAN), (objects.curtains, _PLAIN), (objects.snakes, _PLAIN), (objects.beast, _SQUEEZED),
        (objects.crawlers, _PLAIN), (objects.chains, _NOISY), (objects.jelly, _PLAIN), (objects.twisting, _SLOW),
        (objects.swarm, _PLAIN), (objects.knots, _SPARSE),
    ]),
    *_clips("validation", 9301, [
        (people.dance, _SHORT), (people.behind_pillars, _SHORT), (people.crossing, replace(_SHORT, noise=3.0)),
        (people.fast_arms, replace(_SHORT, shutter=0.5)),
        (objects.orbit, _SHORT), (objects.flag, _SHORT), (objects.beast, _SHORT),
        (objects.jelly, replace(_SHORT, crf=30)),
    ]),
]  # fmt: skip
