import pytest
import torch
from transformers import AutoConfig, AutoModel
from typer.testing import CliRunner

from anthrotap_hf.cli.main import app
from anthrotap_hf.hub.errors import PublishError
from anthrotap_hf.hub.model import prepare_model
from anthrotap_hf.models.cotracker3 import CoTracker3Config, CoTracker3ForPointTracking
from anthrotap_hf.models.cotracker3.convert_cotracker3 import convert_cotracker3
from anthrotap_hf.utils.checkpoints import CheckpointError
from helpers.released_layouts import released_cotracker3
from helpers.trackers import tiny_cotracker3


@pytest.fixture
def offline() -> CoTracker3ForPointTracking:
    return tiny_cotracker3()


@pytest.fixture
def online() -> CoTracker3ForPointTracking:
    return tiny_cotracker3(online=True)


@pytest.fixture
def long_video() -> torch.Tensor:
    """[1, 9, 3, 32, 48]: three windows of 4 frames and a frame."""
    return torch.rand(1, 9, 3, 32, 48, generator=torch.Generator().manual_seed(3)) * 2 - 1


def tracked(model, video, queries, **options):
    with torch.inference_mode():
        return model(pixel_values_videos=video, query_points=queries, **options)


@pytest.mark.parametrize("kind", ["offline", "online"])
def test_saved_and_loaded_it_is_the_same(kind, request, video, queries, tmp_path):
    model = request.getfixturevalue(kind)
    model.save_pretrained(tmp_path)
    assert type(AutoConfig.from_pretrained(tmp_path)) is CoTracker3Config
    loaded = AutoModel.from_pretrained(tmp_path)
    assert type(loaded) is CoTracker3ForPointTracking
    ours, theirs = (tracked(each, video, queries) for each in (model, loaded))
    assert ours.tracks.shape == (1, 4, 5, 2)
    assert ours.visible_logits.shape == ours.confidence_logits.shape == ours.occlusion_logits.shape == (1, 4, 5)
    assert ours.steps is None
    assert torch.equal(ours.tracks, theirs.tracks)


def test_chunks_bound_memory_and_change_nothing(offline, video, queries):
    whole = tracked(offline, video, queries, query_chunk_size=99, frame_chunk_size=99)
    parts = tracked(offline, video, queries, query_chunk_size=3, frame_chunk_size=2)
    torch.testing.assert_close(parts.tracks, whole.tracks, atol=1e-3, rtol=0)
    torch.testing.assert_close(parts.visible_logits, whole.visible_logits, atol=1e-4, rtol=0)


def test_clips_of_a_batch_do_not_mix(online, long_video, queries):
    videos, both = torch.cat([long_video, long_video.flip(1)]), torch.cat([queries, queries.flip(1)])
    alone = tracked(online, long_video.flip(1), queries.flip(1))
    torch.testing.assert_close(tracked(online, videos, both).tracks[1:], alone.tracks, atol=1e-3, rtol=0)


def test_online_frames_that_come_one_window_after_the_other_are_the_whole_clip(online, long_video, queries):
    whole = tracked(online, long_video, queries, bidirectional=False)
    state, begin = online.start(queries), 0
    with torch.inference_mode():
        for end in (4, 6, 8, 9):
            out, state = online.step(long_video[:, begin:end], state)
            begin = end
            assert out.tracks.shape[2] == state.end - state.begin
    torch.testing.assert_close(out.tracks, whole.tracks[:, :, state.begin :], atol=1e-3, rtol=0)
    with pytest.raises(ValueError, match="the video has ended"):
        online.step(long_video[:, :1], state)


@pytest.mark.parametrize("frames", [1, 2, 3, 4, 5])
def test_online_short_videos_are_tracked_too(online, long_video, frames):
    """The released code gives zeros for half a window or less."""
    out = tracked(online, long_video[:, :frames], torch.tensor([[[0.0, 20.5, 10.5]]]))
    assert out.tracks.shape == (1, 1, frames, 2)
    assert (out.tracks[0, 0] - torch.tensor([20.5, 10.5])).abs().max() < 16
    assert out.occlusion_logits.abs().min() > 0


def test_online_queries_of_coming_frames_disturb_others_only_as_released(online, long_video):
    first = torch.tensor([[[0.0, 20.5, 10.5]]])
    late = torch.cat([first, torch.tensor([[[8.0, 30.5, 20.5]]])], dim=1)
    alone = tracked(online, long_video, first, bidirectional=False).tracks[:, :, :4]
    torch.testing.assert_close(
        tracked(online, long_video[:, :7], first, bidirectional=False).tracks[:, :, :2], alone[:, :, :2]
    )
    with_late = tracked(online, long_video, late, bidirectional=False).tracks[:, :1, :4]
    torch.testing.assert_close(with_late, alone)
    online.config.attend_to_unseen = True
    assert not torch.allclose(tracked(online, long_video, late, bidirectional=False).tracks[:, :1, :4], alone)


def test_online_frames_before_a_query_come_from_the_reversed_clip(online, long_video):
    query = torch.tensor([[[8.0, 30.5, 20.5]]])
    both = tracked(online, long_video, query)
    back = tracked(online, long_video.flip(1), query * torch.tensor([0, 1, 1]), bidirectional=False)
    torch.testing.assert_close(both.tracks[:, :, :8], back.tracks.flip(2)[:, :, :8])
    assert online.num_steps(9, query) == 2 * 4 * 2
    calls = []
    tracked(online, long_video, query, progress=calls.append)
    assert sum(calls) <= 16


