"""Themes of the tracking set with objects. Each makes a scene of a random generator and camera settings."""

from __future__ import annotations

import numpy as np

from benchmarks.synthetic import creatures, paths, shapes
from benchmarks.synthetic.objects import ObjectScene, SceneObject, photo_room, random_material
from benchmarks.synthetic.renderer import CameraPath, Scene
from benchmarks.synthetic.room import STYLES, Furniture, build_room, crates, pillar
from benchmarks.synthetic.tracking_set.camera import SIDE, CameraMotion, CameraSettings


def _scene(rng: np.random.Generator, settings: CameraSettings, objects: list[SceneObject], camera: CameraPath,
            furniture: list[Furniture] | None = None, photo: bool = False) -> ObjectScene:  # fmt: skip
    seed = int(rng.integers(1 << 30))
    room = photo_room(rng) if photo else build_room(str(rng.choice(STYLES)), seed)
    return ObjectScene(
        [], room, camera, furniture or [], settings.fps, settings.shutter, settings.noise, seed, SIDE, SIDE, objects
    )  # fmt: skip


def _object(rng: np.random.Generator, shape: shapes.Shape, path: paths.Path, picture: float = 0.35) -> SceneObject:
    return SceneObject(shape, path, [random_material(rng, shape, picture) for _ in range(shape.part.max() + 1)])


def _solid(rng: np.random.Generator, size: float) -> shapes.Shape:
    """Something stiff, about `size` across."""
    kind = int(rng.integers(6))
    if kind == 0:
        return shapes.blob(rng, 0.42 * size, 0.3)
    if kind == 1:
        return shapes.blob(rng, 0.42 * size, 0.22, 12)
    if kind == 2:
        return shapes.superellipsoid(size / 2 * rng.uniform(0.55, 1, 3), float(rng.choice([1.2, 3.0, 6.0])))
    if kind == 3:
        return shapes.box(rng, size * rng.uniform(0.45, 0.95, 3))
    if kind == 4:
        return shapes.torus(0.36 * size, 0.13 * size, rng.uniform(0.7, 1))
    return shapes.knot(0.33 * size, 0.1 * size, *((2, 3), (3, 2), (2, 5))[rng.integers(3)])


# Position of the camera for objects smaller than people.
NEAR_POSITION = (0.0, -3.4, 1.1)


def tumbling(rng: np.random.Generator, settings: CameraSettings) -> Scene:
    objects = [
        _object(rng, _solid(rng, rng.uniform(0.5, 0.8)),
               paths.floating(rng, (x, y, z), (0.35, 0.3, 0.25), rng.uniform(1, 2.5) * rng.choice([-1, 1])))
        for x, y, z in ((-0.4, 0.3, 1.25), (0.4, 0.0, 1.0), (0.0, -0.5, 0.75))
    ]  # fmt: skip
    return _scene(rng, settings, objects, CameraMotion(NEAR_POSITION, shake=0.5).path(rng, settings))


def rolling(rng: np.random.Generator, settings: CameraSettings) -> Scene:
    speed = 1.5 / settings.seconds * 1.3
    ball = shapes.blob(rng, 0.3, 0.03)
    rings = [shapes.torus(0.3, 0.1), shapes.superellipsoid((0.26, 0.26, 0.2), 5.0)]
    objects = [
        _object(rng, ball, paths.rolling(rng, (0.0, -0.3), (speed, 0.1), 0.3)),
        _object(rng, rings[0], paths.rolling(rng, (0.1, 0.3), (-speed, -0.25), 0.4)),
        _object(rng, rings[1], paths.rolling(rng, (-0.2, -0.9), (-0.7 * speed, 0.2), 0.26)),
    ]
    camera = CameraMotion((0.0, -3.8, 1.3), -0.24, 480.0, move=(0.4, 0.2, 0)).path(rng, settings)
    return _scene(rng, settings, objects, camera, [crates((0.75, 0.9), 0.5, 2, int(rng.integers(1000)))])


