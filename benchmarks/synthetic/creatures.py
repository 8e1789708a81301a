"""Jointed shapes for rendered clips: a mesh over bones that turn, by linear blend skinning.

Lengths are meters, times seconds, angles radians.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import skimage.measure
from scipy.spatial.transform import Rotation

from benchmarks.synthetic import raster
from benchmarks.synthetic.meshes import outward, sphere
from benchmarks.synthetic.paths import wobble
from benchmarks.synthetic.shapes import Deformation, Shape


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
    fraction = np.exp(-(near - near[:, :1]) / (0.03 * size))
    at = _skinned(rest, bones, closest.astype(np.int32), fraction / fraction.sum(1, keepdims=True))
    part = (closest[faces, 0].max(1) > 1).astype(int)  # trunk, limbs
    return Shape(rest, faces, part, at)


def _quadruped(rng: np.random.Generator, pace: float) -> list[Bone]:
    legs, neck, tail = rng.uniform(0.28, 0.42), rng.uniform(0.2, 0.4), rng.uniform(0.2, 0.45)
    fat = rng.uniform(0.09, 0.15)
    first = rng.uniform(0, 2 * np.pi)

    def swing(phase: float, size: float, middle: float = 0.0) -> Callable[[float], np.ndarray]:
        return lambda seconds: np.array([0, middle + size * np.sin(2 * np.pi * pace * seconds + first + phase), 0])

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
                return 0.45 * np.sin(angle) * np.array([0, 0, 1]) + 0.3 * np.maximum(np.cos(angle), 0) * np.array(
                    [out[1], -out[0], 0]
                )

            start = tuple(0.07 * out)
            bones.append(Bone(0, start, tuple(knee), (0.04, 0.034), step))
            bones.append(Bone(len(bones) - 1, tuple(knee), tuple(foot), (0.034, 0.022), wobble(rng, [0.2, 0.2, 0.1])))
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


def _outside(positions: np.ndarray, bone: Bone) -> np.ndarray:
    """[V] distance from a bone's capsule, negative inside."""
    head, along = np.array(bone.head), np.subtract(bone.tail, bone.head)
    fraction = np.clip((positions - head) @ along / (along @ along), 0, 1)
    thick = bone.radii[0] * (1 - fraction) + bone.radii[1] * fraction
    return np.linalg.norm(positions - head - fraction[..., None] * along, axis=-1) - thick


def _flesh(bones: list[Bone], blend: float) -> tuple[np.ndarray, np.ndarray]:
    """Vertices and faces of the capsules of all bones, melted together over `blend` meters."""
    ends = np.array([end for bone in bones for end in (bone.head, bone.tail)])
    margin = max(max(bone.radii) for bone in bones) + 2 * blend
    low, high = ends.min(0) - margin, ends.max(0) + margin
    step = float((high - low).max() / 84)
    axes = [np.arange(a, b + step, step) for a, b in zip(low, high, strict=True)]
    positions = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1)
    field = sum(np.exp(-np.clip(_outside(positions, bone) / blend, -50, 50)) for bone in bones)
    vertices, faces, *_ = skimage.measure.marching_cubes(-np.log(field), 0.0, spacing=(step,) * 3)
    vertices = vertices.astype(np.float64) + low
    return vertices, outward(vertices, faces)


def _skinned(rest: np.ndarray, bones: list[Bone], index: np.ndarray, fraction: np.ndarray) -> Deformation:
    """Linear blend skinning of `rest` by bones `index` [V, K] with weights `fraction` [V, K]."""

    def at(seconds: float) -> np.ndarray:
        transforms = np.empty((len(bones), 3, 4))
        for n, bone in enumerate(bones):
            before = np.eye(3, 4) if bone.parent < 0 else transforms[bone.parent]
            turn = before[:, :3] @ Rotation.from_rotvec(bone.angles(seconds)).as_matrix()
            head = before[:, :3] @ bone.head + before[:, 3]
            transforms[n, :, :3], transforms[n, :, 3] = turn, head - turn @ bone.head
        out = np.empty_like(rest)
        raster.skin(rest, index, fraction, transforms, out)
        return out

    return at


def _capsule(bone: Bone) -> tuple[np.ndarray, np.ndarray]:
    """Vertices and faces of a bone's capsule along -z."""
    directions, faces = sphere(3)
    lower = directions[:, 2:] < 0
    thick = np.where(lower, bone.radii[1], bone.radii[0])
    return np.where(lower, bone.tail, bone.head) + directions * thick, faces
