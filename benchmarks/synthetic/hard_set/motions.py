"""What single people of the hard set do: stand in a crowd, turn their back, glide past."""

from __future__ import annotations

import numpy as np
from scipy.interpolate import PchipInterpolator
from scipy.ndimage import gaussian_filter1d

from anthrotap_builder.bodies import load_body
from benchmarks.synthetic import motion
from benchmarks.synthetic.clip_spec import RATE
from benchmarks.synthetic.hard_set.touch import PlacedMotion, standing_height
from benchmarks.synthetic.motion import ARMS, INDEX, Pose

# What the arms of bystanders do.
BYSTANDERS: dict[str, Pose] = {
    "clap": {"swing": 0.85, "out": -0.05, "elbow": 1.6, "twist": 0.3},
    "folded": {"swing": 0.3, "out": 0.1, "elbow": 1.9, "twist": 1.0},
    "hips": ARMS["hips"],
    "down": {},
    "phone": {"swing.R": 1.0, "out.R": 0.0, "elbow.R": 1.7, "twist.R": 0.4, "head_pitch": 0.35},
    "cheer": ARMS["up"],
}


def stand(seconds: float, rng: np.random.Generator, heading: float, doing: str) -> np.ndarray:
    """[N, C] controls of a bystander who shifts his weight; `doing` is one of `BYSTANDERS`."""
    t = motion.sample_times(seconds, RATE)
    first, second = BYSTANDERS[doing], {"roll": float(rng.normal(0, 0.03)), "torso_yaw": float(rng.normal(0, 0.2))}
    weight = {"knee.L": 0.3, "hip.L": 0.2} if rng.random() < 0.5 else {"knee.R": 0.3, "hip.R": 0.2}
    middle = float(rng.uniform(0.5, seconds - 0.5))
    out = motion.through(
        [(-1.5, first), (middle, {**first, **second, **weight}), (seconds + 1.5, first)], seconds, RATE
    )
    beat = np.sin(2 * np.pi * rng.uniform(1.4, 2.1) * t + rng.uniform(0, 6))
    if doing in ("clap", "cheer"):
        for side in "LR":
            out[:, INDEX[f"out.{side}"]] += 0.2 * beat
            out[:, INDEX[f"knee.{side}"]] += 0.08 * (1 + beat)
            out[:, INDEX[f"hip.{side}"]] += 0.04 * (1 + beat)
    out[:, INDEX["heading"]] = heading
    out[:, INDEX["head_yaw"]] += gaussian_filter1d(rng.normal(size=len(t)), 0.4 * RATE) * 6
    return motion.sway(out, RATE, rng, 0.03)


def turn_back(seconds: float, rng: np.random.Generator, headings: list[tuple[float, float]]) -> np.ndarray:
    """[N, C] controls of somebody who gestures, and steps on the spot to turn through headings (time, radians)."""
    t = motion.sample_times(seconds, RATE)
    names = ["down", "hips", "front", "cheer.L", "side", "swing.L", "flex"]
    poses: list[tuple[float, Pose]] = [
        (float(time), ARMS[str(rng.choice(names))]) for time in np.arange(-1.4, seconds + 1.5, 0.75)
    ]
    out = motion.through(poses, seconds, RATE)
    times, values = zip(*headings, strict=True)
    heading = PchipInterpolator(times, values)(np.clip(t, times[0], times[-1]))
    speed = np.clip(np.abs(np.gradient(heading, t)) / 2, 0, 1)
    for side, shift in (("L", 0.0), ("R", np.pi)):
        lifted = speed * np.exp(2.5 * (np.cos(2 * np.pi * 1.6 * t + shift) - 1))
        out[:, INDEX[f"knee.{side}"]] += 0.6 * lifted
        out[:, INDEX[f"hip.{side}"]] += 0.4 * lifted
    out[:, INDEX["heading"]] = heading
    return motion.sway(out, RATE, rng)


def glide(seconds: float, rng: np.random.Generator, shape: np.ndarray, start: tuple[float, float],
          end: tuple[float, float]) -> PlacedMotion:  # fmt: skip
    """Somebody who glides over the floor, as on skates, from one place (x, y) to another in `seconds`."""
    t = motion.sample_times(seconds, RATE)
    heading = float(np.arctan2(end[0] - start[0], start[1] - end[1]))
    low: Pose = {"knee": 0.75, "hip": 0.6, "torso_pitch": 0.35, "pitch": 0.15, "heading": heading}
    push: Pose = {**low, "spread.L": 0.45, "knee.L": 0.25, "hip.L": 0.25, "swing.L": 0.9, "swing.R": -0.7, "out": 0.4}
    spin: Pose = {**low, **ARMS["side"], "torso_yaw": 0.4, "torso_pitch": 0.1}
    poses: list[tuple[float, Pose]] = []
    for i, time in enumerate(np.arange(-1.4, seconds + 1.5, 0.5)):
        pose = motion.mirrored(push) | {"heading": heading} if i % 2 else push
        poses.append((float(time), spin if rng.random() < 0.25 else pose))
    controls = motion.sway(motion.through(poses, seconds, RATE), RATE, rng)
    path = np.zeros((len(t), 3))
    path[:, :2] = np.array(start) + np.outer(t / seconds, np.subtract(end, start))
    path[:, 2] = standing_height(load_body("anny"), controls, shape)
    return PlacedMotion(controls, RATE, path=path)
