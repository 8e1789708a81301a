"""A LocoTrack that starts from optical flow, and the one that comes with the package."""

import numpy as np
import pytest
import torch

from anthrotap_hf.models.locotrack import LocoTrackConfig, LocoTrackForPointTracking
from anthrotap_hf.models.locotrack.modeling_locotrack import (
    correlate_support,
    follow_flow,
    last_seen,
    sample_support,
)
from anthrotap_hf.pipelines import BUNDLED, DEFAULT_MODEL

SIZES = {
    "stage_channels": (16, 16, 16, 16),
    "stage_blocks": (1, 1, 1, 1),
    "hidden_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "correlation_channels": (16,),
    "correlation_kernels": (3,),
    "correlation_strides": (2,),
    "num_iterations": 1,
    "initial_resolution": (64, 64),
}
QUERIES = torch.tensor([[[0.0, 30.5, 30.5], [3.0, 40.5, 22.5], [1.0, 20.0, 50.0]]])


@pytest.fixture
def video() -> torch.Tensor:
    """[1, 8, 3, 64, 64] uint8: a texture that moves a pixel a frame to the right."""
    rng = np.random.default_rng(0)
    texture = np.kron(rng.integers(0, 255, (16, 24, 3)), np.ones((4, 4, 1))).astype(np.uint8)
    frames = np.stack([texture[:, 20 - t : 84 - t] for t in range(8)])
    return torch.from_numpy(frames).permute(0, 3, 1, 2)[None].contiguous()


def build(**settings) -> LocoTrackForPointTracking:
    torch.manual_seed(0)
    return LocoTrackForPointTracking(LocoTrackConfig(**SIZES, **settings)).eval()


def test_flow_is_chained_both_ways(video):
    xy, logits = follow_flow(video, QUERIES)
    truth = QUERIES[..., None, 1:] + torch.stack([torch.arange(8) - QUERIES[..., :1], torch.zeros(1, 3, 8)], -1)
    assert (xy - truth).norm(dim=-1).max() < 0.5
    assert (logits > 0).all()


@torch.inference_mode()
def test_the_refinement_starts_where_flow_agrees(video):
    """With a transformer that changes nothing, the output is the initial tracks."""
    model = build(flow_start=True)
    torch.nn.init.zeros_(model.transformer.project_out.weight)
    torch.nn.init.zeros_(model.transformer.project_out.bias)
    found = model(video, QUERIES)
    followed, logits = follow_flow(video, QUERIES)
    torch.testing.assert_close(found.tracks, followed, atol=1e-4, rtol=0)
    torch.testing.assert_close(found.occlusion_logits, -logits)
    assert (found.unrefined_tracks[0] - followed).abs().max() > 1  # the matching's own guess, which is trained


@torch.inference_mode()
def test_chunks_and_windows_change_nothing_or_little(video):
    model = build(flow_start=True, window_size=6, window_context=2)
    whole = model(video, QUERIES, window_size=384)
    torch.testing.assert_close(model(video, QUERIES, window_size=384, query_chunk_size=1).tracks, whole.tracks)
    found = model(video, QUERIES)
    assert found.tracks.shape == whole.tracks.shape
    assert (found.tracks - whole.tracks).norm(dim=-1).median() < 1


def test_features_without_the_video_are_rejected(video):
    model = build(flow_start=True)
    with torch.inference_mode(), pytest.raises(ValueError, match="flow_start needs the video"):
        model(video_features=model.get_video_features(video), query_points=QUERIES)


@pytest.mark.parametrize("radius", [1, 2, 3])
def test_the_size_of_the_support_grid_is_free(video, radius):
    assert build(support_radius=radius)(video, QUERIES).tracks.shape == (1, 3, 8, 2)


@torch.inference_mode()
@pytest.mark.parametrize("threshold", [0.05, 0.5, 0.8])
def test_visible_is_what_is_above_the_threshold(video, threshold):
    found = build(visible_threshold=threshold)(video, QUERIES)
    probability = (1 - found.occlusion_logits.sigmoid()) * (1 - found.uncertainty_logits.sigmoid())
    torch.testing.assert_close(found.visible_logits > 0, probability > threshold)


