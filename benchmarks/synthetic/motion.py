"""Procedural human motion for rendered clips: joint controls over time, set on the ground by the feet.

The world is z up, meters; at heading 0 a body faces -y, and its left is +x. Controls are angles in radians
with a plain meaning (`CONTROLS`), so that a motion is a short list of poses with times.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.interpolate import PchipInterpolator
from scipy.ndimage import gaussian_filter1d
from scipy.spatial.transform import Rotation

from anthrotap_builder.bodies import Body
from anthrotap_builder.bodies.anny import JOINTS
from anthrotap_builder.mesh_recovery.kinematics import PoseParameters

BODY_CONTROLS = (
    "heading",  # counter-clockwise from above; 0 faces the camera
    *("pitch", "roll"),  # of the whole body: forward, to its left
    "jump",  # meters off the ground
    *("torso_pitch", "torso_roll", "torso_yaw"),  # shared by three spine joints; forward, left, turned left
    *("head_pitch", "head_roll", "head_yaw"),
)
SIDE_CONTROLS = (
    *("swing", "out", "twist"),  # upper arm: forward and up, sideways and up, about itself
    *("elbow", "wrist", "shrug"),  # bend; bend; collar bone up
    *("hip", "spread", "turnout"),  # thigh: forward and up, sideways, about itself
    *("knee", "sole"),  # bend; the sole's pitch in the world, toes down
)
CONTROLS = BODY_CONTROLS + tuple(f"{name}.{side}" for side in "LR" for name in SIDE_CONTROLS)
INDEX = {name: i for i, name in enumerate(CONTROLS)}

STAND = {
    "out": 0.16, "swing": 0.05, "elbow": 0.35, "spread": -0.02, "turnout": 0.12, "knee": 0.06, "hip": 0.03,
}  # fmt: skip

Pose = dict[str, float]


def controls(pose: Pose, base: Pose | None = None) -> np.ndarray:
    """[C] the control vector of a pose. A name without a side sets both; the rest is `STAND`."""
    out = np.zeros(len(CONTROLS))
    for name, value in {**STAND, **(base or {}), **pose}.items():
        for full in (name,) if name in INDEX else (f"{name}.L", f"{name}.R"):
            out[INDEX[full]] = value
    return out


def mirrored(pose: Pose) -> Pose:
    """The same pose with left and right exchanged."""
    turned = {"heading", "roll", "torso_roll", "torso_yaw", "head_roll", "head_yaw"}
    swap = {".L": ".R", ".R": ".L"}
    return {
        (name[:-2] + swap[name[-2:]] if name[-2:] in swap else name): (-value if name in turned else value)
        for name, value in pose.items()
    }


@dataclass(frozen=True)
class Motion:
    """What one body does: `controls` [N, C] at `rate` samples a second, and where it goes.

    Attributes:
        controls: joint controls.
        rate: samples a second.
        start: (x, y), world meters, of the hips in the middle of the clip.
        stay: seconds over which the body drifts back to `start`; None lets its feet carry it away.
    """

    controls: np.ndarray
    rate: float
    start: tuple[float, float] = (0.0, 0.0)
    stay: float | None = 1.5

    def parameters(self, body: Body, shape: np.ndarray) -> PoseParameters:
        """The motion as pose parameters of `body` in the world, at this motion's rate, feet on the ground.

        The lowest point of the soles touches z = 0 (plus `jump`), and the hips move so that the sole that
        stands keeps its position: steps carry the body, and standing feet do not slide.
        """
        values = np.zeros((len(self.controls), 3 + 3 * body.num_joints))
        values[:, 3:] = joint_rotations(body, self.controls).reshape(len(self.controls), -1)
        parameters = PoseParameters(values, shape, np.eye(3))
        soles = _sole_places(body, parameters)
        height = soles[..., 2]
        weight = np.exp(-(height - height.min(1, keepdims=True)) / 0.012)
        weight /= weight.sum(1, keepdims=True)
        step = np.diff(soles[..., :2], axis=0)
        moved = -(0.5 * (weight[1:] + weight[:-1])[..., None] * step).sum(1)
        position = np.concatenate([np.zeros((1, 2)), np.cumsum(moved, axis=0)])
        position = gaussian_filter1d(position, 0.02 * self.rate, axis=0)
        if self.stay is not None:
            position = position - gaussian_filter1d(position, self.stay * self.rate, axis=0, mode="nearest")
        values[:, :2] = position - position[len(position) // 2] + self.start
        values[:, 2] = gaussian_filter1d(-height.min(1), 0.015 * self.rate) + self.controls[:, INDEX["jump"]]
        return parameters


def joint_rotations(body: Body, controls: np.ndarray) -> np.ndarray:
    """[N, J, 3] rotation vectors of Anny's joints for controls [N, C]."""
    if body.name != "anny":
        raise ValueError(f"motions are made for the Anny body, not for {body.name!r}")
    value = {name: controls[:, i] for name, i in INDEX.items()}
    zero = np.zeros(len(controls))
    out = np.zeros((len(controls), body.num_joints, 3))

    def put(joint: str, rotation: Rotation) -> None:
        out[:, JOINTS.index(joint)] = rotation.as_rotvec()

    def about(x: np.ndarray = zero, y: np.ndarray = zero, z: np.ndarray = zero) -> Rotation:
        """Turned by x, then y, then z about the fixed axes: left, back, up."""
        return Rotation.from_euler("xyz", np.stack([x, y, z], axis=1))

    put("root", about(value["pitch"], value["roll"], value["heading"]))
    for joint, fraction in (("spine05", 0.35), ("spine03", 0.35), ("spine01", 0.3)):
        put(
            joint,
            about(fraction * value["torso_pitch"], fraction * value["torso_roll"], fraction * value["torso_yaw"]),
        )
    for joint, fraction in (("neck01", 0.4), ("head", 0.6)):
        put(
            joint,
            about(fraction * value["head_pitch"], fraction * value["head_roll"], fraction * value["head_yaw"]),
        )
    for side, sign in (("L", 1.0), ("R", -1.0)):

        def of(name: str, side: str = side) -> np.ndarray:
            return value[f"{name}.{side}"]

        put(f"clavicle.{side}", about(y=-sign * of("shrug")))
        shoulder, elbow, wrist = (
            body.joints[JOINTS.index(f"{joint}.{side}")] for joint in ("upperarm01", "lowerarm01", "wrist")
        )
        upper, lower = _unit(elbow - shoulder), _unit(wrist - elbow)
        swing, outward = of("swing"), of("out")
        aim = np.stack(
            [sign * np.sin(outward), -np.cos(outward) * np.sin(swing), -np.cos(outward) * np.cos(swing)],
            axis=1,
        )
        put(
            f"upperarm01.{side}",
            Rotation.from_rotvec(aim * (sign * of("twist"))[:, None]) * _turn_to(upper, aim),
        )
        hinge = body.prior.axes[JOINTS.index(f"lowerarm01.{side}")][:, 0]
        bend = of("elbow") - np.arccos(upper @ lower)
        put(f"lowerarm01.{side}", Rotation.from_rotvec(hinge * bend[:, None]))
        put(f"wrist.{side}", Rotation.from_rotvec(hinge * of("wrist")[:, None]))
        put(f"upperleg01.{side}", about(-of("hip"), -sign * of("spread"), sign * of("turnout")))
        put(f"lowerleg01.{side}", about(of("knee")))
        # the sole's pitch in the world is that of all joints above it, and its own
        ankle = of("sole") - (value["pitch"] - of("hip") + of("knee"))
        put(f"foot.{side}", about(np.clip(ankle, -0.75, 0.9)))
    return out


