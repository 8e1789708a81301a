"""Rendered clips that trackers are trained on: people and objects with exact tracks and occlusion.

Seeds, clothes, rooms, motions, shapes and cameras are drawn apart from those of every evaluation set: people go through
random postures of `gestures` instead of the evaluation's named motions, and nothing is composed by its themes.
"""

from __future__ import annotations

import numpy as np

from benchmarks.synthetic import creatures, motion, paths, shapes
from benchmarks.synthetic.clothing import Clothing
from benchmarks.synthetic.motion import INDEX, Motion, Pose
from benchmarks.synthetic.objects import ObjectScene, SceneObject, photo_room, random_material
from benchmarks.synthetic.overlays import passing
from benchmarks.synthetic.renderer import Actor, Scene
from benchmarks.synthetic.room import STYLES, Furniture, build_room, crates, pillar, table
from benchmarks.synthetic.tracking_set.camera import SIDE, CameraMotion, CameraSettings

# Far from the seeds of evaluation sets.
FIRST_SEED = 220_000_000
FRAMES = 24
POINTS, ON_BACKGROUND = 160, 48
# Samples of a motion a second.
MOTION_RATE = 96.0


def training_scene(number: int) -> tuple[Scene, np.random.Generator]:
    """Return the scene of a training clip, two of three with people, and the generator of what is drawn next."""
    rng = np.random.default_rng([FIRST_SEED, number])
    settings = CameraSettings(
        num_frames=FRAMES,
        fps=float(rng.choice([10.0, 15.0, 24.0, 30.0])),
        shutter=float(rng.choice([0.0, 0.0, 0.2, 0.5], p=[0.3, 0.3, 0.3, 0.1])),
        noise=rng.uniform(0, 3.5),
    )
    scene = _objects(rng, settings) if number % 3 == 2 else _people(rng, settings)
    return scene, rng


def gestures(seconds: float, rng: np.random.Generator, heading: float) -> np.ndarray:
    """Return controls [N, C] of random postures in turn, quick or slow: none of them has a name."""
    spread: dict[str, tuple[float, float]] = {
        "swing": (0.7, 0.9), "out": (0.6, 0.6), "twist": (0.2, 0.5), "elbow": (1.0, 0.7), "wrist": (0.0, 0.3),
        "shrug": (0.1, 0.1), "hip": (0.35, 0.45), "spread": (0.1, 0.15), "turnout": (0.15, 0.15), "knee": (0.5, 0.5),
    }  # fmt: skip
    low = {"elbow": 0.05, "knee": 0.02, "hip": -0.3, "out": -0.2, "spread": -0.08, "swing": -0.7}
    pace = rng.uniform(0.25, 0.9)
    poses: list[tuple[float, Pose]] = []
    time, energy = -1.5, rng.uniform(0.4, 1.1)
    while time < seconds + 1.5 + pace:
        pose: Pose = {}
        for name, (middle, width) in spread.items():
            for side in "LR":
                value = middle * energy + rng.normal(0, width) * energy
                pose[f"{name}.{side}"] = float(np.clip(value, low.get(name, -9), 2.6))
        for name, width in (("torso_pitch", 0.2), ("torso_roll", 0.12), ("torso_yaw", 0.3), ("head_yaw", 0.35),
                            ("head_pitch", 0.2), ("head_roll", 0.12), ("roll", 0.04)):  # fmt: skip
            pose[name] = float(rng.normal(0, width)) * energy
        heading += float(rng.normal(0, 0.35)) * energy
        pose["heading"] = heading
        poses.append((time, pose))
        time += pace * float(rng.uniform(0.6, 1.6))
    return motion.sway(motion.through(poses, seconds, MOTION_RATE), MOTION_RATE, rng, 0.02)


