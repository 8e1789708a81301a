"""Augmentation and samples: the color painted at a track stays at it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from anthrotap_hf.readers.base import BadClipError, make_tracks
from anthrotap_hf.tracks import TrackedClip
from anthrotap_hf.training.augmentation import (
    Color,
    SmoothAffine,
    crop_matrix,
    flip_matrix,
    move_points,
    warp_frame,
)
from anthrotap_hf.training.samples import SampleSettings, collate, make_sample

SIZE = (90, 160)


def smooth_picture(height: int, width: int) -> np.ndarray:
    """Red is the raster x of a pixel's center, green its y, as fractions of the frame."""
    image = np.zeros((height, width, 3), np.uint8)
    image[..., 0] = np.round((np.arange(width) + 0.5) / width * 255)
    image[..., 1] = np.round((np.arange(height) + 0.5) / height * 255)[:, None]
    image[..., 2] = 128
    return image


def painted_clip(num_frames: int = 20, num_tracks: int = 40, size=SIZE, seed: int = 0, **changes) -> TrackedClip:
    """A still picture whose colors encode the position; tracks drift over it, so colors give the position of each."""
    height, width = size
    rng = np.random.default_rng(seed)
    start = rng.uniform(0.3, 0.7, (num_tracks, 1, 2)) * (width, height)
    drift = rng.uniform(-0.5, 0.5, (num_tracks, 1, 2)) * np.arange(num_frames)[:, None]
    image = smooth_picture(height, width)
    labels = np.ones((num_tracks, num_frames), bool)
    made = {
        "xy": (start + drift).astype(np.float32),
        "visible": labels,
        "valid": labels.copy(),
        "height": height,
        "width": width,
        "frames": lambda indices: (image for _ in indices),
    } | changes
    frames = made.pop("frames")
    return TrackedClip(make_tracks("painted", **made), frames, clip_id="painted")


SMALL = SampleSettings(num_frames=8, dilation=2, num_queries=32, height=64, width=96)


@given(st.integers(0, 10_000))
@settings(max_examples=25, deadline=None)
def test_colors_follow_their_tracks(seed):
    clip = painted_clip()
    affine = SmoothAffine(scale=(0.5, 1.5), shift=0.2)
    chosen = SampleSettings(**{**vars(SMALL), "affine": affine, "crop": (0.6, 1.0)})
    rng = np.random.default_rng(seed)
    sample = make_sample(clip, chosen, rng)
    # where each track is in the source follows from the color at its position in the sample
    for n, t in zip(*np.nonzero(sample["visible"]), strict=True):
        x, y = sample["tracks"][n, t]
        if not (1 < x < 95 and 1 < y < 63):
            continue
        column, row = int(x), int(y)  # the pixel whose square holds the point
        red, green, _ = sample["video"][t, row, column].astype(float) / 255
        position = np.array([red * 160, green * 90])
        distance = np.linalg.norm(clip.tracks.xy - position, axis=-1).min()
        assert distance < 3.5  # half a sample pixel is up to 2 source pixels, and a gray level 0.6


@given(st.integers(0, 10_000))
@settings(max_examples=25, deadline=None)
def test_the_inverse_brings_points_and_pixels_back(seed):
    rng = np.random.default_rng(seed)
    height, width = SIZE
    matrices = flip_matrix(width) @ SmoothAffine().draw(rng, 6, height, width)
    matrices = crop_matrix((10, 5, 130, 80), 48, 64) @ matrices
    points = rng.uniform(0, 90, (30, 6, 2))
    back = move_points(np.linalg.inv(matrices), move_points(matrices, points))
    np.testing.assert_allclose(back, points, atol=2e-3)

    image = smooth_picture(height, width)
    warped = np.empty((480, 640, 3), np.uint8)
    matrix = np.diag([10, 10, 1]) @ matrices[0]
    warp_frame(image, matrix, warped)
    # a pixel's color encodes the position it was taken from
    rows, columns = rng.integers(0, 480, 200), rng.integers(0, 640, 200)
    centers = np.stack([columns + 0.5, rows + 0.5, np.ones(200)], 1) @ np.linalg.inv(matrix).T
    inside = (centers[:, :2] > 1).all(1) & (centers[:, 0] < width - 1) & (centers[:, 1] < height - 1)
    source_xy = warped[rows, columns, :2].astype(float) / 255 * (width, height)
    np.testing.assert_allclose(source_xy[inside], centers[inside, :2], atol=0.9)  # a gray level is 0.6 pixels


