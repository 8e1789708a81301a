"""Shapes that are no people, for rendered clips: stiff, soft and jointed meshes, and the ways they move.

Lengths are meters, times seconds. A shape lies around its own origin, z up; a path takes it through the world.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import skimage.measure
from scipy.spatial.transform import Rotation
from scipy.special import eval_legendre

from benchmarks.synthetic import raster

# Where vertices are at a time: [V, 3].
Deformation = Callable[[float], np.ndarray]
# A shape's rotation [3, 3] and place [3] in the world at a time.
Path = Callable[[float], tuple[np.ndarray, np.ndarray]]
# A few numbers, of which most are coordinates.
Numbers = Sequence[float] | np.ndarray

GRAVITY = 9.81


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


def wobble(
    rng: np.random.Generator, size: float | Numbers, slow: float = 2.5, fast: float = 0.7
) -> Callable[[float], np.ndarray]:
    """A smooth random function of seconds to [D] values around 0, within `size` [D]: three sines each, of periods from
    `fast` to `slow` seconds."""
    sizes = np.atleast_1d(np.asarray(size, float))
    rates = 2 * np.pi / np.exp(rng.uniform(np.log(fast), np.log(slow), (3, len(sizes))))
    phases = rng.uniform(0, 2 * np.pi, rates.shape)
    shares = rng.uniform(0.2, 1, rates.shape)
    shares *= sizes / shares.sum(0)
    return lambda seconds: (shares * np.sin(rates * seconds + phases)).sum(0)


# Stiff and soft bodies


def blob(rng: np.random.Generator, radius: float, rough: float = 0.25, degree: int = 5,
         jelly: float = 0.0) -> Shape:  # fmt: skip
    """A ball bent by spherical harmonics up to a degree; with `jelly`, they come and go by that share."""
    directions, faces = _sphere(5 if degree > 6 else 4)
    count = 14
    # Zonal harmonics about random axes span them all (addition theorem).
    axes = rng.normal(size=(count, 3))
    axes /= np.linalg.norm(axes, axis=1, keepdims=True)
    degrees = rng.integers(2, degree + 1, count)
    bumps = np.stack(
        [eval_legendre(n, directions @ axis) for n, axis in zip(degrees, axes, strict=True)], axis=1
    )
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
    directions, faces = _sphere(4)
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
            grid = _grid_faces(steps, steps)
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
    a, b = (grid.ravel() for grid in np.meshgrid(*(_circle(n) for n in (72, 28)), indexing="ij"))
    rest = np.stack(
        [(radius + tube * np.cos(b)) * np.cos(a), (radius + tube * np.cos(b)) * np.sin(a) * oval,
         tube * np.sin(b)], axis=1,
    )  # fmt: skip
    faces = _outward(rest, _grid_faces(72, 28, True, True))
    return Shape(rest, faces, np.zeros(len(faces), int), lambda _: rest)


def knot(radius: float, tube: float, around: int = 2, through: int = 3) -> Shape:
    """A torus knot: `around` times around z while `through` times through the hole."""
    a = _circle(260)
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
    b = _circle(16)
    ring = np.cos(b)[:, None] * up[:, None] + np.sin(b)[:, None] * np.cross(tangent, up)[:, None]
    rest = (spine[:, None] + tube * ring).reshape(-1, 3)
    faces = _outward(rest, _grid_faces(260, 16, True, True))
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
    front = _grid_faces(rows, columns)
    edge = np.concatenate(
        [np.arange(columns), columns - 1 + columns * np.arange(1, rows),
         columns * rows - 2 - np.arange(columns - 1), columns * (rows - 2 - np.arange(rows - 2))]
    )  # fmt: skip
    after, back = np.roll(edge, -1), columns * rows
    rim = np.concatenate(
        [np.stack([edge, after, edge + back], 1), np.stack([after, after + back, edge + back], 1)]
    )
    faces = _outward(rest, np.concatenate([front, front[:, ::-1] + back, rim]))
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
    b = _circle(around)

    def tube(heading: np.ndarray, pitch: np.ndarray) -> np.ndarray:
        tangent = np.stack(
            [np.cos(heading) * np.cos(pitch), np.sin(heading) * np.cos(pitch), np.sin(pitch)], 1
        )
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
    faces = _outward(rest, _grid_faces(count, around, False, True))
    return Shape(rest, faces, np.zeros(len(faces), int), at)


# Jointed bodies


@dataclass(frozen=True)
class Bone:
    """From `head` to `tail` [3], as thick as `radii` there; hangs on bone number `parent` (-1: none). It turns about
    its head by `angles` of seconds, a rotation vector [3]."""

    parent: int
    head: tuple[float, float, float]
    tail: tuple[float, float, float]
    radii: tuple[float, float]
    angles: Callable[[float], np.ndarray]


def chain(rng: np.random.Generator, links: int, length: float, thick: float) -> Shape:
    """Stiff capsules, end to end, that hang from the origin and swing: three materials in turn."""
    bones = [
        Bone(n - 1, (0, 0, -n * length), (0, 0, -(n + 0.86) * length), (thick, 0.8 * thick),
             wobble(rng, [0.35, 0.35, 0.6], 1.8, 0.8))
        for n in range(links)
    ]  # fmt: skip
    pieces = [_capsule(bone) for bone in bones]
    sizes = [len(vertices) for vertices, _ in pieces]
    first = np.cumsum([0, *sizes[:-1]])
    rest = np.concatenate([vertices for vertices, _ in pieces])
    faces = np.concatenate([faces + start for (_, faces), start in zip(pieces, first, strict=True)])
    owner = np.repeat(np.arange(links, dtype=np.int32), sizes)[:, None]
    part = np.repeat(np.arange(links) % 3, [len(faces) for _, faces in pieces])
    return Shape(rest, faces, part, _skinned(rest, bones, owner, np.ones_like(owner, float)))


CREATURES = ("quadruped", "spider", "star")


def creature(rng: np.random.Generator, kind: str, size: float, pace: float = 1.5) -> Shape:
    """A soft body over moving bones, about `size` long: a quadruped that walks `pace` strides a second towards +x, a
    spider, or a star whose arms wave.

    Raises:
        ValueError: for another kind.
    """
    if kind not in CREATURES:
        raise ValueError(f"no creature {kind!r}: choose from {', '.join(CREATURES)}")
    bones = {"quadruped": _quadruped, "spider": _spider, "star": _star}[kind](rng, pace)
    bones = [
        replace(
            bone,
            head=tuple(size * np.array(bone.head)),
            tail=tuple(size * np.array(bone.tail)),
            radii=(size * bone.radii[0], size * bone.radii[1]),
        )
        for bone in bones
    ]
    rest, faces = _flesh(bones, 0.025 * size)
    distance = np.stack([_outside(rest, bone) for bone in bones], axis=1)
    closest = np.argsort(distance, axis=1)[:, :3]
    near = np.take_along_axis(distance, closest, 1)
    share = np.exp(-(near - near[:, :1]) / (0.03 * size))
    at = _skinned(rest, bones, closest.astype(np.int32), share / share.sum(1, keepdims=True))
    part = (closest[faces, 0].max(1) > 1).astype(int)  # trunk, limbs
    return Shape(rest, faces, part, at)


def _quadruped(rng: np.random.Generator, pace: float) -> list[Bone]:
    legs, neck, tail = rng.uniform(0.28, 0.42), rng.uniform(0.2, 0.4), rng.uniform(0.2, 0.45)
    fat = rng.uniform(0.09, 0.15)
    first = rng.uniform(0, 2 * np.pi)

    def swing(phase: float, size: float, middle: float = 0.0) -> Callable[[float], np.ndarray]:
        return lambda seconds: np.array(
            [0, middle + size * np.sin(2 * np.pi * pace * seconds + first + phase), 0]
        )

    bones = [
        Bone(-1, (-0.28, 0, 0), (0.02, 0, 0.02), (fat, 0.9 * fat), wobble(rng, [0.05, 0.05, 0.15])),
        Bone(0, (0.02, 0, 0.02), (0.28, 0, 0.0), (0.9 * fat, fat), wobble(rng, [0.08, 0.1, 0.25])),
        Bone(1, (0.3, 0, 0.05), (0.3 + 0.6 * neck, 0, 0.05 + 0.8 * neck), (0.075, 0.055),
             wobble(rng, [0.1, 0.35, 0.45], 1.8)),
        Bone(2, (0.3 + 0.6 * neck, 0, 0.07 + 0.8 * neck), (0.5 + 0.6 * neck, 0, 0.8 * neck), (0.085, 0.045),
             wobble(rng, [0.3, 0.35, 0.4], 1.5)),
        Bone(0, (-0.3, 0, 0.05), (-0.3 - 0.5 * tail, 0, 0.15), (0.04, 0.032),
             wobble(rng, [0, 0.4, 0.7], 1.2, 0.5)),
        Bone(4, (-0.3 - 0.5 * tail, 0, 0.15), (-0.3 - tail, 0, 0.2), (0.032, 0.02),
             wobble(rng, [0, 0.4, 0.8], 1.2, 0.5)),
    ]  # fmt: skip
    for x, trunk in ((-0.25, 0), (0.25, 1)):
        for side in (-1, 1):
            phase = (0.0 if (x > 0) == (side > 0) else np.pi) + rng.uniform(-0.4, 0.4)
            y = side * 0.75 * fat
            bones.append(Bone(trunk, (x, y, -0.02), (x, y, -0.55 * legs), (0.07, 0.045), swing(phase, 0.5)))
            bones.append(
                Bone(len(bones) - 1, (x, y, -0.55 * legs), (x + 0.02, y, -legs - 0.06), (0.043, 0.036),
                     swing(phase + 1.4, 0.45, 0.35))
            )  # fmt: skip
    return bones


def _spider(rng: np.random.Generator, pace: float) -> list[Bone]:
    bones = [
        Bone(-1, (-0.18, 0, 0.03), (0.0, 0, 0), (0.15, 0.09), wobble(rng, [0.1, 0.1, 0.1])),
        Bone(0, (0.05, 0, 0), (0.16, 0, 0), (0.085, 0.065), wobble(rng, [0.1, 0.15, 0.2])),
    ]
    for n in range(3):
        for side in (-1, 1):
            turn = side * np.radians(50 + 40 * n)
            out = np.array([np.cos(turn), np.sin(turn), 0.0])
            knee, foot = 0.05 * out + 0.26 * out + [0, 0, 0.16], 0.05 * out + 0.46 * out + [0, 0, -0.2]
            phase = np.pi * (n % 2 == (side > 0)) + rng.uniform(-0.3, 0.3)

            def step(seconds: float, phase: float = phase, out: np.ndarray = out) -> np.ndarray:
                angle = 2 * np.pi * pace * seconds + phase
                return 0.45 * np.sin(angle) * np.array([0, 0, 1]) + 0.3 * np.maximum(
                    np.cos(angle), 0
                ) * np.array([out[1], -out[0], 0])

            start = tuple(0.07 * out)
            bones.append(Bone(0, start, tuple(knee), (0.04, 0.034), step))
            bones.append(
                Bone(len(bones) - 1, tuple(knee), tuple(foot), (0.034, 0.022), wobble(rng, [0.2, 0.2, 0.1]))
            )
    return bones


def _star(rng: np.random.Generator, pace: float) -> list[Bone]:
    arms = int(rng.integers(4, 7))
    bones = [Bone(-1, (0, 0, -0.03), (0, 0, 0.03), (0.13, 0.13), wobble(rng, [0.1, 0.1, 0.1]))]
    for n in range(arms):
        turn = 2 * np.pi * (n + rng.uniform(-0.15, 0.15)) / arms
        out = np.array([np.cos(turn), np.sin(turn), 0])
        parent, reach = 0, 0.07
        for thick in (0.085, 0.065, 0.045):
            start, end = tuple(reach * out), tuple((reach + 0.15) * out)
            bones.append(
                Bone(parent, start, end, (thick, 0.8 * thick),
                     wobble(rng, [0.45, 0.45, 0.3], 2.2 / pace, 0.9 / pace))
            )  # fmt: skip
            parent, reach = len(bones) - 1, reach + 0.15
    return bones


def _outside(places: np.ndarray, bone: Bone) -> np.ndarray:
    """[V] distance from a bone's capsule, negative inside."""
    head, along = np.array(bone.head), np.subtract(bone.tail, bone.head)
    share = np.clip((places - head) @ along / (along @ along), 0, 1)
    thick = bone.radii[0] * (1 - share) + bone.radii[1] * share
    return np.linalg.norm(places - head - share[..., None] * along, axis=-1) - thick


