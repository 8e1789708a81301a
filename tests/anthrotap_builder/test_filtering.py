import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from anthrotap_builder import filtering
from anthrotap_builder.config import FilterSettings
from anthrotap_builder.detection import PersonTrack
from anthrotap_builder.filtering import _contradicted, filter_labels, filter_tracks, why_no_track
from anthrotap_builder.flow.track_flow import TrackFlow
from anthrotap_builder.mesh_recovery import MeshTrack
from anthrotap_builder.surface_tracks import SurfaceTracks
from anthrotap_hf.tracks import Tracks
from helpers.clip_contexts import clip_context

T, SIZE = 20, 256  # thresholds are in pixels of a frame with a short side of 256: here, pixels


def scene(motion: tuple[float, float] = (2.0, 1.0), tracks: int = 5, frames: int = T):
    """Everything moves by `motion` a frame, and flow agrees."""
    start = np.random.default_rng(0).uniform(80, 120, (tracks, 1, 2))
    xy = (start + np.arange(frames)[None, :, None] * np.array(motion)).astype(np.float32)
    forward = np.broadcast_to(np.array(motion, np.float32), (frames - 1, SIZE, SIZE, 2)).copy()
    return xy, np.ones((tracks, frames), bool), forward, -forward


def test_points_that_move_with_the_flow_are_valid():
    assert filter_tracks(*scene()).all()


def test_a_slow_slide_is_invalid_though_every_step_is_small():
    xy, visible, forward, backward = scene()
    xy[0, :, 0] += 0.4 * np.arange(T)  # 0.4 px a step: within the tolerance of a step, 8 px in all
    valid = filter_tracks(xy, visible, forward, backward)
    assert valid[1:].all()
    radius = FilterSettings().max_drift
    assert 2 * radius / 0.4 - 1 <= valid[0].sum() <= 2 * radius / 0.4 + 1


def test_a_jump_ends_one_segment():
    xy, visible, forward, backward = scene()
    xy[0, 14:] += 12.0
    valid = filter_tracks(xy, visible, forward, backward)
    assert valid[0].tolist() == [True] * 14 + [False] * 6


def test_unreliable_flow_makes_no_label_valid():
    xy, visible, forward, backward = scene()
    backward[5:9] += 7.0
    valid = filter_tracks(xy, visible, forward, backward)
    # Steps 5 to 8 are not flow-consistent: frames 6 to 8 have neither neighbor, 5 and 9 have one each.
    assert not valid[:, 6:9].any()
    assert valid[:, [5, 9]].all()


def test_a_jump_under_unreliable_flow_is_invalid():
    xy, visible, forward, backward = scene()
    xy[0, 12:] += 40.0
    backward[11] += 9.0
    valid = filter_tracks(xy, visible, forward, backward)
    assert valid[0].tolist() == [True] * 12 + [False] * 8
    assert valid[1:].all()


def test_an_occluded_label_is_valid_near_a_valid_visible_one(monkeypatch: pytest.MonkeyPatch):
    xy, visible, forward, backward = scene(frames=40)
    visible[0, 10:14] = False
    visible[1, 5:] = False
    visible[2, 20:] = False
    xy[2, :20] += np.cumsum(np.random.default_rng(1).normal(0, 6, (20, 2)), 0)  # never valid
    monkeypatch.setattr(filtering, "MAX_FRAMES_FROM_VISIBLE", 8)
    valid = filter_tracks(xy, visible, forward, backward)
    assert valid[0].all()
    assert valid[1].tolist() == [True] * 13 + [False] * 27
    assert not valid[2].any()


def test_the_papers_rule_rejects_steps_and_accepts_a_slide():
    xy, visible, forward, backward = scene()
    xy[0, :, 0] += 0.4 * np.arange(T)
    xy[1, 14:] += 12.0
    valid = filter_tracks(xy, visible, forward, backward, FilterSettings(rule="steps"))
    assert valid[0].all()
    assert valid[1].tolist() == [True] * 13 + [False] * 2 + [True] * 5
    assert valid[2:].all()


def test_without_a_rule_all_in_the_frame_is_valid():
    xy, visible, forward, backward = scene()
    xy[0, 10:] += 30.0
    xy[1] -= 1000
    visible[2, 5:9] = False
    valid = filter_tracks(xy, visible, forward, backward, FilterSettings(rule="none"))
    assert valid[[0, 2, 3, 4]].all()
    assert not valid[1].any()


def test_a_track_that_is_mostly_invalid_is_rejected_whole():
    xy, visible, forward, backward = scene()
    xy[0] += np.cumsum(np.random.default_rng(1).normal(0, 6, (T, 2)), 0)
    assert not filter_tracks(xy, visible, forward, backward)[0].any()


def test_outside_the_frame_and_without_a_position_nothing_is_valid():
    xy, visible, forward, backward = scene()
    xy[0] -= 1000
    xy[1, 4:8] = np.nan
    valid = filter_tracks(xy, visible, forward, backward)
    assert not valid[0].any()
    assert valid[1].tolist() == [True] * 4 + [False] * 4 + [True] * 12


