"""The themes of the hard set, in either half: each makes a scene of a seed."""

from __future__ import annotations

from functools import partial

import numpy as np
from scipy.ndimage import gaussian_filter1d

from benchmarks.synthetic import motion
from benchmarks.synthetic.clip_spec import RATE, ClipSpec, random_person, random_shape
from benchmarks.synthetic.clothing import Clothing
from benchmarks.synthetic.hard_set import cameras, couples, motions
from benchmarks.synthetic.motion import Motion
from benchmarks.synthetic.renderer import Actor, CameraPath, Scene
from benchmarks.synthetic.room import build_room
from benchmarks.synthetic.tracking_set.camera import CameraMotion, CameraSettings

USUAL = CameraSettings(72)
# Many people take long to render and to label.
CROWDED = CameraSettings(60)
SLOW = CameraSettings(60, fps=10.0)


def scene_of(style: str, seed: int, settings: CameraSettings, actors: list[Actor], camera: CameraPath) -> Scene:
    """Make a scene in a room of a style."""
    return Scene(actors, build_room(style, seed), camera, [], settings.fps, settings.shutter, settings.noise, seed)


# Crowds.


def _bystanders(
    rng: np.random.Generator, places: list[tuple[float, float]], center: tuple[float, float]
) -> list[Actor]:
    """People who stand at places, and look at a center."""
    people = []
    for x, y in places:
        heading = float(np.arctan2(center[0] - x, y - center[1])) + rng.normal(0, 0.15)
        doing = str(rng.choice(list(motions.BYSTANDERS), p=[0.3, 0.2, 0.1, 0.2, 0.1, 0.1]))
        people.append(random_person(rng, motions.stand(CROWDED.seconds, rng, heading, doing), (x, y)))
    return people


def _arc(rng: np.random.Generator, count: int, radius: float, reach: float) -> list[tuple[float, float]]:
    """Places on an arc behind the origin, from -`reach` to `reach` radians around the direction +y."""
    angles = np.linspace(-reach, reach, count) + rng.normal(0, 0.03, count)
    radii = radius + rng.normal(0, 0.06, count)
    return [(float(r * np.sin(a)), float(r * np.cos(a))) for r, a in zip(radii, angles, strict=True)]


def _crowd_ring(seed: int) -> Scene:
    """A dancer before a half ring of 22 people in two rows."""
    rng = np.random.default_rng(seed)
    places = _arc(rng, 11, 2.1, 1.55) + _arc(rng, 11, 2.75, 1.35)
    dancer = random_person(rng, motion.dance(CROWDED.seconds, RATE, rng, tempo=2.0, energy=1.1, turning=1.0), (0, -0.6))
    people = [dancer, *_bystanders(rng, places, (0.0, -0.6))]
    camera = CameraMotion((0.2, -5.2, 1.5), -0.07, 900.0, 0.06, (0.4, 0, 0), shake=2.0).path(rng, CROWDED)
    return scene_of("yard", seed, CROWDED, people, camera)


def _crowd_close(seed: int) -> Scene:
    """Two dancers in a narrow ring of 26 people, some of whom stand between them and the camera."""
    rng = np.random.default_rng(seed)
    near = [(-1.75, -2.2), (1.8, -2.1)]
    places = _arc(rng, 12, 1.9, 1.75) + _arc(rng, 12, 2.5, 1.5) + near
    first = motion.lunge(CROWDED.seconds, RATE, rng, heading=0.5)
    second = motion.dance(CROWDED.seconds, RATE, rng, tempo=2.3, turning=0.8)
    people = [random_person(rng, first, (-0.5, -0.3)), random_person(rng, second, (0.55, -0.75))]
    people += _bystanders(rng, places, (0.0, -0.5))
    camera = CameraMotion((-0.3, -5.0, 1.6), -0.1, 850.0, -0.08, (-0.3, 0.2, 0), shake=2.5).path(rng, CROWDED)
    return scene_of("yard", seed, CROWDED, people, camera)


