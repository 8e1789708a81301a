"""Meshes against the masks of detected people: how well they overlap, and which mesh is whose."""

from __future__ import annotations

import logging
from dataclasses import replace

import cv2
import numpy as np
from scipy.optimize import linear_sum_assignment

from anthrotap_builder.detection import PersonTrack, person_masks, union_mask
from anthrotap_builder.geometry.camera import Camera
from anthrotap_builder.mesh_recovery.track import MeshTrack

logger = logging.getLogger(__name__)

# Intersection over union of mesh and mask below which a frame's mesh is rejected.
MIN_OVERLAP = 0.45
# Cells along a person, of the grid that outlines of meshes are drawn on: so coarse that vertices leave no holes.
OUTLINE_CELLS = 64
# Mean overlap from which a mesh of a file and a detected person may be the same, and how many frames are compared.
MIN_MATCH_OVERLAP = 0.1
MATCHED_FRAMES = 12


def reject_off_mask(meshes: list[MeshTrack], people: list[PersonTrack], camera: Camera) -> list[MeshTrack]:
    """Remove the frames in which a mesh does not lie on its person's mask."""
    masks, people_mask = person_masks(people), union_mask(people)
    kept = []
    for mesh in meshes:
        mask = masks[mesh.person]
        overlap = mask_overlap(camera.project(mesh.vertices), mask, people_mask & ~mask)
        present = mesh.present & (overlap >= MIN_OVERLAP)
        vertices = np.where(present[:, None, None], mesh.vertices, np.float32(np.nan))
        kept.append(replace(mesh, vertices=vertices, present=present, mask_overlap=overlap, recovered=mesh.present))
    return kept


def mask_overlap(vertices_xy: np.ndarray, mask: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Compute the intersection over union of a mesh's outline and a mask, on a coarse grid.

    Args:
        vertices_xy: [T, V, 2] float, raster pixels, NaN where behind the camera.
        mask: [T, H, W] bool, the person's pixels.
        others: [T, H, W] bool, pixels of other people, which are left out: they may hide this person.

    Returns:
        [T] float64, NaN in frames without a mask.
    """
    height, width = mask.shape[1:]
    overlap = np.full(len(mask), np.nan)
    for t, xy in enumerate(vertices_xy):
        rows, columns = np.flatnonzero(mask[t].any(1)), np.flatnonzero(mask[t].any(0))
        if not len(rows):
            continue
        step = max(1, round(max(np.ptp(rows), np.ptp(columns)) / OUTLINE_CELLS))
        mesh = _outline(xy, step, (height, width))
        # Masks are sampled at the center of each cell.
        center = slice(step // 2, None, step)
        own, other = mask[t, center, center], others[t, center, center]
        outline = mesh[: own.shape[0], : own.shape[1]] & ~other
        overlap[t] = (outline & own).sum() / max((outline | own).sum(), 1)
    return overlap


def _outline(xy: np.ndarray, step: int, size: tuple[int, int]) -> np.ndarray:
    """Return which cells of `step` pixels a mesh covers: [H // step + 1, W // step + 1] bool.

    Args:
        xy: [V, 2] float, its vertices in raster pixels, NaN where behind the camera.
        step: so large that vertices leave no holes.
        size: H and W of the frame.
    """
    shape = (size[0] // step + 1, size[1] // step + 1)
    cells = np.nan_to_num(xy / step, nan=-1)
    cells = cells[((cells >= 0) & (cells < shape[::-1])).all(1)].astype(int)
    mesh = np.zeros(shape, np.uint8)
    mesh[cells[:, 1], cells[:, 0]] = 1
    return cv2.morphologyEx(mesh, cv2.MORPH_CLOSE, np.ones((3, 3), np.uint8)).astype(bool)


def fill_masks(people: list[PersonTrack], meshes: list[MeshTrack], camera: Camera) -> list[PersonTrack]:
    """Put the outline of each mesh, where no one else is, in the place of masks that are missing or wrong.

    Each pixel stays one person's: that of a mask that is right, else that of the nearest of the meshes.

    Args:
        people: with masks.
        meshes: whose `off_mask` names the frames.
        camera: that they are projected with.

    Returns:
        The people; those with such frames have another mask.
    """
    masks = {mesh.person: person_masks(people)[mesh.person].copy() for mesh in meshes if _is_off(mesh).any()}
    for t in np.flatnonzero(np.any([_is_off(mesh) for mesh in meshes], axis=0)).tolist():
        off = {mesh.person: mesh.vertices[t] for mesh in meshes if _is_off(mesh)[t]}
        right = [person.mask[t] for index, person in enumerate(people) if index not in off and person.mask is not None]
        taken = np.any([np.zeros((camera.height, camera.width), bool), *right], axis=0)
        for index, vertices in sorted(off.items(), key=lambda one: float(np.nanmedian(one[1][:, 2]))):
            xy = camera.project(vertices)
            step = max(1, round(float(np.nanmax(np.nanmax(xy, 0) - np.nanmin(xy, 0))) / OUTLINE_CELLS))
            coarse = _outline(xy, step, (camera.height, camera.width))
            outline = np.repeat(np.repeat(coarse, step, 0), step, 1)[: camera.height, : camera.width]
            masks[index][t] = outline & ~taken
            taken |= outline
    return [replace(person, mask=masks.get(index, person.mask)) for index, person in enumerate(people)]


def _is_off(mesh: MeshTrack) -> np.ndarray:
    """[T] bool, `MeshTrack.off_mask`, or none."""
    return np.zeros_like(mesh.present) if mesh.off_mask is None else mesh.off_mask


def match_masks(meshes: list[MeshTrack], people: list[PersonTrack], camera: Camera) -> list[PersonTrack]:
    """Order detected people as meshes of a file number them, by the overlap of mesh and mask.

    Returns:
        Entry p is person p of the meshes, with an empty mask if no detected person overlaps it; people without a mesh
        follow.
    """
    masks = person_masks(people)
    shape = len(meshes[0].present), camera.height, camera.width
    people_mask = union_mask(people) if people else np.zeros(shape, bool)
    frames = np.linspace(0, len(people_mask) - 1, min(len(people_mask), MATCHED_FRAMES)).astype(int)
    overlap = np.zeros((len(meshes), len(people)))
    for row, mesh in enumerate(meshes):
        xy = camera.project(mesh.vertices[frames])
        for column, mask in enumerate(masks):
            found = mask_overlap(xy, mask[frames], (people_mask & ~mask)[frames])
            found = found[mesh.present[frames] & np.isfinite(found)]
            overlap[row, column] = found.mean() if len(found) else 0.0
    # The assignment with the largest sum of overlaps (Hungarian method).
    rows, columns = linear_sum_assignment(-overlap)
    owner = {
        meshes[row].person: int(column)
        for row, column in zip(rows, columns, strict=True)
        if overlap[row, column] >= MIN_MATCH_OVERLAP
    }
    unmatched = [mesh.person for mesh in meshes if mesh.person not in owner]
    if unmatched:
        logger.warning(
            "no detected person overlaps the meshes of person %s: their labels are rejected (filter.masks: false keeps "
            "them without a mask)",
            ", ".join(map(str, unmatched)),
        )
    empty = PersonTrack(np.full((len(people_mask), 4), np.nan, np.float32), mask=np.zeros_like(people_mask))
    numbered = [
        people[owner[person]] if person in owner else empty for person in range(max(mesh.person for mesh in meshes) + 1)
    ]
    return numbered + [person for column, person in enumerate(people) if column not in owner.values()]