def bouncing(rng: np.random.Generator, settings: CameraSettings) -> Scene:
    objects = [
        _object(rng, shapes.box(rng, (0.5, 0.4, 0.45)) if n == 0 else _solid(rng, 0.5),
               paths.bouncing(rng, (x, y), (v / settings.seconds, 0.1), rng.uniform(0.5, 1.0), 0.3, rng.uniform(2, 5)))
        for n, (x, y, v) in enumerate(((-0.3, 0.2, 1.1), (0.3, -0.4, -1.0), (0.0, 0.8, 1.4)))
    ]  # fmt: skip
    return _scene(rng, settings, objects, CameraMotion((0, -3.8, 1.2), -0.13, 480.0).path(rng, settings))


def orbit(rng: np.random.Generator, settings: CameraSettings) -> Scene:
    middle = (0.0, 0.0, 1.05)
    objects = [_object(rng, _solid(rng, 0.6), paths.floating(rng, middle, (0.1, 0.1, 0.1), 1.0))]
    for n in range(3):
        path = paths.orbiting(rng, middle, 0.8, 2.4, 2 * np.pi * n / 3, rng.uniform(0.5, 2.5), rng.uniform(0.1, 0.5))
        objects.append(_object(rng, _solid(rng, rng.uniform(0.4, 0.55)), path))
    return _scene(
        rng,
        settings,
        objects,
        CameraMotion(NEAR_POSITION, focal=470.0, move=(0.5, 0, 0.2)).path(rng, settings),
    )


def flag(rng: np.random.Generator, settings: CameraSettings) -> Scene:
    sheet = shapes.cloth(rng, 1.3, 1.2, 0.14)
    way = rng.choice([-1, 1]) * 1.7 / settings.seconds
    objects = [
        _object(rng, sheet, paths.hanging(rng, (0.0, 0.2, 1.75), 0.12), 0.6),
        _object(rng, _solid(rng, 0.4), paths.floating(rng, (0, -0.75, 1.05), (0.2, 0.1, 0.3), 2.0, (way, 0, 0))),
    ]
    return _scene(rng, settings, objects, CameraMotion(NEAR_POSITION, shake=0.6).path(rng, settings))


def curtains(rng: np.random.Generator, settings: CameraSettings) -> Scene:
    way = 1.0 / settings.seconds
    behind = creatures.creature(rng, "star", 1.2)
    objects = [
        _object(rng, shapes.cloth(rng, 0.45, 1.3, 0.16), paths.hanging(rng, (x, -0.4, 1.75), 0.2), 0.5)
        for x in (-0.5, 0.4)
    ]
    objects.append(_object(rng, behind, paths.floating(rng, (0, 0.5, 1.1), (0.2, 0.1, 0.15), 1.4, (way, 0, 0))))
    return _scene(rng, settings, objects, CameraMotion(NEAR_POSITION, move=(0.6, 0, 0)).path(rng, settings), photo=True)


def snakes(rng: np.random.Generator, settings: CameraSettings) -> Scene:
    objects = [
        _object(rng, shapes.snake(rng, 1.5, 0.095), paths.walking(rng, (-0.1, -0.4, 0.3), 0.2, 0.45), 0.0),
        _object(rng, shapes.snake(rng, 1.3, 0.08), paths.walking(rng, (0.1, 0.4, 0.3), 2.8, 0.4), 0.0),
    ]
    front = [
        crates((-0.5, -0.95), 0.3, 1, int(rng.integers(1000))),
        pillar((0.4, 0.0), 0.14, 1.6, int(rng.integers(99))),
    ]
    camera = CameraMotion((0.0, -3.2, 1.35), -0.3, 520.0, move=(0.4, 0, 0.1)).path(rng, settings)
    return _scene(rng, settings, objects, camera, front)


def beast(rng: np.random.Generator, settings: CameraSettings) -> Scene:
    side = float(rng.choice([-1, 1]))
    way = 1.1 / settings.seconds
    body = creatures.creature(rng, "quadruped", 1.1, rng.uniform(1.1, 1.6))
    floor = -float(body.rest[:, 2].min())
    heading = 0.25 if side > 0 else np.pi - 0.25
    objects = [_object(rng, body, paths.walking(rng, (0, 0, floor), heading, way, rng.uniform(-0.3, 0.3)), 0.15)]
    front = [pillar((-0.35 * side, -0.9), 0.16, 2.2, int(rng.integers(1000))),
             crates((0.6 * side, -0.75), 0.4, 1, int(rng.integers(1000)))]  # fmt: skip
    camera = CameraMotion((0, -3.6, 0.9), -0.1, 520.0, pan=0.12 * side, shake=0.8).path(rng, settings)
    return _scene(rng, settings, objects, camera, front)


