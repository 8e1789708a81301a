"""Stiff and soft shapes for rendered clips.

Lengths are meters, times seconds. A shape lies around its own origin, z up; a path (`paths`) moves it through the
world.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.special import eval_legendre

from benchmarks.synthetic.meshes import circle, grid_faces, outward, sphere
from benchmarks.synthetic.paths import Numbers, wobble

# The positions of vertices at a time: [V, 3].
Deformation = Callable[[float], np.ndarray]


@dataclass(frozen=True)
class Shape:
    """A mesh that may change its form.

    Attributes:
        rest: [V, 3] float64; patterns live on it.
        faces: [F, 3] int32, counter-clockwise from outside.
        part: [F] int, which of the shape's materials a face has.
        at: the form at a time.
    """

    rest: np.ndarray
    faces: np.ndarray
    part: np.ndarray
    at: Deformation


def blob(rng: np.random.Generator, radius: float, rough: float = 0.25, degree: int = 5,
         jelly: float = 0.0) -> Shape:  # fmt: skip
    """A ball bent by spherical harmonics up to a degree; with `jelly`, they oscillate by that fraction."""
    directions, faces = sphere(5 if degree > 6 else 4)
    count = 14
    # Zonal harmonics about random axes span them all (addition theorem).
    axes = rng.normal(size=(count, 3))
    axes /= np.linalg.norm(axes, axis=1, keepdims=True)
    degrees = rng.integers(2, degree + 1, count)
    bumps = np.stack([eval_legendre(n, directions @ axis) for n, axis in zip(degrees, axes, strict=True)], axis=1)
    heights = rng.normal(0, rough, count) / np.sqrt(degrees)
    stretch = np.exp(rng.uniform(-0.3, 0.3, 3))
    live, squash = wobble(rng, [jelly] * count, 1.2, 0.4), wobble(rng, 0.4 * jelly, 1.0, 0.4)

    def form(change: np.ndarray, tall: float) -> np.ndarray:
        size = np.maximum(1 + bumps @ (heights * (1 + change)), 0.25)
        scale = stretch * np.array([np.exp(-tall / 2), np.exp(-tall / 2), np.exp(tall)])
        return radius * directions * size[:, None] * scale

    rest = form(np.zeros(count), 0.0)
    at = (lambda seconds: form(3 * live(seconds), float(squash(seconds)[0]))) if jelly else (lambda _: rest)
    return Shape(rest, faces, np.zeros(len(faces), int), at)


def superellipsoid(size: Numbers, sharp: float) -> Shape:
    """Between a ball (`sharp` 2) and a box (large): |x|^p + |y|^p + |z|^p = 1, scaled to half axes `size`; under 2 a
    star."""
    directions, faces = sphere(4)
    length = (np.abs(directions) ** sharp).sum(1) ** (1 / sharp)
    rest = directions / length[:, None] * np.asarray(size)
    return Shape(rest, faces, np.zeros(len(faces), int), lambda _: rest)


def box(rng: np.random.Generator, size: Numbers, twist: float = 0.0) -> Shape:
    """A box of edges `size`, three materials; with `twist`, it twists about z and bends by so many radians."""
    steps = 9
    u, v = (grid.ravel() for grid in np.meshgrid(*[np.linspace(-0.5, 0.5, steps)] * 2, indexing="ij"))
    vertices: list[np.ndarray] = []
    faces, part = [], []
    for axis in range(3):
        for sign in (-1, 1):
            side = np.zeros((steps * steps, 3))
            side[:, axis], side[:, (axis + 1) % 3], side[:, (axis + 2) % 3] = sign / 2, u, v
            grid = grid_faces(steps, steps)
            faces.append((grid if sign > 0 else grid[:, ::-1]) + steps * steps * len(vertices))
            vertices.append(side * np.asarray(size))
            part.append(np.full(len(grid), axis))
    rest = np.concatenate(vertices)
    turn, bend = wobble(rng, twist, 1.6, 0.7), wobble(rng, 0.6 * twist, 1.6, 0.7)

    def at(seconds: float) -> np.ndarray:
        if not twist:
            return rest
        along = rest[:, 2] / size[2]
        angle = turn(seconds)[0] * along
        x = np.cos(angle) * rest[:, 0] - np.sin(angle) * rest[:, 1]
        y = np.sin(angle) * rest[:, 0] + np.cos(angle) * rest[:, 1]
        return np.stack([x + bend(seconds)[0] * size[2] * (along**2 - 0.08), y, rest[:, 2]], axis=1)

    return Shape(rest, np.concatenate(faces).astype(np.int32), np.concatenate(part), at)


def torus(radius: float, tube: float, oval: float = 1.0) -> Shape:
    """A ring around z."""
    a, b = (grid.ravel() for grid in np.meshgrid(*(circle(n) for n in (72, 28)), indexing="ij"))
    rest = np.stack(
        [(radius + tube * np.cos(b)) * np.cos(a), (radius + tube * np.cos(b)) * np.sin(a) * oval,
         tube * np.sin(b)], axis=1,
    )  # fmt: skip
    faces = outward(rest, grid_faces(72, 28, True, True))
    return Shape(rest, faces, np.zeros(len(faces), int), lambda _: rest)


def knot(radius: float, tube: float, around: int = 2, through: int = 3) -> Shape:
    """A torus knot: `around` times around z while `through` times through the hole."""
    a = circle(260)
    wide = radius * (1 + 0.42 * np.cos(through * a))
    spine = np.stack(
        [wide * np.cos(around * a), wide * np.sin(around * a), 0.42 * radius * np.sin(through * a)], axis=1
    )
    tangent = np.roll(spine, -1, 0) - np.roll(spine, 1, 0)
    tangent /= np.linalg.norm(tangent, axis=1, keepdims=True)
    center = radius * np.stack([np.cos(around * a), np.sin(around * a), 0 * a], axis=1)
    up = spine - center  # the torus's own normal turns once with the curve, and closes
    up -= (up * tangent).sum(1, keepdims=True) * tangent
    up /= np.linalg.norm(up, axis=1, keepdims=True)
    b = circle(16)
    ring = np.cos(b)[:, None] * up[:, None] + np.sin(b)[:, None] * np.cross(tangent, up)[:, None]
    rest = (spine[:, None] + tube * ring).reshape(-1, 3)
    faces = outward(rest, grid_faces(260, 16, True, True))
    return Shape(rest, faces, np.zeros(len(faces), int), lambda _: rest)


def cloth(rng: np.random.Generator, width: float, height: float, wind: float = 0.12) -> Shape:
    """A sheet in the plane of x and z that hangs from its upper edge and waves towards y; its back is another
    material. It is a centimeter thick, so that front and back are points of their own."""
    columns, rows = 44, 36
    x, z = np.meshgrid(np.linspace(-0.5, 0.5, columns) * width, np.linspace(0, -1, rows) * height)
    waves = [
        (rng.uniform(0.4, 1) * wind / (1 + n), rng.uniform(2, 6) * (1 + 0.5 * n) / width,
         rng.uniform(1, 5) / height, rng.choice([-1, 1]) * rng.uniform(4, 8), rng.uniform(0, 6))
        for n in range(4)
    ]  # fmt: skip
    billow = wobble(rng, [0.25 * height, 0.15 * width], 1.8, 0.8)

    def sheet(seconds: float) -> np.ndarray:
        free = (-z / height) ** 1.3
        depth = sum(a * np.sin(k * x + m * z - w * seconds + p) for a, k, m, w, p in waves)
        swing, side = billow(seconds)
        middle = np.stack([x + side * free, free * (depth + swing), z + 0.1 * height * free * free], axis=2)
        normal = np.cross(np.gradient(middle, axis=0), np.gradient(middle, axis=1))
        normal /= np.linalg.norm(normal, axis=2, keepdims=True)
        return np.concatenate([middle + 0.005 * normal, middle - 0.005 * normal]).reshape(-1, 3)

    flat = np.stack([x, 0 * x, z], axis=2)
    rest = np.concatenate([flat - [0, 0.005, 0], flat + [0, 0.005, 0]]).reshape(-1, 3)
    front = grid_faces(rows, columns)
    edge = np.concatenate(
        [np.arange(columns), columns - 1 + columns * np.arange(1, rows),
         columns * rows - 2 - np.arange(columns - 1), columns * (rows - 2 - np.arange(rows - 2))]
    )  # fmt: skip
    after, back = np.roll(edge, -1), columns * rows
    rim = np.concatenate([np.stack([edge, after, edge + back], 1), np.stack([after, after + back, edge + back], 1)])
    faces = outward(rest, np.concatenate([front, front[:, ::-1] + back, rim]))
    part = np.concatenate([np.zeros(len(front), int), np.ones(len(front) + len(rim), int)])
    return Shape(rest, faces, part, sheet)


def snake(rng: np.random.Generator, length: float, thick: float) -> Shape:
    """A tube that winds along its own length, like a snake; head towards +x."""
    count, around = 110, 16
    s = np.linspace(0, 1, count)
    radius = thick * (0.25 + 0.75 * np.sqrt(np.clip(np.minimum(s / 0.35, (1 - s) / 0.05), 0, 1)))
    radius[[0, -1]] = 0
    bend, waves, speed = rng.uniform(0.7, 1.1), rng.uniform(1.1, 1.8), rng.uniform(0.7, 1.3)
    curl, rear = wobble(rng, 1.2, 2.5, 1.2), wobble(rng, 0.5, 2.0, 0.9)
    b = circle(around)

    def tube(heading: np.ndarray, pitch: np.ndarray) -> np.ndarray:
        tangent = np.stack([np.cos(heading) * np.cos(pitch), np.sin(heading) * np.cos(pitch), np.sin(pitch)], 1)
        spine = np.cumsum(tangent, axis=0) * (length / count)
        spine -= spine.mean(0)
        side = np.stack([-np.sin(heading), np.cos(heading), 0 * heading], axis=1)
        ring = np.cos(b)[:, None] * side[:, None] + np.sin(b)[:, None] * np.cross(tangent, side)[:, None]
        return (spine[:, None] + radius[:, None, None] * ring).reshape(-1, 3)

    def at(seconds: float) -> np.ndarray:
        phase = 2 * np.pi * (waves * s + speed * seconds)
        lift = 0.25 + rear(seconds)[0] * np.clip((s - 0.55) / 0.45, 0, 1) ** 1.5
        return tube(bend * np.sin(phase) + curl(seconds)[0] * (s - 0.5), lift - 0.25 * (s < 0.55))

    rest = tube(0 * s, 0 * s)
    faces = outward(rest, grid_faces(count, around, False, True))
    return Shape(rest, faces, np.zeros(len(faces), int), at)
