"""The standard set: one to three people in motions of all kinds, a half for tuning and a half held out."""

from __future__ import annotations

import numpy as np
from scipy.ndimage import gaussian_filter1d

from benchmarks.synthetic import motion
from benchmarks.synthetic.clip_spec import RATE, ClipSpec, random_person
from benchmarks.synthetic.renderer import Actor, CameraPath, Scene
from benchmarks.synthetic.room import Furniture, build_room, crates, pillar, table

FRAMES = 72
FPS = 24.0
SECONDS = FRAMES / FPS


def _camera(
    position: tuple[float, float, float] = (0.0, -4.8, 1.2),
    tilt: float = -0.055,
    focal: float = 1000.0,
    pan: tuple[float, float] = (0.0, 0.0),
    move: tuple[float, float, float] = (0.0, 0.0, 0.0),
    zoom: float = 1.0,
    shake: float = 0.0,
    seed: int = 0,
) -> CameraPath:
    """Make a camera that pans from one angle to another, moves by `move`, zooms by a factor, shakes (pixels)."""
    t = np.linspace(0, 1, FRAMES)
    eased = t * t * (3 - 2 * t)
    positions = np.array(position) + (eased[:, None] - 0.5) * np.array(move)
    noise = gaussian_filter1d(np.random.default_rng(seed).normal(size=(FRAMES, 3)), 3.0, axis=0, mode="wrap")
    noise *= shake / focal / noise.std()
    angles = np.stack(
        [pan[0] + (pan[1] - pan[0]) * eased + noise[:, 0], tilt + 0.7 * noise[:, 1], 0.5 * noise[:, 2]],
        axis=1,
    )
    return CameraPath(positions, angles, focal * zoom**eased)


def _scene(style: str, seed: int, actors: list[Actor], camera: CameraPath, shutter: float = 0.2,
           noise: float = 1.5, furniture: list[Furniture] | None = None, cup: bool = False) -> Scene:  # fmt: skip
    return Scene(actors, build_room(style, seed, cup), camera, furniture or [], FPS, shutter, noise, seed)


# The themes, in either half.


def _walk_across() -> Scene:
    rng = np.random.default_rng(101)
    walker = random_person(rng, motion.walk(SECONDS, RATE, rng, heading=1.15, pace=0.9), (-0.35, 0.2), None)
    return _scene("gallery", 101, [walker], _camera(pan=(-0.33, 0.27), shake=1.0, seed=1), cup=True)


def _walk_round() -> Scene:
    rng = np.random.default_rng(201)
    walker = random_person(rng, motion.walk(SECONDS, RATE, rng, heading=-0.9, pace=1.05, turn=0.9), (-0.45, 0.3), None)
    return _scene("yard", 201, [walker], _camera(move=(0.8, 0.3, 0.1), shake=1.5, seed=2), noise=2.0)


def _dance_near() -> Scene:
    rng = np.random.default_rng(102)
    dancer = random_person(rng, motion.dance(SECONDS, RATE, rng, tempo=1.9), looseness=0.018)
    return _scene("studio", 102, [dancer], _camera(focal=1150.0), shutter=0.25)


def _dance_two() -> Scene:
    rng = np.random.default_rng(202)
    dancers = [random_person(rng, motion.dance(SECONDS, RATE, rng, tempo=2.2), (x, 0.1)) for x in (-0.8, 0.75)]
    return _scene("loft", 202, dancers, _camera(move=(0.3, 0, 0)), shutter=0.25, cup=True)


def _crouch() -> Scene:
    rng = np.random.default_rng(103)
    return _scene("loft", 103, [random_person(rng, motion.crouch(SECONDS, RATE, rng, heading=0.5))], _camera())


def _lunges() -> Scene:
    rng = np.random.default_rng(203)
    person = random_person(rng, motion.lunge(SECONDS, RATE, rng, heading=-0.75))
    return _scene("studio", 203, [person], _camera(shake=0.7, seed=3))


def _turn() -> Scene:
    rng = np.random.default_rng(104)
    person = random_person(rng, motion.turn_around(SECONDS, RATE, rng, speed=1.7))
    return _scene("studio", 104, [person], _camera(focal=1100.0, shake=2.5, seed=4))


def _turn_fast() -> Scene:
    rng = np.random.default_rng(204)
    person = random_person(rng, motion.turn_around(SECONDS, RATE, rng, speed=2.6), long_hair=True)
    return _scene("gallery", 204, [person], _camera(zoom=1.2))


def _crossing() -> Scene:
    rng = np.random.default_rng(105)
    walkers = [
        random_person(rng, motion.walk(SECONDS, RATE, rng, heading=1.45, pace=0.85), (0.0, -0.35), None),
        random_person(rng, motion.walk(SECONDS, RATE, rng, heading=-1.4, pace=0.8), (0.1, 0.55), None),
    ]
    return _scene("yard", 105, walkers, _camera(position=(0, -5.4, 1.3)))