def _walkers(rng: np.random.Generator, lanes: np.ndarray, each: int) -> list[Actor]:
    """People who cross the picture in lanes (y), `each` in a lane, one behind the other."""
    people = []
    for y in lanes:
        side, pace = float(rng.choice([-1, 1])), rng.uniform(0.75, 1.0)
        for place in range(each):
            x = rng.uniform(-0.5, 0.5) + (place - (each - 1) / 2) * 1.7
            controls = motion.walk(CROWDED.seconds, RATE, rng, side * (np.pi / 2 + rng.normal(0, 0.06)), pace)
            people.append(random_person(rng, controls, (x, float(y)), None))
    return people


def _crowd_walking(seed: int) -> Scene:
    """Ten people cross in five lanes, while one walks towards the camera in front of them."""
    rng = np.random.default_rng(seed)
    main = random_person(rng, motion.walk(CROWDED.seconds, RATE, rng, 0.1, 0.8), (0.1, -1.3), None)
    camera = CameraMotion((0, -5.6, 1.5), -0.05, 900.0, 0.1, (0.3, 0, 0), shake=1.5).path(rng, CROWDED)
    return scene_of("yard", seed, CROWDED, [main, *_walkers(rng, np.linspace(-0.3, 2.7, 5), 2)], camera)


def _crowd_passing(seed: int) -> Scene:
    """Somebody dances in the middle of eleven people who pass behind and in front."""
    rng = np.random.default_rng(seed)
    main = random_person(rng, motion.dance(CROWDED.seconds, RATE, rng, tempo=1.8, energy=0.9), (-0.2, 0.0))
    passing = _walkers(rng, np.array([-0.9]), 1) + _walkers(rng, np.linspace(0.8, 3.2, 5), 2)
    camera = CameraMotion((0.3, -5.8, 1.7), -0.08, 950.0, -0.06, (-0.4, 0, 0.1), shake=1.5).path(rng, CROWDED)
    return scene_of("yard", seed, CROWDED, [main, *passing], camera)


# Contact.


def _couple(rng: np.random.Generator, start: tuple[float, float], heading: float) -> couples.Couple:
    return couples.Couple((random_shape(rng), random_shape(rng)), start, heading)


def dressed(rng: np.random.Generator, couple: couples.Couple, pair: couples.Motions) -> list[Actor]:
    """Make two people of a couple's motions, in random clothes."""
    return [
        Actor(own, shape, Clothing.random(rng), int(rng.integers(1 << 30)))
        for own, shape in zip(pair, couple.shapes, strict=True)
    ]


def _hug(seed: int) -> Scene:
    rng = np.random.default_rng(seed)
    couple = _couple(rng, (-0.1, 0.1), 1.25)
    people = dressed(rng, couple, couples.hug(couple, USUAL.seconds, rng))
    return scene_of("loft", seed, USUAL, people, CameraMotion(focal=1000.0, move=(0.3, 0, 0)).path(rng, USUAL))


def _hug_from_behind(seed: int) -> Scene:
    rng = np.random.default_rng(seed)
    couple = _couple(rng, (0.15, 0.2), -0.65)
    people = dressed(rng, couple, couples.hug_from_behind(couple, USUAL.seconds, rng))
    return scene_of("gallery", seed, USUAL, people, CameraMotion(focal=1050.0, shake=1.5).path(rng, USUAL))


def _lift(seed: int) -> Scene:
    rng = np.random.default_rng(seed)
    couple = _couple(rng, (-0.1, 0.2), 0.9)
    people = dressed(rng, couple, couples.lift(couple, USUAL.seconds, rng, 0.42))
    camera = CameraMotion((0, -5.6, 1.3), 0.0, 1000.0, shake=1.0).path(rng, USUAL)
    return scene_of("studio", seed, USUAL, people, camera)


