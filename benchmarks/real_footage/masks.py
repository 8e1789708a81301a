"""Where people are, by a network that labeling does not use: MediaPipe's selfie segmentation.

It is another network than the one whose mask the fit uses (BlazePose's), trained on other pictures, and comes in
the same Apache-2.0 wheel. It was made for one near person, upright; so it gets a square around the person,
and several of them, since it is uncertain at the far ends of the body, and its errors in the background
differ each time.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from queue import SimpleQueue
from typing import Any

import cv2
import numpy as np

from anthrotap_builder.utils.assets import SELFIE_SEGMENTATION, network_paths
from benchmarks.label_accuracy.measure import PARTS, percentage
from benchmarks.real_footage.markers import MarkerTracks
from benchmarks.real_footage.views import View

# Pixels.
INPUT_SIZE = 256
# Sides of the squares, relative to the longer side of the person's box.
MARGINS = (1.05, 1.15, 1.3)
# Pixels of a 256x256 frame: how far outside a mask a label still counts as near it.
ALMOST_INSIDE = 2.0
# Pixels of a 256x256 frame: labels moved by this are the control of the masks.
MOVED = 8.0


def person_probability(frames: np.ndarray, boxes: np.ndarray, threads: int = 2) -> np.ndarray:
    """Return [T, H, W] float32, the probability of each pixel near a box to be a person's; 0 far from the box.

    Args:
        frames: [T, H, W, 3] uint8 RGB.
        boxes: [T, 4] float, left, top, right, bottom of the person, raster pixels; NaN where there is none.
        threads: frames processed at once; the result does not depend on it.

    Raises:
        AssetError: if the network file is not to be had.
        ValueError: if shapes disagree.
    """
    from ai_edge_litert.interpreter import Interpreter  # slow to import: only where it is used

    if frames.ndim != 4 or frames.dtype != np.uint8 or boxes.shape != (len(frames), 4):
        raise ValueError(f"frames [T, H, W, 3] uint8 need boxes [T, 4], got {frames.shape} and {boxes.shape}")
    (path,) = network_paths([SELFIE_SEGMENTATION])
    networks: SimpleQueue = SimpleQueue()
    for _ in range(threads):
        network = Interpreter(model_path=str(path), num_threads=1)
        network.allocate_tensors()
        networks.put(network)

    def segment(t: int) -> np.ndarray:
        if not np.isfinite(boxes[t]).all():
            return np.zeros(frames.shape[1:3], np.float32)
        network = networks.get()
        try:
            return np.mean([_segment_square(network, frames[t], boxes[t], margin) for margin in MARGINS], axis=0)
        finally:
            networks.put(network)

    with ThreadPoolExecutor(threads) as pool:
        return np.stack(list(pool.map(segment, range(len(frames)))))


def _segment_square(network, frame: np.ndarray, box: np.ndarray, margin: float) -> np.ndarray:
    """[H, W] float32, what the network says of one square around a box, laid back into the frame."""
    center = (box[:2] + box[2:]) / 2
    scale = INPUT_SIZE / max(margin * float((box[2:] - box[:2]).max()), 1.0)
    # From the frame to the square, by OpenCV's pixel centers (the first at (0, 0)).
    shift = INPUT_SIZE / 2 - scale * center + (scale - 1) / 2
    to_square = np.array([[scale, 0, shift[0]], [0, scale, shift[1]]])
    blurred = cv2.GaussianBlur(frame, None, 0.4 / scale) if scale < 1 else frame  # warping alone would alias
    size = (INPUT_SIZE, INPUT_SIZE)
    square = cv2.warpAffine(blurred, to_square, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    network.set_tensor(network.get_input_details()[0]["index"], square[None].astype(np.float32) / 255)
    network.invoke()
    there = network.get_tensor(network.get_output_details()[0]["index"])[0, ..., 0]
    height, width = frame.shape[:2]
    return cv2.warpAffine(there, to_square, (width, height), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP)


def compare_with_mask(view: View, threads: int = 2, markers: MarkerTracks | None = None) -> dict[str, Any]:
    """Compare labels with the mask of `person_probability`; all figures are percentages.

    Returns:
        inside: of visible labels, those on a pixel that is more probably a person's than not; `almost`: or near to one
            (`ALMOST_INSIDE`); `count` of labels.
        mesh: the same as `inside` for whatever the mesh leaves visible in the frame, before any check of the labels.
        moved: the control: `inside` for the labels moved by `MOVED` in eight directions.
        parts: `inside` by body part; where the mask misses a part of the body, this shows it.
        markers: marker positions inside the mask; the rest shows what the mask misses of the body,
            much of it near contours; None without markers.
    """
    height, width = view.frames.shape[1:3]
    to_labeled = np.array([width / view.width, height / view.height])
    probability = np.zeros(view.frames.shape[:3], np.float32)
    for xy in view.xy * to_labeled:
        probability = np.maximum(probability, person_probability(view.frames, _boxes(xy), threads))
    mask = probability > 0.5
    unit = min(height, width) / 256
    reach = 2 * round(ALMOST_INSIDE * unit) + 1
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (reach, reach))
    almost = np.stack([cv2.dilate(m, disc) for m in mask.astype(np.uint8)]).astype(bool)

    labels, frame = view.xy[view.label_visible] * to_labeled, np.nonzero(view.label_visible)[2]
    with np.errstate(invalid="ignore"):
        unchecked = view.mesh_visible & ((view.xy >= 0) & (view.xy < [view.width, view.height])).all(-1)
    mesh, mesh_frame = view.xy[unchecked] * to_labeled, np.nonzero(unchecked)[2]
    circle = np.linspace(0, 2 * np.pi, 8, endpoint=False)
    moves = MOVED * unit * np.stack([np.cos(circle), np.sin(circle)], axis=1)
    part = np.broadcast_to(view.part[:, None], view.label_visible.shape)[view.label_visible]
    inside = _inside(mask, labels, frame)
    on_markers = None
    if markers is not None:
        followed = np.isfinite(markers.xy[..., 0])
        on_markers = percentage(_inside(mask, markers.xy[followed] * to_labeled, np.nonzero(followed)[1]))
    return {
        "count": len(labels),
        "inside": percentage(inside),
        "almost": percentage(_inside(almost, labels, frame)),
        "mesh": percentage(_inside(mask, mesh, mesh_frame)),
        "moved": percentage(np.concatenate([_inside(mask, labels + move, frame) for move in moves])),
        "parts": {
            name: {"inside": percentage(inside[part == number]), "count": int((part == number).sum())}
            for number, name in enumerate(PARTS)
        },
        "markers": on_markers,
    }


def _boxes(xy: np.ndarray) -> np.ndarray:
    """[T, 4]: left, top, right, bottom of points [K, T, 2]; NaN where they are."""
    return np.concatenate([xy.min(0), xy.max(0)], axis=1)


def _inside(mask: np.ndarray, xy: np.ndarray, frame: np.ndarray) -> np.ndarray:
    """[M] bool: which points [M, 2] of frames [M] lie in masks [T, H, W]; those out of frame do not."""
    height, width = mask.shape[1:]
    column, row = np.floor(xy).astype(int).T
    there = (column >= 0) & (row >= 0) & (column < width) & (row < height)
    out = np.zeros(len(xy), bool)
    out[there] = mask[frame[there], row[there], column[there]]
    return out
