"""Filtering of labels by masks and by flow: a label is valid where it moves as the picture does.

The paper rejects single steps in which mesh and reliable flow differ. A slow slide of the mesh over the body passes
that check, so the signed difference is also followed along the track (its *drift*, see `flow.drift`): frames whose
drift is alike are of one point of the body. In other frames the drift says where that point is: the label is moved
there, if flow is certain enough of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from anthrotap_builder.config import FilterSettings
from anthrotap_builder.context import ClipContext
from anthrotap_builder.detection import PersonTrack, person_masks, union_mask
from anthrotap_builder.flow.appearance import find_briefly_occluded, find_foreign, sample_looks
from anthrotap_builder.flow.chains import find_shown
from anthrotap_builder.flow.drift import MIN_RUN, distance_from_densest, follow_points, measure_drift
from anthrotap_builder.flow.track_flow import RELATIVE_FB_ERROR, TrackFlow, sample_flow
from anthrotap_builder.mesh_recovery import MeshTrack
from anthrotap_builder.surface_tracks import SurfaceTracks
from anthrotap_hf.tracks import Tracks

# Mesh and flow may differ in one step by this fraction of the motion, beside `max_step_error`.
RELATIVE_STEP_ERROR = 0.25
# Drift may reach so much further, as a fraction of the motion in a step: where limbs are fast and blurred, mesh and
# flow are less exact.
RELATIVE_DRIFT = 0.1
# Tracks with a smaller fraction of valid labels, among those visible in the mask, are dropped.
MIN_TRACK_FRACTION = 0.2
# An occluded label is valid only with a valid visible one of its track this near, frames.
MAX_FRAMES_FROM_VISIBLE = 24
# A point may be shown for so many frames more than the mesh says, because contours of the mesh are a little off. If it
# is shown for longer, occluded labels so near in time are not valid either. If so many occluded labels of a person,
# and this fraction of them, are shown in a frame, none is valid there.
MAX_FRAMES_SHOWN = 2
FRAMES_AROUND_SHOWN = 4
MIN_SHOWN = 8
MAX_SHOWN_FRACTION = 0.2

# How often a visible label whose point is truly visible is within 2 pixels (at 256x256) of the point that its track is
# of, by the uncertainty of its position in pixels of a frame with a short side of 256. It is halfway between what the
# ground truth of rendered clips says (`reliability` of benchmarks.label_accuracy) and what reliable chains of flow on
# real clips say (benchmarks.real_footage), which are more often right, but are not to be had where it is hard.
UNCERTAINTY = (0.25, 0.35, 0.45, 0.55, 0.65, 0.75, 0.85, 0.95, 1.05, 1.2, 2.0)
WITHIN_2_PIXELS = (0.995, 0.987, 0.97, 0.925, 0.865, 0.8, 0.72, 0.68, 0.65, 0.6, 0.57)
# How often an occluded label whose nearest visible one is so many frames away is of a point that is truly occluded,
# measured likewise.
FRAMES_FROM_VISIBLE = (4, 7, 10, 15, 22)
TRULY_OCCLUDED = (0.72, 0.74, 0.79, 0.84, 0.91)


def filter_labels(
    context: ClipContext, points: SurfaceTracks, people: list[PersonTrack], flow: list[TrackFlow]
) -> tuple[Tracks, float]:
    """Find the valid labels: those that lie in masks, move with flow, and have a certain visibility.

    Args:
        context: the clip; `config.filter` has the thresholds.
        points: the labels by the meshes.
        people: whose masks they must lie in.
        flow: at the labels, by lag; between neighboring frames first.

    Returns:
        The tracks, and the fraction of the (track, frame) labels, visible by the mesh inside frame and mask, that flow
        rejected.
    """
    camera, settings, unit = context.camera, context.config.filter, context.unit
    # Outside its person's mask a point that the mesh calls visible is off the body or behind something. A point that it
    # calls occluded must lie where a person is: another person, if the point's own body is not in front of it.
    in_mask = camera.contains(points.xy)
    if settings.masks:
        in_own, in_any = _in_masks(points.xy, points.person, people)
        in_mask &= np.where(points.visible, in_own, in_any & (points.self_occluded | ~in_own))
    candidates = points.visible & in_mask
    uncertainty = None
    if settings.rule == "drift":
        track, points, consistent, uncertainty = _follow_flow(context, points, candidates, people, flow)
        # Labels were moved, occluded ones too, some of them out of the frame.
        in_mask = in_mask[track] & camera.contains(points.xy)
    else:
        track, consistent = np.arange(len(candidates)), _flow_consistent(points.xy, candidates, flow, settings, unit)
    proved = np.zeros_like(candidates)
    np.logical_or.at(proved, track, consistent)
    rejected_fraction = float((candidates & ~proved).sum() / max(candidates.sum(), 1))
    xy, visible = points.xy, points.visible
    # What is left are labels of a certain visibility, and occluded ones near a valid visible one of their track.
    valid = consistent & points.certain
    if settings.rule == "drift":
        looks = sample_looks(context, xy, valid)
        valid &= ~find_briefly_occluded(looks, valid)
        valid &= ~find_foreign(looks, valid, points.person, points.vertex, context.body.template)
    occluded = ~visible & in_mask & points.certain & _near(valid, MAX_FRAMES_FROM_VISIBLE)
    if settings.rule == "drift":
        occluded &= ~_contradicted(find_shown(context, xy, valid, occluded), valid, occluded, points.person)
    valid |= occluded
    confidence = None
    if uncertainty is not None:
        of_visible = np.interp(uncertainty, UNCERTAINTY, WITHIN_2_PIXELS)
        of_occluded = np.interp(_frames_to(valid & visible), FRAMES_FROM_VISIBLE, TRULY_OCCLUDED)
        confidence = np.where(visible, of_visible, of_occluded)
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


def _follow_flow(
    context: ClipContext,
    points: SurfaceTracks,
    candidates: np.ndarray,
    people: list[PersonTrack],
    flow: Sequence[TrackFlow],
) -> tuple[np.ndarray, SurfaceTracks, np.ndarray, np.ndarray]:
    """Move labels to the points of the body that their tracks follow by flow.

    Args:
        context: the clip.
        points: the labels by the meshes.
        candidates: [N, T] bool, the visible labels that may be valid.
        people: whose masks they must lie in, there too.
        flow: at the labels, by lag; between neighboring frames first.

    Returns:
        track: [M] int, the track that each of the new ones is of; a track that follows one point after another gives
            several.
        points: the M tracks.
        valid: [M, T] bool, which visible labels agree with flow.
        uncertainty: [M, T], that of their positions, pixels of the thresholds.
    """
    settings, unit = context.config.filter, context.unit
    reliable, _ = _compare_steps(points.xy, candidates, flow[0], settings, unit)
    considered = candidates & _at_either_end(reliable)
    followed = follow_points(
        points.xy, candidates, considered, flow, settings.fb_threshold, unit, radius=settings.max_drift
    )
    track = followed.track
    there = points.select(track)
    # Occluded labels move along: drift varies smoothly through frames that flow says nothing of.
    moved = (there.xy - followed.drift * unit).astype(np.float32)
    of_track = replace(flow[0], displacement=flow[0].displacement[track], fb_error=flow[0].fb_error[track])
    reliable, agrees = _compare_steps(moved, candidates[track], of_track, settings, unit)
    valid = followed.frames & _at_either_end(reliable & agrees) & context.camera.contains(moved)
    if settings.masks:
        valid &= _in_masks(moved, there.person, people)[0]
    valid &= (valid.sum(1) >= min(MIN_RUN, max(context.config.min_visible, 1)))[:, None]
    # The runs of a track together.
    count = np.bincount(track, valid.sum(1), len(candidates))
    valid &= (count >= MIN_TRACK_FRACTION * candidates.sum(1))[track][:, None]
    return track, replace(there, xy=moved), valid, followed.uncertainty


def _in_masks(xy: np.ndarray, person: np.ndarray, people: list[PersonTrack]) -> tuple[np.ndarray, np.ndarray]:
    """Return whether a point lies in its own person's mask, and in that of any person, [N, T] bool each."""
    own = np.zeros(xy.shape[:2], bool)
    for index, mask in enumerate(person_masks(people)):
        rows = person == index
        own[rows] = _in_mask(xy[rows], mask)
    return own, _in_mask(xy, union_mask(people))


