import numpy as np
import pytest
import torch
import torch.nn.functional as F
from transformers import AutoConfig, AutoModel

from anthrotap_hf.models.tapnext import TAPNextConfig, TAPNextForPointTracking
from anthrotap_hf.models.tapnext.modeling_tapnext import bounded_sqrt, embed_position, position_certainty


def frame_by_frame(model, video, queries, frames_a_call=1):
    """Tracks and visible logits of all frames, and the last state."""
    state, tracks, logits = model.start(queries), [], []
    for frames in video.split(frames_a_call, dim=1):
        out = model(pixel_values_videos=frames, state=state)
        state = out.state
        tracks.append(out.tracks)
        logits.append(out.visible_logits)
    return torch.cat(tracks, dim=2), torch.cat(logits, dim=2), state


def test_shapes(tapnext, video, queries):
    with torch.inference_mode():
        out = tapnext(pixel_values_videos=video, query_points=queries)
        with_logits = tapnext(pixel_values_videos=video, query_points=queries, output_coordinate_logits=True)
    assert out.tracks.shape == (1, 4, 5, 2)
    assert out.visible_logits.shape == (1, 4, 5)
    assert out.coordinate_logits is None
    assert with_logits.coordinate_logits.shape == (1, 4, 5, 2, 32)


def test_tracks_are_read_from_the_coordinate_logits_x_first(tapnext, video, queries):
    with torch.inference_mode():
        out = tapnext(pixel_values_videos=video, query_points=queries, output_coordinate_logits=True)
    peak = (out.coordinate_logits.argmax(-1) + 0.5) * torch.tensor([48 / 32, 32 / 32])
    assert ((out.tracks - peak).abs() <= 5 * 1.5).all()


def test_certainty_is_the_probability_of_the_bins_around_the_point():
    logits = torch.full((2, 64), -20.0)
    logits[0, [20, 40]], logits[1, [30, 34]] = 0.0, 0.0  # x, then y: a quarter each
    for x, y, expected in (
        (20.5, 32.5, 0.5),
        (20.5, 30.5, 0.5),
        (20.5, 24.5, 0.25),
        (30.5, 32.5, 0.0),
        (40.5, 24.5, 0.25),
    ):
        found = position_certainty(logits, torch.tensor([x, y]), 8)
        torch.testing.assert_close(found, torch.tensor(expected), atol=1e-4, rtol=0)


def test_saved_and_loaded_it_is_the_same(tapnext, video, queries, tmp_path):
    tapnext.save_pretrained(tmp_path)
    assert type(AutoConfig.from_pretrained(tmp_path)) is TAPNextConfig
    for auto in (TAPNextForPointTracking, AutoModel):
        loaded = auto.from_pretrained(tmp_path)
        assert type(loaded) is TAPNextForPointTracking
        with torch.inference_mode():
            ours, theirs = (m(pixel_values_videos=video, query_points=queries) for m in (tapnext, loaded))
        assert torch.equal(ours.tracks, theirs.tracks)


@pytest.mark.parametrize("frames_a_call", [1, 2])
def test_frame_by_frame_is_the_whole_clip(tapnext, video, queries, frames_a_call):
    with torch.inference_mode():
        whole = tapnext(pixel_values_videos=video, query_points=queries, frame_chunk_size=99)
        tracks, logits, state = frame_by_frame(tapnext, video, queries, frames_a_call)
    torch.testing.assert_close(tracks, whole.tracks, atol=1e-3, rtol=0)
    torch.testing.assert_close(logits, whole.visible_logits, atol=1e-4, rtol=0)
    assert state.step == whole.state.step == 5


def test_a_first_frame_with_queries_starts_a_video_too(tapnext, video, queries):
    with torch.inference_mode():
        whole = tapnext(pixel_values_videos=video, query_points=queries)
        first = tapnext(pixel_values_videos=video[:, :1], query_points=queries)
        rest = tapnext(pixel_values_videos=video[:, 1:], state=first.state)
    tracks = torch.cat([first.tracks, rest.tracks], dim=2)
    torch.testing.assert_close(tracks, whole.tracks, atol=1e-3, rtol=0)


def test_the_state_does_not_grow(tapnext, video, queries):
    def size(state) -> int:
        return sum(part.untyped_storage().nbytes() for layer in state.layers for part in layer)

    with torch.inference_mode():
        short = frame_by_frame(tapnext, video, queries)[2]
        long = frame_by_frame(tapnext, video.repeat(1, 4, 1, 1, 1), queries, frames_a_call=4)[2]
    assert size(short) == size(long)


