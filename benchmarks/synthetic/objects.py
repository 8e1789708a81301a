"""Renders moving things that are no people, by the renderer of people: textured shapes in a room or before a photo.

Photos come from scikit-image and are CC0 or without known copyright restrictions: coffee (Rachel Michetti), chelsea
(Stefan van der Walt), rocket (SpaceX), retina (Haeggstroem), immunohistochemistry.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import cv2
import numpy as np
import skimage.data

from benchmarks.synthetic import raster
from benchmarks.synthetic.renderer import (
    GRAIN_MARGIN,
    RenderedClip,
    Scene,
    _Stage,  # what a frame is made of is the same; only what moves in it is not
)
from benchmarks.synthetic.room import Room, _mip_levels, _painting
from benchmarks.synthetic.shapes import Path, Shape
from benchmarks.synthetic.truth import Truth
from benchmarks.synthetic.wardrobe import linear

PHOTOS = ("coffee", "chelsea", "rocket", "retina", "immunohistochemistry")
DECAL_SIDE = 256
_PLAIN_KINDS = (raster.PRINT, raster.STRIPES, raster.DENIM, raster.WOOD, raster.PLAIN)
_ROUND_KINDS = (raster.PLAID, raster.DOTS)  # run around an axis of the shape


@dataclass(frozen=True)
class Look:
    """The surface of a part of a thing: a row of the renderer's materials, and a picture that it bears or None
    ([DECAL_SIDE, DECAL_SIDE, 3], sRGB in [0, 1])."""

    row: np.ndarray
    picture: np.ndarray | None = None


@dataclass(frozen=True)
class Thing:
    """A shape on its path; `looks` has one for each part of the shape."""

    shape: Shape
    path: Path
    looks: list[Look]

    def at(self, seconds: float) -> np.ndarray:
        """[V, 3] float64, world."""
        rotation, place = self.path(seconds)
        return self.shape.at(seconds) @ rotation.T + place


@dataclass(frozen=True)
class ObjectScene(Scene):
    """A scene whose `things` move; its actors stay away."""

    things: list[Thing] = field(default_factory=list)


def render_objects(
    scene: ObjectScene, threads: int = 2, on_frame: Callable[[int], None] | None = None
) -> RenderedClip:
    """Draws all frames of a scene; the truth's `people` are its things. The result depends on the scene alone.

    Raises:
        ValueError: for a scene without a thing, or with actors.
    """
    if scene.actors or not scene.things:
        raise ValueError("a scene of objects needs things, and has no actors")
    stage = _ObjectStage(scene)
    frames = np.empty((scene.num_frames, scene.height, scene.width, 3), np.uint8)

    def draw(t: int) -> None:
        frames[t] = stage.draw(t)
        if on_frame:
            on_frame(t)

    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(draw, range(scene.num_frames)))
    return RenderedClip(frames, scene.fps, stage.truth())


class _ObjectStage(_Stage):
    """The stage with things on it instead of people."""

    def __init__(self, scene: ObjectScene) -> None:
        self.scene: ObjectScene = scene
        self.rotations = scene.camera.rotations()
        self.still = np.concatenate([np.zeros((0, 3)), *(piece.vertices for piece in scene.furniture)])
        faces, patterns, materials, face_material = [], [], [], []
        pictures = [np.zeros((DECAL_SIDE, DECAL_SIDE, 4), np.float32)]
        first_vertex = first_material = 0
        for thing in scene.things:
            rows = np.array([look.row for look in thing.looks], np.float32)
            for row, look in zip(rows, thing.looks, strict=True):
                if look.picture is not None:
                    row[raster.DECAL] = len(pictures)
                    opaque = np.ones((DECAL_SIDE, DECAL_SIDE, 1))
                    pictures.append(np.concatenate([linear(look.picture), opaque], 2).astype(np.float32))
            faces.append(thing.shape.faces + first_vertex)
            face_material.append(thing.shape.part + first_material)
            patterns.append(thing.shape.rest.astype(np.float32))
            materials.append(rows)
            first_vertex += len(thing.shape.rest)
            first_material += len(rows)
        self.people_vertices = first_vertex
        for piece in scene.furniture:
            faces.append(piece.faces + first_vertex)
            face_material.append(piece.face_material + first_material)
            patterns.append(piece.vertices.astype(np.float32))
            materials.append(piece.materials)
            first_vertex += len(piece.vertices)
            first_material += len(piece.materials)
        self.faces = np.concatenate(faces).astype(np.int32)
        self.face_material = np.concatenate(face_material).astype(np.int32)[:, None].repeat(2, 1)
        self.face_border = np.ones((len(self.faces), 3), np.float32)
        self.materials = np.concatenate(materials).astype(np.float32)
        self.patterns = np.concatenate(patterns)
        self.paints = np.zeros((0, 10), np.float32)
        self.decals = np.stack(pictures)
        rng = np.random.default_rng(scene.seed)
        size = (scene.height + GRAIN_MARGIN, scene.width + GRAIN_MARGIN)
        self.grain = rng.standard_normal((*size, 1), np.float32) + 0.5 * rng.standard_normal(
            (*size, 3), np.float32
        )
        key = scene.room.light
        right = np.cross([0.0, 0, 1], key)
        right /= np.linalg.norm(right)
        self.light_axes = np.stack([right, np.cross(key, right), -key])

    def vertices(self, seconds: float) -> np.ndarray:
        """[V, 3] float64, everything in the world at a time."""
        return np.concatenate([*(thing.at(seconds) for thing in self.scene.things), self.still])

    def _blobs(self, seconds: float) -> np.ndarray:
        """[B, 4] contact shadows on the floor, under each thing."""
        rows = []
        for thing in self.scene.things:
            places = thing.at(seconds)
            x, y, _ = places.mean(0)
            above = max(float(places[:, 2].min()), 0.0)
            radius = 0.6 * float(places[:, :2].std(0).mean()) + 0.05
            rows.append([x, y, radius + above / 3, 0.45 / (1 + 4 * above)])
        return np.array(rows)

    def truth(self) -> Truth:
        scene = self.scene
        sizes = [len(thing.shape.rest) for thing in scene.things]
        ends = np.cumsum(sizes)
        seen = np.empty((scene.num_frames, ends[-1] + len(self.still), 3), np.float32)
        for t in range(scene.num_frames):
            seen[t] = (self.vertices(t / scene.fps) - scene.camera.place[t]) @ self.rotations[t].T
        *things, occluders = np.split(seen, ends, axis=1)
        first = int(sum(len(thing.shape.faces) for thing in scene.things))
        return Truth(
            people=[np.ascontiguousarray(vertices) for vertices in things],
            faces=[thing.shape.faces for thing in scene.things],
            occluders=np.ascontiguousarray(occluders),
            occluder_faces=self.faces[first:] - int(ends[-1]),
            focal=scene.camera.focal,
            height=scene.height,
            width=scene.width,
        )


def random_look(rng: np.random.Generator, shape: Shape, picture: float = 0.35) -> Look:
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
        return Look(row, _picture(rng))
    kind = int(rng.choice(_PLAIN_KINDS + _ROUND_KINDS, p=[0.3, 0.12, 0.1, 0.12, 0.08, 0.14, 0.14]))
    row[raster.KIND], row[raster.CYCLES] = kind, rng.integers(4, 10)
    row[raster.SCALE] = rng.uniform(4.5, 9) / size  # wood and denim have their own
    return Look(row)


def photo_room(rng: np.random.Generator) -> Room:
    """A room whose back and sides are one large photo each, on a painted or noisy floor: nothing like a home."""
    low, high = np.array([-3.4, -7.0, 0.0]), np.array([3.4, 2.2, 4.2])
    width, depth, height = high - low
    names = [PHOTOS[i] for i in rng.permutation(len(PHOTOS))[:3]]
    photos = [linear(getattr(skimage.data, name)()[..., :3] / 255.0) for name in names]
    back = _covering(photos[0], width, height)
    sides = [_covering(photo, depth, height) for photo in photos[1:]]
    ground = linear(cv2.GaussianBlur(_painting(rng), (0, 0), 1.5) / 255.0)
    images = [*sides, sides[0], back, ground, ground]
    sizes = [(depth, height), (depth, height), (depth, height), (width, height), (3.0, 2.2), (3.0, 2.2)]
    texels, levels = _mip_levels(images)
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
        image = _painting(rng) if name == "painting" else getattr(skimage.data, name)()[..., :3]
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
