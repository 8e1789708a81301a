"""How the clips of the tracking set are filmed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter1d

from benchmarks.synthetic.renderer import CameraPath

# Side of a frame, pixels: what TAP-Vid is scored at.
SIDE = 256
FRAMES = 48


@dataclass(frozen=True)
class CameraSettings:
    """How a clip of the tracking set is filmed.

    Attributes:
        num_frames, fps: its length and speed.
        shutter: fraction of a frame's time that the shutter is open.
        noise: of the sensor, of 255 levels.
        crf: how hard H.264 compresses it; None for not at all.
    """

    num_frames: int = FRAMES
    fps: float = 24.0
    shutter: float = 0.2
    noise: float = 1.5
    crf: int | None = 23

    @property
    def seconds(self) -> float:
        return self.num_frames / self.fps


@dataclass(frozen=True)
class CameraMotion:
    """How the camera of a clip moves.

    Attributes:
        position: in the world in the middle of the clip, meters.
        tilt: radians upwards.
        focal: in the middle of the clip, pixels.
        pan: radians around the direction +y, over the clip.
        move: meters over the clip.
        zoom: factor over the clip.
        shake: standard deviation, pixels.
    """

    position: tuple[float, float, float] = (0.0, -4.8, 1.15)
    tilt: float = -0.05
    focal: float = 520.0
    pan: float = 0.0
    move: tuple[float, float, float] = (0.0, 0.0, 0.0)
    zoom: float = 1.0
    shake: float = 0.0

    def path(self, rng: np.random.Generator, settings: CameraSettings) -> CameraPath:
        """Make the camera of each frame; `rng` decides the shake."""
        t = np.linspace(0, 1, settings.num_frames)
        eased = t * t * (3 - 2 * t)
        positions = np.array(self.position) + (eased[:, None] - 0.5) * np.array(self.move)
        noise = gaussian_filter1d(rng.normal(size=(settings.num_frames, 3)), 2.5, axis=0, mode="wrap")
        noise *= self.shake / self.focal / noise.std()
        angles = np.stack(
            [(eased - 0.5) * self.pan + noise[:, 0], self.tilt + 0.7 * noise[:, 1], 0.6 * noise[:, 2]], axis=1
        )
        return CameraPath(positions, angles, self.focal * self.zoom ** (eased - 0.5))
