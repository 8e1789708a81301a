import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from anthrotap_hf.evaluation import sample_queries, tapvid_metrics
from anthrotap_hf.evaluation.metrics import (
    METRICS,
    THRESHOLDS,
    count_occluded,
    mean_metrics,
    occlusion_recall,
)


@pytest.mark.parametrize("mode", ["first", "strided"])
def test_metrics_are_the_released_ones(mode, reference):
    case = reference(f"tapvid_metrics_{mode}")
    found = tapvid_metrics(
        case["query_points_tyx"][0][:, [0, 2, 1]],
        case["gt_tracks_xy"][0],
        ~case["gt_occluded"][0],
        case["pred_tracks_xy"][0],
        ~case["pred_occluded"][0],
        mode,
    )
    expected = {name.removeprefix("metric_"): v[0] for name, v in case.items() if name.startswith("metric_")}
    assert set(found) == set(expected) == set(METRICS)
    for name, value in expected.items():
        assert found[name] == pytest.approx(value, abs=1e-9), name


@pytest.mark.parametrize("mode", ["first", "strided"])
def test_queries_are_the_released_ones(mode, reference):
    case = reference("tapvid_queries")
    queries, index = sample_queries(case["target_points_xy"], ~case["occluded"], mode)
    np.testing.assert_array_equal(queries[:, [0, 2, 1]], case[f"{mode}_query_points"][0])
    np.testing.assert_array_equal(case["target_points_xy"][index], case[f"{mode}_target_points"][0])
    np.testing.assert_array_equal(case["occluded"][index], case[f"{mode}_occluded"][0])
    if mode == "strided":
        np.testing.assert_array_equal(index, case["strided_trackgroup"][0])


def slow_metrics(queries, gt_tracks, gt_visible, tracks, visible, mode, valid):
    """The definitions, label by label."""
    right = labels = num_visible = 0
    within, hits, false = (dict.fromkeys(THRESHOLDS, 0) for _ in range(3))
    for n, (query, *_) in enumerate(queries):
        for t in range(gt_visible.shape[1]):
            if (t <= query if mode == "first" else t == query) or not valid[n, t]:
                continue
            labels += 1
            right += gt_visible[n, t] == visible[n, t]
            num_visible += gt_visible[n, t]
            distance = np.hypot(*(tracks[n, t] - gt_tracks[n, t]))
            for d in THRESHOLDS:
                correct = gt_visible[n, t] and distance < d
                within[d] += correct
                hits[d] += correct and visible[n, t]
                false[d] += visible[n, t] and not correct
    fraction = lambda part, whole: part / whole if whole else 1.0  # noqa: E731
    found = {"occlusion_accuracy": fraction(right, labels)}
    for d in THRESHOLDS:
        found[f"pts_within_{d}"] = fraction(within[d], num_visible)
        found[f"jaccard_{d}"] = fraction(hits[d], num_visible + false[d])
    found["average_jaccard"] = sum(found[f"jaccard_{d}"] for d in THRESHOLDS) / 5
    found["average_pts_within_thresh"] = sum(found[f"pts_within_{d}"] for d in THRESHOLDS) / 5
    return found


@st.composite
def videos(draw):
    count, frames = draw(st.integers(0, 4)), draw(st.integers(1, 7))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    gt_tracks = rng.uniform(0, 256, (count, frames, 2))
    # whole distances too: thresholds are strict
    angle = rng.integers(0, 4, (count, frames)) * np.pi / 2
    step = np.stack([np.rint(np.cos(angle)), np.rint(np.sin(angle))], -1)
    gt_tracks = np.where(rng.random((count, frames, 1)) < 0.5, np.rint(gt_tracks), gt_tracks)
    tracks = gt_tracks + step * rng.choice([0, 0.5, 1, 2, 3, 4, 8, 16, 40], (count, frames, 1))
    gt_visible, visible, valid = (rng.random((count, frames)) < draw(st.floats(0, 1)) for _ in range(3))
    queries = np.concatenate([rng.integers(0, frames, (count, 1)), rng.uniform(0, 256, (count, 2))], 1)
    return queries, gt_tracks, gt_visible, tracks, visible, draw(st.sampled_from(["first", "strided"])), valid


@settings(deadline=None, max_examples=200)
@given(videos())
def test_metrics_are_their_definitions(video):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = tapvid_metrics(*video)
    expected = slow_metrics(*video)
    assert set(found) == set(expected)
    for name, value in expected.items():
        assert found[name] == pytest.approx(value, abs=1e-9), name
    assert all(0 <= value <= 1 for value in found.values())


