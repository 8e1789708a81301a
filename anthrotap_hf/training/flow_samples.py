"""Samples with flow's start, cut from prepared clips (see `anthrotap_hf.readers.prepared`)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from anthrotap_hf.models.flowchain.configuration_flowchain import FlowChainConfig
from anthrotap_hf.models.flowchain.modeling_flowchain import FlowChainSteps, unbroken_logits
from anthrotap_hf.readers.base import BadClipError
from anthrotap_hf.training.samples import Sample, SampleSettings

if TYPE_CHECKING:
    from anthrotap_hf.tracks import TrackedClip


def make_flow_sample(clip: TrackedClip, settings: SampleSettings, rng: np.random.Generator) -> Sample:
    """Cut a sample, with flow's start, out of a prepared clip: a window of time and, at its scale, of the frame.

    Mirrored or not (`flip`), forward or backward in time. Half of the queries are on tracks that are hidden for a
    while, where there are such.

    Args:
        clip: of a reader that `has_flow`.
        settings: how to cut it; without `affine` and `crop`, and with a `dilation` of 1.
        rng: of everything that is drawn.

    Raises:
        BadClipError: if the clip is too short or too small, or nothing is visible in it.
        OSError: if it cannot be read.
    """
    labels, flow, frames = clip.tracks, clip.info["flow"], clip.frames
    T, height, width = frames.shape[:3]
    if settings.num_frames > T or settings.height > height or settings.width > width:
        raise BadClipError(
            f"{T} frames of {width}x{height} are too few or too small for samples of {settings.num_frames} of "
            f"{settings.width}x{settings.height}",
            path=clip.clip_id,
        )
    begin = int(rng.integers(T - settings.num_frames + 1))
    window = slice(begin, begin + settings.num_frames)
    corner = np.array([rng.integers(width - settings.width + 1), rng.integers(height - settings.height + 1)])
    size = np.array([settings.width, settings.height])
    # 1. Labels in the crop.
    xy = labels.xy[:, window] - corner
    valid = labels.valid[:, window]
    visible = labels.visible[:, window] & ((xy >= 0) & (xy < size)).all(-1)
    # 2. Queries.
    track, time = flow.queries.astype(int).T
    inside = (time >= begin) & (time < begin + settings.num_frames)
    inside[inside] = visible[track[inside], time[inside] - begin]
    inside &= visible.sum(1)[track] >= settings.min_visible
    weight = inside.astype(float)
    hidden = inside & ((valid & ~visible).sum(1) >= 2)[track]
    if hidden.any():
        weight = inside / inside.sum() + hidden / hidden.sum()
    if not inside.any():
        raise BadClipError(f"no track is visible in {settings.min_visible} frames of a crop", path=clip.clip_id)
    replace = int(inside.sum()) < settings.num_queries
    chosen = rng.choice(len(track), settings.num_queries, replace=replace, p=weight / weight.sum())
    # 3. Where flow leads from them.
    track, time = track[chosen], time[chosen] - begin
    steps = flow.steps(chosen)
    steps = FlowChainSteps(steps.xy[:, window] - corner, steps.errors[:, window], steps.changes[:, window])
    config = FlowChainConfig(max_color_change=flow.max_color_change)
    logits = steps.visible_logits(time, (settings.height, settings.width), config)
    if flow.max_color_change is not None:
        logits = unbroken_logits(logits, time)
    x, y = corner
    video = np.array(frames[window, y : y + settings.height, x : x + settings.width])
    if settings.color is not None:
        video = settings.color.apply(rng, video)
    xy, visible, valid, start = xy[track], visible[track], valid[track], steps.xy.astype(np.float32)
    # 4. Mirrored, backward.
    if rng.random() < settings.flip:
        video = video[:, :, ::-1]
        xy, start = (np.stack([size[0] - part[..., 0], part[..., 1]], axis=-1) for part in (xy, start))
    query = np.concatenate([time[:, None], xy[np.arange(len(xy)), time]], axis=1)
    if rng.random() < 0.5:
        video, xy, visible, valid, start, logits = (
            video[::-1], *(part[:, ::-1] for part in (xy, visible, valid, start, logits))
        )  # fmt: skip
        query[:, 0] = settings.num_frames - 1 - query[:, 0]
    return Sample(
        video=np.ascontiguousarray(video),
        query_points=query.astype(np.float32),
        tracks=np.where(valid[..., None], xy, 0).astype(np.float32),
        visible=np.ascontiguousarray(visible),
        valid=np.ascontiguousarray(valid),
        name=clip.clip_id,
        flow_tracks=np.ascontiguousarray(start),
        flow_logits=np.ascontiguousarray(logits, np.float32),
    )