def _lift_open(seed: int) -> Scene:
    rng = np.random.default_rng(seed)
    couple = _couple(rng, (0.1, 0.1), -0.6)
    pair = couples.lift(couple, USUAL.seconds, rng, 0.5, face_to_face=False, turn=-1.9)
    camera = CameraMotion((0, -5.8, 1.3), 0.01, 1000.0, move=(0.4, 0, 0)).path(rng, USUAL)
    return scene_of("loft", seed, USUAL, dressed(rng, couple, pair), camera)


def _tango(seed: int) -> Scene:
    rng = np.random.default_rng(seed)
    couple = _couple(rng, (0.0, 0.2), 1.2)
    people = dressed(rng, couple, couples.dance_hold(couple, USUAL.seconds, rng))
    return scene_of("studio", seed, USUAL, people, CameraMotion(focal=1000.0, shake=0.8).path(rng, USUAL))


def _waltz(seed: int) -> Scene:
    rng = np.random.default_rng(seed)
    couple = _couple(rng, (0.0, 0.1), -1.0)
    pair = couples.dance_hold(couple, USUAL.seconds, rng, pace=1.1, step=0.14, turn=-1.7, close=0.05)
    camera = CameraMotion(focal=1000.0, pan=0.05, move=(-0.3, 0, 0)).path(rng, USUAL)
    return scene_of("gallery", seed, USUAL, dressed(rng, couple, pair), camera)


# Fast pans, and cameras in the hand.


def _pan_following(seed: int) -> Scene:
    """A skater passes, and the camera follows a little late: the background moves by 40 pixels a frame."""
    rng = np.random.default_rng(seed)
    shape = random_shape(rng)
    skater = motions.glide(USUAL.seconds, rng, shape, (-4.6, -1.2), (4.6, -1.0))
    actor = Actor(skater, shape, Clothing.random(rng), int(rng.integers(1 << 30)))
    at = skater.path[round(RATE) :: round(RATE / USUAL.fps)][: USUAL.num_frames]
    late = gaussian_filter1d(at, 3.0, axis=0, mode="nearest")
    positions = np.tile([0.0, -5.0, 1.3], (USUAL.num_frames, 1))
    camera = cameras.aimed(positions, late, 900.0, cameras.jolted(rng, USUAL.num_frames, 5.0, 900.0, 2.0))
    return scene_of("yard", seed, USUAL, [actor], camera)


def _pan_whip(seed: int) -> Scene:
    """The camera whips from one dancer to another and back: 100 pixels a frame; only one is in the picture."""
    rng = np.random.default_rng(seed)
    dancers = [
        random_person(rng, motion.dance(USUAL.seconds, RATE, rng, tempo), (x, 0.1), shirt=shirt)
        for x, tempo, shirt in ((-1.9, 1.8, "dots"), (1.8, 2.0, "stripes"))
    ]
    left, right = (-1.75, 0.1, 0.95), (1.7, 0.1, 0.95)
    targets = cameras.through_places(
        USUAL.num_frames, [(0, left), (17, left), (25, right), (43, right), (51, left), (71, left)]
    )
    positions = np.tile([0.0, -4.8, 1.25], (USUAL.num_frames, 1))
    camera = cameras.aimed(positions, targets, 1000.0, cameras.jolted(rng, USUAL.num_frames, 3.0, 1000.0, 2.0))
    return scene_of("loft", seed, USUAL, dancers, camera)


HANDHELD = CameraSettings(72, shutter=0.9, noise=2.5)


def _handheld_walk(seed: int) -> Scene:
    """Somebody walks towards a camera that is carried backwards, with a long exposure."""
    rng = np.random.default_rng(seed)
    controls = motion.walk(HANDHELD.seconds, RATE, rng, -0.15, 1.0, turn=0.1)
    walker = random_person(rng, controls, (0.0, 0.3), None)
    t = np.arange(HANDHELD.num_frames) / HANDHELD.fps
    back = np.stack([0.1 * np.sin(5 * t), -0.9 * (t - 1.5) - 3.9, 1.35 + 0.03 * np.sin(2 * np.pi * 1.9 * t)], axis=1)
    ahead = np.stack([0 * t, -0.9 * (t - 1.5) + 0.3, 0.95 + 0 * t], axis=1)
    jolts = cameras.jolted(rng, HANDHELD.num_frames, 11.0, 850.0, 1.3)
    return scene_of("yard", seed, HANDHELD, [walker], cameras.aimed(back, ahead, 850.0, jolts))


