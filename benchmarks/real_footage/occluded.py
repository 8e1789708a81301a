"""Occluded labels that the picture contradicts: the point still shows."""

from __future__ import annotations

import numpy as np

from benchmarks.real_footage.chains import Chains, correlation, patches
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
    counts |= {"occluded_near": 0, "occluded_shows": 0, "occluded_shows_far": 0}
    examples: list[Example] = []
    drawn = np.random.default_rng(0).choice(len(hidden), min(DRAWN, len(hidden)), replace=False)
    # Labels with the same two frames are followed together.
    groups: dict[tuple[int, int], list[int]] = {}
    for row, t in hidden[np.sort(drawn)]:
        seen = np.flatnonzero(tracks.visible[row])
        if len(seen):
            nearest = int(seen[np.abs(seen - t).argmin()])
            if abs(nearest - t) <= NEAR:
                groups.setdefault((nearest, int(t)), []).append(int(row))
    for (start, end), rows in groups.items():
        first, label = (tracks.xy[rows, frame].astype(np.float64) for frame in (start, end))
        shown, shows = point_shows(clip, chains, first, start, end)
        off = np.linalg.norm((label - shown) * clip.to_256, axis=1)
        counts["occluded_near"] += len(rows)
        counts["occluded_shows"] += int(shows.sum())
        counts["occluded_shows_far"] += int((off[shows] > MISPLACED).sum())
        examples += [
            Example(
                (start, end), (first[i], label[i]), shown[i], float(abs(end - start)),
                f"person {tracks.person[rows[i]]}, {off[i]:.0f} px",
            )
            for i in np.flatnonzero(shows)
        ]  # fmt: skip
    return Measured(counts, {"occluded": examples})


def point_shows(
    clip: FootageClip, chains: Chains, xy: np.ndarray, start: int, end: int
) -> tuple[np.ndarray, np.ndarray]:
    """Say whether what is at points of one frame shows in another.

    Args:
        clip, chains: the frames.
        xy: [M, 2] float, raster pixels of the frame `start`.
        start, end: numbers of frames.

    Returns:
        [M, 2] float64, where it is in the frame `end`, and [M] bool, whether it shows there.
    """
    there, shows = chains.by_two_windows(xy, (start, end), WINDOWS, RETURN, AGREEMENT)
    margin = PATCH // 2 + 2
    shows &= ((there > margin) & (there < np.array([clip.tracks.width, clip.tracks.height]) - margin)).all(1)
    rows = np.flatnonzero(shows)
    before, after = patches(clip.grays[start], xy[rows], PATCH), patches(clip.grays[end], there[rows], PATCH)
    shows[rows] = (before.std(axis=(1, 2)) > TEXTURE) & (correlation(before, after) > ALIKE)
    return there, shows
