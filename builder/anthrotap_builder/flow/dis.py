"""DIS by OpenCV, the default flow."""

from __future__ import annotations

import cv2
import numpy as np

from anthrotap_builder.config import FlowSettings

PRESETS = {
    "ultrafast": cv2.DISOPTICAL_FLOW_PRESET_ULTRAFAST,
    "fast": cv2.DISOPTICAL_FLOW_PRESET_FAST,
    "medium": cv2.DISOPTICAL_FLOW_PRESET_MEDIUM,
}


class DISFlow:
    """Dense Inverse Search (Kroeger et al., ECCV 2016); a `Flow`."""

    def __init__(self, preset: str) -> None:
        self._preset = PRESETS[preset]

    def __call__(self, first: np.ndarray, second: np.ndarray) -> np.ndarray:
        """Estimate flow; see `anthrotap_builder.flow.Flow`."""
        # A displacement is the same whether the first pixel's center is (0, 0), as in OpenCV, or (0.5, 0.5).
        gray, next_gray = (cv2.cvtColor(image, cv2.COLOR_RGB2GRAY) for image in (first, second))
        # An estimator keeps a little of the pair before, and labels must not depend on the order of work.
        return cv2.DISOpticalFlow.create(self._preset).calc(gray, next_gray, None)


def load_dis(settings: FlowSettings, device: str) -> DISFlow:
    """Return DIS at the preset of the settings. OpenCV has it on the CPU only."""
    return DISFlow(settings.preset)
