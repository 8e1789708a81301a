import pytest
import torch
from transformers import AutoConfig, AutoModel
from typer.testing import CliRunner

from anthrotap_hf.cli.main import app
from anthrotap_hf.hub.model import prepare_model
from anthrotap_hf.models.alltracker import AllTrackerConfig, AllTrackerForPointTracking
from anthrotap_hf.models.alltracker.convert_alltracker import TINY, convert_alltracker
from anthrotap_hf.utils.checkpoints import CheckpointError
from helpers.released_layouts import released_alltracker
from helpers.trackers import tiny_alltracker

FULL = {"encoder": "convnext", "encoder_channels": [8, 12, 16], "encoder_blocks": [1, 1, 2], "feature_size": 32}


@pytest.fixture
def alltracker() -> AllTrackerForPointTracking:
    return tiny_alltracker()


@pytest.fixture
def long_video() -> torch.Tensor:
    """[1, 9, 3, 32, 48]: three windows of 4 frames and a frame."""
    return torch.rand(1, 9, 3, 32, 48, generator=torch.Generator().manual_seed(3)) * 2 - 1


def tracked(model, video, queries, **options):
    with torch.inference_mode():
        return model(pixel_values_videos=video, query_points=queries, **options)


@pytest.mark.parametrize("sizes", [{}, FULL], ids=["tiny", "full"])
def test_saved_and_loaded_it_is_the_same(sizes, video, queries, tmp_path):
    model = tiny_alltracker(**sizes)
    model.save_pretrained(tmp_path)
    assert type(AutoConfig.from_pretrained(tmp_path)) is AllTrackerConfig
    loaded = AutoModel.from_pretrained(tmp_path)
    assert type(loaded) is AllTrackerForPointTracking
    ours, theirs = (tracked(each, video, queries) for each in (model, loaded))
    assert ours.tracks.shape == (1, 4, 5, 2)
    assert ours.visible_logits.shape == ours.confidence_logits.shape == ours.occlusion_logits.shape == (1, 4, 5)
    assert torch.equal(ours.tracks, theirs.tracks)


def test_tracks_are_read_from_the_dense_flow_between_pixels(alltracker, long_video):
    with torch.inference_mode():
        flow = alltracker.track_densely(long_video).flow[0]
    queries = torch.tensor([[[0, 10.5, 8.5], [0, 20.25, 10.5], [0, 48, 32]]])
    out = tracked(alltracker, long_video, queries)
    torch.testing.assert_close(out.tracks[0, 0], flow[:, :, 8, 10] + queries[0, 0, 1:])
    between = flow[:, :, 10, 19] * 0.25 + flow[:, :, 10, 20] * 0.75
    torch.testing.assert_close(out.tracks[0, 1], between + queries[0, 1, 1:])
    torch.testing.assert_close(out.tracks[0, 2], flow[:, :, 31, 47] + queries[0, 2, 1:])
    alltracker.config.released_readout = True
    rounded = tracked(alltracker, long_video, queries)
    torch.testing.assert_close(rounded.tracks[0, 1], flow[:, :, 10, 20] + torch.tensor([20.5, 10.5]))


def test_chunks_bound_memory_and_change_nothing(alltracker, long_video, queries):
    whole = tracked(alltracker, long_video, queries, frame_chunk_size=99)
    alltracker.config.feature_cache_size, alltracker.config.correlation_megabytes = 4, 1
    parts = tracked(alltracker, long_video, queries, frame_chunk_size=3)
    torch.testing.assert_close(parts.tracks, whole.tracks, atol=1e-3, rtol=0)
    torch.testing.assert_close(parts.visible_logits, whole.visible_logits, atol=1e-4, rtol=0)


def test_frames_before_a_query_come_from_the_reversed_clip(alltracker, long_video):
    query, flipped = torch.tensor([[[6.0, 30.5, 20.5]]]), torch.tensor([[[2.0, 30.5, 20.5]]])
    both, back = tracked(alltracker, long_video, query), tracked(alltracker, long_video.flip(1), flipped)
    torch.testing.assert_close(both.tracks[:, :, :6], back.tracks.flip(2)[:, :, :6])
    ahead = tracked(alltracker, long_video, query, bidirectional=False)
    torch.testing.assert_close(ahead.tracks[:, :, 6:], both.tracks[:, :, 6:])
    assert (ahead.tracks[:, :, :6] == query[0, 0, 1:]).all()
    assert (ahead.visible_logits[:, :, :6] < 0).all()
    calls = []
    tracked(alltracker, long_video, query, progress=calls.append)
    assert len(calls) == alltracker.num_steps(9, query)


@pytest.mark.parametrize("frames", [1, 2, 3])
def test_any_query_frame_of_a_short_video(alltracker, long_video, frames):
    """The released demo loses frames of, or fails at, queries in the second and the last two frames."""
    queries = torch.tensor([[[float(t), 20.5, 10.5] for t in range(frames)]])
    out = tracked(alltracker, long_video[:, :frames], queries)
    assert out.tracks.shape == (1, frames, frames, 2)
    own = out.visible_logits[0].diagonal()
    assert own.isfinite().all()
    if frames == 1:
        assert torch.equal(out.tracks[0, 0, 0], queries[0, 0, 1:])
        assert (own > 0).all()


