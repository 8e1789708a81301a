"""Render moving objects instead of people: textured shapes in a room or before a photo.

Photos come from scikit-image and are CC0 or without known copyright restrictions: coffee (Rachel Michetti), chelsea
(Stefan van der Walt), rocket (SpaceX), retina (Haeggstroem), immunohistochemistry.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import cv2
import numpy as np
import skimage.data

from benchmarks.synthetic import raster
from benchmarks.synthetic.clothing import linear
from benchmarks.synthetic.paths import Path
from benchmarks.synthetic.renderer import MeshPart, RenderContext, RenderedClip, Scene
from benchmarks.synthetic.room import Room, mip_levels, painting
from benchmarks.synthetic.shapes import Shape

PHOTOS = ("coffee", "chelsea", "rocket", "retina", "immunohistochemistry")
DECAL_SIDE = 256
_PLAIN_KINDS = (raster.PRINT, raster.STRIPES, raster.DENIM, raster.WOOD, raster.PLAIN)
# These run around an axis of the shape.
_ROUND_KINDS = (raster.PLAID, raster.DOTS)


@dataclass(frozen=True)
class Material:
    """The surface of a part of an object: a row of the renderer's table, and a picture on it.

    The picture is [DECAL_SIDE, DECAL_SIDE, 3], sRGB in [0, 1], or None.
    """

    row: np.ndarray
    picture: np.ndarray | None = None


@dataclass(frozen=True)
class SceneObject:
    """A shape on its path; `materials` has one for each part of the shape."""

    shape: Shape
    path: Path
    materials: list[Material]

    def at(self, seconds: float) -> np.ndarray:
        """[V, 3] float64, world."""
        rotation, position = self.path(seconds)
        return self.shape.at(seconds) @ rotation.T + position


@dataclass(frozen=True)
class ObjectScene(Scene):
    """A scene whose `objects` move; it has no actors."""

    objects: list[SceneObject] = field(default_factory=list)


def render_objects(scene: ObjectScene, threads: int = 2, on_frame: Callable[[int], None] | None = None) -> RenderedClip:
    """Render all frames of a scene; its ground truth's `people` are the objects.

    The result depends on the scene alone.

    Raises:
        ValueError: for a scene without an object, or with actors.
    """
    if scene.actors or not scene.objects:
        raise ValueError("a scene of objects needs objects, and has no actors")
    return ObjectContext(scene).render(threads, on_frame)


class ObjectContext(RenderContext):
    """A scene with objects instead of people."""

    def __init__(self, scene: ObjectScene) -> None:
        self.objects = scene.objects
        parts = []
        for item in scene.objects:
            rows = np.array([material.row for material in item.materials], np.float32)
            pictures: list[np.ndarray] = []
            for row, material in zip(rows, item.materials, strict=True):
                if material.picture is not None:
                    row[raster.DECAL] = len(pictures)
                    opaque = np.ones((DECAL_SIDE, DECAL_SIDE, 1))
                    pictures.append(np.concatenate([linear(material.picture), opaque], 2).astype(np.float32))
            border = np.ones((len(item.shape.faces), 3), np.float32)
            face_material = item.shape.part[:, None].repeat(2, 1)
            parts.append(MeshPart(item.shape.faces, item.shape.rest, face_material, border, rows, pictures))
        super().__init__(scene, parts)

    def mover_vertices(self, seconds: float) -> list[np.ndarray]:
        """Return the vertices of each object."""
        return [item.at(seconds) for item in self.objects]

    def contact_shadows(self, seconds: float) -> np.ndarray:
        """Return a shadow under each object."""
        rows = []
        for vertices in self.mover_vertices(seconds):
            x, y, _ = vertices.mean(0)
            above = max(float(vertices[:, 2].min()), 0.0)
            radius = 0.6 * float(vertices[:, :2].std(0).mean()) + 0.05
            rows.append([x, y, radius + above / 3, 0.45 / (1 + 4 * above)])
        return np.array(rows)


def random_material(rng: np.random.Generator, shape: Shape, picture: float = 0.35) -> Material:
    """A surface for a shape: a pattern in three colors, or, with probability `picture`, a piece of a photo or painting
    laid through it from the front."""
    low, high = shape.rest.min(0), shape.rest.max(0)
    size = float((high - low).max())
    row = np.zeros(raster.MATERIAL_SIZE)
    row[raster.AXIS : raster.AXIS + 3] = _orthonormal(rng)[0]
    row[raster.SIDE : raster.SIDE + 3] = _perpendicular(row[raster.AXIS : raster.AXIS + 3])
    row[raster.DECAL] = -1
    tones = np.clip(rng.uniform(0.12, 0.9, (3, 1)) + rng.normal(0, 0.22, (3, 3)), 0.04, 0.96)
    for start, tone in zip((raster.COLOR_A, raster.COLOR_B, raster.COLOR_C), tones, strict=True):
        row[start : start + 3] = linear(tone)
    row[raster.GRAIN] = rng.uniform(0.1, 0.35)
    row[raster.WRINKLE] = rng.choice([0.0, 0.25, 0.5])
    row[raster.SHINE] = rng.choice([0.0, 0.04, 0.12])
    if rng.random() < picture:
        row[raster.KIND], row[raster.SCALE] = raster.PRINT, rng.uniform(5, 9) / size
        row[raster.ORIGIN + 1] = 100.0  # all of the shape is in front of it
        row[raster.DECAL_X], _, row[raster.DECAL_Z] = (low + high) / 2
        row[raster.DECAL_HALF] = 0.51 * size
        return Material(row, _picture(rng))
    kind = int(rng.choice(_PLAIN_KINDS + _ROUND_KINDS, p=[0.3, 0.12, 0.1, 0.12, 0.08, 0.14, 0.14]))
    row[raster.KIND], row[raster.CYCLES] = kind, rng.integers(4, 10)
    row[raster.SCALE] = rng.uniform(4.5, 9) / size  # wood and denim have their own
    return Material(row)


def photo_room(rng: np.random.Generator) -> Room:
    """A room whose back and sides are one large photo each, on a painted or noisy floor: unlike the rooms of people."""
    low, high = np.array([-3.4, -7.0, 0.0]), np.array([3.4, 2.2, 4.2])
    width, depth, height = high - low
    names = [PHOTOS[i] for i in rng.permutation(len(PHOTOS))[:3]]
    photos = [linear(getattr(skimage.data, name)()[..., :3] / 255.0) for name in names]
    back = _covering(photos[0], width, height)
    sides = [_covering(photo, depth, height) for photo in photos[1:]]
    ground = linear(cv2.GaussianBlur(painting(rng), (0, 0), 1.5) / 255.0)
    images = [*sides, sides[0], back, ground, ground]
    sizes = [(depth, height), (depth, height), (depth, height), (width, height), (3.0, 2.2), (3.0, 2.2)]
    texels, levels = mip_levels(images)
    light = np.array([rng.uniform(-0.8, 0.8), -0.9, 1.2])
    return Room(
        *(low, high, texels, levels, np.array(sizes)),
        light=light / np.linalg.norm(light),
        ambient=0.55,
        key=0.6,
    )


def _covering(photo: np.ndarray, width: float, height: float) -> np.ndarray:
    """The middle of a photo, of a wall's proportions, 200 pixels a meter."""
    scale = max(200 * width / photo.shape[1], 200 * height / photo.shape[0])
    large = cv2.resize(photo, None, fx=scale, fy=scale, interpolation=cv2.INTER_CUBIC)
    rows, columns = round(200 * height), round(200 * width)
    top, left = (large.shape[0] - rows) // 2, (large.shape[1] - columns) // 2
    return np.clip(large[max(top, 0) :, max(left, 0) :][:rows, :columns], 0, 1)


def _picture(rng: np.random.Generator) -> np.ndarray:
    """[DECAL_SIDE, DECAL_SIDE, 3] a square of a photo, or of a painting, that is not nearly of one tone."""
    square = np.zeros((1, 1, 3), np.uint8)
    while square.std() < 32:
        name = str(rng.choice([*PHOTOS, "painting"]))
        image = painting(rng) if name == "painting" else getattr(skimage.data, name)()[..., :3]
        side = int(rng.uniform(0.45, 0.95) * min(image.shape[:2]))
        top, left = rng.integers(0, np.array(image.shape[:2]) - side + 1)
        square = image[top : top + side, left : left + side]
    turned = np.ascontiguousarray(np.rot90(square, int(rng.integers(4))))
    return cv2.resize(turned, (DECAL_SIDE, DECAL_SIDE), interpolation=cv2.INTER_AREA) / 255.0


def _orthonormal(rng: np.random.Generator) -> np.ndarray:
    return np.linalg.qr(rng.normal(size=(3, 3)))[0]


def _perpendicular(axis: np.ndarray) -> np.ndarray:
    side = np.cross(axis, np.eye(3)[np.abs(axis).argmin()])
    return side / np.linalg.norm(side)
