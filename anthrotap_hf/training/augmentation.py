"""Augmentation: one matrix a frame takes a source frame, and its tracks, straight to the sample's frame.

A matrix [3, 3] maps raster pixels (x, y, 1) to raster pixels: the frame spans (0, 0) to (W, H). Affine motion, flip,
crop and resize are multiplied first, so each frame is resampled once, at output size.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

Range = tuple[float, float]


@dataclass(frozen=True)
class SmoothAffine:
    """An affine map that changes smoothly over a clip, as the paper's (data/human_data.py of cvlab-kaist/AnthroTAP).

    Every `keyframe_every` frames (at least at both ends) values are drawn uniformly, and interpolated linearly.

    Attributes:
        rotation: degrees, either way.
        scale: smallest and largest factor, for each axis by itself.
        shear: degrees, either way.
        shift: fraction of the frame's width or height, either way.
        keyframe_every: frames.

    Raises:
        ValueError: if a number is out of its range.
    """

    rotation: float = 45.0
    scale: Range = (0.5, 3.0)
    shear: float = 5.0
    shift: float = 0.5
    keyframe_every: int = 4

    def __post_init__(self) -> None:
        if not (self.rotation >= 0 and 0 <= self.shear < 90 and self.shift >= 0):
            raise ValueError("rotation, shear and shift must not be negative, shear below 90 degrees")
        if not 0 < self.scale[0] <= self.scale[1] < np.inf:
            raise ValueError(f"scale must be two rising positive factors, got {self.scale}")
        if self.keyframe_every < 1:
            raise ValueError(f"keyframe_every must be at least 1, got {self.keyframe_every}")

    def draw(self, rng: np.random.Generator, num_frames: int, height: int, width: int) -> np.ndarray:
        """Draw [T, 3, 3] float64: shift · (about the center: scale · shear · rotation)."""
        keyframes = max(2, num_frames // self.keyframe_every)
        keyframe_times = np.linspace(0, num_frames - 1, keyframes)

        def smooth(low: float, high: float) -> np.ndarray:
            return np.interp(np.arange(num_frames), keyframe_times, rng.uniform(low, high, keyframes))

        angle = np.deg2rad(smooth(-self.rotation, self.rotation))
        scale_x, scale_y = smooth(*self.scale), smooth(*self.scale)
        slope = np.tan(np.deg2rad(smooth(-self.shear, self.shear)))
        shift_x = smooth(-self.shift, self.shift) * width
        shift_y = smooth(-self.shift, self.shift) * height

        cosine, sine = np.cos(angle), np.sin(angle)
        matrices = np.zeros((num_frames, 3, 3))
        matrices[:, 0, 0] = scale_x * (cosine + slope * sine)
        matrices[:, 0, 1] = scale_x * (slope * cosine - sine)
        matrices[:, 1, 0] = scale_y * sine
        matrices[:, 1, 1] = scale_y * cosine
        matrices[:, 2, 2] = 1
        center = np.array([width / 2, height / 2])
        matrices[:, :2, 2] = center + np.stack([shift_x, shift_y], 1) - matrices[:, :2, :2] @ center
        return matrices


@dataclass(frozen=True)
class Color:
    """A change of colors that is the same in all frames.

    The defaults are those of TAPIR's and LocoTrack's synthetic half (data/kubric_data.py of cvlab-kaist/AnthroTAP),
    brightness as a fraction of the full range.

    Attributes:
        probability: of changing brightness, contrast, saturation and hue.
        brightness: added, either way.
        contrast, saturation: factors from 1 - value to 1 + value.
        hue: fraction of the color circle, either way (a rotation about the gray axis).
        drop: probability of gray.

    Raises:
        ValueError: if a number is out of its range.
    """

    probability: float = 0.8
    brightness: float = 32 / 255
    contrast: float = 0.4
    saturation: float = 0.4
    hue: float = 0.2
    drop: float = 0.2

    def __post_init__(self) -> None:
        for name in ("probability", "brightness", "contrast", "saturation", "hue", "drop"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} must be in [0, 1], got {getattr(self, name)}")

    def apply(self, rng: np.random.Generator, video: np.ndarray) -> np.ndarray:
        """Return the video [T, H, W, 3] uint8 RGB in other colors. Contrast is about the mean color."""
        matrix, offset = np.eye(3), np.zeros(3)
        # Luma by ITU-R BT.601.
        gray = np.full((3, 1), 1.0) @ np.array([[0.299, 0.587, 0.114]])
        if rng.random() < self.probability:
            saturation = rng.uniform(1 - self.saturation, 1 + self.saturation)
            matrix = saturation * np.eye(3) + (1 - saturation) * gray
            matrix = _turn_hue(rng.uniform(-self.hue, self.hue)) @ matrix
            contrast = rng.uniform(1 - self.contrast, 1 + self.contrast)
            mean = matrix @ video[:: max(1, len(video) // 4), ::4, ::4].mean((0, 1, 2))
            matrix, offset = contrast * matrix, (1 - contrast) * mean
            offset = offset + rng.uniform(-self.brightness, self.brightness) * 255
        if rng.random() < self.drop:
            matrix, offset = gray @ matrix, gray @ offset
        transform = np.concatenate([matrix, offset[:, None]], 1).astype(np.float32)
        T, H, W, _ = video.shape
        return cv2.transform(video.reshape(T * H, W, 3), transform).reshape(video.shape)


def _turn_hue(turns: float) -> np.ndarray:
    """Return the rotation about the gray axis by `turns` of a full circle, [3, 3] (Rodrigues' formula)."""
    axis = np.full(3, 1 / np.sqrt(3))
    cross = np.cross(np.eye(3), -axis)
    angle = 2 * np.pi * turns
    return np.cos(angle) * np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * np.outer(axis, axis)


def flip_matrix(width: float) -> np.ndarray:
    """Return [3, 3] that mirrors left and right: x to width - x."""
    return np.array([[-1.0, 0, width], [0, 1, 0], [0, 0, 1]])


def crop_matrix(box: tuple[float, float, float, float], height: int, width: int) -> np.ndarray:
    """Return [3, 3] that takes the box (left, top, right, bottom), raster pixels, to a frame of height x width."""
    left, top, right, bottom = box
    scale_x, scale_y = width / (right - left), height / (bottom - top)
    return np.array([[scale_x, 0, -scale_x * left], [0, scale_y, -scale_y * top], [0, 0, 1]])


def move_points(matrices: np.ndarray, xy: np.ndarray) -> np.ndarray:
    """Return points [N, T, 2], each moved by the matrix [T, 3, 3] of its frame, as [N, T, 2] float32."""
    moved = np.einsum("tij,ntj->nti", matrices[:, :2, :2], xy) + matrices[:, :2, 2]
    return moved.astype(np.float32)


def warp_frame(image: np.ndarray, matrix: np.ndarray, out: np.ndarray) -> None:
    """Fill `out` [h, w, C] with the image [H, W, C] moved by `matrix` [3, 3] (raster pixels); same dtype.

    Bilinear; edges are continued outwards. Raster point (0.5, 0.5) is OpenCV's (0, 0): the matrix is shifted by that.
    """
    linear = matrix[:2, :2]
    shift = matrix[:2, 2] + linear @ np.array([0.5, 0.5]) - 0.5
    height, width = out.shape[:2]
    warped = cv2.warpAffine(
        image,
        np.concatenate([linear, shift[:, None]], 1),
        (width, height),
        flags=cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_REPLICATE,
    )
    out[:] = warped.reshape(out.shape)
