"""The clip of the README: two people dance in a room. It is our own rendering, so that it is free to use."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from anthrotap_hf.video import write_video
from benchmarks.synthetic.clothing import (
    CLOTH_COLORS,
    HAIR_COLORS,
    SKIN_TONES,
    TROUSER_COLORS,
    Clothing,
)
from benchmarks.synthetic.motion import Motion, dance
from benchmarks.synthetic.renderer import (
    Actor,
    CameraPath,
    RenderedClip,
    Scene,
    render_scene,
)
from benchmarks.synthetic.room import build_room

DEMO_FRAMES = 96
# Motion samples a second.
RATE = 192.0


def demo_scene(num_frames: int = DEMO_FRAMES, seed: int = 6) -> Scene:
    """Make a scene of two dancers in a studio, with a slowly moving camera."""
    rng = np.random.default_rng(seed)
    seconds = num_frames / 24
    left = Clothing(
        shirt="plaid", shirt_colors=(CLOTH_COLORS[0], (0.2, 0.05, 0.06), CLOTH_COLORS[2]),
        trousers=TROUSER_COLORS[0], skin=SKIN_TONES[3], hair=HAIR_COLORS[0], sleeves="long",
    )  # fmt: skip
    right = Clothing(
        shirt="stripes", shirt_colors=(CLOTH_COLORS[2], CLOTH_COLORS[1], CLOTH_COLORS[3]),
        trousers=TROUSER_COLORS[1], skin=SKIN_TONES[1], hair=HAIR_COLORS[2], long_hair=True, decal="TAP",
    )  # fmt: skip
    tall, small = (
        np.array([0.3, 1.0, -0.5, 0.5, 0, 0, 0, 0, 0, 0]),
        np.array([-0.15, -1.0, 0.3, 0, 0, 0, 0, 0, 0, 0]),
    )
    actors = [
        Actor(Motion(dance(seconds, RATE, rng, tempo=1.8), RATE, (-0.75, 0.0), 0.8), tall, left, 1),
        Actor(Motion(dance(seconds, RATE, rng, tempo=1.8), RATE, (0.75, -0.1), 0.8), small, right, 2),
    ]
    t = np.linspace(0, 1, num_frames)
    position = np.stack([0.35 * (t - 0.5), np.full_like(t, -4.8), np.full_like(t, 1.2)], axis=1)
    angles = np.stack([-0.06 * (t - 0.5), np.full_like(t, -0.055), 0 * t], axis=1)
    camera = CameraPath(position, angles, np.full(num_frames, 1000.0))
    return Scene(actors, build_room("studio", seed, cup=True), camera, shutter=0.25, seed=seed)


def demo_clip(path: str | os.PathLike[str], threads: int = 2, crf: int = 21) -> RenderedClip:
    """Render the demo's clip (854x480, 24 frames a second, 4 s), write it as mp4, and return it.

    Args:
        path: the file to write.
        threads: frames rendered at once.
        crf: how hard H.264 compresses it (its constant rate factor).
    """
    clip = render_scene(demo_scene(), threads)
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    write_video(path, clip.frames, clip.fps, crf)
    return clip
