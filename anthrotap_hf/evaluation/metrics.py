"""TAP-Vid's metrics and query modes (Doersch et al., TAP-Vid, NeurIPS 2022, section 3.2).

Points are xy in raster pixels of frames of 256x256: the thresholds are meant for that size.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

# Height and width of the frames in whose pixels errors are measured.
RESOLUTION = (256, 256)
# Pixels of such frames; a prediction must be nearer.
THRESHOLDS = (1, 2, 4, 8, 16)
QUERY_MODES = ("first", "strided", "start")
# Frames between queries in mode "strided".
STRIDE = 5
# In the order of the released tables.
METRICS = (
    "average_jaccard",
    "average_pts_within_thresh",
    "occlusion_accuracy",
    *(f"jaccard_{threshold}" for threshold in THRESHOLDS),
    *(f"pts_within_{threshold}" for threshold in THRESHOLDS),
)


def tapvid_metrics(
    query_points: np.ndarray,
    gt_tracks: np.ndarray,
    gt_visible: np.ndarray,
    pred_tracks: np.ndarray,
    pred_visible: np.ndarray,
    query_mode: str,
    gt_valid: np.ndarray | None = None,
) -> dict[str, float]:
    """Measure how well one video was tracked, as TAP-Vid does; a benchmark's result is the mean over its videos.

    A label counts where it is scored: in modes "first" and "start" after its query's frame, in mode "strided" in every
    other frame than it. Of these, with L labels, V visible ones, P points that are predicted visible, and C(d) labels
    that are visible and whose prediction is nearer than d pixels:

    - occlusion_accuracy: fraction of the L labels whose visibility is predicted right,
    - pts_within_d: C(d) / V, whatever visibility is predicted,
    - jaccard_d: of the C(d), TP are predicted visible, and FP = P - TP; TP / (V + FP),
    - average_jaccard, average_pts_within_thresh: means over d = 1, 2, 4, 8, 16.

    A fraction of nothing (no label is scored or visible, and for jaccard_d nothing is predicted visible either) is 1,
    because nothing is wrong, where the released code gives NaN. `anthrotap evaluate` leaves videos of which no visible
    label is scored out of the means, and says so.

    Args:
        query_points: [N, 3] (t, x, y); t is a whole frame.
        gt_tracks: [N, T, 2] xy; may be anything where not visible.
        gt_visible: [N, T] bool.
        pred_tracks: [N, T, 2] xy; a position that is not finite is wrong.
        pred_visible: [N, T] bool.
        query_mode: one of `QUERY_MODES`.
        gt_valid: [N, T] bool; invalid labels are not scored. None: all are valid.

    Returns:
        Fractions from 0 to 1 by the released names, in the order of `METRICS`.

    Raises:
        ValueError: for shapes that disagree, queries outside the video or between frames, a visible label without a
            position, or another mode.
    """
    gt_visible, pred_visible = np.asarray(gt_visible, bool), np.asarray(pred_visible, bool)
    gt_tracks, pred_tracks = np.asarray(gt_tracks, np.float64), np.asarray(pred_tracks, np.float64)
    shape = gt_visible.shape
    if len(shape) != 2 or pred_visible.shape != shape:
        raise ValueError(f"visibilities must both be [N, T], got {list(shape)} and {list(pred_visible.shape)}")
    if gt_tracks.shape != (*shape, 2) or pred_tracks.shape != (*shape, 2):
        raise ValueError(
            f"tracks must both be [N, T, 2] = {[*shape, 2]}, got {list(gt_tracks.shape)} and {list(pred_tracks.shape)}"
        )
    scored = scored_labels(query_points, shape[1], query_mode, gt_valid)
    if scored.shape != shape:
        raise ValueError(f"{len(scored)} queries for {shape[0]} tracks; there must be one for each")
    visible = scored & gt_visible
    if not np.isfinite(gt_tracks[visible]).all():
        raise ValueError("a visible label has no finite position; mark it as not valid")
    predicted = scored & pred_visible
    # Positions that are not finite are no error: they are farther than any threshold.
    with np.errstate(invalid="ignore"):
        squared = np.square(pred_tracks - gt_tracks).sum(-1)
    found = {"occlusion_accuracy": _fraction(scored & (pred_visible == gt_visible), scored.sum())}
    for threshold in THRESHOLDS:
        correct = visible & (squared < threshold**2)
        hits = correct & pred_visible
        found[f"pts_within_{threshold}"] = _fraction(correct, visible.sum())
        found[f"jaccard_{threshold}"] = _fraction(hits, visible.sum() + (predicted & ~hits).sum())
    for average, each in (("average_jaccard", "jaccard"), ("average_pts_within_thresh", "pts_within")):
        found[average] = float(np.mean([found[f"{each}_{threshold}"] for threshold in THRESHOLDS]))
    return {name: found[name] for name in METRICS}


def scored_labels(
    query_points: np.ndarray, num_frames: int, query_mode: str, gt_valid: np.ndarray | None = None
) -> np.ndarray:
    """Return [N, T] bool, which labels count, for queries [N, 3] (t, x, y) in a video of `num_frames` frames.

    Raises:
        ValueError: as `tapvid_metrics`.
    """
    check_mode(query_mode)
    queries = np.asarray(query_points, np.float64)
    if queries.ndim != 2 or queries.shape[1] != 3:
        raise ValueError(f"query_points must be [N, 3] of (t, x, y), got {list(queries.shape)}")
    times = queries[:, :1]
    if not ((times >= 0) & (times < num_frames) & (times == np.floor(times))).all():
        raise ValueError(f"queries must be in whole frames from 0 to {num_frames - 1}")
    frames = np.arange(num_frames)
    scored = frames != times if query_mode == "strided" else frames > times
    if gt_valid is None:
        return scored
    if np.shape(gt_valid) != scored.shape:
        raise ValueError(f"gt_valid must be [N, T] = {list(scored.shape)}, got {list(np.shape(gt_valid))}")
    return scored & np.asarray(gt_valid, bool)


def count_occluded(
    query_points: np.ndarray,
    gt_visible: np.ndarray,
    pred_visible: np.ndarray,
    query_mode: str,
    gt_valid: np.ndarray | None = None,
) -> tuple[int, int]:
    """Count a video's scored labels that are occluded, and those of them that are predicted so.

    This is no metric of TAP-Vid's: where little is occluded, occlusion_accuracy is high for a tracker that calls all
    points visible. Arguments and errors are those of `tapvid_metrics`.
    """
    scored = scored_labels(query_points, np.shape(gt_visible)[1], query_mode, gt_valid)
    occluded = scored & ~np.asarray(gt_visible, bool)
    return int(occluded.sum()), int((occluded & ~np.asarray(pred_visible, bool)).sum())


def occlusion_recall(videos: Sequence[Mapping[str, float]]) -> float | None:
    """Return the fraction of all occluded labels of the videos that were predicted so; None where there are none.

    Args:
        videos: each with `occluded` and `occluded_found`, as `count_occluded` gives them.
    """
    occluded = sum(video["occluded"] for video in videos)
    return sum(video["occluded_found"] for video in videos) / occluded if occluded else None


def sample_queries(tracks: np.ndarray, visible: np.ndarray, mode: str) -> tuple[np.ndarray, np.ndarray]:
    """Return the queries that TAP-Vid asks of a video, and the track that each is of.

    In mode "first" each track is asked for once, where it is first visible; in mode "strided" once in every fifth
    frame (0, 5, ...) in which it is visible, frame by frame; in mode "start" once, in the first frame, if it is visible
    there, as PointOdyssey and EgoPoints have it. Tracks that are never visible, or in no such frame, are left out.

    Args:
        tracks: [N, T, 2] xy.
        visible: [N, T] bool.
        mode: one of `QUERY_MODES`.

    Returns:
        query_points [M, 3] float64 (t, x, y), and [M] int: the track of each.

    Raises:
        ValueError: for shapes that disagree or another mode.
    """
    check_mode(mode)
    tracks, visible = np.asarray(tracks, np.float64), np.asarray(visible, bool)
    if visible.ndim != 2 or tracks.shape != (*visible.shape, 2):
        raise ValueError(
            f"need tracks [N, T, 2] and visible [N, T], got {list(tracks.shape)} and {list(visible.shape)}"
        )
    if mode != "strided":
        index = np.flatnonzero(visible.any(axis=1) if mode == "first" else visible[:, :1].any(axis=1))
        times = visible[index].argmax(axis=1)
    else:
        steps, index = np.nonzero(visible[:, ::STRIDE].T)
        times = steps * STRIDE
    return np.concatenate([times[:, None], tracks[index, times]], axis=1), index


def mean_metrics(videos: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Return the plain mean over videos of each of `METRICS`.

    Raises:
        ValueError: for no video.
    """
    if not videos:
        raise ValueError("no video to take a mean of")
    return {name: float(np.mean([video[name] for video in videos])) for name in METRICS}


def check_mode(mode: str) -> None:
    """Raise ValueError for a mode that is none."""
    if mode not in QUERY_MODES:
        raise ValueError(f"no query mode {mode!r}: choose {' or '.join(QUERY_MODES)}")


def _fraction(part: np.ndarray, whole: int) -> float:
    return float(part.sum() / whole) if whole else 1.0
