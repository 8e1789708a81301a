"""Mesh recovery: a body mesh in camera coordinates for each person and frame, by a mesh source or from a file."""

from __future__ import annotations

from typing import Protocol

from anthrotap_builder.bodies import Body
from anthrotap_builder.context import ClipContext
from anthrotap_builder.detection import PersonTrack
from anthrotap_builder.mesh_recovery.masks import reject_off_mask
from anthrotap_builder.mesh_recovery.track import MeshTrack
from anthrotap_builder.registries import MESH_SOURCES


class MeshSource(Protocol):
    """A function in `registries.MESH_SOURCES`."""

    def __call__(self, context: ClipContext, people: list[PersonTrack]) -> list[MeshTrack]:
        """Recover the meshes of the people; `MeshTrack.person` is the index in `people`."""
        ...


def recover_meshes(
    context: ClipContext, people: list[PersonTrack], given: list[MeshTrack] | None = None
) -> list[MeshTrack]:
    """Recover the meshes of all people over a clip, by the mesh source of the configuration.

    Args:
        context: the clip.
        people: who was detected, by index as in the meshes' `person`.
        given: meshes that come from a file, instead of a source.
    """
    config, meshes = context.config, given
    if meshes is None:
        source: MeshSource = MESH_SOURCES.load(config.mesh_source)
        meshes = source(context, people)
    if config.refine and isinstance(context.body, Body):
        from anthrotap_builder.mesh_recovery.refine import refine_meshes

        meshes = refine_meshes(context, meshes, people)
    # The fit rejects frames off the mask by itself.
    if config.filter.masks and config.mesh_source != "fit":
        meshes = reject_off_mask(meshes, people, context.camera)
    return meshes


__all__ = ["MeshSource", "MeshTrack", "recover_meshes"]
