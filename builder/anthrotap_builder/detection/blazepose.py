"""People by BlazePose: its detector finds them, its landmark network says how they stand, frame by frame.

Both networks are described in Bazarevsky et al., "BlazePose: On-device Real-time Body Pose Tracking"
(arXiv 2006.10204); the constants below are those of MediaPipe's published graphs `pose_detection_cpu.pbtxt`,
`pose_detection_to_roi.pbtxt` and `tensors_to_pose_landmarks_and_segmentation.pbtxt`.
"""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache, partial
from itertools import repeat
from queue import Empty, SimpleQueue
from threading import Lock

import cv2
import numpy as np

from anthrotap_builder.config import PeopleSettings
from anthrotap_builder.detection import PersonTrack
from anthrotap_builder.detection.association import (
    JOINTS,
    Track,
    belongs_to_rival,
    distinct,
    follow,
    gaps,
    is_hopeful,
    is_person,
    link,
    settle,
    stitch,
    velocity,
)
from anthrotap_builder.utils.assets import blazepose_paths

DETECTOR_SIZE = 224  # pixels
DETECTOR_STRIDES = (8, 16, 32, 32, 32)  # two anchors a cell and layer
LANDMARK_SIZE = 256  # pixels
REGION_MARGIN = 1.25  # the landmark network was trained on crops this much wider than the person's circle
NUM_LANDMARKS = 33  # followed by the two alignment points, and four that MediaPipe does not name
HEAT_WINDOW = 7  # cells
MASK_SOFTNESS = 4.0  # logits
CELL = 8  # pixels
PAINT = 127  # the gray over people who are already found
SECOND_LOOK = 1.2  # a score that is low for no visible reason is often high in a region this much wider
TILE_STEP = 0.8  # of a tile's side, at most: two tiles cover a frame of 16:9
MAX_REGION_IN_TILE = 1.3
FACE_IOU = 0.3  # the detector's boxes are faces: two that overlap more are one person


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
        return cls(
            float(hips[0]), float(hips[1]), 2 * REGION_MARGIN * math.hypot(dx, dy), math.atan2(dx, -dy)
        )

    @property
    def rotation(self) -> np.ndarray:
        """[2, 2] float64, from crop directions to frame directions."""
        c, s = math.cos(self.angle), math.sin(self.angle)
        return np.array([[c, -s], [s, c]])

    def to_frame(self, xy: np.ndarray) -> np.ndarray:
        """Frame coordinates of points [..., 2] given in the unit square of the crop."""
        return (xy - 0.5) @ (self.size * self.rotation.T) + (self.x, self.y)

    def to_crop(self, xy: np.ndarray) -> np.ndarray:
        """Unit-square coordinates of points [..., 2] given in the frame: the inverse of `to_frame`."""
        return (xy - (self.x, self.y)) @ (self.rotation / self.size) + 0.5

    def is_near(self, other: Region) -> bool:
        """Whether two regions are so alike that the landmark network would see the same person in both."""
        size = min(self.size, other.size)
        apart = math.hypot(self.x - other.x, self.y - other.y)
        turn = math.cos(self.angle - other.angle)
        return apart < 0.1 * size and max(self.size, other.size) < 1.4 * size and turn > 0.8

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
    """Groups of boxes that stand for one thing each: weighted non-maximum suppression up to the averaging.

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
class Pose:
    """What the landmark network says of one region.

    Attributes:
        region: where it looked.
        score: its probability that a person is there.
        landmarks: [33, 3] float32, x and y in raster pixels of the frame, confidence.
        world_landmarks: [33, 3] float32, meters from the middle of the hips, along the frame's axes.
        next_region: where it would look in the neighboring frames.
            mask: [256, 256] float32, over `region`: how sure it is of the person's pixels, from -1 to 1; 0 is
            probability one half.
        look: [64] float32, square roots of the histogram of the person's colors.
        cells: [H / 8, W / 8] bool, `mask` on a coarse grid over the frame.
        detection: the detector's probability, 0 where it was not asked or said nothing.
        layer: in which search it was found: people of later ones stand behind those of earlier ones.
    """

    region: Region
    score: float
    landmarks: np.ndarray
    world_landmarks: np.ndarray
    next_region: Region
    mask: np.ndarray
    look: np.ndarray
    cells: np.ndarray
    detection: float
    layer: int

    @property
    def size(self) -> float:
        return self.next_region.size / REGION_MARGIN

    @property
    def angle(self) -> float:
        return self.next_region.angle

    def paint_mask(self, height: int, width: int) -> tuple[tuple[slice, slice], np.ndarray]:
        """`mask` warped into a frame: the rows and columns that the region touches, and the values there."""
        corners = self.region.to_frame(np.array([[0, 0], [0, 1], [1, 0], [1, 1]]))
        x0, y0 = (int(v) for v in np.clip(np.floor(corners.min(0)), 0, (width, height)))
        x1, y1 = (int(v) for v in np.clip(np.ceil(corners.max(0)), 0, (width, height)))
        warp = self.region.warp(LANDMARK_SIZE)
        warp[:, 2] -= (x0, y0)
        values = np.full((y1 - y0, x1 - x0), -1, np.float32)
        if values.size:
            cv2.warpAffine(
                self.mask, warp, values.shape[::-1], values, cv2.INTER_LINEAR, cv2.BORDER_CONSTANT, -1
            )
        return (slice(y0, y1), slice(x0, x1)), values


@contextmanager
def _quiet_start() -> Iterator[None]:
    """LiteRT greets on the process's standard error, past Python and without a switch: not for users' eyes."""
    sys.stderr.flush()
    kept = os.dup(2)
    with open(os.devnull, "w") as nowhere:
        os.dup2(nowhere.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


class BlazePose:
    """The two networks, for the use of one thread at a time."""

    def __init__(self) -> None:
        from ai_edge_litert.interpreter import Interpreter

        detection, landmark = blazepose_paths()
        with _quiet_start():
            self._detector = Interpreter(str(detection), num_threads=1)
            self._landmarker = Interpreter(str(landmark), num_threads=1)
            for network in (self._detector, self._landmarker):
                network.allocate_tensors()

    def detect(self, image: np.ndarray, min_score: float) -> list[tuple[float, Region]]:
        """Persons in an image [H, W, 3] uint8 RGB, best first: probability, and region in its pixels."""
        scale = DETECTOR_SIZE / max(image.shape[:2])
        width, height = (max(1, round(v * scale)) for v in image.shape[1::-1])
        left, top = (DETECTOR_SIZE - width) // 2, (DETECTOR_SIZE - height) // 2
        shape = (DETECTOR_SIZE, DETECTOR_SIZE, 3)
        boxed = np.full(shape, -1, np.float32)
        small = cv2.resize(
            image, (width, height), interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
        )
        np.multiply(small, 2 / 255, out=boxed[top : top + height, left : left + width], casting="unsafe")
        boxed[top : top + height, left : left + width] -= 1
        raw, logits = _run(self._detector, boxed)
        scores = sigmoid(logits[:, 0])
        likely = np.flatnonzero(scores >= min_score)
        if not len(likely):
            return []
        scores, raw = scores[likely], raw[likely] / DETECTOR_SIZE
        center, extent = raw[:, :2] + anchors()[likely], raw[:, 2:4]
        boxes = np.concatenate([center - extent / 2, center + extent / 2], axis=1)
        points = raw[:, 4:8].reshape(-1, 2, 2) + anchors()[likely, None]
        points = (points * DETECTOR_SIZE - (left, top)) * (image.shape[1] / width, image.shape[0] / height)
        found = []
        for group in suppress(boxes, scores, FACE_IOU):
            hips, rim = np.average(points[group], axis=0, weights=scores[group])
            found.append((float(scores[group[0]]), Region.from_hips_and_rim(hips, rim)))
        return found

    def look(self, frame: np.ndarray, region: Region, detection: float, layer: int) -> Pose:
        """The person in a region of a frame [H, W, 3] uint8 RGB."""
        crop = cv2.warpAffine(
            frame,
            region.warp(LANDMARK_SIZE),
            (LANDMARK_SIZE, LANDMARK_SIZE),
            flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        )
        raw, score, mask, heat, world = _run(self._landmarker, crop.astype(np.float32) / 255)
        raw = raw.reshape(-1, 5)
        xy = raw[:, :2] / LANDMARK_SIZE
        xy[:NUM_LANDMARKS] = refine(xy[:NUM_LANDMARKS], heat[..., :NUM_LANDMARKS])
        xy = region.to_frame(xy)
        confidence = sigmoid(raw[:NUM_LANDMARKS, 3]) * sigmoid(raw[:NUM_LANDMARKS, 4])
        world = world.reshape(-1, 3)[:NUM_LANDMARKS].copy()
        world[:, :2] = world[:, :2] @ region.rotation.T
        # The mask's logits reach from -2000 to 270: squashed, a bilinear warp leaves the contour in place.
        mask = mask[..., 0] / (np.abs(mask[..., 0]) + MASK_SOFTNESS)
        height, width = frame.shape[:2]
        grid = np.array([[1 / CELL, 0, 0.5 / CELL - 0.5], [0, 1 / CELL, 0.5 / CELL - 0.5], [0, 0, 1]])
        cells = cv2.warpAffine(
            mask,
            (grid @ np.vstack([region.warp(LANDMARK_SIZE), [0, 0, 1]]))[:2],
            (-(-width // CELL), -(-height // CELL)),
            borderValue=-1,
        )
        return Pose(
            region=region,
            score=float(score[0]),
            landmarks=np.column_stack([xy[:NUM_LANDMARKS], confidence]).astype(np.float32),
            world_landmarks=world,
            next_region=Region.from_hips_and_rim(xy[NUM_LANDMARKS], xy[NUM_LANDMARKS + 1]),
            mask=mask,
            look=_colors(crop, mask),
            cells=cells > 0,
            detection=detection,
            layer=layer,
        )


def refine(xy: np.ndarray, heat: np.ndarray) -> np.ndarray:
    """Landmarks moved to the centroids of their heat maps nearby, as in `refine_landmarks_from_heatmap`.

    On real clips this takes a third off the landmarks' disagreement with optical flow.

    Args:
        xy: [N, 2] in the unit square.
        heat: [h, w, N] logits.

    Returns:
        [N, 2] in the unit square; as they were where the map is below one half or the place is outside.
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


