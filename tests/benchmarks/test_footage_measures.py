"""The measures of labels on real footage, on small made-up clips where the right figure is known."""

from __future__ import annotations

from functools import cache

import cv2
import numpy as np
import pytest

from anthrotap_hf.tracks import Tracks
from benchmarks.real_footage.chains import Chains, patches_of_frames
from benchmarks.real_footage.confidence import area_under_curve, confidence_counts
from benchmarks.real_footage.examples import Measured, summed
from benchmarks.real_footage.footage import FootageClip
from benchmarks.real_footage.gaps import measure_gaps
from benchmarks.real_footage.ghosts import background_motion, measure_ghosts
from benchmarks.real_footage.missing import measure_missing
from benchmarks.real_footage.occluded import measure_occluded
from benchmarks.real_footage.person_masks import measure_masked_person, unlabeled_masks
from benchmarks.real_footage.visible_pairs import measure_visible_pairs

T, SIZE = 32, 256  # frames of the size that limits refer to
CORNER, SIDE = (40, 60), 96  # of the person: a textured square
SPEED = np.array([2.0, 1.0])  # of the person, pixels a frame


def _texture(seed: int, height: int, width: int) -> np.ndarray:
    """[H, W] uint8, blurred noise of high contrast."""
    noise = cv2.GaussianBlur(np.random.default_rng(seed).normal(size=(height, width)).astype(np.float32), None, 2)
    return np.clip(128 + 45 * noise / noise.std(), 0, 255).astype(np.uint8)


