"""Contexts of clips for tests of single stages."""

from __future__ import annotations

import numpy as np

from anthrotap_builder.bodies import Body, MeshSurface
from anthrotap_builder.config import LabelingConfig
from anthrotap_builder.context import ClipContext
from anthrotap_builder.geometry.camera import Camera

TRIANGLE = MeshSurface("mesh", np.eye(3, dtype=np.float32), np.array([[0, 1, 2]], np.int32))


def clip_context(
    frames: np.ndarray,
    surface: Body | MeshSurface = TRIANGLE,
    camera: Camera | None = None,
    fps: float = 24.0,
    threads: int = 2,
    **settings: object,
) -> ClipContext:
    """A clip whose body and camera are given: stages that need no body get one triangle."""
    camera = camera or Camera.guess(frames.shape[2], frames.shape[1], 1.2)
    return ClipContext(frames, fps, camera, surface, LabelingConfig(**settings), threads)
