"""Clothe a body for the renderer: garments, skin and hair by region, and cloth that stands off and slips."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
from scipy.ndimage import map_coordinates

from anthrotap_builder.bodies import Body
from anthrotap_builder.bodies.anny import JOINTS
from benchmarks.synthetic import raster

SKIN_TONES = (
    (0.91, 0.74, 0.62),
    (0.82, 0.62, 0.49),
    (0.66, 0.46, 0.34),
    (0.48, 0.32, 0.23),
    (0.34, 0.22, 0.16),
)
HAIR_COLORS = (
    (0.09, 0.07, 0.06),
    (0.24, 0.14, 0.08),
    (0.42, 0.27, 0.14),
    (0.62, 0.47, 0.27),
    (0.45, 0.42, 0.40),
)
CLOTH_COLORS = (
    (0.70, 0.13, 0.12), (0.10, 0.24, 0.52), (0.91, 0.88, 0.80), (0.93, 0.67, 0.14), (0.10, 0.40, 0.30),
    (0.38, 0.14, 0.38), (0.86, 0.40, 0.20), (0.12, 0.13, 0.16), (0.30, 0.58, 0.74), (0.78, 0.56, 0.62),
)  # fmt: skip
TROUSER_COLORS = (
    (0.17, 0.25, 0.42),
    (0.15, 0.15, 0.17),
    (0.55, 0.47, 0.34),
    (0.32, 0.34, 0.28),
    (0.40, 0.42, 0.46),
)
PATTERNS = {"plaid": raster.PLAID, "stripes": raster.STRIPES, "print": raster.PRINT, "dots": raster.DOTS,
            "plain": raster.PLAIN}  # fmt: skip
EYES, MOUTH_TO_NOSE = (0.030, -0.137, 0.791), 0.0365


@dataclass(frozen=True)
class Clothing:
    """Clothes, skin and hair of a person. Colors are sRGB in [0, 1].

    Attributes:
        shirt: a name in `PATTERNS`.
        sleeves: "short" or "long"; legs: "long" or "short".
        decal: text printed on the chest, "" for none.
        looseness: how far cloth stands off the skin, meters.
        slip: how far cloth slides and flutters over the body, meters.
    """

    shirt: str = "plaid"
    shirt_colors: tuple[tuple[float, float, float], ...] = CLOTH_COLORS[:3]
    trousers: tuple[float, float, float] = TROUSER_COLORS[0]
    shoes: tuple[float, float, float] = (0.85, 0.85, 0.83)
    skin: tuple[float, float, float] = SKIN_TONES[1]
    hair: tuple[float, float, float] = HAIR_COLORS[1]
    long_hair: bool = False
    sleeves: str = "short"
    legs: str = "long"
    decal: str = ""
    looseness: float = 0.012
    slip: float = 0.0

    @classmethod
    def random(cls, rng: np.random.Generator, **fixed: object) -> Clothing:
        """Choose clothing at random; `fixed` sets fields."""
        colors = rng.permutation(len(CLOTH_COLORS))[:3]
        chosen: dict[str, object] = {
            "shirt": str(rng.choice(list(PATTERNS))),
            "shirt_colors": tuple(CLOTH_COLORS[i] for i in colors),
            "trousers": TROUSER_COLORS[rng.integers(len(TROUSER_COLORS))],
            "shoes": ((0.85, 0.85, 0.83), (0.12, 0.12, 0.13), (0.65, 0.15, 0.13))[rng.integers(3)],
            "skin": SKIN_TONES[rng.integers(len(SKIN_TONES))],
            "hair": HAIR_COLORS[rng.integers(len(HAIR_COLORS))],
            "long_hair": bool(rng.random() < 0.4),
            "sleeves": str(rng.choice(["short", "long"])),
            "legs": str(rng.choice(["long", "long", "short"])),
        }
        return cls(**{**chosen, **fixed})  # type: ignore[arg-type]


@dataclass(frozen=True)
class ClothedBody:
    """A clothed body, ready to be skinned and rendered.

    Attributes:
        rest: [V, 3] float64, rest mesh with clothes standing off, meters: what is skinned.
        pattern: [V, 3] float32, rest positions in which textures live (without clothes and shape).
        joint_index, joint_share: [V, 4], strongest joints and their renormalized weights.
        slide: [2, V, 3] float64, two modes in which cloth moves over the body, meters.
        face_material: [F, 2] int32, rows of `materials`: where the border below is positive, and elsewhere.
        face_border: [F, 3] float32, at each corner, signed distance to the line between two materials.
        materials: [M, raster.MATERIAL_SIZE] float32.
        decals: [D, 128, 128, 4] float32, linear color and opacity.
        paints: [P, 10] float32, ellipsoids of color on the head: center, radii, color, opacity.
    """

    rest: np.ndarray
    pattern: np.ndarray
    joint_index: np.ndarray
    joint_weight: np.ndarray
    slide: np.ndarray
    face_material: np.ndarray
    face_border: np.ndarray
    materials: np.ndarray
    decals: np.ndarray
    paints: np.ndarray


def linear(color: tuple[float, ...] | np.ndarray) -> np.ndarray:
    """sRGB in [0, 1] as linear light (gamma 2.2)."""
    return np.asarray(color, np.float64) ** 2.2


@lru_cache(maxsize=1)
def noise_cube() -> np.ndarray:
    """[32, 32, 32] float32, periodic noise in [-1, 1] that all textures share."""
    rng = np.random.default_rng(20261)
    return rng.uniform(-1, 1, (raster.NOISE_SIDE,) * 3).astype(np.float32)


def clothe(body: Body, shape: np.ndarray, clothing: Clothing, seed: int) -> ClothedBody:
    """Put clothing on a body (the Anny body) of a shape."""
    rng = np.random.default_rng(seed)
    pattern = body.template.astype(np.float64)
    regions, borders = _regions(body, clothing)
    rest = pattern + np.tensordot(shape, body.shape_directions.astype(np.float64), 1)
    normals = np.empty_like(rest)
    raster.vertex_normals(rest, body.faces, normals)

    cloth = np.isin(regions, (SHIRT, TROUSERS)).astype(float)
    folds = 0.6 + 0.6 * _smooth_noise(pattern + 3, 0.16, rng) + 0.35 * _smooth_noise(pattern, 0.07, rng)
    offset = cloth * clothing.looseness * folds
    offset *= np.where(np.abs(pattern[:, 0]) > 0.40, 0.35, 1.0)  # cuffs lie close
    offset[regions == SHIRT] += 0.006  # a hem that shows over the trousers
    below_knee = np.clip((-0.2 - pattern[:, 2]) / 0.5, 0, 1)
    offset[regions == TROUSERS] += (0.006 + 0.022 * below_knee)[regions == TROUSERS]  # straight legs, wide at the cuff
    offset[regions == SHOES] += 0.012
    hair = regions == HAIR
    offset[hair] += (
        0.012 + 0.012 * np.clip((pattern[hair, 1] + 0.06) / 0.1, 0, 1) + 0.006 * _smooth_noise(pattern[hair], 0.04, rng)
    )
    offset = _blurred(body, offset)
    # hands, face and feet stay as they are
    rest = rest + normals * np.where(np.isin(regions, (BARE, FACE)), 0.0, offset)[:, None]

    slide = np.zeros((2, *rest.shape))
    if clothing.slip:
        free = _blurred(body, _blurred(body, cloth))
        for mode in slide:
            mode[:] = np.stack([_smooth_noise(pattern + rng.uniform(0, 30, 3), 0.22, rng) for _ in range(3)], 1)
            mode *= (free * clothing.slip)[:, None]

    order = np.argsort(-body.weights, axis=1)[:, :4]
    fraction = np.take_along_axis(body.weights, order, 1).astype(np.float64)
    face_material, face_border, materials, paints = _materials(body, regions, borders, clothing, rng)
    return ClothedBody(
        rest=rest,
        pattern=pattern.astype(np.float32),
        joint_index=order.astype(np.int32),
        joint_weight=fraction / fraction.sum(1, keepdims=True),
        slide=slide,
        face_material=face_material,
        face_border=face_border,
        materials=materials,
        decals=_decal(clothing.decal)[None],
        paints=paints,
    )


BARE, SHIRT, TROUSERS, SHOES, HAIR, FACE, EYE = range(7)


def _regions(body: Body, clothing: Clothing) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Which garment, or skin, each vertex belongs to [V], and the lines between them: fields [V] that are
    positive inside the shirt, the trousers, the hair or the shoe and zero on its border."""
    x, y, z = body.template.T.astype(np.float64)
    weight = {name: body.weights[:, j] for j, name in enumerate(JOINTS)}
    both = {
        part: weight[f"{part}.L"] + weight[f"{part}.R"]
        for part in ("clavicle", "upperarm01", "lowerarm01", "wrist", "upperleg01", "lowerleg01", "foot")
    }
    trunk = sum(weight[name] for name in ("root", "spine05", "spine03", "spine01")) + both["clavicle"]
    head = weight["head"] + weight["neck01"] > 0.5
    arm = both["upperarm01"] + both["lowerarm01"] + both["wrist"] > 0.5
    leg = both["upperleg01"] + both["lowerleg01"] + both["foot"] > 0.5
    borders = {
        "waist": z - 0.075 - 0.02 * np.cos(9 * x),
        "sleeve": (0.31 if clothing.sleeves == "short" else 0.455) - np.abs(x),
        "neckline": 0.620 + 0.45 * np.maximum(y, -0.06) + 0.25 * np.abs(x) - z,
        "cuff": z - (-0.765 if clothing.legs == "long" else -0.27 + 0.1 * y),
        "shoe": -0.725 + 0.12 * (y + 0.05) - z,
        "hairline": np.minimum(
            z - np.where(y < -0.065, 0.836 + 0.15 * np.abs(x), 0.70 + np.clip(-0.02 - y, 0, 0.06) * 2.4),
            np.maximum(np.maximum(np.abs(z - 0.770) - 0.036, np.abs(y + 0.046) - 0.026), 0.066 - np.abs(x)),
        ),
    }
    regions = np.full(len(x), BARE)
    regions[head & (z > 0.66)] = FACE
    regions[(leg | (trunk > 0.5)) & ~arm & (borders["waist"] < 0) & (borders["cuff"] >= 0)] = TROUSERS
    regions[((trunk > 0.5) | leg) & ~arm & (borders["waist"] >= 0) & (borders["neckline"] >= 0)] = SHIRT
    regions[arm & (borders["sleeve"] >= 0) & (z > 0.1)] = SHIRT
    regions[(both["foot"] > 0.5) & (borders["shoe"] >= 0)] = SHOES
    regions[head & (z > 0.66) & (borders["hairline"] >= 0)] = HAIR
    if clothing.long_hair:
        mane = np.minimum(np.minimum(y - 0.005, z - 0.50), 0.085 + 0.1 * (z - 0.5) - np.abs(x))
        borders["hairline"] = np.maximum(borders["hairline"], mane)
        regions[(head | (trunk > 0.5)) & ~arm & (mane >= 0)] = HAIR
    return regions, borders


