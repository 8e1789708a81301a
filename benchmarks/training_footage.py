"""Real clips to train trackers on: pseudo-labels of people, and chains of flow at a higher resolution that agree.

A clip of 24 frames shows the whole frame of a video, or a square around a labeled person, in 256x256 pixels, at a rate
between 10 and 30 frames a second. Its labels are

- those of people that are likely right, visible or occluded (`LIKELY`), and
- points anywhere, moving ones first, that flow at full size follows: only as far as the colors stay and the way back
  along the flow leads to where the point came from. They are visible where they are known, and invalid elsewhere.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np
import torch

from anthrotap_hf.models.flowchain.configuration_flowchain import FlowChainConfig
from anthrotap_hf.models.flowchain.modeling_flowchain import chain_steps, unbroken_logits
from anthrotap_hf.tracks import Tracks
from benchmarks.real_footage.footage import FootageClip
from benchmarks.synthetic.training_set import FRAMES

# Far from the seeds of rendered clips.
FIRST_SEED = 440_000_000
SIDE = 256
SLOWEST, FASTEST = 10.0, 30.0  # frames a second
# Clips of a video at most.
CLIPS_OF_VIDEO = 8
ON_PEOPLE, ANYWHERE = 110, 50
# Confidence from which on a label is learned from.
LIKELY = 0.6
MIN_VISIBLE = 4
# Short side that chains are followed at, and the limits on them, in pixels of it; colors as in `FlowChainConfig`.
SHORT_SIDE = 384
CHAINS = FlowChainConfig(error_tolerance=1.5, relative_tolerance=0.05, error_memory=0.5, max_color_change=10.0)
AGREE = 2.0
# Candidates for each chain that is kept.
DRAWN = 3


@dataclass(frozen=True)
class FootageSample:
    """Frames [T, 256, 256, 3] uint8, xy [N, T, 2] in their pixels, visible and valid [N, T]."""

    name: str
    frames: np.ndarray
    xy: np.ndarray
    visible: np.ndarray
    valid: np.ndarray


def footage_samples(
    clips: list[FootageClip], rates: list[float], name: str, rng: np.random.Generator
) -> Iterator[FootageSample]:
    """Yield the training clips of a video.

    Args:
        clips: its labeled clips.
        rates: their frames a second.
        name: of the video.
        rng: of windows, views and points.
    """
    windows = []
    for index, (clip, rate) in enumerate(zip(clips, rates, strict=True)):
        steps = [step for step in range(1, 7) if SLOWEST <= rate / step <= FASTEST] or [1]
        for step in steps:
            span = (FRAMES - 1) * step + 1
            room = clip.tracks.num_frames - span
            starts = np.arange(0, room + 1, max(span // 2, 1))
            windows += [(index, int(start), step) for start in starts]
    chosen = rng.permutation(len(windows))[:CLIPS_OF_VIDEO]
    for index, start, step in (windows[i] for i in sorted(chosen)):
        clip, window = clips[index], slice(start, start + (FRAMES - 1) * step + 1, step)
        sample = _sample(clip, window, f"{name}-{index}-{start:04d}-{step}", rng)
        if sample is not None:
            yield sample


def _sample(clip: FootageClip, window: slice, name: str, rng: np.random.Generator) -> FootageSample | None:
    frames, tracks = clip.frames[window], clip.tracks
    sure = np.ones(tracks.visible.shape, bool) if tracks.confidence is None else tracks.confidence >= LIKELY
    xy, valid = tracks.xy[:, window].astype(float), (tracks.valid & sure)[:, window]
    visible = tracks.visible[:, window] & valid
    # 1. The view: the whole frame, or a square around a person.
    left, top, right, bottom = _view(tracks, xy, visible, rng)
    scale = SIDE / np.array([right - left, bottom - top])
    view = np.stack(
        [cv2.resize(frame[top:bottom, left:right], (SIDE, SIDE), interpolation=cv2.INTER_AREA) for frame in frames]
    )
    # 2. Labels of people in it.
    xy = (xy - [left, top]) * scale
    visible &= ((xy >= 0) & (xy < SIDE)).all(-1)
    good = np.flatnonzero(visible.sum(1) >= MIN_VISIBLE)
    good = rng.permutation(good)[:ON_PEOPLE]
    # 3. Chains, for the rest.
    chains, known = agreeing_chains(frames, (left, top, right, bottom), rng, ON_PEOPLE + ANYWHERE - len(good))
    chains = (chains - [left, top]) * scale
    known &= ((chains >= 0) & (chains < SIDE)).all(-1)
    keep = known.sum(1) >= MIN_VISIBLE
    xy, visible, valid = (
        np.concatenate([own[good], other[keep]])
        for own, other in ((xy, chains), (visible, known), (valid, known))
    )  # fmt: skip
    return None if len(xy) < 32 else FootageSample(name, view, xy, visible, valid)


def _view(tracks: Tracks, xy: np.ndarray, visible: np.ndarray, rng: np.random.Generator) -> tuple[int, int, int, int]:
    """Return left, top, right and bottom of a view, in pixels of the frames."""
    whole = (0, 0, tracks.width, tracks.height)
    people = np.unique(tracks.person[visible.any(1)])
    if not len(people) or rng.random() < 0.5:
        return whole
    on = (tracks.person == rng.choice(people))[:, None] & visible
    low, high = np.quantile(xy[on], [0.02, 0.98], axis=0)
    side = float(np.clip((high - low).max() * rng.uniform(1.2, 2.0), SIDE / 2, min(whole[2:])))
    center = (low + high) / 2 + rng.normal(0, 0.08 * side, 2)
    left, top = np.clip(center - side / 2, 0, np.array(whole[2:]) - side).astype(int)
    return int(left), int(top), int(left + side), int(top + side)


def agreeing_chains(
    frames: np.ndarray, view: tuple[int, int, int, int], rng: np.random.Generator, count: int
) -> tuple[np.ndarray, np.ndarray]:
    """Follow flow from points in a view, half of them on what moves apart from the most, as far as it agrees.

    Args:
        frames: [T, H, W, 3] uint8.
        view: (left, top, right, bottom) that points are drawn in, pixels.
        rng: of the points.
        count: of points, at most.

    Returns:
        xy [N, T, 2] in pixels of the frames, and where it is known, [N, T].
    """
    T = len(frames)
    factor = min(1.0, SHORT_SIDE / min(frames.shape[1:3]))
    if factor < 1:
        frames = np.stack(
            [cv2.resize(frame, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA) for frame in frames]
        )
    size, video = frames.shape[1:3], torch.from_numpy(frames).permute(0, 3, 1, 2)
    left, top, right, bottom = (factor * side for side in view)
    queries = np.stack(
        [
            rng.integers(0, T, DRAWN * count),
            rng.uniform(left, right, DRAWN * count),
            rng.uniform(top, bottom, DRAWN * count),
        ],
        axis=1,
    ).astype(float)
    # 1. Follow flow both ways, up to the first step that fails.
    steps = chain_steps(video, queries, CHAINS)
    kept = unbroken_logits(steps.visible_logits(queries[:, 0], size, CHAINS), queries[:, 0]) > 0
    first, last = kept.argmax(1), T - 1 - kept[:, ::-1].argmax(1)
    # 2. Follow it back from both ends.
    own, time, at = np.arange(len(queries)), np.arange(T), queries[:, 0].astype(int)
    known = kept
    ends = np.concatenate([first, last])
    twice = np.concatenate([own, own])
    back = chain_steps(video, np.column_stack([ends, steps.xy[twice, ends]]), CHAINS).xy
    errors = np.linalg.norm(back - steps.xy[twice], axis=-1)
    for end, error in ((first, errors[: len(own)]), (last, errors[len(own) :])):
        between = (time >= np.minimum(end, at)[:, None]) & (time <= np.maximum(end, at)[:, None])
        agrees = (error <= AGREE) & (error[own, at] <= AGREE)[:, None]
        known = known & (agrees | ~between)
    known = unbroken_logits(np.where(known, 1.0, -1.0), queries[:, 0]) > 0
    # The last step before a failure may have failed already.
    known = np.stack([np.convolve(~row, [1, 1, 1], "same") == 0 for row in known])
    # 3. Draw half of those that last from all, half by how they move apart from the most.
    good = np.flatnonzero(known.sum(1) >= MIN_VISIBLE)
    if len(good) > count:
        move = _apart(steps.xy, known)[good]
        weight = 0.5 / len(good) + 0.5 * move / max(move.sum(), 1e-9)
        good = rng.choice(good, count, replace=False, p=weight / weight.sum())
    return steps.xy[good] / factor, known[good]


def _apart(xy: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Return how much faster than the median point of its frames each of points [N, T, 2] moves, at most 8 pixels."""
    both = known[:, 1:] & known[:, :-1]
    step = np.diff(xy, axis=1)
    usual = np.stack([np.median(step[own, t], axis=0) if own.any() else np.zeros(2) for t, own in enumerate(both.T)])
    apart = np.linalg.norm(step - usual, axis=-1) * both
    return np.minimum(apart.sum(1) / both.sum(1).clip(min=1), 8.0)
