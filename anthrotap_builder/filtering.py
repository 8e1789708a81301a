"""Flow consistency: a label is trusted where the mesh moves as the picture does.

The paper refuses single steps in which mesh and reliable flow differ. A slide is slower than that, so the signed
difference is also summed along the track: the frames that stay together in it are one point of the scene.
"""

from __future__ import annotations

import numpy as np

from anthrotap_builder.config import FilterSettings
from anthrotap_builder.flow import sample_flow


def filter_tracks(
    xy: np.ndarray,
    visible: np.ndarray,
    forward_flow: np.ndarray,
    backward_flow: np.ndarray,
    config: FilterSettings | None = None,
    unit: float | None = None,
) -> np.ndarray:
    """Which labels may be trusted.

    A seen label is valid if a step to or from it has reliable flow that agrees with the track (its *witness*) and
    its summed drift lies with that of most of the track. A hidden label cannot be witnessed: it is valid if the
    nearest labels before and after that flow could check, as far as there are any within reach, are valid. A track of
    which too few seen labels are valid is dropped whole.

    Args:
        xy: [N, T, 2] float, raster pixels; NaN where there is no label.
        visible: [N, T] bool.
        forward_flow, backward_flow: [T - 1, H, W, 2] float32, from each frame to the next and back; pixel
            displacements sampled at pixel centres.
        config: thresholds; the defaults when left out.
        unit: what a pixel of the thresholds is worth here. When left out, the flow's short side over 256; needed
            where flow covers only a part of the frame.

    Returns:
        valid: [N, T] bool. Labels outside the frame are never valid.

    Raises:
        ValueError: if shapes disagree.
    """
    config = config or FilterSettings()
    tracks, frames = visible.shape
    if xy.shape != (tracks, frames, 2):
        raise ValueError(f"xy must be [N, T, 2] = {(tracks, frames, 2)}, got {xy.shape}")
    if forward_flow.shape != backward_flow.shape or len(forward_flow) != frames - 1:
        raise ValueError(
            f"flows must be [T - 1, H, W, 2] with T = {frames}, got {forward_flow.shape} and {backward_flow.shape}"
        )
    if frames < 2:  # nothing to check against
        return np.zeros((tracks, frames), bool)
    height, width = forward_flow.shape[1:3]
    inside = ((xy >= 0) & (xy < [width, height])).all(-1)
    seen = visible & inside
    unit = min(height, width) / 256 if unit is None else unit

    reliable, difference, motion = _flow_differences(xy, seen, forward_flow, backward_flow, config, unit)
    tolerance = config.step_pixels * unit + config.step_relative * motion
    agrees = reliable & (np.linalg.norm(difference, axis=-1) <= tolerance)
    witnessed, checked = _at_either_end(agrees), _at_either_end(reliable)

    drift = np.zeros((tracks, frames, 2))
    # Where flow is unreliable its difference counts all the same: a wrong one costs a good label, leaving it out would
    # let a jump of the mesh through. While a point is hidden nothing can be summed, and the mesh is believed.
    np.cumsum(difference, axis=1, out=drift[:, 1:])
    together = _largest_gathering(drift, seen & witnessed, config.drift_pixels * unit)
    valid = seen & witnessed & together

    kept = valid.sum(1) >= np.maximum(config.min_track_share * seen.sum(1), 1)
    valid &= kept[:, None]
    return valid | (_hidden_between(checked, valid, config.hidden_reach) & inside & ~visible)


def _flow_differences(
    xy: np.ndarray,
    seen: np.ndarray,
    forward_flow: np.ndarray,
    backward_flow: np.ndarray,
    config: FilterSettings,
    unit: float,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """For each step: is flow reliable [N, T-1], the track's displacement less flow [N, T-1, 2], its length [N, T-1]."""
    tracks, frames = seen.shape
    reliable = seen[:, 1:] & seen[:, :-1]
    difference = np.zeros((tracks, frames - 1, 2))
    displacement = np.diff(xy, axis=1)
    for t in range(frames - 1):
        rows = np.flatnonzero(reliable[:, t])
        start = xy[rows, t]
        ahead = sample_flow(forward_flow[t], start)
        back = sample_flow(backward_flow[t], start + ahead)
        # Forward-backward check of Sundaram, Brox and Keutzer (ECCV 2010), eq. 5.
        slack = config.round_trip_relative * ((ahead**2).sum(1) + (back**2).sum(1))
        closed = ((ahead + back) ** 2).sum(1) <= slack + config.round_trip_pixels**2 * unit**2
        reliable[rows[~closed], t] = False
        difference[rows, t] = displacement[rows, t] - ahead
    return reliable, difference, np.nan_to_num(np.linalg.norm(displacement, axis=-1))


def _largest_gathering(drift: np.ndarray, counted: np.ndarray, radius: float) -> np.ndarray:
    """[N, T] bool: frames within `radius` of the counted frame's drift that has most counted frames near it."""
    together = np.zeros_like(counted)
    block = 512  # bounds memory: [block, T, T]
    for first in range(0, len(counted), block):
        part, count = drift[first : first + block], counted[first : first + block]
        apart = ((part[:, :, None] - part[:, None]) ** 2).sum(-1)
        near = (apart <= radius**2) & count[:, None, :]
        centre = np.where(count, near.sum(2), -1).argmax(1)
        together[first : first + block] = near[np.arange(len(part)), centre]
    return together


def _at_either_end(steps: np.ndarray) -> np.ndarray:
    """[N, T] bool: frames that a step [N, T - 1] which holds leads to or from."""
    frames = np.zeros((steps.shape[0], steps.shape[1] + 1), bool)
    frames[:, :-1] |= steps
    frames[:, 1:] |= steps
    return frames


def _hidden_between(checked: np.ndarray, valid: np.ndarray, reach: int) -> np.ndarray:
    """[N, T] bool: frames whose nearest checked ones within `reach`, on each side where there is one, are valid."""
    frames = checked.shape[1]
    at = np.broadcast_to(np.arange(frames), checked.shape)
    before = np.maximum.accumulate(np.where(checked, at, -1), axis=1)
    after = np.minimum.accumulate(np.where(checked, at, frames)[:, ::-1], axis=1)[:, ::-1]
    rows = np.arange(len(checked))[:, None]
    has_before, has_after = (before >= 0) & (at - before <= reach), (after < frames) & (after - at <= reach)
    before_valid = valid[rows, np.maximum(before, 0)] | ~has_before
    after_valid = valid[rows, np.minimum(after, frames - 1)] | ~has_after
    return (has_before | has_after) & before_valid & after_valid
