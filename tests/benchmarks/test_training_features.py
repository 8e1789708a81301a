"""Pairs of frames that features are trained on, and their loss."""

import numpy as np
import pytest
import torch

from anthrotap_hf.readers.prepared import PreparedClips, prepare_clip
from benchmarks.training_features import CROP, cut_pair, footage_pair, place_loss, rendered_pair


def gradient(side: int) -> np.ndarray:
    """An image whose red is its column and whose green is its row, as far as bytes go."""
    row, column = np.mgrid[:side, :side] * (255 / side)
    return np.stack([column, row, np.zeros_like(row)], axis=-1).astype(np.uint8)


@pytest.fixture(autouse=True)
def _same_colors(monkeypatch):
    monkeypatch.setattr("benchmarks.training_features.recolored", lambda image, rng: image)


def colors_at(image: np.ndarray, xy: np.ndarray) -> np.ndarray:
    column, row = np.clip(xy.astype(int), 0, CROP - 1).T
    return image[row, column].astype(int)


@pytest.mark.parametrize("seed", range(5))
def test_points_of_two_perspectives_are_the_same_places(seed):
    pair = footage_pair(gradient(320)[None], np.random.default_rng(seed))
    assert pair is not None
    one, one_xy, other, other_xy = pair
    assert one.shape == other.shape == (CROP, CROP, 3)
    away = np.abs(colors_at(one, one_xy) - colors_at(other, other_xy))[:, :2]
    # A pixel is a gray level or less; black is beyond the image.
    assert np.median(away) <= 2
    assert (away <= 6).mean() > 0.95


def test_points_of_a_rendered_pair_are_visible_in_both(tmp_path):
    frames = np.stack([np.roll(gradient(256), t, axis=1) for t in range(6)])
    start = np.random.default_rng(0).uniform(40, 200, (60, 2))
    xy = (start[:, None] + np.stack([np.arange(6), np.zeros(6)], axis=-1)).astype(np.float32)
    visible = np.ones((60, 6), bool)
    visible[::3, 3:] = False
    prepare_clip(tmp_path / "a", frames, xy, visible, np.ones_like(visible))
    clips = PreparedClips(tmp_path)
    rng = np.random.default_rng(1)
    pairs = [pair for _ in range(20) if (pair := rendered_pair(clips, rng)) is not None]
    assert len(pairs) > 10
    for one, one_xy, other, other_xy in pairs:
        assert len(one_xy) in (40, 60) or len(one_xy) < 60
        assert np.abs(colors_at(one, one_xy) - colors_at(other, other_xy))[:, :2].max() <= 3


def test_a_pair_with_too_few_points_is_none():
    image = gradient(256)
    assert cut_pair(image, np.full((5, 2), 100.0), image, np.full((5, 2), 100.0), np.random.default_rng(0)) is None


def test_the_loss_is_least_where_the_place_is():
    place = torch.tensor([[3.25, 2.5]])
    # Between columns 2 and 3 (centers 2.5 and 3.5), in row 2.
    logits = torch.full((1, 5, 6), -20.0)
    logits[0, 2, 2], logits[0, 2, 3] = np.log(0.25), np.log(0.75)
    right, found = place_loss(logits.flatten(1), place, 6, 5)
    entropy = -(0.25 * np.log(0.25) + 0.75 * np.log(0.75))
    assert right.item() == pytest.approx(entropy, abs=1e-4)
    assert found.item() == 1
    wrong, found = place_loss(torch.roll(logits, 2, dims=1).flatten(1), place, 6, 5)
    assert wrong.item() > 10
    assert found.item() == 0