@settings(deadline=None, max_examples=50)
@given(videos())
def test_ground_truth_scores_full_marks_and_order_does_not_matter(video):
    queries, gt_tracks, gt_visible, tracks, visible, mode, valid = video
    perfect = tapvid_metrics(queries, gt_tracks, gt_visible, gt_tracks, gt_visible, mode, valid)
    assert set(perfect.values()) == {1.0}
    turned = [array[::-1] for array in (queries, gt_tracks, gt_visible, tracks, visible)]
    one = tapvid_metrics(queries, gt_tracks, gt_visible, tracks, visible, mode, valid)
    assert tapvid_metrics(*turned, mode, valid[::-1]) == pytest.approx(one)


@settings(deadline=None, max_examples=50)
@given(videos())
def test_queries_are_visible_positions_of_their_tracks(video):
    _, tracks, visible, *_ = video
    queries, index = sample_queries(tracks, visible, "first")
    assert index.tolist() == [n for n in range(len(visible)) if visible[n].any()]
    for (t, *xy), n in zip(queries, index, strict=True):
        assert not visible[n, : int(t)].any()
        assert visible[n, int(t)]
        assert xy == tracks[n, int(t)].tolist()
    queries, index = sample_queries(tracks, visible, "strided")
    pairs = [(t, n) for t in range(0, visible.shape[1], 5) for n in range(len(visible)) if visible[n, t]]
    assert list(zip(queries[:, 0].tolist(), index.tolist(), strict=True)) == pairs


def test_nothing_visible_and_positions_that_are_not_finite():
    queries, tracks, never_visible = np.zeros((2, 3)), np.full((2, 4, 2), np.nan), np.zeros((2, 4), bool)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = tapvid_metrics(queries, tracks, never_visible, tracks, never_visible, "first")
        assert set(found.values()) == {1.0}
        found = tapvid_metrics(queries, tracks, never_visible, tracks, ~never_visible, "first")
        assert found["average_jaccard"] == found["occlusion_accuracy"] == 0
        found = tapvid_metrics(queries, np.zeros((2, 4, 2)), ~never_visible, tracks, ~never_visible, "first")
        assert found["average_pts_within_thresh"] == found["average_jaccard"] == 0
        assert found["occlusion_accuracy"] == 1


def test_occluded_labels_are_counted_where_they_are_scored():
    queries = np.array([[0, 1, 1], [2, 1, 1]], float)
    visible = np.array([[1, 0, 0, 1, 0], [0, 0, 1, 0, 1]], bool)
    called = np.array([[1, 0, 1, 0, 0], [0, 0, 1, 1, 1]], bool)
    assert count_occluded(queries, visible, called, "first") == (4, 2)
    assert count_occluded(queries, visible, called, "strided") == (6, 4)
    valid = np.ones((2, 5), bool)
    valid[0, 1] = False
    assert count_occluded(queries, visible, called, "first", valid) == (3, 1)
    assert occlusion_recall([{"occluded": 3, "occluded_found": 1}, {"occluded": 1, "occluded_found": 1}]) == 0.5
    assert occlusion_recall([{"occluded": 0, "occluded_found": 0}]) is None


def test_arguments_that_do_not_fit_are_rejected():
    queries, tracks, visible = np.zeros((2, 3)), np.zeros((2, 4, 2)), np.ones((2, 4), bool)
    for arguments, message in [
        ((queries, tracks, visible, tracks, visible[:, :3], "first"), "visibilities must both"),
        ((queries, tracks, visible, tracks[:1], visible, "first"), "tracks must both"),
        ((queries[:1], tracks, visible, tracks, visible, "first"), "1 queries for 2 tracks"),
        ((queries[:, :2], tracks, visible, tracks, visible, "first"), "must be \\[N, 3\\]"),
        ((queries + 0.5, tracks, visible, tracks, visible, "first"), "whole frames from 0 to 3"),
        ((queries + 4, tracks, visible, tracks, visible, "first"), "whole frames from 0 to 3"),
        ((queries, tracks * np.nan, visible, tracks, visible, "first"), "no finite position"),
        ((queries, tracks, visible, tracks, visible, "last"), "choose first or strided or start"),
        ((queries, tracks, visible, tracks, visible, "first", visible[:1]), "gt_valid must be"),
    ]:
        with pytest.raises(ValueError, match=message):
            tapvid_metrics(*arguments)
    with pytest.raises(ValueError, match="choose first or strided"):
        sample_queries(tracks, visible, "last")
    with pytest.raises(ValueError, match="need tracks"):
        sample_queries(tracks, visible[:, :3], "first")
    with pytest.raises(ValueError, match="no video"):
        mean_metrics([])
