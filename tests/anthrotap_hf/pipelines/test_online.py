"""Live tracking: frames go in one by one."""

import numpy as np
import pytest
from transformers import pipeline

from anthrotap_hf import OnlineTracker
from anthrotap_hf.models.flowchain import FlowChainConfig, FlowChainForPointTracking
from anthrotap_hf.pipelines import load_tracker
from anthrotap_hf.pipelines.online import DELAY, HISTORY, OnlineError
from helpers.trackers import tiny_alltracker, tiny_cotracker3, tiny_locotrack, tiny_tapir, tiny_tapnext

POINTS = [[40.5, 30.25], [20, 20]]


@pytest.fixture(scope="module")
def video() -> np.ndarray:
    """[20, 64, 96, 3]: a texture that moves by (1, 0.5) pixels a frame."""
    rng = np.random.default_rng(3)
    texture = np.kron(rng.integers(0, 255, (24, 32, 3)), np.ones((5, 5, 1))).astype(np.uint8)
    return np.stack([texture[30 - t // 2 : 94 - t // 2, 40 - t : 136 - t] for t in range(20)])


def run(online, video, added=None) -> dict[int, list]:
    """Feed a video, adding POINTS in its first frame and `added` {t: points} later; return outputs by frame."""
    outputs = []
    for t, frame in enumerate(video):
        found = online.step(frame)
        if found is not None:
            outputs.append(found)
        for points in [POINTS] * (t == 0) + [points for time, points in (added or {}).items() if time == t]:
            online.add(points)
            if not online.delay:
                # Its own frame, again with the points.
                outputs[-1] = online.points_now()
    outputs += online.finish()
    assert [output.t for output in outputs] == list(range(len(video)))
    return outputs


CAUSAL = {
    "flowchain": lambda: FlowChainForPointTracking(FlowChainConfig(shortest_edge=32)),
    "flowchain that looks at colors": lambda: FlowChainForPointTracking(FlowChainConfig(max_color_change=8.0)),
    "tapnext": tiny_tapnext,
    "causal tapir": lambda: tiny_tapir(causal=True),
}


@pytest.mark.parametrize("kind", CAUSAL)
def test_causal_trackers_give_the_answers_of_the_whole_clip(kind, video):
    tracker = pipeline("point-tracking", model=CAUSAL[kind]())
    online = OnlineTracker(tracker)
    assert online.delay == 0
    outputs = run(online, video)
    whole = tracker(video, points=[[0, *point] for point in POINTS], outside=True)
    for t, output in enumerate(outputs):
        assert output.ids == [0, 1]
        inside = ((whole["tracks"][:, t] >= 0) & (whole["tracks"][:, t] <= [96, 64])).all(-1)
        for n in np.flatnonzero(inside):
            # From where a point has left the frame on, the pipeline replaces what the tracker says.
            if ((whole["tracks"][n, : t + 1] >= 0) & (whole["tracks"][n, : t + 1] <= [96, 64])).all():
                np.testing.assert_allclose(output.xy[n], whole["tracks"][n, t], atol=2e-3)
                np.testing.assert_allclose(output.scores[n], whole["scores"][n, t], atol=1e-3)
                assert output.visible[n] == whole["visible"][n, t]


def test_points_that_come_later_are_those_of_the_clip_from_there_on(video):
    tracker = pipeline("point-tracking", model=CAUSAL["flowchain"]())
    outputs = run(OnlineTracker(tracker), video, {7: [[60, 40]], 12: [[30, 30]]})
    assert [output.ids for output in outputs[:8]] == [[0, 1]] * 7 + [[0, 1, 2]]
    assert outputs[-1].ids == [0, 1, 2, 3]
    late = tracker(video[7:], points=[[0, 60, 40]])["tracks"][0]
    np.testing.assert_allclose([output.xy[2] for output in outputs[7:]], late, atol=1e-3)


def test_cotracker_is_final_after_a_window(video):
    tracker = pipeline("point-tracking", model=tiny_cotracker3(online=True))
    online = OnlineTracker(tracker)
    assert online.delay == 3
    outputs = run(online, video)
    whole = tracker(video, points=[[0, *point] for point in POINTS], outside=True)
    inside = ((whole["tracks"] >= 0) & (whole["tracks"] <= [96, 64])).all(-1)
    for n in range(2):
        until = len(video) if inside[n].all() else int(np.argmin(inside[n]))
        np.testing.assert_allclose([output.xy[n] for output in outputs[:until]], whole["tracks"][n, :until], atol=2e-3)


@pytest.mark.parametrize("make", [tiny_locotrack, None])
def test_locotrack_is_given_a_few_frames_late(video, make):
    tracker = load_tracker() if make is None else pipeline("point-tracking", model=make())
    online = OnlineTracker(tracker)
    assert online.delay == DELAY
    assert online.step(video[0]) is None
    outputs = run(OnlineTracker(tracker), video)
    if make is None:
        truth = np.array(POINTS)[:, None] + np.stack([np.arange(20), np.arange(20) // 2], axis=-1)
        found = np.stack([output.xy for output in outputs], axis=1)
        assert np.median(np.abs(found - truth)) < 0.5
        assert np.abs(found - truth).max() < 2


def test_points_are_added_in_kept_frames_and_dropped(video):
    online = OnlineTracker(pipeline("point-tracking", model=CAUSAL["flowchain"]()))
    for frame in video[:10]:
        online.step(frame)
    assert online.add([[40, 30]], t=4) == [0]
    assert online.add([[50, 30], [20, 30]]) == [1, 2]
    assert online.add([]) == []
    online.drop([1])
    # As OpenCV's BGR is made RGB.
    output = online.step(np.ascontiguousarray(video[10][..., ::-1])[..., ::-1])
    assert output.ids == [0, 2]
    # Since frame 4 it has moved by six pixels.
    np.testing.assert_allclose(output.xy[0], [46, 33], atol=1.5)
    online.drop([0, 2])
    assert online.step(video[11]).ids == []
    with pytest.raises(OnlineError, match="no point 0 is followed"):
        online.drop([0])


def test_what_does_not_fit_is_one_line(video):
    online = OnlineTracker(pipeline("point-tracking", model=CAUSAL["flowchain"]()))
    with pytest.raises(OnlineError, match="no frame was fed yet"):
        online.add([[1, 2]])
    online.step(video[0])
    for points, message in (
        ([[97, 2]], r"a point is at \(97, 2\), outside the frame of 96x64"),
        ([[np.nan, 2]], "outside the frame"),
    ):
        with pytest.raises(OnlineError, match=message):
            online.add(points)
    with pytest.raises(OnlineError, match="frames were 96x64, and frame 1 is 64x32"):
        online.step(video[1, :32, :64])
    with pytest.raises(OnlineError, match=r"a frame must be \[H, W, 3\] uint8 RGB, got float64"):
        online.step(video[1] / 255)
    for frame in [video[0]] * HISTORY:
        online.step(frame)
    with pytest.raises(OnlineError, match=f"frame 0 is not kept: points are added in frames 1 to {HISTORY}"):
        online.add([[1, 2]], t=0)
    with pytest.raises(OnlineError, match="CoTracker3ForPointTracking needs the whole clip; live tracking takes"):
        OnlineTracker(pipeline("point-tracking", model=tiny_cotracker3()))
    with pytest.raises(OnlineError, match="AllTrackerForPointTracking needs the whole clip"):
        OnlineTracker(pipeline("point-tracking", model=tiny_alltracker()))
