import json
import os
import pickle
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from anthrotap_hf.evaluation import read_tapvid
from anthrotap_hf.evaluation.runner import resize_clip
from anthrotap_hf.readers.base import DatasetError
from anthrotap_hf.readers.points import PointClips
from anthrotap_hf.readers.shards import ShardClips
from anthrotap_hf.readers.tapvid import TapVidClips
from anthrotap_hf.utils.errors import AnthroTapError
from anthrotap_hf.video import decode_video, write_video
from helpers.benchmark_files import jpegs, some_videos, tapvid_video, write_tapvid
from helpers.memory import traced_memory

LAYOUTS = ("davis", "rgb-stacking", "kinetics", "robotap")


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_published_layout(layout, protocol, moving_pattern, tmp_path):
    videos = some_videos(moving_pattern, 3)
    found = list(read_tapvid(write_tapvid(tmp_path, layout, videos, protocol)))
    names = {
        "rgb-stacking": [f"tapvid_rgb_stacking-000{n}" for n in range(3)],
        "kinetics": ["0000_of_0010-0000", "0001_of_0010-0000", "0001_of_0010-0001"],
    }
    assert [video.clip_id for video in found] == names.get(layout, list(videos))
    for video, given_video in zip(found, videos.values(), strict=True):
        frames = given_video["video"]
        if layout == "kinetics":
            assert np.abs(video.frames.astype(int) - frames).mean() < 2
        else:
            np.testing.assert_array_equal(video.frames, frames)
        size = [frames.shape[2], frames.shape[1]]
        np.testing.assert_allclose(video.tracks.xy, given_video["points"].astype(float) * size)
        np.testing.assert_array_equal(video.tracks.visible, ~given_video["occluded"])
        assert video.tracks.valid.all()
    assert len(TapVidClips(tmp_path)) == 3


def test_encoded_frames_in_a_list_too(moving_pattern, tmp_path):
    video = tapvid_video(moving_pattern(4, 32, 48))
    (tmp_path / "a.pkl").write_bytes(pickle.dumps([{**video, "video": jpegs(video["video"])}]))
    (tmp_path / "b.pkl").write_bytes(pickle.dumps([{**video, "video": list(video["video"])}]))
    first, second = read_tapvid(tmp_path)
    np.testing.assert_array_equal(second.frames, video["video"])
    assert np.abs(first.frames.astype(int) - second.frames).mean() < 2


@pytest.mark.parametrize("protocol", [0, 2, 4, 5])
def test_encoded_frames_in_an_array_of_objects(moving_pattern, tmp_path, protocol):
    """As `numpy.array(jpegs, dtype=object)` holds them, or as arrays of bytes, or not encoded."""
    video = tapvid_video(moving_pattern(4, 32, 48))
    encoded = jpegs(video["video"])
    as_arrays = [np.frombuffer(each, np.uint8) for each in encoded]
    kinds = {
        "objects": np.array(encoded, dtype=object),
        "bytes": as_objects(as_arrays),
        "columns": [each[:, None] for each in as_arrays],
        "strings": list(np.array(encoded)),
        "frames": as_objects(list(video["video"])),
    }
    path = tmp_path / "a.pkl"
    path.write_bytes(pickle.dumps({name: {**video, "video": frames} for name, frames in kinds.items()}, protocol))
    for found in read_tapvid(path):
        assert np.abs(found.frames.astype(int) - video["video"]).mean() < 2, found.clip_id


def as_objects(items: list) -> np.ndarray:
    array = np.empty(len(items), object)
    array[:] = items
    return array


def test_pixels_instead_of_fractions_are_refused(moving_pattern, tmp_path):
    video = tapvid_video(moving_pattern(4, 32, 48))
    path = tmp_path / "pixels.pkl"
    path.write_bytes(pickle.dumps({"a": {**video, "points": video["points"] * [48, 32]}}))
    with pytest.raises(DatasetError, match=r"video a: its points must be fractions .* divide x by 48 and y by 32"):
        list(read_tapvid(path))
    # A hair out of frame is fine, and occluded points may lie anywhere.
    points = np.where(video["occluded"][..., None], 1000, video["points"])
    points[~video["occluded"]] = 1.01
    path.write_bytes(pickle.dumps({"a": {**video, "points": points}}))
    assert len(list(read_tapvid(path))) == 1