def _colors(crop: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """[64] float32, square roots of a 4 x 4 x 4 RGB histogram of the masked pixels."""
    pixels = crop[::4, ::4][mask[::4, ::4] > 0] >> 6
    counts = np.bincount(pixels @ np.array([16, 4, 1], np.uint8), minlength=64)
    return np.sqrt(counts / max(1, counts.sum())).astype(np.float32)


def _run(network, image: np.ndarray) -> list[np.ndarray]:
    network.set_tensor(network.get_input_details()[0]["index"], image[None])
    network.invoke()
    return [network.get_tensor(output["index"])[0] for output in network.get_output_details()]


def detect_people(
    frames: np.ndarray, settings: PeopleSettings, threads: int, device: str
) -> list[PersonTrack]:
    """See `anthrotap_builder.detection.detect_people`. LiteRT runs on the CPU, whatever the device of torch."""
    people: list[Track[Pose]] = []
    scraps: list[Track[Pose]] = []
    with ThreadPoolExecutor(threads) as pool:
        for layer in range(settings.rounds):
            found = _search(frames, layer, people, settings, pool)
            tracks = stitch(people + settle(found + scraps, people, settings), settings)
            seen_before = sum(map(len, people))
            people = [track for track in tracks if is_person(track, settings)]
            scraps = [track for track in tracks if not is_person(track, settings)]
            if sum(map(len, people)) == seen_before:
                break
    people.sort(key=lambda track: (-len(track), min(track)))
    return _person_tracks(people, frames.shape)


_starting = Lock()  # one at a time: `_quiet_start` is about the whole process, and files are fetched once
_idle_networks: SimpleQueue[BlazePose] = SimpleQueue()  # loading a pair takes 80 ms: clips share them


@contextmanager
def _networks() -> Iterator[BlazePose]:
    """A pair of networks that no other thread uses meanwhile."""
    try:
        networks = _idle_networks.get_nowait()
    except Empty:
        with _starting:
            networks = BlazePose()
    try:
        yield networks
    finally:
        _idle_networks.put(networks)


def _search(
    frames: np.ndarray,
    layer: int,
    known: list[Track[Pose]],
    settings: PeopleSettings,
    pool: ThreadPoolExecutor,
) -> list[Track[Pose]]:
    """New people, in frames in which the known ones are painted over."""
    num_frames, height, width = frames.shape[:3]
    key_frames = sorted({*range(0, num_frames, settings.detect_every), num_frames - 1})

    def detect(t: int) -> list[tuple[float, Region]]:
        with _networks() as networks:
            image = _paint_over(frames[t], [track[t] for track in known if t in track])
            return _detect_in_tiles(networks, image, min(height, width), settings.min_detection)

    def is_clear(pose: Pose) -> bool:
        joints = pose.landmarks[JOINTS, :2]
        inside = float(np.all((joints >= 0) & (joints <= (width, height)), axis=1).mean())
        confidence = float(pose.landmarks[:, 2].mean())
        return (
            pose.score >= settings.min_pose_score
            and confidence >= settings.min_confidence
            and inside >= settings.min_inside
        )

    def look(t: int, regions: list[tuple[float, Region]]) -> list[Pose]:
        paint = [track[t] for track in known if t in track]
        image = _paint_over(frames[t], paint)
        with _networks() as networks:
            poses = [networks.look(image, region, score, layer) for score, region in regions]
        return [pose for pose in poses if is_clear(pose) and not _is_paint(pose, paint, settings)]

    def look_near(t: int, track: Track[Pose], rivals: list[Track[Pose]]) -> Pose | None:
        for region in _predict_regions(track, t):
            if poses := look(t, [(0, region)]):
                return None if belongs_to_rival(poses[0], t, track, rivals, settings) else poses[0]
        return None

    regions: dict[int, list[tuple[float, Region]]] = {}
    # Few clips have people who come to light only behind others: half of the key frames mostly settle it.
    for some in [key_frames] if layer == 0 else [key_frames[::2], key_frames[1::2]]:
        regions.update(zip(some, pool.map(detect, some), strict=True))
        if not any(score >= settings.sure_detection for here in regions.values() for score, _ in here):
            return []
    poses = pool.map(look, key_frames, [regions[t] for t in key_frames])
    detections = {t: distinct(here, settings) for t, here in zip(key_frames, poses, strict=True)}
    tracks = settle([t for t in link(detections, settings) if is_hopeful(t, settings)], known, settings)

    # The detector's region is a rough one: look again where the landmarks themselves would.
    def look_again(t: int, pose: Pose) -> Pose:
        again = look(t, [(pose.detection, pose.next_region)])
        return again[0] if again else pose

    for track in tracks:
        track.update(zip(track, pool.map(look_again, track.keys(), track.values()), strict=True))

    # One by one, the surest first: what one takes in need not be followed again as part of another.
    followed: list[Track[Pose]] = [{} for _ in tracks]
    while waiting := [i for i, track in enumerate(tracks) if track.keys() - followed[i].keys()]:
        i = max(waiting, key=lambda i: (sum(s.detection for s in tracks[i].values()), -i))
        track = tracks[i]
        rivals = [other for j, other in enumerate(tracks) if followed[j] and j != i]
        look_on = partial(look_near, rivals=rivals)
        runs = list(gaps(track, num_frames))
        for more in list(pool.map(follow, repeat(track), runs, repeat(look_on), repeat(settings))):
            tracks[i] = {**tracks[i], **more}
        followed[i] = tracks[i]
        tracks = settle(tracks, known, settings)
    return tracks


def _is_paint(pose: Pose, paint: list[Pose], settings: PeopleSettings) -> bool:
    """Whether a pose is mostly made of paint: the silhouette of a person found before."""
    if not paint:
        return False
    painted = np.any([other.cells for other in paint], axis=0)
    x, y = (pose.landmarks[JOINTS, :2].T // CELL).astype(int)
    on_paint = painted[y.clip(0, painted.shape[0] - 1), x.clip(0, painted.shape[1] - 1)]
    share = np.count_nonzero(pose.cells & painted) / max(1, pose.cells.sum())
    return max(share, on_paint.mean()) > settings.max_painted


def _detect_in_tiles(
    networks: BlazePose, frame: np.ndarray, side: int, min_score: float
) -> list[tuple[float, Region]]:
    """Detections in the whole frame and in square tiles over it, which overlap, best first."""
    height, width = frame.shape[:2]
    found = networks.detect(frame, min_score)
    if height == width == side:
        return found
    for top in _tile_starts(height, side):
        for left in _tile_starts(width, side):
            for score, region in networks.detect(frame[top : top + side, left : left + side], min_score):
                # Larger ones are mostly not there: the tile holds a part of them at best.
                if region.size <= MAX_REGION_IN_TILE * side:
                    found.append((score, replace(region, x=region.x + left, y=region.y + top)))
    # Most tiles see the same people: the landmark network need not look twice.
    kept: list[tuple[float, Region]] = []
    for score, region in sorted(found, key=lambda one: -one[0]):
        if not any(region.is_near(other) for _, other in kept):
            kept.append((score, region))
    return kept


def _tile_starts(length: int, side: int) -> list[int]:
    count = math.ceil((length - side) / (TILE_STEP * side)) + 1 if length > side else 1
    return [int(v) for v in np.linspace(0, max(0, length - side), count).round()]


def _predict_regions(track: Track[Pose], frame: int) -> list[Region]:
    """Where to look for a person seen in other frames: going on as before; or where it was, and wider."""
    near = min(track, key=lambda t: (abs(t - frame), t))
    region = track[near].next_region
    x, y = velocity(track, frame) * (frame - near)
    return [replace(region, x=region.x + x, y=region.y + y), replace(region, size=SECOND_LOOK * region.size)]


def _paint_over(frame: np.ndarray, poses: list[Pose]) -> np.ndarray:
    """The frame with these people, and two pixels around them, in plain gray."""
    if poses:
        frame = frame.copy()
    for pose in poses:
        where, sure = pose.paint_mask(*frame.shape[:2])
        frame[where][cv2.dilate((sure > 0).astype(np.uint8), np.ones((5, 5), np.uint8)) > 0] = PAINT
    return frame


def _person_tracks(people: list[Track[Pose]], shape: tuple[int, ...]) -> list[PersonTrack]:
    """Poses as arrays; a pixel that several masks claim goes to the one that is surest of it."""
    num_frames, height, width = shape[:3]
    landmarks, world_landmarks = (
        np.full((len(people), num_frames, NUM_LANDMARKS, 3), np.nan, np.float32) for _ in range(2)
    )
    masks = np.zeros((len(people), num_frames, height, width), bool)
    for t in range(num_frames):
        best = np.zeros((height, width), np.float32)
        order = sorted(
            (i for i, person in enumerate(people) if t in person), key=lambda i: people[i][t].layer
        )
        for before, i in zip([None, *order], order, strict=False):
            pose = people[i][t]
            landmarks[i, t] = pose.landmarks
            world_landmarks[i, t] = pose.world_landmarks
            if before is not None and people[before][t].layer < pose.layer:
                best[best > 0] = 1  # painted over when this one was seen
            where, sure = pose.paint_mask(height, width)
            mine = sure > best[where]
            for mask in masks:
                mask[t][where] &= ~mine
            masks[i][t][where] = mine
            best[where][mine] = sure[mine]
    return [
        PersonTrack(_boxes(points, mask), points, world, mask)
        for points, world, mask in zip(landmarks, world_landmarks, masks, strict=True)
    ]


def _boxes(landmarks: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """[T, 4] float32: left, top, right, bottom around a person's mask and surer landmarks; NaN where not found."""
    boxes = np.full((len(mask), 4), np.nan, np.float32)
    for t in np.flatnonzero(np.isfinite(landmarks[:, 0, 0])).tolist():
        confidence = landmarks[t, :, 2]
        places = [landmarks[t, confidence >= min(0.5, confidence.max()), :2]]
        rows, columns = np.flatnonzero(mask[t].any(1)), np.flatnonzero(mask[t].any(0))
        if len(rows):
            places.append(np.array([[columns[0], rows[0]], [columns[-1] + 1, rows[-1] + 1]], np.float32))
        around = np.concatenate(places)
        boxes[t] = *around.min(0), *around.max(0)
    return boxes
