"""People in frames: the geometry of BlazePose's crops, and real clips from end to end."""

from __future__ import annotations

import math
from pathlib import Path
from queue import SimpleQueue

import av
import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from anthrotap_builder.config import LabelingConfig
from anthrotap_builder.context import ClipContext
from anthrotap_builder.detection import PersonTrack, association, blazepose_networks, detect_people
from anthrotap_builder.detection.blazepose_networks import (
    BlazePose,
    Region,
    anchors,
    borrow_networks,
    release_networks,
    suppress,
)
from anthrotap_builder.utils.assets import AssetError, blazepose_paths
from helpers.clip_contexts import clip_context

regions = st.builds(
    Region,
    x=st.floats(-50, 900),
    y=st.floats(-50, 500),
    size=st.floats(20, 1500),
    angle=st.floats(-math.pi, math.pi),
)


def load(quality: str) -> BlazePose:
    pytest.importorskip("ai_edge_litert", reason="needs anthrotap[builder]")
    try:
        blazepose_paths(quality)
    except AssetError as error:
        pytest.skip(str(error))
    return BlazePose(quality)


@pytest.fixture(scope="module")
def networks() -> BlazePose:
    return load(LabelingConfig().detection.quality)


def read(path: Path, start: int = 0, count: int = 48, short_side: int = 480) -> np.ndarray:
    """[T, H, W, 3] uint8 RGB."""
    frames = []
    with av.open(str(path)) as container:
        for number, frame in enumerate(container.decode(video=0)):
            if number >= start + count:
                break
            if number >= start:
                image = frame.to_ndarray(format="rgb24")
                scale = short_side / min(image.shape[:2])
                size = (round(image.shape[1] * scale), round(image.shape[0] * scale))
                frames.append(cv2.resize(image, size, interpolation=cv2.INTER_AREA))
    return np.stack(frames)


@given(regions, st.floats(0, 1), st.floats(0, 1))
def test_the_image_warp_agrees_with_crop_coordinates(region, x, y):
    point = np.array([[x, y]])
    there = region.to_frame(point)
    # The image warp agrees, in OpenCV's pixel centers.
    pixel = point * 256 - 0.5
    assert np.allclose(region.warp(256) @ [*pixel[0], 1], there[0] - 0.5, atol=1e-6)


@given(regions, st.floats(0, 1), st.floats(0, 1))
def test_crop_coordinates_come_back_from_the_frame(region, x, y):
    point = np.array([[x, y]])
    assert np.allclose(region.to_crop(region.to_frame(point)), point, atol=1e-9)


def test_a_region_between_two_turns_the_short_way():
    half = Region(0, 0, 100, math.radians(170)).between(Region(40, 20, 200, math.radians(-170)), 0.5)
    assert (half.x, half.y, half.size) == (20, 10, 150)
    assert math.cos(half.angle - math.pi) == pytest.approx(1)


@given(regions)
def test_a_region_comes_back_from_its_alignment_points(region):
    hips, rim = region.to_frame(np.array([[0.5, 0.5], [0.5, 0.5 - 0.5 / 1.25]]))
    again = Region.from_hips_and_rim(hips, rim)
    assert again.size == pytest.approx(region.size)
    assert (again.x, again.y) == pytest.approx((region.x, region.y))
    assert math.cos(again.angle - region.angle) == pytest.approx(1)


def test_anchors_are_cell_centers_of_three_grids():
    centers = anchors()
    assert centers.shape == (2254, 2)
    assert np.allclose(centers[:2], 0.5 / 28)  # two a cell
    assert np.allclose(centers[2], (1.5 / 28, 0.5 / 28))  # along the row first
    assert np.allclose(centers[-6:], 6.5 / 7)  # three layers of stride 32
    assert len(np.unique(centers, axis=0)) == 28**2 + 14**2 + 7**2


@given(st.integers(0, 2**32 - 1), st.integers(0, 12))
def test_suppression_puts_every_box_into_one_group_under_its_best(seed, count):
    rng = np.random.default_rng(seed)
    corner = rng.uniform(0, 1, (count, 2))
    boxes = np.concatenate([corner, corner + rng.uniform(0.1, 0.6, (count, 2))], axis=1)
    scores = rng.uniform(0, 1, count)

    groups = suppress(boxes, scores, 0.3)

    assert sorted(i for group in groups for i in group) == list(range(count))
    best = [group[0] for group in groups]
    assert list(scores[best]) == sorted(scores[best], reverse=True)
    for k, group in enumerate(groups):
        assert all(scores[i] <= scores[group[0]] for i in group)
        assert all(_iou(boxes[i], boxes[group[0]]) > 0.3 for i in group[1:])
        assert all(_iou(boxes[i], boxes[j]) <= 0.3 for i in best[:k] for j in group)


