"""A person's crop as TokenHMR was trained on it, and the way from a crop's camera back to the frame's.

Facts of the released recipe: the box's longer side, without a margin, makes a square around the box's middle; pixels
outside the frame are zero; a frame that shrinks much is blurred first, so that nothing aliases; pixels are normalized
by ImageNet's mean and deviation. Ours: boxes are in raster pixels and scaling is pure, so the crop spans exactly the
square, whose middle is at (128, 128), between four pixels; the blur ends at 4 sigma, and continues the frame's edge
outwards, as scikit-image's does.
"""

from __future__ import annotations

import cv2
import numpy as np

CROP = 256  # pixels
BLURRED_FROM = 1.1  # times that a square is larger than 2 CROP
MEAN = np.array([0.485, 0.456, 0.406], np.float32)
DEVIATION = np.array([0.229, 0.224, 0.225], np.float32)


def crop_person(frame: np.ndarray, box: np.ndarray) -> np.ndarray:
    """[3, 256, 256] float32: the square around a box, as the network takes it.

    Args:
        frame: [H, W, 3] uint8 RGB.
        box: [4] left, top, right, bottom, raster pixels; it may reach out of the frame.

    Raises:
        ValueError: if the box is not finite, has no area, or lies outside the frame.
    """
    height, width = frame.shape[:2]
    left, top, right, bottom = (float(side) for side in box)
    shown = f"({left:g}, {top:g}, {right:g}, {bottom:g})"
    if not (np.isfinite(box).all() and right > left and bottom > top):
        raise ValueError(f"a box must be left, top, right, bottom with an area, got {shown}")
    if not has_crop(box[None], (height, width))[0]:
        raise ValueError(f"the box {shown} lies outside the frame of {width} x {height} pixels")
    centers, sides = square_of(box[None])
    (x, y), side = centers[0], float(sides[0])
    image: np.ndarray = frame
    shrink = side / (2 * CROP)
    if shrink > BLURRED_FROM:
        sigma = (shrink - 1) / 2
        image = cv2.GaussianBlur(  # of floats, whose kernel ends at 4 sigma
            frame.astype(np.float32), (0, 0), sigmaX=sigma, borderType=cv2.BORDER_REPLICATE
        )
    # OpenCV has the first pixel's center at (0, 0).
    step = side / CROP
    to_frame = np.array(
        [[step, 0, x - side / 2 + step / 2 - 0.5], [0, step, y - side / 2 + step / 2 - 0.5]], np.float64
    )
    pixels = cv2.warpAffine(
        image, to_frame, (CROP, CROP), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP, borderValue=(0, 0, 0)
    )
    return ((pixels.astype(np.float32) / 255 - MEAN) / DEVIATION).transpose(2, 0, 1)


def has_crop(boxes: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """[M] bool: which boxes [M, 4] have an area and show some of a frame of height and width `size`; NaN has not."""
    left, top, right, bottom = boxes.T
    area = np.isfinite(boxes).all(1) & (right > left) & (bottom > top)
    return area & (left < size[1]) & (right > 0) & (top < size[0]) & (bottom > 0)


def square_of(boxes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Middles [M, 2] and sides [M] of the squares around boxes [M, 4], raster pixels."""
    corners = boxes.astype(np.float64)
    size = corners[:, 2:] - corners[:, :2]
    return (corners[:, :2] + corners[:, 2:]) / 2, size.max(1)


def place_in_frame(
    pred_cam: np.ndarray, boxes: np.ndarray, size: tuple[int, int], focal: float
) -> np.ndarray:
    """[M, 3] float64 meters: the translation of bodies in the frame's camera, from their crops' cameras.

    A crop's camera is weak perspective: scale s, shift (tx, ty), such that a meter is s * side / 2 pixels of the frame.

    Args:
        pred_cam: [M, 3] s, tx, ty.
        boxes: [M, 4] left, top, right, bottom, raster pixels.
        size: height and width of the frame.
        focal: of the frame's camera, pixels, whose principal point is the middle of the frame.
    """
    center, side = square_of(boxes)
    height, width = size
    meter = pred_cam[:, 0].astype(np.float64) * side / 2  # pixels, at the body's depth
    away = center - [width / 2, height / 2]
    return np.concatenate([away / meter[:, None] + pred_cam[:, 1:], (focal / meter)[:, None]], axis=1)
