"""Frames in memory as people have them, and points from masks."""

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import pipeline

from anthrotap_hf.models.flowchain import FlowChainConfig, FlowChainForPointTracking
from anthrotap_hf.pipelines import point_tracking
from anthrotap_hf.pipelines.queries import query_points
from anthrotap_hf.pipelines.video_values import frames_or_source
from anthrotap_hf.video import VideoError
from helpers.trackers import tiny_locotrack, tiny_tapnext

POINTS = [[0, 10.5, 8.0], [3, 70, 50], [5, 0, 0]]


@pytest.fixture(scope="module")
def flowchain():
    return pipeline("point-tracking", model=FlowChainForPointTracking(FlowChainConfig()))


@pytest.fixture(scope="module")
def video() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 255, (6, 50, 70, 3), dtype=np.uint8)


def forms(video):
    tensor = torch.from_numpy(video)
    first = tensor.permute(0, 3, 1, 2)
    alpha = np.full((*video.shape[:3], 1), 7, np.uint8)
    return {
        "array": video,
        "array, channels first": video.transpose(0, 3, 1, 2),
        "floats": video / np.float32(255),
        "doubles": video / 255,
        "RGBA": np.concatenate([video, alpha], -1),
        "tensor": first,
        "tensor, channels last": tensor,
        "tensor of floats": first / 255,
        "tensor of half": (first / 255).half().float(),
        "list of arrays": list(video),
        "list of tensors": list(first),
        "list of pictures": [Image.fromarray(frame) for frame in video],
        "tuple of pictures with alpha": tuple(
            Image.fromarray(np.concatenate([frame, 0 * frame[..., :1]], -1)) for frame in video
        ),
    }


@pytest.mark.parametrize("form", forms(np.zeros((1, 16, 16, 3), np.uint8)))
def test_frames_in_any_form_are_the_same_frames(video, form):
    found = frames_or_source(forms(video)[form])
    assert found.dtype == np.uint8
    tolerance = 1 if "half" in form else 0
    assert np.abs(found.astype(int) - video).max() <= tolerance


@pytest.mark.parametrize("make", [np.asarray, torch.from_numpy, list, lambda gray: list(map(Image.fromarray, gray))])
def test_gray_frames_become_rgb(video, make):
    gray = video[..., 0]
    assert np.array_equal(frames_or_source(make(gray)), np.repeat(gray[..., None], 3, -1))
    one_channel = torch.from_numpy(gray)[:, None]
    assert np.array_equal(frames_or_source(one_channel), np.repeat(gray[..., None], 3, -1))


@pytest.mark.parametrize(
    ("frames", "message"),
    [
        (np.full((2, 16, 16, 3), 1.5), "frame 0 has floats from 1.5 to 1.5: floats are from 0 to 1"),
        (np.full((2, 16, 16, 3), -0.1), "frame 0 has floats from -0.1"),
        (np.full((2, 16, 16, 3), np.nan), "frame 0 has floats from nan to nan"),
        (np.zeros((2, 16, 16, 3), np.int64), "frame 0 is int64: frames are uint8, or floats from 0 to 1"),
        (np.zeros((2, 16, 16, 5), np.uint8), r"frame 0 is \[16, 16, 5\]"),
        (np.zeros((2, 0, 16, 3), np.uint8), r"frame 0 is \[0, 16, 3\]"),
        (np.zeros((0, 16, 16, 3), np.uint8), "a video must have frames, got none"),
        (np.zeros((16, 16), np.uint8), r"a video in memory is \[T, H, W\]"),
        ([np.zeros((16, 16), np.uint8), np.zeros((16, 20), np.uint8)], "frame 1 is 20x16, and the frames before it"),
        ([np.zeros((16, 16), np.uint8), "a.mp4"], "a video must be a path"),
    ],
)  # fmt: skip
def test_frames_that_are_none_are_one_line(frames, message):
    with pytest.raises(VideoError, match=message) as error:
        frames_or_source(frames)
    assert "\n" not in str(error.value)


def test_a_list_of_frames_is_one_video_and_a_batch_is_many(flowchain, video):
    alone = flowchain(video, points=POINTS)
    for form in (list(video), [Image.fromarray(frame) for frame in video], list(torch.from_numpy(video).movedim(3, 1))):
        assert np.array_equal(flowchain(form, points=POINTS)["tracks"], alone["tracks"])
    batch = torch.from_numpy(np.stack([video, video[::-1].copy()])).movedim(4, 2) / 255
    found = flowchain(batch, points=POINTS)
    assert len(found) == 2
    assert np.array_equal(found[0]["tracks"], alone["tracks"])
    assert np.array_equal(found[1]["tracks"], flowchain(video[::-1], points=POINTS)["tracks"])
    many = flowchain([list(video), video], points=POINTS)
    assert [np.array_equal(one["tracks"], alone["tracks"]) for one in many] == [True, True]


