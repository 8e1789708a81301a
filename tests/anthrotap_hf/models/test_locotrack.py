import subprocess
import sys
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoConfig, AutoModel

from anthrotap_hf.models.locotrack import LocoTrackConfig, LocoTrackForPointTracking
from anthrotap_hf.models.locotrack.modeling_locotrack import (
    correlate,
    default_resolutions,
    sample_support,
    visible_logits,
)


def test_shapes_and_the_query_is_passed_through(locotrack, video, queries):
    with torch.inference_mode():
        out = locotrack(pixel_values_videos=video, query_points=queries)
    assert out.tracks.shape == (1, 4, 5, 2)
    assert out.visible_logits.shape == out.occlusion_logits.shape == out.uncertainty_logits.shape == (1, 4, 5)
    assert len(out.unrefined_tracks) == len(out.unrefined_occlusion_logits) == 2
    first_guess = out.unrefined_tracks[0][0, range(4), queries[0, :, 0].long()]
    torch.testing.assert_close(first_guess, queries[0, :, 1:])


def test_saved_and_loaded_it_is_the_same(locotrack, video, queries, tmp_path):
    locotrack.save_pretrained(tmp_path)
    assert (tmp_path / "model.safetensors").is_file()
    assert type(AutoConfig.from_pretrained(tmp_path)) is LocoTrackConfig
    for auto in (LocoTrackForPointTracking, AutoModel):
        loaded = auto.from_pretrained(tmp_path)
        assert type(loaded) is LocoTrackForPointTracking
        assert not loaded.training
        with torch.inference_mode():
            ours, theirs = (m(pixel_values_videos=video, query_points=queries) for m in (locotrack, loaded))
        assert torch.equal(ours.tracks, theirs.tracks)


