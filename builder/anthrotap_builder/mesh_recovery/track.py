"""One person's meshes over a clip, and whether they lie where the person is."""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np

from anthrotap_builder.bodies.body import BodyPose
from anthrotap_builder.config import FitSettings
from anthrotap_builder.detection import PersonTrack, anyone, masks_of
from anthrotap_builder.geometry.camera import Camera


@dataclass(frozen=True)
class MeshTrack:
    """One person's meshes over a clip.

    Attributes:
        person: index of the person in the clip.
        vertices: [T, V, 3] float32, camera coordinates, meters; NaN where there is no trusted mesh.
        present: [T] bool, frames with a trusted mesh.
        reprojection_error: [T] float, median distance of the mesh's keypoints from believed landmarks, pixels; NaN
            where there are none.
        mask_overlap: [T] float, intersection over union of the mesh's outline and the person's mask; NaN where there
            is none.
        given: [T] bool, frames in which the source had a mesh, trusted or not; the present ones if left out.
        pose: what the vertices were made from, where that is a body; anything in frames that are not present.
    """

    person: int
    vertices: np.ndarray
    present: np.ndarray
    reprojection_error: np.ndarray
    mask_overlap: np.ndarray
    pose: BodyPose | None = None
    given: np.ndarray | None = None

    @property
    def refused(self) -> np.ndarray:
        """[T] bool: frames whose mesh is not trusted."""
        return np.zeros_like(self.present) if self.given is None else self.given & ~self.present


def refuse_off_mask(
    meshes: list[MeshTrack], people: list[PersonTrack], camera: Camera, settings: FitSettings
) -> list[MeshTrack]:
    """The meshes without the frames in which a mesh does not lie on its person's mask."""
    masks = masks_of(people)
    everyone = anyone(people)
    kept = []
    for mesh in meshes:
        mask = masks[mesh.person]
        overlap = mask_overlap(camera.project(mesh.vertices), mask, everyone & ~mask)
        present = mesh.present & (overlap >= settings.min_mask_overlap)
        vertices = np.where(present[:, None, None], mesh.vertices, np.float32(np.nan))
        kept.append(
            replace(mesh, vertices=vertices, present=present, mask_overlap=overlap, given=mesh.present)
        )
    return kept


def mask_overlap(vertices_xy: np.ndarray, mask: np.ndarray, others: np.ndarray) -> np.ndarray:
    """[T] float64: intersection over union of a mesh's outline and a mask, on a coarse grid; NaN without a mask.

    Args:
        vertices_xy: [T, V, 2] float, raster pixels, NaN where behind the camera.
        mask: [T, H, W] bool, the person's pixels.
        others: [T, H, W] bool, pixels of other people, which say nothing about this one.
    """
    height, width = mask.shape[1:]
    overlap = np.full(len(mask), np.nan)
    for t, xy in enumerate(vertices_xy):
        rows, columns = np.flatnonzero(mask[t].any(1)), np.flatnonzero(mask[t].any(0))
        if not len(rows):
            continue
        # So coarse that vertices leave no holes: about 64 cells along the person.
        step = max(1, round(max(np.ptp(rows), np.ptp(columns)) / 64))
        shape = (height // step + 1, width // step + 1)
        cells = np.nan_to_num(xy / step, nan=-1)
        cells = cells[((cells >= 0) & (cells < shape[::-1])).all(1)].astype(int)
        mesh = np.zeros(shape, np.uint8)
        mesh[cells[:, 1], cells[:, 0]] = 1
        mesh = cv2.morphologyEx(mesh, cv2.MORPH_CLOSE, np.ones((3, 3), np.uint8))
        middle = slice(step // 2, None, step)  # of each cell
        own, other = mask[t, middle, middle], others[t, middle, middle]
        mesh = mesh[: own.shape[0], : own.shape[1]].astype(bool)
        mesh &= ~other
        overlap[t] = (mesh & own).sum() / max((mesh | own).sum(), 1)
    return overlap