def test_the_future_changes_nothing(tapnext, video, queries):
    with torch.inference_mode():
        whole = tapnext(pixel_values_videos=video, query_points=queries).tracks
        other = torch.cat([video[:, :3], -video[:, 3:]], dim=1)
        changed = tapnext(pixel_values_videos=other, query_points=queries).tracks
    torch.testing.assert_close(changed[:, :, :3], whole[:, :, :3])
    assert not torch.allclose(changed[:, :, 3:], whole[:, :, 3:])


def test_both_ways_is_forward_after_the_query_and_backward_before_it(tapnext, video, queries):
    back = queries.clone()
    back[..., 0] = 4 - back[..., 0]
    with torch.inference_mode():
        both = tapnext(pixel_values_videos=video, query_points=queries, bidirectional=True)
        ahead = tapnext(pixel_values_videos=video, query_points=queries)
        behind = tapnext(pixel_values_videos=video.flip(1), query_points=back)
    assert both.state is None
    for query, frame in enumerate(queries[0, :, 0].long().tolist()):
        assert torch.equal(both.tracks[0, query, frame:], ahead.tracks[0, query, frame:])
        flipped = behind.visible_logits.flip(2)
        assert torch.equal(both.visible_logits[0, query, :frame], flipped[0, query, :frame])


def test_clips_of_a_batch_do_not_mix(tapnext, video, queries):
    with torch.inference_mode():
        both = tapnext(
            pixel_values_videos=torch.cat([video, video.flip(1)]),
            query_points=torch.cat([queries, queries.flip(1)]),
        )
        alone = tapnext(pixel_values_videos=video.flip(1), query_points=queries.flip(1))
    torch.testing.assert_close(both.tracks[1:], alone.tracks, atol=1e-3, rtol=0)


def test_position_embedding_samples_a_table_of_sines():
    """As in the released code: a table with one entry a pixel, sampled bilinearly, zeros around it."""
    size, channels = 16, 8
    omega = 1 / 10_000 ** (np.arange(2) / 1)
    y, x = np.mgrid[:size, :size]
    waves = [trig(axis[..., None] * omega) for axis in (x, y) for trig in (np.sin, np.cos)]
    table = torch.tensor(np.concatenate(waves, -1), dtype=torch.float32).permute(2, 0, 1)[None]
    xy = torch.cat([torch.rand(20, 2) * size, torch.tensor([[0.0, 0], [16, 16], [0, 7.3], [0.5, 15.5]])])
    expected = F.grid_sample(table, (2 * xy / size - 1)[None, :, None], align_corners=False)[0, :, :, 0].T
    torch.testing.assert_close(embed_position(xy, size, channels), expected, atol=1e-5, rtol=0)


def test_the_root_has_a_bounded_slope():
    x = torch.tensor([0.0, 1e-12, 1e-4, 0.25], requires_grad=True)
    root = bounded_sqrt(x)
    root.sum().backward()
    torch.testing.assert_close(root, x.sqrt())
    torch.testing.assert_close(x.grad, torch.tensor([1000.0, 1000.0, 50.0, 1.0]))


def test_gradients_reach_every_weight_and_checkpointing_changes_none(tapnext, video, queries):
    def gradients() -> dict[str, torch.Tensor]:
        tapnext.zero_grad()
        out = tapnext(pixel_values_videos=video, query_points=queries, output_coordinate_logits=True)
        (out.tracks.square().mean() + out.visible_logits.mean() + out.coordinate_logits.std()).backward()
        return {name: weight.grad for name, weight in tapnext.named_parameters()}

    tapnext.train()
    plain = gradients()
    tapnext.gradient_checkpointing_enable()
    checkpointed = gradients()
    for name, gradient in plain.items():
        assert gradient is not None, name
        torch.testing.assert_close(checkpointed[name], gradient, atol=1e-5, rtol=1e-3)


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_either_attention_gives_the_same(tapnext, video, queries, attention):
    with torch.inference_mode():
        expected = tapnext(pixel_values_videos=video, query_points=queries).visible_logits
        tapnext.set_attn_implementation(attention)
        logits = tapnext(pixel_values_videos=video, query_points=queries).visible_logits
    torch.testing.assert_close(logits, expected, atol=1e-4, rtol=0)


def test_bf16_runs_and_keeps_positions_in_float32(tapnext, video, queries):
    with torch.inference_mode():
        out = tapnext.to(torch.bfloat16)(pixel_values_videos=video, query_points=queries)
    assert out.tracks.dtype == out.visible_logits.dtype == torch.float32
    assert out.tracks.isfinite().all()


