"""What every stage of labeling needs to know of the clip at hand."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from anthrotap_builder.bodies import Body, MeshSurface, load_body
from anthrotap_builder.config import LabelingConfig
from anthrotap_builder.geometry.camera import Camera

if TYPE_CHECKING:
    from anthrotap_builder.mesh_recovery.mesh_file import MeshFile


@dataclass(frozen=True, eq=False)
class ClipContext:
    """A clip, and how it is labeled.

    Attributes:
        frames: [T, H, W, 3] uint8 RGB, one shot without cuts.
        fps: frames a second.
        camera: that all meshes of the clip are projected with.
        body: the body model; or the surface that a file of meshes has, which can only be posed as it is there.
        config: everything that changes a label.
        threads: how many frames are worked on at once; no result depends on it.
        device: where networks of torch run, as torch names it ("cuda").
    """

    frames: np.ndarray
    fps: float
    camera: Camera
    body: Body | MeshSurface
    config: LabelingConfig
    threads: int = 2
    device: str = "cpu"

    @classmethod
    def of(
        cls,
        frames: np.ndarray,
        fps: float,
        config: LabelingConfig | None = None,
        threads: int = 2,
        device: str = "cpu",
        meshes: MeshFile | None = None,
    ) -> ClipContext:
        """Guess the camera and load the body that the configuration names; both come from `meshes` if it is given.

        Raises:
            ValueError: `frames` is not [T, H, W, 3] uint8, or is empty, or `fps` or `threads` is not positive.
        """
        config = config or LabelingConfig()
        if frames.ndim != 4 or frames.shape[3] != 3 or frames.dtype != np.uint8 or not frames.size:
            raise ValueError(f"frames must be [T, H, W, 3] uint8 and not empty, got {frames.shape} {frames.dtype}")
        if not fps > 0:
            raise ValueError(f"fps must be positive, got {fps}")
        if threads < 1:
            raise ValueError(f"threads must be at least 1, got {threads}")
        height, width = frames.shape[1:3]
        of_body = config.body, config.gender, config.body_file
        body: Body | MeshSurface
        if meshes is None:
            camera, body = Camera.guess(width, height, config.focal_ratio), load_body(*of_body)
        else:
            camera, body = meshes.camera(width, height), meshes.surface(*of_body)
        return cls(frames, fps, camera, body, config, threads, device)

    @property
    def body_model(self) -> Body:
        """The body. Raises ValueError if it is a surface, which cannot be posed."""
        if not isinstance(self.body, Body):
            raise ValueError(f"{self.body.name} is a surface without a pose: it cannot be fitted")
        return self.body

    @property
    def unit(self) -> float:
        """Pixels of this clip for one of a frame with a short side of 256, which thresholds are given in."""
        return min(self.camera.height, self.camera.width) / 256
