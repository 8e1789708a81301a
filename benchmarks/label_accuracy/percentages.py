"""Percentages of few cases, and how tables show them."""

from __future__ import annotations

import numpy as np

# A percentage of fewer cases means nothing, and is None.
MIN_CASES = 20


def percentage(cases: np.ndarray) -> float | None:
    """Return the percentage of true cases; None for fewer than `MIN_CASES`."""
    return float(100 * cases.mean()) if len(cases) >= MIN_CASES else None


def plain(value: float | None, digits: int = 1) -> str:
    """Format a percentage for a table; a dash where there is none."""
    return "-" if value is None else f"{value:.{digits}f}"
