import json
import pickle
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import pipeline
from typer.testing import CliRunner

from anthrotap_hf.cli.main import app
from anthrotap_hf.evaluation import sample_queries, tapvid_metrics
from anthrotap_hf.evaluation.metrics import METRICS, count_occluded
from anthrotap_hf.evaluation.runner import EvaluatedModel, ResultCache, open_benchmark, resize_clip
from anthrotap_hf.evaluation.runner import evaluate as run_evaluation
from anthrotap_hf.models.flowchain import FlowChainConfig, FlowChainForPointTracking
from anthrotap_hf.pipelines.point_tracking import PointTrackingPipeline
from anthrotap_hf.readers.tapvid import read_tapvid
from helpers.benchmark_files import some_videos, write_tapvid
from helpers.trackers import tiny_locotrack, tiny_tapnext


def evaluate(*arguments: object):
    return CliRunner().invoke(app, ["evaluate", *map(str, arguments)])


def figures(*arguments: object) -> dict:
    result = evaluate(*arguments, "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


@pytest.fixture
def davis(moving_pattern, tmp_path):
    return write_tapvid(tmp_path / "data", "davis", some_videos(moving_pattern, 3))


@pytest.fixture
def calls(monkeypatch):
    """The shapes of the videos that were tracked."""
    tracked = []
    original = PointTrackingPipeline.__call__

    def call(self, inputs, **options):
        tracked.append(inputs.shape)
        return original(self, inputs, **options)

    monkeypatch.setattr(PointTrackingPipeline, "__call__", call)
    return tracked


@pytest.mark.parametrize(
    ("benchmark_name", "layout", "mode"),
    [
        ("tapvid-davis", "davis", "first"),
        ("tapvid-davis", "davis", "strided"),
        ("tapvid-rgb-stacking", "rgb-stacking", "strided"),
        ("tapvid-kinetics", "kinetics", "first"),
        ("robotap", "robotap", "first"),
    ],
)
def test_metrics_are_those_of_the_pipelines_tracks(benchmark_name, layout, mode, moving_pattern, tmp_path):
    data = write_tapvid(tmp_path / "data", layout, some_videos(moving_pattern))
    out = tmp_path / "out"
    report = figures("--benchmark", benchmark_name, "--data", data, "--mode", mode, "--out", out)
    (model,) = report["models"]
    assert model["model"] == "locotrack-tiny"
    tracker = pipeline("point-tracking")
    means = []
    for video in read_tapvid(data):
        video = resize_clip(video, 256, 256)
        queries, index = sample_queries(video.tracks.xy, video.tracks.visible, mode)
        found = tracker(video.frames, points=queries, resolution=(256, 256))
        truth = video.tracks.xy[index], video.tracks.visible[index]
        expected = tapvid_metrics(queries, *truth, found["tracks"], found["visible"], mode)
        kept = model["videos"][video.clip_id]
        assert {name: kept[name] for name in METRICS} == pytest.approx(expected)
        assert (kept["queries"], kept["frames"]) == (len(queries), len(video.frames))
        assert kept["queries_moved_into_frame"] == 0
        counts = count_occluded(queries, truth[1], found["visible"], mode)
        assert (kept["occluded"], kept["occluded_found"]) == counts
        means.append(expected)
    for name in METRICS:
        assert model["mean"][name] == pytest.approx(np.mean([each[name] for each in means]))
    assert model["mean"]["pts_within_16"] > 0.9  # it holds on such a video
    name = f"{benchmark_name}-{mode}"
    assert json.loads((out / f"{name}.json").read_text()) == report
    assert (out / f"{name}.png").read_bytes().startswith(b"\x89PNG")
    assert "average" not in (text := (out / f"{name}.txt").read_text())
    assert f"{100 * model['mean']['average_jaccard']:.1f}" in text


def test_the_printed_table(davis, tmp_path):
    result = evaluate("--benchmark", "tapvid-davis", "--data", davis, "--out", tmp_path / "new/out")
    assert result.exit_code == 0, result.output
    assert "no --model: the bundled locotrack-tiny is evaluated" in result.stderr
    assert "3/3" in result.stderr
    for word in ("video0", "video2", "AJ / delta avg / OA", "mean of 3 videos", "Jaccard at 16 px", "OA"):
        assert word in result.stdout
    assert result.stdout.splitlines()[-4:] == [
        str(tmp_path / f"new/out/tapvid-davis-first{suffix}") for suffix in (".json", ".txt", ".png", ".md")
    ]


def test_a_stopped_run_is_resumed(davis, tmp_path, calls, monkeypatch):
    out = tmp_path / "out"
    arguments = ("--benchmark", "tapvid-davis", "--data", davis, "--out", out)
    counted = PointTrackingPipeline.__call__

    def stopping(self, inputs, **options):
        if len(calls) == 2:
            raise KeyboardInterrupt
        return counted(self, inputs, **options)

    monkeypatch.setattr(PointTrackingPipeline, "__call__", stopping)
    result = evaluate(*arguments)
    assert result.exit_code == 130
    assert "stopped; the results so far are kept" in result.stderr
    assert len(calls) == 2
    assert not (out / "tapvid-davis-first.json").exists()
    assert not [path for path in out.rglob("*") if "incomplete" in path.name]

    monkeypatch.setattr(PointTrackingPipeline, "__call__", counted)
    report = figures(*arguments)
    assert [shape[0] for shape in calls] == [6, 7, 8]  # each video once
    assert figures(*arguments) == report
    assert len(calls) == 3
    unbroken = figures(*arguments[:-1], tmp_path / "other")
    for broken, whole in zip(report["models"], unbroken["models"], strict=True):
        assert broken["mean"] == whole["mean"]
    figures(*arguments, "--mode", "strided")
    assert len(calls) == 9


def test_changed_inputs_are_evaluated_again(davis, tmp_path, calls):
    arguments = ("--benchmark", "tapvid-davis", "--data", davis, "--out", tmp_path / "out")
    figures(*arguments)
    videos = pickle.loads(davis.read_bytes())  # noqa: S301, the test's own
    videos["video1"]["occluded"][0] = ~videos["video1"]["occluded"][0]
    davis.write_bytes(pickle.dumps(videos))
    figures(*arguments)
    assert [shape[0] for shape in calls] == [6, 7, 8, 7]


def test_the_first_videos_only(davis, tmp_path, calls):
    arguments = ("--benchmark", "tapvid-davis", "--data", davis, "--out", tmp_path / "out")
    report = figures(*arguments, "--limit", 2)
    assert list(report["models"][0]["videos"]) == ["video0", "video1"]
    assert report["videos"] == 2
    assert figures(*arguments)["videos"] == 3
    assert figures(*arguments, "--limit", 1)["videos"] == 1
    assert len(calls) == 3


def test_models_side_by_side(davis, tmp_path, calls):
    models = [tmp_path / "one", tmp_path / "two", tmp_path / "flow[chain]", tmp_path / "next"]
    for seed, path in enumerate(models[:2]):
        tiny_locotrack(seed).save_pretrained(path)
    FlowChainForPointTracking(FlowChainConfig(preset="fast")).save_pretrained(models[2])
    tiny_tapnext(image_size=256, recurrent_size=48, head_hidden_size=16).save_pretrained(models[3])
    arguments = ["--benchmark", "tapvid-davis", "--data", davis, "--out", tmp_path / "out", "--limit", 1]
    first = figures(*arguments, "--model", models[0])
    assert len(calls) == 1
    named = [word for path in models for word in ("--model", path)]
    report = figures(*arguments, *named)
    assert len(calls) == 4  # of the first, nothing is done again
    assert [model["model"] for model in report["models"]] == [str(path) for path in models]
    assert report["models"][0] == first["models"][0]
    assert len({model["key"] for model in report["models"]}) == 4
    shutil.copytree(models[0], tmp_path / "copy")
    assert figures(*arguments, "--model", tmp_path / "copy")["models"][0]["mean"] == first["models"][0]["mean"]
    assert len(calls) == 4  # known by its weights, not by its name

    output = evaluate(*arguments, *named).stdout
    text = "".join((tmp_path / "out/tapvid-davis-first.txt").read_text().split())
    for label in ("one", "two", "flow[chain]", "next"):
        assert label in text
        assert label[:4] in output
    result = evaluate(*arguments, "--model", models[0], "--model", models[0])
    assert result.exit_code == 2
    assert "named twice" in result.stderr


def test_each_model_sees_its_own_resolution_and_is_scored_at_256(davis, tmp_path, calls):
    models = [tmp_path / "small", tmp_path / "large"]
    tiny_tapnext(image_size=256).save_pretrained(models[0])
    tiny_tapnext(image_size=256, frame_size=320).save_pretrained(models[1])
    named = [word for path in models for word in ("--model", path)]
    arguments = ["--benchmark", "tapvid-davis", "--data", davis, "--limit", 1, *named]
    report = figures(*arguments, "--out", tmp_path / "own")
    assert [model["resolution"] for model in report["models"]] == [[256, 256], [320, 320]]
    assert [shape[1:3] for shape in calls] == [(256, 256), (320, 320)]
    assert report["resolution"] == [256, 256]
    assert "sees256x256320x320" in "".join(
        (tmp_path / "own/tapvid-davis-first.txt").read_text().replace("│", "").split()
    )
    # Told to, both see the same.
    same = figures(*arguments, "--out", tmp_path / "own", "--resolution", "256x320")
    assert [shape[1:3] for shape in calls[2:]] == [(256, 320)] * 2
    assert {model["key"] for model in same["models"]}.isdisjoint(model["key"] for model in report["models"])
    result = evaluate(*arguments, "--out", tmp_path / "own", "--resolution", "big")
    assert (result.exit_code, "must be HEIGHTxWIDTH" in result.stderr) == (2, True)


def test_tracks_found_at_another_resolution_are_scored_in_the_same_pixels(davis, tmp_path):
    def perfect(frames, points, resolution, progress):
        """Answers the truth, in the pixels that it sees."""
        seen = resize_clip(next(iter(read_tapvid(davis))), *resolution).tracks
        assert frames.shape[1:3] == resolution
        index = [int(np.abs(seen.xy[:, int(t)] - xy).sum(-1).argmin()) for t, *xy in points]
        return {"tracks": seen.xy[index], "visible": seen.visible[index]}

    model = EvaluatedModel("perfect", perfect, "perfect", (128, 512))
    report = run_evaluation([model], open_benchmark("tapvid-davis", davis), tmp_path / "out", limit=1)
    assert report["models"][0]["mean"]["average_jaccard"] == 1


def test_a_key_follows_weights_and_configuration():
    def key(seed: int, **changes) -> str:
        model = tiny_locotrack(seed)
        model.config.update(changes)
        return EvaluatedModel.of("", pipeline("point-tracking", model=model)).key

    assert key(1) == key(1)
    assert len({key(1), key(2), key(1, num_iterations=2)}) == 3
    half = EvaluatedModel.of("", pipeline("point-tracking", model=tiny_locotrack(1).to(torch.bfloat16))).key
    assert half not in (key(1), key(2))


def test_a_key_follows_all_code_that_changes_tracks(monkeypatch):
    read = []
    original = Path.read_bytes
    monkeypatch.setattr(Path, "read_bytes", lambda path: read.append(path.name) or original(path))
    EvaluatedModel.of("", pipeline("point-tracking", model=tiny_locotrack()))
    assert {"leaving.py", "queries.py", "point_tracking.py", "modeling_locotrack.py", "metrics.py"} <= set(read)


def test_results_of_any_size_are_read_again(tmp_path):
    cache = ResultCache(tmp_path / "videos.json")
    cache.keep("a", {"digest": "x", "note": " " * (33 << 20)})
    assert ResultCache(cache.path).find("a", "x")["digest"] == "x"


def test_shards_and_points(fake_labels, make_video, tmp_path):
    from anthrotap_builder.config import LabelingConfig
    from anthrotap_builder.pipeline import label_video
    from anthrotap_builder.shards import ShardWriter

    video = make_video("source.mp4", shots=[20, 30])
    with ShardWriter(tmp_path / "shards", 48) as writer:
        for clip in label_video(video, LabelingConfig()):
            writer.write(clip)
    report = figures("--benchmark", "shards", "--data", tmp_path / "shards", "--out", tmp_path / "out")
    assert report["videos"] == 2

    (tmp_path / "source.csv").write_text("track,t,x,y,visible\na,0,20,20,1\na,3,24.5,17,1\na,4,,,0\n")
    arguments = ("--benchmark", "points", "--data", tmp_path / "source.csv", "--out", tmp_path / "out")
    assert list(figures(*arguments)["models"][0]["videos"]) == ["source"]


def test_videos_in_which_nothing_is_scored_are_skipped_and_named(moving_pattern, tmp_path):
    videos = some_videos(moving_pattern, 3)
    videos["video1"]["occluded"][:] = True
    videos["video2"]["occluded"][:] = True
    videos["video2"]["occluded"][:, -1] = False  # nothing comes after the first frame in which they are visible
    arguments = ("--benchmark", "tapvid-davis", "--out", tmp_path / "out")
    data = write_tapvid(tmp_path / "data", "davis", videos)
    report = figures(*arguments, "--data", data)
    assert list(report["models"][0]["videos"]) == ["video0"]
    assert set(report["skipped"]) == {"video1", "video2"}
    assert "skipped: video1: no point is visible" in evaluate(*arguments, "--data", data).stdout
    del videos["video0"]
    data = write_tapvid(tmp_path / "none", "davis", videos)
    result = evaluate(*arguments, "--data", data)
    assert result.exit_code == 2
    assert "no point is visible in a frame that is scored, in any video" in result.stderr


def test_queries_a_hair_out_of_frame_are_moved_and_counted(moving_pattern, tmp_path):
    videos = some_videos(moving_pattern, 1)
    videos["video0"]["points"][0, :, 0] = 1.003
    videos["video0"]["occluded"][0] = False
    data = write_tapvid(tmp_path / "data", "davis", videos)
    report = figures("--benchmark", "tapvid-davis", "--data", data, "--out", tmp_path / "out")
    assert report["models"][0]["videos"]["video0"]["queries_moved_into_frame"] == 1


class Calls:
    def __reduce__(self):
        return eval, ("1",)


def test_invalid_arguments_are_reported_in_one_line(davis, tmp_path, monkeypatch):
    evil, cut, empty = (tmp_path / f"{name}.pkl" for name in ("evil", "cut", "empty"))
    evil.write_bytes(pickle.dumps({"a": Calls()}))
    cut.write_bytes(davis.read_bytes()[:-5000])
    empty.write_bytes(pickle.dumps({}))
    (tmp_path / "a file").write_text("")
    (tmp_path / "damaged/videos").mkdir(parents=True)
    key = EvaluatedModel.of("", pipeline("point-tracking")).key
    (tmp_path / f"damaged/videos/tapvid-davis-first-{key}.json").write_text("{")
    out = ("--out", tmp_path / "out")
    for arguments, message in [
        (("--benchmark", "davis", "--data", davis, *out), "no benchmark 'davis'; choose from tapvid-davis, "),
        (("--benchmark", "tapvid-davis", "--data", evil, *out), "evil.pkl: it asks for builtins.eval"),
        (("--benchmark", "tapvid-davis", "--data", cut, *out), "cut.pkl: it is no pickle, or a damaged one"),
        (("--benchmark", "tapvid-davis", "--data", empty, *out), "empty.pkl: it holds no video"),
        (("--benchmark", "tapvid-davis", "--data", tmp_path / "none", *out), "none: no such file or folder"),
        (("--benchmark", "shards", "--data", tmp_path, *out), "no shard (.parquet) in this folder"),
        (("--benchmark", "points", "--data", tmp_path / "data", *out), "no .csv or .json"),
        (
            ("--benchmark", "tapvid-davis", "--data", davis, "--out", tmp_path / "a file/x"),
            "is a file, not a",
        ),
        (
            ("--benchmark", "tapvid-davis", "--data", davis, *out, "--device", "x"),
            "--device x: can't be used",
        ),
        (("--benchmark", "tapvid-davis", "--data", davis, *out, "--model", tmp_path / "no"), "--model"),
        (
            ("--benchmark", "tapvid-davis", "--data", davis, "--out", tmp_path / "damaged"),
            "delete it, and it is",
        ),
    ]:
        result = evaluate(*arguments)
        assert result.exit_code == 2, (arguments, result.output, result.exception)
        lines = [line for line in result.stderr.splitlines() if line.strip()]
        assert message in lines[-1], (arguments, result.stderr)
        others = ("tracking by", "no --model", " reading ")
        assert len([line for line in lines if not any(other in line for other in others)]) == 1, lines
    assert not (tmp_path / "out").exists()


def test_without_matplotlib_only_the_plot_is_missing(davis, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    result = evaluate("--benchmark", "tapvid-davis", "--data", davis, "--out", tmp_path / "out", "--limit", 1)
    assert result.exit_code == 0, result.output
    assert "no plot: plots need matplotlib: pip install 'anthrotap[evaluation]'" in result.stderr
    assert ".png" not in result.stdout
    assert (tmp_path / "out/tapvid-davis-first.json").exists()


def test_the_package_imports_nothing_heavy():
    code = "import sys, anthrotap_hf, anthrotap_hf.cli.main; anthrotap_hf.evaluation; print(*[m for m in "
    code += "('torch', 'transformers', 'datasets', 'matplotlib', 'numpy', 'PIL') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