def test_the_identity_changes_nothing():
    image = np.random.default_rng(0).integers(0, 255, (20, 30, 3), dtype=np.uint8)
    same, mirrored = np.empty_like(image), np.empty_like(image)
    warp_frame(image, np.eye(3), same)
    warp_frame(image, flip_matrix(30), mirrored)
    assert (same == image).all()
    assert (mirrored == image[:, ::-1]).all()


def test_affine_draws_are_the_paper_s():
    draws = np.concatenate([SmoothAffine().draw(np.random.default_rng(seed), 48, 100, 200) for seed in range(30)])
    linear = draws[:, :2, :2]
    # rows of scale * shear * rotation: the second is scale_y * (sin, cos)
    angle = np.rad2deg(np.arctan2(linear[:, 1, 0], linear[:, 1, 1]))
    assert angle.min() < -40
    assert angle.max() > 40
    assert np.abs(angle).max() <= 45
    scale_y = np.linalg.norm(linear[:, 1], axis=1)
    area = np.linalg.det(linear)
    for scale in (scale_y, area / scale_y):
        assert 0.5 <= scale.min() < 0.65
        assert 2.8 < scale.max() <= 3.0
    center = np.array([100.0, 50.0, 1.0])
    shift = (draws @ center)[:, :2] - center[:2]
    assert np.abs(shift).max(0) == pytest.approx([100, 50], rel=0.1)
    middle = SmoothAffine().draw(np.random.default_rng(0), 48, 100, 200)
    assert np.abs(np.diff(middle[:, :2, :2], axis=0)).max() < 2.5 / 3  # keyframes are 4 frames apart, about


def test_shapes_and_queries():
    sample = make_sample(painted_clip(), SMALL, np.random.default_rng(1))
    assert sample["video"].shape == (8, 64, 96, 3)
    assert sample["video"].dtype == np.uint8
    assert sample["tracks"].shape == (32, 8, 2)
    assert sample["query_points"].dtype == sample["tracks"].dtype == np.float32
    time = sample["query_points"][:, 0].astype(int)
    np.testing.assert_array_equal(sample["query_points"][:, 1:], sample["tracks"][np.arange(32), time])
    assert (sample["visible"] & sample["valid"])[np.arange(32), time].all()
    assert ((sample["visible"] & sample["valid"]).sum(1) >= 4).all()
    batch = collate([sample, sample], "anthrotap")
    assert batch["pixel_values_videos"].shape == (2, 8, 3, 64, 96)
    assert batch["valid"].dtype == torch.bool
    assert batch["names"] == ["painted", "painted"]


def test_the_same_draw_is_the_same_sample():
    one, other = (make_sample(painted_clip(), SMALL, np.random.default_rng(7)) for _ in range(2))
    assert all(np.array_equal(one[key], other[key]) for key in one)


def test_visible_occluded_and_invalid_labels_stay_distinct():
    clip = painted_clip()
    visible, valid, xy = clip.tracks.visible.copy(), clip.tracks.valid.copy(), clip.tracks.xy.copy()
    visible[:, ::4] = False
    valid[:, 2::4] = False
    xy[:, 2::4] = np.nan
    clip = painted_clip(visible=visible, valid=valid, xy=xy)
    plain = SampleSettings(num_frames=20, dilation=1, num_queries=32, height=45, width=80, affine=None, flip=0)
    sample = make_sample(clip, plain, np.random.default_rng(0))
    assert (~sample["visible"][:, ::4] & sample["valid"][:, ::4]).all()
    assert not sample["valid"][:, 2::4].any()
    assert np.isfinite(sample["tracks"]).all()
    np.testing.assert_allclose(sample["tracks"][:, 1], sample["tracks"][:, 1].clip(0, 80))  # scaled by pure scaling


def test_a_label_that_leaves_the_frame_is_occluded():
    still = painted_clip()
    drift = 4 * np.arange(20)[:, None]
    clip = painted_clip(xy=still.tracks.xy[:, :1] + np.where(np.arange(40) % 2, 1, -1)[:, None, None] * drift)
    chosen = SampleSettings(**{**vars(SMALL), "affine": None, "crop": (0.5, 0.5)})
    sample = make_sample(clip, chosen, np.random.default_rng(0))
    x, y = np.moveaxis(sample["tracks"], -1, 0)
    outside = (x < 0) | (x >= 96) | (y < 0) | (y >= 64)
    assert outside.any()
    assert not sample["visible"][outside].any()
    assert sample["visible"][~outside].all()
    assert sample["valid"].all()