def _person(rng: np.random.Generator, settings: CameraSettings, start: tuple[float, float]) -> Actor:
    heading = rng.uniform(-np.pi, np.pi) if rng.random() < 0.4 else rng.normal(0, 0.7)
    controls = gestures(settings.seconds, rng, heading)
    walks = rng.random() < 0.35
    if walks:
        # Legs of a walk, arms and trunk of the gestures.
        steps = motion.walk(settings.seconds, MOTION_RATE, rng, heading, rng.uniform(0.6, 1.3), rng.normal(0, 0.7))
        legs = [i for name, i in INDEX.items() if name.startswith(("hip", "knee", "sole", "spread", "heading"))]
        controls[:, legs] = steps[:, legs]
    elif rng.random() < 0.2:
        t = np.arange(len(controls)) / MOTION_RATE
        controls[:, INDEX["jump"]] = rng.uniform(0.05, 0.25) * np.maximum(np.sin(rng.uniform(4, 8) * t), 0)
    shape = np.clip(rng.normal(size=10), -1.8, 1.8) * [0.35, *[0.9] * 9]
    clothing = Clothing.random(rng, looseness=rng.uniform(0, 0.03), slip=rng.uniform(0, 0.02))
    stay = None if walks else 0.9
    return Actor(Motion(controls, MOTION_RATE, start, stay), shape, clothing, int(rng.integers(1 << 30)))


def _camera(rng: np.random.Generator, position: tuple[float, float, float], tilt: float, focal: float) -> CameraMotion:
    fast = rng.random() < 0.25
    return CameraMotion(
        position=position,
        tilt=tilt,
        focal=focal,
        pan=rng.normal(0, 0.45 if fast else 0.1),
        move=tuple(rng.normal(0, 0.5, 3) * [1, 0.6, 0.25]),
        zoom=float(np.exp(rng.normal(0, 0.12))),
        shake=rng.uniform(0, 2.0),
    )


def _furniture(rng: np.random.Generator, low: float, high: float) -> list[Furniture]:
    """Return up to three pieces that stand between the camera and the movers."""
    pieces = []
    for _ in range(int(rng.choice([0, 1, 2, 3], p=[0.35, 0.3, 0.2, 0.15]))):
        place = (float(rng.uniform(-0.9, 0.9)), float(rng.uniform(low, high)))
        kind, seed = rng.integers(4), int(rng.integers(1 << 20))
        if kind == 0:
            size = (float(rng.uniform(0.5, 1.4)), float(rng.uniform(0.4, 0.8)), float(rng.uniform(0.55, 0.9)))
            pieces.append(table(place, size, seed))
        elif kind == 1:
            pieces.append(crates(place, float(rng.uniform(0.25, 0.5)), int(rng.integers(1, 4)), seed))
        else:
            pieces.append(pillar(place, float(rng.uniform(0.08, 0.3)), float(rng.uniform(1.2, 2.8)), seed))
    return pieces


def _people(rng: np.random.Generator, settings: CameraSettings) -> Scene:
    count = int(rng.choice([1, 2, 3], p=[0.5, 0.35, 0.15]))
    places = rng.uniform([-0.55, -0.5], [0.55, 0.6], (count, 2)) * (0.5 if count == 1 else 1)
    actors = [_person(rng, settings, (float(x), float(y))) for x, y in places]
    near = rng.random() < 0.25
    aside, back = float(rng.normal(0, 0.4)), -3.1 if near else float(rng.uniform(-5.2, -4.2))
    position = (aside, back, float(rng.uniform(0.9, 1.6)))
    camera = _camera(rng, position, float(rng.normal(-0.05, 0.04)), float(rng.uniform(430, 600)))
    room = photo_room(rng) if rng.random() < 0.3 else build_room(str(rng.choice(STYLES)), int(rng.integers(1 << 30)))
    furniture = _furniture(rng, -1.3, -0.8)
    return Scene(
        actors, room, camera.path(rng, settings), furniture, settings.fps, settings.shutter, settings.noise,
        int(rng.integers(1 << 30)), SIDE, SIDE,
    )  # fmt: skip


