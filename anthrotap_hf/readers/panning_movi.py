"""Panning MOVi-E, the paper's synthetic half: rendered scenes out of TFRecords, and point tracks made from them.

Kubric publishes what its renderer knows of each scene, not tracks: per pixel depth, object and coordinates on the
object; per frame camera and objects' boxes. A track is a pixel's surface point, carried by its object and projected.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image

from anthrotap_hf.readers.base import BadClipError, DatasetError, FilePath, Reader, make_tracks, sort_clips
from anthrotap_hf.readers.tfrecord import Feature, find_records, read_example
from anthrotap_hf.tracks import TrackedClip
from anthrotap_hf.video.containers import check_size
from anthrotap_hf.video.images import IMAGE_DAMAGE

# Strides of the grid that points are drawn from, which begins at a random pixel.
TIME_STRIDE, PIXEL_STRIDE = 4, 2
# The largest fraction of an object's grid points that is drawn.
MAX_OBJECT_FRACTION = 0.1
# A point is occluded by what is nearer than this fraction of its own distance.
DEPTH_TOLERANCE = 0.99
# The difference between neighboring normals from which on they are the texture's, not the mesh's.
ROUGH_NORMAL = 0.05
UINT16 = 65535

_ARRAYS: dict[str, tuple[int | str, ...]] = {  # shapes, with N objects and T frames
    "metadata/depth_range": (2,),
    "camera/focal_length": (1,),
    "camera/sensor_width": (1,),
    "camera/positions": ("T", 3),
    "camera/quaternions": ("T", 4),
    "instances/bboxes_3d": ("N", "T", 8, 3),
    "instances/quaternions": ("N", "T", 4),
}
_IMAGES = {"video": 3, "segmentations": 1, "depth": 1, "normal": 3, "object_coordinates": 3}  # channels


class PanningMoviClips(Reader):
    """Panning MOVi-E (Hub dataset hamacojr/LocoTrack-panning-MOVi-E), laid out by TensorFlow Datasets; also MOVi-E.

    A folder holds `NAME-SPLIT.tfrecord-00000-of-01024` and so on; a record is a scene of 24 frames. Names, encodings
    and units of features are those of challenges/movi/panning_movi_e.py of google-research/kubric, images are PNGs.

    Tracks follow from them as in challenges/point_tracking/dataset.py there, done anew. Points are drawn from a grid,
    about as many of each object, the rarest first. Those of objects are carried by their boxes, those of the
    background (object 0) stand still. A point is occluded where what is rendered at its position is nearer by a
    hundredth, where none of the four pixels around shows its object, or where its surface faces away. Two things
    differ: tracks are drawn over the whole frame (from a grid four times as fine, and four times as many), and queries
    among all their visible labels, when a sample is cut. A clip has the same tracks whenever it is read. Points behind
    the camera are invalid, all other labels valid.

    Samples as in the paper: `SampleSettings(num_frames=24, dilation=1, min_visible=1, affine=None, flip=0,
    crop=(0.55, 1), color=Color())`.

    Args:
        folder: searched with all folders below it.
        name: what messages call the dataset.
        split: "train" or "validation".
        num_tracks: largest number of tracks of a clip.

    Raises:
        DatasetError: if there is no file of this split, or one is no TFRecord, or not whole.
    """

    def __init__(
        self,
        folder: FilePath,
        name: str = "panning movi-e",
        *,
        split: str = "train",
        num_tracks: int = 1024,
    ) -> None:
        if num_tracks < 1:
            raise ValueError(f"num_tracks must be at least 1, got {num_tracks}")
        self.name = name
        self.num_tracks = num_tracks
        self.files = sort_clips(Path(folder).rglob(f"*-{split}.tfrecord*"), f"file NAME-{split}.tfrecord-...", folder)
        records = []
        for number, path in enumerate(self.files):
            try:
                records += [(number, *record) for record in find_records(path)]
            except ValueError as error:
                raise DatasetError(error, path=path) from error
        # File number, first byte and length of each clip.
        self._records = np.array(records, np.int64).reshape(-1, 3)

    def __len__(self) -> int:
        return len(self._records)

    def __getitem__(self, index: int) -> TrackedClip:
        if not 0 <= index < len(self):
            raise IndexError(f"{self.name}: clip {index} of {len(self)}")
        number, start, length = (int(value) for value in self._records[index])
        name = f"{self.files[number]}, byte {start}"
        try:
            found = read_example(self.files[number], (start, length), {*_ARRAYS, *_IMAGES})
            scene = _Scene.read(found)
            xy, visible, valid = _tracks(scene, self.num_tracks, np.random.default_rng([2, index]))
        except ValueError as error:
            raise BadClipError(error, path=name) from error
        _, height, width = scene.depth.shape
        images = found["video"]

        def load(numbers: Sequence[int]) -> Iterator[np.ndarray]:
            for t in numbers:
                try:
                    yield _image(images[t], "video", (height, width))
                except ValueError as error:
                    raise BadClipError(error, path=name) from error

        tracks = make_tracks(name, xy, visible, valid, height=height, width=width)
        return TrackedClip(tracks, load, clip_id=name)


@dataclass(frozen=True)
class _Camera:
    """A pinhole camera that looks along its -z, y up: `rotation` [T, 3, 3] to the world, `position` [T, 3].

    `focal` in pixels; the optical axis meets the middle of the frame.
    """

    rotation: np.ndarray
    position: np.ndarray
    focal: float
    height: int
    width: int

    def project(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Project world points [N, T, 3] to raster pixels [N, T, 2], NaN behind the camera, and distances [N, T]."""
        in_camera = np.einsum("tji,ntj->nti", self.rotation, points - self.position)
        depth = -in_camera[..., 2:]
        with np.errstate(divide="ignore", invalid="ignore"):
            xy = self.focal * in_camera[..., :2] / depth * (1, -1) + (self.width / 2, self.height / 2)
        return np.where(depth > 0, xy, np.nan), np.linalg.norm(in_camera, axis=-1)

    def unproject(self, time: np.ndarray, xy: np.ndarray, distance: np.ndarray) -> np.ndarray:
        """Return the world points [N, 3] at raster pixels [N, 2] of frames `time` [N] and distances [N]."""
        ray = np.ones((len(xy), 3)) * (1, 1, -self.focal)
        ray[:, :2] = (xy - (self.width / 2, self.height / 2)) * (1, -1)
        ray *= (distance / np.linalg.norm(ray, axis=1))[:, None]
        points: np.ndarray = np.einsum("nij,nj->ni", self.rotation[time], ray) + self.position[time]
        return points