def _border_of(pair: set[int], middle: np.ndarray) -> tuple[str, int]:
    """Return the border between two regions at a position, and the region on its positive side."""
    if HAIR in pair:
        return "hairline", HAIR
    if SHOES in pair:
        return "shoe", SHOES
    if pair == {SHIRT, TROUSERS}:
        return "waist", SHIRT
    if SHIRT in pair:
        return ("sleeve" if abs(middle[0]) > 0.22 else "neckline"), SHIRT
    if TROUSERS in pair and middle[2] < 0:
        return "cuff", TROUSERS
    return "", -1


# joints from and to which a limb's pattern runs, and repeats around it
_LIMBS = (
    ("trunk", ("root", "spine05", "spine03", "spine01", "neck01", "head", "clavicle.L", "clavicle.R"), 14),
    ("upperarm.L", ("upperarm01.L",), 6), ("upperarm.R", ("upperarm01.R",), 6),
    ("lowerarm.L", ("lowerarm01.L", "wrist.L"), 5), ("lowerarm.R", ("lowerarm01.R", "wrist.R"), 5),
    ("upperleg.L", ("upperleg01.L",), 8), ("upperleg.R", ("upperleg01.R",), 8),
    ("lowerleg.L", ("lowerleg01.L", "foot.L"), 8), ("lowerleg.R", ("lowerleg01.R", "foot.R"), 8),
)  # fmt: skip


