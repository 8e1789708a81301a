"""Occluded labels that the picture contradicts: the point still shows."""

from __future__ import annotations

import numpy as np

from anthrotap_builder.flow.lucas_kanade import correlation
from benchmarks.real_footage.chains import Chains, patches_of_frames
from benchmarks.real_footage.examples import Example, Measured
from benchmarks.real_footage.footage import FootageClip

# So many occluded labels of a clip are drawn.
DRAWN = 400
# Frames to the nearest visible label of the track.
NEAR = 8
# Windows of Lucas-Kanade, pixels; how far from the start both may return, and how far apart they may end.
WINDOWS = (15, 25)
RETURN = 0.7
AGREEMENT = 1.5
# The patch that is compared: side and least standard deviation (gray levels), and how alike it must look.
PATCH = 17
TEXTURE = 6.0
ALIKE = 0.9
# Pixels of a 256x256 frame: labels further from where the point shows are also misplaced.
MISPLACED = 8.0


def measure_occluded(clip: FootageClip, chains: Chains) -> Measured:
    """Count occluded labels whose point shows: by chains from the nearest visible label, and by its looks.

    Returns:
        Counts: `valid` and `occluded` labels; of those drawn, `occluded_near` with a visible label of the track at most
        `NEAR` frames away, `occluded_shows` whose point shows, `occluded_shows_far` of them more than `MISPLACED` off.
        Examples are those that show.
    """
    tracks = clip.tracks
    hidden = np.argwhere(tracks.occluded)
    counts = {"valid": int(tracks.valid.sum()), "occluded": len(hidden)}
    drawn = np.random.default_rng(0).choice(len(hidden), min(DRAWN, len(hidden)), replace=False)
    tested = []
    for row, t in hidden[np.sort(drawn)]:
        seen = np.flatnonzero(tracks.visible[row])
        if len(seen):
            nearest = seen[np.abs(seen - t).argmin()]
            if abs(nearest - t) <= NEAR:
                tested.append((row, nearest, t))
    rows, starts, ends = np.array(tested, int).reshape(-1, 3).T
    first, label = (tracks.xy[rows, frames].astype(np.float64) for frames in (starts, ends))
    shown, shows = points_that_show(clip, chains, first, starts, ends)
    off = np.linalg.norm((label - shown) * clip.to_256, axis=1)
    counts |= {
        "occluded_near": len(rows),
        "occluded_shows": int(shows.sum()),
        "occluded_shows_far": int((off[shows] > MISPLACED).sum()),
    }
    examples = [
        Example(
            (int(starts[i]), int(ends[i])), (first[i], label[i]), shown[i], float(abs(ends[i] - starts[i])),
            f"person {tracks.person[rows[i]]}, {off[i]:.0f} px",
        )
        for i in np.flatnonzero(shows)
    ]  # fmt: skip
    return Measured(counts, {"occluded": examples})


def points_that_show(
    clip: FootageClip, chains: Chains, xy: np.ndarray, start: np.ndarray, end: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Say which points of some frames show in others.

    Args:
        clip, chains: the frames.
        xy: [M, 2] float, raster pixels of the frames `start`.
        start, end: [M] int, numbers of frames.

    Returns:
        [M, 2] float64, where they are in the frames `end`, and [M] bool, whether they show there.
    """
    there, shows = chains.by_two_windows(xy, start, end, WINDOWS, RETURN, AGREEMENT)
    margin = PATCH // 2 + 2
    shows &= ((there > margin) & (there < np.array([clip.tracks.width, clip.tracks.height]) - margin)).all(1)
    rows = np.flatnonzero(shows)
    before = patches_of_frames(clip.grays, start[rows], xy[rows], PATCH)
    after = patches_of_frames(clip.grays, end[rows], there[rows], PATCH)
    shows[rows] = (before.std(axis=(1, 2)) > TEXTURE) & (correlation(before, after) > ALIKE)
    return there, shows
