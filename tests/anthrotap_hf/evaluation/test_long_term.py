"""The runner's figures beside TAP-Vid's, by trackers that are functions; and the table beside what is published."""

from pathlib import Path

import numpy as np
import pytest

from anthrotap_hf.evaluation.published import comparison_markdown, comparison_rows
from anthrotap_hf.evaluation.report import report_tables, write_text
from anthrotap_hf.evaluation.runner import Benchmark, EvaluatedModel, evaluate
from anthrotap_hf.evaluation.trajectories import egopoints_metrics, trajectory_metrics
from anthrotap_hf.models.checkpoints import checkpoints
from anthrotap_hf.tracks import TrackedClip, Tracks

H, W, T = 96, 128, 12


def some_clip(**info) -> TrackedClip:
    """Four points that move to the right; the first leaves the frame and comes back, the second is hidden for long."""
    rng = np.random.default_rng(0)
    xy = rng.uniform(20, 60, (4, 1, 2)) + np.arange(T)[None, :, None] * [1.5, 0]
    visible = np.ones((4, T), bool)
    visible[0, 4:6] = False
    xy[0, 4:6] = W + 9, 50
    visible[1, 3:9] = False
    visible[3, 0] = False
    tracks = Tracks.from_labels(xy, visible, np.ones_like(visible), height=H, width=W)
    return TrackedClip(tracks, np.zeros((T, H, W, 3), np.uint8), clip_id="clip", info=info)


def run(clip: TrackedClip, folder: Path, error: float = 0.0, **options) -> dict:
    """Evaluate a tracker that is off by `error` pixels of a frame of 256x256 in x; the report of it."""

    def tracker(frames, points, resolution, progress):
        scale = np.array([resolution[1] / W, resolution[0] / H])
        truth = clip.tracks.xy * scale
        nearest = [np.abs(truth[:, int(t)] - [x, y]).sum(-1).argmin() for t, x, y in points]
        return {"tracks": truth[nearest] + [error, 0], "visible": clip.tracks.visible[nearest]}

    benchmark = Benchmark("egopoints", Path("data"), videos=[clip], **{"mode": "start", **options})
    return evaluate([EvaluatedModel("off", tracker, f"key{error}")], benchmark, folder)


def test_figures_of_long_tracking(tmp_path):
    away, occluded = np.zeros((2, 4, T), bool)
    away[0, 4:6] = True
    occluded[1, 3:9] = True
    clip = some_clip(position_known=~away, out_of_view=away, occluded=occluded)
    report = run(clip, tmp_path, 6.0)
    # Of the three tracks that begin in the first frame, two come back, after 2 and 6 frames.
    (model,) = report["models"]
    (video,) = model["videos"].values()
    assert video["queries"] == 3
    assert sorted(gap for gap, _ in video["redetections"]) == [2, 6]
    assert all(jaccard == pytest.approx([0, 0, 0, 1, 1]) for _, jaccard in video["redetections"])
    found = model["long_term"]
    assert [found["AJ_RD"], found["AJ_RD_dmin4"]] == pytest.approx([0.4, 0.4])
    assert found["AJ_RD_dmin16"] is None
    tracks = clip.tracks.select(np.arange(3)).resized(256, 256)
    arguments = tracks.xy, ~away[:3], tracks.xy + [6.0, 0]
    expected = trajectory_metrics(*arguments, height=256, width=256)
    expected |= egopoints_metrics(*arguments[:2], away[:3], occluded[:3], arguments[2], height=256, width=256)
    assert {name: found[name] for name in expected} == pytest.approx(expected)
    assert (found["survival"], found["out_of_view_accuracy"], found["median_error"]) == pytest.approx((1, 1, 6))
    assert run(clip, tmp_path, 6.0) == report
    text = tmp_path / "a.txt"
    write_text(report, text)
    for words in ("AJ, re-detection", "40.0", "median error, px", "re-identified"):
        assert words in text.read_text()
    assert report_tables(report)


def test_pixels_and_queries_are_as_asked(tmp_path):
    clip = some_clip()
    near = run(clip, tmp_path, 1.5)
    # 1.5 pixels at 256x256 are 0.75 of the video's own.
    own = run(clip, tmp_path, 1.5, scored_at=None, max_queries=2)
    assert near["models"][0]["mean"]["pts_within_1"] == 0
    assert own["models"][0]["mean"]["pts_within_1"] == 1
    assert own["models"][0]["videos"]["clip"]["queries"] == 2
    assert (own["key"], own["resolution"]) == ("egopoints-start-own-2", None)
    assert near["resolution"] == [256, 256]
    first = run(clip, tmp_path, mode="first")
    assert first["models"][0]["videos"]["clip"]["queries"] == 4
    assert run(clip, tmp_path, mode="strided")["models"][0]["long_term"] is None


def test_published_figures_stand_beside_measured_ones(tmp_path):
    report = {**run(some_clip(), tmp_path), "benchmark": "tapvid-davis", "mode": "first"}
    rows = comparison_rows(report)
    assert rows[0] | {"AJ": 100, "MTE": 0} == rows[0]
    assert (rows[0]["tracker"], rows[0]["origin"], rows[0]["source"]) == ("off", "measured", "1 videos of data")
    published = [row for row in rows[1:] if row["tracker"] == checkpoints()["alltracker"].title]
    assert {row["origin"] for row in rows[1:]} == {"published"}
    assert [row["AJ"] for row in published if row["resolution"] == "768x1024"] == [67.2]
    assert all(row["source"] for row in rows)
    text = comparison_markdown(report)
    assert "| off | 256x256 | 100.0 |" in text
    assert "published: aharley/alltracker" in text
    odyssey = comparison_rows({**report, "benchmark": "point-odyssey", "mode": "start"})
    assert [(row["d_avg"], row["survival"], row["AJ_RD"]) for row in odyssey[1:]] == [(51.8, 71.0, 23.3)]
    assert len(comparison_rows({**report, "benchmark": "points"})) == 1
