"""Two bodies in contact: hugs, lifts and a dance hold, as motions of a leader and of a partner.

The leader's own feet carry him; the partner is placed before (or behind) him, face to face or not. Times are seconds,
lengths meters, angles radians; at heading 0 a body faces -y, and headings grow counter-clockwise from above.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.interpolate import PchipInterpolator

from anthrotap_builder.bodies import Body, load_body
from anthrotap_builder.bodies.anny import JOINTS
from benchmarks.synthetic import motion
from benchmarks.synthetic.clip_spec import RATE
from benchmarks.synthetic.hard_set.touch import (
    PlacedMotion,
    SkinPoint,
    reach,
    standing_height,
    walked_path,
)
from benchmarks.synthetic.motion import INDEX, Motion, Pose

TRUNK = ("root", "spine05", "spine03", "spine01")
# How far cloth stands off two bodies that touch, less how far they give, meters.
CLOTH = 0.015
# Stride of a step cycle whose thighs swing by a radian, meters, about.
STRIDE = 3.3

# Where hands lie on another's skin: at the back, at the waist, on the belly, on the shoulder.
UPPER_BACK = {"L": SkinPoint((0.07, 0.12, 0.47), "spine01"), "R": SkinPoint((-0.07, 0.12, 0.47), "spine01")}
LOWER_BACK = {"L": SkinPoint((0.07, 0.12, 0.26), "spine03"), "R": SkinPoint((-0.07, 0.12, 0.26), "spine03")}
WAIST = {"L": SkinPoint((0.15, 0.0, 0.22), "spine05", 0.02), "R": SkinPoint((-0.15, 0.0, 0.22), "spine05", 0.02)}
BELLY = {"L": SkinPoint((0.04, -0.15, 0.27), "spine03"), "R": SkinPoint((-0.04, -0.15, 0.27), "spine03")}
SHOULDER = {"L": SkinPoint((0.15, 0.0, 0.61), "clavicle.L"), "R": SkinPoint((-0.15, 0.0, 0.61), "clavicle.R")}


@dataclass(frozen=True)
class Couple:
    """Two bodies: `shapes` of leader and partner [S], and how the couple stands.

    Attributes:
        shapes: of the leader, of the partner.
        start: (x, y) of the leader in the middle of the clip, world meters.
        heading: of the leader when the clip begins.
    """

    shapes: tuple[np.ndarray, np.ndarray]
    start: tuple[float, float] = (0.0, 0.0)
    heading: float = 1.2


Motions = tuple[PlacedMotion, PlacedMotion]


def hug(couple: Couple, seconds: float, rng: np.random.Generator, meet: float = 0.9, part: float = 2.5) -> Motions:
    """Two people walk up to each other, embrace from second `meet` to `part` while they sway, and let go."""
    body, t = load_body("anny"), motion.sample_times(seconds, RATE)
    held = _curve(t, [(meet - 0.45, 0), (meet + 0.15, 1), (part, 1), (part + 0.5, 0)])
    touch = _front(body, couple.shapes[0]) + _front(body, couple.shapes[1]) + CLOTH
    gap = _curve(t, [(meet - 1.1, touch + 0.9), (meet, touch), (part + 0.05, touch), (part + 0.9, touch + 0.5)])
    sway = 0.06 * held * np.sin(2 * np.pi * 0.55 * (t - meet))
    leader = _standing(t, rng, couple.heading + 0.35 * sway)
    partner = _standing(t, rng, couple.heading + np.pi + 0.35 * sway)
    _step(partner, _phase(gap), np.clip(np.abs(np.gradient(gap, t)) / 1.2, 0, 1) * 0.3)
    # Heads side by side, each on the other's right shoulder.
    for controls in (leader, partner):
        controls[:, INDEX["head_roll"]] -= 0.32 * held
        controls[:, INDEX["torso_pitch"]] += 0.06 * held
        controls[:, INDEX["roll"]] += sway
    _set(leader, {"swing": 1.35, "out": 0.5, "elbow": 1.1, "twist": 0.3, "wrist": 0.4}, held)
    _set(partner, {"swing": 0.8, "out": 0.4, "elbow": 1.0, "twist": 0.3, "wrist": 0.4}, held)
    motions = _placed(body, couple, (leader, partner), gap, aside=0.12 * held, turned=np.pi)
    # The leader's arms lie over the partner's, who holds him lower.
    return _holding(
        _holding(motions, couple, 1, {"L": LOWER_BACK["R"], "R": LOWER_BACK["L"]}, held),
        couple, 0, {"L": UPPER_BACK["R"], "R": UPPER_BACK["L"]}, held,
    )  # fmt: skip


def hug_from_behind(couple: Couple, seconds: float, rng: np.random.Generator, meet: float = 1.0) -> Motions:
    """The leader puts his arms around the partner from behind at second `meet`, and they rock from side to side."""
    body, t = load_body("anny"), motion.sample_times(seconds, RATE)
    held = _curve(t, [(meet - 0.5, 0), (meet + 0.15, 1)])
    touch = _front(body, couple.shapes[0]) + _back(body, couple.shapes[1]) + CLOTH
    gap = _curve(t, [(meet - 1.0, touch + 0.7), (meet, touch)])
    rock = 0.07 * held * np.sin(2 * np.pi * 0.6 * (t - meet))
    leader = _standing(t, rng, couple.heading + rock)
    partner = _standing(t, rng, couple.heading + rock)
    _step(leader, _phase(gap), np.clip(np.abs(np.gradient(gap, t)) / 1.2, 0, 1) * 0.3)
    for controls in (leader, partner):
        controls[:, INDEX["roll"]] += rock
    leader[:, INDEX["head_roll"]] -= 0.4 * held
    partner[:, INDEX["head_roll"]] += 0.15 * held
    _set(leader, {"swing": 0.8, "out": 0.35, "elbow": 1.2, "twist": 0.5}, held)
    _set(partner, {"swing": 0.5, "out": 0.3, "elbow": 1.6, "twist": 0.9}, held)
    motions = _placed(body, couple, (leader, partner), gap, aside=0.10 * held, turned=0.0)
    motions = _holding(motions, couple, 0, {"L": BELLY["R"], "R": BELLY["L"]}, held)
    return _holding(motions, couple, 1, {"L": _FOREARM["R"], "R": _FOREARM["L"]}, held)


_FOREARM = {"L": SkinPoint((0.43, -0.16, 0.30), "lowerarm01.L"), "R": SkinPoint((-0.43, -0.16, 0.30), "lowerarm01.R")}


def lift(couple: Couple, seconds: float, rng: np.random.Generator, height: float = 0.5,
         face_to_face: bool = True, turn: float = 1.6) -> Motions:  # fmt: skip
    """The leader takes the partner by the waist, lifts her by `height`, turns by `turn`, and sets her down.

    Face to face she holds his shoulders, her shins raised; otherwise she looks where he looks, arms and legs spread.
    """
    body, t = load_body("anny"), motion.sample_times(seconds, RATE)
    middle = seconds / 2
    up = _curve(t, [(middle - 1.0, 0), (middle - 0.4, 1), (middle + 0.5, 1), (middle + 1.15, 0)])
    bent = _curve(t, [(middle - 1.5, 0), (middle - 1.0, 1), (middle - 0.4, 0.1), (middle + 0.5, 0.1),
                      (middle + 1.1, 0.8), (middle + 1.6, 0)])  # fmt: skip
    held = _curve(t, [(middle - 1.6, 0), (middle - 1.2, 1), (middle + 1.2, 1), (middle + 1.7, 0)])
    turning = turn * _curve(t, [(middle - 0.7, 0), (middle + 0.8, 1)])
    leader = _standing(t, rng, couple.heading + turning)
    partner = _standing(t, rng, couple.heading + turning + (np.pi if face_to_face else 0.0))
    _set(leader, {"knee": 0.6, "hip": 0.4, "torso_pitch": 0.15}, bent)
    _set(partner, {"knee": 0.4, "hip": 0.15}, bent * (1 - up))
    apart = 0.10 * bent * (1 - up) - 0.05 * up
    _step(leader, 2 * np.pi * 1.5 * t, 0.14 * np.clip(np.abs(np.gradient(turning, t)), 0, 1))
    _set(leader, {"swing": 1.2, "out": 0.35, "elbow": 0.7, "twist": 0.2}, held)
    leader[:, INDEX["torso_pitch"]] -= 0.14 * up
    if face_to_face:
        _set(partner, {"hip": -0.1, "knee": 1.35, "sole": 1.2, "spread": 0.02}, up)
        _set(partner, {"swing": 0.9, "out": 0.5, "elbow": 0.7}, held)
        gap = _front(body, couple.shapes[0]) + _front(body, couple.shapes[1]) + 0.07 + apart
    else:
        _set(partner, {"hip.L": 1.1, "hip.R": 0.3, "knee.L": 0.2, "knee.R": 0.6, "sole": 0.9, "spread": 0.2}, up)
        _set(partner, {"out": 1.65, "swing": 0.3, "elbow": 0.15, "torso_pitch": -0.1}, up)
        gap = _front(body, couple.shapes[0]) + _back(body, couple.shapes[1]) + 0.10 + apart
    turned = np.pi if face_to_face else 0.0
    motions = _placed(body, couple, (leader, partner), gap, aside=0 * t, turned=turned, raised=(up, height))
    waist = {"L": WAIST["R"], "R": WAIST["L"]} if face_to_face else WAIST
    motions = _holding(motions, couple, 0, waist, held)
    if face_to_face:
        motions = _holding(motions, couple, 1, {"L": SHOULDER["R"], "R": SHOULDER["L"]}, held)
    return motions


def dance_hold(couple: Couple, seconds: float, rng: np.random.Generator, pace: float = 0.9, step: float = 0.2,
               turn: float = 0.5, close: float = 0.02) -> Motions:  # fmt: skip
    """A tango or a waltz: he walks, `pace` step cycles a second, she walks backwards, and both turn.

    Args:
        couple, seconds, rng: who dances, and how long.
        pace: step cycles a second.
        step: how far thighs swing.
        turn: radians a second, on average.
        close: meters between the two bodies.
    """
    body, t = load_body("anny"), motion.sample_times(seconds, RATE)
    wave = 0.35 * np.sin(2 * np.pi * 0.45 * t + rng.uniform(0, 6))
    heading = couple.heading + turn * t + wave
    leader, partner = _standing(t, rng, heading), _standing(t, rng, heading + np.pi)
    phase = 2 * np.pi * pace * t + rng.uniform(0, 6)
    _step(leader, phase, step)
    # Her right thigh goes back as his left one comes forward: the same cycle, backwards in time.
    _step(partner, -phase, step)
    for controls, sign in ((leader, 1), (partner, -1)):
        controls[:, INDEX["head_yaw"]] += 0.5 * sign * np.sin(2 * np.pi * 0.3 * t)
        controls[:, INDEX["torso_yaw"]] += 0.06 * np.sin(phase)
        controls[:, INDEX["head_roll"]] -= 0.12
    _set(leader, {"swing.L": 0.7, "out.L": 1.0, "elbow.L": 1.0, "swing.R": 0.9, "out.R": 0.6, "elbow.R": 1.1}, 1.0)
    _set(partner, {"swing.R": 0.7, "out.R": 1.0, "elbow.R": 0.9, "swing.L": 0.8, "out.L": 0.8, "elbow.L": 1.0}, 1.0)
    gap = _front(body, couple.shapes[0]) + _front(body, couple.shapes[1]) + close + 0 * t
    motions = _placed(body, couple, (leader, partner), gap, aside=0.10 + 0 * t, turned=np.pi, stay=None)
    motions = _holding(motions, couple, 0, {"R": UPPER_BACK["L"]}, 1.0)
    motions = _holding(motions, couple, 1, {"L": SHOULDER["R"]}, 1.0)
    # The free hands meet beside both, at the height of his shoulder.
    ahead, left = _axes(motions[0].controls[:, INDEX["heading"]])
    shoulder = 1.36 * _size(body, couple.shapes[0])
    joined = motions[0].path + 0.5 * gap[:, None] * ahead + 0.52 * left
    joined[:, 2] = shoulder + 0.03 * np.sin(phase)
    return (
        reach(body, couple.shapes[0], motions[0], {"L": joined - 0.025 * ahead}),
        reach(body, couple.shapes[1], motions[1], {"R": joined + 0.025 * ahead}),
    )


def _standing(t: np.ndarray, rng: np.random.Generator, heading: np.ndarray) -> np.ndarray:
    """[N, C] controls of somebody who stands, and moves a little, at a heading [N]."""
    controls = motion.sway(np.tile(motion.controls({}), (len(t), 1)), RATE, rng, 0.02)
    controls[:, INDEX["heading"]] = heading
    return controls


def _set(controls: np.ndarray, pose: Pose, weight: np.ndarray | float) -> None:
    """Blend controls [N, C], in place, towards a pose by a weight [N]; only the controls that the pose names."""
    for name, value in pose.items():
        for full in (name,) if name in INDEX else (f"{name}.L", f"{name}.R"):
            column = controls[:, INDEX[full]]
            controls[:, INDEX[full]] = column + weight * (value - column)


def _step(controls: np.ndarray, phase: np.ndarray, size: np.ndarray | float) -> None:
    """Add small steps to controls [N, C], in place: thighs swing by `size` radians over the cycle's `phase` [N]."""
    for side, shift in (("L", 0.0), ("R", np.pi)):
        own = phase + shift
        lifted = np.exp(2.2 * (np.cos(own + 0.75) - 1))
        controls[:, INDEX[f"hip.{side}"]] += size * (np.sin(own) + 0.5 * lifted)
        controls[:, INDEX[f"knee.{side}"]] += 2.2 * size * lifted
        controls[:, INDEX[f"sole.{side}"]] += 1.2 * size * np.exp(4 * (np.cos(own + 1.5) - 1))