def _iou(a: np.ndarray, b: np.ndarray) -> float:
    overlap = np.prod(np.clip(np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2]), 0, None))
    return float(overlap / (np.prod(a[2:] - a[:2]) + np.prod(b[2:] - b[:2]) - overlap))


def test_a_turned_picture_has_turned_landmarks(networks, clips_dir):
    (frame,) = read(clips_dir / "juggle.mp4", count=1)
    width = frame.shape[1]
    _, region = networks.detect(frame, 0.5)[0]
    upright = networks.estimate_pose(frame, region, 1.0, 0)

    # A quarter turn to the left takes (x, y) to (y, W - x).
    turned_frame = np.ascontiguousarray(np.rot90(frame))
    turned_region = Region(region.y, width - region.x, region.size, region.angle - math.pi / 2)
    turned = networks.estimate_pose(turned_frame, turned_region, 1.0, 0)

    x, y, confidence = upright.landmarks.T
    assert upright.pose_score > 0.9
    assert abs(turned.landmarks[:, :2] - np.column_stack([y, width - x])).max() < 0.5
    assert np.allclose(turned.landmarks[:, 2], confidence, atol=0.02)
    x, y, z = upright.world_landmarks.T
    assert np.allclose(turned.world_landmarks, np.column_stack([y, -x, z]), atol=0.02)
    window, confidence = upright.frame_mask(*frame.shape[:2])
    mask = np.zeros(frame.shape[:2], bool)
    mask[window] = confidence > 0
    window, confidence = turned.frame_mask(*turned_frame.shape[:2])
    turned_mask = np.zeros(turned_frame.shape[:2], bool)
    turned_mask[window] = confidence > 0
    assert np.mean(np.rot90(mask) != turned_mask) < 0.002


def test_both_qualities_find_the_same_person_by_different_networks(clips_dir):
    (frame,) = read(clips_dir / "juggle.mp4", count=1)
    poses = []
    for quality in ("fast", "best"):
        load(quality)
        with borrow_networks(quality) as pair:
            score, region = pair.detect(frame, 0.5)[0]
            poses.append(pair.estimate_pose(frame, region, score, 0))
    fast, best = poses
    assert fast.region == best.region  # one detector
    assert best.pose_score > 0.9
    distance = np.linalg.norm(fast.landmarks[:, :2] - best.landmarks[:, :2], axis=1)[association.JOINTS]
    assert 0.1 < np.median(distance) < 0.02 * region.size
    assert np.count_nonzero(fast.cells & best.cells) > 0.9 * np.count_nonzero(fast.cells | best.cells)
    with borrow_networks("fast") as again:
        assert np.array_equal(again.estimate_pose(frame, region, score, 0).landmarks, fast.landmarks)


def test_a_rotated_image_is_detected_rotated(networks, clips_dir):
    (frame,) = read(clips_dir / "juggle.mp4", count=1)
    _, upright = networks.detect(frame, 0.5)[0]
    _, lying = networks.detect(np.ascontiguousarray(np.rot90(frame)), 0.3)[0]
    assert math.degrees(upright.angle) == pytest.approx(0, abs=15)
    assert math.degrees(lying.angle) == pytest.approx(-90, abs=25)
    assert math.hypot(lying.x - upright.y, lying.y - (frame.shape[1] - upright.x)) < 0.15 * upright.size


@pytest.fixture(scope="module")
def tracks_of(networks, clips_dir):
    """`tracks_of(name)` -> frames and people of a clip's first 48 frames, found once."""
    known: dict[str, tuple[np.ndarray, list[PersonTrack]]] = {}

    def find(name: str) -> tuple[np.ndarray, list[PersonTrack]]:
        if name not in known:
            frames = read(clips_dir / name)
            known[name] = frames, detect_people(clip_context(frames))
        return known[name]

    return find