def _in_mask(xy: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Return whether points [N, T, 2] lie in a mask [T, H, W] bool; any value outside the frame."""
    height, width = mask.shape[1:]
    columns, rows = np.clip(np.nan_to_num(xy), 0, [width - 1, height - 1]).astype(np.intp).transpose(2, 0, 1)
    return mask[np.arange(len(mask)), rows, columns]


def why_no_track(
    context: ClipContext, mesh: MeshTrack, points: SurfaceTracks, people: list[PersonTrack], tracks: Tracks
) -> str:
    """Return in a few words why a person has no track.

    Args:
        context: the clip.
        mesh: of the person.
        points: the labels of all people, by their meshes.
        people: whose masks the labels must lie in.
        tracks: of all people, also those that are visible in fewer frames than `min_visible`.
    """
    config = context.config
    rejected, frames = int(mesh.rejected.sum()), int((mesh.rejected | mesh.present).sum())
    if not frames:
        return "there is no mesh"
    if rejected > frames / 2:
        what = "fit landmarks and mask" if config.mesh_source == "fit" else "lie on the mask"
        return f"the mesh does not {what} in {rejected} of {frames} frames"
    own = points.person == mesh.person
    visible = points.visible[own] & context.camera.contains(points.xy[own])
    if not visible.any():
        return "hidden or out of the frame wherever there is a mesh"
    if config.filter.masks:
        visible &= _in_mask(points.xy[own], person_masks(people)[mesh.person])
    if not visible.any():
        return "no visible point of the mesh lies on the mask"
    if not (visible & points.certain[own]).any():
        return "whatever is visible of the mesh is near a contour or seen at a grazing angle"
    if not tracks.visible[tracks.person == mesh.person].any():
        return "none agrees with optical flow"
    return f"no track is visible in {config.min_visible} frames (min_visible)"


def _contradicted(shown: np.ndarray, visible: np.ndarray, occluded: np.ndarray, person: np.ndarray) -> np.ndarray:
    """Find the occluded labels that the picture contradicts, by those that it shows.

    Besides the labels that are shown themselves, these are: where a point is shown well after it should have
    disappeared, the labels around that frame, up to the next visible label of the track; and all of a person in a frame
    in which many are shown, because there the body faces the wrong way, or another body is in front.

    Args:
        shown: [N, T] bool, as `find_shown` gives it.
        visible, occluded: [N, T] bool, the labels.
        person: [N] int, the labels' person.
    """
    # The stretches between the visible labels of all tracks, numbered.
    stretch = np.cumsum(visible, axis=1) + np.arange(len(visible))[:, None] * (visible.shape[1] + 1)
    late = shown & ~_near(visible, MAX_FRAMES_SHOWN)
    contradicted = shown | (_near(shown, FRAMES_AROUND_SHOWN) & np.isin(stretch, stretch[late]))
    for one in np.unique(person):
        rows = person == one
        count = shown[rows].sum(0)
        contradicted[rows] |= (count >= MIN_SHOWN) & (count > MAX_SHOWN_FRACTION * occluded[rows].sum(0))
    return contradicted & occluded


def filter_tracks(
    xy: np.ndarray,
    visible: np.ndarray,
    forward_flow: np.ndarray,
    backward_flow: np.ndarray,
    config: FilterSettings | None = None,
) -> np.ndarray:
    """Find the valid labels by the flow between neighboring frames.

    By the rule "steps", a visible label is valid unless a step to or from it has reliable flow that disagrees with the
    track (the paper's check). By the rule "drift" it is valid if a step to or from it has reliable flow that agrees (it
    is *flow-consistent*) and its drift lies with that of most of the track. A track with too few valid visible labels
    is dropped whole. Flow says nothing of an occluded label: it is valid within MAX_FRAMES_FROM_VISIBLE of a valid
    visible one of its track, before or after.

    Args:
        xy: [N, T, 2] float, raster pixels; NaN where there is no label.
        visible: [N, T] bool.
        forward_flow, backward_flow: [T - 1, H, W, 2] float32, from each frame to the next and back; pixel
            displacements sampled at pixel centers.
        config: thresholds, in pixels of a frame with a short side of 256; the defaults if None.

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
    flow = TrackFlow(1, np.arange(frames - 1), displacement, fb_error)
    valid = _flow_consistent(xy, visible & inside, [flow], config, min(height, width) / 256)
    return valid | (~visible & inside & _near(valid, MAX_FRAMES_FROM_VISIBLE))


def _flow_consistent(
    xy: np.ndarray, candidates: np.ndarray, flow: Sequence[TrackFlow], settings: FilterSettings, unit: float
) -> np.ndarray:
    """Find which labels agree with flow where they are, [N, T] bool.

    Args:
        xy: [N, T, 2] raster pixels.
        candidates: [N, T] bool, the visible labels that may be valid.
        flow: at the labels, by lag; between neighboring frames first.
        settings: thresholds.
        unit: pixels of this frame for one of the thresholds.
    """
    if settings.rule == "none":
        return candidates
    reliable, agrees = _compare_steps(xy, candidates, flow[0], settings, unit)
    if settings.rule == "steps":
        valid = candidates & ~_at_either_end(reliable & ~agrees)
    else:
        drift = measure_drift(xy, candidates, flow, settings.fb_threshold, unit)
        flow_consistent = candidates & _at_either_end(reliable & agrees)
        distance = distance_from_densest(drift, flow_consistent, settings.max_drift)
        # The larger motion of the steps to and from each label.
        length = np.pad(np.nan_to_num(np.linalg.norm(np.diff(xy, axis=1), axis=-1)), ((0, 0), (1, 1)))
        fastest = np.maximum(length[:, 1:], length[:, :-1]) / unit
        valid = flow_consistent & (distance <= settings.max_drift + RELATIVE_DRIFT * fastest)
    kept = valid.sum(1) >= np.maximum(MIN_TRACK_FRACTION * candidates.sum(1), 1)
    return valid & kept[:, None]


def _compare_steps(
    xy: np.ndarray, candidates: np.ndarray, steps: TrackFlow, settings: FilterSettings, unit: float
) -> tuple[np.ndarray, np.ndarray]:
    """Say in which steps between neighboring frames flow is reliable, and in which it agrees with tracks.

    Returns:
        reliable, agrees: [N, T - 1] bool each; reliable only where both ends are candidates.
    """
    both = candidates[:, 1:] & candidates[:, :-1]
    # How the track moves in each step, and how that differs from flow: [N, T - 1, 2].
    motion = np.diff(xy, axis=1)
    difference = np.where(both[..., None], np.nan_to_num(motion - steps.displacement), 0)
    # The paper's rule knows no error that grows with the motion.
    relative = RELATIVE_FB_ERROR if settings.rule == "drift" else 0.0
    reliable = both & steps.within(settings.fb_threshold * unit, relative)
    tolerance = settings.max_step_error * unit + RELATIVE_STEP_ERROR * np.nan_to_num(np.linalg.norm(motion, axis=-1))
    return reliable, np.linalg.norm(difference, axis=-1) <= tolerance


def _at_either_end(steps: np.ndarray) -> np.ndarray:
    """Return the frames, [N, T] bool, that one of the steps [N, T - 1] bool leads to or from."""
    frames = np.zeros((steps.shape[0], steps.shape[1] + 1), bool)
    frames[:, :-1] |= steps
    frames[:, 1:] |= steps
    return frames


def _near(frames: np.ndarray, reach: int) -> np.ndarray:
    """Return the frames, [N, T] bool, within `reach` of one of `frames` [N, T] bool, before or after."""
    return _frames_to(frames) <= reach


def _frames_to(frames: np.ndarray) -> np.ndarray:
    """Return [N, T] int, how far each frame is from the nearest of `frames` [N, T] bool; a million if there is none."""
    at, far = np.arange(frames.shape[1]), 1_000_000
    # The last one before each frame, and the first one after it.
    before = np.maximum.accumulate(np.where(frames, at, at - far), axis=1)
    after = np.minimum.accumulate(np.where(frames, at, at + far)[:, ::-1], axis=1)[:, ::-1]
    return np.minimum(at - before, after - at)
