"""BlazePose's networks: the detector that finds people, and the landmark network that gives their pose, in two sizes.

Both are described in Bazarevsky et al., "BlazePose: On-device Real-time Body Pose Tracking" (arXiv 2006.10204); the
constants below are those of MediaPipe's published graphs `pose_detection_cpu.pbtxt`, `pose_detection_to_roi.pbtxt` and
`tensors_to_pose_landmarks_and_segmentation.pbtxt`.
"""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Lock
from typing import Any

import cv2
import numpy as np

from anthrotap_builder.detection.association import Detection
from anthrotap_builder.detection.scene_motion import CELL
from anthrotap_builder.utils.assets import BLAZEPOSE, blazepose_paths

# Side of the detector's input, pixels, and the strides of its layers; each cell and layer has two anchors.
DETECTOR_SIZE = 224
DETECTOR_STRIDES = (8, 16, 32, 32, 32)
# The detector's boxes are faces: two that overlap more (IoU) are one person.
FACE_IOU = 0.3
# Side of the landmark network's input, pixels. It was trained on crops this much wider than the person's circle.
LANDMARK_SIZE = 256
REGION_MARGIN = 1.25
# Followed by the two alignment points, and four that MediaPipe does not name.
NUM_LANDMARKS = 33
# Side of the window of the heat map that a landmark is refined by, cells.
HEAT_WINDOW = 7
# Logits of the mask are squashed to x / (|x| + this).
MASK_SOFTNESS = 4.0
# The gray level of what the networks are not to see.
GRAY = 127


@dataclass(frozen=True)
class Region:
    """A rotated square of a frame that should hold one person, head up.

    Attributes:
        x, y: its center, raster pixels.
        size: its side, pixels.
        angle: how far it is turned, radians: the direction (0, -1) of the crop is (sin, -cos) in the frame.
    """

    x: float
    y: float
    size: float
    angle: float

    @classmethod
    def from_hips_and_rim(cls, hips: np.ndarray, rim: np.ndarray) -> Region:
        """The region that BlazePose's two alignment points stand for.

        Args:
            hips: [2] xy of the middle of the hips, the center of a circle around the person.
            rim: [2] xy of the point of that circle in the direction of the head.
        """
        dx, dy = (float(v) for v in rim - hips)
        return cls(float(hips[0]), float(hips[1]), 2 * REGION_MARGIN * math.hypot(dx, dy), math.atan2(dx, -dy))

    @property
    def rotation(self) -> np.ndarray:
        """[2, 2] float64, from crop directions to frame directions."""
        c, s = math.cos(self.angle), math.sin(self.angle)
        return np.array([[c, -s], [s, c]])

    def to_frame(self, xy: np.ndarray) -> np.ndarray:
        """Frame coordinates of points [..., 2] given in the unit square of the crop."""
        return (xy - 0.5) @ (self.size * self.rotation.T) + (self.x, self.y)

    def of_crop(self, inner: Region, side: int) -> Region:
        """The region of the frame that a region `inner` of this region's crop, side x side pixels, is."""
        x, y = self.to_frame(np.array([inner.x, inner.y]) / side)
        return Region(float(x), float(y), inner.size * self.size / side, self.angle + inner.angle)

    def is_near(self, other: Region) -> bool:
        """Whether two regions are so alike that the landmark network would find the same person in both."""
        size = min(self.size, other.size)
        distance = math.hypot(self.x - other.x, self.y - other.y)
        turn = math.cos(self.angle - other.angle)
        return distance < 0.1 * size and max(self.size, other.size) < 1.4 * size and turn > 0.8

    def to_crop(self, xy: np.ndarray) -> np.ndarray:
        """Points [..., 2] of the frame in the unit square of the crop."""
        return (xy - (self.x, self.y)) @ self.rotation / self.size + 0.5

    def between(self, other: Region, fraction: float) -> Region:
        """The region after this fraction of the motion from this one to another."""
        turn = math.remainder(other.angle - self.angle, 2 * math.pi)
        x, y, size = (
            (1 - fraction) * a + fraction * b
            for a, b in ((self.x, other.x), (self.y, other.y), (self.size, other.size))
        )
        return Region(x, y, size, self.angle + fraction * turn)

    def warp(self, side: int) -> np.ndarray:
        """[2, 3] float64, from a crop of side x side pixels to the frame, both by OpenCV's pixel centers."""
        linear = self.size / side * self.rotation
        # OpenCV puts the first pixel's center at (0, 0), raster coordinates at (0.5, 0.5).
        offset = np.array([self.x, self.y]) - linear @ np.full(2, (side - 1) / 2) - 0.5
        return np.column_stack([linear, offset])


