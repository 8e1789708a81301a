"""Dense Inverse Search (Kroeger et al., ECCV 2016) by OpenCV, the default flow."""

from __future__ import annotations

import cv2
import numpy as np

from anthrotap_builder.config import FlowSettings
from anthrotap_builder.flow import Flow


def load_dis(settings: FlowSettings, device: str) -> Flow:
    """Return DIS at the preset of the settings. OpenCV has it on the CPU only."""
    preset = getattr(cv2, f"DISOPTICAL_FLOW_PRESET_{settings.preset.upper()}")

    def flow(first: np.ndarray, second: np.ndarray) -> np.ndarray:
        # A displacement is the same whether the first pixel's center is (0, 0), as in OpenCV, or (0.5, 0.5).
        gray, next_gray = (
            np.ascontiguousarray(image) if image.ndim == 2 else cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
            for image in (first, second)
        )
        # An estimator keeps a little of the pair before, and labels must not depend on the order of work.
        return cv2.DISOpticalFlow.create(preset).calc(gray, next_gray, None)

    return flow
