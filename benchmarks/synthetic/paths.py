"""Ways that a shape moves through the world.

A path maps seconds to the shape's rotation [3, 3] and position [3] in meters. It is at its start or center after one
second, so that clips of any length show it there.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from scipy.spatial.transform import Rotation

Path = Callable[[float], tuple[np.ndarray, np.ndarray]]
# A few numbers, of which most are coordinates.
Numbers = Sequence[float] | np.ndarray

GRAVITY = 9.81


def wobble(
    rng: np.random.Generator, size: float | Numbers, slow: float = 2.5, fast: float = 0.7
) -> Callable[[float], np.ndarray]:
    """A smooth random function of seconds to [D] values around 0, within `size` [D]: three sines each, of periods from
    `fast` to `slow` seconds."""
    sizes = np.atleast_1d(np.asarray(size, float))
    rates = 2 * np.pi / np.exp(rng.uniform(np.log(fast), np.log(slow), (3, len(sizes))))
    phases = rng.uniform(0, 2 * np.pi, rates.shape)
    fractions = rng.uniform(0.2, 1, rates.shape)
    fractions *= sizes / fractions.sum(0)
    return lambda seconds: (fractions * np.sin(rates * seconds + phases)).sum(0)


def floating(rng: np.random.Generator, center: Numbers, reach: Numbers, spin: float,
             drift: Numbers = (0, 0, 0)) -> Path:  # fmt: skip
    """Wanders within `reach` of a center that drifts (meters a second, there at 1 s), and turns, `spin` radians a
    second."""
    position, turn = wobble(rng, reach, 3.0, 1.0), wobble(rng, [0.5, 0.5, 0.5], 3.0, 1.0)
    axis, start = _direction(rng), Rotation.random(random_state=rng)

    def at(seconds: float) -> tuple[np.ndarray, np.ndarray]:
        rotation = Rotation.from_rotvec(turn(seconds)) * Rotation.from_rotvec(spin * seconds * axis) * start
        return rotation.as_matrix(), center + position(seconds) + np.multiply(drift, seconds - 1)

    return at


def bouncing(rng: np.random.Generator, start: Numbers, velocity: Numbers, height: float,
             radius: float, spin: float) -> Path:  # fmt: skip
    """Hops over the floor, up to `height` above it: at `start` (x, y) at 1 s, with a velocity along the floor."""
    half = np.sqrt(2 * height / GRAVITY)
    phase = rng.uniform(0, 2 * half)
    axis, first = _direction(rng), Rotation.random(random_state=rng)

    def at(seconds: float) -> tuple[np.ndarray, np.ndarray]:
        since = (seconds + phase + 20 * half) % (2 * half)
        x, y = np.asarray(start) + np.multiply(velocity, seconds - 1)
        z = radius + GRAVITY / 2 * since * (2 * half - since)
        return (Rotation.from_rotvec(spin * seconds * axis) * first).as_matrix(), np.array([x, y, z])

    return at


def rolling(rng: np.random.Generator, start: Numbers, velocity: Numbers,
            radius: float) -> Path:  # fmt: skip
    """Rolls over the floor about its own z without slipping, speeding up and slowing down a little; at `start` (x, y)
    at 1 s."""
    speed = float(np.linalg.norm(velocity))
    ahead = np.array([*velocity, 0.0]) / speed
    axis = np.cross([0, 0, 1.0], ahead)
    upright = np.stack([ahead, np.cross(axis, ahead), axis], axis=1)
    first, uneven = rng.uniform(0, 2 * np.pi), wobble(rng, 0.15, 2.0, 1.0)

    def at(seconds: float) -> tuple[np.ndarray, np.ndarray]:
        way = speed * (seconds - 1 + float(uneven(seconds)[0]))
        rotation = Rotation.from_rotvec((first + way / radius) * axis)
        return rotation.as_matrix() @ upright, np.array([*start, radius]) + way * ahead

    return at


def orbiting(rng: np.random.Generator, center: Numbers, radius: float, turns: float, phase: float,
             spin: float, tilt: float = 0.0) -> Path:  # fmt: skip
    """Circles a center, `turns` radians a second, in a plane tilted up towards +y."""
    axis, first = _direction(rng), Rotation.random(random_state=rng)
    plane = Rotation.from_rotvec([tilt, 0, 0])

    def at(seconds: float) -> tuple[np.ndarray, np.ndarray]:
        angle = turns * seconds + phase
        position = plane.apply([radius * np.cos(angle), radius * np.sin(angle), 0.0])
        return (Rotation.from_rotvec(spin * seconds * axis) * first).as_matrix(), center + position

    return at


def hanging(rng: np.random.Generator, pivot: Numbers, swing: float, turn: float = 0.3) -> Path:
    """Hangs from a pivot, where the shape's origin stays, and swings about it by some `swing` radians."""
    angles = wobble(rng, [0.4 * swing, swing, turn], 2.4, 1.0)
    return lambda seconds: (Rotation.from_rotvec(angles(seconds)).as_matrix(), np.asarray(pivot, float))


def walking(rng: np.random.Generator, start: Numbers, heading: float, speed: float,
            turn: float = 0.0, bob: float = 0.02) -> Path:  # fmt: skip
    """Goes ahead, the shape's +x, at `start` (x, y, z) at 1 s; the heading changes by `turn` radians a second."""
    rise = wobble(rng, bob, 0.5, 0.3)

    def at(seconds: float) -> tuple[np.ndarray, np.ndarray]:
        t = seconds - 1
        angle = heading + turn * t
        if abs(turn) < 1e-6:
            way = speed * t * np.array([np.cos(heading), np.sin(heading)])
        else:
            way = speed / turn * np.array(
                [np.sin(angle) - np.sin(heading), np.cos(heading) - np.cos(angle)]
            )  # fmt: skip
        position = np.asarray(start, float) + [*way, float(rise(seconds)[0])]
        return Rotation.from_rotvec([0, 0, angle]).as_matrix(), position

    return at


def _direction(rng: np.random.Generator) -> np.ndarray:
    vector = rng.normal(size=3)
    return vector / np.linalg.norm(vector)