@pytest.mark.parametrize(
    ("name", "found_at_least"),
    [
        pytest.param("juggle.mp4", [48], marks=pytest.mark.slow),
        pytest.param("balance_cam01.mp4", [48, 48], marks=pytest.mark.slow),  # and the bystander
        pytest.param("two_people_cam01.mp4", [48, 48, 48], marks=pytest.mark.slow),  # and the bystander
        pytest.param("bedroom.mp4", [48, 20], marks=pytest.mark.slow),  # the boy hides behind the girl
        ("upper_body.mkv", [48]),
        ("hands_only.mp4", []),
        pytest.param("selfie_wave.mp4", [48], marks=pytest.mark.slow),
        pytest.param("balance_cam03.mp4", [48], marks=pytest.mark.slow),
        pytest.param("one_by_one.mp4", [], marks=pytest.mark.slow),  # no person is in the frame yet
        pytest.param("hut_jump.mp4", [48, 8], marks=pytest.mark.slow),
        # A man, a woman under two numbers, and another woman who walks in at the lower edge from frame 18 on, seen from
        # behind: her head is in the first woman's mask from frame 26 on, whose looks it changes for good.
        pytest.param("store_aisle.gif", [40, 20, 15, 15], marks=pytest.mark.slow),
    ],
)
def test_finds_the_people_of_real_clips(tracks_of, name, found_at_least):
    _, tracks = tracks_of(name)
    counts = [int(track.found.sum()) for track in tracks]
    assert len(counts) == len(found_at_least)
    assert all(count >= least for count, least in zip(counts, found_at_least, strict=True))