def test_points_outside_the_clip_are_not_brought_into_view():
    """Around the clip's frame a shrunk sample shows the replicated edge, not the source's content."""
    xy = painted_clip().tracks.xy.copy()
    xy[:8] = (-10, 45)
    half = SmoothAffine(rotation=0, scale=(0.5, 0.5), shear=0, shift=0)
    chosen = SampleSettings(**{**vars(SMALL), "affine": half, "flip": 0, "num_queries": 500, "min_visible": 1})
    sample = make_sample(painted_clip(xy=xy), chosen, np.random.default_rng(0))
    assert sample["visible"].all()  # no query asks for them
    xy[:8, :10] = (80, 45)
    sample = make_sample(painted_clip(xy=xy), chosen, np.random.default_rng(0))
    outside = sample["tracks"][..., 0] < 96 / 4
    assert outside.any()
    np.testing.assert_array_equal(sample["visible"], ~outside)
    assert sample["valid"].all()


@pytest.mark.parametrize("nonsense", [np.nan, np.inf, -np.inf, 1e38])
def test_invalid_positions_are_zeros(nonsense):
    """Zero times infinity is no zero: a masked loss would still be NaN."""
    clip = painted_clip()
    valid, xy = clip.tracks.valid.copy(), clip.tracks.xy.copy()
    valid[::2, ::3] = False
    xy[::2, ::3] = nonsense
    with np.errstate(all="raise"):
        sample = make_sample(painted_clip(valid=valid, xy=xy), SMALL, np.random.default_rng(0))
    assert not sample["valid"].all()
    assert (sample["tracks"][~sample["valid"]] == 0).all()
    assert (sample["tracks"][sample["valid"]] != 0).all()


@pytest.mark.parametrize(
    "wrong",
    [{"scale": (0, 1)}, {"scale": (2, 1)}, {"shear": 90}, {"shift": -1}, {"keyframe_every": 0}],
)
def test_affine_motion_out_of_range(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        SmoothAffine(**wrong)


@pytest.mark.parametrize("wrong", [{"probability": 2}, {"hue": -0.1}, {"drop": np.nan}])
def test_colors_out_of_range(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Color(**wrong)


def test_only_the_frames_needed_are_asked_for():
    asked = []
    image = smooth_picture(*SIZE)

    def frames(indices):
        asked.extend(indices)
        return (image for _ in indices)

    make_sample(painted_clip(num_frames=50, frames=frames), SMALL, np.random.default_rng(0))
    assert len(asked) == 8
    assert (np.diff(asked) == 2).all()


def test_frames_of_another_size_are_scaled_to_the_labels():
    half = painted_clip(frames=lambda indices: (smooth_picture(45, 80) for _ in indices))
    one = make_sample(half, SMALL, np.random.default_rng(5))
    other = make_sample(painted_clip(), SMALL, np.random.default_rng(5))
    np.testing.assert_array_equal(one["tracks"], other["tracks"])
    assert np.abs(one["video"].astype(int) - other["video"]).mean() < 3


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"num_frames": 9}, "9 frames; 8 with dilation 2 need 15"),
        ({"visible": np.zeros((40, 20), bool)}, "no track is visible in 4 frames"),
        ({"xy": np.full((40, 20, 2), np.nan)}, "a position that is not finite"),
        ({"visible": np.ones((40, 19), bool)}, "Tracks need"),
        ({"frames": lambda indices: iter([smooth_picture(*SIZE)])}, "1 frames came out"),
        ({"height": 0}, "160x0 pixels"),
    ],
)
def test_invalid_clips_are_an_error_in_one_line(changes, reason):
    with pytest.raises(BadClipError, match=reason) as error:
        make_sample(painted_clip(**changes), SMALL, np.random.default_rng(0))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "wrong", [{"num_frames": 0}, {"min_visible": 49}, {"flip": 2}, {"crop": (0.5, 1.5)}, {"crop": (0.9, 0.5)}]
)
def test_settings_out_of_range(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        SampleSettings(**wrong)


def test_colors_change_alike_in_all_frames():
    video = np.random.default_rng(0).integers(0, 255, (3, 8, 8, 3), dtype=np.uint8)
    video[1:] = video[0]
    changed = Color(probability=1, drop=0).apply(np.random.default_rng(0), video)
    assert changed.shape == video.shape
    assert (changed[0] == changed[2]).all()
    assert (changed != video).any()
    gray = Color(probability=0, drop=1).apply(np.random.default_rng(0), video)
    assert (gray[..., 0] == gray[..., 2]).all()
    assert (Color(probability=0, drop=0).apply(np.random.default_rng(0), video) == video).all()
    turned = Color(1, 0, 0, 0, 0.2, 0).apply(np.random.default_rng(3), np.full((1, 4, 4, 3), 90, np.uint8))
    assert (turned == 90).all()  # gray has no hue
