import cv2
import numpy as np
import pytest
import torch
from transformers import AutoConfig, AutoModel

from anthrotap_hf.models.flowchain import FlowChainConfig, FlowChainForPointTracking
from anthrotap_hf.models.flowchain.modeling_flowchain import (
    FLOW_STEP,
    FlowChainNeighborFlows,
    sample_flow,
    unbroken_logits,
)

SPEED = np.array([2.3, -1.4])  # pixels a frame


@pytest.fixture
def flowchain() -> FlowChainForPointTracking:
    return FlowChainForPointTracking(FlowChainConfig()).eval()


def drifting_texture(num_frames: int, height: int = 96, width: int = 128) -> np.ndarray:
    """[T, H, W, 3] uint8: smooth noise that moves by SPEED a frame."""
    noise = np.random.default_rng(0).uniform(0, 255, (height + 80, width + 80, 3)).astype(np.float32)
    noise = cv2.GaussianBlur(noise, (0, 0), 3)
    noise = 255 * (noise - noise.min()) / (noise.max() - noise.min())
    shifts = [np.float32([[1, 0, SPEED[0] * t - 40], [0, 1, SPEED[1] * t - 40]]) for t in range(num_frames)]
    return np.stack([cv2.warpAffine(noise, shift, (width, height)) for shift in shifts]).astype(np.uint8)


