"""Re-detection: how well points are tracked after they come back into view (TAPNext++, arXiv 2604.10582)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from anthrotap_hf.evaluation.metrics import THRESHOLDS

# The smallest gaps, in frames, that events are averaged over.
MIN_GAPS = (1, 4, 16, 64, 256)
REDETECTION = ("AJ_RD", *(f"AJ_RD_dmin{gap}" for gap in MIN_GAPS))


@dataclass(frozen=True)
class Redetection:
    """A point that is visible again after a gap.

    Attributes:
        track, frame: where it is visible again.
        gap: frames for which it was not visible just before.
        jaccard: for each of `THRESHOLDS`, the Jaccard index of the frames from this one to the end of the clip.
    """

    track: int
    frame: int
    gap: int
    jaccard: tuple[float, ...]


def redetections(
    gt_tracks: np.ndarray,
    gt_visible: np.ndarray,
    pred_tracks: np.ndarray,
    pred_visible: np.ndarray,
    gt_valid: np.ndarray | None = None,
    query_frames: np.ndarray | None = None,
) -> list[Redetection]:
    """Return the re-detections of one video that count: of each track, those after a gap longer than all before.

    In the frames from a re-detection on, later gaps included, a hit is a label that is visible, predicted visible and
    within d pixels (up to d itself, where TAP-Vid asks for less). The Jaccard index is the hits, divided by the
    visible labels plus the predicted ones that are occluded or farther away (tapnet/tapnextpp/metrics).

    Args:
        gt_tracks: [N, T, 2] xy in pixels of 256x256; may be anything where not visible.
        gt_visible: [N, T] bool.
        pred_tracks: [N, T, 2] xy.
        pred_visible: [N, T] bool.
        gt_valid: [N, T] bool; invalid labels are parts of gaps, and not scored. None: all are valid.
        query_frames: [N] int: a point comes back into view only after this frame, and a gap begins only there. None,
            as the released code has it: a track that is not visible at first comes back when it appears.

    Returns:
        The re-detections by frame and track.

    Raises:
        ValueError: for shapes that disagree.
    """
    gt_visible, pred_visible = np.asarray(gt_visible, bool), np.asarray(pred_visible, bool)
    valid = np.ones_like(gt_visible) if gt_valid is None else np.asarray(gt_valid, bool)
    if gt_visible.ndim != 2 or not gt_visible.shape == pred_visible.shape == valid.shape:
        raise ValueError("visibilities must be [N, T], all of one shape")
    if not np.shape(gt_tracks) == np.shape(pred_tracks) == (*gt_visible.shape, 2):
        raise ValueError(f"tracks must both be [N, T, 2] = {[*gt_visible.shape, 2]}")
    gt_visible = gt_visible & valid
    count, num_frames = gt_visible.shape
    frames = np.arange(num_frames)
    # Up to its query a track counts as visible, so that its first gap begins after it.
    seen = gt_visible if query_frames is None else gt_visible | (frames <= np.asarray(query_frames)[:, None])
    # [N, T]: for how many frames each track has not been visible, this frame included.
    last = np.maximum.accumulate(np.where(seen, frames, -1), axis=1)
    hidden_for = frames - last
    back = np.zeros_like(seen)
    back[:, 1:] = seen[:, 1:] & ~seen[:, :-1]
    gaps = np.zeros((count, num_frames), np.int64)
    gaps[:, 1:] = np.where(back[:, 1:], hidden_for[:, :-1], 0)
    longest = np.maximum.accumulate(gaps, axis=1)
    back[:, 1:] &= gaps[:, 1:] > longest[:, :-1]

    # The last axis is the threshold; positions that are not finite are farther than any.
    with np.errstate(invalid="ignore"):
        difference = np.asarray(pred_tracks, np.float32) - np.asarray(gt_tracks, np.float32)
        near = np.sqrt(np.square(difference).sum(-1))[..., None] <= np.array(THRESHOLDS)
    predicted = (pred_visible & valid)[..., None]
    hits = predicted & near & gt_visible[..., None]
    wrong = predicted & ~hits
    # From each frame to the end.
    hits, wrong, visible = (
        np.cumsum(each[:, ::-1], axis=1)[:, ::-1] for each in (hits, wrong, gt_visible[..., None].astype(np.int64))
    )
    found = []
    for frame, track in zip(*np.nonzero(back.T), strict=True):
        jaccard = hits[track, frame] / (visible[track, frame] + wrong[track, frame])
        gap = int(gaps[track, frame])
        found.append(Redetection(int(track), int(frame), gap, tuple(float(value) for value in jaccard)))
    return found


def mean_redetection(events: Iterable[tuple[int, tuple[float, ...]]]) -> dict[str, float | None]:
    """Return the average Jaccard index of re-detections, AJ_RD, by the names of `REDETECTION`.

    AJ_RD_dminG is the mean over all events after a gap of at least G frames (of all videos together, not video by
    video) and over thresholds; AJ_RD is the mean of those that have an event. None: there is none, where the released
    code gives NaN.

    Args:
        events: of each, the gap in frames, and the Jaccard indices as in `Redetection`.
    """
    known = list(events)
    gaps = np.array([gap for gap, _ in known])
    values = np.array([jaccard for _, jaccard in known]).reshape(len(known), len(THRESHOLDS))
    means: dict[str, float | None] = {}
    for smallest in MIN_GAPS:
        chosen = values[gaps >= smallest]
        means[f"AJ_RD_dmin{smallest}"] = float(chosen.mean()) if chosen.size else None
    present = [mean for mean in means.values() if mean is not None]
    return {"AJ_RD": float(np.mean(present)) if present else None, **means}