def through(poses: Sequence[tuple[float, Pose]], seconds: float, rate: float, lead: float = 1.0) -> np.ndarray:
    """[N, C] controls through timed poses, by monotone cubics; from -`lead` to `seconds` + `lead` seconds."""
    times = np.array([time for time, _ in poses])
    curve = PchipInterpolator(times, np.stack([controls(pose) for _, pose in poses]), axis=0)
    t = sample_times(seconds, rate, lead)
    out = curve(np.clip(t, times[0], times[-1]))
    return gaussian_filter1d(out, 0.035 * rate, axis=0)


def sample_times(seconds: float, rate: float, lead: float = 1.0) -> np.ndarray:
    """[N] seconds; sample `lead` * `rate` is time 0."""
    return (np.arange(round((seconds + 2 * lead) * rate) + 1) - round(lead * rate)) / rate


def sway(out: np.ndarray, rate: float, rng: np.random.Generator, amount: float = 0.03) -> np.ndarray:
    """Add slow, small, random movement to controls [N, C], as of people who stand."""
    noise = gaussian_filter1d(rng.normal(size=(len(out), out.shape[1])), 0.22 * rate, axis=0, mode="reflect")
    noise *= amount / (noise.std() + 1e-9)
    noise[:, [INDEX["jump"], INDEX["heading"]]] = 0
    noise[:, [i for name, i in INDEX.items() if name.startswith(("sole", "hip", "knee"))]] *= 0.3
    return out + noise


