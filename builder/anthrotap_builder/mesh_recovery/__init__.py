"""Per person and frame a body mesh in camera coordinates."""

from __future__ import annotations

from importlib import import_module

import numpy as np

from anthrotap_builder.bodies import Body, MeshSurface
from anthrotap_builder.config import LabelingConfig
from anthrotap_builder.detection import PersonTrack
from anthrotap_builder.geometry.camera import Camera
from anthrotap_builder.mesh_recovery.masks import reject_off_mask
from anthrotap_builder.mesh_recovery.track import MeshTrack

# A mesh source is a module with find_meshes(people, frames, body, camera, fps, config, threads, device), imported
# when asked for.
MESH_SOURCES = {
    "fit": "anthrotap_builder.mesh_recovery.fit",
    "tokenhmr": "anthrotap_builder.mesh_recovery.tokenhmr",
}


def find_meshes(
    people: list[PersonTrack],
    frames: np.ndarray,
    body: Body | MeshSurface,
    camera: Camera,
    fps: float,
    config: LabelingConfig,
    threads: int = 2,
    device: str = "cpu",
    given: list[MeshTrack] | None = None,
) -> list[MeshTrack]:
    """Everyone's meshes over a clip.

    Args:
        people: who was found, by index as in the meshes' `person`.
        frames: [T, H, W, 3] uint8 RGB.
        body: the body model.
        camera: of the clip.
        fps: frames a second.
        config: which source, whether to refine it, whether masks count.
        threads: how many frames are worked on at once; the result does not depend on it.
        device: where networks run, as torch names it.
        given: meshes that come from a file, instead of a source.
    """
    if given is None:
        source = import_module(MESH_SOURCES[config.mesh_source])
        meshes = source.find_meshes(people, frames, body, camera, fps, config, threads, device)
    else:
        meshes = given
    if config.refine and isinstance(body, Body):
        from anthrotap_builder.mesh_recovery.refine import refine_meshes

        meshes = refine_meshes(meshes, people, frames, body, camera, fps, config, threads, device)
    if config.filter.masks and config.mesh_source != "fit":  # which refuses by itself
        meshes = reject_off_mask(meshes, people, camera)
    return meshes


__all__ = ["MESH_SOURCES", "MeshTrack", "find_meshes"]