@dataclass(frozen=True)
class _Scene:
    """One rendered scene.

    Attributes:
        camera: of each frame.
        boxes: [N, T, 4, 3], from coordinates in an object's box (-0.5 to 0.5, then 1) to the world.
        rotations: [N, T, 3, 3], of each object.
        segments: [T, H, W] uint8, 0 for the background, else one more than an object's number.
        depth: [T, H, W] float32, distance from the camera.
        normals, coordinates: T encoded images, decoded where points are drawn.
    """

    camera: _Camera
    boxes: np.ndarray
    rotations: np.ndarray
    segments: np.ndarray
    depth: np.ndarray
    normals: Feature
    coordinates: Feature

    @classmethod
    def read(cls, found: dict[str, Feature]) -> _Scene:
        missing = [name for name in (*_ARRAYS, *_IMAGES) if name not in found]
        if missing:
            raise ValueError(f"the record has no {', '.join(missing)}: is it MOVi-E?")
        T = len(found["video"])
        for name in _IMAGES:
            if not isinstance(found[name], list) or len(found[name]) != T or not T:
                raise ValueError(f"{name} are not {T} images")
        arrays = {name: _array(found[name], name, T) for name in _ARRAYS}
        segments = np.stack([_image(data, "segmentations") for data in found["segmentations"]])
        depth = np.stack([_image(data, "depth", segments.shape[1:]) for data in found["depth"]])
        nearest, farthest = arrays["metadata/depth_range"]
        _, height, width = depth.shape
        boxes, quaternions = arrays["instances/bboxes_3d"], arrays["instances/quaternions"]
        if len(boxes) != len(quaternions) or segments.max() > len(boxes):
            raise ValueError(
                f"boxes of {len(boxes)} objects, rotations of {len(quaternions)}, pixels of {segments.max()}"
            )
        return cls(
            camera=_Camera(
                rotation=_rotations(arrays["camera/quaternions"]),
                position=arrays["camera/positions"],
                focal=float(arrays["camera/focal_length"][0] / arrays["camera/sensor_width"][0] * width),
                height=height,
                width=width,
            ),
            boxes=_boxes_to_world(boxes),
            rotations=_rotations(quaternions),
            segments=segments,
            depth=(nearest + depth * ((farthest - nearest) / UINT16)).astype(np.float32),
            normals=found["normal"],
            coordinates=found["object_coordinates"],
        )


