"""Flat, textured pieces that pass in front of a clip, with the exact frames in which they hide a point.

The occlusion bench and the training set lay them over frames, with other seeds.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

# Alpha from which on a pixel of an overlay hides what is behind it.
OPAQUE = 128


@dataclass(frozen=True)
class Overlay:
    """A picture that moves in the plane of the frame.

    Attributes:
        picture: [h, w, 4] uint8 RGBA.
        matrices: [T, 2, 3] float64, from the picture's raster pixels to the frame's.
    """

    picture: np.ndarray
    matrices: np.ndarray

    def paint(self, frame: np.ndarray, t: int) -> None:
        """Blend the overlay over a frame [H, W, 3] uint8, in place."""
        height, width = frame.shape[:2]
        # OpenCV's first pixel center is at (0, 0).
        matrix = self.matrices[t].copy()
        matrix[:, 2] += matrix[:, :2] @ [0.5, 0.5] - 0.5
        moved = cv2.warpAffine(self.picture, matrix, (width, height), flags=cv2.INTER_LINEAR)
        alpha = moved[..., 3] * np.float32(1 / 255)
        frame[:] = cv2.blendLinear(np.ascontiguousarray(moved[..., :3]), frame, alpha, 1 - alpha)

    def covers(self, xy: np.ndarray) -> np.ndarray:
        """Return whether it hides points [N, T, 2], raster pixels, in each frame: [N, T] bool."""
        inverse = np.linalg.inv(np.insert(self.matrices, 2, [0, 0, 1], axis=1))
        own = np.einsum("tij,ntj->nti", inverse[:, :2, :2], xy) + inverse[:, :2, 2]
        x, y = (own - 0.5).astype(np.float32).transpose(2, 0, 1)
        alpha = cv2.remap(self.picture[..., 3], x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT)
        return np.asarray(alpha >= OPAQUE)


def texture(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """Return [height, width, 3] uint8: colored noise of grains between 2 and 40 pixels."""
    total = np.zeros((height, width, 3), np.float32)
    for grain in np.exp(rng.uniform(np.log(2), np.log(40), 4)):
        cells = rng.random((max(2, int(height / grain)), max(2, int(width / grain)), 3), np.float32)
        total += cv2.resize(cells, (width, height), interpolation=cv2.INTER_CUBIC) * np.float32(rng.uniform(0.3, 1))
    low, high = total.min((0, 1)), total.max((0, 1))
    tones = np.sort(rng.uniform(0, 255, (2, 3)), axis=0)
    tones += np.where(tones[1] - tones[0] < 90, 60, 0) * np.array([[-1], [1]])
    return np.clip(tones[0] + (total - low) / (high - low) * (tones[1] - tones[0]), 0, 255).astype(np.uint8)


def piece(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """Return [height, width, 4] uint8: a textured bar, ellipse or polygon; at times with a hole, or of one color."""
    rgb = texture(rng, height, width)
    if rng.random() < 0.25:
        rgb[:] = rng.integers(0, 256, 3)
    alpha = np.zeros((height, width), np.uint8)
    kind, center = rng.integers(3), (width // 2, height // 2)
    if kind == 0:
        alpha[1:-1, 1:-1] = 255
    elif kind == 1:
        cv2.ellipse(alpha, center, (width // 2 - 2, height // 2 - 2), 0, 0, 360, 255, -1)
    else:
        corners = int(rng.integers(3, 8))
        angle = 2 * np.pi * (np.arange(corners) + rng.uniform(-0.3, 0.3, corners)) / corners
        around = rng.uniform(0.65, 1, (corners, 1)) * np.stack([np.cos(angle), np.sin(angle)], 1)
        cv2.fillPoly(alpha, [((around + 1) / 2 * [width - 3, height - 3] + 1).astype(np.int32)], 255)
    if rng.random() < 0.15:
        cv2.circle(alpha, center, max(3, min(height, width) // 5), 0, -1)
    return np.dstack([rgb, cv2.GaussianBlur(alpha, (3, 3), 0)])


def passing(rng: np.random.Generator, num_frames: int, height: int, width: int) -> Overlay:
    """Draw a piece that passes through the frame, from one side to another, or in front of it all the time."""
    size = rng.uniform(0.08, 0.45) * min(height, width)
    long = size * rng.uniform(1, 5) if rng.random() < 0.5 else size
    sides = (int(max(long, 8)), int(max(size, 8)))
    picture = piece(rng, *sides)
    t = np.arange(num_frames) / max(num_frames - 1, 1)
    direction = rng.uniform(0, 2 * np.pi)
    ahead = np.array([np.cos(direction), np.sin(direction)])
    middle = rng.uniform(0.2, 0.8, 2) * [width, height]
    reach = rng.uniform(0.3, 1.6) * max(height, width)
    way = (t - rng.uniform(0.25, 0.75)) * reach
    if rng.random() < 0.25:
        # There and back again.
        way = np.abs(way) - 0.3 * reach
    place = (
        middle
        + way[:, None] * ahead
        + rng.uniform(0, 12, 2) * np.sin(rng.uniform(0, 12) * t + rng.uniform(0, 6))[:, None]
    )
    # A long piece stands across its way, mostly.
    turn = direction + rng.normal(0, 0.3) + rng.normal(0, 0.5) * t
    return Overlay(picture, centered(picture, place, turn))


def centered(picture: np.ndarray, place: np.ndarray, turn: np.ndarray, scale: float = 1.0) -> np.ndarray:
    """Return matrices [T, 2, 3] that put a picture's middle at places [T, 2], turned by angles [T]."""
    cosine, sine = scale * np.cos(turn), scale * np.sin(turn)
    rotation = np.stack([np.stack([cosine, -sine], -1), np.stack([sine, cosine], -1)], -2)
    middle = np.array(picture.shape[1::-1]) / 2
    return np.concatenate([rotation, (place - rotation @ middle)[..., None]], axis=-1)