def walk(seconds: float, rate: float, rng: np.random.Generator, heading: float = 0.0, pace: float = 0.95,
         turn: float = 0.0) -> np.ndarray:  # fmt: skip
    """[N, C] controls of a walk of `pace` strides a second; the heading changes by `turn` rad/s."""
    t = sample_times(seconds, rate)
    out = np.tile(controls({}), (len(t), 1))
    first = rng.uniform(0, 2 * np.pi)
    lift = rng.uniform(0.9, 1.1)
    for side, shift in (("L", 0.0), ("R", np.pi)):
        phase = 2 * np.pi * pace * t + first + shift

        def bump(at: float, sharp: float, phase: np.ndarray = phase) -> np.ndarray:
            return np.exp(sharp * (np.cos(phase - at) - 1))

        # the thigh is foremost at phase pi / 2; the leg swings forward from -pi / 2 to pi / 2
        column = {name: INDEX[f"{name}.{side}"] for name in SIDE_CONTROLS}
        out[:, column["hip"]] = 0.10 + 0.40 * np.sin(phase)
        out[:, column["knee"]] = 0.08 + lift * bump(-0.75, 2.2) + 0.16 * bump(2.3, 4.0)
        out[:, column["sole"]] = 0.75 * bump(-1.5, 4.0) - 0.28 * bump(1.5, 6.0)
        out[:, column["spread"]] = -0.05
        out[:, column["swing"]] = 0.08 - 0.42 * np.sin(phase)
        out[:, column["elbow"]] = 0.45 - 0.25 * np.sin(phase)
    phase = 2 * np.pi * pace * t + first
    out[:, INDEX["torso_yaw"]] = 0.16 * np.sin(phase)
    out[:, INDEX["torso_pitch"]] = 0.05
    out[:, INDEX["roll"]] = 0.03 * np.cos(phase)
    out[:, INDEX["heading"]] = heading - 0.07 * np.sin(phase) + turn * t
    return out


ARMS: dict[str, Pose] = {
    "down": {},
    "up": {"swing": 2.7, "out": 0.35, "elbow": 0.5},
    "side": {"out": 1.5, "elbow": 0.25},
    "hips": {"out": 0.75, "swing": -0.35, "elbow": 1.75, "twist": 0.7},
    "front": {"swing": 1.45, "out": 0.15, "elbow": 0.35},
    "cross": {"swing": 1.1, "out": -0.3, "elbow": 1.2},
    "cheer.L": {"swing.L": 2.6, "out.L": 0.5, "elbow.L": 0.4, "swing.R": 0.3, "elbow.R": 1.5, "out.R": 0.4},
    "point.L": {"out.L": 2.0, "swing.L": 0.4, "elbow.L": 0.1, "out.R": 0.6, "elbow.R": 1.6, "swing.R": 0.2},
    "swing.L": {"swing.L": 1.2, "elbow.L": 0.9, "swing.R": -0.7, "elbow.R": 0.9},
    "flex": {"out": 1.35, "elbow": 1.7, "twist": -0.9},
}
LEGS: dict[str, Pose] = {
    "both": {"knee": 0.35, "hip": 0.2, "spread": 0.12},
    "weight.L": {"roll": 0.05, "knee.L": 0.15, "hip.L": 0.08, "knee.R": 0.6, "hip.R": 0.35, "spread": 0.10,
                 "sole.R": 0.35, "torso_roll": -0.12},
    "step.L": {"spread.L": 0.32, "knee.L": 0.5, "hip.L": 0.3, "spread.R": 0.2, "knee.R": 0.1, "roll": 0.06,
               "torso_roll": -0.1},
    "lift.L": {"hip.L": 1.15, "knee.L": 1.45, "sole.L": 0.4, "knee.R": 0.12, "hip.R": 0.06},
    "kick.L": {"hip.L": 0.85, "knee.L": 0.25, "sole.L": 0.0, "knee.R": 0.2, "hip.R": 0.1,
               "torso_pitch": -0.12},
    "dip": {"knee": 1.0, "hip": 0.65, "spread": 0.22, "torso_pitch": 0.15},
}  # fmt: skip


