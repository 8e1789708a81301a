"""A person's crop as TokenHMR was trained on it, and the translation from a crop's camera to the frame's.

In the released recipe the box's longer side, without a margin, makes a square around the box's center; pixels outside
the
frame are zero; a frame that shrinks much is blurred first, against aliasing; pixels are normalized by ImageNet's mean
and
deviation. In ours, boxes are in raster pixels and scaling is pure, so the crop spans exactly the square, whose center
is at
(128, 128), between four pixels; the blur ends at 4 sigma and continues the frame's edge outwards, as scikit-image's
does.
"""

from __future__ import annotations

import cv2
import numpy as np

from anthrotap_builder.geometry.camera import Camera

CROP_SIZE = 256
# A square so many times larger than twice the crop is blurred first.
MIN_BLURRED_SHRINK = 1.1
MEAN = np.array([0.485, 0.456, 0.406], np.float32)
DEVIATION = np.array([0.229, 0.224, 0.225], np.float32)


def crop_person(frame: np.ndarray, box: np.ndarray) -> np.ndarray:
    """Cut the square around a box, as the network takes it.

    Args:
        frame: [H, W, 3] uint8 RGB.
        box: [4] left, top, right, bottom, raster pixels; it may reach out of the frame.

    Returns:
        [3, 256, 256] float32, normalized.

    Raises:
        ValueError: if the box is not finite, has no area, or lies outside the frame.
    """
    height, width = frame.shape[:2]
    left, top, right, bottom = (float(side) for side in box)
    text = f"({left:g}, {top:g}, {right:g}, {bottom:g})"
    if not (np.isfinite(box).all() and right > left and bottom > top):
        raise ValueError(f"a box must be left, top, right, bottom with an area, got {text}")
    if not overlaps_frame(box[None], (height, width))[0]:
        raise ValueError(f"the box {text} lies outside the frame of {width} x {height} pixels")
    centers, sides = square_of(box[None])
    (x, y), side = centers[0], float(sides[0])
    image: np.ndarray = frame
    shrink = side / (2 * CROP_SIZE)
    if shrink > MIN_BLURRED_SHRINK:
        # Of floats, because the kernel for them ends at 4 sigma.
        sigma = (shrink - 1) / 2
        image = cv2.GaussianBlur(frame.astype(np.float32), (0, 0), sigmaX=sigma, borderType=cv2.BORDER_REPLICATE)
    # From pixels of the crop to those of the frame, in OpenCV's coordinates: the first pixel's center is (0, 0).
    step = side / CROP_SIZE
    to_frame = np.array(
        [[step, 0, x - side / 2 + step / 2 - 0.5], [0, step, y - side / 2 + step / 2 - 0.5]], np.float64
    )
    size, flags = (CROP_SIZE, CROP_SIZE), cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    pixels = cv2.warpAffine(image, to_frame, size, flags=flags, borderValue=(0, 0, 0))
    return ((pixels.astype(np.float32) / 255 - MEAN) / DEVIATION).transpose(2, 0, 1)


def overlaps_frame(boxes: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Return [M] bool: which boxes [M, 4] have an area and overlap a frame of height and width `size`; NaN does not."""
    left, top, right, bottom = boxes.T
    area = np.isfinite(boxes).all(1) & (right > left) & (bottom > top)
    return area & (left < size[1]) & (right > 0) & (top < size[0]) & (bottom > 0)


def square_of(boxes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return centers [M, 2] and sides [M] of the squares around boxes [M, 4], raster pixels."""
    corners = boxes.astype(np.float64)
    size = corners[:, 2:] - corners[:, :2]
    return (corners[:, :2] + corners[:, 2:]) / 2, size.max(1)


def crop_to_frame_translation(crop_cameras: np.ndarray, boxes: np.ndarray, camera: Camera) -> np.ndarray:
    """Return the translation [M, 3] float64 meters of bodies in the frame's camera, from their crops' cameras.

    A crop's camera is weak perspective: scale s and shift (tx, ty), such that a meter is s * side / 2 pixels of the
    frame.

    Args:
        crop_cameras: [M, 3] s, tx, ty.
        boxes: [M, 4] left, top, right, bottom, raster pixels.
        camera: of the frame.
    """
    centers, sides = square_of(boxes)
    # Pixels of the frame for each meter, at the body's depth.
    meter = crop_cameras[:, 0].astype(np.float64) * sides / 2
    offset = (centers - camera.center) / meter[:, None] + crop_cameras[:, 1:]
    return np.concatenate([offset, (camera.focal / meter)[:, None]], axis=1)
