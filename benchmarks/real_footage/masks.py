"""Where people are, by a network that the labels have never met: MediaPipe's selfie segmentation.

It is another network than the one whose mask the fit uses (BlazePose's), trained on other pictures, and comes in
the same Apache-2.0 wheel. It was made for one near person, upright; so it looks at a square around the person,
and at several of them, since it is unsure at the far ends of the body and wrong about the background in
different places each time.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from queue import SimpleQueue

import cv2
import numpy as np

from anthrotap_builder.utils.assets import SELFIE_SEGMENTATION, network_paths

INPUT_SIZE = 256  # pixels
MARGINS = (1.05, 1.15, 1.3)  # sides of the squares, by the longer side of the person's box


def person_probability(frames: np.ndarray, boxes: np.ndarray, threads: int = 2) -> np.ndarray:
    """[T, H, W] float32: how probably each pixel near a box is a person's; the mean of several looks, 0 far from it.

    Args:
        frames: [T, H, W, 3] uint8 RGB.
        boxes: [T, 4] float, left, top, right, bottom of the person, raster pixels; NaN where nobody is.
        threads: how many frames are looked at at once; the result does not depend on it.

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

    def look(t: int) -> np.ndarray:
        if not np.isfinite(boxes[t]).all():
            return np.zeros(frames.shape[1:3], np.float32)
        network = networks.get()
        try:
            return np.mean([_look(network, frames[t], boxes[t], margin) for margin in MARGINS], axis=0)
        finally:
            networks.put(network)

    with ThreadPoolExecutor(threads) as pool:
        return np.stack(list(pool.map(look, range(len(frames)))))


def _look(network, frame: np.ndarray, box: np.ndarray, margin: float) -> np.ndarray:
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