def dance(seconds: float, rate: float, rng: np.random.Generator, tempo: float = 1.9, energy: float = 1.0,
          turning: float = 0.5, heading: float = 0.0) -> np.ndarray:  # fmt: skip
    """[N, C] controls of a dance: a pose of arms and legs on each beat of `tempo` a second, knees bouncing.

    `energy` scales how far the poses go; `turning` is how far (radians) the heading wanders.
    """
    beat = 1 / tempo
    poses: list[tuple[float, Pose]] = []
    last = ("", "")
    time, turned = -1.5, heading
    while time < seconds + 1.5 + beat:
        arms, legs = last
        while (arms, legs) == last or arms == last[0]:
            arms, legs = str(rng.choice(list(ARMS))), str(rng.choice(list(LEGS)))
        last = (arms, legs)
        arm = mirrored(ARMS[arms]) if rng.random() < 0.5 else ARMS[arms]
        leg = mirrored(LEGS[legs]) if rng.random() < 0.5 else LEGS[legs]
        pose = {**arm, **leg}
        pose = {name: value * energy for name, value in pose.items()}
        pose["torso_yaw"] = rng.normal(0, 0.2) * energy
        pose["head_yaw"] = rng.normal(0, 0.25)
        pose["head_roll"] = rng.normal(0, 0.12)
        turned = heading + 0.7 * (turned - heading) + rng.normal(0, turning)
        pose["heading"] = turned
        poses.append((time, pose))
        if rng.random() < 0.35:  # hold it
            time += 0.45 * beat
            poses.append((time, dict(pose)))
            time += 0.55 * beat
        time += beat * float(rng.choice([1.0, 1.0, 2.0]))
    out = through(poses, seconds, rate)
    t = sample_times(seconds, rate)
    bounce = 0.5 - 0.5 * np.cos(2 * np.pi * tempo * t)
    for side in "LR":
        out[:, INDEX[f"knee.{side}"]] += 0.28 * energy * bounce
        out[:, INDEX[f"hip.{side}"]] += 0.15 * energy * bounce
    out[:, INDEX["torso_pitch"]] += 0.08 * bounce
    out[:, INDEX["head_pitch"]] += 0.14 * bounce - 0.05
    return sway(out, rate, rng, 0.03)


def crouch(seconds: float, rate: float, rng: np.random.Generator, heading: float = 0.0) -> np.ndarray:
    """[N, C] controls of going down into a squat, reaching forward, and up again."""
    down = {"hip": 1.75, "knee": 2.1, "spread": 0.22, "turnout": 0.3, "pitch": 0.25, "torso_pitch": 0.35,
            "head_pitch": -0.3, "swing": 1.0, "elbow": 0.6, "heading": heading}  # fmt: skip
    reach = {**down, "swing.L": 1.5, "elbow.L": 0.15, "torso_pitch": 0.55, "torso_yaw": -0.3}
    stand = {"heading": heading}
    start = rng.uniform(-0.2, 0.2)
    poses = [(-1.2, stand), (start, stand), (start + 0.8, down), (start + 1.3, reach), (start + 1.7, down),
             (start + 2.5, stand), (start + 2.9, {**stand, **ARMS["up"]}), (start + 3.4, stand)]  # fmt: skip
    return sway(through(poses, seconds, rate), rate, rng)


def turn_around(seconds: float, rate: float, rng: np.random.Generator, speed: float = 1.9) -> np.ndarray:
    """[N, C] controls of turning on the spot, stepping, arms changing."""
    t = sample_times(seconds, rate)
    poses: list[tuple[float, Pose]] = []
    for i, time in enumerate(np.arange(-1.5, seconds + 1.5, 0.42)):
        leg = {"knee.L": 0.6, "hip.L": 0.4, "sole.L": 0.2} if i % 2 else {"knee.R": 0.6, "hip.R": 0.4, "sole.R": 0.2}
        arm = ARMS[str(rng.choice(["down", "side", "front", "hips", "swing.L"]))] if i % 3 == 0 else {}
        poses.append((float(time), {**(arm or {"out": 0.5, "elbow": 0.7}), **leg}))
    out = through(poses, seconds, rate)
    first, sign = rng.uniform(-0.6, 0.6), rng.choice([-1, 1])
    out[:, INDEX["heading"]] = first + sign * (speed * t + 0.25 * np.sin(2 * np.pi * 1.19 * t))
    return sway(out, rate, rng)