def _flesh(bones: list[Bone], blend: float) -> tuple[np.ndarray, np.ndarray]:
    """Vertices and faces of the capsules of all bones, melted together over `blend` meters."""
    ends = np.array([end for bone in bones for end in (bone.head, bone.tail)])
    margin = max(max(bone.radii) for bone in bones) + 2 * blend
    low, high = ends.min(0) - margin, ends.max(0) + margin
    step = float((high - low).max() / 84)
    axes = [np.arange(a, b + step, step) for a, b in zip(low, high, strict=True)]
    places = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1)
    field = sum(np.exp(-np.clip(_outside(places, bone) / blend, -50, 50)) for bone in bones)
    vertices, faces, *_ = skimage.measure.marching_cubes(-np.log(field), 0.0, spacing=(step,) * 3)
    vertices = vertices.astype(np.float64) + low
    return vertices, _outward(vertices, faces)


def _skinned(rest: np.ndarray, bones: list[Bone], index: np.ndarray, share: np.ndarray) -> Deformation:
    """Linear blend skinning of `rest` by bones `index` [V, K] with weights `share` [V, K]."""

    def at(seconds: float) -> np.ndarray:
        transforms = np.empty((len(bones), 3, 4))
        for n, bone in enumerate(bones):
            before = np.eye(3, 4) if bone.parent < 0 else transforms[bone.parent]
            turn = before[:, :3] @ Rotation.from_rotvec(bone.angles(seconds)).as_matrix()
            head = before[:, :3] @ bone.head + before[:, 3]
            transforms[n, :, :3], transforms[n, :, 3] = turn, head - turn @ bone.head
        out = np.empty_like(rest)
        raster.skin(rest, index, share, transforms, out)
        return out

    return at


