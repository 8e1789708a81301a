"""The exported graph, run by onnxruntime, gives the model's answers."""

import json

import pytest
import torch
from typer.testing import CliRunner

from anthrotap_hf.cli.main import app
from anthrotap_hf.export.onnx_model import export_onnx
from anthrotap_hf.models.locotrack.modeling_locotrack import follow_flow
from anthrotap_hf.pipelines import load_tracker
from helpers.trackers import tiny_locotrack, tiny_tapnext

T, H, W = 4, 48, 64


def assert_same_answers(model, path, moving_pattern):
    onnxruntime = pytest.importorskip("onnxruntime")
    video = torch.from_numpy(moving_pattern(T, H, W)).permute(0, 3, 1, 2)[None] / 127.5 - 1
    points = torch.tensor([[[0, 20.5, 30], [2, 50, 40], [3, 10, 20], [1, 33.25, 8]]])
    given = {"video": video, "query_points": points}
    if model.config.flow_start:
        given["start_tracks"], given["start_visible"] = follow_flow(video, points, model.config.flow_color_change)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    assert [each.name for each in session.get_inputs()] == list(given)
    tracks, logits = session.run(None, {name: value.float().numpy() for name, value in given.items()})
    with torch.no_grad():
        expected = model(pixel_values_videos=video, query_points=points)
    torch.testing.assert_close(torch.from_numpy(tracks), expected.tracks, atol=1e-2, rtol=0)
    torch.testing.assert_close(torch.from_numpy(logits), expected.visible_logits, atol=1e-3, rtol=0)


@pytest.mark.slow
def test_the_default_model_gives_the_same_answers(tmp_path, moving_pattern):
    path = tmp_path / "tiny.onnx"
    arguments = ["export", "locotrack-tiny", "--format", "onnx", "--out", str(path), "--frames", T, "--json"]
    done = CliRunner().invoke(app, [*map(str, arguments), "--resolution", f"{H}x{W}"])
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["inputs"] == ["video", "query_points", "start_tracks", "start_visible"]
    assert_same_answers(load_tracker("locotrack-tiny", "cpu").model, path, moving_pattern)


@pytest.mark.slow
def test_locotrack_gives_the_same_answers(tmp_path, moving_pattern):
    model = tiny_locotrack().eval()
    path = tmp_path / "a.onnx"
    assert export_onnx(model, path, num_frames=T, height=H, width=W) == ["video", "query_points"]
    assert_same_answers(model, path, moving_pattern)


def test_what_cannot_be_exported_is_said_in_one_line(tmp_path):
    for model, name, height, reason in [
        (tiny_tapnext(), "a.onnx", H, "only LocoTrack models are exported to ONNX, not TAPNext"),
        (tiny_locotrack(), "a.pt", H, "a file of format onnx ends in .onnx"),
        (tiny_locotrack(), "a.onnx", 50, "multiples of 8"),
    ]:
        with pytest.raises(ValueError, match=reason):
            export_onnx(model, tmp_path / name, num_frames=T, height=height, width=W)
    assert not [*tmp_path.iterdir()]
