"""Optical flow behind one small interface."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import numpy as np

from anthrotap_builder.registries import FLOWS

if TYPE_CHECKING:
    from anthrotap_builder.config import FlowSettings


class Flow(Protocol):
    """Estimates flow. Several threads may use one at once; the flow of a pair depends on nothing else."""

    def __call__(self, first: np.ndarray, second: np.ndarray) -> np.ndarray:
        """Return displacements (x, y), [H, W, 2] float32 pixels, sampled at the pixel centers of `first`.

        The caller may change the array.

        Args:
            first, second: [H, W, 3] uint8 RGB.
        """
        ...


def load_flow(settings: FlowSettings, device: str) -> Flow:
    """Load the flow of the settings; a network runs on `device`, as torch names it.

    Raises:
        ImportError, AssetError: it needs a package or weights that are missing.
    """
    return FLOWS.load(settings.model)(settings, device)