def _handheld_dance(seed: int) -> Scene:
    """A dancer, filmed by somebody who circles him, with a long exposure."""
    rng = np.random.default_rng(seed)
    dancer = random_person(rng, motion.dance(HANDHELD.seconds, RATE, rng, tempo=2.2), (0.0, 0.0), looseness=0.02)
    angle = np.linspace(-0.45, 0.4, HANDHELD.num_frames)
    around = np.stack([4.1 * np.sin(angle), -4.1 * np.cos(angle), 1.4 + 0 * angle], axis=1)
    jolts = cameras.jolted(rng, HANDHELD.num_frames, 13.0, 850.0, 1.5)
    return scene_of("loft", seed, HANDHELD, [dancer], cameras.aimed(around, 0 * around + [0, 0, 0.95], 850.0, jolts))


# People who turn their back.


def _back_turned(seed: int) -> Scene:
    """Somebody in plain clothes turns his back, stays so for a second, and turns on to the front."""
    rng = np.random.default_rng(seed)
    headings = [(-1.0, 0.2), (0.3, 0.3), (0.9, 3.0), (1.9, 3.3), (2.5, 5.9), (4.0, 6.1)]
    person = random_person(rng, motions.turn_back(USUAL.seconds, rng, headings), shirt="plain", long_hair=False)
    return scene_of("gallery", seed, USUAL, [person], CameraMotion(focal=1050.0, shake=1.0).path(rng, USUAL))


def _back_and_away(seed: int) -> Scene:
    """One walks away from the camera all the time; another faces away, looks around twice, and faces away again."""
    rng = np.random.default_rng(seed)
    away = random_person(
        rng, motion.walk(USUAL.seconds, RATE, rng, np.pi - 0.12, 0.8), (-0.75, 0.1), None, shirt="plain"
    )
    headings = [(-1.0, 3.0), (0.1, 3.2), (0.6, 0.4), (1.0, 0.1), (1.6, -2.9), (2.1, -3.2), (2.6, -0.6), (4.0, -0.3)]
    person = random_person(rng, motions.turn_back(USUAL.seconds, rng, headings), (0.75, -0.2), shirt="stripes")
    return scene_of("loft", seed, USUAL, [away, person], CameraMotion((0, -5.0, 1.25), focal=1000.0).path(rng, USUAL))


# Near twins.


def _twins(rng: np.random.Generator, controls: list[np.ndarray], starts: list[tuple[float, float]],
           stay: float | None) -> list[Actor]:  # fmt: skip
    """People of nearly one shape, in the same clothes."""
    shape, clothes = random_shape(rng), Clothing.random(rng)
    return [
        Actor(
            Motion(motion.sway(own, RATE, rng, 0.03), RATE, start, stay),
            shape + rng.normal(0, 0.12, len(shape)),
            clothes,
            int(rng.integers(1 << 30)),
        )
        for own, start in zip(controls, starts, strict=True)
    ]


def _twins_dancing(seed: int) -> Scene:
    """Two in the same clothes dance the same dance side by side, one a little late; their arms overlap."""
    rng = np.random.default_rng(seed)
    controls = motion.dance(USUAL.seconds, RATE, rng, tempo=1.8, turning=0.35)
    late = np.roll(controls, round(0.07 * RATE), axis=0)
    people = _twins(rng, [controls, late], [(-0.42, 0.0), (0.42, 0.15)], 0.9)
    return scene_of("studio", seed, USUAL, people, CameraMotion(focal=1000.0, move=(0.3, 0, 0)).path(rng, USUAL))