# Paths


def floating(rng: np.random.Generator, center: Numbers, reach: Numbers, spin: float,
             drift: Numbers = (0, 0, 0)) -> Path:  # fmt: skip
    """Wanders within `reach` of a center that drifts (meters a second, there at 1 s), and turns, `spin` radians a
    second."""
    place, turn = wobble(rng, reach, 3.0, 1.0), wobble(rng, [0.5, 0.5, 0.5], 3.0, 1.0)
    axis, start = _direction(rng), Rotation.random(random_state=rng)

    def at(seconds: float) -> tuple[np.ndarray, np.ndarray]:
        rotation = Rotation.from_rotvec(turn(seconds)) * Rotation.from_rotvec(spin * seconds * axis) * start
        return rotation.as_matrix(), center + place(seconds) + np.multiply(drift, seconds - 1)

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
        place = plane.apply([radius * np.cos(angle), radius * np.sin(angle), 0.0])
        return (Rotation.from_rotvec(spin * seconds * axis) * first).as_matrix(), center + place

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
        place = np.asarray(start, float) + [*way, float(rise(seconds)[0])]
        return Rotation.from_rotvec([0, 0, angle]).as_matrix(), place

    return at


# Meshes


def _circle(count: int) -> np.ndarray:
    return 2 * np.pi * np.arange(count) / count


