import numpy as np
import pytest

from anthrotap_hf.evaluation import tapvid_metrics
from anthrotap_hf.evaluation.metrics import METRICS, THRESHOLDS
from anthrotap_hf.evaluation.trajectories import egopoints_metrics, trajectory_metrics


def arguments(case, *names: str) -> tuple[list[np.ndarray], dict[str, int]]:
    """Arrays of a released case, which has frames first, and the size of its frames."""
    size = dict(zip(("height", "width"), case["height_width"].tolist(), strict=True))
    return [case[name].swapaxes(0, 1) for name in names], size


def test_pointodyssey_s_metrics_are_the_released_ones(reference):
    case = reference("metric_pointodyssey")
    arrays, size = arguments(case, "gt_tracks_xy", "gt_valid", "pred_tracks_xy")
    found = trajectory_metrics(*arrays, **size)
    for name in ("d_avg", "survival", *(f"d_{k}" for k in THRESHOLDS)):
        assert 100 * found[name] == pytest.approx(case[f"metric_{name}"], abs=1e-4)
    assert found["median_error"] == pytest.approx(case["metric_median_l2"], abs=1e-5)


def test_egopoints_metrics_are_the_released_ones(reference):
    case = reference("metric_egopoints")
    names = ("gt_tracks_xy", "gt_valid", "gt_out_of_view", "gt_occluded", "pred_tracks_xy")
    arrays, size = arguments(case, *names)
    ours = egopoints_metrics(*arrays, **size)
    released = {
        "d_star_avg": "new_d_all_avg",
        "in_view_accuracy": "in_view",
        "out_of_view_accuracy": "out_of_view",
        "reidentified": "RE_ID_acc",
    }
    for name, theirs in released.items():
        assert 100 * ours[name] == pytest.approx(case[f"metric_{theirs}"], abs=1e-4)
    found = trajectory_metrics(*arrays[:2], arrays[-1], **size)
    for name in ("avg", *map(str, THRESHOLDS)):
        theirs = name if name == "avg" else f"{name}.0"
        assert 100 * found[f"d_{name}"] == pytest.approx(case[f"metric_old_d_all_{theirs}"], abs=1e-4)
    assert found["median_error"] == pytest.approx(case["metric_median_l2"], abs=1e-5)


def test_alltracker_s_metrics_are_tapvid_s_on_tracks_scaled_by_its_corners(reference):
    case = reference("metric_alltracker")
    height, width = case["height_width"]
    scale = np.array([255 / (width - 1), 255 / (height - 1)])
    found = tapvid_metrics(
        case["query_points_tyx"][:, [0, 2, 1]],
        case["gt_tracks_xy"] * scale,
        ~case["gt_occluded"],
        case["pred_tracks_xy"] * scale,
        ~case["pred_occluded"],
        "first",
    )
    for name in METRICS:
        assert found[name] == pytest.approx(case[f"metric_{name}"][0], abs=1e-5), name


def test_tapvid_s_metrics_of_single_tracks_are_the_released_ones(reference):
    case = reference("metric_alltracker")
    height, width = case["height_width"]
    scale = np.array([256 / width, 256 / height])
    for n in range(len(case["gt_occluded"])):
        one = slice(n, n + 1)
        found = tapvid_metrics(
            case["query_points_tyx"][one][:, [0, 2, 1]],
            case["gt_tracks_xy"][one] * scale,
            ~case["gt_occluded"][one],
            case["pred_tracks_xy"][one] * scale,
            ~case["pred_occluded"][one],
            "first",
        )
        for name in METRICS:
            # Where there is nothing to score, ours is 1.
            expected = np.nan_to_num(case[f"trackwise_{name}"][n], nan=1.0)
            assert found[name] == pytest.approx(expected, abs=1e-5), (n, name)


def test_trajectories_count_from_their_queries():
    truth = np.zeros((2, 6, 2))
    valid = np.ones((2, 6), bool)
    valid[1, 3] = False
    found = truth.copy()
    found[0, :3] = 1000  # before its query
    found[0, 5] = 17, 0
    found[1, 3] = np.nan  # not valid
    found[1, 4] = 3, 0
    result = trajectory_metrics(truth, valid, found, height=256, width=256, query_frames=np.array([3, 0]))
    # Six labels come after a query; one is off by 3 and one by 17 pixels. Of nine frames from queries on, one is lost.
    assert result == pytest.approx(
        {
            "d_1": 4 / 6,
            "d_2": 4 / 6,
            "d_4": 5 / 6,
            "d_8": 5 / 6,
            "d_16": 5 / 6,
            "d_avg": 23 / 30,
            "survival": 8 / 9,
            "median_error": 0,
        }
    )
    nothing = trajectory_metrics(truth, np.zeros_like(valid), found, height=256, width=256)
    assert nothing["d_avg"] is None
    assert nothing["median_error"] is None
