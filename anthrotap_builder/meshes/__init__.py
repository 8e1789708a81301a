"""Per person and frame a body mesh in camera coordinates."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import cv2
import numpy as np
from threadpoolctl import threadpool_limits

from anthrotap_builder.bodies import Body
from anthrotap_builder.bodies.body import BodyPose
from anthrotap_builder.config import LabelingConfig
from anthrotap_builder.people import PersonTrack, masks_of
from anthrotap_builder.projection import Camera


@dataclass(frozen=True)
class MeshTrack:
    """One person's meshes over a clip.

    Attributes:
        person: index of the person in the clip.
        vertices: [T, V, 3] float32, camera coordinates, metres; NaN where there is no trusted mesh.
        present: [T] bool, frames with a trusted mesh.
        reprojection_error: [T] float, median distance of the mesh's keypoints from believed landmarks, pixels; NaN
            where there are none.
        mask_overlap: [T] float, intersection over union of the mesh's outline and the person's mask; NaN where there
            is none.
        pose: what the vertices were made from, where that is a body; anything in frames that are not present.
    """

    person: int
    vertices: np.ndarray
    present: np.ndarray
    reprojection_error: np.ndarray
    mask_overlap: np.ndarray
    pose: BodyPose | None = None


def fit_meshes(
    people: list[PersonTrack],
    frames: np.ndarray,
    body: Body,
    camera: Camera,
    fps: float,
    config: LabelingConfig,
    threads: int = 2,
) -> list[MeshTrack]:
    """The open default: fits `body` to each person's landmarks, mask and flow; refuses frames where the fit is bad."""
    from anthrotap_builder.meshes.fit import fit_body  # numba: only where it is used

    if not people:
        return []
    settings, masks = config.fit, masks_of(people)
    everyone = np.any(masks, axis=0)

    inner = max(1, threads // len(people))

    def fit(index: int) -> MeshTrack:
        person, mask = people[index], masks[index]
        result = fit_body(body, person, everyone, frames, camera, fps, settings, config.flow, inner)
        pose = result.parameters.posed(body)
        vertices = body.pose_vertices(pose)
        overlap = mask_overlap(camera.project(vertices), mask, everyone & ~mask)
        with np.errstate(invalid="ignore"):
            good = result.reprojection_error <= settings.max_reprojection_error * result.size[:, 0]
        present = person.found & good & (overlap >= settings.min_mask_overlap)
        if present.sum() < (1 - settings.max_refused) * person.found.sum():
            present[:] = (
                False  # a body that fits so seldom is no body: a coat, a statue's shadow, two people in one
            )
        vertices[~present] = np.nan
        return MeshTrack(index, vertices, present, result.reprojection_error, overlap, pose)

    # One BLAS thread: the solve is many small steps, which several threads slow down five times (FACTS).
    with threadpool_limits(1, "blas"), ThreadPoolExecutor(threads) as pool:
        return list(pool.map(fit, range(len(people))))


MESH_SOURCES: dict[str, Callable[..., list[MeshTrack]]] = {"fit": fit_meshes}


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
