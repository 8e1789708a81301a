import numpy as np
import pytest

from anthrotap_hf.evaluation.metrics import THRESHOLDS
from anthrotap_hf.evaluation.redetection import MIN_GAPS, mean_redetection, redetections


@pytest.mark.parametrize("name", ["1", "2", "none"])
def test_re_detection_is_the_released_one(name, reference):
    case = reference(f"metric_redetection_{name}")
    # Released cases are [B, T, N]: frames first.
    names = ("gt_tracks_xy", "gt_visible", "pred_tracks_xy", "pred_visible")
    events = []
    for b in range(len(case["gt_visible"])):
        for event in redetections(*(case[name][b].swapaxes(0, 1) for name in names)):
            events.append((b, event.frame, event.track, event.gap, *event.jaccard))
    if name == "none":
        assert events == []
    else:
        columns = ["event_b", "event_t", "event_n", "event_duration", *(f"event_jaccard_{d}" for d in THRESHOLDS)]
        expected = np.stack([case[column] for column in columns], 1)
        np.testing.assert_allclose(sorted(events), expected[np.lexsort(expected[:, 2::-1].T)], atol=1e-6)
    found = mean_redetection((gap, tuple(jaccard)) for _, _, _, gap, *jaccard in events)
    for key in ("AJ_RD", *(f"AJ_RD_dmin{gap}" for gap in MIN_GAPS)):
        assert (np.nan if found[key] is None else found[key]) == pytest.approx(
            case[f"metric_{key}"], abs=1e-5, nan_ok=True
        )


def test_a_point_that_is_asked_for_later_does_not_come_back_at_its_query():
    visible = np.array([[0, 0, 0, 1, 0, 0, 1, 1], [1, 0, 1, 0, 1, 0, 0, 1]], bool)
    tracks = np.zeros((2, 8, 2))
    exact = tracks, visible, tracks, visible
    assert [(event.track, event.frame, event.gap) for event in redetections(*exact)] == [
        (1, 2, 1),
        (0, 3, 3),
        (1, 7, 2),
    ]
    asked = redetections(*exact, query_frames=np.array([3, 2]))
    # The gap before the query of track 1 no longer hides the equally long one after it.
    assert [(event.track, event.frame, event.gap) for event in asked] == [(1, 4, 1), (0, 6, 2), (1, 7, 2)]
    assert {event.jaccard for event in asked} == {(1.0,) * 5}
    # Invalid labels are parts of gaps, and not scored.
    valid = np.ones_like(visible)
    valid[0, 6] = False
    later = redetections(tracks, visible, tracks, ~visible, valid, np.array([3, 2]))
    assert [(event.track, event.frame, event.gap) for event in later if event.track == 0] == [(0, 7, 3)]
    with pytest.raises(ValueError, match="must both be"):
        redetections(tracks[:, :3], visible, tracks, visible)
