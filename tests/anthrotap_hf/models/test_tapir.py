"""TAPIR: the released outputs, both released layouts, whole clips, windows, and frame by frame."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from transformers import AutoConfig, AutoModel
from typer.testing import CliRunner

from anthrotap_hf.cli.main import app
from anthrotap_hf.models.tapir import TAPIRConfig, TAPIRForPointTracking
from anthrotap_hf.models.tapir.convert_tapir import config_of, convert_tapir, renames
from anthrotap_hf.models.tapir.modeling_tapir import correlate, default_resolutions, sample_at_queries
from anthrotap_hf.utils.checkpoints import CheckpointError, build_model
from benchmarks.parity import TAPIR
from helpers.parity_cases import assert_near
from helpers.released_layouts import released_tapir, tapir_in_jax
from helpers.trackers import tiny_tapir


@pytest.mark.slow
@pytest.mark.parametrize("case", TAPIR, ids=lambda case: case.title)
@pytest.mark.filterwarnings("error:sizes of the checkpoint")
def test_outputs_are_as_released(case, reference, tmp_path):
    assert_near(case.answers(reference, tmp_path))


# Conversion


@pytest.fixture
def weights(tapir):
    return released_tapir(tapir)


def saved(weights, folder, name="x.pt"):
    if name.endswith(".npy"):
        np.save(
            folder / name, np.array({"params": tapir_in_jax(weights), "state": {}}, dtype=object), allow_pickle=True
        )
    else:
        torch.save(weights, folder / name)
    return folder / name


@pytest.mark.parametrize(("name", "temperature"), [("x.pt", 20), ("x.npy", 10)])
@pytest.mark.filterwarnings("ignore:sizes of the checkpoint")
def test_every_weight_arrives_from_either_layout(tapir, weights, tmp_path, name, temperature):
    model = convert_tapir(saved(weights, tmp_path, name))
    for key, weight in tapir.state_dict().items():
        assert torch.equal(model.state_dict()[key], weight), key
    config = model.config
    assert (config.stage_channels, config.stage_blocks) == ([16, 16, 16, 16], [1, 1, 1, 1])
    assert (config.pyramid_level, config.num_extra_blocks, config.num_hidden_layers) == (1, 2, 2)
    assert config.softmax_temperature == temperature
    assert not config.causal


@pytest.mark.parametrize("name", ["tapir", "bootstapir"])
def test_the_released_names_and_shapes_are_known_in_both_layouts(name, reference):
    keys, jax_keys = reference.shapes(name), reference.shapes(f"{name}_jax")
    nothing = torch.zeros(1)
    tensors = {key: nothing.expand(shape) for key, shape in keys.items()}
    jax = {key.removeprefix("tapir/~/"): nothing.expand(shape) for key, shape in jax_keys.items()}
    config, jax_config = config_of(tensors, jax=False), config_of(jax, jax=True)
    wanted = TAPIRConfig() if name == "tapir" else TAPIRConfig(pyramid_level=1, num_extra_blocks=5)
    for field in ("stage_channels", "stage_blocks", "extra_channels", "cost_channels", "hidden_size", "expansion"):
        assert list(np.ravel(getattr(config, field))) == list(np.ravel(getattr(wanted, field)))
        assert getattr(config, field) == getattr(jax_config, field)
    with torch.device("meta"):
        model = TAPIRForPointTracking(wanted)
    assert model.num_parameters() == {"tapir": 31_072_327, "bootstapir": 54_699_335}[name]
    for layout, is_jax in ((tensors, False), (jax, True)):
        # Missing, misshapen and unexpected names are errors.
        build_model(TAPIRForPointTracking, config, layout, renames(config, is_jax))


@pytest.mark.filterwarnings("ignore:sizes of the checkpoint")
def test_causal_is_read_from_the_files_name_unless_told(weights, tmp_path):
    online = saved(weights, tmp_path, "causal_bootstapir_checkpoint.pt")
    assert convert_tapir(online).config.causal
    assert not convert_tapir(online, causal=False).config.causal
    assert convert_tapir(saved(weights, tmp_path), causal=True).config.causal


@pytest.mark.filterwarnings("ignore:sizes of the checkpoint")
def test_heads_of_the_training_are_left_out_and_named(weights, tmp_path):
    file = saved(weights | {"old_head.weight": torch.ones(2)}, tmp_path)
    with pytest.warns(UserWarning, match=r"1 tensors that tracking does not need are left out: old_head\.weight"):
        convert_tapir(file)


def test_files_that_do_not_fit_are_refused_in_one_line(weights, tmp_path):
    lost = {key: tensor for key, tensor in weights.items() if not key.endswith("hid2.bias")}
    odd = weights | {"torch_pips_mixer.linear.weight": torch.rand(24, 190)}
    (tmp_path / "cut.npy").write_bytes(saved(weights, tmp_path, "x.npy").read_bytes()[:-4000])
    (tmp_path / "cut.pt").write_bytes(saved(weights, tmp_path, "whole.pt").read_bytes()[:4000])
    np.save(tmp_path / "list.npy", np.array({"weights": 1}, dtype=object), allow_pickle=True)
    for file, message in (
        (saved(lost, tmp_path, "lost.pt"), "1 missing: torch_cost_volume_track_mods.hid2.bias"),
        (saved(lost, tmp_path, "lost.npy"), "1 missing: cost_volume_regression_2/b"),
        (saved(odd, tmp_path, "odd.pt"), "190 inputs of the mixer"),
        (saved({"fc.weight": torch.rand(2)}, tmp_path, "fc.pt"), "no TAPIR checkpoint"),
        (tmp_path / "cut.npy", "no pickle, or a damaged one"),
        (tmp_path / "cut.pt", "no PyTorch checkpoint"),
        (tmp_path / "list.npy", "it holds no params"),
    ):
        with pytest.raises(CheckpointError) as caught:
            convert_tapir(file)
        assert message in str(caught.value)
        result = CliRunner().invoke(app, ["convert", "tapir", str(file), str(tmp_path / "out")])
        assert (result.exit_code, len(result.stderr.strip().splitlines())) == (2, 1)
        assert not (tmp_path / "out").exists()


def test_the_command_writes_a_folder_that_the_auto_classes_read(weights, video, queries, tmp_path):
    result = CliRunner().invoke(
        app, ["convert", "tapir", str(saved(weights, tmp_path)), str(tmp_path / "out"), "--causal"]
    )
    assert result.exit_code == 0, result.output
    assert type(AutoConfig.from_pretrained(tmp_path / "out")) is TAPIRConfig
    model = AutoModel.from_pretrained(tmp_path / "out")
    assert type(model) is TAPIRForPointTracking
    assert model.config.causal
    assert (tmp_path / "out" / "modeling_tapir.py").is_file()  # for trust_remote_code
    with torch.inference_mode():
        out = model(pixel_values_videos=video, query_points=queries)
    assert out.tracks.shape == (1, 4, 5, 2)


# Whole clips


def test_shapes_and_the_query_is_passed_through(tapir, video, queries):
    with torch.inference_mode():
        out = tapir(pixel_values_videos=video, query_points=queries)
        more = tapir(pixel_values_videos=video, query_points=queries, num_iterations=3)
    assert out.tracks.shape == (1, 4, 5, 2)
    assert out.visible_logits.shape == out.occlusion_logits.shape == out.expected_distance_logits.shape == (1, 4, 5)
    assert len(out.unrefined_tracks) == len(out.unrefined_occlusion_logits) == 4  # two resolutions
    assert len(more.unrefined_expected_distance_logits) == 6
    first_guess = out.unrefined_tracks[0][0, range(4), queries[0, :, 0].long()]
    torch.testing.assert_close(first_guess, queries[0, :, 1:])
    visible = (1 - out.occlusion_logits.sigmoid()) * (1 - out.expected_distance_logits.sigmoid())
    torch.testing.assert_close(out.visible_logits.sigmoid(), visible)


@pytest.mark.parametrize("resolutions", [None, [(32, 32)], [(32, 48), (64, 64)]])
def test_chunks_and_shared_features_change_nothing(tapir, video, queries, resolutions):
    with torch.inference_mode():
        whole = tapir(pixel_values_videos=video, query_points=queries, refinement_resolutions=resolutions)
        chunks = {"query_chunk_size": 3, "frame_chunk_size": 2}
        features = tapir.get_video_features(video, resolutions)
        for options in (
            {"pixel_values_videos": video, "refinement_resolutions": resolutions, **chunks},
            {"video_features": features},
        ):
            other = tapir(query_points=queries, **options)
            torch.testing.assert_close(other.tracks, whole.tracks, atol=1e-4, rtol=0)
            torch.testing.assert_close(other.visible_logits, whole.visible_logits, atol=1e-4, rtol=0)


def test_the_result_is_the_mean_over_resolutions(tapir, video, queries):
    with torch.inference_mode():
        both = tapir(pixel_values_videos=video, query_points=queries, refinement_resolutions=[(32, 32), (64, 64)])
        first = tapir(pixel_values_videos=video, query_points=queries, refinement_resolutions=[(32, 32)])
    torch.testing.assert_close(both.unrefined_tracks[2], first.tracks)
    assert len(both.unrefined_tracks) == 4
    assert not torch.allclose(both.tracks, first.tracks)


def test_a_small_video_is_enlarged_where_asked(tapir):
    video = torch.rand(1, 2, 3, 32, 32)
    with torch.inference_mode():
        features = tapir.get_video_features(video, [(64, 64)])
    assert features.levels[1][1].shape[2:4] == (8, 8)


def test_clips_of_a_batch_do_not_mix(tapir, video, queries):
    with torch.inference_mode():
        both = tapir(
            pixel_values_videos=torch.cat([video, video.flip(1)]), query_points=torch.cat([queries, queries.flip(1)])
        )
        alone = tapir(pixel_values_videos=video.flip(1), query_points=queries.flip(1))
    torch.testing.assert_close(both.tracks[1:], alone.tracks, atol=1e-4, rtol=0)


@pytest.mark.parametrize("released", [False, True])
def test_correlation_is_that_of_interpolated_features(released):
    features, vectors = torch.randn(2, 3, 9, 11, 5), torch.randn(2, 4, 3, 5)
    points = torch.rand(2, 4, 3, 2) * 40 - 15  # in and far out of the grid
    offsets = torch.arange(-3, 4)
    dy, dx = torch.meshgrid(offsets, offsets, indexing="ij")
    positions = points[..., None, :] + torch.stack([dx, dy], -1).reshape(49, 2)  # [B, N, T, 49, 2]
    # The error of the released code: x, too, is divided by the height.
    grid = 2 * positions / torch.tensor([9.0 if released else 11.0, 9.0]) - 1
    neighbors = F.grid_sample(
        features.flatten(0, 1).permute(0, 3, 1, 2), grid.transpose(1, 2).flatten(0, 1), align_corners=False
    )  # [B T, C, N, 49]
    expected = torch.einsum("btcnp,bntc->bntp", neighbors.unflatten(0, (2, 3)), vectors)
    torch.testing.assert_close(correlate(features, points, vectors, 3, released), expected, atol=1e-4, rtol=1e-4)


def test_queries_between_frames_mix_them():
    features = torch.randn(1, 3, 6, 8, 4)
    at = torch.tensor([[[0.0, 20.0, 10.0], [1.0, 20.0, 10.0], [0.25, 20.0, 10.0]]])
    first, second, between = sample_at_queries(features, at, (48, 64))[0]
    torch.testing.assert_close(between, 0.75 * first + 0.25 * second)


def test_default_resolutions_are_as_released():
    assert default_resolutions((256, 256), (256, 256)) == [(256, 256)]
    assert default_resolutions((192, 320), (256, 256)) == [(256, 256), (192, 320)]
    assert default_resolutions((512, 512), (256, 256)) == [(256, 256), (512, 512)]
    assert default_resolutions((200, 200), (256, 256)) == [(256, 256)]


def test_windows_with_enough_context_are_exact_and_count_their_steps(tapir):
    # Each of two steps sees four frames to either side: two blocks of two convolutions.
    tapir.config.window_context = 8
    video, points = torch.rand(2, 41, 3, 32, 32) * 2 - 1, torch.rand(2, 5, 3) * torch.tensor([40, 32, 32.0])
    options = {"window_size": 20, "query_chunk_size": 2, "frame_chunk_size": 3}
    steps = []
    with torch.inference_mode():
        whole = tapir(pixel_values_videos=video, query_points=points)
        parts = tapir(pixel_values_videos=video, query_points=points, progress=steps.append, **options)
        assert sum(steps) == tapir.num_steps(41, points, query_chunk_size=2, window_size=20)
    torch.testing.assert_close(parts.tracks, whole.tracks, atol=1e-3, rtol=0)
    torch.testing.assert_close(parts.visible_logits, whole.visible_logits, atol=1e-4, rtol=0)


def test_bf16_runs_and_keeps_positions_in_float32(tapir, video, queries):
    with torch.inference_mode():
        out = tapir.to(torch.bfloat16)(pixel_values_videos=video, query_points=queries)
    assert out.tracks.dtype == out.visible_logits.dtype == torch.float32
    assert out.tracks.isfinite().all()


def test_bytes_are_the_same_video(tapir, queries):
    video = torch.randint(0, 256, (1, 5, 3, 32, 48), dtype=torch.uint8)
    with torch.inference_mode():
        ours = tapir(pixel_values_videos=video, query_points=queries)
        theirs = tapir(pixel_values_videos=video / 127.5 - 1, query_points=queries)
    assert torch.equal(ours.tracks, theirs.tracks)


def test_gradients_reach_every_weight_and_checkpointing_changes_none(tapir, video, queries):
    def gradients() -> dict[str, torch.Tensor]:
        tapir.zero_grad()
        out = tapir(pixel_values_videos=video, query_points=queries)
        loss = sum(part.square().mean() for part in (*out.unrefined_tracks, out.tracks))
        (loss + out.visible_logits.square().mean() + out.unrefined_occlusion_logits[0].mean()).backward()
        return {name: weight.grad for name, weight in tapir.named_parameters()}

    tapir.train()
    plain = gradients()
    tapir.gradient_checkpointing_enable()
    checkpointed = gradients()
    for name, gradient in plain.items():
        assert gradient is not None, name
        torch.testing.assert_close(checkpointed[name], gradient, atol=1e-5, rtol=1e-3)


@pytest.mark.slow
def test_compiles_without_a_graph_break(tapir, video, queries):
    tapir.config.num_iterations = 1
    options = {"refinement_resolutions": [(32, 32)]}
    explained = torch._dynamo.explain(tapir)(pixel_values_videos=video, query_points=queries, **options)
    assert explained.graph_break_count == 0, explained.break_reasons


# Frame by frame


def frame_by_frame(model, video, state, frames_a_call=1):
    outs = []
    with torch.inference_mode():
        for frames in video.split(frames_a_call, dim=1):
            outs.append(model(pixel_values_videos=frames, state=state))
            state = outs[-1].state
    return torch.cat([o.tracks for o in outs], 2), torch.cat([o.visible_logits for o in outs], 2), state


@pytest.mark.parametrize("frames_a_call", [1, 2])
def test_frame_by_frame_with_known_features_is_the_whole_clip(causal_tapir, video, queries, frames_a_call, monkeypatch):
    with torch.inference_mode():
        features = causal_tapir.get_query_features(causal_tapir.get_video_features(video), queries)
        state = causal_tapir.start(queries, features)
        tracks, logits, state = frame_by_frame(causal_tapir, video, state, frames_a_call)
        # A whole clip forces the query; frames one by one do not, as released.
        track = causal_tapir._track
        monkeypatch.setattr(causal_tapir, "_track", lambda f, q, p, run: track(f, q, p - 100, run))
        whole = causal_tapir(pixel_values_videos=video, query_points=queries)
    torch.testing.assert_close(tracks, whole.tracks, atol=1e-3, rtol=0)
    torch.testing.assert_close(logits, whole.visible_logits, atol=1e-4, rtol=0)
    assert state.step == 5


def test_a_query_is_tracked_from_its_own_frame_on_as_if_the_video_began_there(causal_tapir, video, queries):
    tracks, logits, state = frame_by_frame(causal_tapir, video, causal_tapir.start(queries))
    together, _, _ = frame_by_frame(causal_tapir, video, causal_tapir.start(queries), frames_a_call=3)
    torch.testing.assert_close(together, tracks, atol=1e-3, rtol=0)
    for query, frame in enumerate(queries[0, :, 0].long().tolist()):
        alone = queries[:, query : query + 1] * torch.tensor([0, 1, 1])
        own, own_logits, _ = frame_by_frame(causal_tapir, video[:, frame:], causal_tapir.start(alone))
        torch.testing.assert_close(tracks[:, query, frame:], own[:, 0], atol=1e-3, rtol=0)
        torch.testing.assert_close(logits[:, query, frame:], own_logits[:, 0], atol=1e-4, rtol=0)
        assert (logits[0, query, :frame] < -10).all()
        assert (tracks[0, query, :frame] == queries[0, query, 1:]).all()
    longer = frame_by_frame(causal_tapir, video.repeat(1, 3, 1, 1, 1), causal_tapir.start(queries), frames_a_call=4)[2]
    sizes = [sum(part.untyped_storage().nbytes() for layer in s.layers for part in layer) for s in (state, longer)]
    assert sizes[0] == sizes[1]


def test_states_and_arguments_that_do_not_fit_are_rejected(tapir, causal_tapir, video, queries):
    state = frame_by_frame(causal_tapir, video[:, :1], causal_tapir.start(queries))[2]
    features = causal_tapir.get_video_features(video)
    for arguments, message in [
        ({"pixel_values_videos": video}, "either query_points"),
        ({"pixel_values_videos": video, "query_points": queries, "state": state}, "either query_points"),
        ({"query_points": queries}, "either pixel_values_videos or video_features"),
        (
            {"video_features": features, "query_points": queries, "refinement_resolutions": [(32, 32)]},
            "get_video_features",
        ),
        ({"pixel_values_videos": video[..., :40], "state": state}, "frames were (32, 48)"),
        ({"pixel_values_videos": video, "state": state, "num_iterations": 1}, "must not change"),
        ({"pixel_values_videos": video.repeat(2, 1, 1, 1, 1), "state": state}, "the state is of 1 clips"),
        ({"pixel_values_videos": video, "state": causal_tapir.start(queries + 0.5)}, "whole number"),
        ({"pixel_values_videos": video, "query_points": queries, "num_iterations": 0}, "at least 1"),
        ({"pixel_values_videos": video, "query_points": queries + 5}, "outside the video"),
        (
            {"pixel_values_videos": video, "query_points": queries, "refinement_resolutions": [(20, 32)]},
            "multiples of 8",
        ),
    ]:
        with pytest.raises(ValueError) as caught:  # noqa: PT011 - the text is looked at below
            causal_tapir(**arguments)
        assert message in str(caught.value)
        assert "\n" not in str(caught.value)
    with pytest.raises(ValueError, match="these weights look ahead in time"):
        tapir.start(queries)
    with pytest.raises(ValueError, match="they carry no state"):
        tapir(pixel_values_videos=video, state=state)


def test_the_pipeline_runs_causal_weights_frame_by_frame_and_others_at_once():
    from anthrotap_hf.pipelines import PointTrackingPipeline

    video = np.random.default_rng(0).integers(0, 256, (5, 40, 60, 3), dtype=np.uint8)
    for causal in (False, True):
        tracker = PointTrackingPipeline(tiny_tapir(causal=causal), device="cpu")
        found = tracker(video, points=[[0, 10, 20], [3, 30.5, 5]])
        assert found["tracks"].shape == (2, 5, 2)
        assert np.isfinite(found["scores"]).all()


def test_impossible_configurations_are_rejected():
    for settings in (
        {"stage_blocks": [2, 2]},
        {"cost_channels": [16]},
        {"initial_resolution": [36, 32]},
        {"pyramid_level": -1},
        {"num_iterations": 0},
        {"softmax_temperature": 0},
        {"window_size": 8, "window_context": 4},
    ):
        with pytest.raises(ValueError, match=r"must|need"):
            TAPIRConfig(**settings)