def test_frames_are_resized_as_the_benchmark_does_and_points_scaled(moving_pattern, tmp_path):
    """TAP-Vid resizes by mediapy, which asks Pillow for Lanczos."""
    videos = some_videos(moving_pattern)
    path = write_tapvid(tmp_path, "davis", videos)
    for video in read_tapvid(path):
        given_video = videos[video.clip_id]
        video = resize_clip(video, 256, 256)
        for ours, frame in zip(video.frames, given_video["video"], strict=True):
            expected = Image.fromarray(frame).resize((256, 256), Image.Resampling.LANCZOS)
            np.testing.assert_array_equal(ours, np.asarray(expected))
        np.testing.assert_allclose(video.tracks.xy, given_video["points"] * 256.0, rtol=1e-6)


def test_a_big_pickle_is_not_held_in_memory(tmp_path):
    frames = np.zeros((20, 200, 300, 3), np.uint8)  # 3.6 MB
    videos = {f"v{n}": tapvid_video(frames, n) for n in range(20)}
    for protocol in (4, 5):
        path = tmp_path / f"{protocol}.pkl"
        path.write_bytes(pickle.dumps(videos, protocol))
        with traced_memory() as memory:
            count = sum(len(resize_clip(video, 64, 64).frames) == 20 for video in read_tapvid(path))
        assert count == 20
        assert memory.peak < 2 * frames.nbytes