def wave_arms(seconds: float, rate: float, rng: np.random.Generator, speed: float = 1.7) -> np.ndarray:
    """[N, C] controls of fast, wide waving with both arms, up to `speed` sweeps a second."""
    t = sample_times(seconds, rate)
    out = through([(-1.5, {"knee": 0.2, "hip": 0.1, "spread": 0.1}), (seconds + 1.5, {"knee": 0.3,
                  "hip": 0.15,
                  "spread": 0.1, "heading": rng.uniform(-0.5, 0.5)})], seconds, rate)  # fmt: skip
    for side in "LR":
        own, phase = speed * rng.uniform(0.8, 1.05), rng.uniform(0, 2 * np.pi)
        out[:, INDEX[f"out.{side}"]] = 1.35 + 0.85 * np.sin(2 * np.pi * own * t + phase)
        out[:, INDEX[f"swing.{side}"]] = 0.5 + 0.5 * np.sin(np.pi * own * t + rng.uniform(0, 6))
        out[:, INDEX[f"elbow.{side}"]] = 0.6 + 0.4 * np.sin(2 * np.pi * own * t + phase - 0.9)
        out[:, INDEX[f"wrist.{side}"]] = 0.3 * np.sin(2 * np.pi * own * t + phase - 1.6)
    out[:, INDEX["torso_yaw"]] += 0.2 * np.sin(2 * np.pi * 0.6 * t)
    out[:, INDEX["torso_roll"]] += 0.12 * np.sin(2 * np.pi * 0.8 * t + 1)
    return sway(out, rate, rng)


def box(seconds: float, rate: float, rng: np.random.Generator, heading: float = 0.6) -> np.ndarray:
    """[N, C] controls of shadow boxing: guard, quick straight punches and hooks, ducking."""
    guard = {"swing": 0.75, "out": 0.15, "elbow": 2.2, "knee": 0.35, "hip": 0.2, "spread": 0.16,
             "hip.L": 0.4, "hip.R": 0.0, "knee.R": 0.45, "torso_pitch": 0.1, "heading": heading}  # fmt: skip
    blows: list[Pose] = [
        {"swing.L": 1.5, "elbow.L": 0.15, "torso_yaw": -0.45},
        {"swing.R": 1.55, "elbow.R": 0.15, "torso_yaw": 0.6},
        {"out.R": 1.35, "swing.R": 0.9, "elbow.R": 1.35, "torso_yaw": 0.7},
        {"knee": 1.1, "hip": 0.75, "torso_pitch": 0.35, "torso_roll": 0.2},
        {"swing.L": 1.7, "elbow.L": 0.9, "torso_yaw": -0.5, "torso_pitch": -0.05},
    ]
    poses, time = [], -1.6
    while time < seconds + 1.6:
        wander = {"heading": heading + float(rng.normal(0, 0.2))}
        poses.append((time, {**guard, **wander}))
        time += float(rng.uniform(0.14, 0.26))
        poses.append((time, {**guard, **blows[rng.integers(len(blows))], **wander}))
        time += float(rng.uniform(0.16, 0.22))
    return sway(through(poses, seconds, rate), rate, rng)


def lunge(seconds: float, rate: float, rng: np.random.Generator, heading: float = 0.7) -> np.ndarray:
    """[N, C] controls of deep lunges to either side of the room, arms following, a bow between them."""
    deep: Pose = {"hip.L": 1.25, "knee.L": 1.45, "hip.R": -0.25, "knee.R": 0.55, "sole.R": 0.7, "swing": 1.3,
                  "elbow": 0.3, "heading": heading}  # fmt: skip
    bow: Pose = {"torso_pitch": 0.7, "pitch": 0.35, "hip": 0.35, "knee": 0.15, "swing": 0.9, "head_pitch":
    0.3,
                 "heading": heading}  # fmt: skip
    stand: Pose = {"heading": heading}
    poses, time, order = [], -1.3, [deep, stand, bow, stand, {**mirrored(deep), "heading": heading}, stand]
    first = int(rng.integers(len(order)))
    while time < seconds + 1.4:
        poses.append((time, order[first % len(order)]))
        first += 1
        time += float(rng.uniform(0.6, 0.75))
    return sway(through(poses, seconds, rate), rate, rng)