def _limb_frame(body: Body, joints: tuple[str, ...]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Origin, axis and side of the frame in which a limb's pattern runs."""
    first = JOINTS.index(joints[0])
    start = body.joints[first]
    if joints[0] == "root":
        return np.array([0.0, -0.03, 0.1]), np.array([0.0, 0, 1]), np.array([0.0, -1, 0])
    child = int(np.nonzero(body.parents == first)[0][0])
    axis = body.joints[child] - start
    axis /= np.linalg.norm(axis)
    side = np.cross(axis, [1.0, 0, 0])
    side /= np.linalg.norm(side)
    return start, axis, side


def _materials(
    body: Body,
    regions: np.ndarray,
    borders: dict[str, np.ndarray],
    clothing: Clothing,
    rng: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Materials and border of each face, the table of materials, and the head's paints."""
    limb_of_joint = np.array([next(i for i, limb in enumerate(_LIMBS) if name in limb[1]) for name in JOINTS])
    limb = limb_of_joint[body.weights[body.faces].sum(1).argmax(1)]
    corner = regions[body.faces]
    corner[_eye_vertices(body)[body.faces].all(1)] = EYE
    paints = _paints(clothing)
    phase = rng.uniform(0, 1)
    rows: list[np.ndarray] = []
    row_of: dict[tuple[int, int], int] = {}

    def row(region: int, limb: int) -> int:
        key = (region, 0 if region == SHIRT and limb > 4 else limb)  # a shirt hangs over the hips
        if key not in row_of:
            row_of[key] = len(rows)
            rows.append(_material(body, *key, clothing, phase, len(paints)))
        return row_of[key]

    face_material = np.empty((len(corner), 2), np.int32)
    face_border = np.ones((len(corner), 3), np.float32)
    for i, own in enumerate(corner.tolist()):
        first = own[1] if own[1] == own[2] else own[0]
        others = set(own) - {first}
        face_material[i] = row(first, limb[i])
        if others:
            other = others.pop()
            name, inside = _border_of({first, other}, body.template[body.faces[i]].mean(0))
            if name:
                outside = other if inside == first else first
                face_material[i] = row(inside, limb[i]), row(outside, limb[i])
                face_border[i] = borders[name][body.faces[i]]
    return face_material, face_border, np.array(rows, np.float32), paints


def _material(body: Body, region: int, limb: int, clothing: Clothing, phase: float, num_paints: int) -> np.ndarray:
    row = np.zeros(raster.MATERIAL_SIZE)
    origin, axis, side = _limb_frame(body, _LIMBS[limb][1])
    row[raster.ORIGIN : raster.ORIGIN + 3] = origin - phase * 0.05 * axis
    row[raster.AXIS : raster.AXIS + 3], row[raster.SIDE : raster.SIDE + 3] = axis, side
    row[raster.CYCLES] = _LIMBS[limb][2]
    row[raster.DECAL] = -1

    def paint(kind: int, a: np.ndarray, b: np.ndarray, c: np.ndarray, grain: float, wrinkle: float,
              shine: float, scale: float = 1.0) -> None:  # fmt: skip
        row[raster.KIND], row[raster.SCALE] = kind, scale
        row[raster.COLOR_A : raster.COLOR_A + 3] = a
        row[raster.COLOR_B : raster.COLOR_B + 3] = b
        row[raster.COLOR_C : raster.COLOR_C + 3] = c
        row[raster.GRAIN], row[raster.WRINKLE], row[raster.SHINE] = grain, wrinkle, shine

    skin = linear(clothing.skin)
    if region == SHIRT:
        a, b, c = (linear(color) for color in clothing.shirt_colors)
        kind = PATTERNS[clothing.shirt]
        scale = {raster.PLAID: 15.0, raster.STRIPES: 13.0, raster.PRINT: 26.0, raster.DOTS: 18.0}.get(kind, 1.0)
        paint(kind, a, b, c, 0.30, 0.42, 0.0, scale)
        if clothing.decal and limb == 0:
            row[raster.DECAL], row[raster.DECAL_X], row[raster.DECAL_Z] = 0, 0.0, 0.42
            row[raster.DECAL_HALF] = 0.095
    elif region == TROUSERS:
        color = linear(clothing.trousers)
        paint(raster.DENIM, color * 0.8, color * 1.3, color * 1.8 + 0.03, 0.34, 0.8, 0.0)
    elif region == SHOES:
        color = linear(clothing.shoes)
        paint(raster.SOLE, color, color * 0.55, linear((0.75, 0.74, 0.70)), 0.15, 0.1, 0.04)
        row[raster.ORIGIN + 2] = -0.802  # top of the sole
    elif region == HAIR:
        color = linear(clothing.hair)
        paint(raster.HAIR, color * 0.6, color * 1.3, color * 2.2 + 0.01, 0.2, 0.5, 0.03)
    elif region == EYE:
        paint(raster.PLAIN, *(np.full(3, 0.34),) * 3, 0.0, 0.0, 0.1)
        row[raster.PAINT_FIRST], row[raster.PAINT_LAST] = 0, 4
    else:
        red = skin * [1.0, 0.80, 0.74]
        paint(raster.SKIN, skin, red, skin * 0.72, 0.10, 0.06, 0.025)
        if region == FACE:
            row[raster.PAINT_FIRST], row[raster.PAINT_LAST] = 4, num_paints
    return row


def _paints(clothing: Clothing) -> np.ndarray:
    """[P, 10] ellipsoids: the first four are irises and pupils, the rest brows, lips and cheeks."""
    skin, hair = linear(clothing.skin), linear(clothing.hair)
    x, y, z = EYES
    rows = []
    for sign in (1, -1):
        rows.append([sign * (x + 0.0005), y - 0.004, z - 0.002, 0.0075, 0.02, 0.0075, 0.05, 0.03, 0.02, 1.0])
        rows.append([sign * (x + 0.0005), y - 0.004, z - 0.002, 0.0040, 0.02, 0.0040, 0.005, 0.005, 0.005, 1.0])
    for sign in (1, -1):
        rows.append([sign * (x + 0.003), -0.145, z + 0.024, 0.022, 0.03, 0.0055, *hair * 0.8, 0.9])
        rows.append([sign * x, -0.135, z + 0.009, 0.019, 0.03, 0.0035, *skin * 0.25, 0.8])
        rows.append([sign * 0.043, -0.13, z - 0.04, 0.022, 0.03, 0.018, *skin * [1.1, 0.66, 0.6], 0.35])
        rows.append([sign * 0.008, -0.16, z - 0.042, 0.004, 0.02, 0.0035, *skin * 0.3, 0.6])
    rows.append([0, -0.15, z - 0.0675, 0.026, 0.03, 0.0085, *skin * [0.85, 0.42, 0.40], 0.85])
    rows.append([0, -0.15, z - 0.0675, 0.024, 0.03, 0.0022, *skin * 0.2, 0.8])
    return np.array(rows, np.float32)


def _eye_vertices(body: Body) -> np.ndarray:
    """[V] bool: the two eyeballs, which are separate pieces around the positions of the eyes."""
    centers = [np.array([sign * 0.0305, -0.1255, 0.7885]) for sign in (1, -1)]
    return np.any([np.linalg.norm(body.template - center, axis=1) < 0.0185 for center in centers], axis=0)


def _decal(text: str) -> np.ndarray:
    """[128, 128, 4] float32: a disc with a text, linear color and opacity."""
    size = 512
    ink = np.zeros((size, size), np.uint8)
    disc = np.zeros((size, size), np.uint8)
    if text:
        cv2.circle(disc, (size // 2, size // 2), 240, 255, -1, cv2.LINE_AA)
        cv2.circle(ink, (size // 2, size // 2), 215, 255, 14, cv2.LINE_AA)
        scale = 1.0
        (width, height), _ = cv2.getTextSize(text, cv2.FONT_HERSHEY_DUPLEX, scale, 3)
        scale = min(340 / width, 200 / height)
        (width, height), _ = cv2.getTextSize(text, cv2.FONT_HERSHEY_DUPLEX, scale, 18)
        position = ((size - width) // 2, (size + height) // 2)
        cv2.putText(ink, text, position, cv2.FONT_HERSHEY_DUPLEX, scale, 255, 18, cv2.LINE_AA)
    fraction = ink[..., None] / 255.0
    color = linear((0.95, 0.93, 0.86)) * (1 - fraction) + linear((0.1, 0.12, 0.2)) * fraction
    picture = np.concatenate([color, disc[..., None] / 255.0 * 0.96], axis=2)
    return cv2.resize(picture, (128, 128), interpolation=cv2.INTER_AREA).astype(np.float32)


def _smooth_noise(positions: np.ndarray, wavelength: float, rng: np.random.Generator) -> np.ndarray:
    """[V] noise in about [-1, 1] that varies over `wavelength` meters."""
    shift = rng.uniform(0, 31, 3)
    return map_coordinates(noise_cube(), (positions / wavelength + shift).T, order=1, mode="grid-wrap")


def _blurred(body: Body, values: np.ndarray) -> np.ndarray:
    """[V] each value averaged with those of the faces around it: soft hems."""
    mean = values[body.faces].mean(1)
    total, count = np.zeros(len(values)), np.zeros(len(values))
    for corner in body.faces.T:
        total += np.bincount(corner, mean, len(values))
        count += np.bincount(corner, minlength=len(values))
    return total / np.maximum(count, 1)