def test_one_frame_cannot_be_checked():
    xy, visible, _, _ = scene(frames=2)
    empty = np.zeros((0, SIZE, SIZE, 2), np.float32)
    assert not filter_tracks(xy[:, :1], visible[:, :1], empty, empty).any()


def test_shapes_that_disagree_are_rejected():
    xy, visible, forward, backward = scene()
    with pytest.raises(ValueError, match="xy must be"):
        filter_tracks(xy[:-1], visible, forward, backward)
    with pytest.raises(ValueError, match="flows must be"):
        filter_tracks(xy, visible, forward[1:], backward[1:])


@settings(deadline=None, max_examples=15)
@given(st.integers(0, 1000), st.floats(0.3, 3))
def test_thresholds_scale_with_the_frame(seed: int, scale: float):
    """The same scene at another size gives the same valid labels."""
    xy, visible, forward, backward = scene()
    rng = np.random.default_rng(seed)
    xy += np.cumsum(rng.normal(0, 0.6, xy.shape), 1).astype(np.float32)
    visible &= rng.random(visible.shape) < 0.9
    size = round(SIZE * scale)
    scale = size / SIZE

    def resized(flow: np.ndarray) -> np.ndarray:
        return np.broadcast_to(flow[:, :1, :1] * scale, (T - 1, size, size, 2)).astype(np.float32)

    small = filter_tracks(xy, visible, forward, backward)
    large = filter_tracks(xy * scale, visible, resized(forward), resized(backward))
    assert (small != large).mean() < 0.02  # rounding at a threshold


def filtered(
    visible: np.ndarray,
    certain: np.ndarray,
    mask: np.ndarray,
    self_occluded: np.ndarray | None = None,
    slide: float = 0.0,
    right: float = 0.0,
    **settings: object,
):
    """Five points that go with the flow, in a person's mask [T, H, W]; what occludes them is their own body.

    Their mesh slides off them by `slide` pixels in all; they are `right` pixels to the right of where `scene` has them.
    """
    xy = scene()[0] + np.array([right, 0], np.float32)
    self_occluded = ~visible if self_occluded is None else self_occluded
    flow = [
        TrackFlow(lag, np.arange(T - lag), xy[:, lag:] - xy[:, :-lag], np.zeros((5, T - lag), np.float32))
        for lag in (1, 8)
    ]
    xy = xy + np.linspace(-slide / 2, slide / 2, T, dtype=np.float32)[:, None] * np.array([1, 0], np.float32)
    points = SurfaceTracks(xy, visible, certain, self_occluded, np.zeros(5, np.int32), np.zeros(5, np.int32))
    person = PersonTrack(np.zeros((T, 4), np.float32), mask=mask)
    context = clip_context(np.zeros((T, SIZE, SIZE, 3), np.uint8), filter=settings)
    return filter_labels(context, points, [person], flow)


