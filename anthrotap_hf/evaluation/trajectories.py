"""Metrics of whole trajectories: PointOdyssey's (Zheng et al., ICCV 2023) and EgoPoints' (Darkhalil et al., WACV 2025).

They ask how near every known position is, whether the point is visible or not, so they need ground truth that knows
positions of occluded points. Errors are in pixels of frames scaled to 256x256; the tracks may be in any size.
"""

from __future__ import annotations

import numpy as np

from anthrotap_hf.evaluation.metrics import RESOLUTION, THRESHOLDS

# A track is lost where it is farther away, pixels at 256x256.
LOST = 16
# EgoPoints' own thresholds, and the size of the frames in whose pixels it measures points that come back.
WIDE_THRESHOLDS = (8, 16, 24)
EGOPOINTS_SIZE = (384, 512)

TRAJECTORY = ("d_avg", "survival", "median_error", *(f"d_{threshold}" for threshold in THRESHOLDS))
EGOPOINTS = ("d_star_avg", "in_view_accuracy", "out_of_view_accuracy", "reidentified")


def trajectory_metrics(
    gt_tracks: np.ndarray,
    gt_valid: np.ndarray,
    pred_tracks: np.ndarray,
    *,
    height: int,
    width: int,
    query_frames: np.ndarray | None = None,
) -> dict[str, float | None]:
    """Measure the trajectories of one video, as PIPs++'s test on PointOdyssey does; benchmarks average over videos.

    - d_k: of the valid labels after the query, the fraction whose error is less than k = 1, 2, 4, 8, 16 pixels; d_avg:
      the mean of these.
    - survival: a track is alive until its first valid label with an error above 16 pixels. The fraction of frames in
      which a track is alive, from its query on, averaged over all tracks together. So it is the mean fraction that is
      alive, and not the fraction that survives to the end.
    - median_error: of each track the median error of its valid labels, query included, averaged over tracks; pixels
      (the released `median_l2`, MTE).

    A figure without any valid label is None. In median_error a track without a valid label is left out, where the
    released code gives NaN for the video.

    Args:
        gt_tracks: [N, T, 2] xy; may be anything where not valid.
        gt_valid: [N, T] bool, whether the position is known; visible or not.
        pred_tracks: [N, T, 2] xy; a position that is not finite is wrong.
        height, width: of the frames that both tracks refer to, pixels.
        query_frames: [N] int, the frame of each track's query; None for the first.

    Raises:
        ValueError: for shapes that disagree.
    """
    errors = _errors(gt_tracks, gt_valid, pred_tracks, height, width)
    valid = np.asarray(gt_valid, bool)
    frames = np.arange(valid.shape[1])
    start = np.zeros((len(valid), 1), int) if query_frames is None else np.asarray(query_frames).reshape(-1, 1)
    tracked = frames >= start
    scored = valid & (frames > start)
    found: dict[str, float | None] = {f"d_{k}": _fraction(scored & (errors < k), scored) for k in THRESHOLDS}
    found["d_avg"] = _mean([found[f"d_{k}"] for k in THRESHOLDS])
    lost = np.logical_or.accumulate(valid & tracked & ~(errors <= LOST), axis=1)
    found["survival"] = _fraction(tracked & ~lost, tracked)
    known = valid & tracked
    medians = [float(np.median(error[mask])) for error, mask in zip(errors, known, strict=True) if mask.any()]
    found["median_error"] = _mean(medians)
    return {name: found[name] for name in TRAJECTORY}