def _phase(gap: np.ndarray, size: float = 0.3) -> np.ndarray:
    """The phase [N] of steps of a size that go as far as a gap closes."""
    return -2 * np.pi * gap / (STRIDE * np.sin(size))


def _placed(body: Body, couple: Couple, controls: tuple[np.ndarray, np.ndarray], gap: np.ndarray, aside: np.ndarray,
            turned: float, raised: tuple[np.ndarray, float] | None = None, stay: float | None = 0.9,
            ) -> Motions:  # fmt: skip
    """Place leader and partner.

    Args:
        body, couple: who.
        controls: of both, [N, C].
        gap: [N] meters from the leader's hips forward to the partner's.
        aside: [N] meters by which the partner stands to the leader's right.
        turned: heading of the partner, relative to the leader's.
        raised: how much of a height [N] the partner is lifted, and that height.
        stay: as a motion's, of the leader.
    """
    leader = Motion(controls[0], RATE, couple.start, stay)
    path = walked_path(body, leader, couple.shapes[0])
    ahead, left = _axes(controls[0][:, INDEX["heading"]])
    other = path + gap[:, None] * ahead - aside[:, None] * left
    other[:, 2] = standing_height(body, controls[1], couple.shapes[1])
    if raised:
        up, height = raised
        carried = np.clip(3 * up, 0, 1)
        carried = carried * carried * (3 - 2 * carried)
        stand = standing_height(body, motion.controls({})[None].repeat(400, 0), couple.shapes[1])[200]
        other[:, 2] += carried * (stand - other[:, 2]) + height * up
    heading = controls[0][:, INDEX["heading"]] + turned
    controls[1][:, INDEX["heading"]] = heading
    return PlacedMotion(controls[0], RATE, path=path), PlacedMotion(controls[1], RATE, path=other)


