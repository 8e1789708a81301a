"""Rooms for rendered clips: a textured box with pictures on the wall, and furniture in front of people.

Photos come from scikit-image and are CC0 or public domain: brick, grass and gravel (CC0 Textures,
linolafett), coffee (Rachel Michetti), chelsea (Stefan van der Walt), rocket (SpaceX).
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import skimage.data

from benchmarks.synthetic import raster
from benchmarks.synthetic.clothing import linear

STYLES = ("studio", "loft", "yard", "gallery")
_PAINT = ((0.80, 0.76, 0.68), (0.58, 0.66, 0.68), (0.72, 0.60, 0.50), (0.55, 0.60, 0.50), (0.82, 0.80, 0.78))
_PIXELS_PER_METER = 200


@dataclass(frozen=True)
class Room:
    """The inside of a box, world meters; surface s is 2 * axis + (1 if its high side); floor 4, back wall 3.

    Attributes:
        low, high: [3] float64.
        texels: [N, 3] float32, all surfaces' mip levels one after the other, linear light.
        levels: [6, L, 3] int64: offset, rows, columns of each mip level.
        sizes: [6, 2] float64, meters that a surface's texture covers (right, down).
        light: [3] float64, unit direction from which the key light comes.
        ambient, key: brightness of all-round and key light.
    """

    low: np.ndarray
    high: np.ndarray
    texels: np.ndarray
    levels: np.ndarray
    sizes: np.ndarray
    light: np.ndarray
    ambient: float
    key: float


def build_room(style: str, seed: int, cup: bool = False) -> Room:
    """A room of one of `STYLES`; the same for the same seed. The floor is z = 0; the camera stands at -y.

    With `cup`, the photo of a coffee cup hangs there, which BlazePose is apt to take for a person.
    """
    if style not in STYLES:
        raise ValueError(f"no room style {style!r}: choose from {', '.join(STYLES)}")
    rng = np.random.default_rng(seed)
    low, high = np.array([-4.5, -7.0, 0.0]), np.array([4.5, 2.6, 3.4])
    if style == "yard":
        low, high = np.array([-8.0, -8.0, 0.0]), np.array([8.0, 4.5, 5.5])
    width, depth, height = high - low
    pictures = [
        skimage.data.coffee() if cup else painting(rng),
        skimage.data.chelsea(),
        skimage.data.rocket(),
    ]
    pictures = [pictures[i] for i in rng.permutation(len(pictures))]

    if style == "yard":
        floor, floor_size = _tinted(skimage.data.grass(), (0.34, 0.40, 0.20), 1.2), (2.6, 2.6)
        if rng.random() < 0.5:
            floor, floor_size = _tinted(skimage.data.gravel(), (0.50, 0.47, 0.42), 1.0), (2.2, 2.2)
        wall, wall_size = _bricks((0.50, 0.36, 0.29)), (1.4, 1.4)
        back = _tiled(wall, wall_size, width, height)
    elif style == "loft":
        floor, floor_size = _planks(rng, width, depth), (width, depth)
        wall, wall_size = _bricks(((0.56, 0.35, 0.28), (0.72, 0.70, 0.67))[rng.integers(2)]), (1.4, 1.4)
        back = _tiled(wall, wall_size, width, height)
        _hang(back, pictures[:2], rng)
    else:
        floor, floor_size = _planks(rng, width, depth), (width, depth)
        paint = linear(_PAINT[rng.integers(len(_PAINT))])
        wall, wall_size = _plaster(paint, rng, 3.0, height), (3.0, height)
        back = _plaster(paint, rng, width, height)
        if style == "gallery":
            _hang(back, pictures, rng)
        else:
            side = float(rng.choice([-1, 1]))
            _hang(back, pictures[:2], rng, 0.5 - 0.32 * side, 0.5 - 0.02 * side)
            _shelf(back, rng, center=0.5 + 0.22 * side)
        back[-round(0.1 * _PIXELS_PER_METER) :] = linear((0.86, 0.85, 0.82))
    ceiling, ceiling_size = _plaster(linear((0.85, 0.85, 0.84)), rng, 2.0, 2.0), (2.0, 2.0)
    images = [wall, wall, wall, back, floor, ceiling]
    sizes = [wall_size, wall_size, wall_size, (width, height), floor_size, ceiling_size]
    texels, levels = mip_levels(images)
    angle = rng.uniform(-0.9, 0.9)
    light = np.array([np.sin(angle), -0.8, 1.35 + rng.uniform(-0.2, 0.3)])
    return Room(
        *(low, high, texels, levels, np.array(sizes)),
        light=light / np.linalg.norm(light),
        ambient=0.50 if style != "yard" else 0.42,
        key=0.68 if style != "yard" else 0.95,
    )


@dataclass(frozen=True)
class Furniture:
    """Boxes that stand still in the world.

    Attributes:
        vertices: [V, 3] float64, world meters.
        faces: [F, 3] int32.
        face_material: [F] int32, rows of `materials`.
        materials: [M, raster.MATERIAL_SIZE] float32; patterns live in world coordinates.
    """

    vertices: np.ndarray
    faces: np.ndarray
    face_material: np.ndarray
    materials: np.ndarray


def table(center: tuple[float, float], size: tuple[float, float, float], seed: int) -> Furniture:
    """A table: a top of `size` (width, depth, height) and four legs."""
    (x, y), (width, depth, height) = center, size
    leg = 0.06
    boxes = [((x, y, height - 0.025), (width, depth, 0.05))]
    for sx in (-1, 1):
        for sy in (-1, 1):
            boxes.append(
                (
                    (x + sx * (width / 2 - leg), y + sy * (depth / 2 - leg), (height - 0.05) / 2),
                    (leg, leg, height - 0.05),
                )
            )
    return _boxes(boxes, [_wood(seed)] * len(boxes))


def crates(center: tuple[float, float], size: float, count: int, seed: int) -> Furniture:
    """A stack of `count` boxes of about `size` meters, each of another material."""
    rng = np.random.default_rng(seed)
    boxes, rows, top = [], [], 0.0
    for _ in range(count):
        edge = size * rng.uniform(0.75, 1.05, 3)
        x, y = center + rng.uniform(-0.06, 0.06, 2)
        boxes.append(((x, y, top + edge[2] / 2), tuple(edge)))
        rows.append(_wood(int(rng.integers(1000))) if rng.random() < 0.5 else _print(rng))
        top += edge[2]
    return _boxes(boxes, rows)


def pillar(center: tuple[float, float], width: float, height: float, seed: int) -> Furniture:
    """An upright post from floor to `height`."""
    return _boxes([((*center, height / 2), (width, width, height))], [_print(np.random.default_rng(seed))])


def _boxes(boxes: list, rows: list[np.ndarray]) -> Furniture:
    sides = ((0, 1, 3, 2), (4, 6, 7, 5), (0, 4, 5, 1), (2, 3, 7, 6), (0, 2, 6, 4), (1, 5, 7, 3))
    vertices: list[np.ndarray] = []
    faces, material = [], []
    for row, (center, size) in enumerate(boxes):
        corners = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)]) * np.array(size) / 2
        # Flat sides: each side has corners of its own, so that normals do not blend around the edge
        for side in sides:
            first = len(vertices)
            vertices.extend(corners[list(side)] + center)
            faces.extend([(first, first + 1, first + 2), (first, first + 2, first + 3)])
            material.extend([row, row])
    return Furniture(
        np.array(vertices),
        np.array(faces, np.int32),
        np.array(material, np.int32),
        np.array(rows, np.float32),
    )


def _row(kind: int, colors: list, scale: float, grain: float) -> np.ndarray:
    row = np.zeros(raster.MATERIAL_SIZE)
    row[raster.KIND], row[raster.SCALE], row[raster.GRAIN] = kind, scale, grain
    for start, color in zip((raster.COLOR_A, raster.COLOR_B, raster.COLOR_C), colors, strict=True):
        row[start : start + 3] = linear(color)
    row[raster.AXIS], row[raster.SIDE + 2] = 1.0, 1.0  # grain along x
    row[raster.DECAL] = -1
    row[raster.SHINE] = 0.04
    return row


def _wood(seed: int) -> np.ndarray:
    tones = ((0.62, 0.42, 0.25), (0.45, 0.28, 0.16), (0.75, 0.60, 0.42))
    tone = np.array(tones[seed % len(tones)])
    return _row(raster.WOOD, [tone, tone * 0.78, tone * 0.5], 1.0, 0.15)


def _print(rng: np.random.Generator) -> np.ndarray:
    tone = rng.uniform(0.35, 0.7) + rng.uniform(-0.12, 0.12, 3)
    return _row(raster.PRINT, [tone, tone * 0.72, np.minimum(tone * 1.3, 0.95)], 14.0, 0.25)


def _tinted(gray: np.ndarray, color: tuple[float, float, float], contrast: float) -> np.ndarray:
    """[H, W, 3] linear light: a gray photo with the mean color given."""
    light = (gray / 255.0) ** (2.2 * contrast)
    return (light / light.mean())[..., None] * linear(color)


def _bricks(color: tuple[float, float, float]) -> np.ndarray:
    """[512, 512, 3] linear light: scikit-image's brick wall, its tilt undone, courses level, mortar gray."""
    corners = np.array([[37, 0], [457, 0], [518, 512], [5, 512]], np.float32)
    square = np.array([[0, 0], [512, 0], [512, 512], [0, 512]], np.float32)
    warp = cv2.getPerspectiveTransform(corners, square)
    gray = cv2.warpPerspective(skimage.data.brick(), warp, (512, 512), borderMode=cv2.BORDER_REFLECT).T / 255.0
    mortar = np.clip((gray - 0.42) / 0.15, 0, 1)[..., None]
    light = (gray**2.2 / np.median(gray) ** 2.2)[..., None]
    return light * (linear(color) * (1 - mortar) + 0.22 * mortar)