@cache
def anchors() -> np.ndarray:
    """[2254, 2] float32, centers of the detector's anchors in the unit square of its input, in its order."""
    layers = []
    strides = list(DETECTOR_STRIDES)
    for stride in sorted(set(strides)):
        cells = DETECTOR_SIZE // stride
        y, x = np.mgrid[:cells, :cells]
        centers = np.stack([x, y], -1).reshape(-1, 2) + 0.5
        # Layers of one stride share their grid: their anchors stand side by side, cell by cell.
        layers.append(np.repeat(centers / cells, 2 * strides.count(stride), axis=0))
    return np.concatenate(layers).astype(np.float32)


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-np.clip(x, -80, 80)))


def suppress(boxes: np.ndarray, scores: np.ndarray, max_iou: float) -> list[np.ndarray]:
    """Group boxes of one object each: weighted non-maximum suppression up to the averaging.

    Args:
        boxes: [N, 4] x0, y0, x1, y1.
        scores: [N].
        max_iou: boxes that overlap the best one of a group by more than this belong to it.

    Returns:
        Index arrays, best group first; the first of each is its best box.
    """
    order = np.argsort(-scores, kind="stable")
    groups = []
    while len(order):
        best, rest = boxes[order[0]], boxes[order]
        low, high = np.maximum(best[:2], rest[:, :2]), np.minimum(best[2:], rest[:, 2:])
        overlap = np.prod(np.clip(high - low, 0, None), axis=1)
        area = np.prod(rest[:, 2:] - rest[:, :2], axis=1)
        same = overlap > max_iou * (area[0] + area - overlap)
        same[0] = True  # also a box without area
        groups.append(order[same])
        order = order[~same]
    return groups


@dataclass(frozen=True)
class Pose(Detection):
    """A person in one frame, by the landmark network.

    Attributes:
        region: of the frame, that the network was given.
        next_region: of the neighboring frames, where the network would find the person next.
        world_landmarks: [33, 3] float32, meters from the middle of the hips, along the frame's axes.
        mask: [256, 256] float32, over `region`: confidence in the person's pixels, from -1 to 1; 0 is probability one
            half.
        layer: number of the detection pass: people of later passes stand behind those of earlier ones.
    """

    region: Region
    next_region: Region
    world_landmarks: np.ndarray
    mask: np.ndarray
    layer: int

    def frame_mask(self, height: int, width: int) -> tuple[tuple[slice, slice], np.ndarray]:
        """Warp `mask` into a frame: the rows and columns that the region touches, and the values there."""
        corners = self.region.to_frame(np.array([[0, 0], [0, 1], [1, 0], [1, 1]]))
        x0, y0 = (int(v) for v in np.clip(np.floor(corners.min(0)), 0, (width, height)))
        x1, y1 = (int(v) for v in np.clip(np.ceil(corners.max(0)), 0, (width, height)))
        warp = self.region.warp(LANDMARK_SIZE)
        warp[:, 2] -= (x0, y0)
        values = np.full((y1 - y0, x1 - x0), -1, np.float32)
        if values.size:
            cv2.warpAffine(self.mask, warp, values.shape[::-1], values, cv2.INTER_LINEAR, cv2.BORDER_CONSTANT, -1)
        return (slice(y0, y1), slice(x0, x1)), values

    def between(self, other: Pose, fraction: float, height: int, width: int) -> Pose:
        """The pose after a fraction of a slow motion from this one to another, in a frame of this size.

        Landmarks and regions are weighted means. So are the masks, in the crop, which moves with the person: limbs must
        move by less than their width there.
        """

        def mean(a: Any, b: Any) -> Any:
            return (1 - fraction) * a + fraction * b

        region = self.region.between(other.region, fraction)
        next_region = self.next_region.between(other.next_region, fraction)
        mask = mean(self.mask, other.mask)
        return Pose(
            landmarks=mean(self.landmarks, other.landmarks),
            size=mean(self.size, other.size),
            angle=next_region.angle,
            appearance=mean(self.appearance, other.appearance),
            cells=_cells(mask, region, height, width),
            pose_score=min(self.pose_score, other.pose_score),
            detector_score=0.0,
            region=region,
            next_region=next_region,
            world_landmarks=mean(self.world_landmarks, other.world_landmarks),
            mask=mask,
            layer=self.layer,
        )


