"""Labels across gaps: a track that is visible, then is not, and is visible again must have come back to its point."""

from __future__ import annotations

import numpy as np

from benchmarks.real_footage.chains import Chains
from benchmarks.real_footage.examples import Example, Measured
from benchmarks.real_footage.footage import FootageClip

# Frames from the last visible label before a gap to the first one after it, at most.
LONGEST = 24
# Windows of Lucas-Kanade, pixels; how far from the start both may return, and how far apart they may end.
WINDOWS = (21, 31)
RETURN = 1.0
AGREEMENT = 2.0
# Pixels of a 256x256 frame.
WITHIN = (2, 4, 8)
# So many pairs of frames of a clip are drawn, each as often as gaps lie between them, and so many gaps of each.
DRAWN_PAIRS = 40
DRAWN_GAPS = 30


def measure_gaps(clip: FootageClip, chains: Chains) -> Measured:
    """Compare visible labels on both sides of a gap with reliable chains.

    Returns:
        Counts: `gaps` of at most `LONGEST` frames; of those drawn, `gap_chains` that a chain bridges, and
        `gap_chains_within_P` of them within P pixels (at 256x256) of its end. Examples are the bridged gaps.
    """
    tracks = clip.tracks
    gaps: list[tuple[int, int, int]] = []
    for row, visible in enumerate(tracks.visible):
        frames = np.flatnonzero(visible)
        steps = np.diff(frames)
        gaps += [(int(frames[i]), int(frames[i + 1]), row) for i in np.flatnonzero((steps > 1) & (steps <= LONGEST))]
    counts = {"gaps": len(gaps), "gap_chains": 0} | {f"gap_chains_within_{limit}": 0 for limit in WITHIN}
    groups: dict[tuple[int, int], list[int]] = {}
    for start, end, row in gaps:
        groups.setdefault((start, end), []).append(row)
    rng = np.random.default_rng(0)
    drawn = dict.fromkeys(gaps[i][:2] for i in rng.permutation(len(gaps)))
    tested = []
    for start, end in [*drawn][:DRAWN_PAIRS]:
        rows = np.array(groups[start, end])
        rows = np.sort(rng.choice(rows, min(DRAWN_GAPS, len(rows)), replace=False))
        tested += [(row, start, end) for row in rows]
    rows, starts, ends = np.array(tested, int).reshape(-1, 3).T
    first, second = (tracks.xy[rows, frames].astype(np.float64) for frames in (starts, ends))
    expected, reliable = chains.by_two_windows(first, starts, ends, WINDOWS, RETURN, AGREEMENT)
    error = np.linalg.norm((second - expected) * clip.to_256, axis=1)
    counts["gap_chains"] = int(reliable.sum())
    for limit in WITHIN:
        counts[f"gap_chains_within_{limit}"] = int((error[reliable] <= limit).sum())
    examples = [
        Example(
            (int(starts[i]), int(ends[i])), (first[i], second[i]), expected[i], float(error[i]),
            f"person {tracks.person[rows[i]]}, {error[i]:.0f} px",
        )
        for i in np.flatnonzero(reliable)
    ]  # fmt: skip
    return Measured(counts, {"gaps": examples})
