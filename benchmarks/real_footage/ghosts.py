"""Visible labels that lie on no person: in the air, or on things that stand still.

Two witnesses. In the mask of the person in front, his own labels must lie on him. And a label that moves while the
picture under it stays with the background lies on the background: the motion of the background from one frame to
another is a homography of most of the picture, and a reliable chain of optical flow from the label stays near it. So
labels that stand still, and bare or blurred walls, are not decided; a label that slides over a person who stands still
is found, too.
"""

from __future__ import annotations

import cv2
import numpy as np

from anthrotap_builder.flow.lucas_kanade import lucas_kanade
from benchmarks.real_footage.chains import PYRAMID_LEVELS, Chains, patches_of_frames
from benchmarks.real_footage.examples import Example, Measured
from benchmarks.real_footage.footage import FootageClip
from benchmarks.real_footage.person_masks import grown, inside_mask, own_people

# Frames from a label to those that it is compared with.
STEPS = (4, 8, 16)
# Pixels of a 256x256 frame: what a label moves at least against the background.
MOVED = 3.0
# Pixels of a 256x256 frame: how far from the background the picture under it is at most.
STAYED = 1.5
# Windows of Lucas-Kanade, pixels; how far from the start both may return, and how far apart they may end.
WINDOWS = (15, 25)
RETURN = 0.7
AGREEMENT = 1.5
# The middle of the square around a label: side in pixels, and by how many gray levels it may differ in the mean. The
# windows of labels beside the contour of a bare limb hold more of the background than of the limb.
CENTER = 5
DIFFERENCE = 5.0
# Pixels of the labeled frame: his own labels further than this outside his mask are not on him.
BORDER = 8
# Points of the background that must move together, and how far off they may be, pixels.
MIN_POINTS = 20
INLIER = 2.0


def measure_ghosts(clip: FootageClip, chains: Chains) -> Measured:
    """Count visible labels that lie on no person.

    Returns:
        Counts: `ghosts`; `ghosts_judged`, visible labels that move and have a chain, or belong to the masked person, of
        which it can be said; `ghosts_background` by the background, `ghosts_off_mask` by the mask (a label may be in
        both); and with a mask, `ghosts_background_in_mask`, those by the background that lie in it: false alarms.
        Examples are spread over the clip.
    """
    tracks = clip.tracks
    background, judged = labels_on_background(clip, chains)
    counts = {"ghosts_background": int(background.sum())}
    ghosts, later = background.copy(), np.minimum(np.arange(tracks.num_frames) + STEPS[-1], tracks.num_frames - 1)
    if clip.mask is not None:
        own = np.isin(tracks.person, own_people(tracks, clip.mask))[:, None] & tracks.visible
        off_mask = own & ~inside_mask(grown(clip.mask, BORDER), tracks.xy)
        ghosts, judged = ghosts | off_mask, judged | own
        counts["ghosts_off_mask"] = int(off_mask.sum())
        counts["ghosts_background_in_mask"] = int((background & inside_mask(clip.mask, tracks.xy)).sum())
    counts |= {"ghosts": int(ghosts.sum()), "ghosts_judged": int(judged.sum())}
    found = np.argwhere(ghosts.T)
    examples = [
        Example(
            (int(t), int(later[t])), (tracks.xy[row, t], tracks.xy[row, later[t]]), None, 0.0,
            f"person {tracks.person[row]} {'background' if background[row, t] else 'off mask'}",
        )
        for t, row in found[np.linspace(0, len(found) - 1, min(len(found), 100)).astype(int)]
    ]  # fmt: skip
    return Measured(counts, {"ghosts": examples})


def labels_on_background(clip: FootageClip, chains: Chains) -> tuple[np.ndarray, np.ndarray]:
    """Say which visible labels move although the picture under them stays with the background.

    Returns:
        [N, T] bool, those, and [N, T] bool, the labels of which it can be said: that move, with a reliable chain.
    """
    tracks = clip.tracks
    # Labels that move against the background, from a frame to a later one (near the end, to an earlier one).
    moving: list[tuple[int, int, int]] = []
    stays: list[np.ndarray] = []
    for t in range(tracks.num_frames):
        for step in STEPS:
            other = t + step if t + step < tracks.num_frames else t - step
            rows = np.flatnonzero(tracks.visible[:, t] & tracks.valid[:, other]) if other >= 0 else np.zeros(0, int)
            motion = background_motion(clip.grays[t], clip.grays[other]) if len(rows) else None
            if motion is None:
                continue
            background = cv2.perspectiveTransform(tracks.xy[rows, t].astype(np.float64)[:, None], motion)[:, 0]
            moves = np.linalg.norm((tracks.xy[rows, other] - background) * clip.to_256, axis=1) > MOVED
            moving += [(row, t, other) for row in rows[moves]]
            stays += [*background[moves]]
    # Where the picture under them goes.
    rows, starts, ends = np.array(moving, int).reshape(-1, 3).T
    first, second = (tracks.xy[rows, frames].astype(np.float64) for frames in (starts, ends))
    picture, reliable = chains.by_two_windows(first, starts, ends, WINDOWS, RETURN, AGREEMENT)
    from_label, from_background = (
        np.linalg.norm((picture - place) * clip.to_256, axis=1) for place in (second, np.reshape(stays, (-1, 2)))
    )
    ghost = reliable & (from_background < STAYED) & (from_label > MOVED)
    own, there = (patches_of_frames(clip.grays, f, xy, CENTER) for f, xy in ((starts, first), (ends, picture)))
    ghost &= np.abs(own - there).mean((1, 2)) < DIFFERENCE
    found, judged = np.zeros_like(tracks.visible), np.zeros_like(tracks.visible)
    judged[rows[reliable], starts[reliable]] = True
    found[rows[ghost], starts[ghost]] = True
    return found, judged


def background_motion(gray: np.ndarray, other: np.ndarray) -> np.ndarray | None:
    """[3, 3] float64, the homography, in raster pixels, that most of a picture moves by from one frame to another.

    Args:
        gray, other: [H, W] uint8.

    Returns:
        None if fewer than `MIN_POINTS` points, or fewer than half of those followed, move by one.
    """
    points = cv2.goodFeaturesToTrack(gray, 400, 0.01, 8)
    if points is None:
        return None
    corners = points[:, 0] + 0.5
    there, found = lucas_kanade(gray, other, corners, levels=PYRAMID_LEVELS)
    first, second = corners[found], there[found]
    if len(first) < MIN_POINTS:
        return None
    # The estimate draws samples from a generator of OpenCV's own; USAC's starts anew each time.
    motion, inliers = cv2.findHomography(first, second, cv2.USAC_DEFAULT, INLIER)
    if motion is None or inliers.sum() < max(MIN_POINTS, len(first) / 2):
        return None
    return np.asarray(motion, np.float64)
