"""Input that labels may refuse, or must not be fooled by: a scene each, made of a seed."""

from __future__ import annotations

from dataclasses import fields, replace
from functools import partial
from typing import Any

import cv2
import numpy as np

from anthrotap_builder.bodies import load_body
from benchmarks.synthetic import motion
from benchmarks.synthetic.bad_input.staged import SIDE, StagedScene, hung
from benchmarks.synthetic.clip_spec import RATE, ClipSpec, random_person, random_shape
from benchmarks.synthetic.clothing import Clothing
from benchmarks.synthetic.hard_set import couples
from benchmarks.synthetic.hard_set.clips import dressed, scene_of
from benchmarks.synthetic.hard_set.touch import PlacedMotion
from benchmarks.synthetic.motion import INDEX
from benchmarks.synthetic.renderer import Actor, CameraPath, Scene, render_scene
from benchmarks.synthetic.room import build_room
from benchmarks.synthetic.tracking_set.camera import CameraMotion, CameraSettings

SHORT = CameraSettings(48)


def _staged(scene: Scene, **images: Any) -> StagedScene:
    """Return the scene with images of people; `images` are the fields of a `StagedScene`."""
    return StagedScene(**{item.name: getattr(scene, item.name) for item in fields(scene)}, **images)


def _tiny_crowd(seed: int) -> Scene:
    """Sixteen people who walk far away, about 50 pixels tall."""
    rng = np.random.default_rng(seed)
    people = []
    for i, y in enumerate(np.linspace(1.0, 3.8, 16)):
        heading = float(rng.choice([-1, 1])) * np.pi / 2 + rng.normal(0, 0.4)
        controls = motion.walk(SHORT.seconds, RATE, rng, heading, rng.uniform(0.7, 1.0))
        people.append(random_person(rng, controls, (-5.0 + 10.0 * ((i * 7) % 16) / 15, float(y)), None))
    camera = CameraMotion((0, -7.8, 2.2), -0.1, 300.0, shake=0.5).path(rng, SHORT)
    return scene_of("yard", seed, SHORT, people, camera)


def _from_above(seed: int) -> Scene:
    """A dancer, from nearly straight above."""
    rng = np.random.default_rng(seed)
    dancer = random_person(rng, motion.dance(SHORT.seconds, RATE, rng, tempo=1.8))
    camera = CameraMotion((0.0, -0.9, 5.2), -1.35, 1050.0, shake=1.0).path(rng, SHORT)
    return scene_of("yard", seed, SHORT, [dancer], camera)


def _mirror(seed: int) -> Scene:
    """A dancer before a mirror that covers the wall."""
    rng = np.random.default_rng(seed)
    dancer = random_person(rng, motion.dance(SHORT.seconds, RATE, rng, tempo=1.9), (0.35, 0.0))
    room = build_room("studio", seed)
    # The room's image: the same room again, behind the mirror.
    mirror = 1.3
    room = replace(room, high=np.array([room.high[0], 2 * mirror - room.low[1], room.high[2]]))
    camera = CameraMotion((-1.1, -4.6, 1.3), -0.05, 900.0, 0.04, (0.3, 0, 0)).path(rng, SHORT)
    angles = camera.angles + [0.2, 0.0, 0.0]
    camera = CameraPath(camera.position, angles, camera.focal)
    scene = replace(scene_of("studio", seed, SHORT, [dancer], camera), room=room)
    return _staged(scene, mirror=mirror)


def _filmed(rng: np.random.Generator, seed: int, num_frames: int) -> np.ndarray:
    """[T, SIDE, SIDE, 3] float in [0, 1]: another scene of a dancer, as pictures."""
    settings = CameraSettings(num_frames, shutter=0.0)
    dancer = random_person(rng, motion.dance(settings.seconds, RATE, rng, tempo=2.0))
    camera = CameraMotion((0, -4.4, 1.1), -0.05, 750.0).path(rng, settings)
    scene = replace(scene_of("gallery", seed + 1, settings, [dancer], camera), height=SIDE, width=SIDE)
    return render_scene(scene, 1).frames / 255.0


def _poster(seed: int) -> Scene:
    """Somebody walks past a poster of a dancer."""
    rng = np.random.default_rng(seed)
    pictures = _filmed(rng, seed, 2)[1:]
    walker = random_person(rng, motion.walk(SHORT.seconds, RATE, rng, 1.3, 0.9), (-0.2, 0.2), None)
    camera = CameraMotion((0, -4.9, 1.25), -0.03, 1000.0, move=(0.3, 0, 0)).path(rng, SHORT)
    scene = replace(scene_of("studio", seed, SHORT, [walker], camera), furniture=[hung((0.7, 2.4, 1.4), 1.7)])
    return _staged(scene, pictures=pictures)