def _direction(rng: np.random.Generator) -> np.ndarray:
    vector = rng.normal(size=3)
    return vector / np.linalg.norm(vector)


def _grid_faces(rows: int, columns: int, ring_rows: bool = False, ring_columns: bool = False) -> np.ndarray:
    """Two triangles for each square of a grid of vertices, row by row; a ring closes on itself."""
    last = rows - (not ring_rows), columns - (not ring_columns)
    i, j = (index.ravel() for index in np.indices(last))
    below, right = (i + 1) % rows, (j + 1) % columns
    a, b, c, d = (row * columns + column for row, column in ((i, j), (below, j), (below, right), (i, right)))
    return np.concatenate([np.stack([a, b, c], axis=1), np.stack([a, c, d], axis=1)])


def _outward(vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """The faces of a closed mesh, turned so that they look outwards."""
    a, b, c = np.moveaxis(vertices[faces], 1, 0)
    inside_out = np.einsum("fx,fx->", a, np.cross(b, c)) < 0
    return np.ascontiguousarray(faces[:, ::-1] if inside_out else faces, np.int32)


def _sphere(divisions: int) -> tuple[np.ndarray, np.ndarray]:
    """Unit vectors and faces: an icosahedron, each of whose triangles is cut in four so many times."""
    g = (1 + np.sqrt(5)) / 2
    vertices = [np.roll([0, a, b], n) for n in range(3) for a in (-1, 1) for b in (-g, g)]
    places = np.array(vertices)
    distance = np.linalg.norm(places[:, None] - places, axis=-1)
    near = np.abs(distance - 2) < 1e-6
    faces: np.ndarray = np.array(
        [(i, j, k) for i in range(12) for j in range(i) for k in range(j) if near[i, j] and near[j, k]
         and near[i, k]]
    )  # fmt: skip
    for _ in range(divisions):
        edges = np.sort(faces[:, [[0, 1], [1, 2], [2, 0]]].reshape(-1, 2), axis=1)
        pairs, number = np.unique(edges, axis=0, return_inverse=True)
        middle = number.reshape(-1, 3) + len(places)
        places = np.concatenate([places, places[pairs].mean(1)])
        a, b, c = faces.T
        ab, bc, ca = middle.T
        faces = np.concatenate(
            [np.stack(corners, axis=1) for corners in ((a, ab, ca), (ab, b, bc), (ca, bc, c), (ab, bc, ca))]
        )
    places /= np.linalg.norm(places, axis=1, keepdims=True)
    normals = np.cross(places[faces[:, 1]] - places[faces[:, 0]], places[faces[:, 2]] - places[faces[:, 0]])
    flip = (normals * places[faces[:, 0]]).sum(1) < 0
    faces[flip] = faces[flip][:, ::-1]
    return places, faces.astype(np.int32)


def _capsule(bone: Bone) -> tuple[np.ndarray, np.ndarray]:
    """Vertices and faces of a bone's capsule along -z."""
    directions, faces = _sphere(3)
    lower = directions[:, 2:] < 0
    thick = np.where(lower, bone.radii[1], bone.radii[0])
    return np.where(lower, bone.tail, bone.head) + directions * thick, faces
