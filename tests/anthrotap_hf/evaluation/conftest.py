from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest


@pytest.fixture
def reference(reference_dir: Path) -> Callable[[str], dict[str, np.ndarray]]:
    """`reference(name)` loads a parity case."""

    def load(name: str) -> dict[str, np.ndarray]:
        with np.load(reference_dir / f"{name}.npz") as arrays:
            return dict(arrays)

    return load