def test_labels_of_a_mesh_that_slides_stay_on_the_points():
    everywhere, mask = np.ones((5, T), bool), np.ones((T, SIZE, SIZE), bool)
    tracks, rejected_fraction = filtered(everywhere, everywhere, mask, slide=5.0)
    truth, _, _, _ = scene()
    assert tracks.valid.all()
    assert rejected_fraction == 0
    np.testing.assert_allclose(tracks.xy, truth, atol=0.8)  # the mesh was off by 2.5 at both ends
    # The further the mesh was off, the less certain.
    assert (tracks.confidence[:, 0] < tracks.confidence[:, T // 2]).all()
    # Where the point has left its person's mask, it is not his.
    mask[12:, :, : int(truth[..., 0].max()) + 2] = False
    assert not filtered(everywhere, everywhere, mask, slide=5.0)[0].valid[:, 12:].any()


def test_labels_outside_the_mask_are_invalid_unless_masks_are_not_used():
    everywhere, mask = np.ones((5, T), bool), np.ones((T, SIZE, SIZE), bool)
    mask[8] = False
    tracks, rejected_fraction = filtered(everywhere, everywhere, mask)
    assert not tracks.valid[:, 8].any()
    assert np.delete(tracks.valid, 8, axis=1).all()
    assert rejected_fraction == 0
    assert filtered(everywhere, everywhere, mask, masks=False)[0].valid.all()


def test_an_occluded_label_needs_a_visible_one_that_is_valid_in_the_end():
    visible = np.ones((5, T), bool)
    visible[:2, 10:] = False
    certain = np.ones((5, T), bool)
    certain[0, :10] = False  # flow-consistent, but inside the visibility margin
    tracks, _ = filtered(visible, certain, np.ones((T, SIZE, SIZE), bool))
    assert not tracks.valid[0].any()
    assert tracks.occluded[1, 10:].all()
    assert (tracks.confidence > 0).tolist() == tracks.valid.tolist()
    # The longer a point has not been visible, the surer it is occluded.
    assert (np.diff(tracks.confidence[1, 10:]) >= 0).all()
    assert tracks.confidence[1, -1] > tracks.confidence[1, 10]


def test_occluded_labels_that_are_moved_out_of_the_frame_are_invalid():
    visible = np.ones((5, T), bool)
    visible[:, -3:] = False
    everywhere, mask = np.ones((5, T), bool), np.ones((T, SIZE, SIZE), bool)
    rightmost = scene()[0][:, -1, 0].argmax()
    # In the last frame its mesh is just inside, the point itself just outside.
    right = SIZE + 2 - scene()[0][rightmost, -1, 0]
    tracks, _ = filtered(visible, everywhere, mask, slide=-5.0, right=float(right))
    assert tracks.occluded[rightmost, -3]
    assert not tracks.valid[rightmost, -1]
    assert (tracks.xy[tracks.valid] < SIZE).all()


def test_only_summed_drift_gives_a_confidence():
    everywhere, mask = np.ones((5, T), bool), np.ones((T, SIZE, SIZE), bool)
    assert filtered(everywhere, everywhere, mask, rule="steps")[0].confidence is None


def test_occluded_labels_that_the_picture_shows_are_contradicted():
    visible = np.zeros((1, 30), bool)
    visible[0, [0, 20]] = True
    occluded = ~visible
    shown = np.zeros((1, 30), bool)
    # A frame or two too early is the mesh's contour: only these labels go.
    shown[0, 1:3] = True
    assert np.flatnonzero(_contradicted(shown, visible, occluded, np.zeros(1, int))).tolist() == [1, 2]
    # Later than that, the labels around go too, but none beyond the next visible label.
    shown[0, 17] = True
    assert np.flatnonzero(_contradicted(shown, visible, occluded, np.zeros(1, int))).tolist() == [
        *range(1, 7),
        *range(13, 20),
    ]


def test_a_person_who_is_mostly_shown_has_no_occluded_label_in_that_frame():
    visible, occluded, shown = np.zeros((40, 5), bool), np.ones((40, 5), bool), np.zeros((40, 5), bool)
    person = np.repeat([0, 1], 20)
    shown[:10, 2] = True
    contradicted = _contradicted(shown, visible, occluded, person)
    assert contradicted[:20, 2].all()
    assert not contradicted[20:].any()


def test_a_point_behind_another_person_must_lie_where_one_is():
    visible = np.ones((5, T), bool)
    visible[:, 10:] = False
    own_mask, everywhere = np.ones((T, SIZE, SIZE), bool), np.ones((5, T), bool)
    # In its own mask, only its own body can be in front of it.
    assert filtered(visible, everywhere, own_mask)[0].occluded[:, 10:].all()
    others_only = np.zeros((5, T), bool)
    assert not filtered(visible, everywhere, own_mask, others_only)[0].valid[:, 10:].any()


def test_a_person_without_a_track_has_a_reason():
    """Each reason is that of the first stage that leaves nothing."""
    frames = 10
    context = clip_context(np.zeros((frames, 64, 64, 3), np.uint8), min_visible=4)
    mask = np.zeros((frames, 64, 64), bool)
    mask[:, 10:30, 10:30] = True
    person = PersonTrack(np.full((frames, 4), 10.0), mask=mask)
    xy = np.full((3, frames, 2), 20.0, np.float32)

    def why(present=frames, at=xy, visible=True, certain=True, labels=0, config=context):
        there = np.arange(frames) < present
        unknown = np.full(frames, np.nan)
        mesh = MeshTrack(0, np.zeros((frames, 3, 3)), there, unknown, unknown, recovered=np.ones(frames, bool))
        shown = np.full((3, frames), visible)
        which = np.zeros(3, np.int32)
        points = SurfaceTracks(at, shown, shown & certain, np.zeros_like(shown), which, which)
        valid = np.zeros((3, frames), bool)
        valid[0, :labels] = True
        tracks = Tracks.from_labels(at, valid, valid, height=64, width=64, person=which)
        return why_no_track(config, mesh, points, [person], tracks)

    assert why(present=2) == "the mesh does not fit landmarks and mask in 8 of 10 frames"
    assert why(visible=False) == "hidden or out of the frame wherever there is a mesh"
    assert why(at=xy + 100) == "hidden or out of the frame wherever there is a mesh"
    assert why(at=xy + 20) == "no visible point of the mesh lies on the mask"
    assert why(certain=False) == "whatever is visible of the mesh is near a contour or seen at a grazing angle"
    assert why() == "none agrees with optical flow"
    assert why(labels=3) == "no track is visible in 4 frames (min_visible)"
    unmasked = clip_context(context.frames, filter={"masks": False})
    assert why(at=xy + 20, config=unmasked) == "none agrees with optical flow"
    # The fit compares meshes to landmarks too, other sources only to masks.
    other = clip_context(context.frames, mesh_source="tokenhmr", body="smpl")
    assert why(present=2, config=other) == "the mesh does not lie on the mask in 8 of 10 frames"