@pytest.mark.parametrize("batch_size", [1, 2])
def test_a_video_that_cannot_be_read_costs_itself_alone(flowchain, video, tmp_path, batch_size, caplog):
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"no video")
    found = flowchain([video, str(broken), video], points=POINTS, batch_size=batch_size)
    assert [set(one) for one in found] == [set(found[0]), {"error"}, set(found[0])]
    assert "tracks" in found[0]
    assert isinstance(found[1]["error"], VideoError)
    assert str(broken) in str(found[1]["error"])
    assert f"a video is left out: {broken}" in caplog.text
    streamed = list(flowchain(iter([str(broken), video]), points=POINTS))
    assert [next(iter(one)) for one in streamed] == ["error", "tracks"]
    with pytest.raises(VideoError, match=r"broken\.mp4"):
        flowchain(str(broken), points=POINTS)


def a_mask() -> np.ndarray:
    mask = np.zeros((50, 70), np.uint8)
    mask[10:20, 30:50] = 2
    return mask


def test_a_grid_over_a_mask_fills_its_box():
    queries = query_points(6, 50, 70, grid_size=2, query_frame=3, mask=a_mask())
    assert queries.tolist() == [[3, 35, 12.5], [3, 45, 12.5], [3, 35, 17.5], [3, 45, 17.5]]
    half = a_mask()
    half[15:, 40:] = 0
    assert query_points(6, 50, 70, grid_size=2, mask=half).tolist() == [[0, 35, 12.5], [0, 45, 12.5], [0, 35, 17.5]]


def test_all_is_every_pixel_of_the_mask_or_the_frame():
    queries = query_points(6, 50, 70, grid_size="all", query_frame=1, mask=a_mask() > 0)
    assert len(queries) == 200
    assert queries[[0, -1]].tolist() == [[1, 30.5, 10.5], [1, 49.5, 19.5]]
    assert len(query_points(6, 50, 70, grid_size="all")) == 50 * 70


def test_points_come_before_the_grid():
    queries = query_points(6, 50, 70, points=POINTS, grid_size=1, mask=a_mask())
    assert queries.tolist() == [*POINTS, [0, 40, 15]]


def test_each_frame_has_a_mask_of_its_own(tmp_path):
    masks = np.zeros((12, 50, 70), np.uint8)
    for t in range(12):
        masks[t, 2 * t : 2 * t + 8, 3 * t : 3 * t + 9] = 255
    masks[5] = 0
    for t, mask in enumerate(masks):
        # Natural order: 10 comes after 2.
        Image.fromarray(mask).save(tmp_path / f"{t}.png")
    for given in (masks, tmp_path, str(tmp_path)):
        queries = query_points(12, 50, 70, points_per_frame=5, mask=given)
        t, x, y = queries.T
        assert np.bincount(t.astype(int), minlength=12).tolist() == [5] * 5 + [0] + [5] * 6
        assert (masks[t.astype(int), y.astype(int), x.astype(int)] > 0).all()
        assert len(np.unique(queries, axis=0)) == len(queries)
    assert query_points(12, 50, 70, grid_size=1, query_frame=10, mask=tmp_path).tolist() == [[10, 34.5, 24]]


def test_a_picture_is_a_mask_where_it_is_not_black(tmp_path):
    indexed = Image.fromarray(a_mask(), "P")
    indexed.putpalette([0, 0, 0, 128, 0, 0, 0, 128, 0])
    indexed.save(tmp_path / "mask.png")
    assert len(query_points(6, 50, 70, grid_size="all", mask=tmp_path / "mask.png")) == 200


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mask": np.ones((20, 70)), "grid_size": 3}, r"the mask has shape \[20, 70\], and the video's frames"),
        ({"mask": np.zeros((50, 70)), "grid_size": 3}, "the mask is empty"),
        ({"mask": np.zeros((6, 50, 70)), "points_per_frame": 3}, "the mask is empty in every frame"),
        ({"mask": a_mask(), "points": POINTS}, "mask belongs to grid_size or points_per_frame"),
        ({"mask": a_mask()}, "say what to track"),
        ({"grid_size": "some"}, 'grid_size must be a whole number from 1 up or "all", got \'some\''),
        ({"points": POINTS, "points_per_frame": 2}, "say what to track"),
        ({"mask": "missing.png", "grid_size": 3}, "missing.png"),
    ],
)  # fmt: skip
def test_masks_that_say_nothing_are_one_line(options, message):
    with pytest.raises(ValueError, match=message) as error:
        query_points(6, 50, 70, **options)
    assert "\n" not in str(error.value)


def test_a_folder_of_masks_has_one_for_each_frame(tmp_path):
    Image.fromarray(a_mask()).save(tmp_path / "0.png")
    with pytest.raises(ValueError, match="1 masks, and the video has 6 frames: one for each"):
        query_points(6, 50, 70, grid_size=3, mask=tmp_path)


@pytest.mark.parametrize("make", [lambda: FlowChainForPointTracking(FlowChainConfig()), tiny_locotrack, tiny_tapnext])
def test_many_queries_are_tracked_in_groups_that_change_nothing(make, video, monkeypatch):
    tracker = pipeline("point-tracking", model=make())
    whole = tracker(video, grid_size=5, query_frame=2)
    monkeypatch.setattr(point_tracking, "QUERIES_AT_ONCE", 7)
    seen: list[tuple] = []
    parts = tracker(video, grid_size=5, query_frame=2, progress=lambda *progress: seen.append(progress))
    for name in whole:
        np.testing.assert_allclose(parts[name], whole[name], atol=1e-3)
    tracking = [progress for progress in seen if progress[0] == "tracking"]
    assert tracking[-1][1] == tracking[-1][2]
