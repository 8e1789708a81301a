"""Does the confidence of visible labels say on real footage which of them are right?

A pair of visible labels of one track is right if its second end is within `RIGHT_WITHIN` pixels (at 256x256) of where a
reliable chain goes from the first. The pair's confidence is the smaller one of its two labels.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from rich.table import Table

from benchmarks.label_accuracy.measure import plain

RIGHT_WITHIN = 2
# Confidence is counted in steps of so many percent, and shown for these ranges of percent.
STEP = 2
RANGES = ((50, 60), (60, 70), (70, 80), (80, 90), (90, 96), (96, 101))
# Fewer pairs, right or wrong, give no area under the curve.
MIN_PAIRS = 20


def confidence_counts(lag: int, confidence: np.ndarray, right: np.ndarray) -> dict[str, int]:
    """Count pairs by their confidence.

    Args:
        lag: frames between the two labels.
        confidence: [M] float in [0, 1].
        right: [M] bool.

    Returns:
        `confidence_L_right_P` and `confidence_L_wrong_P` for each step of confidence that begins at P percent.
    """
    step = (np.round(100 * confidence).astype(int) // STEP) * STEP
    return {
        f"confidence_{lag}_{name}_{percent}": int(count)
        for name, rows in (("right", right), ("wrong", ~right))
        for percent, count in zip(*np.unique(step[rows], return_counts=True), strict=True)
    }


def area_under_curve(counts: Mapping[str, int], lag: int) -> float | None:
    """Return the probability, in percent, that a right pair has a higher confidence than a wrong one; ties count half.

    It is the area under the receiver operating characteristic (Hanley and McNeil 1982). None for too few pairs.
    """
    right, wrong = (_histogram(counts, lag, name) for name in ("right", "wrong"))
    if min(right.sum(), wrong.sum()) < MIN_PAIRS:
        return None
    below = np.cumsum(wrong) - wrong
    return float(100 * (right * (below + wrong / 2)).sum() / (right.sum() * wrong.sum()))


def confidence_table(rows: Mapping[str, Mapping[str, int]], lags: tuple[int, ...]) -> Table:
    """A row a clip and lag: the area under the curve, and how many pairs of each range of confidence are right."""
    table = Table(title="Confidence of visible labels", title_justify="left")
    headings = ("", "lag", "area\n%", *(f"{low} to\n{min(high, 100)} %" for low, high in RANGES))
    for heading in headings:
        table.add_column(heading, justify="right" if heading else "left")
    for name, counts in rows.items():
        for lag in lags:
            right, wrong = (_histogram(counts, lag, kind) for kind in ("right", "wrong"))
            shares = []
            for low, high in RANGES:
                steps = slice(low // STEP, -(-high // STEP))
                total = int(right[steps].sum() + wrong[steps].sum())
                shares.append(f"{plain(100 * right[steps].sum() / total, 0)} ({total})" if total else "-")
            table.add_row(name, str(lag), plain(area_under_curve(counts, lag)), *shares)
    table.caption = (
        f"area under the curve; then the percentage of pairs (their number) within {RIGHT_WITHIN} px at 256x256 of a "
        "reliable chain, by the smaller confidence of the two labels"
    )
    return table


def _histogram(counts: Mapping[str, int], lag: int, name: str) -> np.ndarray:
    steps = range(0, 101, STEP)
    return np.array([counts.get(f"confidence_{lag}_{name}_{percent}", 0) for percent in steps])
