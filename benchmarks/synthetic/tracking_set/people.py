"""Themes of the tracking set with people. Each makes a scene of a random generator and camera settings."""

from __future__ import annotations

import numpy as np

from benchmarks.synthetic import motion
from benchmarks.synthetic.clothing import Clothing
from benchmarks.synthetic.motion import Motion
from benchmarks.synthetic.renderer import Actor, CameraPath, Scene
from benchmarks.synthetic.room import STYLES, Furniture, build_room, crates, pillar, table
from benchmarks.synthetic.tracking_set.camera import SIDE, CameraMotion, CameraSettings

# Samples a second.
MOTION_RATE = 192.0


def _person(rng: np.random.Generator, controls: np.ndarray, start: tuple[float, float] = (0.0, 0.0),
            stay: float | None = 0.9, **clothing: object) -> Actor:  # fmt: skip
    shape = np.clip(rng.normal(size=10), -1.5, 1.5) * [0.35, *[0.9] * 9]
    return Actor(
        Motion(controls, MOTION_RATE, start, stay),
        shape,
        Clothing.random(rng, **clothing),
        int(rng.integers(1 << 30)),
    )


def _scene(rng: np.random.Generator, settings: CameraSettings, actors: list[Actor], camera: CameraPath,
            furniture: list[Furniture] | None = None) -> Scene:  # fmt: skip
    seed = int(rng.integers(1 << 30))
    room = build_room(str(rng.choice(STYLES)), seed)
    return Scene(
        actors,
        room,
        camera,
        furniture or [],
        settings.fps,
        settings.shutter,
        settings.noise,
        seed,
        SIDE,
        SIDE,
    )


def walk_by(rng: np.random.Generator, settings: CameraSettings) -> Scene:
    heading = 1.2 * rng.choice([-1, 1])
    controls = motion.walk(settings.seconds, MOTION_RATE, rng, heading, 1.0)
    camera = CameraMotion(pan=0.3 * np.sign(heading), shake=1.0, move=(0.2, 0.3, 0)).path(rng, settings)
    return _scene(rng, settings, [_person(rng, controls, (0.0, 0.2), None)], camera)


def walk_round(rng: np.random.Generator, settings: CameraSettings) -> Scene:
    controls = motion.walk(settings.seconds, MOTION_RATE, rng, rng.uniform(-1, 1), 1.0, turn=1.3)
    return _scene(
        rng,
        settings,
        [_person(rng, controls)],
        CameraMotion(move=(1.2, 0.4, 0.2), shake=0.8).path(rng, settings),
    )


def dance(rng: np.random.Generator, settings: CameraSettings) -> Scene:
    controls = motion.dance(settings.seconds, MOTION_RATE, rng, tempo=2.1, turning=0.7)
    person = _person(rng, controls, looseness=0.02)
    return _scene(rng, settings, [person], CameraMotion(focal=580.0, shake=0.4).path(rng, settings))


def dance_pair(rng: np.random.Generator, settings: CameraSettings) -> Scene:
    people = [
        _person(rng, motion.dance(settings.seconds, MOTION_RATE, rng, tempo=2.0), (x, y))
        for x, y in ((-0.35, 0.35), (0.35, -0.25))
    ]
    return _scene(rng, settings, people, CameraMotion(move=(0.9, 0, 0), focal=500.0).path(rng, settings))


def crossing(rng: np.random.Generator, settings: CameraSettings) -> Scene:
    people = [
        _person(rng, motion.walk(settings.seconds, MOTION_RATE, rng, heading, pace), position, None)
        for heading, pace, position in ((1.45, 1.0, (0.0, -0.4)), (-1.45, 0.9, (0.1, 0.5)))
    ]
    return _scene(rng, settings, people, CameraMotion(shake=0.5).path(rng, settings))