@contextmanager
def _quiet_start() -> Iterator[None]:
    """Silence the greeting that LiteRT writes on the process's standard error, past Python and without a switch."""
    sys.stderr.flush()
    kept = os.dup(2)
    with open(os.devnull, "w") as devnull:
        os.dup2(devnull.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


@cache
def _file_content(path: Path) -> bytes:
    """Return the bytes of a network's file, which all its interpreters share: they keep them, and copy none."""
    return path.read_bytes()


class BlazePose:
    """The networks of a quality, for one thread at a time."""

    def __init__(self, quality: str) -> None:
        from ai_edge_litert.interpreter import Interpreter

        detection, landmark, rough = (_file_content(path) for path in blazepose_paths(quality))
        with _quiet_start():
            self._detector, self._landmarker = (
                Interpreter(model_content=content, num_threads=1) for content in (detection, landmark)
            )
            # The file's content is kept once: of one quality, both are the same network.
            self._rough = self._landmarker if rough is landmark else Interpreter(model_content=rough, num_threads=1)
            for network in {self._detector, self._landmarker, self._rough}:
                network.allocate_tensors()

    def detect(self, image: np.ndarray, min_score: float) -> list[tuple[float, Region]]:
        """Detect persons in an image [H, W, 3] uint8 RGB, best first: probability, and region in its pixels."""
        # Letterbox the image into a square, with values in [-1, 1].
        scale = DETECTOR_SIZE / max(image.shape[:2])
        width, height = (max(1, round(v * scale)) for v in image.shape[1::-1])
        left, top = (DETECTOR_SIZE - width) // 2, (DETECTOR_SIZE - height) // 2
        shape = (DETECTOR_SIZE, DETECTOR_SIZE, 3)
        letterbox = np.full(shape, -1, np.float32)
        small = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
        np.multiply(small, 2 / 255, out=letterbox[top : top + height, left : left + width], casting="unsafe")
        letterbox[top : top + height, left : left + width] -= 1
        raw, logits = _run(self._detector, letterbox)
        scores = sigmoid(logits[:, 0])
        likely = np.flatnonzero(scores >= min_score)
        if not len(likely):
            return []
        # Boxes and alignment points are offsets from the anchors, in the unit square of the input.
        scores, raw = scores[likely], raw[likely] / DETECTOR_SIZE
        center, extent = raw[:, :2] + anchors()[likely], raw[:, 2:4]
        boxes = np.concatenate([center - extent / 2, center + extent / 2], axis=1)
        points = raw[:, 4:8].reshape(-1, 2, 2) + anchors()[likely, None]
        points = (points * DETECTOR_SIZE - (left, top)) * (image.shape[1] / width, image.shape[0] / height)
        # Overlapping boxes are one person, whose points are their weighted mean.
        found = []
        for group in suppress(boxes, scores, FACE_IOU):
            hips, rim = np.average(points[group], axis=0, weights=scores[group])
            found.append((float(scores[group[0]]), Region.from_hips_and_rim(hips, rim)))
        return found

    def detect_in(self, image: np.ndarray, region: Region, min_score: float) -> list[tuple[float, Region]]:
        """Detect persons whose heads are up in a region of an image, which may be turned; best first."""
        warp, size = region.warp(DETECTOR_SIZE), (DETECTOR_SIZE, DETECTOR_SIZE)
        crop = cv2.warpAffine(image, warp, size, flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP)
        return [(score, region.of_crop(found, DETECTOR_SIZE)) for score, found in self.detect(crop, min_score)]

    def estimate_pose(
        self, frame: np.ndarray, region: Region, detector_score: float, layer: int, rough: bool = False
    ) -> Pose:
        """Estimate the pose of the person in a region of a frame [H, W, 3] uint8 RGB; roughly, by the smaller network,
        which takes a third of the time."""
        crop = cv2.warpAffine(
            frame,
            region.warp(LANDMARK_SIZE),
            (LANDMARK_SIZE, LANDMARK_SIZE),
            flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        )
        raw, score, mask, heat, world = _run(self._rough if rough else self._landmarker, crop.astype(np.float32) / 255)
        # x, y, z, visibility and presence of each landmark, in pixels of the crop.
        raw = raw.reshape(-1, 5)
        xy = raw[:, :2] / LANDMARK_SIZE
        xy[:NUM_LANDMARKS] = refine_landmarks(xy[:NUM_LANDMARKS], heat[..., :NUM_LANDMARKS])
        xy = region.to_frame(xy)
        confidence = sigmoid(raw[:NUM_LANDMARKS, 3]) * sigmoid(raw[:NUM_LANDMARKS, 4])
        world = world.reshape(-1, 3)[:NUM_LANDMARKS].copy()
        world[:, :2] = world[:, :2] @ region.rotation.T
        # The mask's logits reach from -2000 to 270: squashed, a bilinear warp leaves the contour in place.
        mask = mask[..., 0] / (np.abs(mask[..., 0]) + MASK_SOFTNESS)
        next_region = Region.from_hips_and_rim(xy[NUM_LANDMARKS], xy[NUM_LANDMARKS + 1])
        return Pose(
            landmarks=np.column_stack([xy[:NUM_LANDMARKS], confidence]).astype(np.float32),
            size=next_region.size / REGION_MARGIN,
            angle=next_region.angle,
            appearance=_color_histogram(crop, mask),
            cells=_cells(mask, region, *frame.shape[:2]),
            pose_score=float(score[0]),
            detector_score=detector_score,
            region=region,
            next_region=next_region,
            world_landmarks=world,
            mask=mask,
            layer=layer,
        )


def refine_landmarks(xy: np.ndarray, heat: np.ndarray) -> np.ndarray:
    """Move landmarks to the centroids of their heat maps nearby, as in `refine_landmarks_from_heatmap`.

    On real clips this takes a third off the landmarks' disagreement with optical flow.

    Args:
        xy: [N, 2] in the unit square.
        heat: [h, w, N] logits.

    Returns:
        [N, 2] in the unit square; unchanged where the map is below one half or the landmark is outside.
    """
    height, width, count = heat.shape
    near = np.arange(HEAT_WINDOW) - HEAT_WINDOW // 2
    column, row = np.floor(xy.T * [[width], [height]]).astype(int)
    columns, rows = column[:, None, None] + near, row[:, None, None] + near[:, None]
    inside = (columns >= 0) & (columns < width) & (rows >= 0) & (rows < height)
    of_each = np.arange(count)[:, None, None]
    weights = inside * sigmoid(heat[rows.clip(0, height - 1), columns.clip(0, width - 1), of_each])
    total = np.maximum(weights.sum(axis=(1, 2)), 1e-12)
    # The network's own landmarks say that a cell stands for its index, not for its center.
    centroid = np.column_stack([(weights * v).sum(axis=(1, 2)) / total for v in (columns, rows)])
    use = (weights.max(axis=(1, 2)) >= 0.5) & (column >= 0) & (column < width) & (row >= 0) & (row < height)
    return np.where(use[:, None], centroid / (width, height), xy)


def _cells(mask: np.ndarray, region: Region, height: int, width: int) -> np.ndarray:
    """Return [h, w] bool, the cells of a frame of this size whose centers are in a mask [256, 256] over a region."""
    grid = np.array([[1 / CELL, 0, 0.5 / CELL - 0.5], [0, 1 / CELL, 0.5 / CELL - 0.5], [0, 0, 1]])
    warp = (grid @ np.vstack([region.warp(LANDMARK_SIZE), [0, 0, 1]]))[:2]
    return cv2.warpAffine(mask, warp, (-(-width // CELL), -(-height // CELL)), borderValue=-1) > 0


def _color_histogram(crop: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Return [64] float32, square roots of a 4 x 4 x 4 RGB histogram of the masked pixels."""
    pixels = crop[::4, ::4][mask[::4, ::4] > 0] >> 6
    counts = np.bincount(pixels @ np.array([16, 4, 1], np.uint8), minlength=64)
    return np.sqrt(counts / max(1, counts.sum())).astype(np.float32)


def _run(network, image: np.ndarray) -> list[np.ndarray]:
    network.set_tensor(network.get_input_details()[0]["index"], image[None])
    network.invoke()
    return [network.get_tensor(output["index"])[0] for output in network.get_output_details()]


# One start at a time: `_quiet_start` changes the whole process, and files are fetched once.
_starting = Lock()
# Loading a pair takes 80 ms: clips share those of their quality. A pair of the heavy network has 105 MB.
_idle_networks: dict[str, SimpleQueue[BlazePose]] = {quality: SimpleQueue() for quality in BLAZEPOSE}


@contextmanager
def borrow_networks(quality: str) -> Iterator[BlazePose]:
    """Lend a pair of networks of a quality that no other thread uses meanwhile."""
    idle = _idle_networks[quality]
    try:
        networks = idle.get_nowait()
    except Empty:
        with _starting:
            networks = BlazePose(quality)
    try:
        yield networks
    finally:
        idle.put(networks)


def release_networks() -> None:
    """Free the pairs of networks that wait, but for one of each quality: other stages need the memory."""
    for idle in _idle_networks.values():
        kept: BlazePose | None = None
        while True:
            try:
                kept = idle.get_nowait()
            except Empty:
                break
        if kept:
            idle.put(kept)