def _holding(motions: Motions, couple: Couple, who: int, points: dict[str, SkinPoint],
             weight: np.ndarray | float) -> Motions:  # fmt: skip
    """Put hands of one of the two, by side, on points of the other's skin."""
    body, other = load_body("anny"), 1 - who
    pose = motions[other].parameters(body, couple.shapes[other]).posed(body)
    targets = {side: point.at(body, couple.shapes[other], pose) for side, point in points.items()}
    held = reach(body, couple.shapes[who], motions[who], targets, weight)
    return (held, motions[1]) if who == 0 else (motions[0], held)


def _axes(heading: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Forward and left [N, 3] of headings [N]."""
    sine, cosine, zero = np.sin(heading), np.cos(heading), 0 * heading
    return np.stack([sine, -cosine, zero], axis=1), np.stack([cosine, sine, zero], axis=1)


def _curve(t: np.ndarray, knots: list[tuple[float, float]]) -> np.ndarray:
    """[N] a smooth curve through (time, value) knots that stays at its first and last value."""
    times, values = zip(*knots, strict=True)
    return PchipInterpolator(times, values)(np.clip(t, times[0], times[-1]))


def _front(body: Body, shape: np.ndarray) -> float:
    """How far the trunk reaches forward of the hips, meters."""
    return float(body.joints[0, 1] - _trunk(body, shape)[:, 1].min())


def _back(body: Body, shape: np.ndarray) -> float:
    """How far the trunk reaches back from the hips, meters."""
    return float(_trunk(body, shape)[:, 1].max() - body.joints[0, 1])


def _trunk(body: Body, shape: np.ndarray) -> np.ndarray:
    rest = body.template + np.tensordot(shape, body.shape_directions, 1)
    weight = body.weights[:, [JOINTS.index(name) for name in TRUNK]].sum(1)
    return rest[weight > 0.8]


def _size(body: Body, shape: np.ndarray) -> float:
    """A body's height relative to the mean body's."""
    rest = body.template + np.tensordot(shape, body.shape_directions, 1)
    return float(np.ptp(rest[:, 2]) / np.ptp(body.template[:, 2]))