def _television(seed: int) -> Scene:
    """A television with a dancer, and nobody before it."""
    rng = np.random.default_rng(seed)
    pictures = _filmed(rng, seed, SHORT.num_frames)
    pictures = np.stack([cv2.GaussianBlur(picture, (0, 0), 0.8) for picture in pictures])
    camera = CameraMotion((0, -2.6, 1.3), 0.0, 950.0, shake=1.5).path(rng, SHORT)
    scene = replace(scene_of("loft", seed, SHORT, [], camera), furniture=[hung((0.1, 2.3, 1.3), 1.9)])
    return _staged(scene, pictures=pictures)


def _mannequins(seed: int) -> Scene:
    """Three gray mannequins, which do not move, while the camera passes."""
    rng = np.random.default_rng(seed)
    bare = Clothing("plain", legs="short", looseness=0.0)
    people = []
    for x, name in ((-0.85, "hips"), (0.0, "down"), (0.9, "front")):
        pose = {**motion.ARMS[name], "heading": float(rng.normal(0, 0.3)), "knee.L": 0.2}
        still = np.tile(motion.controls(pose), (len(motion.sample_times(SHORT.seconds, RATE)), 1))
        people.append(Actor(motion.Motion(still, RATE, (x, 0.2)), random_shape(rng), bare, int(rng.integers(1 << 30))))
    camera = CameraMotion((0, -4.8, 1.2), -0.05, 950.0, 0.05, (0.8, 0.2, 0)).path(rng, SHORT)
    scene = scene_of("gallery", seed, SHORT, people, camera)
    return _staged(scene, mannequins=True)


def _handstand(seed: int) -> Scene:
    """Somebody stands on his hands, and moves his legs."""
    rng = np.random.default_rng(seed)
    shape, t = random_shape(rng), motion.sample_times(SHORT.seconds, RATE)
    # The whole body is turned about, arms beside the head; heading and shoulders are upside down with it.
    controls = np.tile(motion.controls({"pitch": np.pi, "swing": 3.0, "out": 0.1, "elbow": 0.15, "head_pitch": -0.5,
                                        "sole": np.pi}), (len(t), 1))  # fmt: skip
    for side, shift in (("L", 0.0), ("R", np.pi)):
        controls[:, INDEX[f"hip.{side}"]] += 0.15 + 0.5 * np.sin(2 * np.pi * 0.7 * t + shift)
        controls[:, INDEX[f"knee.{side}"]] += 0.4 + 0.4 * np.sin(2 * np.pi * 0.7 * t + shift + 1)
        controls[:, INDEX[f"spread.{side}"]] += 0.15 + 0.1 * np.sin(2 * np.pi * 0.5 * t)
    controls[:, INDEX["heading"]] += 0.4 * np.sin(1.3 * t) + np.pi
    controls = motion.sway(controls, RATE, rng, 0.02)
    body = load_body("anny")
    path = np.zeros((len(t), 3))
    pose = PlacedMotion(controls, RATE, path=path).parameters(body, shape).posed(body)
    every = np.arange(0, len(t), 16)
    lowest = body.pose_vertices(pose, every)[..., 2].min(1)
    path[:, 2] = -np.interp(np.arange(len(t)), every, lowest)
    actor = Actor(PlacedMotion(controls, RATE, path=path), shape, Clothing.random(rng), int(rng.integers(1 << 30)))
    return scene_of("studio", seed, SHORT, [actor], CameraMotion((0, -4.8, 1.2), -0.03, 950.0).path(rng, SHORT))


def _never_part(seed: int) -> Scene:
    """Two who hold each other for the whole clip, and turn slowly."""
    rng = np.random.default_rng(seed)
    couple = couples.Couple((random_shape(rng), random_shape(rng)), (0.0, 0.1), 1.0)
    pair = couples.dance_hold(couple, SHORT.seconds, rng, pace=0.6, step=0.05, turn=0.9, close=0.0)
    camera = CameraMotion((0, -4.6, 1.2), focal=1050.0, shake=1.0).path(rng, SHORT)
    return scene_of("loft", seed, SHORT, dressed(rng, couple, pair), camera)


BAD_INPUT_CLIPS = [
    ClipSpec("tiny_crowd", "tuning", partial(_tiny_crowd, 501), group="bad_input"),
    ClipSpec("from_above", "tuning", partial(_from_above, 502), group="bad_input"),
    ClipSpec("mirror", "tuning", partial(_mirror, 503), group="bad_input"),
    ClipSpec("poster", "tuning", partial(_poster, 504), group="bad_input"),
    ClipSpec("television", "tuning", partial(_television, 506), group="bad_input"),
    ClipSpec("mannequins", "tuning", partial(_mannequins, 508), group="bad_input"),
    ClipSpec("handstand", "tuning", partial(_handstand, 509), group="bad_input"),
    ClipSpec("never_part", "tuning", partial(_never_part, 510), group="bad_input"),
]