@pytest.mark.slow
def test_a_head_and_shoulders_or_a_face_that_fills_the_frame_is_found(networks, clips_dir):
    frames = read(clips_dir / "selfie_wave.mp4", count=12)
    height, width = frames.shape[1:3]
    shoulders = frames[:, height // 20 : 13 * height // 20, width // 10 :]
    face = frames[:, height // 12 : height // 2, width // 4 : 9 * width // 10]
    for close in (shoulders, face):
        (person,) = detect_people(clip_context(np.ascontiguousarray(close)))
        assert person.found.all()


def test_who_is_in_sight_but_too_unsure_is_left_out_with_the_reason(networks, clips_dir, monkeypatch):
    monkeypatch.setattr(association, "MIN_TRACK_CONFIDENCE", 1.1)
    frames = read(clips_dir / "juggle.mp4", count=9)
    (person,) = detect_people(clip_context(frames, detection={"quality": "fast"}))
    assert person.found.all()
    assert "the landmarks in the frame have a mean confidence of 0.9" in person.left_out


def test_tracks_have_the_documented_contents(tracks_of):
    frames, tracks = tracks_of("bedroom.mp4")
    num_frames, height, width = frames.shape[:3]
    for track in tracks:
        assert track.landmarks.shape == track.world_landmarks.shape == (num_frames, 33, 3)
        assert track.landmarks.dtype == track.world_landmarks.dtype == np.float32
        assert track.mask.shape == (num_frames, height, width)
        assert track.mask.dtype == bool
        found = track.found
        for array in (track.landmarks, track.world_landmarks):
            assert np.isfinite(array[found]).all()
            assert np.isnan(array[~found]).all()
        assert not track.mask[~found].any()
        assert ((track.landmarks[found, :, 2] >= 0) & (track.landmarks[found, :, 2] <= 1)).all()
        hips = track.world_landmarks[found][:, [23, 24]].mean(axis=1)
        assert np.linalg.norm(hips, axis=1).mean() < 0.1
        nose = track.world_landmarks[found][:, 0]
        # Nobody is upside down, also not the boy, of whom some frames show little. y points down.
        assert (nose[:, 1] < 0).all()
    assert not (tracks[0].mask & tracks[1].mask).any()


def test_landmarks_lie_on_the_mask(tracks_of):
    _, (track,) = tracks_of("juggle.mp4")
    hits = []
    for t in np.flatnonzero(track.found):
        x, y, confidence = track.landmarks[t, 11:29].T
        sure = confidence > 0.9
        hits += list(track.mask[t][y[sure].astype(int), x[sure].astype(int)])
    assert np.mean(hits) > 0.9


@pytest.mark.parametrize("quarters", [1, 2])
def test_who_lies_or_is_upside_down_and_does_not_move_is_found(networks, clips_dir, quarters):
    frame = np.ascontiguousarray(np.rot90(read(clips_dir / "juggle.mp4", count=1)[0], quarters))
    (track,) = detect_people(clip_context(np.stack([frame] * 9), detection={"quality": "fast"}))
    assert track.found.all()
    shoulders, hips = (track.landmarks[:, joints, :2].mean(1) for joints in ([11, 12], [23, 24]))
    up = (shoulders - hips) / np.linalg.norm(shoulders - hips, axis=1, keepdims=True)
    # Head to the left after one quarter counterclockwise, down after two.
    np.testing.assert_allclose(up, np.tile([(-1, 0), (0, 1)][quarters - 1], (9, 1)), atol=0.3)


def test_nothing_is_smoothed_over_time(networks, clips_dir, monkeypatch):
    monkeypatch.setattr(association, "MIN_FRAMES", 1)
    monkeypatch.setattr(association, "MIN_DETECTIONS", 1)
    frames = read(clips_dir / "juggle.mp4", count=12)
    (track,) = detect_people(clip_context(frames, detection={"detect_every": 1}))
    (one,) = detect_people(clip_context(frames[5:6], detection={"detect_every": 1}))
    assert np.array_equal(track.landmarks[5], one.landmarks[0])


def test_threads_change_nothing(networks, clips_dir):
    frames = read(clips_dir / "bedroom.mp4", count=12)
    settings = {"quality": "fast"}
    one, two = (detect_people(clip_context(frames, threads=threads, detection=settings)) for threads in (1, 2))
    assert len(one) == len(two) == 2
    for a, b in zip(one, two, strict=True):
        assert np.array_equal(a.landmarks, b.landmarks, equal_nan=True)
        assert np.array_equal(a.world_landmarks, b.world_landmarks, equal_nan=True)
        assert np.array_equal(a.mask, b.mask)


@pytest.mark.parametrize(
    ("step", "shake", "looks_a_frame"),
    # Who moves slowly is looked at in every second frame. Who shakes, there and back again, moves fast.
    [(1.5, 0.0, (0.3, 1.2)), (0.0, 24.0, (1.2, 3.0))],
)
def test_only_who_moves_slowly_is_not_looked_at_in_each_frame(
    networks, clips_dir, monkeypatch, step, shake, looks_a_frame
):
    (picture,) = read(clips_dir / "juggle.mp4", count=1, short_side=360)
    shift = step * np.arange(13) + shake * (np.arange(13) % 2)
    frames = np.stack(
        [
            cv2.warpAffine(
                picture, np.array([[1, 0, x], [0, 1, 0]]), picture.shape[1::-1], borderMode=cv2.BORDER_REFLECT
            )
            for x in shift
        ]
    )
    looks = []
    estimate = BlazePose.estimate_pose
    monkeypatch.setattr(
        BlazePose, "estimate_pose", lambda *args, **options: looks.append(1) or estimate(*args, **options)
    )

    (person,) = detect_people(clip_context(frames))

    assert person.found.all()
    torso = person.landmarks[:, [11, 12, 23, 24], 0].mean(1)
    assert np.abs(torso - torso[0] - shift).max() < 2.5
    assert looks_a_frame[0] < len(looks) / len(frames) < looks_a_frame[1]


@pytest.mark.parametrize("shape", [(1, 64, 64, 3), (9, 64, 64, 3), (3, 17, 200, 3), (2, 1, 1, 3)])
def test_no_people_give_no_track(networks, shape):
    noise = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    assert detect_people(clip_context(noise)) == []
    assert detect_people(clip_context(np.zeros(shape, np.uint8))) == []


@pytest.mark.parametrize(
    ("frames", "settings", "threads", "message"),
    [
        (np.zeros((2, 8, 8), np.uint8), {}, 1, "frames must be"),
        (np.zeros((2, 8, 8, 3), np.float32), {}, 1, "frames must be"),
        (np.zeros((0, 8, 8, 3), np.uint8), {}, 1, "not empty"),
        (np.zeros((2, 8, 8, 3), np.uint8), {}, 0, "threads"),
        (
            np.zeros((2, 8, 8, 3), np.uint8),
            {"detector": "nobody"},
            1,
            "'nobody' is not known: choose from blazepose, boxes",
        ),
    ],
)
def test_bad_input_is_an_error(frames, settings, threads, message):
    with pytest.raises(ValueError, match=message):
        ClipContext.of(frames, 24.0, LabelingConfig(detection=settings), threads)


def test_one_pair_of_networks_waits_for_the_next_clip(monkeypatch):
    monkeypatch.setattr(blazepose_networks, "_idle_networks", {"fast": SimpleQueue(), "best": SimpleQueue()})
    monkeypatch.setattr(blazepose_networks, "BlazePose", str)
    with borrow_networks("best"), borrow_networks("best"):
        pass
    release_networks()
    assert {name: idle.qsize() for name, idle in blazepose_networks._idle_networks.items()} == {"fast": 0, "best": 1}