def crawlers(rng: np.random.Generator, settings: CameraSettings) -> Scene:
    bodies = [
        creatures.creature(rng, kind, size, 1.4) for kind, size in (("spider", 1.1), ("spider", 0.8), ("star", 0.9))
    ]
    objects = [
        _object(rng, bodies[0], paths.walking(rng, (-0.2, 0.1, 0.24), rng.uniform(-1, 1), 0.5, 0.5), 0.0),
        _object(rng, bodies[1], paths.walking(rng, (0.4, -0.6, 0.18), 2.5, 0.5, -0.4), 0.0),
        _object(rng, bodies[2], paths.floating(rng, (0.1, -0.2, 1.0), (0.3, 0.2, 0.1), 1.5), 0.0),
    ]
    camera = CameraMotion((0.0, -3.2, 1.5), -0.32, 500.0, zoom=1.15).path(rng, settings)
    return _scene(rng, settings, objects, camera)


def chains(rng: np.random.Generator, settings: CameraSettings) -> Scene:
    objects = [
        _object(rng, creatures.chain(rng, links, 0.26, 0.085), paths.hanging(rng, (x, y, 1.9), 0.4, 1.0), 0.0)
        for links, x, y in ((6, -0.35, 0.2), (5, 0.1, -0.3), (6, 0.45, 0.1))
    ]
    return _scene(rng, settings, objects, CameraMotion(NEAR_POSITION, shake=0.5).path(rng, settings), photo=True)


def jelly(rng: np.random.Generator, settings: CameraSettings) -> Scene:
    objects = [
        _object(rng, shapes.blob(rng, radius, 0.22, 4, jelly),
               paths.floating(rng, position, (0.25, 0.2, 0.2), rng.uniform(0.3, 1.2)))
        for radius, jelly, position in ((0.42, 0.8, (-0.3, 0.2, 1.2)), (0.34, 1.0, (0.4, -0.3, 0.85)))
    ]  # fmt: skip
    return _scene(
        rng, settings, objects, CameraMotion(NEAR_POSITION, move=(0.3, 0.3, 0), shake=0.7).path(rng, settings)
    )


def twisting(rng: np.random.Generator, settings: CameraSettings) -> Scene:
    objects = [
        _object(
            rng,
            shapes.box(rng, size, 1.1),
            paths.floating(rng, position, (0.2, 0.2, 0.15), rng.uniform(0.6, 1.6)),
            0.5,
        )
        for size, position in (((0.4, 0.35, 1.1), (-0.3, 0.2, 1.1)), ((0.5, 0.12, 0.9), (0.4, -0.4, 1.0)))
    ]
    return _scene(rng, settings, objects, CameraMotion(NEAR_POSITION, pan=0.15).path(rng, settings), photo=True)


def swarm(rng: np.random.Generator, settings: CameraSettings) -> Scene:
    objects = []
    for _ in range(9):
        center = rng.uniform([-0.8, -0.7, 0.5], [0.8, 0.9, 1.7])
        drift = rng.normal(0, 0.35, 3) * [1, 0.5, 0.6]
        path = paths.floating(rng, center, (0.2, 0.2, 0.2), rng.normal(0, 2), drift)
        objects.append(_object(rng, _solid(rng, rng.uniform(0.28, 0.5)), path))
    return _scene(
        rng,
        settings,
        objects,
        CameraMotion(NEAR_POSITION, focal=440.0, move=(0.8, 0.2, 0.3)).path(rng, settings),
    )


def knots(rng: np.random.Generator, settings: CameraSettings) -> Scene:
    objects = [
        _object(rng, shapes.knot(size, 0.3 * size, *kind), paths.floating(rng, position, (0.2, 0.2, 0.15), spin))
        for size, kind, position, spin in (
            (0.33, (2, 3), (-0.35, 0.1, 1.15), 2.0),
            (0.28, (3, 2), (0.4, -0.3, 0.9), -2.6),
        )
    ]
    return _scene(rng, settings, objects, CameraMotion(NEAR_POSITION, shake=0.4).path(rng, settings), photo=True)