def test_clips_of_a_batch_do_not_mix(alltracker, video, queries):
    both = tracked(alltracker, torch.cat([video, video.flip(1)]), torch.cat([queries, queries.flip(1)]))
    alone = tracked(alltracker, video.flip(1), queries.flip(1))
    torch.testing.assert_close(both.tracks[1:], alone.tracks, atol=1e-3, rtol=0)


@pytest.mark.parametrize("sizes", [{}, FULL], ids=["tiny", "full"])
def test_gradients_reach_every_weight_and_checkpointing_changes_none(sizes, long_video):
    model = tiny_alltracker(**sizes)
    queries = torch.tensor([[[0, 10.5, 8.2], [0, 30.1, 20.7]]])

    def gradients() -> dict[str, torch.Tensor]:
        model.zero_grad()
        out = model(pixel_values_videos=long_video[:, :5], query_points=queries)
        assert [window.frames.tolist() for window in out.steps[0]] == [[0, 1, 2, 3], [2, 3, 4]]
        total = sum(
            each.square().mean() for window in out.steps[0] for each in (*window.tracks, *window.confidence_logits)
        )
        total.backward()
        return {name: weight.grad for name, weight in model.named_parameters()}

    model.train()
    plain = gradients()
    model.gradient_checkpointing_enable()
    checkpointed = gradients()
    for name, gradient in plain.items():
        assert gradient is not None, name
        torch.testing.assert_close(checkpointed[name], gradient, atol=1e-2, rtol=1e-3)


@pytest.mark.parametrize("sizes", [{}, FULL], ids=["tiny", "full"])
def test_bf16_and_bytes_run_and_keep_positions_in_float32(sizes, queries):
    model = tiny_alltracker(**sizes).to(torch.bfloat16)
    out = tracked(model, torch.randint(0, 256, (1, 5, 3, 32, 48), dtype=torch.uint8), queries)
    assert out.tracks.dtype == out.visible_logits.dtype == torch.float32
    assert out.tracks.isfinite().all()


def test_either_attention_gives_the_same(alltracker, video, queries):
    expected = tracked(alltracker, video, queries).tracks
    alltracker.set_attn_implementation("eager")
    torch.testing.assert_close(tracked(alltracker, video, queries).tracks, expected, atol=1e-3, rtol=0)


def test_bad_input_is_rejected_in_one_line(alltracker, video, queries):
    for arguments, message in [
        ({"pixel_values_videos": video, "query_points": queries + 3}, "t must be a whole number from 0 to 4"),
        ({"pixel_values_videos": video}, "query_points is missing"),
        ({"pixel_values_videos": video, "query_points": queries, "num_iterations": 0}, "at least 1"),
        ({"query_points": queries}, r"must be [B, T, 3, H, W]"),
    ]:
        with pytest.raises(ValueError) as caught:  # noqa: PT011 - the text is looked at below
            alltracker(**arguments)
        assert message in str(caught.value)
        assert "\n" not in str(caught.value)
    with pytest.raises(ValueError, match="one frame has nothing to track"):
        alltracker.track_densely(video[:, :1])


def test_the_released_sizes_have_their_parameter_counts():
    with torch.device("meta"):
        assert AllTrackerForPointTracking(AllTrackerConfig()).num_parameters() == 16_476_962
        assert AllTrackerForPointTracking(TINY).num_parameters() == 6_294_050


def test_weights_of_another_shape_or_lost_are_listed_in_one_line(alltracker, tmp_path):
    weights = released_alltracker(alltracker)
    del weights["fnet.conv2.bias"]
    weights["flow_head.2.bias"] = torch.zeros(3)
    torch.save(weights, tmp_path / "x.pth")
    with pytest.raises(CheckpointError) as caught:
        convert_alltracker(tmp_path / "x.pth")
    assert "1 missing: fnet.conv2.bias; 1 of another shape: flow_head.2.bias [3]" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("sizes", [{}, FULL], ids=["tiny", "full"])
def test_the_command_converts_and_publishing_says_the_license(sizes, tmp_path):
    model, file, out = tiny_alltracker(**sizes), tmp_path / "alltracker.pth", tmp_path / "out"
    torch.save({"model": released_alltracker(model), "global_step": 3}, file)
    result = CliRunner().invoke(app, ["convert", "alltracker", str(file), str(out)])
    assert result.exit_code == 0, result.output
    loaded = AutoModel.from_pretrained(out)
    for name, weight in model.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], weight), name
    card = prepare_model(out, tmp_path / "staging").files["README.md"]
    assert "model card of aharley/alltracker" in (card.decode() if isinstance(card, bytes) else card.read_text())
