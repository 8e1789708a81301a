"""Flow consistency: a label is trusted where the mesh moves as the picture does.

The paper refuses single steps in which mesh and reliable flow differ. A slide is slower than that, so the signed
difference is also summed along the track: the frames that stay together in it are one point of the scene.
"""

from __future__ import annotations

import numpy as np

from anthrotap_builder.config import FilterSettings, LabelingConfig
from anthrotap_builder.detection import PersonTrack, anyone, masks_of
from anthrotap_builder.flow import TrackFlow, sample_flow
from anthrotap_builder.geometry.camera import Camera
from anthrotap_builder.geometry.visibility_margin import SurfaceTracks
from anthrotap_hf.tracks import Tracks

# How often a seen label whose point truly shows was within 2 pixels (at 256x256) of the point that its track follows,
# by its drift in pixels of a frame with a short side of 256: measured on the tuning half of the proving ground, whose
# report holds it against the truth (`reliability`).
DRIFT = (0.0, 0.125, 0.375, 0.625, 0.875, 1.25, 1.75, 2.5, 4.0)
WITHIN_2_PIXELS = (0.96, 0.953, 0.913, 0.857, 0.810, 0.751, 0.682, 0.607, 0.586)


def filter_labels(
    points: SurfaceTracks,
    people: list[PersonTrack],
    flow: TrackFlow,
    camera: Camera,
    config: LabelingConfig,
) -> tuple[Tracks, float]:
    """Which labels of the meshes may be trusted: where they lie in masks, move with flow, and are not close calls.

    Args:
        points: the labels.
        people: whose masks they must lie in.
        flow: what it says of the labels' motion.
        camera: of the clip.
        config: thresholds.

    Returns:
        The tracks, and the share of the (track, frame) labels, seen by the mesh, that the flow check refused.
    """
    xy, visible = points.xy, points.visible
    # Outside its person's mask a point that the mesh calls visible is off the body or behind something; outside
    # everyone's, a point that it calls hidden is where nobody is.
    believed = camera.contains(xy)
    if config.filter.masks:
        own, anyone = _in_masks(xy, points.person, people)
        believed &= np.where(visible, own, anyone)
    seen, hidden = visible & believed, ~visible & believed
    trusted, drift = _consistent(xy, seen, flow, config.filter, min(camera.height, camera.width) / 256)
    rejected_fraction = float((seen & ~trusted).sum() / max(seen.sum(), 1))
    trusted &= points.certain
    valid = trusted | (hidden & points.certain & _near(trusted, config.filter.hidden_reach))
    confidence = None
    if drift is not None:
        confidence = np.where(valid & visible, np.interp(drift, DRIFT, WITHIN_2_PIXELS), 0).astype(np.float32)
    tracks = Tracks.from_labels(
        xy,
        visible,
        valid,
        height=camera.height,
        width=camera.width,
        person=points.person,
        vertex=points.vertex,
        confidence=confidence,
    )
    return tracks, rejected_fraction


def _in_masks(xy: np.ndarray, person: np.ndarray, people: list[PersonTrack]) -> tuple[np.ndarray, np.ndarray]:
    """[N, T] bool each: whether a point lies in its own person's mask, and in anyone's."""
    masks = masks_of(people)
    height, width = masks[0].shape[1:]
    cells = np.clip(np.nan_to_num(xy), 0, [width - 1, height - 1]).astype(np.intp)
    frames = np.arange(xy.shape[1])
    own = np.zeros(xy.shape[:2], bool)
    for index, mask in enumerate(masks):
        rows = person == index
        own[rows] = mask[frames, cells[rows, :, 1], cells[rows, :, 0]]
    return own, anyone(people)[frames, cells[..., 1], cells[..., 0]]


