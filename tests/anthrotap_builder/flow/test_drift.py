import numpy as np
import pytest

from anthrotap_builder.flow.drift import follow_points, measure_drift
from anthrotap_builder.flow.track_flow import LAGS, TrackFlow

T = 40


def flows(truth: np.ndarray, noise: float, lags: tuple[int, ...]) -> list[TrackFlow]:
    """Flow at points that truly move as `truth` [N, T, 2], with an error of `noise` pixels in each measurement."""
    rng = np.random.default_rng(0)
    found = []
    for lag in lags:
        start = np.arange(0, T - lag, LAGS[lag])
        displacement = truth[:, start + lag] - truth[:, start]
        displacement = displacement + rng.normal(0, noise, displacement.shape)
        found.append(TrackFlow(lag, start, displacement, np.zeros(displacement.shape[:2])))
    return found


def tracks_and_truth(slide: float) -> tuple[np.ndarray, np.ndarray]:
    """Twenty points; their tracks slide off them by `slide` pixels in all."""
    truth = np.cumsum(np.random.default_rng(1).normal(0, 2, (20, T, 2)), axis=1) + 100
    return truth + np.linspace(0, slide, T)[:, None] * [1.0, 0.0], truth


@pytest.mark.parametrize("lags", [(1,), (1, 8, 24)])
def test_drift_is_what_the_track_slides(lags: tuple[int, ...]):
    xy, truth = tracks_and_truth(3.0)
    drift = measure_drift(xy, np.ones((20, T), bool), flows(truth, 0, lags), 0.7, unit=1.0)
    np.testing.assert_allclose(drift - drift[:, :1], xy - truth - (xy - truth)[:, :1], atol=1e-6)


def test_comparisons_over_many_frames_hold_the_errors_of_single_steps():
    xy, truth = tracks_and_truth(0.0)
    visible = np.ones((20, T), bool)
    errors = [
        np.abs(measure_drift(xy, visible, flows(truth, 0.3, lags), 0.7, 1.0)[:, -1]).mean()
        for lags in ((1,), (1, 8, 24))
    ]
    assert errors[1] < 0.6 * errors[0]


def test_a_false_match_over_many_frames_does_not_move_the_drift():
    xy, truth = tracks_and_truth(0.0)
    found = flows(truth, 0.05, (1, 8, 24))
    found[2].displacement[:, 0] += 3.5
    drift = measure_drift(xy, np.ones((20, T), bool), found, 0.7, 1.0)
    assert np.abs(drift).max() < 1


def test_while_a_point_is_not_visible_its_track_is_taken_at_its_word():
    xy, truth = tracks_and_truth(0.0)
    visible = np.ones((20, T), bool)
    visible[:, 10:20] = False
    found = flows(truth, 0, (1,))
    found[0].displacement[:, 10:19] += 5
    np.testing.assert_allclose(measure_drift(xy, visible, found, 0.7, 1.0), 0, atol=1e-6)


def test_pixels_scale_with_the_frame():
    xy, truth = tracks_and_truth(3.0)
    visible = np.ones((20, T), bool)
    one = measure_drift(xy, visible, flows(truth, 0, (1, 8, 24)), 0.7, 1.0)
    two = measure_drift(2 * xy, visible, flows(2 * truth, 0, (1, 8, 24)), 0.7, 2.0)
    np.testing.assert_allclose(one, two, atol=1e-6)


def follow(xy: np.ndarray, found: list[TrackFlow], visible: np.ndarray | None = None):
    visible = np.ones(xy.shape[:2], bool) if visible is None else visible
    return follow_points(xy, visible, visible, found, 0.7, unit=1.0, radius=1.5)


def test_a_point_is_where_the_drift_says():
    xy, truth = tracks_and_truth(4.0)
    points = follow(xy, flows(truth, 0.1, (1, 8, 24)))
    assert points.track.tolist() == list(range(20))
    assert points.frames.all()
    error = xy - points.drift - truth
    # Up to a constant: the point that the track is on in most frames within 1.5 px of each other, not at an end.
    assert np.linalg.norm(error - error.mean(1, keepdims=True), axis=-1).max() < 0.8
    np.testing.assert_allclose(error.mean(1), np.broadcast_to([2.0, 0.0], (20, 2)), atol=0.8)


def test_the_further_from_most_frames_the_less_certain():
    xy, truth = tracks_and_truth(2.0)
    near = follow(xy, flows(truth, 0, (1,))).uncertainty
    assert (near.max(1) > 2 * near.min(1)).all()
    # Comparisons over many frames tie them closer together.
    assert (follow(xy, flows(truth, 0, (1, 8, 24))).uncertainty[:20].mean(1) < near[:20].mean(1)).all()


def test_where_flow_is_lost_a_track_goes_on_with_another_point():
    xy, truth = tracks_and_truth(0.0)
    xy[:5, 25:] += 9.0
    found = flows(truth, 0, (1, 8, 24))
    for flow in found:
        across = (flow.start < 25) & (flow.start + flow.lag >= 25)
        flow.fb_error[:5, across] = 9.0
    points = follow(xy, found)
    assert points.track.tolist() == [*range(20), *range(5)]
    np.testing.assert_array_equal(points.frames[:5], np.broadcast_to(np.arange(T) < 25, (5, T)))
    np.testing.assert_array_equal(points.frames[20:], np.broadcast_to(np.arange(T) >= 25, (5, T)))
    assert np.abs(points.drift[points.frames]).max() < 0.3


def test_tracks_without_enough_labels_follow_nothing():
    xy, truth = tracks_and_truth(0.0)
    visible = np.zeros((20, T), bool)
    visible[:, :2] = True
    points = follow(xy, flows(truth, 0, (1, 8, 24)), visible)
    assert points.drift.shape == (0, T, 2)
    assert points.frames.shape == points.uncertainty.shape == (0, T)


@pytest.mark.parametrize("gap", [1, 2])
@pytest.mark.parametrize("hidden", [True, False])
def test_a_track_follows_its_point_past_a_gap_unless_its_mesh_jumped(gap, hidden):
    truth = np.full((2, T, 2), 100.0)
    xy = truth.copy()
    xy[1, 20 + gap :] += 30.0
    visible = np.ones((2, T), bool)
    visible[:, 20 : 20 + gap] = False
    if not hidden:
        # There is no mesh.
        xy[:, 20 : 20 + gap] = np.nan
    points = follow(xy, flows(truth, 0, (1, 8, 24)), visible)
    assert points.track[:2].tolist() == [0, 1]
    assert points.frames[0, ~np.isin(np.arange(T), np.arange(20, 20 + gap))].all()
    # The jumped part is of another point.
    assert not points.frames[1, :20].any() or not points.frames[1, 20 + gap :].any()


def test_fast_motion_is_no_jump():
    # It speeds up to 12 pixels a frame, and flow is lost at its fastest.
    truth = np.full((3, T, 2), 100.0)
    truth[..., 0] += np.cumsum(12 * np.sin(np.linspace(0, np.pi, T)))
    found = flows(truth, 0, (1, 8, 24))
    found[0].fb_error[:, 19:21] = 9.0
    points = follow(truth, found)
    assert points.track.tolist() == [0, 1, 2]
    assert points.frames.all()