def _twins_crossing(seed: int) -> Scene:
    """Three in the same clothes: two walk across each other close together, the third stands beside them."""
    rng = np.random.default_rng(seed)
    controls = [
        motion.walk(USUAL.seconds, RATE, rng, 0.75, 0.75),
        motion.walk(USUAL.seconds, RATE, rng, -0.8, 0.75),
        motions.stand(USUAL.seconds, rng, -0.2, "clap"),
    ]
    people = _twins(rng, controls[:2], [(0.0, -0.15), (0.05, 0.5)], None)
    third = people[0]
    people.append(Actor(Motion(controls[2], RATE, (1.0, 0.3)), third.shape * 0.9, third.clothing, seed))
    return scene_of("gallery", seed, USUAL, people, CameraMotion((0, -5.2, 1.3), focal=950.0).path(rng, USUAL))


# Ten frames a second.


def _dance_10fps(seed: int) -> Scene:
    rng = np.random.default_rng(seed)
    dancer = random_person(rng, motion.dance(SLOW.seconds, RATE, rng, tempo=1.7, turning=0.7), looseness=0.018)
    return scene_of("loft", seed, SLOW, [dancer], CameraMotion(focal=1050.0, shake=1.0).path(rng, SLOW))


def _pair_10fps(seed: int) -> Scene:
    rng = np.random.default_rng(seed)
    box = motion.box(SLOW.seconds, RATE, rng, heading=0.8)
    steps = motion.walk(SLOW.seconds, RATE, rng, -1.2, 0.7, turn=0.75)
    people = [random_person(rng, box, (-0.75, -0.1)), random_person(rng, steps, (0.7, 0.3), None)]
    return scene_of("gallery", seed, SLOW, people, CameraMotion((0, -5.2, 1.3), focal=1000.0).path(rng, SLOW))


HARD_CLIPS = [
    ClipSpec("crowd_ring", "tuning", partial(_crowd_ring, 301), group="hard"),
    ClipSpec("crowd_walking", "tuning", partial(_crowd_walking, 302), crf=25, group="hard"),
    ClipSpec("hug", "tuning", partial(_hug, 303), group="hard"),
    ClipSpec("lift", "tuning", partial(_lift, 304), group="hard"),
    ClipSpec("tango", "tuning", partial(_tango, 305), group="hard"),
    ClipSpec("pan_following", "tuning", partial(_pan_following, 306), group="hard"),
    ClipSpec("handheld_walk", "tuning", partial(_handheld_walk, 307), crf=25, group="hard"),
    ClipSpec("back_turned", "tuning", partial(_back_turned, 308), group="hard"),
    ClipSpec("twins_dancing", "tuning", partial(_twins_dancing, 309), group="hard"),
    ClipSpec("dance_10fps", "tuning", partial(_dance_10fps, 310), group="hard", fps=10.0),
    ClipSpec("crowd_close", "held_out", partial(_crowd_close, 401), group="hard"),
    ClipSpec("crowd_passing", "held_out", partial(_crowd_passing, 402), crf=25, group="hard"),
    ClipSpec("hug_from_behind", "held_out", partial(_hug_from_behind, 403), group="hard"),
    ClipSpec("lift_open", "held_out", partial(_lift_open, 404), group="hard"),
    ClipSpec("waltz", "held_out", partial(_waltz, 405), group="hard"),
    ClipSpec("pan_whip", "held_out", partial(_pan_whip, 406), group="hard"),
    ClipSpec("handheld_dance", "held_out", partial(_handheld_dance, 407), crf=25, group="hard"),
    ClipSpec("back_and_away", "held_out", partial(_back_and_away, 408), group="hard"),
    ClipSpec("twins_crossing", "held_out", partial(_twins_crossing, 409), group="hard"),
    ClipSpec("pair_10fps", "held_out", partial(_pair_10fps, 410), group="hard", fps=10.0),
]
