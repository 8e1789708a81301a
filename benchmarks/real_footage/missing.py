"""Frames in which a labeled person has no visible label."""

from __future__ import annotations

import numpy as np

from benchmarks.real_footage.examples import Measured
from benchmarks.real_footage.footage import FootageClip


def measure_missing(clip: FootageClip) -> Measured:
    """Count frames without visible labels.

    Returns:
        Counts: `visible` labels; `frames` and `frames_bare` in which nobody has a visible label; over all people with a
        visible label in the clip, `person_frames` (frames of the clip times people), `person_frames_bare` in which the
        person has none, and `person_frames_blank` of them between two in which he has one (he did not leave).
    """
    tracks = clip.tracks
    counts = {
        "visible": int(tracks.visible.sum()),
        "frames": tracks.num_frames,
        "frames_bare": int((~tracks.visible.any(0)).sum()),
        "people": 0,
        "person_frames": 0,
        "person_frames_bare": 0,
        "person_frames_blank": 0,
    }
    for person in np.unique(tracks.person):
        labeled = tracks.visible[tracks.person == person].any(0)
        if labeled.any():
            first, last = np.flatnonzero(labeled)[[0, -1]]
            counts["people"] += 1
            counts["person_frames"] += len(labeled)
            counts["person_frames_bare"] += int((~labeled).sum())
            counts["person_frames_blank"] += int((~labeled[first:last]).sum())
    return Measured(counts)
