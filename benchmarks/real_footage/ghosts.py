"""Visible labels that lie on no person: in the air, or on things that stand still.

Two witnesses. In the mask of the person in front, his own labels must lie on him. And a label that moves while the
picture under it stays with the background lies on the background: the motion of the background from one frame to
another is a homography of most of the picture, and the square around the label, which must be textured in both
directions, looks the same when moved by it. So people who stand still, and bare walls, are not decided.
"""

from __future__ import annotations

import cv2
import numpy as np

from benchmarks.real_footage.examples import Example, Measured
from benchmarks.real_footage.footage import FootageClip
from benchmarks.real_footage.person_masks import grown, inside_mask, own_people

# Frames from a label to the one that it is compared with.
STEP = 4
# Pixels of a 256x256 frame: what a label moves at least against the background.
MOVED = 3.0
# The square around a label: side in pixels of the labeled frame, the least eigenvalue of its structure tensor (squared
# gray levels by pixel), how alike both must look, and how far gray levels may differ in the mean.
SQUARE = 17
CORNER = 40.0
ALIKE = 0.95
DIFFERENCE = 4.0
# Pixels of the labeled frame: his own labels further than this outside his mask are not on him.
BORDER = 8
# Points of the background that must move together, and how far off they may be, pixels.
MIN_POINTS = 20
INLIER = 2.0


def measure_ghosts(clip: FootageClip) -> Measured:
    """Count visible labels that lie on no person.

    Returns:
        Counts: `ghosts`; `ghosts_judged`, visible labels that move over texture, or belong to the masked person, of
        which it can be said; `ghosts_background` by the background, `ghosts_off_mask` by the mask (a label may be in
        both); and with a mask, `ghosts_background_in_mask`, those by the background that lie in it: false alarms.
        Examples are spread over the clip.
    """
    tracks = clip.tracks
    background, judged = labels_on_background(clip)
    counts = {"ghosts_background": int(background.sum())}
    ghosts, later = background.copy(), np.minimum(np.arange(tracks.num_frames) + STEP, tracks.num_frames - 1)
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


def labels_on_background(clip: FootageClip) -> tuple[np.ndarray, np.ndarray]:
    """Say which visible labels move although the picture under them stays with the background.

    Returns:
        [N, T] bool, those, and [N, T] bool, the labels of which it can be said.
    """
    tracks, grays = clip.tracks, clip.grays
    found, judged = np.zeros_like(tracks.visible), np.zeros_like(tracks.visible)
    for t in range(tracks.num_frames):
        other = t + STEP if t + STEP < tracks.num_frames else t - STEP
        rows = np.flatnonzero(tracks.visible[:, t] & tracks.valid[:, other]) if other >= 0 else np.zeros(0, int)
        motion = background_motion(grays[t], grays[other]) if len(rows) else None
        if motion is None:
            continue
        # How far the label moves against the background.
        xy = tracks.xy[rows, t].astype(np.float64)
        stays = cv2.perspectiveTransform(xy[:, None], motion)[:, 0]
        moved = np.linalg.norm((tracks.xy[rows, other] - stays) * clip.to_256, axis=1) > MOVED
        # Whether the square around it is textured, and looks the same in the other frame, moved as the background.
        # Flags of the warp: the matrix leads from the wanted picture, frame t, to the given one.
        height, width = grays[t].shape
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        # OpenCV's first pixel center is at 0, ours at 0.5.
        half = np.array([[1, 0, 0.5], [0, 1, 0.5], [0, 0, 1]])
        warped = cv2.warpPerspective(grays[other], np.linalg.inv(half) @ motion @ half, (width, height), flags=flags)
        corner, same = _corner_and_same(grays[t], warped)
        column, row = np.floor(xy).astype(int).T
        column, row = column.clip(0, width - 1), row.clip(0, height - 1)
        certain = moved & corner[row, column]
        judged[rows, t] = certain
        found[rows, t] = certain & same[row, column]
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
    there, found, _ = cv2.calcOpticalFlowPyrLK(gray, other, points, None, winSize=(21, 21), maxLevel=4)
    first, second = (each[found[:, 0] > 0].reshape(-1, 2) + 0.5 for each in (points, there))
    if len(first) < MIN_POINTS:
        return None
    # The estimate draws samples from a generator of OpenCV's own; USAC's starts anew each time.
    motion, inliers = cv2.findHomography(first, second, cv2.USAC_DEFAULT, INLIER)
    if motion is None or inliers.sum() < max(MIN_POINTS, len(first) / 2):
        return None
    return np.asarray(motion, np.float64)


def _corner_and_same(gray: np.ndarray, warped: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """[H, W] bool each: whether the square around a pixel is textured both ways, and looks the same in both frames."""

    def mean(values: np.ndarray) -> np.ndarray:
        return cv2.blur(values, (SQUARE, SQUARE))

    a, b = gray.astype(np.float32), warped.astype(np.float32)
    # The least eigenvalue of the structure tensor, of central differences in gray levels a pixel.
    dx, dy = (cv2.Sobel(a, cv2.CV_32F, *order, ksize=3, scale=1 / 8) for order in ((1, 0), (0, 1)))
    xx, yy, xy = mean(dx * dx), mean(dy * dy), mean(dx * dy)
    least = (xx + yy) / 2 - np.sqrt(((xx - yy) / 2) ** 2 + xy**2)
    mean_a, mean_b = mean(a), mean(b)
    variance_a, variance_b = (np.maximum(mean(v * v) - m * m, 1e-3) for v, m in ((a, mean_a), (b, mean_b)))
    alike = (mean(a * b) - mean_a * mean_b) / np.sqrt(variance_a * variance_b)
    return least > CORNER, (alike > ALIKE) & (mean(np.abs(a - b)) < DIFFERENCE)