def egopoints_metrics(
    gt_tracks: np.ndarray,
    gt_valid: np.ndarray,
    gt_out_of_view: np.ndarray,
    gt_occluded: np.ndarray,
    pred_tracks: np.ndarray,
    *,
    height: int,
    width: int,
) -> dict[str, float | None]:
    """Measure how one video's points leave the frame and come back, as EgoPoints does; benchmarks average over videos.

    All tracks start in the first frame, which is not scored.

    - d_star_avg: as d_avg of `trajectory_metrics`, with thresholds 8, 16, 24.
    - in_view_accuracy (IVA): of labels that are valid or occluded, the fraction that is predicted within the frame,
      border included. A label that is both counts twice.
    - out_of_view_accuracy (OOVA): of labels that are out of view, the fraction that is predicted outside the frame.
    - reidentified (ReID delta): of the valid labels after the last frame in which their track is out of view, the
      fraction with an error below 8, 16, 24 pixels of a frame of 384x512 (mean over the three). Only labels count as
      right that come after the last frame in which the point is out of view and predicted so.

    A figure of nothing is None, and is left out of means.

    Args:
        gt_tracks, gt_valid, pred_tracks, height, width: as of `trajectory_metrics`.
        gt_out_of_view: [N, T] bool, whether the point lies outside the frame.
        gt_occluded: [N, T] bool, whether the point is hidden inside the frame.

    Raises:
        ValueError: for shapes that disagree.
    """
    errors = _errors(gt_tracks, gt_valid, pred_tracks, height, width)
    valid, away, hidden = (np.asarray(each, bool)[:, 1:] for each in (gt_valid, gt_out_of_view, gt_occluded))
    if not valid.shape == away.shape == hidden.shape:
        raise ValueError("gt_valid, gt_out_of_view and gt_occluded must be [N, T], all of one shape")
    pred = np.asarray(pred_tracks)[:, 1:]
    with np.errstate(invalid="ignore"):
        inside = ((pred >= 0) & (pred <= [width, height])).all(-1)
    in_view = valid.astype(int) + hidden
    scored = valid.sum()
    star = [_ratio((valid & (errors[:, 1:] < k)).sum(), scored) for k in WIDE_THRESHOLDS]
    # The labels after the last frame of another kind of frame, and none where there is no such frame.
    after_truth = _after_last(np.asarray(gt_out_of_view, bool))[:, 1:] & valid
    after_both = _after_last(away & ~inside) & valid
    large = _errors(gt_tracks, gt_valid, pred_tracks, height, width, EGOPOINTS_SIZE)[:, 1:]
    returning = after_truth.sum() if away.any() else 0
    back = [_ratio((after_both & (large < k)).sum(), returning) for k in WIDE_THRESHOLDS]
    return {
        "d_star_avg": _mean(star),
        "in_view_accuracy": _ratio((in_view * inside).sum(), in_view.sum()),
        "out_of_view_accuracy": _ratio((away & ~inside).sum(), away.sum()),
        "reidentified": _mean(back),
    }


def _errors(
    gt_tracks: np.ndarray,
    gt_valid: np.ndarray,
    pred_tracks: np.ndarray,
    height: int,
    width: int,
    size: tuple[int, int] = RESOLUTION,
) -> np.ndarray:
    """Return the distances [N, T] in pixels of frames of `size` (height, width); infinite where one is not finite."""
    truth, found = np.asarray(gt_tracks, np.float64), np.asarray(pred_tracks, np.float64)
    if truth.ndim != 3 or truth.shape != found.shape or truth.shape != (*np.shape(gt_valid), 2):
        raise ValueError(
            f"need tracks [N, T, 2] and valid [N, T], got {list(truth.shape)}, {list(found.shape)} and "
            f"{list(np.shape(gt_valid))}"
        )
    with np.errstate(invalid="ignore"):
        errors = np.hypot(*np.moveaxis((found - truth) * [size[1] / width, size[0] / height], -1, 0))
    return np.where(np.isfinite(errors), errors, np.inf)


def _after_last(flags: np.ndarray) -> np.ndarray:
    """Return [N, T] bool: the frames after a track's last flagged one; none where no frame is flagged."""
    later = np.logical_or.accumulate(flags[:, ::-1], axis=1)[:, ::-1]
    result: np.ndarray = ~later & flags.any(1, keepdims=True)
    return result


def _fraction(part: np.ndarray, whole: np.ndarray) -> float | None:
    return _ratio(part.sum(), whole.sum())


def _ratio(part: float, whole: float) -> float | None:
    return float(part / whole) if whole else None


def _mean(values: list[float | None] | list[float]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None
