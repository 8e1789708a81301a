"""The definitions of `anthrotap stats`: what they are invariant to, and their values where the result is known."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from anthrotap_hf.evaluation.dataset_statistics import Distribution
from anthrotap_hf.evaluation.track_statistics import (
    angular_acceleration,
    at_resolution,
    displacements,
    extents,
    num_reappearances,
    run_lengths,
    speeds,
    trajectory_complexity,
    trajectory_diversity,
)

# Positions on a lattice: steps are of length 0, or far longer than rounding.
tracks = st.integers(0, 5).flatmap(
    lambda n: st.integers(1, 12).flatmap(
        lambda t: st.tuples(
            arrays(np.int64, (n, t, 2), elements=st.integers(-50, 50)).map(np.float64),
            arrays(bool, (n, t)),
        )
    )
)


def all_visible(xy: np.ndarray) -> np.ndarray:
    return np.ones(xy.shape[:2], bool)


def rotation(angle: float) -> np.ndarray:
    return np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])


def path_of_turns(turns: np.ndarray, length: float = 1.0) -> np.ndarray:
    """[1, T, 2]: steps of one length, whose direction changes by each turn."""
    angle = np.concatenate([[0.3], 0.3 + np.cumsum(turns)])
    step = length * np.stack([np.cos(angle), np.sin(angle)], -1)
    return np.concatenate([np.zeros((1, 2)), np.cumsum(step, 0)])[None]


@given(tracks, st.floats(-7, 7), st.floats(0.1, 20), st.booleans(), st.floats(-1000, 1000))
def test_complexity_is_invariant_to_position_rotation_scale_and_mirroring(made, angle, scale, mirrored, shift):
    xy, visible = made
    moved = scale * xy @ rotation(angle).T + shift
    if mirrored:
        moved = moved * [-1, 1]
    found = trajectory_complexity(xy, visible, 0.5)
    np.testing.assert_allclose(trajectory_complexity(moved, visible, 0.5 * scale), found, atol=1e-6)
    assert found.shape == (len(xy),)
    assert ((found >= 0) & (found <= np.pi + 1e-9) | np.isnan(found)).all()


@given(tracks)
def test_complexity_is_the_same_backwards(made):
    xy, visible = made
    np.testing.assert_allclose(
        trajectory_complexity(xy[:, ::-1], visible[:, ::-1]), trajectory_complexity(xy, visible), atol=1e-9
    )


@given(tracks, st.floats(allow_nan=True, allow_infinity=True))
@settings(deadline=None)
@pytest.mark.filterwarnings("error")
def test_positions_that_are_not_visible_do_not_count(made, anything):
    xy, visible = made
    other = np.where(visible[..., None], xy, anything)
    for measure in (trajectory_complexity, trajectory_diversity, speeds, displacements, extents):
        np.testing.assert_array_equal(measure(other, visible), measure(xy, visible))


@given(st.floats(-3, 3), st.floats(0.01, 100), st.integers(4, 40), st.floats(-3.1, 3.1))
def test_lines_and_circles_at_constant_speed_are_not_complex(start, length, num_frames, turn):
    for turns in (np.zeros(num_frames - 2), np.full(num_frames - 2, turn)):
        xy = path_of_turns(turns, length) @ rotation(start).T
        np.testing.assert_allclose(trajectory_complexity(xy, all_visible(xy)), 0, atol=1e-6)


@given(st.floats(0.01, np.pi / 2), st.integers(4, 40))
def test_a_zigzag(turn, num_frames):
    xy = path_of_turns(turn * (-1.0) ** np.arange(num_frames - 2))
    np.testing.assert_allclose(trajectory_complexity(xy, all_visible(xy)), 2 * turn, atol=1e-6)


@given(arrays(np.float64, st.integers(2, 20), elements=st.floats(-1.5, 1.5)))
def test_it_is_the_mean_change_of_turning(turns):
    xy = path_of_turns(turns)
    expected = np.abs(np.diff(turns))
    np.testing.assert_allclose(angular_acceleration(xy, all_visible(xy))[0], expected, atol=1e-6)
    np.testing.assert_allclose(trajectory_complexity(xy, all_visible(xy))[0], expected.mean(), atol=1e-6)


def test_turning_back_along_a_line():
    """There and back, three steps each: every fold is a half turn that comes and goes."""
    x = np.array([0, 1, 2, 3, 2, 1, 0, 1, 2, 3.0])
    xy = np.stack([x, np.zeros_like(x)], -1)[None]
    found = angular_acceleration(xy, all_visible(xy))[0]
    np.testing.assert_allclose(found, [0, np.pi, np.pi, 0, np.pi, np.pi, 0])


@given(st.integers(0, 3))
def test_nothing_is_measured_across_a_gap_or_a_stop(gap):
    xy = path_of_turns(np.linspace(0, 1, 9) ** 2)
    visible = all_visible(xy)
    visible[0, 4 + gap : 6 + gap] = False
    whole, broken = angular_acceleration(xy, all_visible(xy)), angular_acceleration(xy, visible)
    kept = ~np.isnan(broken)
    np.testing.assert_array_equal(kept[0], [visible[0, t : t + 4].all() for t in range(xy.shape[1] - 3)])
    np.testing.assert_array_equal(broken[kept], whole[kept])
    still = xy.copy()
    still[0, 6:] -= still[0, 6] - still[0, 5]
    stopped = angular_acceleration(still, all_visible(xy))[0]
    assert np.isnan(stopped[3:6]).all()
    assert not np.isnan(np.delete(stopped, [3, 4, 5])).any()


def test_steps_that_are_too_short_have_no_direction():
    xy = path_of_turns(np.zeros(8), length=0.4)
    assert trajectory_complexity(xy, all_visible(xy), 0.3) == pytest.approx(0)
    assert np.isnan(trajectory_complexity(xy, all_visible(xy), 0.5))


@given(tracks, arrays(np.float64, (12, 2), elements=st.floats(-100, 100)), st.floats(0.1, 10), st.floats(-7, 7))
def test_diversity_is_invariant_to_common_motion(made, common, scale, angle):
    xy, visible = made
    moved = scale * xy @ rotation(angle).T + common[: xy.shape[1]]
    expected = scale * trajectory_diversity(xy, visible)
    np.testing.assert_allclose(trajectory_diversity(moved, visible), expected, atol=1e-6)


@given(tracks, arrays(np.float64, (5, 1, 2), elements=st.floats(-100, 100)))
def test_diversity_is_invariant_to_positions(made, positions):
    xy, visible = made
    moved = xy + positions[: len(xy)]
    np.testing.assert_allclose(trajectory_diversity(moved, visible), trajectory_diversity(xy, visible), atol=1e-6)


@given(st.floats(0, 5), st.integers(2, 20))
def test_two_points_that_part_steadily(speed, num_frames):
    t = np.arange(num_frames)
    xy = np.stack([np.stack([7 + 0 * t, 0 * t], -1), np.stack([speed * t, 3 + 0 * t], -1)]).astype(float)
    expected = speed * (num_frames - 1 + 1) / 2  # the mean of speed * 1, ..., speed * (T - 1)
    assert trajectory_diversity(xy, all_visible(xy)) == pytest.approx(expected)


def test_diversity_of_drawn_pairs_is_near_that_of_all():
    rng = np.random.default_rng(0)
    xy, visible = np.cumsum(rng.normal(size=(120, 30, 2)), 1), rng.random((120, 30)) < 0.8
    every, drawn = trajectory_diversity(xy, visible, 10_000), trajectory_diversity(xy, visible, 2000)
    assert drawn == trajectory_diversity(xy, visible, 2000)
    assert every != drawn == pytest.approx(every, rel=0.05)


def test_diversity_without_pairs():
    assert np.isnan(trajectory_diversity(np.zeros((1, 5, 2)), np.ones((1, 5), bool)))
    assert np.isnan(trajectory_diversity(np.zeros((3, 5, 2)), np.zeros((3, 5), bool)))
    assert np.isnan(trajectory_diversity(np.zeros((0, 5, 2)), np.zeros((0, 5), bool)))


@given(arrays(bool, st.tuples(st.integers(0, 4), st.integers(0, 12))))
def test_run_lengths_and_reappearances(flags):
    expected = [len(run) for row in flags for run in "".join("x" if f else " " for f in row).split()]
    assert run_lengths(flags).tolist() == expected
    runs = ["".join("x" if flag else " " for flag in row).split() for row in flags]
    assert num_reappearances(flags).tolist() == [max(len(row) - 1, 0) for row in runs]


def test_motion():
    xy = np.array([[[0, 0], [3, 4], [3, 4], [np.nan, np.nan], [0, 8]], [[9, 9]] * 5])
    visible = np.array([[True, True, True, False, True], [False] * 5])
    nan = np.nan
    np.testing.assert_array_equal(speeds(xy, visible), [[5, 0, nan, nan], [nan] * 4])
    np.testing.assert_array_equal(displacements(xy, visible), [[nan, 5, 5, nan, 8], [nan] * 5])
    np.testing.assert_array_equal(extents(xy, visible), [np.hypot(3, 8), nan])
    np.testing.assert_array_equal(at_resolution(np.array([[[854.0, 240]]]), 480, 854), [[[256, 128]]])


@given(st.lists(st.lists(st.integers(0, 86), max_size=20), max_size=5), st.floats(0, 1))
def test_quantiles_of_small_whole_numbers_are_exact(parts, fraction):
    found = Distribution()
    for part in parts:
        found.add(np.array([*part, np.nan]))
    values = sorted(value for part in parts for value in part)
    if not values:
        assert found.quantile(fraction) is found.mean is None
        return
    assert found.mean == pytest.approx(np.mean(values))
    assert found.quantile(fraction) == values[max(int(np.ceil(round(fraction * len(values), 9))), 1) - 1]


@given(st.lists(st.floats(0.001, 1e5), min_size=1, max_size=50), st.floats(0, 1))
def test_other_quantiles_are_within_a_bin(values, fraction):
    assume(all(abs(fraction * len(values) - n) > 1e-6 for n in range(len(values) + 1)))
    found = Distribution()
    found.add(np.array(values))
    expected = sorted(values)[max(int(np.ceil(fraction * len(values))), 1) - 1]
    assert found.quantile(fraction) == pytest.approx(expected, rel=0.012)
    assert found.count == len(values)
