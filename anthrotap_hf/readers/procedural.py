"""Synthetic clips that need no download: textured shapes that move, bend and occlude one another.

Each clip is a stack of flat layers. A layer has a texture with an outline (alpha), and a map from the texture to the
frame that changes over time: two sine shears, which bend it and can be undone exactly, then an affine map. So a point
of a texture has an exact position in each frame, and is visible where it lies in the frame and no layer above covers
it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Self

import cv2
import numpy as np

from anthrotap_hf.readers.base import DatasetError, FilePath, Reader
from anthrotap_hf.tracks import TrackedClip, Tracks

# The alpha from which on a layer occludes what is behind it.
OPAQUE = 128
# With motion blur: the fraction of the time between frames in which light comes in, and the number of sub-frames that
# are averaged, of which the middle one is at the time of the labels.
SHUTTER, SUB_FRAMES = 0.5, 3


@dataclass(frozen=True)
class ProceduralSettings:
    """What the clips look like.

    Attributes:
        num_frames, height, width: of a clip.
        num_tracks: points that are followed.
        on_shapes: fraction of the points on moving shapes; the others are on the background.
        shapes: smallest and largest number of shapes.
        blur: probability of motion blur.
        noise: standard deviation of the strongest sensor noise, gray levels.

    Raises:
        ValueError: if a number is out of its range.
    """

    num_frames: int = 24
    height: int = 128
    width: int = 128
    num_tracks: int = 512
    on_shapes: float = 0.7
    shapes: tuple[int, int] = (3, 9)
    blur: float = 0.3
    noise: float = 6.0

    def __post_init__(self) -> None:
        if min(self.num_frames, self.num_tracks, self.shapes[0]) < 1 or min(self.height, self.width) < 16:
            raise ValueError("a clip needs a frame, a track, a shape, and 16 x 16 pixels")
        if self.shapes[0] > self.shapes[1]:
            raise ValueError(f"shapes must be the smallest and the largest number, got {self.shapes}")
        if not (0 <= self.on_shapes <= 1 and 0 <= self.blur <= 1 and self.noise >= 0):
            raise ValueError("on_shapes and blur are in [0, 1], noise is not negative")


class ProceduralClips(Reader):
    """Clips that are drawn as they are needed: clip `i` follows from the settings, `seed` and `i` alone.

    Args:
        settings: what the clips look like; the defaults if None.
        seed: another seed gives other clips.
        length: number of clips. `ProceduralClips.open` takes it in place of a path.
    """

    name = "procedural"

    def __init__(self, settings: ProceduralSettings | None = None, *, seed: int = 0, length: int = 1_000_000) -> None:
        if length < 1:
            raise ValueError(f"length must be at least 1, got {length}")
        self.settings = settings or ProceduralSettings()
        self.seed = seed
        self.length = length

    @classmethod
    def open(cls, data: FilePath, labels_only: bool = False) -> Self:
        if not (str(data).isdecimal() and int(str(data))):
            raise DatasetError("for procedural clips, say how many instead of where they are", path=data)
        return cls(length=int(str(data)))

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> TrackedClip:
        if not 0 <= index < self.length:
            raise IndexError(f"clip {index} of {self.length}")
        settings = self.settings
        scene = _Scene(settings, np.random.default_rng([self.seed, index]))
        xy, visible = scene.tracks()
        valid = np.ones_like(visible)
        tracks = Tracks.from_labels(xy, visible, valid, height=settings.height, width=settings.width)
        return TrackedClip(tracks, scene.frames, clip_id=f"procedural {self.seed}/{index}")


class _Layer:
    """A texture [S, S, 4] RGBA uint8 and its map to the frame at each of K times; both in raster pixels."""

    def __init__(self, texture: np.ndarray, matrices: np.ndarray, bend: np.ndarray) -> None:
        self.texture = texture
        # [K, 3, 3]
        self.matrices = matrices
        self.inverses = np.linalg.inv(matrices)
        # [K, 2, 3]: amplitude, frequency and phase of the shear along x, then along y
        self.bend = bend
        self.stiff = not bend[..., 0].any()
        # The same with times last, for images.
        self._inverse_terms = np.ascontiguousarray(self.inverses.transpose(1, 2, 0), np.float32)
        self._bend_terms = np.ascontiguousarray(bend.transpose(1, 2, 0), np.float32)

    def to_frame(self, points: np.ndarray) -> np.ndarray:
        """Return the positions [N, K, 2] in the frame, at each time, of texture points [N, 2]."""
        (a, f, p), (b, g, q) = self.bend.transpose(1, 2, 0)
        u, v = points[:, 0, None], points[:, 1, None]
        u = u + a * np.sin(f * v + p)
        v = v + b * np.sin(g * u + q)
        bent = np.stack([u, v], -1)
        moved: np.ndarray = np.einsum("kij,nkj->nki", self.matrices[:, :2, :2], bent) + self.matrices[:, :2, 2]
        return moved

    def from_frame(self, x: np.ndarray, y: np.ndarray, time: int | slice) -> tuple[np.ndarray, np.ndarray]:
        """Return texture positions of frame points (of one time, or [N, K] of all): the exact inverse of `to_frame`."""
        m, (bend_x, bend_y) = self._inverse_terms[..., time], self._bend_terms[..., time]
        u = m[0, 0] * x + m[0, 1] * y + m[0, 2]
        v = m[1, 0] * x + m[1, 1] * y + m[1, 2]
        if self.stiff:
            return u, v
        v -= bend_y[0] * np.sin(bend_y[1] * u + bend_y[2])
        u -= bend_x[0] * np.sin(bend_x[1] * v + bend_x[2])
        return u, v

    def sample(self, u: np.ndarray, v: np.ndarray) -> np.ndarray:
        """Return [A, B, 4] uint8, RGBA at texture points [A, B]; transparent outside."""
        x, y = (u - 0.5).astype(np.float32), (v - 0.5).astype(np.float32)
        colors: np.ndarray = cv2.remap(self.texture, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT)
        return colors

    def paint(self, canvas: np.ndarray, time: int) -> None:
        """Blend the layer over the canvas [H, W, 3] uint8, at one time."""
        height, width = canvas.shape[:2]
        side = self.texture.shape[0]
        margin = np.abs(self.bend[time, :, 0]).max()
        low, high = -margin, side + margin
        corners = np.array([[low, low, 1], [low, high, 1], [high, low, 1], [high, high, 1]])
        corners = corners @ self.matrices[time, :2].T
        left, top = np.maximum(np.floor(corners.min(0)), 0).astype(int)
        right, bottom = np.minimum(np.ceil(corners.max(0)), (width, height)).astype(int)
        if left >= right or top >= bottom:
            return
        x = np.arange(left, right, dtype=np.float32) + 0.5
        y = (np.arange(top, bottom, dtype=np.float32) + 0.5)[:, None]
        found = self.sample(*self.from_frame(x, y, time))
        under = canvas[top:bottom, left:right]
        alpha = found[..., 3] * np.float32(1 / 255)
        under[:] = cv2.blendLinear(np.ascontiguousarray(found[..., :3]), under, alpha, 1 - alpha)


class _Scene:
    """Layers over a background, all drawn by `rng` at the start."""

    def __init__(self, settings: ProceduralSettings, rng: np.random.Generator) -> None:
        self.settings = settings
        H, W, T = settings.height, settings.width, settings.num_frames
        self.sub_frames = SUB_FRAMES if rng.random() < settings.blur else 1
        offsets = (np.arange(self.sub_frames) - self.sub_frames // 2) / self.sub_frames * SHUTTER
        times = (np.arange(T)[:, None] + offsets).ravel()
        self.label_times = slice(self.sub_frames // 2, None, self.sub_frames)
        side = int(1.5 * max(H, W))
        camera = _motion(rng, times, (W / 2, H / 2), side, scale=1.0, pace=0.06 * min(H, W))
        self.background = _texture(rng, side)
        self.camera = camera
        self.layers = []
        for _ in range(rng.integers(settings.shapes[0], settings.shapes[1] + 1)):
            size = int(rng.uniform(0.2, 0.75) * min(H, W))
            texture = np.dstack([_texture(rng, size), _outline(rng, size)])
            middle = rng.uniform(0.1, 0.9, 2) * (W, H)
            pace = float(np.exp(rng.uniform(np.log(0.03), np.log(0.35)))) * min(H, W)
            self.layers.append(_Layer(texture, _motion(rng, times, middle, size, 1.0, pace), _bend(rng, times, size)))
        self.light = 1 + rng.uniform(0, 0.2) * np.sin(times / rng.uniform(5, 30) + rng.uniform(0, 6))
        self.noise = rng.uniform(0, settings.noise)
        self.noise_seed = int(rng.integers(2**63))
        self.rng = rng

    def frames(self, indices: Sequence[int]) -> Iterator[np.ndarray]:
        """Yield the frames with these numbers, [H, W, 3] uint8."""
        H, W = self.settings.height, self.settings.width
        for index in indices:
            # Half a gray level, so that the conversion to integers rounds.
            total = np.full((H, W, 3), 0.5, np.float32)
            for time in range(index * self.sub_frames, (index + 1) * self.sub_frames):
                matrix = self.camera[time]
                shift = matrix[:2, 2] + matrix[:2, :2] @ np.array([0.5, 0.5]) - 0.5
                canvas = cv2.warpAffine(
                    self.background,
                    np.concatenate([matrix[:2, :2], shift[:, None]], 1),
                    (W, H),
                    flags=cv2.INTER_LINEAR,
                    borderMode=cv2.BORDER_REFLECT_101,
                )
                for layer in self.layers:
                    layer.paint(canvas, time)
                cv2.scaleAdd(canvas.astype(np.float32), self.light[time] / self.sub_frames, total, total)
            if self.noise:
                noise = np.random.default_rng([self.noise_seed, index])
                cv2.scaleAdd(noise.standard_normal(total.shape, np.float32), self.noise, total, total)
            yield np.clip(total, 0, 255, out=total).astype(np.uint8)

    def tracks(self) -> tuple[np.ndarray, np.ndarray]:
        """Draw points, and return their xy [N, T, 2] float32 and visible [N, T]."""
        settings = self.settings
        on_shapes = round(settings.on_shapes * settings.num_tracks)
        counts = np.bincount(self.rng.integers(0, len(self.layers), on_shapes), minlength=len(self.layers))
        still = np.zeros((len(self.camera), 2, 3))
        ground = _Layer(self.background, self.camera, still)
        # Background points are drawn where the frame is at some time.
        number = settings.num_tracks - on_shapes
        x, y = self.rng.uniform(0, 1, (2, number)) * [[settings.width], [settings.height]]
        when = self.rng.integers(0, len(self.camera), number)
        inverse = ground.inverses[when]
        points = np.einsum("nij,nj->ni", inverse[:, :2, :2], np.stack([x, y], 1)) + inverse[:, :2, 2]
        on_texture = ((points >= 0) & (points < self.background.shape[0])).all(1)
        parts = [self._follow(ground, points[on_texture], self.layers)]
        for depth, (layer, count) in enumerate(zip(self.layers, counts, strict=True)):
            rows, columns = np.nonzero(layer.texture[..., 3] == 255)
            if not len(rows):
                continue
            chosen = self.rng.integers(0, len(rows), count)
            points = np.stack([columns[chosen], rows[chosen]], 1) + self.rng.uniform(0, 1, (count, 2))
            parts.append(self._follow(layer, points, self.layers[depth + 1 :]))
        xy, visible = (np.concatenate(each) for each in zip(*parts, strict=True))
        return xy, visible

    def _follow(self, layer: _Layer, points: np.ndarray, above: list[_Layer]) -> tuple[np.ndarray, np.ndarray]:
        xy = layer.to_frame(points)[:, self.label_times].astype(np.float32)
        x, y = xy[..., 0], xy[..., 1]
        visible = (x >= 0) & (x < self.settings.width) & (y >= 0) & (y < self.settings.height)
        if len(points):
            for other in above:
                visible &= other.sample(*other.from_frame(x, y, self.label_times))[..., 3] < OPAQUE
        return xy, visible


def _wobble(rng: np.random.Generator, times: np.ndarray, size: float) -> np.ndarray:
    """Return a smooth curve [K] around 0: two sines of periods of 12 to 60 frames, of total amplitude about `size`."""
    periods = np.exp(rng.uniform(np.log(12), np.log(60), (2, 1)))
    phases = rng.uniform(0, 2 * np.pi, (2, 1))
    amplitudes = size * rng.uniform(0, 0.7, (2, 1))
    waves: np.ndarray = (amplitudes * np.sin(2 * np.pi * times / periods + phases)).sum(0)
    return waves


def _motion(
    rng: np.random.Generator,
    times: np.ndarray,
    middle: Sequence[float] | np.ndarray,
    side: int,
    scale: float,
    pace: float,
) -> np.ndarray:
    """Return [K, 3, 3] from a square texture's pixels to the frame's; its center moves by about `pace` pixels."""
    span = times - times.mean()
    relative = pace / side
    drift = rng.normal(0, pace / 20, 2)
    x = middle[0] + drift[0] * span + _wobble(rng, times, pace)
    y = middle[1] + drift[1] * span + _wobble(rng, times, pace)
    angle = rng.uniform(0, 2 * np.pi) + rng.normal(0, 0.1 * relative) * span + _wobble(rng, times, 1.5 * relative)
    factors = scale * np.exp(np.stack([_wobble(rng, times, 0.6 * relative) for _ in range(2)]))
    factors *= np.exp(_wobble(rng, times, relative) + rng.normal(0, 0.1 * relative) * span / 10)
    factors = np.clip(factors, 0.3, 3.0)
    cosine, sine = np.cos(angle), np.sin(angle)
    matrices = np.zeros((len(times), 3, 3))
    matrices[:, 0, 0], matrices[:, 0, 1] = factors[0] * cosine, -factors[1] * sine
    matrices[:, 1, 0], matrices[:, 1, 1] = factors[0] * sine, factors[1] * cosine
    matrices[:, 2, 2] = 1
    matrices[:, :2, 2] = np.stack([x, y], 1) - matrices[:, :2, :2] @ np.full(2, side / 2)
    return matrices


def _bend(rng: np.random.Generator, times: np.ndarray, side: int) -> np.ndarray:
    """Return [K, 2, 3], amplitude (pixels), frequency (a pixel) and phase of both shears; 4 shapes of 10 are stiff."""
    amplitude = 0.0 if rng.random() < 0.4 else rng.uniform(0.02, 0.1) * side
    bend = np.empty((len(times), 2, 3))
    for axis in range(2):
        bend[:, axis, 0] = amplitude
        bend[:, axis, 1] = 2 * np.pi * rng.uniform(0.5, 1.5) / side
        bend[:, axis, 2] = rng.uniform(0, 2 * np.pi) + rng.normal(0, 0.2) * times
    return bend


def _texture(rng: np.random.Generator, side: int) -> np.ndarray:
    """Return [S, S, 3] uint8: three colors mixed by noise of several grain sizes, or by stripes or checks."""
    colors = rng.uniform(0, 255, (3, 3)).astype(np.float32)
    weights = np.zeros((side, side, 2), np.float32)
    strength = 1.0
    for cell in sorted(np.exp(rng.uniform(np.log(3), np.log(40), 3)), reverse=True):
        cells = max(2, int(side / cell))
        grain = rng.random((cells, cells, 2), np.float32)
        weights += strength * cv2.resize(grain, (side, side), interpolation=cv2.INTER_CUBIC)
        strength *= rng.uniform(0.4, 1.0)
    weights -= weights.min()
    weights /= max(float(weights.max()), 1e-6)
    if rng.random() < 0.3:
        steps = np.arange(side, dtype=np.float32) * (2 * np.pi / rng.uniform(6, 30))
        pattern = np.sin(steps) * (np.sin(steps)[:, None] if rng.random() < 0.5 else 1)
        weights[..., 0] = 0.4 * weights[..., 0] + 0.6 * (pattern > 0)
    texture: np.ndarray = np.clip(colors[0] + weights @ (colors[1:] - colors[0]), 0, 255)
    return texture.astype(np.uint8)


def _outline(rng: np.random.Generator, side: int) -> np.ndarray:
    """Return [S, S] uint8 alpha: a rounded, starry or angular patch with a soft border, at times with a hole."""
    fine = 4  # fractional bits of cv2.fillPoly
    corners = int(rng.choice([3, 4, 5, 7, 40]))
    angle = 2 * np.pi * (np.arange(corners) + rng.uniform(-0.3, 0.3, corners)) / corners
    if corners == 40:
        waves = sum(rng.uniform(0, 0.25) * np.cos(k * angle + rng.uniform(0, 6)) for k in (2, 3, 5))
        radius = 1 + np.asarray(waves)
    else:
        radius = rng.uniform(0.6, 1, corners)
    radius = radius / radius.max() * (side / 2 - 2)
    points = side / 2 + radius[:, None] * np.stack([np.cos(angle), np.sin(angle)], 1)
    mask = np.zeros((side, side), np.uint8)
    cv2.fillPoly(mask, [np.round((points - 0.5) * 2**fine).astype(np.int32)], 255, shift=fine)
    if rng.random() < 0.2:
        center = tuple(int(c) for c in side / 2 + rng.uniform(-0.1, 0.1, 2) * side)
        cv2.circle(mask, center, max(2, int(rng.uniform(0.08, 0.2) * side)), 0, -1)
    smooth: np.ndarray = cv2.GaussianBlur(mask, (3, 3), 0)
    return smooth