@pytest.mark.parametrize("first", ["from transformers import BertModel", "from anthrotap_hf import TAPNextConfig"])
def test_a_fresh_process_knows_it_in_any_order_of_imports(locotrack, tmp_path, first):
    locotrack.save_pretrained(tmp_path)
    code = f"""
import anthrotap_hf
{first}
from anthrotap_hf import TAPNextForPointTracking
from transformers import AutoModel, LlamaModel
print(type(AutoModel.from_pretrained({str(tmp_path)!r})).__name__)
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert result.stdout.strip() == "LocoTrackForPointTracking", result.stderr


def test_chunks_change_nothing(locotrack, video, queries):
    with torch.inference_mode():
        whole = locotrack(pixel_values_videos=video, query_points=queries, query_chunk_size=99, frame_chunk_size=99)
        chunked = locotrack(pixel_values_videos=video, query_points=queries, query_chunk_size=3, frame_chunk_size=2)
    torch.testing.assert_close(chunked.tracks, whole.tracks, atol=1e-4, rtol=0)
    torch.testing.assert_close(chunked.visible_logits, whole.visible_logits, atol=1e-4, rtol=0)


@pytest.mark.parametrize("resolutions", [None, [(32, 48)], [(32, 48), (64, 64)]])
def test_shared_features_change_nothing(locotrack, video, queries, resolutions, monkeypatch):
    with torch.inference_mode():
        plain = locotrack(pixel_values_videos=video, query_points=queries, refinement_resolutions=resolutions)
        features = locotrack.get_video_features(video, resolutions)
        monkeypatch.setattr(locotrack.backbone, "forward", None)  # not needed any more
        parts = [locotrack(video_features=features, query_points=part).tracks for part in queries.split(2, dim=1)]
    torch.testing.assert_close(torch.cat(parts, dim=1), plain.tracks, atol=1e-4, rtol=0)


def test_clips_of_a_batch_do_not_mix(locotrack, video, queries):
    other = video.flip(1)
    with torch.inference_mode():
        both = locotrack(
            pixel_values_videos=torch.cat([video, other]), query_points=torch.cat([queries, queries.flip(1)])
        )
        alone = locotrack(pixel_values_videos=other, query_points=queries.flip(1))
    torch.testing.assert_close(both.tracks[1:], alone.tracks, atol=1e-4, rtol=0)


@given(st.integers(1, 200), st.integers(1, 40), st.integers(0, 12))
def test_windows_keep_every_frame_once_and_see_the_frames_around_it(num_frames, extra, context):
    config = LocoTrackConfig(window_size=2 * context + extra, window_context=context)
    windows = LocoTrackForPointTracking._plan_windows(SimpleNamespace(config=config), num_frames, None)
    assert [t for window in windows for t in window.keep] == list(range(num_frames))
    for window in windows:
        assert window.end - window.begin <= config.window_size
        for t in window.keep:
            assert window.begin <= max(t - context, 0)
            assert min(t + context, num_frames - 1) < window.end


def long_clip():
    video = torch.rand(2, 41, 3, 32, 48) * 2 - 1
    points = torch.tensor([[0, 10.5, 8.2], [40, 48, 32], [17, 0, 0], [17.5, 30.1, 20.7], [3, 5, 5]])
    return video, torch.stack([points, points.flip(0)])


def test_windows_change_little_and_less_with_more_context(locotrack):
    video, points = long_clip()
    points = points[:, [0, 1, 2, 4]]
    errors = []
    with torch.inference_mode():
        whole = locotrack(pixel_values_videos=video, query_points=points)
        for context in (2, 12):
            locotrack.config.window_context = context
            parts = locotrack(pixel_values_videos=video, query_points=points, window_size=30, query_chunk_size=3)
            # The first guess knows no other frame.
            torch.testing.assert_close(parts.unrefined_tracks[0], whole.unrefined_tracks[0], atol=1e-3, rtol=0)
            assert parts.visible_logits.shape == whole.visible_logits.shape
            errors.append((parts.tracks - whole.tracks).norm(dim=-1).max().item())
    assert errors[1] < min(errors[0] / 2, 0.3)


def test_queries_of_a_long_video_are_looked_up_in_their_own_frames(locotrack):
    video, points = long_clip()
    with torch.inference_mode():
        features = locotrack.get_video_features(video)
        expected = locotrack.get_query_features(features, points)
        found = locotrack._query_features_of_video(video, points, None, 2)
    for ours, theirs in zip(found.tensors(), expected.tensors(), strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=0)


def test_in_windows_no_frame_is_computed_twice_but_the_queries_own(locotrack, monkeypatch):
    video, points = long_clip()
    locotrack.config.window_context = 3
    batch_sizes, held = [], []
    plain, track = locotrack.backbone.forward, locotrack._track
    monkeypatch.setattr(locotrack.backbone, "forward", lambda x: batch_sizes.append(len(x)) or plain(x))
    monkeypatch.setattr(locotrack, "_track", lambda f, *rest: held.append(f.num_frames) or track(f, *rest))
    with torch.inference_mode():
        steps = []
        options = {"window_size": 12, "query_chunk_size": 2}
        locotrack(
            pixel_values_videos=video[:1],
            query_points=points[:1],
            refinement_resolutions=[(32, 48)],
            progress=steps.append,
            **options,
        )
    assert sum(batch_sizes) == 41 + 5  # the queries lie in frames 0, 3, 17, 18 and 40
    assert max(held) == 12
    assert sum(steps) == locotrack.num_steps(41, points[:1], **options)


def test_a_window_that_is_all_context_is_rejected(locotrack):
    video, points = long_clip()
    with pytest.raises(ValueError, match="window_size must be more than twice the window_context of 64, got 48"):
        locotrack(pixel_values_videos=video, query_points=points, window_size=48)
    with pytest.raises(ValueError, match="more than twice window_context"):
        LocoTrackConfig(window_size=8, window_context=4)


def test_bytes_are_the_same_video(locotrack, queries):
    video = torch.randint(0, 256, (1, 5, 3, 32, 48), dtype=torch.uint8)
    with torch.inference_mode():
        ours = locotrack(pixel_values_videos=video, query_points=queries)
        theirs = locotrack(pixel_values_videos=video / 127.5 - 1, query_points=queries)
    assert torch.equal(ours.tracks, theirs.tracks)


def test_correlation_of_whole_cells_then_shifted_is_that_of_interpolated_features():
    features = torch.randn(2, 3, 9, 11, 5)
    support = torch.randn(2, 4, 49, 5)
    points = torch.rand(2, 4, 3, 2) * 40 - 15  # in and far out of the grid
    offsets = torch.arange(-3, 4)
    dy, dx = torch.meshgrid(offsets, offsets, indexing="ij")
    positions = points[..., None, :] + torch.stack([dx, dy], -1).reshape(49, 2)  # [B, N, T, 49, 2]
    grid = 2 * positions / torch.tensor([11.0, 9.0]) - 1
    neighbors = F.grid_sample(
        features.flatten(0, 1).permute(0, 3, 1, 2),
        grid.transpose(1, 2).flatten(0, 1),
        align_corners=False,
    )  # [B T, C, N, 49]
    neighbors = neighbors.unflatten(0, (2, 3)).permute(0, 3, 1, 4, 2)  # [B, N, T, 49, C]
    expected = torch.einsum("bntpc,bnqc->bntpq", neighbors, support)
    torch.testing.assert_close(correlate(features, points, support), expected, atol=1e-4, rtol=1e-4)


def test_support_between_frames_mixes_them():
    features = torch.randn(1, 3, 6, 8, 4)
    at = torch.tensor([[[0.0, 20.0, 10.0], [1.0, 20.0, 10.0], [0.25, 20.0, 10.0]]])
    first, second, between = sample_support(features, at, (48, 64))[0]
    torch.testing.assert_close(between, 0.75 * first + 0.25 * second)


def test_visible_logits_follow_the_rule_of_two_probabilities():
    occlusion, uncertainty = torch.meshgrid(*[torch.linspace(-8, 8, 60, dtype=torch.float64)] * 2, indexing="ij")
    occluded = 1 - (1 - occlusion.sigmoid()) * (1 - uncertainty.sigmoid()) > 0.5
    logits = visible_logits(occlusion, uncertainty)
    assert torch.equal(logits > 0, ~occluded)
    torch.testing.assert_close(logits.sigmoid(), (1 - occlusion.sigmoid()) * (1 - uncertainty.sigmoid()))
    extreme = torch.tensor([-90.0, 90.0])
    assert visible_logits(extreme, extreme).tolist() == pytest.approx([89.3069, -180], abs=1e-3)


def test_default_resolutions_are_as_released():
    assert default_resolutions((256, 256), (256, 256)) == [(256, 256)]
    assert default_resolutions((192, 320), (256, 256)) == [(256, 256), (192, 320)]
    assert default_resolutions((100, 80), (256, 256)) == [(256, 256)]
    assert default_resolutions((720, 1280), (256, 256)) == [(256, 256), (360, 432), (504, 744), (720, 1280)]


def test_gradients_reach_every_weight_and_checkpointing_changes_none(locotrack, video, queries):
    def gradients() -> dict[str, torch.Tensor]:
        locotrack.zero_grad()
        out = locotrack(pixel_values_videos=video, query_points=queries)
        loss = sum(part.square().mean() for part in (*out.unrefined_tracks, out.tracks))
        (loss + out.visible_logits.square().mean() + out.unrefined_occlusion_logits[0].mean()).backward()
        return {name: weight.grad for name, weight in locotrack.named_parameters()}

    locotrack.train()
    plain = gradients()
    locotrack.gradient_checkpointing_enable()
    assert any(getattr(module, "gradient_checkpointing", False) for module in locotrack.modules())
    checkpointed = gradients()
    for name, gradient in plain.items():
        assert gradient is not None, name
        torch.testing.assert_close(checkpointed[name], gradient, atol=1e-5, rtol=1e-3)


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_either_attention_gives_the_same(locotrack, video, queries, attention):
    with torch.inference_mode():
        expected = locotrack(pixel_values_videos=video, query_points=queries).tracks
        locotrack.set_attn_implementation(attention)
        tracks = locotrack(pixel_values_videos=video, query_points=queries).tracks
    torch.testing.assert_close(tracks, expected, atol=1e-4, rtol=0)


def test_bf16_runs_and_keeps_positions_in_float32(locotrack, video, queries):
    with torch.inference_mode():
        out = locotrack.to(torch.bfloat16)(pixel_values_videos=video, query_points=queries)
    assert out.tracks.dtype == out.visible_logits.dtype == torch.float32
    assert out.tracks.isfinite().all()


def test_compiles_without_a_graph_break(locotrack, video, queries):
    locotrack.config.num_iterations = 1
    explained = torch._dynamo.explain(locotrack)(pixel_values_videos=video, query_points=queries)
    assert explained.graph_break_count == 0, explained.break_reasons


@pytest.mark.parametrize("size", [(32, 48), (50, 37), (8, 9), (72, 40)])
def test_any_frame_size_and_a_single_frame(locotrack, size):
    video = torch.rand(1, 1, 3, *size)
    with torch.inference_mode():
        out = locotrack(pixel_values_videos=video, query_points=torch.tensor([[[0.0, 5.0, 6.0]]]))
    assert out.tracks.shape == (1, 1, 1, 2)
    assert out.tracks.isfinite().all()
    torch.testing.assert_close(out.unrefined_tracks[0][0, 0, 0], torch.tensor([5.0, 6.0]))


BAD_QUERIES = {
    "t goes from 0 to 4": [[[5.0, 1, 1]]],
    "x to 48": [[[0.0, 48.5, 1]]],
    "y to 32": [[[0.0, 1, 1], [0, 1, -0.1]]],
    "nan": [[[0.0, float("nan"), 1]]],
    "no query point": [[]],
    "must be [1, N, 3]": [[[0.0, 1]]],
}


@pytest.mark.parametrize("message", BAD_QUERIES)
def test_bad_queries_are_rejected_in_one_line(locotrack, video, message):
    points = (
        torch.tensor(BAD_QUERIES[message]).reshape(1, 0, 3)
        if "no query" in message
        else torch.tensor(BAD_QUERIES[message])
    )
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - the text is looked at below
        locotrack(pixel_values_videos=video, query_points=points)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_arguments_that_exclude_each_other_are_rejected(locotrack, video, queries):
    features = locotrack.get_video_features(video)
    for arguments, message in [
        ({"query_points": queries}, "either pixel_values_videos or video_features"),
        ({"pixel_values_videos": video, "video_features": features, "query_points": queries}, "either"),
        ({"pixel_values_videos": video}, "query_points is missing"),
        (
            {"video_features": features, "query_points": queries, "refinement_resolutions": [(32, 32)]},
            "go to",
        ),
        (
            {"pixel_values_videos": video, "query_points": queries, "refinement_resolutions": [(30, 32)]},
            "of 8",
        ),
        ({"pixel_values_videos": video, "query_points": queries, "refinement_resolutions": []}, "empty"),
        ({"pixel_values_videos": video, "query_points": queries, "query_chunk_size": 0}, "at least 1"),
        ({"pixel_values_videos": video, "query_points": queries, "frame_chunk_size": 0}, "at least 1"),
        ({"pixel_values_videos": video[:, :0], "query_points": queries}, "not empty"),
        ({"pixel_values_videos": video[0], "query_points": queries}, "must be [B, T, 3, H, W]"),
        ({"pixel_values_videos": (video * 255).int(), "query_points": queries}, "floats"),
    ]:
        with pytest.raises(ValueError) as caught:  # noqa: PT011
            locotrack(**arguments)
        assert message in str(caught.value)


def test_impossible_configurations_are_rejected():
    for settings in (
        {"num_attention_heads": 3, "hidden_size": 33},
        {"correlation_channels": [20, 20, 20]},
        {"correlation_strides": [2]},
        {"stage_channels": [8, 8]},
        {"initial_resolution": [250, 256]},
        {"num_iterations": 0},
    ):
        with pytest.raises(ValueError, match=r"must be|need"):
            LocoTrackConfig(**settings)


def test_released_sizes_have_their_parameter_counts():
    sizes = {
        11_519_717: LocoTrackConfig(),
        8_236_133: LocoTrackConfig(
            hidden_size=256,
            num_attention_heads=4,
            correlation_channels=[64, 128],
            correlation_kernels=[5, 2],
            correlation_strides=[4, 2],
        ),
    }
    for count, config in sizes.items():
        with torch.device("meta"):
            assert LocoTrackForPointTracking(config).num_parameters() == count