def as_pixels(frames: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(frames).permute(0, 3, 1, 2)[None]


def expected_tracks(queries: torch.Tensor, num_frames: int) -> torch.Tensor:
    ahead = torch.arange(num_frames) - queries[..., :1]
    return queries[..., None, 1:] + ahead[..., None] * torch.tensor(SPEED)


QUERIES = torch.tensor([[[0.0, 50.0, 60.0], [5, 70.5, 50.25], [11, 90, 40]]])


def test_a_known_motion_is_tracked_both_ways_within_a_pixel(flowchain):
    out = flowchain(pixel_values_videos=as_pixels(drifting_texture(12)), query_points=QUERIES)
    assert out.tracks.dtype == out.visible_logits.dtype == torch.float32
    assert (out.tracks - expected_tracks(QUERIES, 12)).abs().max() < 0.5
    assert (out.visible_logits > 0).all()


def test_the_query_itself_is_where_it_was_asked(flowchain):
    out = flowchain(pixel_values_videos=as_pixels(drifting_texture(12)), query_points=QUERIES)
    asked = out.tracks[0, torch.arange(3), QUERIES[0, :, 0].long()]
    torch.testing.assert_close(asked, QUERIES[0, :, 1:])


def test_floats_are_the_same_as_bytes(flowchain):
    pixels = as_pixels(drifting_texture(4))
    queries = QUERIES[:, :1]
    out = flowchain(pixel_values_videos=pixels, query_points=queries)
    floats = flowchain(pixel_values_videos=pixels / 127.5 - 1, query_points=queries)
    torch.testing.assert_close(floats.tracks, out.tracks, atol=0, rtol=0)


def test_flow_is_sampled_in_raster_pixels_and_held_at_the_edges():
    flow = np.zeros((4, 6, 2), np.int16)
    flow[..., 0] = np.arange(6) * 64
    flow[..., 1] = np.arange(4)[:, None] * 128
    xy = np.array([[0.5, 0.5], [3.0, 2.0], [5.5, 3.5], [-9, 99]])
    expected = [[0, 0], [2.5, 3], [5, 6], [0, 6]]
    np.testing.assert_allclose(sample_flow(flow, xy), expected)


def test_each_flow_is_computed_once_for_queries_at_both_ends(monkeypatch, flowchain):
    count = []
    original = FlowChainNeighborFlows._flow
    monkeypatch.setattr(FlowChainNeighborFlows, "_flow", lambda *args: count.append(1) or original(*args))
    steps = []
    flowchain(pixel_values_videos=as_pixels(drifting_texture(12)), query_points=QUERIES, progress=steps.append)
    assert len(count) == 2 * 11  # there and back
    assert sum(steps) == 2 * 11


def test_flows_dropped_from_the_cache_are_recomputed():
    pixels, tracks = as_pixels(drifting_texture(12)), []
    for kept in (1, 64):
        model = FlowChainForPointTracking(FlowChainConfig(kept_flows=kept))
        tracks.append(model(pixel_values_videos=pixels, query_points=QUERIES).tracks)
    torch.testing.assert_close(tracks[0], tracks[1], atol=0, rtol=0)
    flows = FlowChainNeighborFlows(pixels[0], "medium", range(2, 9), 3)
    for t in range(11):
        flows.between(t, t + 1)
    assert list(flows._flows) == [6, 7, 8]  # the ones that the way back meets first
    for t in range(11, 0, -1):
        flows.between(t, t - 1)
    assert not flows._flows


def test_points_that_are_covered_or_leave_the_frame_are_occluded(flowchain):
    frames = drifting_texture(1).repeat(12, axis=0)
    other = drifting_texture(1, 96, 128)[0, ::-1, ::-1]
    for t in range(12):  # a curtain comes in from the right, 12 pixels a frame
        frames[t, :, max(128 - 12 * t, 0) :] = other[:, : min(12 * t, 128)]
    queries = torch.tensor([[[0.0, 90.0, 50.0], [0, 20, 50]]])
    out = flowchain(pixel_values_videos=as_pixels(frames), query_points=queries)
    assert (out.visible_logits[0, 1, :5] > 0).all()
    assert (out.visible_logits[0, 0, :2] > 0).all()
    assert (out.visible_logits[0, 0, 3:6] < 0).any()
    leaving = torch.tensor([[[0.0, 120.0, 50.0]]])
    out = flowchain(pixel_values_videos=as_pixels(drifting_texture(12)), query_points=leaving)
    assert out.tracks[0, 0, -1, 0] > 128
    assert out.visible_logits[0, 0, -1] < 0
    assert out.visible_logits[0, 0, 0] > 0


def test_clips_of_a_batch_do_not_mix(flowchain):
    first, second = as_pixels(drifting_texture(5)), as_pixels(drifting_texture(5)[::-1].copy())
    queries = torch.tensor([[[0.0, 50, 60]], [[2, 70, 50]]])
    both = flowchain(pixel_values_videos=torch.cat([first, second]), query_points=queries)
    alone = flowchain(pixel_values_videos=second, query_points=queries[1:])
    torch.testing.assert_close(both.tracks[1:], alone.tracks, atol=0, rtol=0)


def test_saved_without_weights_it_loads(tmp_path):
    FlowChainForPointTracking(FlowChainConfig(error_tolerance=2.5)).save_pretrained(tmp_path)
    assert type(AutoConfig.from_pretrained(tmp_path)) is FlowChainConfig
    for auto in (AutoModel, FlowChainForPointTracking):
        loaded = auto.from_pretrained(tmp_path)
        assert type(loaded) is FlowChainForPointTracking
        assert loaded.config.error_tolerance == 2.5
        assert not loaded.training


def test_one_frame_gives_the_queries_back(flowchain):
    out = flowchain(
        pixel_values_videos=as_pixels(drifting_texture(1)),
        query_points=torch.tensor([[[0.0, 3.5, 128.0 - 40]]]),
    )
    assert out.tracks.tolist() == [[[[3.5, 88.0]]]]
    assert out.visible_logits[0, 0, 0] > 0


BAD_QUERIES = {
    "from 0 to 3": [[[4.0, 1, 1]]],
    "whole number": [[[1.5, 1, 1]]],
    "x within 0 to 128": [[[0.0, 128.5, 1]]],
    "nan": [[[0.0, float("nan"), 1]]],
    "no query point": [[]],
    "must be [1, N, 3]": [[[0.0, 1]]],
}


@pytest.mark.parametrize("message", BAD_QUERIES)
def test_bad_queries_are_rejected_in_one_line(flowchain, message):
    points = torch.tensor(BAD_QUERIES[message])
    points = points.reshape(1, 0, 3) if "no query" in message else points
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - the text is looked at below
        flowchain(pixel_values_videos=as_pixels(drifting_texture(4)), query_points=points)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_bad_videos_and_settings_are_rejected(flowchain):
    queries = torch.tensor([[[0.0, 1, 1]]])
    for video, message in [
        (None, "must be"),
        (torch.zeros(1, 0, 3, 32, 32), "not empty"),
        (torch.zeros(1, 2, 3, 32, 32, dtype=torch.int64), "floats"),
        (torch.zeros(1, 2, 3, 8, 32), "at least 16 pixels"),
    ]:
        with pytest.raises(ValueError, match=message):
            flowchain(pixel_values_videos=video, query_points=queries)
    with pytest.raises(ValueError, match="query_points is missing"):
        flowchain(pixel_values_videos=torch.zeros(1, 2, 3, 32, 32))
    for settings in (
        {"preset": "slow"},
        {"error_tolerance": 0.0},
        {"error_memory": 1.5},
        {"kept_flows": 0},
        {"error_limit": 0.5},
    ):
        with pytest.raises(ValueError, match=r"must|no preset"):
            FlowChainConfig(**settings)


def test_the_step_of_kept_flow_is_small():
    assert FLOW_STEP / 2 * np.sqrt(1000) < 0.5  # a chain of 1,000 roundings, as a random walk


def test_settings_may_be_changed_when_it_is_loaded(tmp_path, capfd):
    FlowChainForPointTracking(FlowChainConfig()).save_pretrained(tmp_path)
    assert FlowChainForPointTracking.from_pretrained(tmp_path, preset="fast").config.preset == "fast"
    assert "Loading" not in capfd.readouterr().err


def test_a_change_of_colors_ends_what_a_point_can_be(flowchain):
    """A gray square appears over a still texture: flow agrees, but the point under it is not what it was."""
    frames = np.repeat(drifting_texture(1), 6, axis=0)
    frames[3:5, 40:60, 50:70] = 128
    queries = torch.tensor([[[0.0, 60, 50], [0, 100, 80]]])
    flowchain.config.max_color_change = 8.0
    logits = flowchain(pixel_values_videos=as_pixels(frames), query_points=queries).visible_logits[0].numpy()
    assert (logits[1] > 0).all()
    assert (logits[0, :3] > 0).all()
    assert (logits[0, 3:] < 0).all()


def test_unbroken_logits_are_the_smallest_on_the_way_from_the_query():
    logits = np.array([[3.0, -1, 2, 4, 1, -2, 5]])
    found = unbroken_logits(logits, np.array([3]))
    assert found.tolist() == [[-1, -1, 2, 4, 1, -2, -2]]