def three(rng: np.random.Generator, settings: CameraSettings) -> Scene:
    people = [
        _person(rng, motion.walk(settings.seconds, MOTION_RATE, rng, -1.5, 1.0), (0.1, -0.6), None),
        _person(rng, motion.dance(settings.seconds, MOTION_RATE, rng, tempo=1.8), (-0.45, 0.3)),
        _person(rng, motion.turn_around(settings.seconds, MOTION_RATE, rng, 2.0), (0.55, 0.6)),
    ]
    return _scene(rng, settings, people, CameraMotion(position=(0, -5.2, 1.3), move=(0.6, 0, 0.2)).path(rng, settings))


def crouch(rng: np.random.Generator, settings: CameraSettings) -> Scene:
    controls = motion.crouch(settings.seconds, MOTION_RATE, rng, rng.uniform(-0.9, 0.9))
    return _scene(rng, settings, [_person(rng, controls)], CameraMotion(zoom=1.25).path(rng, settings))


def lunge(rng: np.random.Generator, settings: CameraSettings) -> Scene:
    controls = motion.lunge(settings.seconds, MOTION_RATE, rng, rng.choice([-1, 1]) * 0.8)
    return _scene(rng, settings, [_person(rng, controls)], CameraMotion(focal=470.0, shake=1.5).path(rng, settings))


def spin(rng: np.random.Generator, settings: CameraSettings) -> Scene:
    person = _person(rng, motion.turn_around(settings.seconds, MOTION_RATE, rng, 2.6), long_hair=True)
    return _scene(rng, settings, [person], CameraMotion(zoom=1.2).path(rng, settings))


def behind_table(rng: np.random.Generator, settings: CameraSettings) -> Scene:
    person = _person(rng, motion.dance(settings.seconds, MOTION_RATE, rng, tempo=1.9, turning=0.8))
    front = [table((-0.2, -1.0), (1.4, 0.6, 0.8), 4), crates((0.45, -1.1), 0.45, 3, int(rng.integers(1000)))]
    return _scene(rng, settings, [person], CameraMotion(move=(0.9, 0, 0.2)).path(rng, settings), front)


def behind_pillars(rng: np.random.Generator, settings: CameraSettings) -> Scene:
    side = float(rng.choice([-1, 1]))
    walker = _person(rng, motion.walk(settings.seconds, MOTION_RATE, rng, 1.35 * side, 1.0), (0.0, 0.2), None)
    front = [pillar((x, -0.75), width, 2.6, int(rng.integers(1000))) for x, width in
             ((-0.75, 0.2), (-0.05, 0.26), (0.7, 0.18))]  # fmt: skip
    return _scene(rng, settings, [walker], CameraMotion(move=(0.3, 0, 0), shake=0.6).path(rng, settings), front)


def boxing(rng: np.random.Generator, settings: CameraSettings) -> Scene:
    person = _person(rng, motion.box(settings.seconds, MOTION_RATE, rng, rng.uniform(-0.9, 0.9)))
    return _scene(rng, settings, [person], CameraMotion(focal=600.0, shake=1.0).path(rng, settings))


def fast_arms(rng: np.random.Generator, settings: CameraSettings) -> Scene:
    person = _person(rng, motion.wave_arms(settings.seconds, MOTION_RATE, rng, 1.9))
    return _scene(rng, settings, [person], CameraMotion().path(rng, settings))


def jumping(rng: np.random.Generator, settings: CameraSettings) -> Scene:
    person = _person(rng, motion.jumping_jacks(settings.seconds, MOTION_RATE, rng), looseness=0.03, slip=0.03)
    return _scene(rng, settings, [person], CameraMotion(zoom=0.8, focal=480.0).path(rng, settings))


def close_up(rng: np.random.Generator, settings: CameraSettings) -> Scene:
    person = _person(rng, motion.hands_on_body(settings.seconds, MOTION_RATE, rng), sleeves="long")
    camera = CameraMotion((0.1, -3.0, 1.3), -0.02, shake=2.0, move=(0.3, 0.4, 0)).path(rng, settings)
    return _scene(rng, settings, [person], camera)