def _tracks(scene: _Scene, num_tracks: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return xy [N, T, 2] float32, visible and valid [N, T] of points that are drawn by `rng`."""
    time, y, x = _draw_pixels(scene.segments, num_tracks, rng)
    owner = scene.segments[time, y, x].astype(int)
    T, H, W = scene.segments.shape

    # Coordinates on the object and surface normals at the drawn pixels, and whether the normals around are alike.
    coordinates, normals = np.empty((len(time), 3)), np.empty((len(time), 3))
    smooth = np.zeros(len(time), bool)
    for t in np.unique(time):
        drawn = time == t
        image = _image(scene.coordinates[t], "object_coordinates", (H, W))
        coordinates[drawn] = image[y[drawn], x[drawn]] / UINT16 - 0.5
        image = np.pad(_image(scene.normals[t], "normal", (H, W)) / UINT16 * 2 - 1, [(1, 1), (1, 1), (0, 0)])
        normals[drawn] = image[y[drawn] + 1, x[drawn] + 1]
        corners = [image[y[drawn] + dy, x[drawn] + dx] for dy in (0, 2) for dx in (0, 2)]
        rough = [np.linalg.norm(corner - normals[drawn], axis=1) > ROUGH_NORMAL for corner in corners]
        smooth[drawn] = np.sum(rough, 0) <= 2

    # World positions over time: the background stands still, objects carry their points by their boxes.
    points = np.empty((len(time), T, 3))
    still = owner == 0
    centers = np.stack([x, y], 1) + 0.5
    points[still] = scene.camera.unproject(time, centers, scene.depth[time, y, x])[still, None]
    moving = owner[~still] - 1
    homogeneous = np.concatenate([coordinates[~still], np.ones((len(moving), 1))], 1)
    points[~still] = np.einsum("ni,ntij->ntj", homogeneous, scene.boxes[moving])

    # A label is visible in the frame, if its object is rendered there and its surface faces the camera.
    xy, distance = scene.camera.project(points)
    valid = np.isfinite(xy).all(-1)
    with np.errstate(invalid="ignore"):
        visible = valid & ((xy >= 0) & (xy < (W, H))).all(-1)
    visible &= _is_rendered(scene, np.where(visible[..., None], xy, 0), distance, owner)
    away = _faces_away(scene, points[~still], normals[~still], time[~still], moving)
    visible[~still] &= ~(away & smooth[~still, None])
    return xy.astype(np.float32), visible, valid


def _draw_pixels(
    segments: np.ndarray, num_tracks: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Draw frame, row and column [N] of the pixels whose surface points are followed."""
    strides = (TIME_STRIDE, PIXEL_STRIDE, PIXEL_STRIDE)
    first = [int(rng.integers(min(step, size))) for step, size in zip(strides, segments.shape, strict=True)]
    grid = segments[tuple(slice(at, None, step) for at, step in zip(first, strides, strict=True))]
    counts = np.bincount(grid.ravel())
    remaining, present = num_tracks, np.flatnonzero(counts)
    chosen = []
    for done, owner in enumerate(present[np.argsort(counts[present], kind="stable")]):
        largest = max(1, round(MAX_OBJECT_FRACTION * counts[owner]))
        number = min(round(remaining / (len(present) - done)), largest)
        chosen.append(rng.choice(np.flatnonzero(grid == owner), number, replace=False))
        remaining -= number
    on_grid = np.unravel_index(np.concatenate(chosen), grid.shape)
    time, y, x = (at + step * index for at, step, index in zip(first, strides, on_grid, strict=True))
    return time, y, x


def _is_rendered(scene: _Scene, xy: np.ndarray, distance: np.ndarray, owner: np.ndarray) -> np.ndarray:
    """Return [N, T], whether the image shows these points [N, T, 2], by depth and object of the four pixels around."""
    T, H, W = scene.segments.shape
    corner = np.floor(xy - 0.5).astype(int)
    depth = np.zeros(distance.shape, np.float32)
    shown = np.zeros(distance.shape, bool)
    for dx, dy in ((0, 0), (1, 0), (0, 1), (1, 1)):
        x, y = np.clip(corner[..., 0] + dx, 0, W - 1), np.clip(corner[..., 1] + dy, 0, H - 1)
        depth = np.maximum(depth, scene.depth[np.arange(T), y, x])
        shown |= scene.segments[np.arange(T), y, x] == owner[:, None]
    return shown & (depth >= DEPTH_TOLERANCE * distance)


def _faces_away(
    scene: _Scene, points: np.ndarray, normals: np.ndarray, time: np.ndarray, number: np.ndarray
) -> np.ndarray:
    """Return [N, T], whether the surface at points of objects faces away; never, if it does where the point was drawn.

    `points` [N, T, 3] of objects `number` [N], `normals` [N, 3] in the world at frames `time` [N].
    """
    rotations = scene.rotations[number]
    rows = np.arange(len(number))
    normals = np.einsum("nji,nj->ni", rotations[rows, time], normals)
    normals = np.einsum("ntij,nj->nti", rotations, normals)
    away: np.ndarray = np.einsum("nti,nti->nt", normals, points - scene.camera.position) > 0
    turned: np.ndarray = away & ~away[rows, time][:, None]
    return turned


def _boxes_to_world(corners: np.ndarray) -> np.ndarray:
    """Return the affine maps [N, T, 4, 3] that fit world corners [N, T, 8, 3], z changing fastest, best."""
    unit = np.array([(x, y, z, 1) for x in (-0.5, 0.5) for y in (-0.5, 0.5) for z in (-0.5, 0.5)])
    maps: np.ndarray = np.linalg.pinv(unit) @ corners
    return maps


def _rotations(quaternions: np.ndarray) -> np.ndarray:
    """Return the matrices [..., 3, 3] of quaternions [..., 4], w first; raise ValueError if one is no rotation."""
    length = np.linalg.norm(quaternions, axis=-1, keepdims=True)
    if not (np.abs(length - 1) < 0.01).all():
        raise ValueError("a quaternion that is no rotation")
    w, x, y, z = np.moveaxis(quaternions / length, -1, 0)
    rows = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
        [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
        [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
    ]
    return np.stack([np.stack(row, -1) for row in rows], -2)


def _array(value: Feature, name: str, num_frames: int) -> np.ndarray:
    sizes = {"T": num_frames, "N": -1}
    shape = tuple(sizes[size] if isinstance(size, str) else size for size in _ARRAYS[name])
    if not isinstance(value, np.ndarray) or value.dtype.kind != "f" or not np.isfinite(value).all():
        raise ValueError(f"{name} are not finite numbers")
    unit = int(np.prod([size for size in shape if size > 0]))
    if value.size % unit or (-1 not in shape and value.size != unit):
        raise ValueError(f"{name} are {value.size} numbers, not {' x '.join(map(str, _ARRAYS[name]))}")
    return value.astype(np.float64).reshape(shape)


def _image(data: Any, name: str, size: tuple[int, ...] | None = None) -> np.ndarray:
    """Decode [H, W] or [H, W, 3] RGB, uint16, but for colors and segments; raise ValueError for others."""
    try:
        with Image.open(io.BytesIO(data)) as header:
            check_size(*header.size, "an image")
        image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    except (*IMAGE_DAMAGE, cv2.error):
        image = None
    dtype = np.uint8 if name in ("video", "segmentations") else np.uint16
    channels = 1 if image is None or image.ndim == 2 else image.shape[2]
    if image is None or image.dtype != dtype or channels != _IMAGES[name]:
        raise ValueError(f"an image of {name} is damaged, or of another kind")
    if size is not None and image.shape[:2] != size:
        raise ValueError(f"an image of {name} is {list(image.shape[:2])}, not {list(size)}")
    rgb: np.ndarray = image if channels == 1 else cv2.cvtColor(image, cv2.COLOR_BGR2RGB)
    return rgb
