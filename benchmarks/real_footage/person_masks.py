"""Labels of the person whose mask is known: the one in front, by hand-made masks."""

from __future__ import annotations

import cv2
import numpy as np

from anthrotap_hf.tracks import Tracks
from benchmarks.real_footage.examples import Example, Measured
from benchmarks.real_footage.footage import FootageClip

# Pixels of the labeled frame: a part of a mask this near to a visible label is covered.
REACH = 12
# Pixels of the labeled frame: how far outside a mask a label may lie and still be on its border.
BORDER = 4
LAG = 24
# Frames with a mask smaller than this fraction of the frame do not need a label.
MIN_AREA = 0.001


def measure_masked_person(clip: FootageClip) -> Measured:
    """Compare visible labels with the mask of the person in front.

    The masked person's own labels are those of whoever's visible labels in this clip lie mostly in the mask (of several
    people, if he is labeled as several).

    Returns:
        Counts: `mask_pixels`, and `mask_covered_own`, `mask_covered_any` of them near a visible label of his own, of
        anybody; `own_labels` visible ones, and `own_inside` the mask; `in_mask` visible labels of anybody in the mask,
        and `in_mask_other` of them not his own; `mask_pairs` pairs of visible labels at `LAG` of which one end lies in
        the mask, and `mask_pairs_wrong` of them whose other end does not (nor on its border); `masked_frames` with a
        mask, and `masked_frames_bare` without a visible label of his own in it; `masked_clips`, and
        `masked_clips_bare` in which nobody's labels lie mostly in the mask; `own_people`. Examples are wrong pairs.
    """
    if clip.mask is None:
        return Measured({})
    tracks, mask = clip.tracks, clip.mask
    inside = inside_mask(mask, tracks.xy) & tracks.visible
    people = [
        {
            "person": int(person),
            "visible": int(tracks.visible[tracks.person == person].sum()),
            "inside": int(inside[tracks.person == person].sum()),
        }
        for person in np.unique(tracks.person)
    ]
    owners = own_people(tracks, mask)
    own = np.isin(tracks.person, owners)
    pairs, examples = _wrong_pairs(clip, inside)
    with_mask = _needs_labels(mask)
    counts = {
        "mask_pixels": int(mask.sum()),
        "mask_covered_own": _covered(mask, tracks.xy[own], tracks.visible[own]),
        "mask_covered_any": _covered(mask, tracks.xy, tracks.visible),
        "own_labels": int(tracks.visible[own].sum()),
        "own_inside": int(inside[own].sum()),
        "in_mask": int(inside.sum()),
        "in_mask_other": int(inside[~own].sum()),
        **pairs,
        "masked_frames": int(with_mask.sum()),
        "masked_frames_bare": int((with_mask & ~inside[own].any(0)).sum()),
        "masked_clips": 1,
        "masked_clips_bare": int(not owners),
        "own_people": len(owners),
    }
    return Measured(counts, {"wrong_person": examples}, people)


def own_people(tracks: Tracks, mask: np.ndarray) -> list[int]:
    """The people whose visible labels lie mostly in masks [T, H, W]."""
    inside = inside_mask(mask, tracks.xy) & tracks.visible
    people = np.unique(tracks.person).tolist()
    own = [tracks.person == person for person in people]
    return [p for p, rows in zip(people, own, strict=True) if 2 * inside[rows].sum() > tracks.visible[rows].sum()]


def unlabeled_masks(mask: np.ndarray) -> dict[str, int]:
    """Counts, as those of `measure_masked_person`, of frames that are in no clip.

    Args:
        mask: [T, H, W] bool.
    """
    with_mask = int(_needs_labels(mask).sum())
    return {"mask_pixels": int(mask.sum()), "masked_frames": with_mask, "masked_frames_bare": with_mask}


def inside_mask(mask: np.ndarray, xy: np.ndarray) -> np.ndarray:
    """[N, T] bool: which positions [N, T, 2], raster pixels, lie in masks [T, H, W]; those out of frame do not."""
    height, width = mask.shape[1:]
    column, row = np.moveaxis(np.floor(xy).astype(int), -1, 0)
    there = (column >= 0) & (row >= 0) & (column < width) & (row < height)
    frame = np.broadcast_to(np.arange(len(mask)), there.shape)
    inside: np.ndarray = there & mask[frame, row.clip(0, height - 1), column.clip(0, width - 1)]
    return inside


def grown(mask: np.ndarray, pixels: int) -> np.ndarray:
    """[T, H, W] bool, masks with a border of some pixels."""
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * pixels + 1, 2 * pixels + 1))
    return np.stack([cv2.dilate(each, disc) for each in mask.astype(np.uint8)]).astype(bool)


def _needs_labels(mask: np.ndarray) -> np.ndarray:
    """[T] bool, the frames whose mask is large enough to need a label."""
    needs: np.ndarray = mask.mean((1, 2)) >= MIN_AREA
    return needs


def _covered(mask: np.ndarray, xy: np.ndarray, visible: np.ndarray) -> int:
    """How many pixels of masks [T, H, W] are near a visible label of xy [N, T, 2]."""
    covered = 0
    height, width = mask.shape[1:]
    for t in range(len(mask)):
        away = np.ones((height, width), np.uint8)
        pixels = np.floor(xy[visible[:, t], t]).astype(int)
        away[pixels[:, 1].clip(0, height - 1), pixels[:, 0].clip(0, width - 1)] = 0
        if not away.all():
            distance = cv2.distanceTransform(away, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
            covered += int((mask[t] & (distance <= REACH)).sum())
    return covered


def _wrong_pairs(clip: FootageClip, inside: np.ndarray) -> tuple[dict[str, int], list[Example]]:
    """Pairs of which one end lies in the mask, and those of them whose other end lies on somebody else."""
    counts = {"mask_pairs": 0, "mask_pairs_wrong": 0}
    tracks = clip.tracks
    if clip.mask is None or tracks.num_frames <= LAG:
        return counts, []
    near = inside_mask(grown(clip.mask, BORDER), tracks.xy)
    both = tracks.visible[:, :-LAG] & tracks.visible[:, LAG:]
    leaves, comes = inside[:, :-LAG] & ~near[:, LAG:] & both, ~near[:, :-LAG] & inside[:, LAG:] & both
    counts["mask_pairs"] = int((both & (inside[:, :-LAG] | inside[:, LAG:])).sum())
    wrong = np.argwhere(leaves | comes)
    counts["mask_pairs_wrong"] = len(wrong)
    # A few of them, spread over the clip, are enough to look at.
    chosen = wrong[np.linspace(0, len(wrong) - 1, min(len(wrong), 40)).astype(int)]
    examples = [
        Example(
            (int(t), int(t) + LAG), (tracks.xy[row, t], tracks.xy[row, t + LAG]), None, 0.0,
            f"person {tracks.person[row]} {'leaves' if leaves[row, t] else 'comes'}",
        )
        for row, t in chosen
    ]  # fmt: skip
    return counts, examples
