"""Visible labels of one track in two frames: does the picture under the first go to the second?"""

from __future__ import annotations

import numpy as np

from benchmarks.real_footage.chains import Chains
from benchmarks.real_footage.confidence import RIGHT_WITHIN, confidence_counts
from benchmarks.real_footage.examples import Example, Measured
from benchmarks.real_footage.footage import FootageClip

LAGS = (8, 24)
# Pixels of a 256x256 frame.
WITHIN = (2, 4, 8)
# Every so many frames, this many pairs are drawn.
START_STEP = 6
DRAWN = 60


def measure_visible_pairs(clip: FootageClip, chains: Chains) -> Measured:
    """Compare pairs of visible labels with reliable chains (`Chains.agreed`).

    Returns:
        Counts, for each lag: `start_L` visible labels with a frame at the lag, `given_L` of them visible there too,
        `pairs_L` pairs with a reliable chain, `pairs_L_within_P` of them within P pixels (at 256x256) of its end; and
        those of `confidence_counts`.
        Examples are the pairs with a chain.
    """
    tracks, rng = clip.tracks, np.random.default_rng(0)
    counts: dict[str, int] = {}
    examples: list[Example] = []
    for lag in LAGS:
        counts |= {f"{name}_{lag}": 0 for name in ("start", "given", "pairs")}
        counts |= {f"pairs_{lag}_within_{limit}": 0 for limit in WITHIN}
        if tracks.num_frames <= lag:
            continue
        start, both = tracks.visible[:, :-lag], tracks.visible[:, :-lag] & tracks.visible[:, lag:]
        counts[f"start_{lag}"], counts[f"given_{lag}"] = int(start.sum()), int(both.sum())
        drawn = []
        for t in range(0, tracks.num_frames - lag, START_STEP):
            rows = np.flatnonzero(both[:, t])
            drawn += [(row, t) for row in np.sort(rng.choice(rows, min(DRAWN, len(rows)), replace=False))]
        rows, starts = np.array(drawn, int).reshape(-1, 2).T
        first, second = (tracks.xy[rows, frames].astype(np.float64) for frames in (starts, starts + lag))
        expected, reliable = chains.agreed(first, starts, starts + lag)
        error = np.linalg.norm((second - expected) * clip.to_256, axis=1)
        counts[f"pairs_{lag}"] = int(reliable.sum())
        for limit in WITHIN:
            counts[f"pairs_{lag}_within_{limit}"] = int((error[reliable] <= limit).sum())
        if tracks.confidence is not None:
            confidence = np.minimum(tracks.confidence[rows, starts], tracks.confidence[rows, starts + lag])
            counts |= confidence_counts(lag, confidence[reliable], error[reliable] <= RIGHT_WITHIN)
        examples += [
            Example(
                (int(starts[i]), int(starts[i]) + lag), (first[i], second[i]), expected[i], float(error[i]),
                f"person {tracks.person[rows[i]]}, {error[i]:.0f} px",
            )
            for i in np.flatnonzero(reliable)
        ]  # fmt: skip
    return Measured(counts, {"visible_pairs": examples})