def _crossing_three() -> Scene:
    rng = np.random.default_rng(205)
    people = [
        random_person(rng, motion.walk(SECONDS, RATE, rng, heading=1.5, pace=0.95), (0.0, -0.5), None),
        random_person(rng, motion.dance(SECONDS, RATE, rng, tempo=1.7, energy=0.8), (-0.55, 0.35)),
        random_person(rng, motion.walk(SECONDS, RATE, rng, heading=-1.6, pace=0.8), (0.3, 1.1), None),
    ]
    return _scene("gallery", 205, people, _camera(position=(0, -5.4, 1.3), pan=(-0.03, 0.03)))


def _behind_table() -> Scene:
    rng = np.random.default_rng(106)
    person = random_person(rng, motion.dance(SECONDS, RATE, rng, tempo=1.7, energy=0.9))
    front = [table((0.1, -0.95), (1.5, 0.6, 0.75), 1), crates((0.75, -1.05), 0.42, 3, 6)]
    return _scene("loft", 106, [person], _camera(move=(0.25, 0, 0)), furniture=front)


def _behind_pillars() -> Scene:
    rng = np.random.default_rng(206)
    walker = random_person(rng, motion.walk(SECONDS, RATE, rng, heading=-1.3, pace=0.75), (0.35, 0.2), None)
    front = [pillar((-0.55, -0.7), 0.24, 2.6, 3), pillar((0.65, -0.6), 0.2, 2.6, 8),
             crates((0.05, -0.8), 0.5, 1, 9)]  # fmt: skip
    return _scene("studio", 206, [walker], _camera(), furniture=front)


def _fast_arms() -> Scene:
    rng = np.random.default_rng(107)
    return _scene("studio", 107, [random_person(rng, motion.wave_arms(SECONDS, RATE, rng))], _camera(), shutter=0.6)


def _boxing() -> Scene:
    rng = np.random.default_rng(207)
    return _scene(
        "gallery", 207, [random_person(rng, motion.box(SECONDS, RATE, rng))], _camera(focal=1150.0), shutter=0.6
    )


def _upper_body() -> Scene:
    rng = np.random.default_rng(108)
    person = random_person(rng, motion.dance(SECONDS, RATE, rng, tempo=1.6, energy=0.8), decal="7", shirt="plain")
    return _scene("studio", 108, [person], _camera((0.1, -3.4, 1.35), tilt=-0.02, zoom=1.25, shake=1.5, seed=5))


def _in_and_out() -> Scene:
    rng = np.random.default_rng(208)
    walker = random_person(rng, motion.walk(SECONDS, RATE, rng, heading=-1.0, pace=0.95), (0.5, -0.5), None)
    return _scene("loft", 208, [walker], _camera((0.3, -4.2, 1.2), pan=(0.06, -0.06)))


def _close_limbs() -> Scene:
    rng = np.random.default_rng(109)
    person = random_person(rng, motion.hands_on_body(SECONDS, RATE, rng), sleeves="long")
    return _scene("gallery", 109, [person], _camera(focal=1150.0))


def _close_limbs_turned() -> Scene:
    rng = np.random.default_rng(209)
    controls = motion.hands_on_body(SECONDS, RATE, rng)
    controls[:, motion.INDEX["heading"]] += 0.7 * np.sin(1.4 * motion.sample_times(SECONDS, RATE) + 1)
    return _scene("yard", 209, [random_person(rng, controls)], _camera(focal=1100.0, shake=1.0, seed=6), noise=2.5)


def _loose_clothes() -> Scene:
    rng = np.random.default_rng(110)
    person = random_person(rng, motion.dance(SECONDS, RATE, rng, tempo=2.0), looseness=0.03, slip=0.035, shirt="print")
    return _scene("yard", 110, [person], _camera(shake=1.0, seed=7), noise=3.0)


def _loose_jumping() -> Scene:
    rng = np.random.default_rng(210)
    person = random_person(rng, motion.jumping_jacks(SECONDS, RATE, rng), looseness=0.03, slip=0.035, shirt="plaid")
    return _scene("loft", 210, [person], _camera(zoom=0.9), noise=3.0, shutter=0.35)


STANDARD_CLIPS = [
    ClipSpec("walk", "tuning", _walk_across),
    ClipSpec("dance", "tuning", _dance_near),
    ClipSpec("crouch", "tuning", _crouch, crf=28),
    ClipSpec("turn", "tuning", _turn),
    ClipSpec("crossing", "tuning", _crossing),
    ClipSpec("behind_table", "tuning", _behind_table),
    ClipSpec("fast_arms", "tuning", _fast_arms),
    ClipSpec("upper_body", "tuning", _upper_body),
    ClipSpec("close_limbs", "tuning", _close_limbs),
    ClipSpec("loose_clothes", "tuning", _loose_clothes, crf=34),
    ClipSpec("walk_round", "held_out", _walk_round),
    ClipSpec("dance_two", "held_out", _dance_two),
    ClipSpec("lunges", "held_out", _lunges),
    ClipSpec("turn_fast", "held_out", _turn_fast, crf=28),
    ClipSpec("crossing_three", "held_out", _crossing_three),
    ClipSpec("behind_pillars", "held_out", _behind_pillars),
    ClipSpec("boxing", "held_out", _boxing),
    ClipSpec("in_and_out", "held_out", _in_and_out),
    ClipSpec("close_limbs_turned", "held_out", _close_limbs_turned),
    ClipSpec("loose_jumping", "held_out", _loose_jumping, crf=34),
]
