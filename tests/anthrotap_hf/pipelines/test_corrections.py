"""Tracks that pass through corrections."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import pipeline

from anthrotap_hf.models.flowchain import FlowChainConfig, FlowChainForPointTracking
from anthrotap_hf.pipelines.corrections import (
    AROUND,
    CorrectionError,
    EditedPoint,
    PointEditor,
    _Direction,
    check_points,
    join,
    points_of_rows,
    with_query,
    without_frame,
)
from helpers.trackers import tiny_locotrack


@pytest.fixture(scope="module")
def flowchain():
    return pipeline("point-tracking", model=FlowChainForPointTracking(FlowChainConfig()))


@pytest.fixture(scope="module")
def video() -> np.ndarray:
    """[30, 60, 90, 3]: a texture that moves by (1, 0.5) pixels a frame."""
    rng = np.random.default_rng(3)
    texture = np.kron(rng.integers(0, 255, (24, 32, 3)), np.ones((5, 5, 1))).astype(np.uint8)
    return np.stack([texture[30 - t // 2 : 90 - t // 2, 40 - t : 130 - t] for t in range(30)])


def direction(xy, score=1.0, uncertainty=0.0) -> _Direction:
    xy = np.asarray(xy, np.float32)
    ones = np.ones(len(xy), np.float32)
    return _Direction(xy, score * ones > 0.5, score * ones, uncertainty * ones)


numbers = st.floats(0, 100, width=32)


@settings(max_examples=60, deadline=None)
@given(st.integers(2, 40), st.integers(0, 2**32 - 1), numbers, numbers)
def test_a_joined_stretch_passes_through_both_queries(length, seed, score, other):
    rng = np.random.default_rng(seed)
    one, two = (
        direction(rng.uniform(0, 100, (length, 2)), certainty / 100, rng.random()) for certainty in (score, other)
    )
    joined = join(one, two)
    np.testing.assert_allclose(joined.xy[0], one.xy[0], atol=1e-4)
    np.testing.assert_allclose(joined.xy[-1], two.xy[-1], atol=1e-4)
    low, high = np.minimum(one.xy, two.xy), np.maximum(one.xy, two.xy)
    assert (joined.xy >= low - 1e-3).all()
    assert (joined.xy <= high + 1e-3).all()


def test_two_right_directions_give_the_motion():
    line = np.linspace([10, 20], [40, 5], 21)
    joined = join(direction(line), direction(line))
    np.testing.assert_allclose(joined.xy, line, atol=1e-4)
    assert joined.visible.all()


def test_a_direction_that_has_lost_the_point_counts_little():
    line = np.linspace([10, 20], [40, 5], 41)
    lost = line.copy()
    # From a quarter on it stays behind, and does not know.
    lost[10:] = lost[10]
    joined = join(direction(lost), direction(line))
    assert np.abs(joined.xy - line).max() < 2
    # Where it knows, it counts less still.
    scores = np.where(np.arange(41) < 10, 1.0, 0.02).astype(np.float32)
    knowing = _Direction(lost.astype(np.float32), scores > 0.5, scores, 1 - scores)
    assert np.abs(join(knowing, direction(line)).xy - line).max() < 0.5


def test_a_track_passes_through_its_queries_and_follows_the_motion(flowchain, video):
    found = flowchain(video, points=[[0, 30, 20, 7], [20, 50, 30, 7], [10, 60, 30, 2]])
    assert found["ids"] == [7, 2]
    assert found["tracks"].shape == (2, 30, 2)
    assert found["tracks"][0, 0].tolist() == [30, 20]
    assert found["tracks"][0, 20].tolist() == [50, 30]
    t = np.arange(30)
    truth = np.stack([30 + t, 20 + t // 2], axis=1)
    assert np.abs(found["tracks"][0] - truth).max() < 1
    assert found["visible"][0].all()
    assert found["valid"].all()
    # A wrong place is passed through all the same.
    wrong = flowchain(video, points=[[0, 30, 20, 7], [10, 80, 5, 7], [20, 50, 30, 7]])
    assert wrong["tracks"][0, 10].tolist() == [80, 5]


def test_a_correction_touches_its_own_stretches_alone(flowchain, video):
    editor = PointEditor(flowchain, video)
    first = EditedPoint(1, ((0, 30.0, 20.0), (12, 42.0, 26.0), (24, 54.0, 32.0)))
    other = EditedPoint(2, ((5, 60.0, 30.0),))
    before = editor.track([first, other])
    tracked = editor.tracked_frames
    after = editor.track([with_query(first, 18, 49.5, 29.0), other])
    # 12 to 18 and 18 to 24, each from both ends; frame 18 belongs to both.
    assert editor.tracked_frames - tracked == 4 * 7
    outside = np.r_[0:13, 24:30]
    assert np.array_equal(after.xy[0, outside], before.xy[0, outside])
    assert np.array_equal(after.xy[1], before.xy[1])
    assert after.xy[0, 18].tolist() == [49.5, 29]
    assert not np.array_equal(after.xy[0, 13:24], before.xy[0, 13:24])
    # Nothing changed: nothing is tracked.
    tracked = editor.tracked_frames
    again = editor.track([with_query(first, 18, 49.5, 29.0), other])
    assert editor.tracked_frames == tracked
    assert np.array_equal(again.xy, after.xy)
    # As from nothing.
    fresh = PointEditor(flowchain, video).track([with_query(first, 18, 49.5, 29.0), other])
    np.testing.assert_allclose(fresh.xy, after.xy, atol=1e-3)


def test_the_frames_that_are_looked_at_come_first(flowchain):
    video = np.random.default_rng(0).integers(0, 255, (80, 32, 40, 3), dtype=np.uint8)
    editor = PointEditor(flowchain, video)
    point = EditedPoint(1, ((40, 20.0, 16.0),))
    first = editor.track([point], around=40)
    assert editor.tracked_frames == 2 * (AROUND + 1)
    assert (first.scores[0, 40 - AROUND : 41 + AROUND] > 0).any()
    assert (first.scores[0, : 40 - AROUND] == 0).all()
    whole = editor.track([point])
    np.testing.assert_allclose(whole.xy, PointEditor(flowchain, video).track([point]).xy, atol=1e-3)


def test_what_users_say_stands(flowchain, video):
    point = EditedPoint(3, ((4, 40.0, 22.0),), occluded=((8, 10),), deleted=((20, 29),))
    tracks = PointEditor(flowchain, video).track([point])
    assert not tracks.visible[0, 8:11].any()
    assert tracks.valid[0, :20].all()
    assert not tracks.valid[0, 20:].any()
    assert not tracks.visible[0, 20:].any()
    assert tracks.visible[0, [4, 7, 11]].all()


def test_a_point_is_valid_in_its_own_shot_alone(flowchain, video):
    cut = np.concatenate([video[:15], video[15:][::-1, ::-1]])
    editor = PointEditor(flowchain, cut, cuts=[15])
    tracks = editor.track([EditedPoint(1, ((3, 40.0, 22.0),)), EditedPoint(2, ((20, 40.0, 22.0),))])
    assert tracks.valid.tolist() == [[True] * 15 + [False] * 15, [False] * 15 + [True] * 15]
    with pytest.raises(CorrectionError, match="point 1 has queries in frames 3 and 20, and the video cuts to another"):
        editor.track([EditedPoint(1, ((3, 40.0, 22.0), (20, 40.0, 22.0)))])


def test_tracks_of_an_earlier_run_are_not_tracked_again(video):
    tracker = pipeline("point-tracking", model=tiny_locotrack())
    point = EditedPoint(1, ((0, 30.0, 20.0), (20, 50.0, 30.0)))
    before = PointEditor(tracker, video).track([point])
    editor = PointEditor(tracker, video)
    editor.restore([point], before)
    assert np.array_equal(editor.track([point]).xy, before.xy)
    assert editor.tracked_frames == 0
    after = editor.track([with_query(point, 25, 55, 33)])
    assert editor.tracked_frames == 2 * 6 + 5
    assert np.array_equal(after.xy[:, :20], before.xy[:, :20])


def test_one_frame_and_borders(flowchain, video):
    tracks = PointEditor(flowchain, video[:1]).track([EditedPoint(1, ((0, 90.0, 60.0),))])
    assert tracks.xy.tolist() == [[[90, 60]]]
    tracks = PointEditor(flowchain, video).track([EditedPoint(1, ((0, 0.0, 0.0), (29, 90.0, 60.0)))])
    assert tracks.xy[0, [0, 29]].tolist() == [[0, 0], [90, 60]]
    assert PointEditor(flowchain, video).track([]).xy.shape == (0, 30, 2)


GOOD = EditedPoint(1, ((0, 5.0, 5.0), (9, 6.0, 5.0)))


@pytest.mark.parametrize(
    ("points", "message"),
    [
        ([GOOD, GOOD], "two points have the id 1"),
        ([EditedPoint(1, ())], "point 1 has no query"),
        ([replace(GOOD, queries=GOOD.queries[::-1])], "not in order of time"),
        ([replace(GOOD, queries=((0, 5.0, 5.0), (0, 6.0, 5.0)))], "point 1 is in two places in frame 0: leave one out"),
        ([replace(GOOD, queries=((0, 5.0, float("nan")),))], r"point 1 is at \(5, nan\) in frame 0, outside the video"),
        ([replace(GOOD, queries=((10, 5.0, 5.0),))], "in frame 10, outside the video: frames go from 0 to 9"),
        ([replace(GOOD, queries=((0, 5.0, 20.5),))], "y to 20"),
        ([replace(GOOD, occluded=((3, 9),))], "point 1 has a query in frame 9, which is marked occluded"),
        ([replace(GOOD, deleted=((0, 2),))], "point 1 has a query in frame 0, which is marked deleted"),
        ([replace(GOOD, deleted=((5, 4),))], "frames 5 to 4 are no stretch of 10 frames"),
        ([replace(GOOD, queries=GOOD.queries[:1], occluded=((5, 10),))], "frames 5 to 10 are no stretch"),
    ],
)
def test_contradictions_are_one_line(points, message):
    with pytest.raises(CorrectionError, match=message) as error:
        check_points(points, 10, 20, 30)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([[0, 1, 2, 3], [0, 1, 2]], r"point 1 is \[0, 1, 2\], not \[t, x, y, id\]"),
        ([[0.5, 1, 2, 3]], "t and the id are whole numbers"),
        ([[0, 1, 2, float("nan")]], "t and the id are whole numbers"),
        ([[0, 1, "a", 3]], r"not \[t, x, y, id\]"),
    ],
)
def test_rows_that_are_no_points_are_one_line(rows, message):
    with pytest.raises(CorrectionError, match=message):
        points_of_rows(rows)


def test_ids_belong_to_one_video(flowchain, video):
    with pytest.raises(ValueError, match="points with ids belong to one video"):
        flowchain([video, video], points=[[0, 1, 2, 3]])
    with pytest.raises(ValueError, match="grid_size: not with points that have ids"):
        flowchain(video, points=[[0, 1, 2, 3]], grid_size=2)


@given(
    st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)).map(lambda span: (min(span), max(span)))),
    st.integers(0, 9),
)
def test_a_frame_is_taken_out_of_spans(spans, t):
    def frames(spans):
        return {frame for first, last in spans for frame in range(first, last + 1)}

    assert frames(without_frame(spans, t)) == frames(spans) - {t}