def _shape(rng: np.random.Generator, size: float) -> shapes.Shape:
    kind = int(rng.integers(10))
    if kind == 0:
        return shapes.blob(rng, 0.42 * size, rng.uniform(0.1, 0.35), int(rng.integers(3, 13)))
    if kind == 1:
        return shapes.blob(rng, 0.42 * size, 0.2, 4, rng.uniform(0.3, 1.2))
    if kind == 2:
        return shapes.superellipsoid(size / 2 * rng.uniform(0.4, 1, 3), float(rng.uniform(1.2, 7)))
    if kind == 3:
        return shapes.box(rng, size * rng.uniform(0.3, 1, 3), rng.choice([0.0, rng.uniform(0.3, 1.3)]))
    if kind == 4:
        return shapes.torus(0.36 * size, rng.uniform(0.08, 0.16) * size, rng.uniform(0.6, 1))
    if kind == 5:
        return shapes.knot(0.33 * size, 0.09 * size, int(rng.choice([2, 3])), int(rng.choice([3, 5, 4])))
    if kind == 6:
        return shapes.cloth(rng, rng.uniform(0.6, 1.2) * size * 1.4, size * 1.4, rng.uniform(0.08, 0.18))
    if kind == 7:
        return creatures.chain(rng, int(rng.integers(3, 7)), 0.3 * size, 0.1 * size)
    if kind == 8:
        return shapes.snake(rng, 2.0 * size, 0.12 * size)
    return creatures.creature(rng, str(rng.choice(creatures.CREATURES)), 1.4 * size, rng.uniform(1, 2))


def _objects(rng: np.random.Generator, settings: CameraSettings) -> Scene:
    objects = []
    for _ in range(int(rng.integers(2, 6))):
        shape = _shape(rng, rng.uniform(0.35, 0.9))
        center = rng.uniform([-0.6, -0.6, 0.7], [0.6, 0.7, 1.5])
        spin, drift = rng.normal(0, 1.6), rng.normal(0, 0.35, 3) * [1, 0.5, 0.5]
        kind = rng.random()
        if kind < 0.65:
            path = paths.floating(rng, center, rng.uniform(0.05, 0.35, 3), spin, drift)
        elif kind < 0.85:
            path = paths.orbiting(
                rng, center, rng.uniform(0.3, 0.8), rng.normal(0, 2), rng.uniform(0, 6), spin, rng.uniform(0, 0.5)
            )
        else:
            path = paths.hanging(rng, (center[0], center[1], center[2] + 0.5), rng.uniform(0.1, 0.5), 1.0)
        materials = [random_material(rng, shape, 0.35) for _ in range(shape.part.max() + 1)]
        objects.append(SceneObject(shape, path, materials))
    position = (float(rng.normal(0, 0.3)), float(rng.uniform(-3.8, -3.2)), float(rng.uniform(0.9, 1.5)))
    camera = _camera(rng, position, float(rng.normal(-0.08, 0.06)), float(rng.uniform(430, 540)))
    room = photo_room(rng) if rng.random() < 0.5 else build_room(str(rng.choice(STYLES)), int(rng.integers(1 << 30)))
    filmed = camera.path(rng, settings)
    return ObjectScene(
        [], room, filmed, _furniture(rng, -1.2, -0.9), settings.fps, settings.shutter, settings.noise,
        int(rng.integers(1 << 30)), SIDE, SIDE, objects,
    )  # fmt: skip


def with_overlays(
    rng: np.random.Generator, frames: np.ndarray, xy: np.ndarray, visible: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return frames [T, H, W, 3] with one to three pieces passing in front, and visible [N, T] with what they hide."""
    frames, visible = frames.copy(), visible.copy()
    for _ in range(int(rng.integers(1, 4))):
        overlay = passing(rng, len(frames), *frames.shape[1:3])
        for t, frame in enumerate(frames):
            overlay.paint(frame, t)
        visible &= ~overlay.covers(xy)
    return frames, visible