def _tiled(image: np.ndarray, size: tuple[float, float], width: float, height: float) -> np.ndarray:
    """A wall of `width` x `height` meters covered with an image of `size` meters, mirrored in turn."""
    rows, columns = round(size[1] * _PIXELS_PER_METER), round(size[0] * _PIXELS_PER_METER)
    tile = cv2.resize(image, (columns, rows), interpolation=cv2.INTER_AREA)
    block = np.concatenate([np.concatenate([tile, tile[:, ::-1]], 1), np.concatenate([tile, tile[:, ::-1]], 1)[::-1]])
    total = (round(height * _PIXELS_PER_METER), round(width * _PIXELS_PER_METER))
    repeats = (-(-total[0] // block.shape[0]), -(-total[1] // block.shape[1]), 1)
    return np.ascontiguousarray(np.tile(block, repeats)[: total[0], : total[1]])


def painting(rng: np.random.Generator) -> np.ndarray:
    """[300, 420, 3] uint8: strokes of paint over a colored ground."""
    palette = np.clip(rng.uniform(0.1, 0.9, (6, 3)) + rng.normal(0, 0.1, (6, 3)), 0.03, 0.97) * 255
    canvas = np.full((300, 420, 3), palette[0])
    for _ in range(160):
        x, y = rng.integers([420, 300])
        length, width = rng.uniform(15, 90), int(rng.integers(2, 16))
        angle = rng.normal(0.4, 0.5)
        end = (int(x + length * np.cos(angle)), int(y + length * np.sin(angle)))
        tone = palette[rng.integers(1, 6)] * rng.uniform(0.8, 1.15)
        cv2.line(canvas, (int(x), int(y)), end, tone.tolist(), width, cv2.LINE_AA)
    canvas *= 1 + 0.05 * _octaves(300, 420, 16, rng)[..., None]
    return canvas.clip(0, 255).astype(np.uint8)


def _octaves(rows: int, columns: int, coarsest: int, rng: np.random.Generator, fall: float = 0.6) -> np.ndarray:
    """[rows, columns] noise of about unit variance, its octaves falling off by `fall`."""
    out, size, weight = np.zeros((rows, columns)), coarsest, 1.0
    while size >= 1:
        grid = rng.normal(size=(rows // size + 3, columns // size + 3))
        big = cv2.resize(grid, None, fx=size, fy=size, interpolation=cv2.INTER_CUBIC)
        out += weight * big[:rows, :columns]
        size, weight = size // 2, weight * fall
    return out / out.std()


def _plaster(paint: np.ndarray, rng: np.random.Generator, width: float, height: float) -> np.ndarray:
    rows, columns = round(height * _PIXELS_PER_METER), round(width * _PIXELS_PER_METER)
    return paint * np.clip(1 + 0.075 * _octaves(rows, columns, 128, rng), 0.3, 2)[..., None]


def _planks(rng: np.random.Generator, width: float, depth: float) -> np.ndarray:
    """A floor of boards that run along x, 12 cm wide."""
    columns, rows, board = round(width * _PIXELS_PER_METER), round(depth * _PIXELS_PER_METER), 24
    out = np.empty((rows, columns, 3))
    tone = linear(((0.62, 0.45, 0.29), (0.50, 0.35, 0.23), (0.70, 0.56, 0.40))[rng.integers(3)])
    for top in range(0, rows, board):
        grain = _stretched(_octaves(board, columns // 8, 16, rng), board, columns)
        fine = _stretched(rng.normal(size=(board, columns // 4)), board, columns)
        strip = tone * (1 + 0.14 * grain + 0.05 * fine)[..., None]
        joint = int(rng.integers(200))
        while joint < columns:
            strip[:, joint:] *= rng.uniform(0.75, 1.2) / strip[:, joint:].mean() * tone.mean()
            strip[:, max(joint - 1, 0) : joint + 1] *= 0.45
            joint += int(rng.integers(200, 480))
        strip[:2] *= 0.5
        out[top : top + board] = strip[: rows - top]
    return np.clip(out, 0, 1)


def _stretched(image: np.ndarray, rows: int, columns: int) -> np.ndarray:
    return cv2.resize(image, (columns, rows), interpolation=cv2.INTER_CUBIC)


def _hang(
    wall: np.ndarray,
    pictures: list[np.ndarray],
    rng: np.random.Generator,
    first: float = 0.2,
    last: float = 0.8,
) -> None:
    """Hang framed pictures on a wall, at eye height, evenly from `first` to `last` (fractions of its width)."""
    rows, columns = wall.shape[:2]
    centers = np.linspace(first, last, len(pictures)) + rng.uniform(-0.03, 0.03, len(pictures))
    for picture, center in zip(pictures, centers, strict=True):
        height = int(rng.uniform(0.9, 1.25) * _PIXELS_PER_METER)
        width = int(height * picture.shape[1] / picture.shape[0])
        small = linear(cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA) / 255.0)
        x = int(center * columns - width / 2)
        y = int(rows - 1.75 * _PIXELS_PER_METER - height / 2 + rng.uniform(-15, 15))
        frame = int(0.045 * _PIXELS_PER_METER)
        wall[y - frame : y + height + frame, x - frame : x + width + frame] = linear(
            (0.13, 0.11, 0.10) if rng.random() < 0.5 else (0.86, 0.84, 0.80)
        )
        wall[y + height + frame : y + height + 2 * frame, x - frame + 4 : x + width + frame + 4] *= 0.7
        wall[y : y + height, x : x + width] = small


def _shelf(wall: np.ndarray, rng: np.random.Generator, center: float) -> None:
    """A bookcase with rows of colored spines, flat against the wall."""
    rows, columns = wall.shape[:2]
    width, height = int(1.3 * _PIXELS_PER_METER), int(1.9 * _PIXELS_PER_METER)
    left, top = int(center * columns - width / 2), rows - height
    wall[top:rows, left : left + width] = linear((0.34, 0.22, 0.14))
    for shelf in range(5):
        y0 = top + 12 + shelf * (height - 12) // 5
        y1 = top + (shelf + 1) * (height - 12) // 5
        wall[y0:y1, left + 10 : left + width - 10] = linear((0.12, 0.08, 0.06))
        x = left + 12
        while x < left + width - 24:
            thick, tall = int(rng.integers(5, 13)), int((y1 - y0) * rng.uniform(0.62, 0.93))
            color = linear(np.clip(rng.uniform(0.15, 0.85) + rng.normal(0, 0.18, 3), 0.05, 0.95))
            wall[y1 - tall : y1, x : x + thick] = color
            wall[y1 - tall : y1, x] = color * 0.5
            wall[y1 - tall + 6 : y1 - tall + 10, x : x + thick] = color * 0.6 + 0.2
            x += thick + (int(rng.integers(6, 22)) if rng.random() < 0.08 else 0)


def mip_levels(images: list[np.ndarray], count: int = 6) -> tuple[np.ndarray, np.ndarray]:
    parts, levels, offset = [], np.zeros((len(images), count, 3), np.int64), 0
    for i, image in enumerate(images):
        level = image.astype(np.float32)
        for j in range(count):
            rows, columns = level.shape[:2]
            levels[i, j] = offset, rows, columns
            parts.append(level.reshape(-1, 3))
            offset += rows * columns
            level = cv2.resize(level, (max(columns // 2, 1), max(rows // 2, 1)), interpolation=cv2.INTER_AREA)
    return np.concatenate(parts), levels