def test_compiles_without_a_graph_break(tapnext, video, queries):
    explained = torch._dynamo.explain(tapnext)(pixel_values_videos=video, query_points=queries)
    assert explained.graph_break_count == 0, explained.break_reasons


@pytest.mark.parametrize("size", [(32, 32), (48, 24), (64, 64)])
def test_other_frame_sizes_and_a_single_frame(tapnext, size):
    with torch.inference_mode():
        out = tapnext(pixel_values_videos=torch.rand(1, 1, 3, *size), query_points=torch.tensor([[[0.0, 5.0, 6.0]]]))
    assert out.tracks.shape == (1, 1, 1, 2)
    assert (out.tracks > 0).all()
    assert (out.tracks < torch.tensor([size[1], size[0]])).all()


BAD_QUERIES = {
    "from 0 to 4": [[[5.0, 1, 1]]],
    "whole number": [[[1.5, 1, 1]]],
    "x within 0 to 48": [[[0.0, 48.5, 1]]],
    "y within 0 to 32": [[[0.0, 1, 1], [0, 1, -0.1]]],
    "nan": [[[0.0, float("nan"), 1]]],
    "no query point": [[]],
    "must be [1, N, 3]": [[[0.0, 1]]],
}


@pytest.mark.parametrize("message", BAD_QUERIES)
def test_bad_queries_are_rejected_in_one_line(tapnext, video, message):
    points = (
        torch.tensor(BAD_QUERIES[message]).reshape(1, 0, 3)
        if "no query" in message
        else torch.tensor(BAD_QUERIES[message])
    )
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - the text is looked at below
        tapnext(pixel_values_videos=video, query_points=points)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_arguments_that_exclude_each_other_are_rejected(tapnext, video, queries):
    state = tapnext(pixel_values_videos=video[:, :1], query_points=queries).state
    endless = torch.tensor([[[float("inf"), 1, 1]]])
    for arguments, message in [
        ({"pixel_values_videos": video}, "either query_points or state"),
        (
            {"pixel_values_videos": video, "query_points": queries, "state": state},
            "either query_points or state",
        ),
        ({"query_points": queries}, "must be [B, T, 3, H, W]"),
        ({"pixel_values_videos": video, "state": state, "bidirectional": True}, "whole clip"),
        ({"pixel_values_videos": video[..., :40], "state": state}, "frames were (32, 48)"),
        ({"pixel_values_videos": video[..., :30], "query_points": queries}, "multiples of 8 pixels"),
        ({"pixel_values_videos": video[:, :0], "query_points": queries}, "not empty"),
        ({"pixel_values_videos": (video * 255).int(), "query_points": queries}, "floats"),
        ({"pixel_values_videos": video, "query_points": queries, "frame_chunk_size": 0}, "at least 1"),
        ({"pixel_values_videos": video, "state": tapnext.start(endless)}, "whole number"),
    ]:
        with pytest.raises(ValueError) as caught:  # noqa: PT011
            tapnext(**arguments)
        assert message in str(caught.value)


def test_impossible_configurations_are_rejected():
    for settings in (
        {"num_attention_heads": 5},
        {"image_size": 250},
        {"hidden_size": 6, "num_attention_heads": 2, "recurrent_size": 6},
        {"conv_width": 1},
        {"frame_size": 500},
        {"support_points": -1},
    ):
        with pytest.raises(ValueError, match="must"):
            TAPNextConfig(**settings)


def test_the_released_size_has_its_parameter_count():
    with torch.device("meta"):
        assert TAPNextForPointTracking(TAPNextConfig()).num_parameters() == 194_202_881


def test_bytes_are_the_same_video(tapnext):
    video = torch.randint(0, 256, (1, 3, 3, 32, 32), dtype=torch.uint8)
    queries = torch.tensor([[[0, 3.5, 4.0], [1, 20.0, 9.0]]])
    with torch.inference_mode():
        ours = tapnext(pixel_values_videos=video, query_points=queries)
        theirs = tapnext(pixel_values_videos=video / 127.5 - 1, query_points=queries)
    assert torch.equal(ours.tracks, theirs.tracks)


def test_a_state_goes_with_its_own_clips(tapnext):
    state = tapnext.start(torch.tensor([[[0.0, 3, 4]]]))
    with pytest.raises(ValueError, match="the state is of 1 clips, the frames of 2"):
        tapnext(pixel_values_videos=torch.zeros(2, 1, 3, 32, 32), state=state)
