"""Optical flow behind one small interface."""

from __future__ import annotations

from typing import Protocol

import numpy as np


class Flow(Protocol):
    """Estimates flow. Several threads may use one at once; the flow of a pair depends on nothing else."""

    def __call__(self, first: np.ndarray, second: np.ndarray) -> np.ndarray:
        """Return displacements (x, y), [H, W, 2] float32 pixels, sampled at the pixel centers of `first`.

        The caller may change the array.

        Args:
            first, second: [H, W, 3] uint8 RGB; or [H, W] uint8 gray, for a flow that knows no more (see `flow_images`).
        """
        ...
