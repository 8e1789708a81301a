"""Scenes with images of people: in a mirror, on a poster, on a television, as mannequins.

An image in the mirror is a person of the ground truth, after the real ones; a picture is furniture, so that nobody is
on it.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, replace

import cv2
import numpy as np

from anthrotap_builder.bodies import load_body
from benchmarks.synthetic import raster
from benchmarks.synthetic.clothing import linear
from benchmarks.synthetic.renderer import PeopleContext, RenderedClip, Scene
from benchmarks.synthetic.room import Furniture

# Texels of a picture's side.
SIDE = 384
# Of mannequins, linear light.
GRAY = 0.5


@dataclass(frozen=True)
class StagedScene(Scene):
    """A scene with images of people.

    Attributes:
        mirror: y of a mirror, which is the whole back of the room, world meters; None for no mirror. Its image of the
            room is not rendered: let the room go on behind it.
        pictures: [K, SIDE, SIDE, 3] float, sRGB in [0, 1], of `hung` furniture: one for each frame, or one for all.
        mannequins: whether all bodies are of one plain gray.
    """

    mirror: float | None = None
    pictures: np.ndarray | None = None
    mannequins: bool = False


def render_staged(scene: StagedScene, threads: int = 2, on_frame: Callable[[int], None] | None = None) -> RenderedClip:
    """Render all frames of a scene, as `render_scene` does."""
    return StagedContext(scene).render(threads, on_frame)


class StagedContext(PeopleContext):
    """A scene of people, their images in a mirror, and pictures."""

    scene: StagedScene

    def __init__(self, scene: StagedScene) -> None:
        # Each actor is joined twice: for himself, and for his image.
        doubled = scene.actors if scene.mirror is None else [*scene.actors, *scene.actors]
        self.num_real = len(scene.actors)
        super().__init__(replace(scene, actors=doubled), load_body("anny"))
        if scene.mirror is not None:
            # A mirror image is inside out: its faces are turned, so that normals point outwards.
            first, last = sum(map(len, self.mover_faces[: self.num_real])), sum(map(len, self.mover_faces))
            self.faces[first:last] = self.faces[first:last, ::-1]
            self.face_border[first:last] = self.face_border[first:last, ::-1]
            self.mover_faces = [
                faces if index < self.num_real else np.ascontiguousarray(faces[:, ::-1])
                for index, faces in enumerate(self.mover_faces)
            ]
        if scene.mannequins:
            rows = self.materials[: sum(len(clothed.materials) for clothed in self.clothed)]
            rows[:, [raster.KIND, raster.GRAIN, raster.WRINKLE, raster.PAINT_FIRST, raster.PAINT_LAST]] = 0
            rows[:, raster.COLOR_A : raster.COLOR_C + 3] = GRAY
        self.pictures_from = len(self.decals)
        if scene.pictures is not None:
            opaque = np.ones((*scene.pictures.shape[:3], 1))
            pictures = np.concatenate([linear(scene.pictures), opaque], axis=3).astype(np.float32)
            worn = [cv2.resize(decal, (SIDE, SIDE), interpolation=cv2.INTER_LINEAR) for decal in self._worn()]
            self.decals = np.stack([*worn, *pictures])
            self.pictures_from = len(worn)

    def _worn(self) -> list[np.ndarray]:
        """The decals on people's clothes."""
        return [decal for clothed in self.clothed for decal in clothed.decals]

    def draw(self, t: int) -> np.ndarray:
        """Render one frame, [H, W, 3] uint8, with the picture of that frame."""
        pictures = self.scene.pictures
        if pictures is None or len(pictures) == 1:
            return super().draw(t)
        frame = copy.copy(self)
        frame.materials = self.materials.copy()
        shown = frame.materials[:, raster.DECAL] >= self.pictures_from
        frame.materials[shown, raster.DECAL] = self.pictures_from + t
        return PeopleContext.draw(frame, t)

    def mover_vertices(self, seconds: float) -> list[np.ndarray]:
        """Return the vertices of each person, then of each image in the mirror."""
        people = super().mover_vertices(seconds)
        for image in people[self.num_real :]:
            assert self.scene.mirror is not None
            image[:, 1] = 2 * self.scene.mirror - image[:, 1]
        return people

    def contact_shadows(self, seconds: float) -> np.ndarray:
        """Return the shadows under people, and their images."""
        spots = super().contact_shadows(seconds)
        own = 3 * self.num_real
        if self.scene.mirror is not None:
            spots[own:, 1] = 2 * self.scene.mirror - spots[own:, 1]
        return spots


def hung(center: tuple[float, float, float], side: float, frame: float = 0.05) -> Furniture:
    """A square picture in a frame that looks towards -y: its content is the scene's `pictures`.

    Args:
        center: world meters.
        side: of the picture, meters.
        frame: width of the frame, meters.
    """
    x, y, z = center
    half, outer = side / 2, side / 2 + frame
    vertices: list[tuple[float, float, float]] = []
    faces: list[tuple[int, int, int]] = []
    for reach, depth in ((outer, 0.0), (half, -0.02)):
        first = len(vertices)
        vertices += [(x + sx * reach, y + depth, z + sz * reach) for sx, sz in ((-1, -1), (1, -1), (1, 1), (-1, 1))]
        faces += [(first, first + 1, first + 2), (first, first + 2, first + 3)]
    row = np.zeros(raster.MATERIAL_SIZE, np.float32)
    row[raster.COLOR_A : raster.COLOR_A + 3] = row[raster.COLOR_B : raster.COLOR_B + 3] = 0.02
    row[raster.COLOR_C : raster.COLOR_C + 3] = 0.02
    row[raster.AXIS], row[raster.SIDE + 2], row[raster.SCALE] = 1.0, 1.0, 1.0
    row[raster.DECAL] = -1
    picture = row.copy()
    # Its decal is the first after those of people; all of the picture is in front of the plane at `ORIGIN`.
    picture[raster.DECAL], picture[raster.DECAL_X], picture[raster.DECAL_Z] = 0, x, z
    picture[raster.DECAL_HALF], picture[raster.ORIGIN + 1] = half, y + 1
    material = np.array([0, 0, 1, 1], np.int32)
    return Furniture(np.array(vertices), np.array(faces, np.int32), material, np.stack([row, picture]))