@cache
def _scene(pan: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Frames [T, H, W, 3] of a textured person who moves by `SPEED` before a textured wall, and his mask [T, H, W].

    The camera pans by `pan` pixels a frame: so much further left is all of it in each frame.
    """
    wall, person = _texture(1, SIZE, SIZE + T * pan), _texture(2, SIDE, SIDE)
    frames, mask = np.zeros((T, SIZE, SIZE), np.uint8), np.zeros((T, SIZE, SIZE), bool)
    for t in range(T):
        x, y = np.array(CORNER) + np.round(t * (SPEED - [pan, 0])).astype(int)
        frames[t] = wall[:, t * pan : t * pan + SIZE]
        body = np.s_[t, y : y + SIDE, max(x, 0) : x + SIDE]
        frames[body], mask[body] = person[:, max(-x, 0) :], True
    return np.repeat(frames[..., None], 3, axis=3), mask


def _on_person(step: int = 8, margin: int = 12) -> np.ndarray:
    """[N, T, 2], points that go with the person."""
    grid = np.mgrid[margin : SIDE - margin + 1 : step, margin : SIDE - margin + 1 : step].reshape(2, -1).T
    return (np.array(CORNER) + grid)[:, None] + 0.5 + np.arange(T)[:, None] * SPEED


def _clip(
    xy: np.ndarray,
    visible: np.ndarray | None = None,
    valid: np.ndarray | None = None,
    person: np.ndarray | None = None,
    masked: bool = False,
) -> FootageClip:
    visible = np.ones(xy.shape[:2], bool) if visible is None else visible
    labels = Tracks.from_labels(xy.astype(np.float32), visible, valid, height=SIZE, width=SIZE, person=person)
    frames, mask = _scene()
    return FootageClip("clip", labels, frames, mask if masked else None)


def _chains(clip: FootageClip) -> Chains:
    return Chains(clip.grays)


def test_chains_follow_texture_there_and_back_in_raster_pixels():
    clip = _clip(_on_person())
    xy = clip.tracks.xy.astype(np.float64)
    end, reliable = _chains(clip).agreed(xy[:, 2], 2, 20)
    assert reliable.mean() > 0.9
    assert np.abs(end - xy[:, 20])[reliable].max() < 1.5  # DIS is not exact beside the person's border
    by_lk, error = _chains(clip).lucas_kanade(xy[:, 2], 2, 20)
    assert np.abs(by_lk - xy[:, 20]).max() < 0.1
    assert error.max() < 0.1
    back, _ = _chains(clip).lucas_kanade(xy[:, 20], 20, 2)
    assert np.abs(back - xy[:, 2]).max() < 0.1


def test_chains_are_not_reliable_for_what_is_covered():
    clip = _clip(_on_person())
    # On the wall, where the person will be.
    wall = np.array([[160.5, 110.5], [165.5, 120.5], [150.5, 130.5]])
    assert clip.grays[0][110, 160] != clip.grays[30][110, 160]
    assert not _chains(clip).agreed(wall, 0, 30)[1].any()


def test_points_of_several_frames_go_together():
    clip = _clip(_on_person())
    xy, chains = clip.tracks.xy.astype(np.float64), _chains(clip)
    start, end = np.array([4, 20, 9, 9]), np.array([12, 3, 9, 30])
    there, error = chains.lucas_kanade(xy[range(4), start], start, end)
    assert there == pytest.approx(xy[range(4), end], abs=0.1)
    assert error[2] == 0
    for i in range(4):
        alone, _ = chains.lucas_kanade(xy[i : i + 1, start[i]], int(start[i]), int(end[i]))
        assert (alone == there[i]).all()


def test_no_points_give_no_chains():
    end, reliable = _chains(_clip(_on_person())).agreed(np.zeros((0, 2)), np.zeros(0, int), np.zeros(0, int))
    assert end.shape == (0, 2)
    assert reliable.shape == (0,)


def test_patches_are_of_their_frames():
    grays = [_texture(seed, 40, 40) for seed in (3, 4)]
    found = patches_of_frames(grays, [1, 0, 1], np.array([[20.5, 10.5], [20.5, 10.5], [7.5, 8.5]]), 5)
    expected = [grays[1][8:13, 18:23], grays[0][8:13, 18:23], grays[1][6:11, 5:10]]
    np.testing.assert_array_equal(found, expected)


def test_visible_pairs_that_go_with_the_picture_are_right():
    clip = _clip(_on_person())
    counts = measure_visible_pairs(clip, _chains(clip)).counts
    assert counts["start_8"] == counts["given_8"] == len(clip.tracks) * (T - 8)
    assert counts["pairs_24"] > 60
    assert counts["pairs_24_within_2"] == counts["pairs_24"]


def test_visible_pairs_that_slip_are_off_by_as_much():
    xy = _on_person() + np.arange(T)[:, None] * [0.25, 0.0]  # 2 pixels in 8 frames, 6 in 24
    visible = np.ones(xy.shape[:2], bool)
    visible[:, 24:] = False
    clip = _clip(xy + [0.5, 0], visible)
    measured = measure_visible_pairs(clip, _chains(clip))
    counts = measured.counts
    assert counts["given_24"] == 0
    assert counts["pairs_24"] == 0
    assert counts["given_8"] / counts["start_8"] == pytest.approx(16 / 24)
    assert counts["pairs_8_within_4"] == counts["pairs_8"] > 100
    errors = [example.error for example in measured.examples["visible_pairs"]]
    assert np.median(errors) == pytest.approx(2, abs=0.1)


def _masked(*tracks: tuple[np.ndarray, int], visible: np.ndarray | None = None) -> dict[str, int]:
    """What the mask says of tracks of people."""
    person = np.concatenate([np.full(len(xy), number) for xy, number in tracks])
    clip = _clip(np.concatenate([xy for xy, _ in tracks]), visible, person=person, masked=True)
    return measure_masked_person(clip).counts


def test_the_masked_person_covered_by_his_own_labels():
    dense = _on_person(step=16, margin=8)  # no pixel is further than 12 from one
    counts = _masked((dense, 4))
    assert counts["mask_covered_own"] == counts["mask_covered_any"] == counts["mask_pixels"] == T * SIDE**2
    assert counts["own_inside"] == counts["own_labels"] == dense.shape[0] * T
    assert counts["mask_pairs"] == dense.shape[0] * (T - 24)
    assert counts["mask_pairs_wrong"] == counts["in_mask_other"] == counts["masked_frames_bare"] == 0
    assert counts["own_people"] == 1


def test_one_label_covers_a_disc():
    counts = _masked((_on_person()[44:45], 0))
    assert counts["mask_covered_own"] / T == pytest.approx(np.pi * 12**2, rel=0.05)


def test_labels_of_a_bystander_do_not_cover_the_masked_person():
    # Most of the bystander's labels lie on the wall, some on the person before him.
    wall = np.tile(np.mgrid[8:40:8, 8:248:16].reshape(2, -1).T[:, None] + 0.5, (1, T, 1))
    counts = _masked((np.concatenate([wall, _on_person(step=24)]), 1))
    assert counts["mask_covered_own"] == counts["own_labels"] == counts["own_people"] == 0
    assert counts["mask_covered_any"] > 0.5 * counts["mask_pixels"]
    assert counts["in_mask"] == counts["in_mask_other"] == T * len(_on_person(step=24))
    assert counts["masked_clips_bare"] == 1
    assert counts["masked_frames_bare"] == T


def test_labels_that_leave_the_mask_or_come_into_it_changed_their_person():
    stays, leaves, border = _on_person()[:3].copy()
    leaves[24:] = [10.5, 10.5]
    border[24:, 0] = 40 + 2 * np.arange(24, T) - 2.5  # within 4 pixels of the mask's left side
    comes = leaves[::-1].copy()
    comes[:8], comes[8:] = [12.5, 10.5], _on_person()[3, 8:]
    counts = _masked((np.stack([stays, leaves, border, comes]), 0))
    assert counts["mask_pairs"] == 4 * 8
    assert counts["mask_pairs_wrong"] == 2 * 8


def test_frames_in_no_clip_count_against_the_masked_person():
    mask = np.zeros((3, 100, 100), bool)
    mask[:2, :20, :10] = True
    assert unlabeled_masks(mask) == {"mask_pixels": 400, "masked_frames": 2, "masked_frames_bare": 2}


def test_occluded_labels_that_show_are_found():
    xy = _on_person()
    visible = np.ones(xy.shape[:2], bool)
    visible[:, 10:13] = False
    clip = _clip(xy, visible, valid=np.ones_like(visible))
    counts = measure_occluded(clip, _chains(clip)).counts
    assert counts["occluded"] == counts["occluded_near"] == 3 * len(xy)
    assert counts["occluded_shows"] > 0.95 * counts["occluded_near"]
    assert counts["occluded_shows_far"] == 0


def test_occluded_labels_behind_something_do_not_show():
    # Points of the wall, which the person covers.
    wall = np.mgrid[150:180:4, 90:140:6].reshape(2, -1).T + 0.5
    xy = np.tile(wall[:, None], (1, T, 1))
    _, mask = _scene()
    covered = mask[:, wall[:, 1].astype(int), wall[:, 0].astype(int)].T
    clip = _clip(xy, ~covered, valid=np.ones_like(covered))
    counts = measure_occluded(clip, _chains(clip)).counts
    assert counts["occluded_near"] > 50
    # Beside the contour of what covers a point, half of the square around it still shows.
    assert counts["occluded_shows"] < 0.1 * counts["occluded_near"]


@pytest.mark.parametrize(("offset", "within"), [(0.0, {2: 1, 4: 1, 8: 1}), (6.0, {2: 0, 4: 0, 8: 1})])
def test_labels_across_gaps(offset, within):
    xy = _on_person()
    visible = np.ones(xy.shape[:2], bool)
    visible[:, 10:15] = False
    visible[0] = False  # this one never comes back
    xy[:, 15:, 1] += offset
    clip = _clip(xy, visible, valid=visible)
    counts = measure_gaps(clip, _chains(clip)).counts
    assert counts["gaps"] == len(xy) - 1
    assert counts["gap_chains"] > 20
    for limit, share in within.items():
        assert counts[f"gap_chains_within_{limit}"] / counts["gap_chains"] == pytest.approx(share, abs=0.05)


def test_frames_without_a_label():
    xy, person = _on_person()[:3], np.array([0, 0, 5])
    visible = np.ones((3, T), bool)
    visible[:2, 10:13] = False  # person 0 blinks
    visible[2, :20] = False  # person 5 comes later
    visible[1, 4] = False  # his other label is there
    visible[:, -1] = False
    counts = measure_missing(_clip(xy, visible, person=person)).counts
    assert counts["frames_bare"] == 4
    assert counts["people"] == 2
    assert counts["person_frames"] == 2 * T
    assert counts["person_frames_bare"] == (3 + 1) + (20 + 1)
    assert counts["person_frames_blank"] == 3


def test_labels_on_the_person_are_no_ghosts_also_under_a_pan():
    frames, mask = _scene(pan=3)
    xy = _on_person() - np.arange(T)[:, None] * [3.0, 0]
    labels = Tracks.from_labels(xy.astype(np.float32), np.ones(xy.shape[:2], bool), height=SIZE, width=SIZE)
    clip = FootageClip("clip", labels, frames, mask)
    counts = measure_ghosts(clip, _chains(clip)).counts
    assert counts["ghosts_judged"] == xy.shape[0] * T
    assert counts["ghosts"] == 0


def test_labels_that_move_over_the_wall_are_ghosts():
    xy = np.concatenate([_on_person(step=24) + [110.0, -50], _on_person(step=24)])
    xy[:9, :, 0] = np.minimum(xy[:9, :, 0], SIZE - 12)  # some stop at the edge
    clip = _clip(xy[4:], masked=False)
    counts = measure_ghosts(clip, _chains(clip)).counts
    moves = np.abs(np.diff(xy[4:, :, 0], axis=1)).min(1) > 0
    assert counts["ghosts"] == counts["ghosts_background"] >= 0.9 * T * moves[: len(xy) // 2 - 4].sum()
    assert counts["ghosts"] <= T * (len(xy) // 2 - 4)


def test_his_own_labels_off_the_mask_are_ghosts():
    xy = _on_person(step=24)
    xy[0] = [[5.5, 200.5]]  # stands still, so the background does not tell
    clip = _clip(xy, masked=True)
    counts = measure_ghosts(clip, _chains(clip)).counts
    assert counts["ghosts"] == counts["ghosts_off_mask"] == T
    assert counts["ghosts_background_in_mask"] == 0


def test_the_background_is_what_most_of_the_picture_does():
    frames, _ = _scene(3)
    motion = background_motion(frames[0, ..., 0], frames[4, ..., 0])
    moved = cv2.perspectiveTransform(np.array([[[200.0, 30]]]), motion)[0, 0]
    assert moved == pytest.approx([188, 30], abs=0.2)
    assert background_motion(np.zeros((64, 64), np.uint8), np.zeros((64, 64), np.uint8)) is None


def test_a_clip_without_tracks_has_counts_too():
    frames, mask = _scene()
    clip = FootageClip("clip", Tracks.empty(T, SIZE, SIZE), frames, mask)
    chains = _chains(clip)
    measured: list[Measured] = [
        measure(clip, chains) for measure in (measure_visible_pairs, measure_occluded, measure_gaps, measure_ghosts)
    ]
    measured += [measure_missing(clip), measure_masked_person(clip)]
    total = summed(each.counts for each in measured)
    assert total["frames_bare"] == total["masked_frames_bare"] == T
    assert total["mask_pixels"] == T * SIDE**2
    assert total["visible"] == total["ghosts"] == total["pairs_8"] == 0


def test_the_area_under_the_curve_is_the_share_of_pairs_in_order():
    rng = np.random.default_rng(0)
    confidence = rng.integers(25, 50, 300) * 0.02
    right = rng.random(300) < confidence
    counts = confidence_counts(8, confidence, right)
    order = np.sign(confidence[right][:, None] - confidence[~right])
    assert area_under_curve(counts, 8) == pytest.approx(100 * (order / 2 + 0.5).mean())
    assert area_under_curve(counts, 24) is None
