"""One person's meshes over a clip, which every mesh source gives."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from anthrotap_builder.bodies.body import BodyPose


@dataclass(frozen=True)
class MeshTrack:
    """One person's meshes over a clip.

    Attributes:
        person: index of the person in the clip.
        vertices: [T, V, 3] float32, camera coordinates, meters; NaN where there is no valid mesh.
        present: [T] bool, frames with a valid mesh.
        reprojection_error: [T] float, median distance of the mesh's keypoints from reliable landmarks, pixels; NaN
            where there are none.
        mask_overlap: [T] float, intersection over union of the mesh's outline and the person's mask; NaN where there
            is none.
        pose: what the vertices were made from if that is a body, as it is; any value in frames that are not present.
        recovered: [T] bool, frames in which the source had a mesh, valid or not; the present ones if left out.
        off_mask: [T] bool, present frames in which the person has no mask, or a wrong one, that the mesh could lie on;
            none if left out.
        segment: [T] int: labels of frames with different numbers do not belong to one track, since the mesh may have
            turned its front into its back between them; all the same if left out.
    """

    person: int
    vertices: np.ndarray
    present: np.ndarray
    reprojection_error: np.ndarray
    mask_overlap: np.ndarray
    pose: BodyPose | None = None
    recovered: np.ndarray | None = None
    off_mask: np.ndarray | None = None
    segment: np.ndarray | None = None

    @property
    def rejected(self) -> np.ndarray:
        """[T] bool: frames whose mesh was recovered and is not valid."""
        return np.zeros_like(self.present) if self.recovered is None else self.recovered & ~self.present