def test_resized_in_the_model_points_come_back_in_the_videos_pixels(offline, video, queries):
    large = torch.nn.functional.interpolate(video[0], (63, 95), mode="bilinear", align_corners=True)[None]
    scale = torch.tensor([94 / 47, 62 / 31])
    at = queries.clone().clamp(max=47)
    at[..., 1:] = (queries[..., 1:].clamp(max=31) - 0.5).clamp_min(0) * scale + 0.5
    small = queries.clone()
    small[..., 1:] = (at[..., 1:] - 0.5) / scale + 0.5
    out, same = tracked(offline, large, at, resolution=(32, 48)), tracked(offline, video, small)
    torch.testing.assert_close((out.tracks - 0.5) / scale + 0.5, same.tracks, atol=1e-2, rtol=0)


def test_visible_is_the_product_with_confidence_above_the_threshold(offline, video, queries):
    out = tracked(offline, video, queries)
    product = (-out.occlusion_logits).sigmoid() * out.confidence_logits.sigmoid()
    torch.testing.assert_close((out.visible_logits + torch.tensor(0.6).logit()).sigmoid(), product)
    offline.config.confidence_counts, offline.config.visible_threshold = False, 0.9
    predictor = tracked(offline, video, queries)
    assert torch.equal(predictor.visible_logits > 0, (-out.occlusion_logits).sigmoid() > 0.9)


@pytest.mark.parametrize("kind", ["offline", "online"])
def test_gradients_reach_every_weight_and_checkpointing_changes_none(kind, request, long_video, queries):
    model = request.getfixturevalue(kind)

    def gradients() -> dict[str, torch.Tensor]:
        model.zero_grad()
        out = model(pixel_values_videos=long_video, query_points=queries, bidirectional=False)
        assert len(out.steps[0]) == (4 if model.config.online else 1)
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
        torch.testing.assert_close(checkpointed[name], gradient, atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("kind", ["offline", "online"])
def test_bf16_and_bytes_run_and_keep_positions_in_float32(kind, request, queries):
    model = request.getfixturevalue(kind).to(torch.bfloat16)
    out = tracked(model, torch.randint(0, 256, (1, 5, 3, 32, 48), dtype=torch.uint8), queries)
    assert out.tracks.dtype == out.visible_logits.dtype == torch.float32
    assert out.tracks.isfinite().all()


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_either_attention_gives_the_same(offline, video, queries, attention):
    expected = tracked(offline, video, queries).tracks
    offline.set_attn_implementation(attention)
    torch.testing.assert_close(tracked(offline, video, queries).tracks, expected, atol=1e-3, rtol=0)


def test_bad_input_is_rejected_in_one_line(offline, online, video, queries):
    for model, arguments, message in [
        (
            offline,
            {"pixel_values_videos": video[..., :46], "query_points": queries},
            "multiples of 4 pixels from 32 up",
        ),
        (offline, {"pixel_values_videos": video, "query_points": queries + 3}, "t must be a whole number from 0 to 4"),
        (offline, {"pixel_values_videos": video, "query_points": queries + 0.5}, "whole number"),
        (offline, {"pixel_values_videos": video}, "query_points is missing"),
        (offline, {"pixel_values_videos": video, "query_points": queries, "num_iterations": 0}, "at least 1"),
        (offline, {"query_points": queries}, r"must be [B, T, 3, H, W]"),
    ]:
        with pytest.raises(ValueError) as caught:  # noqa: PT011 - the text is looked at below
            model(**arguments)
        assert message in str(caught.value)
        assert "\n" not in str(caught.value)
    with pytest.raises(ValueError, match="an offline model"):
        offline.step(video, offline.start(queries))
    with pytest.raises(ValueError, match="4 frames at most here, got 5"):
        online.step(video, online.start(queries))


def test_the_released_size_has_its_parameter_count():
    with torch.device("meta"):
        assert CoTracker3ForPointTracking(CoTracker3Config()).num_parameters() == 25_385_700


def test_weights_of_another_shape_or_lost_are_listed_in_one_line(offline, tmp_path):
    weights = released_cotracker3(offline)
    del weights["fnet.conv2.bias"]
    weights["corr_mlp.fc2.bias"] = torch.zeros(3)
    torch.save(weights, tmp_path / "x.pth")
    with pytest.raises(CheckpointError) as caught:
        convert_cotracker3(tmp_path / "x.pth")
    assert "1 missing: fnet.conv2.bias; 1 of another shape: corr_mlp.fc2.bias [3]" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kept", [0, 3, 5000, -3000, -1])
def test_a_download_that_broke_off_is_rejected_in_one_line(offline, tmp_path, kept):
    file = tmp_path / "x.pth"
    torch.save(released_cotracker3(offline), file)
    file.write_bytes(file.read_bytes()[:kept])
    result = CliRunner().invoke(app, ["convert", "cotracker3", str(file), str(tmp_path / "out")])
    assert (result.exit_code, len(result.stderr.strip().splitlines())) == (2, 1)
    assert f"{file}: it is " in result.stderr


def test_the_command_converts_and_publishing_keeps_the_license(online, tmp_path):
    file, out = tmp_path / "scaled_online.pth", tmp_path / "out"
    torch.save({"model": released_cotracker3(online)}, file)
    result = CliRunner().invoke(app, ["convert", "cotracker3", str(file), str(out), "--online"])
    assert result.exit_code == 0, result.output
    loaded = AutoModel.from_pretrained(out)
    assert loaded.config.online
    assert loaded.config.window_size == 4
    for name, weight in online.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], weight), name
    with pytest.raises(PublishError, match=r"apache-2\.0 allows commercial use .* CoTracker3's released weights"):
        prepare_model(out, tmp_path / "staging", license="apache-2.0")
    publication = prepare_model(out, tmp_path / "staging")
    assert "license: cc-by-nc-4.0" in publication.card