@pytest.mark.parametrize("wrong", [{"support_radius": 0}, {"visible_threshold": 0.0}, {"visible_threshold": 1.0}])
def test_impossible_settings_are_rejected(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        LocoTrackConfig(**wrong)


@torch.inference_mode()
def test_the_bundled_tracker_is_small_and_holds_on_a_moving_texture(video):
    assert BUNDLED["locotrack-tiny"] == DEFAULT_MODEL
    assert sum(file.stat().st_size for file in DEFAULT_MODEL.iterdir()) < 4e6
    model = LocoTrackForPointTracking.from_pretrained(DEFAULT_MODEL).eval()
    found = model(video, QUERIES)
    truth = QUERIES[..., None, 1:] + torch.stack([torch.arange(8) - QUERIES[..., :1], torch.zeros(1, 3, 8)], -1)
    assert (found.tracks - truth).norm(dim=-1).median() < 1


def test_a_support_correlates_most_with_its_own_place():
    torch.manual_seed(0)
    features = torch.nn.functional.normalize(torch.randn(2, 3, 12, 16, 8), dim=-1)
    queries = torch.tensor([[[1.0, 6.5, 4.5]], [[2.0, 15.5, 0.5]]])
    found = correlate_support(features, sample_support(features, queries, (12, 16), radius=2))
    assert found.shape == (2, 1, 3, 12, 16)
    # On the border, too: the features beyond it are those of the border for both.
    for clip, (t, x, y) in enumerate(((1, 6, 4), (2, 15, 0))):
        assert found[clip, 0, t, y, x] == pytest.approx(1, abs=1e-5)
        assert found[clip, 0].max() < 1 + 1e-5


def test_last_seen_is_where_flow_had_the_point_on_the_way_from_its_query():
    followed = torch.arange(6.0)[:, None].expand(1, 1, 6, 2)
    visible = torch.tensor([[[-1.0, 2, 2, 1, -1, -1]]])
    position, gap = last_seen(followed, visible, torch.tensor([[[2.0, 0, 0]]]), 0)
    assert position[0, 0, :, 0].tolist() == [1, 1, 2, 3, 3, 3]
    assert gap[0, 0].tolist() == [1, 0, 0, 0, 1, 2]
    # A window that begins after the query: the point is taken as seen in its first frame.
    position, gap = last_seen(followed[:, :, 4:], visible[:, :, 4:], torch.tensor([[[2.0, 0, 0]]]), 4)
    assert position[0, 0, :, 0].tolist() == [4, 4]
    assert gap[0, 0].tolist() == [0, 1]


@torch.inference_mode()
def test_a_point_is_found_again_after_something_passed_in_front(video):
    """With random weights and a transformer that changes nothing: the search alone finds it."""
    still = video[:, :1].expand(-1, 8, -1, -1, -1).clone()
    still[:, 3:5, :, :, 16:44] = 90
    model = build(
        flow_start=True,
        flow_color_change=8.0,
        search_support=True,
        search_spread=0.7,
        soft_argmax_radius=2.0,
        window_context=2,
    )
    torch.nn.init.zeros_(model.transformer.project_out.weight)
    torch.nn.init.zeros_(model.transformer.project_out.bias)
    torch.nn.init.constant_(model.matching.conv.weight, 0)
    model.matching.conv.weight[:, :, 1, 1] = 1
    queries = torch.tensor([[[0.0, 30.0, 30.0]]])
    found = model(still, queries)
    _, logits = follow_flow(still, queries, 8.0)
    assert (logits[0, 0, :3] > 0).all()
    assert (logits[0, 0, 3:] < 0).all()
    assert (found.tracks[0, 0, 5:] - queries[0, 0, 1:]).norm(dim=-1).max() < 3
    windows = model(still, queries, window_size=6)
    assert windows.tracks.shape == found.tracks.shape


@pytest.mark.parametrize("wrong", [{"flow_color_change": 8.0}, {"search_spread": 1.0}])
def test_searching_needs_flow(wrong):
    with pytest.raises(ValueError, match="need flow_start"):
        LocoTrackConfig(**wrong)
