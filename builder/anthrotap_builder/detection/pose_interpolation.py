"""Poses between two looks of the landmark network: carried there from both, by the motion of the picture.

A look costs more than all else that is done for a frame. Where the pose of one look, carried to the frame of another
one, agrees with the pose seen there, the frames between hold nothing new: errors of the two carried poses mostly
cancel in their weighted mean.
"""

from __future__ import annotations

import math
from functools import cache

import cv2
import numpy as np

from anthrotap_builder.detection.association import JOINTS
from anthrotap_builder.detection.blazepose_networks import LANDMARK_SIZE, REGION_MARGIN, Pose, Region, cells_of
from anthrotap_builder.detection.scene_motion import SceneMotion

# Two poses agree if their joints are apart by no more than this on average and at most, their contours on average (all
# as fractions of the person's size), and their joints in 3D, meters. Those in the image are for neighboring frames: the
# error in the middle grows with the gap, so they are divided by its square root. On real clips, gaps of two frames at
# these limits have errors of 0.008, 0.025 and 0.004 in the middle, where a look of the network itself errs by 0.006.
MAX_MEAN_DISTANCE, MAX_DISTANCE = 0.034, 0.11
MAX_CONTOUR_DISTANCE = 0.022
MAX_DISTANCE_3D = 0.08
# Landmarks of less confidence do not count.
MIN_CONFIDENCE = 0.5
# Points along the side of a region whose motion carries a mask.
GRID = 33


def agree(motion: SceneMotion, first: Pose, frame: int, second: Pose, to: int) -> bool:
    """Return whether the poses of one person in two frames are the same, but for the motion of the picture."""
    size, gap = (first.size + second.size) / 2, math.sqrt(to - frame)
    sure = np.minimum(first.landmarks[JOINTS, 2], second.landmarks[JOINTS, 2]) >= MIN_CONFIDENCE
    if not sure.any() or max(first.size, second.size) > 1.5 * min(first.size, second.size):
        return False
    here, there = (pose.landmarks[JOINTS, :2][sure] for pose in (first, second))
    forth = np.linalg.norm(motion.carry_points(here, frame, to) - there, axis=1)
    back = np.linalg.norm(motion.carry_points(there, to, frame) - here, axis=1)
    distance = (forth + back) / 2 / size * gap
    if distance.mean() > MAX_MEAN_DISTANCE or distance.max() > MAX_DISTANCE:
        return False
    apart_3d = np.linalg.norm(first.world_landmarks[JOINTS] - second.world_landmarks[JOINTS], axis=1)[sure]
    if apart_3d.mean() > MAX_DISTANCE_3D * gap:
        return False
    carried = _carried_mask(motion, first, frame, second.region, to)
    between = np.count_nonzero((carried > 0) != (second.mask > 0))
    length = max(1, (_contour_length(carried) + _contour_length(second.mask)) / 2)
    pixel = second.region.size / LANDMARK_SIZE / size
    return bool(between / length * pixel * gap <= MAX_CONTOUR_DISTANCE)


def interpolate(motion: SceneMotion, first: Pose, frame: int, second: Pose, to: int, at: int) -> Pose:
    """Return the pose in a frame `at` between those of two poses of one person that agree."""
    late = (at - frame) / (to - frame)
    landmarks = (1 - late) * first.landmarks + late * second.landmarks
    here, there = (motion.carry_points(pose.landmarks[:, :2], t, at) for pose, t in ((first, frame), (second, to)))
    landmarks[:, :2] = (1 - late) * here + late * there
    world = (1 - late) * first.world_landmarks + late * second.world_landmarks
    region = mean_region(first.region, second.region, late)
    next_region = mean_region(first.next_region, second.next_region, late)
    mask = (1 - late) * _carried_mask(motion, first, frame, region, at)
    mask += late * _carried_mask(motion, second, to, region, at)
    return Pose(
        landmarks=landmarks,
        size=next_region.size / REGION_MARGIN,
        angle=next_region.angle,
        appearance=(first if late < 0.5 else second).appearance,
        cells=cells_of(mask, region, motion.residual.shape[1:]),
        pose_score=min(first.pose_score, second.pose_score),
        detector_score=0.0,
        region=region,
        next_region=next_region,
        world_landmarks=world,
        mask=mask,
        layer=max(first.layer, second.layer),
    )


def mean_region(a: Region, b: Region, late: float) -> Region:
    """Return the region between two of one person, at this fraction of the way."""
    early = 1 - late
    turn = math.remainder(b.angle - a.angle, 2 * math.pi)
    return Region(
        early * a.x + late * b.x, early * a.y + late * b.y, early * a.size + late * b.size, a.angle + late * turn
    )


def _carried_mask(motion: SceneMotion, pose: Pose, frame: int, region: Region, to: int) -> np.ndarray:
    """Return a pose's mask, [256, 256] float32, where the picture carries it, over a region of another frame."""
    unit, x, y = _grid()
    # Looked up backwards: a pixel holds what was where its flow back leads.
    source = motion.carry_points(region.to_frame(unit), to, frame)
    source = (source - (pose.region.x, pose.region.y)) @ pose.region.rotation / pose.region.size + 0.5
    pixels = (source * LANDMARK_SIZE - 0.5).astype(np.float32).reshape(GRID, GRID, 2)
    positions = cv2.remap(pixels, x, y, cv2.INTER_LINEAR)
    return cv2.remap(pose.mask, positions, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT, borderValue=-1)


@cache
def _grid() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A grid over the unit square, [GRID * GRID, 2]; and where each pixel of a mask lies on it, x and y."""
    axis = np.arange(GRID) / (GRID - 1)
    unit = np.stack(np.meshgrid(axis, axis), axis=-1).reshape(-1, 2)
    pixel = ((np.arange(LANDMARK_SIZE) + 0.5) / LANDMARK_SIZE * (GRID - 1)).astype(np.float32)
    x, y = np.meshgrid(pixel, pixel)
    return unit, x, y


def _contour_length(mask: np.ndarray) -> int:
    """Return how many pixels of a mask [h, w] lie at its edge."""
    inside = (mask > 0).astype(np.uint8)
    return int(np.count_nonzero(inside)) - int(np.count_nonzero(cv2.erode(inside, np.ones((3, 3), np.uint8))))
