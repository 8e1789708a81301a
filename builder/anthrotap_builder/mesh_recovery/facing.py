"""Which way a person faces, and which of their limbs are left and right: decided over the whole track.

The landmark network decides both in each frame by itself, and often wrongly: it then calls a front a back, swaps left
and right, and mirrors depth, which looks the same in the image. So a frame has two hypotheses for each half of the
body: the landmarks as they are, or swapped and mirrored. What the hypotheses of all frames cost together (see
`_Evidence`) has its minimum by dynamic programming (Viterbi, 1967).

Costs are negative logarithms of probabilities. Nothing but the looks of a person tells a body from its mirror image in
depth, so a fit of either hypothesis is as good as one of the other; only a change between them shows. Where a change
costs hardly less than none, the track is cut: what lies on either side is consistent by itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

# BlazePose's landmarks with left and right exchanged, and its upper half (face and arms); the lower half is hips and
# legs.
MIRRORED = np.array([0, 4, 5, 6, 1, 2, 3, 8, 7, 10, 9, *(k + 1 if k % 2 else k - 1 for k in range(11, 33))])
UPPER = np.arange(33) <= 22
SHOULDERS, HIPS = (11, 12), (23, 24)
HEELS, TOES = (29, 30), (31, 32)
# Joints that are followed from frame to frame, in each half, and how far they move on average, beside the torso: as a
# fraction of the person's size, at 30 frames a second.
FOLLOWED = (np.array([11, 12, 13, 14, 15, 16]), np.array([23, 24, 25, 26, 27, 28]))
SIGMA_STEP = 0.02
# A joint's step costs at most so much: it may be misplaced in one frame.
MAX_STEP_COST = 8.0
# What it costs to contradict the network in one half of a frame, for each 1/30 second: it errs in many frames in a row.
SWAP_COST = 0.5
# What shoulders cost that are turned against the hips by more than 60 degrees, for each unit of cosine beyond.
TWIST_COST, MIN_TWIST_COSINE = 8.0, 0.5
# Toes are lower in the image than heels where a person faces the camera, and higher where they face away, since cameras
# look down on the floor: by so much on average, and with this spread, as fractions of the person's size.
FOOT_DROP = 0.03
SIGMA_FOOT = 0.04
# How much feet count, for each 1/30 second: those of neighboring frames err alike.
FOOT_WEIGHT = 0.5
# A track is cut where the best solution with another hypothesis from there on costs less than this more.
MIN_MARGIN = 2.0


class Sides(NamedTuple):
    """A person's landmarks with left, right and depth as the whole track has them.

    landmarks, world_landmarks: as in `PersonTrack`.
    cut: [T] bool, frames before which the facing may have changed: nothing that is known of the frames before holds for
        the surface from there on.
    """

    landmarks: np.ndarray
    world_landmarks: np.ndarray
    cut: np.ndarray


def resolve_sides(landmarks: np.ndarray, world_landmarks: np.ndarray, found: np.ndarray, fps: float) -> Sides:
    """Swap left and right, and mirror depth, in the frames in which the landmark network has them wrong.

    Args:
        landmarks, world_landmarks: [T, 33, 3], as in `PersonTrack`.
        found: [T] bool, at least one.
        fps: frames a second.
    """
    times = np.flatnonzero(found)
    landmarks, world_landmarks = landmarks.copy(), world_landmarks.copy()
    swapped, margin = _solve(_Evidence.of(landmarks[times], world_landmarks[times], times, fps))
    for half, chosen in enumerate((UPPER, ~UPPER)):
        at = times[swapped[:, half]]
        for values, sign in ((landmarks, (1, 1, 1)), (world_landmarks, (1, 1, -1))):
            values[np.ix_(at, np.flatnonzero(chosen))] = (values[at][:, MIRRORED] * sign)[:, chosen]
    # So few frames at either end, or fewer, are never sure by what the network says of them.
    unsure = int(MIN_MARGIN / (2 * SWAP_COST) * fps / 30)
    at = np.flatnonzero(margin < MIN_MARGIN) + 1
    cut = np.zeros(len(found), bool)
    cut[times[at[(at > unsure) & (at < len(times) - unsure)]]] = True
    return Sides(landmarks, world_landmarks, cut)


@dataclass(frozen=True)
class _Evidence:
    """Costs of the hypotheses in the M frames where a person was found; half 0 is the upper, 1 the lower one.

    Attributes:
        frame: [M, 2, 2], of half and hypothesis: that the network erred, and that feet point the other way.
        twist: [M, 2], that the halves face against each other, if both have the same hypothesis, and if not.
        step: [M - 1, 2, 2], of half, and whether the hypothesis changes to the next frame: how far joints move.
    """

    frame: np.ndarray
    twist: np.ndarray
    step: np.ndarray

    @classmethod
    def of(cls, landmarks: np.ndarray, world: np.ndarray, times: np.ndarray, fps: float) -> _Evidence:
        """Measure landmarks and world landmarks, [M, 33, 3], of the frames `times` [M]."""
        xy, confidence = landmarks[..., :2].astype(np.float64), np.clip(landmarks[..., 2], 0, 1).astype(np.float64)
        size = np.linalg.norm(xy.max(1) - xy.min(1), axis=-1)
        size = 0.5 * (size + np.median(size))
        pace = 30 / fps
        # From right to left, unit vectors in the plane of the floor, [M, 2 halves, 2]: x right, z away. The x of who
        # faces the camera is positive.
        across = np.stack([world[:, left] - world[:, right] for left, right in (SHOULDERS, HIPS)], axis=1)[..., [0, 2]]
        across = across / np.maximum(np.linalg.norm(across, axis=-1, keepdims=True), 1e-6)
        # Cosines of the angle between shoulders and hips. Swapped and mirrored, x changes its sign and z does not.
        cosine = np.stack([(across[:, 0] * across[:, 1] * [sign, 1]).sum(-1) for sign in (1, -1)], axis=1)
        twist = TWIST_COST * np.maximum(MIN_TWIST_COSINE - cosine, 0)

        frame = np.zeros((len(xy), 2, 2))
        frame[:, :, 1] = SWAP_COST * pace
        # Two normal distributions of equal spread, at FOOT_DROP and -FOOT_DROP; who is seen from the side has neither.
        drop = (xy[:, TOES, 1] - xy[:, HEELS, 1]).mean(-1) / size
        # Feet stand on the floor only below an upright torso.
        torso = xy[:, HIPS].mean(1) - xy[:, SHOULDERS].mean(1)
        upright = np.maximum(torso[:, 1] / np.maximum(np.linalg.norm(torso, axis=-1), 1e-6), 0)
        sure = confidence[:, [*TOES, *HEELS]].min(-1) * upright
        ratio = 2 * FOOT_DROP / SIGMA_FOOT**2 * np.clip(drop, -SIGMA_FOOT, SIGMA_FOOT) * across[:, 1, 0]
        frame[:, 1, 1] += FOOT_WEIGHT * pace * sure * ratio

        # Joints relative to the torso, whose motion is the same for all hypotheses.
        relative = xy - xy[:, [*SHOULDERS, *HIPS]].mean(1, keepdims=True)
        sigma = SIGMA_STEP * pace * np.minimum(np.diff(times), 4) * (size[1:] + size[:-1]) / 2
        step = np.zeros((len(xy) - 1, 2, 2))
        for half, joints in enumerate(FOLLOWED):
            for change, next_joints in enumerate((joints, MIRRORED[joints])):
                moved = np.linalg.norm(relative[1:, next_joints] - relative[:-1, joints], axis=-1)
                weight = confidence[1:, next_joints] * confidence[:-1, joints]
                cost = 0.5 * (moved / sigma[:, None]) ** 2
                # As Geman and McClure (see `terms`).
                step[:, half, change] = (weight * cost * MAX_STEP_COST / (cost + MAX_STEP_COST)).sum(-1)
        return cls(frame, twist, step)


def _solve(evidence: _Evidence) -> tuple[np.ndarray, np.ndarray]:
    """Find the best solution.

    Returns:
        swapped: [M, 2] bool, the hypothesis of upper and lower half.
        margin: [M - 1], of each step, how much more the best solution costs in which both halves, from this step on,
            have the other hypothesis relative to the frames before.
    """
    # The four states of a frame: hypothesis of the upper and of the lower half.
    halves = np.array([[0, 0, 1, 1], [0, 1, 0, 1]])
    upper, lower = halves
    frame = evidence.frame[:, 0, upper] + evidence.frame[:, 1, lower] + evidence.twist[:, (upper != lower).astype(int)]
    # [2, 4 before, 4 after]: whether a half changes.
    change = (halves[:, :, None] != halves[:, None, :]).astype(int)
    step = evidence.step[:, 0, change[0]] + evidence.step[:, 1, change[1]]
    # The least cost of all frames up to each state, and of all frames after it.
    before, after = frame.copy(), np.zeros_like(frame)
    for t in range(1, len(frame)):
        before[t] += (before[t - 1][:, None] + step[t - 1]).min(0)
    for t in range(len(frame) - 2, -1, -1):
        after[t] = (step[t] + frame[t + 1] + after[t + 1]).min(1)
    # Of all frames, through each pair of states. [M - 1, 4, 4].
    pairs = before[:-1, :, None] + step + (frame + after)[1:, None, :]
    best = (before + after).argmin(1)
    chosen = change[:, best[:-1], best[1:]].T
    # Both halves change against the chosen solution: the facing does.
    against = (change[None] != chosen[:, :, None, None]).all(1)
    margin = np.where(against, pairs, np.inf).min((1, 2)) - (before + after).min()
    return halves[:, best].T.astype(bool), margin