def jumping_jacks(seconds: float, rate: float, rng: np.random.Generator) -> np.ndarray:
    """[N, C] controls of jumping jacks, a good one a second."""
    t = sample_times(seconds, rate)
    phase = 2 * np.pi * 1.15 * t + rng.uniform(0, 6)
    wide = 0.5 - 0.5 * np.cos(phase)
    out = np.tile(controls({}), (len(t), 1))
    for side in "LR":
        out[:, INDEX[f"out.{side}"]] = 0.2 + 2.5 * wide
        out[:, INDEX[f"elbow.{side}"]] = 0.3
        out[:, INDEX[f"spread.{side}"]] = 0.02 + 0.33 * wide
        bend = np.maximum(np.cos(2 * phase), 0)
        out[:, INDEX[f"knee.{side}"]] = 0.15 + 0.35 * bend
        out[:, INDEX[f"hip.{side}"]] = 0.08 + 0.2 * bend
    out[:, INDEX["jump"]] = 0.09 * np.maximum(-np.cos(2 * phase), 0)
    out[:, INDEX["heading"]] = rng.uniform(-0.4, 0.4)
    return sway(out, rate, rng)


def hands_on_body(seconds: float, rate: float, rng: np.random.Generator) -> np.ndarray:
    """[N, C] controls that keep limbs within centimeters of the body and of each other: arms folded, brushing
    the belly and thighs, knees together."""
    close = [
        {"swing": 0.25, "out": 0.12, "elbow": 1.5, "twist": 0.9},
        {"swing": 0.55, "out": -0.05, "elbow": 1.9, "twist": 0.6},
        {"swing.L": 0.75, "elbow.L": 2.1, "out.L": 0.0, "twist.L": 0.5, "swing.R": 0.15, "elbow.R": 1.2,
         "out.R": 0.1, "twist.R": 0.9},
        {"swing": 0.35, "out": 0.05, "elbow": 0.25, "torso_pitch": 0.5, "pitch": 0.1, "knee": 0.4,
         "hip": 0.4},
        {"swing": 0.05, "out": 0.06, "elbow": 0.15, "spread": -0.08},
    ]  # fmt: skip
    order = rng.permutation(len(close))
    poses = [(float(time), {"spread": -0.06, "torso_yaw": float(rng.normal(0, 0.15)), **close[order[i % 5]]})
             for i, time in enumerate(np.arange(-1.4, seconds + 1.5, 0.62))]  # fmt: skip
    out = through(poses, seconds, rate)
    out[:, INDEX["heading"]] += rng.uniform(-0.5, 0.5) + 0.25 * np.sin(1.5 * sample_times(seconds, rate))
    return sway(out, rate, rng)


def _sole_places(body: Body, parameters: PoseParameters) -> np.ndarray:
    """[N, K, 3] heel, ball and toe of both feet; the hips are at the origin."""
    rest = body.template + np.tensordot(parameters.shape, body.shape_directions, 1)
    joints = body.joints + np.tensordot(parameters.shape, body.joint_directions, 1)
    pose = parameters.posed(body)
    positions = []
    for side in "LR":
        joint = JOINTS.index(f"foot.{side}")
        foot = np.nonzero(body.weights[:, joint] > 0.95)[0]
        floor = foot[rest[foot, 2] < rest[foot, 2].min() + 0.012]
        order = floor[np.argsort(rest[floor, 1])]
        for vertex in (order[0], order[len(order) // 3], order[-1]):
            positions.append(
                pose.positions[:, joint]
                + np.einsum("tab,b->ta", pose.rotations[:, joint], rest[vertex] - joints[joint])
            )
    return np.stack(positions, axis=1)


def _turn_to(start: np.ndarray, aim: np.ndarray) -> Rotation:
    """The smallest rotations that take a unit vector [3] to unit vectors [N, 3]."""
    axis = np.cross(start, aim)
    sine = np.linalg.norm(axis, axis=1, keepdims=True)
    angle = np.arctan2(sine, (aim @ start)[:, None])
    return Rotation.from_rotvec(axis / np.maximum(sine, 1e-9) * angle)


def _unit(vector: np.ndarray) -> np.ndarray:
    return vector / np.linalg.norm(vector)
