"""Per person and frame a body mesh in camera coordinates."""

from __future__ import annotations

from anthrotap_builder.bodies import Body
from anthrotap_builder.context import ClipContext
from anthrotap_builder.detection import PersonTrack
from anthrotap_builder.mesh_recovery.masks import reject_off_mask
from anthrotap_builder.mesh_recovery.track import MeshTrack
from anthrotap_builder.registries import MESH_SOURCES


def recover_meshes(
    context: ClipContext, people: list[PersonTrack], given: list[MeshTrack] | None = None
) -> list[MeshTrack]:
    """Recover the meshes of all people over a clip, by the mesh source of the configuration.

    Args:
        context: the clip.
        people: who was detected, by index as in the meshes' `person`.
        given: meshes that come from a file, instead of a source.
    """
    config = context.config
    meshes = MESH_SOURCES.load(config.mesh_source)(context, people) if given is None else given
    if config.refine and isinstance(context.body, Body):
        from anthrotap_builder.mesh_recovery.refine import refine_meshes

        meshes = refine_meshes(context, meshes, people)
    # The fit rejects by itself.
    if config.filter.masks and config.mesh_source != "fit":
        meshes = reject_off_mask(meshes, people, context.camera)
    return meshes


__all__ = ["MeshTrack", "recover_meshes"]
