"""Labels in code of other people: batches in their layouts, and fine-tuning models with their interfaces."""

from __future__ import annotations

import runpy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader

import anthrotap_hf
from anthrotap_hf.readers.base import BadClipError
from anthrotap_hf.tracks import TrackedClip, Tracks

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def labels(tmp_path_factory):
    """The sample that comes with the package."""
    cache = tmp_path_factory.mktemp("cache")
    return anthrotap_hf.load_dataset("anthrotap", split="train", cache_dir=str(cache)).with_format("numpy")


def painted_clip() -> TrackedClip:
    """Four tracks over 6 frames of 20x40, in whose frames red is the number of the frame. One label is invalid."""
    xy = np.arange(4 * 6 * 2, dtype=np.float32).reshape(4, 6, 2) % 20
    visible = np.ones((4, 6), bool)
    visible[1, 2:4] = False
    valid = np.ones((4, 6), bool)
    valid[1, 3] = False
    frames = np.zeros((6, 20, 40, 3), np.uint8)
    frames[..., 0] = np.arange(6)[:, None, None]
    return TrackedClip(Tracks.from_labels(xy, visible, valid, height=20, width=40), frames, clip_id="painted")


def cut(**changes):
    options = {"num_frames": 6, "size": (10, 20), "num_points": 4, "rng": np.random.default_rng(0)} | changes
    return anthrotap_hf.to_training_sample(painted_clip(), **options)


def test_a_sample_has_one_query_on_each_track_and_pixels_of_its_own_size():
    sample = cut()
    assert sample["video"].shape == (6, 10, 20, 3)
    np.testing.assert_array_equal(sample["video"][:, 5, 5, 0], np.arange(6))
    own = painted_clip().tracks.resized(10, 20)
    order = [int(np.flatnonzero((own.xy[:, 0] == track[0]).all(1))[0]) for track in sample["tracks"]]
    assert sorted(order) == [0, 1, 2, 3]
    np.testing.assert_array_equal(sample["tracks"][sample["valid"]], own.xy[order][own.valid[order]])
    np.testing.assert_array_equal(sample["visible"], own.visible[order])
    time = sample["query_points"][:, 0].astype(int)
    assert sample["visible"][np.arange(4), time].all()


def test_more_points_than_tracks_share_tracks():
    sample = cut(num_points=9)
    assert len({tuple(track[0]) for track in sample["tracks"]}) == 4
    queries = {(t, x, y) for t, x, y in sample["query_points"].tolist()}
    assert len(queries) == 9  # there are 22 visible labels


def test_a_window_is_drawn_and_a_short_clip_is_refused_by_its_name():
    starts = {
        int(cut(num_frames=3, num_points=2, rng=np.random.default_rng(seed))["video"][0, 0, 0, 0]) for seed in range(30)
    }
    assert starts == {0, 1, 2, 3}
    with pytest.raises(BadClipError, match="painted: 6 frames; 7 with dilation 1 need 7"):
        cut(num_frames=7)
    assert cut(num_frames=3, dilation=2, num_points=2)["video"].shape[0] == 3


def test_draws_follow_torchs_seed(labels):
    torch.manual_seed(3)
    one = anthrotap_hf.to_training_sample(labels[0], 8, 64, 16)
    torch.manual_seed(3)
    other = anthrotap_hf.to_training_sample(labels[0], 8, 64, 16)
    assert one["query_points"].tolist() == other["query_points"].tolist()
    again = anthrotap_hf.to_training_sample(labels[0], 8, 64, 16)
    assert one["query_points"].tolist() != again["query_points"].tolist()


def test_cotrackers_layout():
    sample = cut()
    batch = anthrotap_hf.collate([sample, cut()])
    assert batch["video"].shape == (2, 6, 3, 10, 20)
    assert batch["video"].dtype == torch.float32
    assert batch["video"][0, :, 0, 5, 5].tolist() == [0, 1, 2, 3, 4, 5]
    assert batch["trajectories"].shape == (2, 6, 4, 2)
    assert batch["visibility"].shape == batch["valid"].shape == (2, 6, 4)
    assert batch["visibility"].dtype == batch["valid"].dtype == torch.bool
    # Its first pixel's center is (0, 0): half a pixel less than raster pixels.
    np.testing.assert_allclose(batch["trajectories"][0].permute(1, 0, 2), sample["tracks"] - 0.5)
    times = batch["query_points"][0, :, 0].long()
    np.testing.assert_array_equal(batch["query_points"][0, :, 1:], batch["trajectories"][0][times, range(4)])
    assert batch["names"] == ["painted", "painted"]


@pytest.mark.parametrize("layout", ["tapir", "locotrack"])
def test_the_layout_of_tapir_and_locotrack(layout):
    sample = cut()
    batch = anthrotap_hf.collate([sample], layout)
    assert batch["video"].shape == (1, 6, 10, 20, 3)
    np.testing.assert_allclose(batch["video"][0, :, 5, 5, 0], np.arange(6) / 127.5 - 1, rtol=1e-5)
    np.testing.assert_array_equal(batch["target_points"][0], sample["tracks"])
    np.testing.assert_array_equal(batch["occluded"][0], ~sample["visible"])
    np.testing.assert_array_equal(batch["valid"][0], sample["valid"])
    times = batch["query_points"][0, :, 0].long()
    np.testing.assert_array_equal(
        batch["query_points"][0, :, [2, 1]], batch["target_points"][0][range(4), times]
    )  # (t, y, x)


