"""Who is in front of whom, by the masks: where two meshes overlap in the image, the pixel's owner is nearer.

A body's depth from one camera is rough, and so is its size. Scaling a mesh about the camera changes both and leaves its
image as it is, so each person gets a scale over time with which the depth order agrees with the masks.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations
from typing import NamedTuple

import numpy as np
from scipy.linalg import solveh_banded

from anthrotap_builder.geometry.camera import Camera
from anthrotap_builder.mesh_recovery.masks import OUTLINE_CELLS
from anthrotap_builder.mesh_recovery.track import MeshTrack

# Error of a mesh's depth, and how much it changes in 1/30 second, as logarithms.
SIGMA_SCALE, SIGMA_SCALE_STEP = 0.08, 0.005
# In a pixel of its own a mesh is nearer than the other by this logarithm at least, with this error.
MIN_DEPTH_RATIO, SIGMA_ORDER = 0.015, 0.02
# Overlaps of fewer cells say nothing: masks are a little off.
MIN_CELLS = 12
ITERATIONS = 12


def order_in_depth(meshes: list[MeshTrack], masks: list[np.ndarray], camera: Camera, fps: float) -> list[MeshTrack]:
    """Scale meshes about the camera, so that who is in front agrees with the masks; images do not change.

    Time and memory grow with the number of frames, not with its square. Meshes that are scaled lose their `pose`.

    Args:
        meshes: of all people, with vertices NaN where they are not present.
        masks: of each person, [T, H, W] bool, by `MeshTrack.person`.
        camera: that they are projected with.
        fps: frames a second.
    """
    boxes = [_boxes(mesh, camera) for mesh in meshes]
    overlaps = []
    for i, j in combinations(range(len(meshes)), 2):
        low = np.maximum(boxes[i][:, :2], boxes[j][:, :2]).clip(0)
        high = np.minimum(boxes[i][:, 2:], boxes[j][:, 2:]).clip(None, [camera.width, camera.height])
        # Comparisons with NaN, where a mesh is not present, are false.
        for t in np.flatnonzero((high > low).all(1)).tolist():
            pair = (meshes[i].vertices[t], meshes[j].vertices[t])
            owners = (masks[meshes[i].person][t], masks[meshes[j].person][t])
            overlaps += [_Overlap(t, i, j, *found) for found in _measure(pair, owners, (low[t], high[t]), camera)]
    if not overlaps:
        return meshes
    # Only who overlaps somebody is scaled.
    members = sorted({index for overlap in overlaps for index in (overlap.first, overlap.second)})
    scales = np.exp(_solve(overlaps, members, len(meshes[0].present), fps)).astype(np.float32)
    ordered = list(meshes)
    for index, scale in zip(members, scales, strict=True):
        # A body of another size has no pose that makes it.
        vertices = meshes[index].vertices * scale[:, None, None]
        ordered[index] = replace(meshes[index], vertices=vertices, pose=None)
    return ordered


class _Overlap(NamedTuple):
    """The pixels of one of two people in a frame, where their meshes overlap.

    t: the frame.
    first, second: indices of the meshes.
    ratio: the logarithm of the first mesh's depth over the second's.
    sign: that the ratio should have.
    cells: their number.
    """

    t: int
    first: int
    second: int
    ratio: float
    sign: float
    cells: int


def _boxes(mesh: MeshTrack, camera: Camera) -> np.ndarray:
    """Return [T, 4], left, top, right and bottom of a mesh in the image; NaN where it is not present."""
    boxes = np.full((len(mesh.present), 4), np.nan)
    for t in np.flatnonzero(mesh.present).tolist():
        xy = camera.project(mesh.vertices[t])
        boxes[t] = *np.nanmin(xy, 0), *np.nanmax(xy, 0)
    return boxes


def _measure(
    vertices: tuple[np.ndarray, np.ndarray],
    masks: tuple[np.ndarray, np.ndarray],
    corners: tuple[np.ndarray, np.ndarray],
    camera: Camera,
) -> list[tuple[float, float, int]]:
    """Compare the depths of two meshes where they overlap in a frame.

    Args:
        vertices: of both, [V, 3].
        masks: of both, [H, W] bool.
        corners: left top and right bottom of the box in which both are, [2] raster pixels each.
        camera: that they are projected with.

    Returns:
        Up to two entries, one for the pixels of each: ratio, sign and cells of `_Overlap`.
    """
    low, high = corners
    xy = [camera.project(mesh) for mesh in vertices]
    # Cells as large as in `mask_overlap`, for the smaller mesh.
    step = max(1.0, min(float(np.nanmax(np.ptp(points, axis=0))) for points in xy) / OUTLINE_CELLS)
    columns, rows = (int(v) + 1 for v in (high - low) / step)
    depths = []
    for points, mesh in zip(xy, vertices, strict=True):
        # The nearest vertex of each cell.
        cells = (points - low) / step
        inside = ((cells >= 0) & (cells < [columns, rows])).all(1)
        index = cells[inside].astype(int) @ [1, columns]
        depth = np.full(rows * columns, np.inf)
        np.minimum.at(depth, index, np.log(np.maximum(mesh[inside, 2], 1e-3)))
        depths.append(depth)
    both = np.flatnonzero(np.isfinite(depths[0]) & np.isfinite(depths[1]))
    # Masks at the centers of the cells.
    x = (((both % columns) + 0.5) * step + low[0]).astype(int).clip(0, camera.width - 1)
    y = (((both // columns) + 0.5) * step + low[1]).astype(int).clip(0, camera.height - 1)
    found = []
    for mask, sign in zip(masks, (-1.0, 1.0), strict=True):
        own = both[mask[y, x]]
        if len(own) >= MIN_CELLS:
            found.append((float(np.median(depths[0][own] - depths[1][own])), sign, len(own)))
    return found


def _solve(overlaps: list[_Overlap], members: list[int], frames: int, fps: float) -> np.ndarray:
    """Return the logarithms s of the scales, [len(members), frames].

    They minimize the sum of squares of s / SIGMA_SCALE, of the steps of s over SIGMA_SCALE_STEP, and for each overlap
    of what sign * (ratio + s_first - s_second) lacks to MIN_DEPTH_RATIO, over SIGMA_ORDER. What lacks is found by
    iteration.
    """
    count = len(members)
    size = count * frames
    # Unknowns are ordered by frame, so that the system's matrix is banded: an unknown meets others of its frame and
    # itself in the next one. Row d holds the d-th diagonal below the main one, as scipy has it.
    base = np.zeros((count + 1, size))
    between = fps / 30 / SIGMA_SCALE_STEP**2
    base[0] = 1 / SIGMA_SCALE**2
    base[0, count:] += between
    base[0, : size - count] += between
    base[count, : size - count] = -between
    t, first, second, ratio, sign, cells = (np.array(column) for column in zip(*overlaps, strict=True))
    first, second = (t * count + np.searchsorted(members, index) for index in (first, second))
    low, high = np.minimum(first, second), np.maximum(first, second)
    weight = cells / cells.max() / SIGMA_ORDER**2
    scale = np.zeros(size)
    for _ in range(ITERATIONS):
        lacking = sign * (ratio + scale[first] - scale[second]) < MIN_DEPTH_RATIO
        active = np.where(lacking, weight, 0)
        system, right = base.copy(), np.zeros(size)
        np.add.at(system[0], first, active)
        np.add.at(system[0], second, active)
        np.add.at(system, (high - low, low), -active)
        target = active * (sign * MIN_DEPTH_RATIO - ratio)
        np.add.at(right, first, target)
        np.add.at(right, second, -target)
        scale = solveh_banded(system, right, lower=True)
    return np.asarray(scale).reshape(frames, count).T
