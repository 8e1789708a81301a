"""Training clips of real videos: chains are followed only where they are right, and labels follow the view."""

import numpy as np
import pytest

from anthrotap_hf.tracks import Tracks
from benchmarks.real_footage.footage import FootageClip
from benchmarks.synthetic.overlays import texture
from benchmarks.training_footage import SIDE, agreeing_chains, footage_samples

HEIGHT, WIDTH = 96, 128


@pytest.fixture
def pan() -> np.ndarray:
    """24 frames of a picture that moves right by 2 pixels a frame, and a bar that passes in front, 8 pixels a frame."""
    rng = np.random.default_rng(0)
    picture, bar = texture(rng, HEIGHT, WIDTH + 60), texture(rng, HEIGHT, 20)
    frames = np.stack([picture[:, 60 - 2 * t : 60 - 2 * t + WIDTH] for t in range(24)])
    for t in range(24):
        left = 8 * t - 30
        begin, end = np.clip([left, left + 20], 0, WIDTH)
        frames[t, :, begin:end] = bar[:, begin - left : end - left]
    return frames


def test_chains_are_known_where_they_are_right(pan: np.ndarray):
    xy, known = agreeing_chains(pan, (0, 0, WIDTH, HEIGHT), np.random.default_rng(1), 40)
    assert 20 <= len(xy) <= 40
    assert known.sum() > 8 * len(xy)
    steps = np.diff(xy, axis=1)[known[:, 1:] & known[:, :-1]]
    on_picture, on_bar = (np.linalg.norm(steps - [pace, 0], axis=-1) < 1 for pace in (2, 8))
    assert (on_picture | on_bar).mean() > 0.95
    # No chain goes over from one to the other.
    moves = [np.diff(points[where], axis=0)[:, 0] for points, where in zip(xy, known, strict=True)]
    assert np.mean([np.ptp(move) < 3 for move in moves if len(move)]) > 0.9


def test_labels_follow_the_view(pan: np.ndarray):
    rng = np.random.default_rng(2)
    start = rng.uniform([30, 10], [70, HEIGHT - 10], (60, 2))
    xy = (start[:, None] + np.arange(24)[:, None] * [2.0, 0.0]).astype(np.float32)
    visible = np.ones((60, 24), bool)
    visible[:30, 12:] = False
    confidence = np.ones((60, 24), np.float32)
    # What is not likely right is not learned from.
    confidence[30:, 20:] = 0.1
    tracks = Tracks(
        xy, visible, np.ones_like(visible), HEIGHT, WIDTH, np.zeros(60, np.int32), np.zeros(60, np.int32), confidence
    )
    samples = [
        sample
        for seed in range(3)
        for sample in footage_samples([FootageClip("pan", tracks, pan)], [24.0], "pan", np.random.default_rng(seed))
    ]
    # 24 frames are too few at 12 a second.
    assert [sample.name for sample in samples] == ["pan-0-0000-1"] * 3
    scales = set()
    for sample in samples:
        assert sample.frames.shape == (24, SIDE, SIDE, 3)
        hidden = sample.valid & ~sample.visible
        assert hidden.any()
        unlikely = np.flatnonzero(~sample.valid[:, 20:].any(1) & sample.valid[:, :20].all(1))
        assert len(unlikely)
        label = unlikely[sample.visible[unlikely, :20].all(1)][0]
        step = np.diff(sample.xy[label, :20], axis=0)
        scales.add(round(float(step[0, 0]) / 2, 1))
        np.testing.assert_allclose(step, np.broadcast_to(step[0], step.shape), atol=1e-3)
    # The whole frame, and a square around the person.
    assert 2.0 in scales
    assert len(scales) > 1