def filter_tracks(
    xy: np.ndarray,
    visible: np.ndarray,
    forward_flow: np.ndarray,
    backward_flow: np.ndarray,
    config: FilterSettings | None = None,
) -> np.ndarray:
    """Which labels may be trusted, by the flow between neighboring frames.

    By the rule "steps", a seen label is valid unless a step to or from it has reliable flow that disagrees with the
    track (the paper's check). By the rule "drift" it is valid if a step to or from it has reliable flow that agrees
    (its *witness*) and its summed drift lies with that of most of the track. A track of which too few seen labels are
    valid is dropped whole. A hidden label cannot be witnessed: it is valid within reach of a
    valid seen one of its track, before or after.

    Args:
        xy: [N, T, 2] float, raster pixels; NaN where there is no label.
        visible: [N, T] bool.
        forward_flow, backward_flow: [T - 1, H, W, 2] float32, from each frame to the next and back; pixel
            displacements sampled at pixel centers.
        config: thresholds, in pixels of a frame with a short side of 256; the defaults when left out.

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
    height, width = forward_flow.shape[1:3]
    inside = ((xy >= 0) & (xy < [width, height])).all(-1)
    displacement = np.zeros((tracks, frames - 1, 2), np.float32)
    fb_error = np.zeros((tracks, frames - 1), np.float32)
    for t in range(frames - 1):
        displacement[:, t] = sample_flow(forward_flow[t], xy[:, t])
        back = sample_flow(backward_flow[t], xy[:, t] + displacement[:, t])
        fb_error[:, t] = np.linalg.norm(displacement[:, t] + back, axis=1)
    flow = TrackFlow(displacement, fb_error)
    trusted, _ = _consistent(xy, visible & inside, flow, config, min(height, width) / 256)
    return trusted | (~visible & inside & _near(trusted, config.hidden_reach))


def _consistent(
    xy: np.ndarray, seen: np.ndarray, flow: TrackFlow, config: FilterSettings, unit: float
) -> tuple[np.ndarray, np.ndarray | None]:
    """[N, T] bool: which of the labels that are believed seen agree with flow. By the rule "drift" also how far each
    label is from the middle of its track's drift, [N, T] pixels of the thresholds, inf where none.

    `unit` is what a pixel of the thresholds is worth here.
    """
    if config.rule == "none":
        return seen, None
    both = seen[:, 1:] & seen[:, :-1]
    motion = np.diff(xy, axis=1)
    difference = np.where(both[..., None], np.nan_to_num(motion - flow.displacement), 0)
    reliable = both & (np.nan_to_num(flow.fb_error, nan=np.inf) <= config.fb_threshold * unit)
    tolerance = config.step_pixels * unit + config.step_relative * np.nan_to_num(
        np.linalg.norm(motion, axis=-1)
    )
    agrees = np.linalg.norm(difference, axis=-1) <= tolerance
    apart = None
    if config.rule == "steps":
        valid = seen & ~_at_either_end(reliable & ~agrees)
    else:
        # Where flow is unreliable its difference counts all the same: a wrong one costs a good label, leaving it out
        # would let a jump of the mesh through. While a point is hidden, or out of its mask because something is in
        # front, flow says nothing of it, and the mesh is believed.
        drift = np.zeros((*seen.shape, 2))
        np.cumsum(difference, axis=1, out=drift[:, 1:])
        witnessed = seen & _at_either_end(reliable & agrees)
        apart = _from_largest_gathering(drift / unit, witnessed, config.drift_pixels)
        valid = witnessed & (apart <= config.drift_pixels)
    kept = valid.sum(1) >= np.maximum(config.min_track_share * seen.sum(1), 1)
    valid &= kept[:, None]
    return valid, apart


def _from_largest_gathering(drift: np.ndarray, counted: np.ndarray, radius: float) -> np.ndarray:
    """[N, T]: distance from the drift of the counted frame that has most of them within `radius`; inf if none."""
    distance = np.full(counted.shape, np.inf)
    block = 512  # bounds memory: [block, T, T]
    for first in range(0, len(counted), block):
        part, count = drift[first : first + block], counted[first : first + block]
        apart = ((part[:, :, None] - part[:, None]) ** 2).sum(-1)
        near = (apart <= radius**2) & count[:, None, :]
        center = part[np.arange(len(part)), np.where(count, near.sum(2), -1).argmax(1)]
        from_center = np.linalg.norm(part - center[:, None], axis=-1)
        distance[first : first + block] = np.where(count.any(1, keepdims=True), from_center, np.inf)
    return distance


def _at_either_end(steps: np.ndarray) -> np.ndarray:
    """[N, T] bool: frames that a step [N, T - 1] which holds leads to or from."""
    frames = np.zeros((steps.shape[0], steps.shape[1] + 1), bool)
    frames[:, :-1] |= steps
    frames[:, 1:] |= steps
    return frames


def _near(frames: np.ndarray, reach: int) -> np.ndarray:
    """[N, T] bool: frames within `reach` of one that holds [N, T], before or after."""
    count = frames.shape[1]
    at = np.arange(count)
    before = np.maximum.accumulate(np.where(frames, at, -reach - 1), axis=1)
    after = np.minimum.accumulate(np.where(frames, at, count + reach)[:, ::-1], axis=1)[:, ::-1]
    return (at - before <= reach) | (after - at <= reach)
