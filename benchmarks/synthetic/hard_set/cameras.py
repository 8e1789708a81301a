"""Cameras of the hard set: that whip, follow, and shake in the hand."""

from __future__ import annotations

import numpy as np
from scipy.interpolate import PchipInterpolator
from scipy.ndimage import gaussian_filter1d

from benchmarks.synthetic.renderer import CameraPath


def aimed(positions: np.ndarray, targets: np.ndarray, focal: float, jolts: np.ndarray) -> CameraPath:
    """A camera at positions [T, 3] that looks at targets [T, 3] (world, meters), turned by `jolts` [T, 3] (radians)."""
    x, y, z = (targets - positions).T
    angles = np.stack([np.arctan2(x, y), np.arctan2(z, np.hypot(x, y)), 0 * x], axis=1)
    return CameraPath(positions, angles + jolts, np.full(len(positions), focal))


def jolted(rng: np.random.Generator, num_frames: int, pixels: float, focal: float, quick: float) -> np.ndarray:
    """[T, 3] radians by which a hand turns a camera: `pixels` (standard deviation) aside, `quick` frames a jolt."""
    noise = gaussian_filter1d(rng.normal(size=(num_frames, 3)), quick, axis=0, mode="wrap")
    return noise * [1.0, 0.9, 0.6] * (pixels / focal / noise.std())


def through_places(num_frames: int, places: list[tuple[int, tuple[float, float, float]]]) -> np.ndarray:
    """[T, 3] a smooth path through (frame, place), which stands still between equal places."""
    frames, positions = zip(*places, strict=True)
    curve = PchipInterpolator(frames, np.array(positions), axis=0)
    return curve(np.clip(np.arange(num_frames), frames[0], frames[-1]))