class Calls:
    """Pickled as a call of `function`."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("protocol", [0, 2, 5])
def test_a_malicious_pickle_is_rejected_and_runs_nothing(moving_pattern, tmp_path, protocol):
    mark = tmp_path / "was here"
    attack = Calls(os.system, f"touch '{mark}'")
    video = tapvid_video(moving_pattern(3, 16, 16))
    for content in (attack, {"a": attack}, {"a": {**video, "points": attack}}, [video, {"video": [attack]}]):
        path = tmp_path / "evil.pkl"
        path.write_bytes(pickle.dumps(content, protocol))
        with pytest.raises(DatasetError, match=r"evil.pkl: it asks for .*system.*fetch the file again") as caught:
            list(read_tapvid(path))
        assert "\n" not in str(caught.value)
    assert not mark.exists()


def test_invalid_tapvid_pickles_are_an_error_in_one_line(moving_pattern, tmp_path):
    video = tapvid_video(moving_pattern(4, 32, 48))
    whole = pickle.dumps({"a": video})
    hole = np.where(video["occluded"][..., None], 0, np.nan)
    for content, message in [
        (b"", "the file is empty"),
        (b"not a pickle", "no pickle, or a damaged one"),
        (whole[: len(whole) // 2], "damaged one"),
        (pickle.dumps({}), "holds no video"),
        (pickle.dumps([]), "holds no video"),
        (pickle.dumps("text"), "it holds a str"),
        (pickle.dumps({"a": 3}), "video a: it has no video and no points"),
        (pickle.dumps([{"video": video["video"]}]), "video x-0000: it has no points and no occluded"),
        (pickle.dumps({"a": {**video, "occluded": video["occluded"][:, :2]}}), "points must be"),
        (pickle.dumps({"a": {**video, "points": video["points"][..., 0]}}), "points must be"),
        (pickle.dumps({"a": {**video, "points": np.float32(hole + video["points"])}}), "no finite position"),
        (pickle.dumps({"a": {**video, "video": video["video"] / 255}}), "uint8"),
        (pickle.dumps({"a": {**video, "video": video["video"][0]}}), "must be"),
        (pickle.dumps({"a": {**video, "video": video["video"][:0]}}), "video has no frame"),
        (pickle.dumps({"a": {**video, "video": [b"no picture"] * 4}}), "frame 0: can't be decoded"),
        (pickle.dumps({"a": {**video, "video": np.array(["a"] * 4)}}), "not of plain numbers"),
    ]:
        path = tmp_path / "x.pkl"
        path.write_bytes(content)
        with pytest.raises(DatasetError) as caught:
            [video.frames for video in read_tapvid(path)]
        assert message in str(caught.value)
        assert str(path) in str(caught.value)
        assert "\n" not in str(caught.value)
    (tmp_path / "empty").mkdir()
    for path, message in [(tmp_path / "none", "no such file or folder"), (tmp_path / "empty", "no .pkl in")]:
        with pytest.raises(DatasetError, match=message):
            list(read_tapvid(path))
    for name in ("x.pkl", "y.pkl"):
        (tmp_path / name).write_bytes(whole)
    with pytest.raises(DatasetError, match=r"y.pkl: a second video called a"):
        list(read_tapvid(tmp_path))


@settings(deadline=None, max_examples=150)
@given(data=st.data())
def test_a_damaged_pickle_is_a_benchmark_error_and_nothing_else(data, tmp_path_factory):
    video = {"video": np.zeros((2, 8, 8, 3), np.uint8), "points": np.zeros((1, 2, 2)), "occluded": [[0, 1]]}
    packed = {**video, "video": np.array(jpegs(video["video"]))}
    content = bytearray(pickle.dumps({"a": video, "b": packed}, data.draw(st.integers(0, 5))))
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.getbasetemp() / "damaged.pkl"
    path.write_bytes(content[: data.draw(st.integers(1, len(content)))])
    try:
        for video in read_tapvid(path):
            resize_clip(video, 16, 16)
    except DatasetError as error:
        assert "\n" not in str(error)  # noqa: PT017


# Shards


@pytest.fixture
def shards(tmp_path, fake_labels, make_video):
    from anthrotap_builder.config import LabelingConfig
    from anthrotap_builder.pipeline import label_video
    from anthrotap_builder.shards import ShardWriter

    with ShardWriter(tmp_path / "shards/data", 48, max_shard_bytes=1, group_rows=1) as writer:
        for clip in label_video(make_video("source.mp4", shots=[20, 30]), LabelingConfig()):
            valid = clip.tracks.valid.copy()
            valid[0, 3:5] = False
            writer.write(replace(clip, tracks=replace(clip.tracks, visible=clip.tracks.visible & valid, valid=valid)))
    return tmp_path / "shards"


def test_our_shards(shards):
    assert len(ShardClips.open(shards)) == 2
    for resolution in (None, (32, 32)):
        videos = list(ShardClips.open(shards))
        assert [len(video.frames) for video in videos] == [20, 30]
        for video in videos:
            height, width = resolution or (64, 96)
            video = resize_clip(video, height, width)
            assert video.frames.shape[1:] == (height, width, 3)
            scale = [width / 96, height / 64]
            np.testing.assert_allclose(
                video.tracks.xy[:, 0], [np.multiply([1.5, 2.5], scale), np.multiply([9, 8], scale)]
            )
            assert video.tracks.invalid.sum() == 2
            np.testing.assert_array_equal(video.tracks.visible, video.tracks.valid)


def test_invalid_shards_are_an_error_in_one_line(shards, tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    with pytest.raises(AnthroTapError, match="no such file or folder"):
        ShardClips.open(tmp_path / "none")
    (tmp_path / "empty").mkdir()
    with pytest.raises(AnthroTapError, match=r"no shard \(\.parquet\) in this folder"):
        ShardClips.open(tmp_path / "empty")

    broken = tmp_path / "train-0.parquet"
    broken.write_bytes(b"PAR1 not really")
    with pytest.raises(AnthroTapError, match=r"train-0\.parquet: not a readable") as caught:
        ShardClips.open(broken)
    assert "\n" not in str(caught.value)
    pq.write_table(pa.table({"a": [1]}), broken)
    with pytest.raises(AnthroTapError, match=r"train-0\.parquet: .*no column"):
        ShardClips.open(broken)


# Points


ROWS = "track,t,x,y,visible\nnose,0,10.5,20,1\nnose,2,,,0\ntail,1,90,60.5,1\n"


def test_points_of_a_csv_and_of_json(make_video, tmp_path):
    video = make_video("walk.mp4", shots=[3], size=(64, 96))
    rows = [["nose", 0, 10.5, 20, 1], {"track": "nose", "t": 2, "x": None, "y": "", "visible": False}]
    rows.append(["tail", 1, 90, 60.5])
    for name, content in [
        ("walk.csv", ROWS),
        ("walk.csv", "\ufeff" + ROWS.replace("\n", "\r\n")),
        ("walk.csv", "x, y, t, track, note\n10.5,20,0,nose,a\n90,60.5,1,tail,b\n"),
        ("walk.json", json.dumps(rows)),
        ("walk.json", json.dumps({"points": rows, "fps": 3})),
    ]:
        file = tmp_path / name
        file.write_text(content)
        (found,) = PointClips(file)
        assert found.clip_id == "walk"
        found = resize_clip(found, 128, 96)
        assert found.frames.shape == (3, 128, 96, 3)
        np.testing.assert_allclose(found.tracks.xy[0, 0], [10.5, 40])
        np.testing.assert_allclose(found.tracks.xy[1, 1], [90, 121])
        assert found.tracks.visible.tolist() == [[True, False, False], [False, True, False]]
        assert found.tracks.valid[0].tolist() == [True, False, "note" not in content]
        (same,) = PointClips(tmp_path)
        np.testing.assert_array_equal(same.frames, decode_video(video))
        file.unlink()


def test_files_of_points_are_in_natural_order_and_each_video_has_one(tmp_path):
    for name in ("clip10.csv", "clip2.csv", "clip2.b.csv"):
        (tmp_path / name).write_text(ROWS)
    assert [file.name for file in PointClips(tmp_path).files] == ["clip2.b.csv", "clip2.csv", "clip10.csv"]
    # The overlay and tracks of `anthrotap track` are no ground truth.
    (tmp_path / "clip2.tracks.json").write_text("{}")
    assert len(PointClips(tmp_path)) == 3
    (tmp_path / "clip2.json").write_text("[]")
    with pytest.raises(DatasetError, match=r"clip2\.json: clip2\.csv has points of the same video"):
        PointClips(tmp_path)


def test_points_on_a_folder_of_images(moving_pattern, tmp_path):
    frames = moving_pattern(3, 64, 96)
    (tmp_path / "dog").mkdir()
    for t, frame in enumerate(frames):
        Image.fromarray(frame).save(tmp_path / f"dog/{t:05d}.png")
    (tmp_path / "dog.csv").write_text(ROWS)
    (found,) = PointClips(tmp_path)
    np.testing.assert_array_equal(found.frames, frames)
    Image.fromarray(frames[0, :32]).save(tmp_path / "dog/00003.png")
    with pytest.raises(DatasetError, match="differ in size"):
        list(PointClips(tmp_path))
    (tmp_path / "dog/00003.png").write_bytes(b"nothing")
    with pytest.raises(DatasetError, match=r"00003\.png: can't be decoded"):
        list(PointClips(tmp_path))


def test_invalid_points_are_an_error_in_one_line(make_video, tmp_path):
    make_video("walk.mp4", shots=[3], size=(64, 96))
    file = tmp_path / "walk.csv"
    head = "track,t,x,y,visible\n"
    for content, message in [
        ("", "heading must have"),
        ("t,x,y\n0,1,1\n", "heading must have track, t, x, y, visible, got t, x, y"),
        (head, "no point in it"),
        (head + "a,0,1,1,1\na,3,1,1,1\n", "point 2 (track a, t 3): t must be a whole number from 0 to 2"),
        (head + "a,0.5,1,1,1\n", "t must be a whole number"),
        (head + "a,,1,1,1\n", "'' is no number"),
        (head + "a,0\n", "visible must be 1 or 0, got None"),
        (head + "a,0,inf,1,1\n", "no finite number"),
        (head + "a,0,97,1,1\n", "(97, 1) lies outside the video of 96x64; set visible to 0"),
        (head + "a,0,1,1,maybe\n", "visible must be 1 or 0, got maybe"),
        (head + "a,0,1,1,1\na,0,2,1,1\n", "a second row"),
        (head.encode() + b"\xff\xfe", "not a text file"),
    ]:
        file.write_bytes(content if isinstance(content, bytes) else content.encode())
        with pytest.raises(DatasetError) as caught:
            list(PointClips(file))
        assert message in str(caught.value), content
        assert str(file) in str(caught.value)
        assert "\n" not in str(caught.value)
    file.unlink()
    for content, message in [
        ("{", "Expecting"),
        ("3", "must hold a list"),
        ("[[1, 2]]", "entry 0 must have"),
        ('[{"track": 1}]', "entry 0 must have"),
        ('[["a", [0], 1, 1, 1]]', "is no number"),
        (f'[["a", {"3" * 400}, 1, 1, 1]]', "is no number"),
        ('[["a", 0, 1, 1, null]]', "visible must be 1 or 0"),
    ]:
        (tmp_path / "walk.json").write_text(content)
        with pytest.raises(DatasetError, match=r"walk\.json: ") as caught:
            list(PointClips(tmp_path))
        assert message in str(caught.value)
    file.write_text(ROWS)
    with pytest.raises(DatasetError, match=r"walk\.json: walk\.csv has points of the same video"):
        list(PointClips(tmp_path))
    (tmp_path / "walk.json").unlink()
    (tmp_path / "walk.mp4").rename(tmp_path / "run.mp4")
    with pytest.raises(DatasetError, match=r"one video beside it, walk\.mp4 or a folder walk of images; got none"):
        list(PointClips(tmp_path))
    for path, message in [(tmp_path / "none", "no such file"), (tmp_path / "d", "no .csv or .json")]:
        (tmp_path / "d").mkdir(exist_ok=True)
        with pytest.raises(DatasetError, match=message):
            list(PointClips(path))


def test_a_second_video_of_a_name(tmp_path, moving_pattern):
    for name in ("walk.mp4", "walk.mkv"):
        write_video(tmp_path / "x.mp4", moving_pattern(3, 64, 96), 10)
        (tmp_path / "x.mp4").rename(tmp_path / name)
    (tmp_path / "walk.csv").write_text(ROWS)
    with pytest.raises(DatasetError, match=r"got walk\.mkv, walk\.mp4"):
        list(PointClips(tmp_path))
