"""How the picture of a clip moves, on a coarse grid: where a mask goes, and what moves against the background."""

from __future__ import annotations

from concurrent.futures import Executor
from dataclasses import dataclass

import cv2
import numpy as np

from anthrotap_builder.config import FlowSettings
from anthrotap_builder.flow.dis import load_dis

# Side of a cell of the grid over the frame, pixels.
CELL = 8
# Short side of the frames that flow is measured on, pixels, and DIS's preset: motion of whole people needs no more.
FLOW_SIDE = 240
PRESET = "ultrafast"
# The background's motion is the homography that most of the flow agrees with, to this many pixels of those frames.
BACKGROUND_TOLERANCE = 1.0
RANSAC_ITERATIONS = 300
# A cell moves if it leaves the background's motion by more pixels of those frames than this, and by more than this
# fraction of the fastest cells (98th percentile): in a scene of some depth, near things move a little too.
MIN_RESIDUAL = 1.0
MIN_RELATIVE_RESIDUAL = 0.3


@dataclass(frozen=True)
class SceneMotion:
    """Flow between neighboring frames at the centers of cells, and its difference from the background's.

    Attributes:
        forward: [T - 1, h, w, 2] float32, from each frame to the next, raster pixels.
        backward: [T - 1, h, w, 2] float32, from each frame's successor back to it.
        residual: [T, h, w] float32, pixels a frame by which a cell moves otherwise than the background does, in pixels
            of frames with a short side of FLOW_SIDE.
    """

    forward: np.ndarray
    backward: np.ndarray
    residual: np.ndarray

    @classmethod
    def of(cls, frames: np.ndarray, pool: Executor) -> SceneMotion:
        """Measure the motion of frames [T, H, W, 3] uint8 RGB."""
        height, width = frames.shape[1:3]
        scale = FLOW_SIDE / min(height, width)
        size = (max(16, round(width * scale)), max(16, round(height * scale)))
        flow = load_dis(FlowSettings(preset=PRESET), "cpu")
        small = list(pool.map(lambda frame: cv2.resize(frame, size, interpolation=cv2.INTER_AREA), frames))
        grid = _Grid.of(height, width, size)

        def measure(t: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
            there, back = grid.sample(flow(small[t], small[t + 1])), grid.sample(flow(small[t + 1], small[t]))
            return there, back, grid.residual(there), grid.residual(back)

        steps = list(pool.map(measure, range(len(frames) - 1)))
        shape = grid.shape
        # A frame's residual is the mean of those to its two neighbors.
        total, count = np.zeros((len(frames), *shape), np.float32), np.zeros((len(frames), 1, 1), np.float32)
        for t, (_, _, to_next, to_last) in enumerate(steps):
            total[t] += to_next
            total[t + 1] += to_last
            count[t : t + 2] += 1
        to_pixels = np.array([width / size[0], height / size[1]], np.float32)
        empty = np.zeros((0, *shape, 2), np.float32)
        return cls(
            np.stack([step[0] for step in steps]) * to_pixels if steps else empty,
            np.stack([step[1] for step in steps]) * to_pixels if steps else empty,
            total / np.maximum(count, 1),
        )

    def moving(self, t: int) -> np.ndarray:
        """[h, w] bool, the cells of a frame that move otherwise than the background does."""
        residual = self.residual[t]
        threshold = max(MIN_RESIDUAL, MIN_RELATIVE_RESIDUAL * float(np.percentile(residual, 98)))
        moving = (residual > threshold).astype(np.uint8)
        return cv2.morphologyEx(moving, cv2.MORPH_OPEN, np.ones((3, 3), np.uint8)) > 0

    def carry_cells(self, cells: np.ndarray, frame: int, to: int) -> np.ndarray:
        """Return where the picture carries a mask [h, w] bool of one frame in another one."""
        step = 1 if to > frame else -1
        moved = cells.astype(np.float32)
        rows, columns = cells.shape
        x, y = np.meshgrid(np.arange(columns, dtype=np.float32), np.arange(rows, dtype=np.float32))
        for t in range(frame, to, step):
            # Looked up backwards: a cell of the next frame holds what was where its flow back leads.
            back = self.backward[t] if step > 0 else self.forward[t - 1]
            moved = cv2.remap(moved, x + back[..., 0] / CELL, y + back[..., 1] / CELL, cv2.INTER_LINEAR, borderValue=0)
        return moved > 0.5

    def carry_points(self, xy: np.ndarray, frame: int, to: int) -> np.ndarray:
        """Return where the picture carries points [N, 2], raster pixels, of one frame in another one."""
        step = 1 if to > frame else -1
        moved = np.array(xy, np.float32)
        rows, columns = self.residual.shape[1:]
        for t in range(frame, to, step):
            flow = self.forward[t] if step > 0 else self.backward[t - 1]
            x, y = (moved.T // CELL).astype(int)
            moved += flow[y.clip(0, rows - 1), x.clip(0, columns - 1)]
        return moved


@dataclass(frozen=True)
class _Grid:
    """The cells of a frame, seen in the small picture that flow is measured on.

    Attributes:
        shape: rows and columns.
        centers: [h * w, 2] float32, the cells' centers, raster pixels of the small picture.
    """

    shape: tuple[int, int]
    centers: np.ndarray

    @classmethod
    def of(cls, height: int, width: int, size: tuple[int, int]) -> _Grid:
        shape = (-(-height // CELL), -(-width // CELL))
        y, x = np.mgrid[: shape[0], : shape[1]].astype(np.float32) * CELL + CELL / 2
        # Cells at the border may reach out of the frame.
        x, y = x.clip(0.5, width - 0.5) * size[0] / width, y.clip(0.5, height - 0.5) * size[1] / height
        return cls(shape, np.stack([x, y], -1).reshape(-1, 2).astype(np.float32))

    def sample(self, flow: np.ndarray) -> np.ndarray:
        """[h, w, 2] float32, a dense flow at the cells' centers, mean over about a cell."""
        smooth = cv2.blur(flow, (3, 3))
        # OpenCV puts the first pixel's center at (0, 0), raster coordinates at (0.5, 0.5).
        x, y = (self.centers - 0.5).T.reshape(2, *self.shape)
        return cv2.remap(smooth, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)

    def residual(self, flow: np.ndarray) -> np.ndarray:
        """[h, w] float32, how far the flow [h, w, 2] at the cells is from the background's."""
        moved = self.centers + flow.reshape(-1, 2)
        homography = None
        # A quarter of the cells tells it as well, in a quarter of the time.
        chosen = np.arange(len(moved)).reshape(self.shape)[::2, ::2].ravel()
        if len(chosen) >= 4:
            homography, _ = cv2.findHomography(
                self.centers[chosen], moved[chosen], cv2.RANSAC, BACKGROUND_TOLERANCE, maxIters=RANSAC_ITERATIONS
            )
        if homography is None:
            # A tiny frame, or no motion that most of the flow agrees with: as if the camera stood still.
            homography = np.eye(3)
        background = cv2.perspectiveTransform(self.centers[None], homography)[0]
        return np.linalg.norm(moved - background, axis=-1).reshape(self.shape).astype(np.float32)
