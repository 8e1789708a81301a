"""What is measured of a video beside TAP-Vid's metrics: whole trajectories, re-detection, and EgoPoints' figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from anthrotap_hf.evaluation.redetection import mean_redetection, redetections
from anthrotap_hf.evaluation.trajectories import EGOPOINTS, TRAJECTORY, egopoints_metrics, trajectory_metrics
from anthrotap_hf.tracks import TrackedClip

# Names of a clip's `info`, each [N, T] bool: where its positions are known, and EgoPoints' flags.
POSITION_KNOWN, OUT_OF_VIEW, OCCLUDED = "position_known", "out_of_view", "occluded"
# Averaged over videos; None where no video has the figure.
AVERAGED = (*TRAJECTORY, *EGOPOINTS)


def measure_long_term(
    truth: TrackedClip, index: np.ndarray, query_frames: np.ndarray, found: Mapping[str, np.ndarray]
) -> dict[str, Any]:
    """Measure one video in which each query is tracked forward.

    Args:
        truth: the clip, in frames of the size that is scored. Positions count where its `info` says that they are
            known; without that, where labels are valid.
        index: [M] the track of each query.
        query_frames: [M] its frame.
        found: what the tracker gave, in pixels of the same frames: `tracks` [M, T, 2] and `visible` [M, T].

    Returns:
        `AVERAGED` and `redetections`: [gap in frames, [the Jaccard indices]] of each.
    """
    tracks = truth.tracks.select(index)
    size = {"height": tracks.height, "width": tracks.width}
    flags = {name: truth.info[name][index] for name in (POSITION_KNOWN, OUT_OF_VIEW, OCCLUDED) if name in truth.info}
    known = flags.get(POSITION_KNOWN, tracks.valid)
    results: dict[str, Any] = dict.fromkeys(AVERAGED)
    results |= trajectory_metrics(tracks.xy, known, found["tracks"], **size, query_frames=query_frames)
    # EgoPoints' figures begin in the first frame.
    if OUT_OF_VIEW in flags and not query_frames.any():
        results |= egopoints_metrics(tracks.xy, known, flags[OUT_OF_VIEW], flags[OCCLUDED], found["tracks"], **size)
    events = redetections(
        tracks.xy, tracks.visible, found["tracks"], found["visible"], tracks.valid, query_frames=query_frames
    )
    return {**results, "redetections": [[event.gap, [*event.jaccard]] for event in events]}


def mean_long_term(videos: Sequence[Mapping[str, Any]]) -> dict[str, float | None]:
    """Return the mean over videos of each of `AVERAGED`, and `REDETECTION` of all their re-detections together."""
    means: dict[str, float | None] = {}
    for name in AVERAGED:
        values = [video[name] for video in videos if video[name] is not None]
        means[name] = float(np.mean(values)) if values else None
    events = [(gap, tuple(jaccard)) for video in videos for gap, jaccard in video["redetections"]]
    return {**means, **mean_redetection(events)}
