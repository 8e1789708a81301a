"""The metrics on labels whose quality is known: perfect, offset, sliding, wrongly occluded."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from rich.console import Console

from anthrotap_builder.bodies import load_body
from anthrotap_hf.tracks import Tracks
from benchmarks.label_accuracy.measure import (
    evaluate_labels,
    leg_of_face,
    mean_of,
    parts_table,
    pooled,
    results_table,
)
from benchmarks.synthetic.ground_truth import GroundTruth

T = 48
LAGS = (8, 24)


@pytest.fixture(scope="module")
def truth() -> GroundTruth:
    """A body that sways and turns behind a bar, which occludes some of it, in 854x480."""
    body = load_body("anny")
    rest = body.template @ np.array([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]]).T
    people = np.empty((T, len(rest), 3), np.float32)
    for t in range(T):
        angle = 0.5 * np.sin(t / 10)
        turn = np.array([[np.cos(angle), 0, np.sin(angle)], [0, 1, 0], [-np.sin(angle), 0, np.cos(angle)]])
        people[t] = rest @ turn.T + [0.4 * np.sin(t / 8), 0, 4.5]
    bar = np.array([[-0.2, -2, 3], [0.1, -2, 3], [0.1, 2, 3], [-0.2, 2, 3]], np.float32)
    return GroundTruth(
        people=[people],
        faces=[body.faces],
        occluders=np.repeat(bar[None], T, 0),
        occluder_faces=np.array([[0, 1, 2], [0, 2, 3]], np.int32),
        focal=np.full(T, 1000.0),
        height=480,
        width=854,
    )


@pytest.fixture(scope="module")
def perfect(truth: GroundTruth) -> Tracks:
    """600 points of the surface, exactly at their ground truth positions."""
    body = load_body("anny")
    points = body.surface_points(600, 0)
    xy = np.empty((len(points), T, 2), np.float32)
    visible = np.empty((len(points), T), bool)
    person = np.zeros(len(points), np.int32)
    for t in range(T):
        xy[:, t], visible[:, t] = truth.locate(t, person, points.face, points.barycentric)
    return Tracks(xy, visible, np.ones_like(visible), truth.height, truth.width, person, points.vertex)


def at(result: dict, lag: int) -> dict:
    return result["lags"][str(lag)]


def test_perfect_labels_score_full_marks(truth: GroundTruth, perfect: Tracks) -> None:
    result = evaluate_labels(perfect, truth, lags=LAGS)
    assert result["off_body"] < 0.1  # a label is float32: one on the very edge may fall off
    assert result["coverage"] > 90
    for lag in LAGS:
        figures = at(result, lag)
        assert figures["average_delta"] > 99.9
        assert figures["survival"] > 99.5
        assert figures["visible_but_occluded"] < 0.5
        assert figures["occluded_precision"] > 99.5
        assert figures["occluded_recall"] > 99.5
        assert figures["occluded_average_delta"] > 99.9
        assert figures["counts"]["evaluated"] > 400
        assert figures["counts"]["truly_occluded"] > 50


def test_constant_offset_on_the_skin_is_no_error(truth: GroundTruth, perfect: Tracks) -> None:
    shifted = replace(perfect, xy=perfect.xy + np.float32([5.0, -3.0]))
    figures = at(evaluate_labels(shifted, truth, lags=LAGS), 8)
    on_body = evaluate_labels(shifted, truth, lags=LAGS)["off_body"]
    assert on_body > 1  # those near the contour, which fail
    assert figures["within"]["4"] > 97 - on_body


def test_sliding_labels_fail_more_with_the_lag(truth: GroundTruth, perfect: Tracks) -> None:
    slide = np.linspace(-30.3, 30.3, T, dtype=np.float32)[None, :, None] * np.float32([1.0, 0.0])
    result = evaluate_labels(replace(perfect, xy=perfect.xy + slide), truth, lags=LAGS)
    # 60.6 px over 47 frames are 3.1 px at lag 8 and 9.3 px at lag 24, in a frame of 256x256
    assert at(result, 8)["within"]["2"] < 25
    assert at(result, 8)["within"]["4"] > 40  # the rest has slid off the body
    assert at(result, 24)["within"]["8"] < 25
    assert at(result, 24)["average_delta"] < at(result, 8)["average_delta"] - 15


def test_labels_that_go_over_to_the_other_leg_are_counted(truth: GroundTruth, perfect: Tracks) -> None:
    legs = leg_of_face()[load_body("anny").surface_points(600, 0).face]
    left, right = np.flatnonzero(legs == 0), np.flatnonzero(legs == 1)
    assert len(left) > 40 < len(right)
    assert at(evaluate_labels(perfect, truth, lags=LAGS), 24)["wrong_leg"] < 1
    xy, visible = perfect.xy.copy(), perfect.visible.copy()
    count = min(len(left), len(right))
    for values in (xy, visible):
        values[left[:count], 24:] = values[right[:count], 24:]
    # Those that start on the right leg stay there.
    exchanged = evaluate_labels(replace(perfect, xy=xy, visible=visible), truth, lags=LAGS)
    assert 35 < at(exchanged, 24)["wrong_leg"] < 65
    assert at(exchanged, 24)["counts"]["on_legs"] > 50


def test_labels_on_the_background_fail(truth: GroundTruth, perfect: Tracks) -> None:
    away = replace(perfect, xy=np.full_like(perfect.xy, 5.0))
    result = evaluate_labels(away, truth, lags=LAGS)
    assert result["off_body"] == 100
    assert result["coverage"] == 0
    assert at(result, 8)["average_delta"] == 0
    assert at(result, 8)["median_error"] is None
    assert at(result, 8)["survival"] is None


def test_random_visibility_is_worth_its_base_rate(truth: GroundTruth, perfect: Tracks) -> None:
    visible = np.random.default_rng(0).random(perfect.visible.shape) < 0.5
    figures = at(evaluate_labels(replace(perfect, visible=visible), truth, lags=LAGS), 8)
    assert 40 < figures["occluded_recall"] < 60
    assert 40 < figures["survival"] < 60
    assert figures["visible_but_occluded"] > 5
    # predicted occluded at random: as precise as occluded is frequent
    assert figures["occluded_precision"] < 60


def test_predicting_all_visible_finds_nothing_occluded(truth: GroundTruth, perfect: Tracks) -> None:
    figures = at(evaluate_labels(replace(perfect, visible=np.ones_like(perfect.visible)), truth, lags=LAGS), 8)
    assert figures["occluded_recall"] == 0
    assert figures["occluded_precision"] is None
    assert figures["visible_but_occluded"] > 5


def test_invalid_labels_lower_survival_and_coverage_only(truth: GroundTruth, perfect: Tracks) -> None:
    valid = np.random.default_rng(1).random(perfect.valid.shape) < 0.3
    figures = at(evaluate_labels(replace(perfect, visible=perfect.visible & valid, valid=valid), truth, lags=LAGS), 24)
    assert 25 < figures["survival"] < 35
    assert figures["average_delta"] > 99.9
    assert figures["occluded_recall"] > 99
    assert figures["occluded_found"] < 40


def test_a_piece_of_the_clip_is_evaluated_by_its_start_frame(truth: GroundTruth, perfect: Tracks) -> None:
    piece = replace(perfect, xy=perfect.xy[:, 12:], visible=perfect.visible[:, 12:], valid=perfect.valid[:, 12:])
    assert at(evaluate_labels(piece, truth, start_frame=12, lags=LAGS), 8)["average_delta"] > 99.9
    assert at(evaluate_labels(piece, truth, start_frame=0, lags=LAGS), 8)["average_delta"] < 95
    with pytest.raises(ValueError, match="48 frames"):
        evaluate_labels(perfect, truth, start_frame=1)


def test_labels_of_another_size_are_scaled(truth: GroundTruth, perfect: Tracks) -> None:
    result = evaluate_labels(perfect.resized(240, 427), truth, lags=LAGS)
    assert at(result, 8)["average_delta"] > 99.9


def test_reliability_is_by_confidence(truth: GroundTruth, perfect: Tracks) -> None:
    sure = np.full(perfect.visible.shape, 0.97, np.float32)
    moved = perfect.xy.copy()
    moved[:, 4::8] += 12.0  # 3.6 px and more of a frame of 256x256
    sure[:, 4::8] = 0.72
    reliability = evaluate_labels(replace(perfect, xy=moved, confidence=sure), truth, lags=(8,))["reliability"]
    assert reliability["0.95 to 1.00"] > 99
    assert reliability["counts"]["0.95 to 1.00"] > 500
    assert reliability["0.70 to 0.75"] < 1
    assert reliability["counts"]["0.70 to 0.75"] > 500
    without_confidence = evaluate_labels(perfect, truth, lags=(8,))["reliability"]
    assert all(count == 0 for count in without_confidence["counts"].values())


def test_no_labels_at_all(truth: GroundTruth) -> None:
    result = evaluate_labels(Tracks.empty(T, 480, 854), truth, lags=LAGS)
    assert result["coverage"] == 0
    assert result["off_body"] is None
    assert at(result, 8)["average_delta"] is None


def test_means_json_and_tables(truth: GroundTruth, perfect: Tracks) -> None:
    good = evaluate_labels(perfect, truth, lags=LAGS)
    none = evaluate_labels(Tracks.empty(T, 480, 854), truth, lags=LAGS)
    mean = mean_of([good, none])
    assert mean["coverage"] == good["coverage"] / 2
    assert mean["lags"]["8"]["average_delta"] == good["lags"]["8"]["average_delta"]
    assert pooled([good, none])["lags"]["8"]["counts"] == good["lags"]["8"]["counts"]
    assert json.loads(json.dumps(good)) == good
    console = Console(record=True, width=160, file=open("/dev/null", "w"))  # noqa: SIM115
    console.print(results_table({"good": good, "none": none, "mean": mean}))
    console.print(parts_table(mean))
    text = console.export_text()
    assert "100.0" in text
    assert "forearms" in text


def test_pooling_counts_labels_alike_where_the_mean_counts_clips(truth: GroundTruth, perfect: Tracks) -> None:
    good = evaluate_labels(perfect, truth, lags=LAGS)
    few = perfect.select(np.arange(100))
    bad = evaluate_labels(replace(few, xy=np.full_like(few.xy, 5.0)), truth, lags=LAGS)
    assert mean_of([good, bad])["lags"]["8"]["average_delta"] == pytest.approx(50, abs=0.1)
    counts = [result["lags"]["8"]["counts"]["evaluated"] for result in (good, bad)]
    fraction = 100 * counts[0] / sum(counts)
    assert pooled([good, bad])["lags"]["8"]["average_delta"] == pytest.approx(fraction, abs=0.1)
    assert pooled([good, bad])["counts"]["queries"] == good["counts"]["queries"] + bad["counts"]["queries"]


def test_labels_that_change_to_another_person_are_on_the_wrong_one(truth: GroundTruth, perfect: Tracks) -> None:
    """A second body stands beside the first, and half of the labels jump to it from frame 24 on."""
    beside = truth.people[0] + np.array([1.2, 0, 0], np.float32)
    two = replace(truth, people=[truth.people[0], beside], faces=truth.faces * 2)
    body = load_body("anny")
    points = body.surface_points(600, 0)
    xy, visible = perfect.xy.copy(), perfect.visible.copy()
    for t in range(24, T):
        xy[::2, t], visible[::2, t] = two.locate(t, np.ones(300, int), points.face[::2], points.barycentric[::2])
    jumped = evaluate_labels(replace(perfect, xy=xy, visible=visible), two, lags=LAGS)
    assert 40 < at(jumped, 24)["wrong_person"] < 70  # the bar hides less of the second
    assert at(evaluate_labels(perfect, two, lags=LAGS), 24)["wrong_person"] < 1
    assert jumped["people"]["counts"]["people_labeled"] == 2
    assert at(jumped, 24)["counts"]["called_visible"] > 100