def test_another_layout_is_refused():
    with pytest.raises(ValueError, match=r"one of cotracker, tapir, locotrack, anthrotap, got 'raft'"):
        anthrotap_hf.collate([cut()], "raft")


def test_a_data_loader_takes_rows(labels):
    def collate(rows):
        return anthrotap_hf.collate(rows, num_frames=8, size=(48, 64), num_points=16)

    batch = next(iter(DataLoader(labels, batch_size=2, collate_fn=collate)))
    assert batch["video"].shape == (2, 8, 3, 48, 64)
    assert batch["trajectories"].isfinite().all()


def test_a_data_loader_without_the_function_says_what_to_pass(labels):
    with pytest.raises(TypeError, match=r"pass collate_fn=anthrotap_hf\.collate to the DataLoader"):
        next(iter(DataLoader(labels, batch_size=2)))


def test_clips_of_a_stream_are_taken(labels):
    clip = anthrotap_hf.decode_clip(labels[0])
    batch = anthrotap_hf.collate([clip], num_frames=8, size=32, num_points=4)
    assert batch["video"].shape == (1, 8, 3, 32, 32)
    with pytest.raises(ValueError, match="labels only, no video"):
        anthrotap_hf.to_training_sample(replace(clip, video=None))


# Models with the interfaces of the released code: a point moves by one learned offset.


class StandInCoTracker(nn.Module):
    """As `CoTrackerThreeOffline` of co-tracker: lists of windows, in each a list of iterations."""

    def __init__(self):
        super().__init__()
        self.offset = nn.Parameter(torch.zeros(2))
        self.visible = nn.Parameter(torch.zeros(()))

    def forward(self, video, queries, iters=4, is_train=False):
        B, T, C, H, W = video.shape
        assert C == 3
        assert video.max() > 1  # 0 to 255
        assert H % 4 == 0
        assert W % 4 == 0
        assert queries.shape[2] == 3
        tracks = (queries[:, None, :, 1:] + self.offset).expand(B, T, -1, 2)
        visible = torch.sigmoid(self.visible).expand(tracks.shape[:3])
        steps = [tracks] * iters, [visible] * iters, [visible] * iters
        train_data = (*([each] for each in steps), torch.ones_like(visible))
        return tracks, visible, visible, train_data if is_train else None


class StandInTapir(nn.Module):
    """As `TAPIR` of tapnet.torch.tapir_model, and `LocoTrack`: a dict, with the estimates before each refinement."""

    def __init__(self):
        super().__init__()
        self.offset = nn.Parameter(torch.zeros(2))
        self.logit = nn.Parameter(torch.zeros(()))

    def forward(self, video, query_points, is_training=False):
        B, T, _, _, C = video.shape
        assert C == 3
        assert video.abs().max() <= 1  # -1 to 1
        tracks = (query_points[:, :, None, [2, 1]] + self.offset).expand(B, -1, T, 2)
        logit = self.logit.expand(tracks.shape[:3])
        return {
            "tracks": tracks,
            "occlusion": logit,
            "expected_dist": logit,
            "unrefined_tracks": [tracks],
            "unrefined_occlusion": [logit],
            "unrefined_expected_dist": [logit],
        }


@pytest.mark.parametrize(
    ("tracker", "model"), [("cotracker", StandInCoTracker), ("tapir", StandInTapir), ("locotrack", StandInTapir)]
)
def test_the_released_interfaces_are_fine_tuned(tracker, model, capsys):
    script = runpy.run_path(str(ROOT / "examples/finetune_released.py"))
    xy = np.tile(np.array([[[8.0, 6.0]]], np.float32), (4, 6, 1)) + np.arange(4, dtype=np.float32)[:, None, None]
    xy[:, 1:] += 3  # after the query's frame all points are elsewhere
    visible = np.zeros((4, 6), bool)
    visible[:, 0] = visible[:, 3:] = True
    frames = np.full((6, 32, 32, 3), 200, np.uint8)
    clip = TrackedClip(Tracks.from_labels(xy, visible, height=32, width=32), frames, clip_id="moved")
    torch.manual_seed(0)
    batch = anthrotap_hf.collate([clip], tracker, num_frames=6, size=32, num_points=4)
    model = model()
    losses = script["fine_tune"](model, tracker, [batch], steps=12, learning_rate=0.1, device="cpu")
    assert losses[-1] < losses[0]
    assert model.offset.abs().min() > 0.05
    assert "step 12 of 12" in capsys.readouterr().out


@pytest.mark.parametrize("tracker", ["cotracker", "tapir", "locotrack"])
def test_nothing_is_learned_from_labels_that_are_not_valid(tracker, monkeypatch):
    script = runpy.run_path(str(ROOT / "examples/finetune_released.py"))
    model = StandInCoTracker() if tracker == "cotracker" else StandInTapir()
    batch = anthrotap_hf.collate([cut(num_frames=6, size=(12, 20), num_points=4)], tracker)
    before = script["LOSSES"][tracker](model, batch)
    points = batch["trajectories" if tracker == "cotracker" else "target_points"]
    points[~batch["valid"]] += 1000
    assert script["LOSSES"][tracker](model, batch) == before
