"""Readers: each layout becomes the same kind of clip; an invalid file is an error in one line."""

from __future__ import annotations

import gzip
import json
import os
import pickle
from contextlib import suppress

import cv2
import numpy as np
import pytest
import torch

from anthrotap_hf.data.shard_reader import ShardReader
from anthrotap_hf.readers.base import BAD_CLIP, BadClipError, DatasetError
from anthrotap_hf.readers.drivetrack import DriveTrackClips
from anthrotap_hf.readers.dynamic_replica import DynamicReplicaClips
from anthrotap_hf.readers.egopoints import EgoPointsClips
from anthrotap_hf.readers.kubric import KubricClips
from anthrotap_hf.readers.lets_dance import LetsDanceClips
from anthrotap_hf.readers.point_odyssey import PointOdysseyClips
from anthrotap_hf.readers.shards import ShardClips, clip_of_row
from anthrotap_hf.training.samples import SampleSettings, collate, make_sample
from anthrotap_hf.video import VideoError, write_video
from helpers.shard_rows import some_row, some_rows

SMALL = SampleSettings(num_frames=4, dilation=2, num_queries=8, height=32, width=48, affine=None, flip=0)


def some_tracks(num_frames: int = 10, num_tracks: int = 5) -> np.ndarray:
    """[N, T, 2] in a frame of 64 x 96."""
    rng = np.random.default_rng(0)
    return rng.uniform(5, 60, (num_tracks, 1, 2)).astype(np.float32) + np.zeros((1, num_frames, 1), np.float32)


def dance_labels(**changes) -> dict:
    occlusion = np.zeros((10, 5), bool)
    occlusion[3] = True
    labels = {
        "tracks": some_tracks().swapaxes(0, 1),
        "occlusion": occlusion,
        "video_size": (64, 96),
        "video_path": "/media/ssd3/datasets/lets_dance/mp4_10fps/ballet/a.mp4",
    }
    return labels | changes


@pytest.fixture
def dance(tmp_path, moving_pattern):
    """labels/a.npy and videos/lets_dance/mp4_10fps/ballet/a.mp4."""
    (tmp_path / "labels").mkdir()
    folder = tmp_path / "videos/lets_dance/mp4_10fps/ballet"
    folder.mkdir(parents=True)
    np.save(tmp_path / "labels/a.npy", dance_labels(), allow_pickle=True)
    write_video(folder / "a.mp4", moving_pattern(10, 64, 96), 10)
    return tmp_path


@pytest.mark.parametrize("root", ["videos", "videos/lets_dance", "videos/lets_dance/mp4_10fps"])
def test_released_labels(dance, moving_pattern, root):
    source = LetsDanceClips(dance / "labels", dance / root)
    assert len(source) == 1
    clip = source[0]
    assert (clip.tracks.height, clip.tracks.width) == (64, 96)
    np.testing.assert_array_equal(clip.tracks.xy, some_tracks())
    np.testing.assert_array_equal(clip.tracks.valid, clip.tracks.visible)
    # Occluded and invalid labels are not distinguished.
    assert not clip.tracks.valid[:, 3].any()
    assert clip.tracks.valid[:, 4].all()
    frames = list(clip.iter_frames([1, 6]))
    assert len(frames) == 2
    assert np.abs(frames[1].astype(int) - moving_pattern(10, 64, 96)[6]).mean() < 4
    sample = make_sample(clip, SampleSettings(**{**vars(SMALL), "dilation": 1}), np.random.default_rng(0))
    np.testing.assert_allclose(sample["tracks"][0, 0], sample["query_points"][0, 1:])


def test_released_labels_without_videos(dance):
    clip, whole = (LetsDanceClips(dance / "labels", videos)[0] for videos in (None, dance / "videos"))
    np.testing.assert_array_equal(clip.tracks.xy, whole.tracks.xy)
    with pytest.raises(BadClipError, match="no folder of videos"):
        next(clip.iter_frames([0]))


def test_quick_copies_are_the_same_frames(dance):
    plain = LetsDanceClips(dance / "labels", dance / "videos", short_side=48)
    cached = LetsDanceClips(dance / "labels", dance / "videos", short_side=48, cache=dance / "cache")
    for _ in range(2):
        wanted, found = (np.stack([*source[0].iter_frames([1, 2, 9])]) for source in (plain, cached))
        assert wanted.shape == found.shape == (3, 48, 72, 3)
        assert np.abs(wanted.astype(int) - found).mean() < 2
    assert [path.suffix for path in (dance / "cache").iterdir()] == [".mp4"]
    (dance / "videos/lets_dance/mp4_10fps/ballet/a.mp4").write_bytes(b"nonsense")
    with pytest.raises(VideoError):
        next(cached[0].iter_frames([0]))
    assert len([*(dance / "cache").iterdir()]) == 1


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"video_path": "/x/b.mp4"}, "does not name a file below lets_dance"),
        ({"video_path": "/x/lets_dance/../../etc/passwd"}, "does not name a file below lets_dance"),
        ({"video_path": "/x/lets_dance/mp4_10fps/b.mp4"}, "no video mp4_10fps/b.mp4"),
        ({"video_size": None}, "video_size is not"),
        ({"tracks": "none"}, "points are a str, which is no array"),
        ({"tracks": np.zeros((10, 5))}, r"points are float64 \[10, 5\]"),
        ({"occlusion": np.zeros(10, bool)}, "not a table"),
        ({"occlusion": np.array([{}])}, "flags of visibility are"),
        ({"occlusion": np.zeros((9, 5), bool)}, "Tracks need"),
    ],
)
def test_invalid_released_labels(dance, changes, reason):
    np.save(dance / "labels/a.npy", dance_labels(**changes), allow_pickle=True)
    with pytest.raises(BadClipError, match=reason) as error:
        LetsDanceClips(dance / "labels", dance / "videos")[0]
    assert "\n" not in str(error.value)


def test_folders_that_are_not_there(tmp_path):
    for make in (
        lambda: LetsDanceClips(tmp_path, tmp_path / "no"),
        lambda: LetsDanceClips(tmp_path, tmp_path),
        lambda: KubricClips(tmp_path),
        lambda: PointOdysseyClips(tmp_path),
    ):
        with pytest.raises(DatasetError):
            make()


@pytest.mark.parametrize("keep", [0, 5, 60, 200, -1])
def test_released_labels_that_are_truncated(dance, keep):
    path = dance / "labels/a.npy"
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(BadClipError, match=r"a\.npy: it .*; fetch it again") as error:
        LetsDanceClips(dance / "labels", dance / "videos")[0]
    assert "\n" not in str(error.value)


def write_pictures(folder, frames, pattern):
    folder.mkdir(parents=True)
    for number, image in enumerate(frames):
        cv2.imwrite(str(folder / pattern.format(number)), image[..., ::-1])


def test_kubric(tmp_path, moving_pattern):
    frames = moving_pattern(10, 64, 96)
    write_pictures(tmp_path / "0001/frames", frames, "{:03d}.png")
    occluded = np.zeros((5, 10), bool)
    occluded[2, 4:] = True
    labels = {"coords": some_tracks(), "visibility": occluded}
    np.save(tmp_path / "0001/0001.npy", labels, allow_pickle=True)
    source = KubricClips(tmp_path)
    clip = source[0]
    assert not source.human
    assert clip.tracks.valid.all()
    np.testing.assert_array_equal(clip.tracks.visible, ~occluded)
    np.testing.assert_array_equal(next(clip.iter_frames([3])), frames[3])
    make_sample(clip, SMALL, np.random.default_rng(0))
    os.remove(tmp_path / "0001/frames/004.png")
    with pytest.raises(BadClipError, match="9 images, but labels of 10"):
        source[0]
    (tmp_path / "0001/frames/004.jpg").write_bytes(b"")
    with pytest.raises(BadClipError, match="of two kinds"):
        source[0]


def test_pictures_are_in_the_order_of_their_numbers(tmp_path, moving_pattern):
    frames = moving_pattern(12, 64, 96)
    write_pictures(tmp_path / "0001/frames", frames, "{}.png")
    labels = {"coords": some_tracks(12), "visibility": np.zeros((5, 12), bool)}
    np.save(tmp_path / "0001/0001.npy", labels, allow_pickle=True)
    for found, wanted in zip(KubricClips(tmp_path)[0].iter_frames(range(12)), frames, strict=True):
        np.testing.assert_array_equal(found, wanted)


def test_point_odyssey(tmp_path, moving_pattern):
    write_pictures(tmp_path / "scene/rgbs", moving_pattern(10, 64, 96), "rgb_{:05d}.jpg")
    tracks = some_tracks().swapaxes(0, 1).copy()
    tracks[0, 0] = np.inf
    flags = np.ones((10, 5), bool)
    valids = flags.copy()
    valids[5, 1] = False
    np.savez(tmp_path / "scene/anno.npz", trajs_2d=tracks, visibs=flags, valids=valids)
    clip = PointOdysseyClips(tmp_path)[0]
    assert clip.tracks.xy.shape == (5, 10, 2)
    assert clip.tracks.invalid.sum() == 2
    make_sample(clip, SMALL, np.random.default_rng(0))
    (tmp_path / "scene/anno.npz").write_bytes(b"PK nonsense")
    with pytest.raises(BadClipError, match=r"no \.npz of plain arrays"):
        PointOdysseyClips(tmp_path)[0]


def test_egopoints(tmp_path, moving_pattern):
    write_pictures(tmp_path / "P01/rgbs", moving_pattern(10, 64, 96), "frame_{}.jpg")
    flags = {key: np.zeros((10, 5), bool) for key in ("valids", "visibs", "vis_valids", "out_of_view", "occluded")}
    flags["valids"][:] = True
    flags["vis_valids"][:5] = flags["visibs"][:4] = True  # frame 4: known to be hidden; from 5 on: not known
    flags["out_of_view"][6, 0] = True
    flags["valids"][6, 0] = flags["valids"][7, 0] = False
    tracks = some_tracks().swapaxes(0, 1).copy()
    tracks[~flags["valids"]] = np.nan
    np.savez(tmp_path / "P01/annot.npz", trajs_2d=tracks, **flags)
    clip = EgoPointsClips(tmp_path)[0]
    assert clip.clip_id == "P01"
    assert not clip.tracks.visible[:, 4].any()
    assert clip.tracks.visible.sum() == 50 - 5 - 2
    assert (clip.tracks.valid[0, 6], clip.tracks.valid[0, 7]) == (True, False)
    np.testing.assert_array_equal(clip.info["position_known"], flags["valids"].T)
    assert clip.frames.shape == (10, 64, 96, 3)
    np.savez(tmp_path / "P01/annot.npz", trajs_2d=tracks, **flags | {"visibs": np.zeros((10, 4), bool)})
    with pytest.raises(BadClipError, match="differ in shape"):
        EgoPointsClips(tmp_path)[0]


def dynamic_replica(folder, frames, tracks, visible, **changes):
    """One sequence of the left camera, listed out of order, and a frame of the right one."""
    entries = [{"sequence_name": "a", "frame_number": 0, "camera_name": "right", "trajectories": None}]
    for t in reversed(range(len(frames))):
        path = f"a/trajectories/{t:06d}.pth"
        (folder / "valid" / path).parent.mkdir(parents=True, exist_ok=True)
        content = {
            "traj_2d": torch.tensor(np.pad(tracks[:, t], ((0, 0), (0, 1)))),
            "verts_inds_vis": torch.tensor(visible[:, t]),
            "img": torch.tensor(frames[t]),
            "instances": ["chair"],
        }
        torch.save(content | changes, folder / "valid" / path)
        entry = {"sequence_name": "a", "frame_number": t, "camera_name": "left", "trajectories": {"path": path}}
        entries.append(entry)
    with gzip.open(folder / "valid/frame_annotations_valid.jgz", "wt") as file:
        json.dump(entries, file)


def test_dynamic_replica(tmp_path, moving_pattern):
    frames, tracks, visible = moving_pattern(4, 64, 96), some_tracks(4), np.ones((5, 4), bool)
    tracks[1, 2] = [-3, 5]
    visible[0, 1] = False
    dynamic_replica(tmp_path, frames, tracks, visible)
    for folder in (tmp_path, tmp_path / "valid"):
        (clip,) = DynamicReplicaClips(folder)
        np.testing.assert_array_equal(clip.tracks.xy, tracks)
        assert [tuple(each) for each in np.argwhere(~clip.tracks.visible)] == [(0, 1), (1, 2)]
        np.testing.assert_array_equal(clip.frames, frames)
    assert len(DynamicReplicaClips(tmp_path, num_tracks=2)[0].tracks) == 2
    dynamic_replica(tmp_path, frames, tracks, visible, img=torch.zeros(3))
    with pytest.raises(BadClipError, match=r"000000\.pth: its img is"):
        DynamicReplicaClips(tmp_path)[0]
    dynamic_replica(tmp_path, frames, tracks, visible, traj_2d=torch.ones(5, 3, requires_grad=True))
    np.testing.assert_array_equal(DynamicReplicaClips(tmp_path)[0].tracks.xy, np.ones((5, 4, 2)))
    dynamic_replica(tmp_path, frames, tracks, visible, traj_2d=torch.ones(5, 3, dtype=torch.bfloat16))
    with pytest.raises(BadClipError, match=r"^.*000000\.pth: a tensor in it is no array of plain numbers.*\Z"):
        DynamicReplicaClips(tmp_path)[0]
    path = tmp_path / "valid/frame_annotations_valid.jgz"
    for content, reason in [
        (b"nonsense", "no gzipped file"),
        (gzip.compress(b"[3]"), "no list of frames"),
        (gzip.compress(b"[]"), "lists no frame of the left camera"),
    ]:
        path.write_bytes(content)
        with pytest.raises(DatasetError, match=reason):
            DynamicReplicaClips(tmp_path)


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
@pytest.mark.parametrize("layout", ["odyssey", "drive"])
def test_any_damage_of_an_npz_is_a_bad_sample(tmp_path, moving_pattern, layout, save):
    if layout == "drive":
        path, source_of = tmp_path / "a.npz", DriveTrackClips
        drive_file(path, moving_pattern, save)
    else:
        path, source_of = tmp_path / "scene/anno.npz", PointOdysseyClips
        write_pictures(tmp_path / "scene/rgbs", moving_pattern(10, 64, 96), "{:05d}.png")
        flags = np.ones((10, 5), bool)
        save(path, trajs_2d=some_tracks().swapaxes(0, 1), visibs=flags, valids=flags)
    whole = path.read_bytes()
    rng = np.random.default_rng(0)
    offsets = [i for i in range(len(whole)) if len(whole) < 4000 or i < 400 or i > len(whole) - 1500]
    for _ in range(300):
        broken = bytearray(whole)
        for offset in rng.choice(offsets, 3):
            broken[offset] = rng.integers(256)
        path.write_bytes(broken)
        with suppress(*BAD_CLIP):
            make_sample(source_of(tmp_path)[0], SMALL, rng)


def drive_file(path, moving_pattern, save=np.savez, **changes):
    tracks = some_tracks().astype(np.float64)
    tracks[0, 2] = np.nan
    tracks[1, 3] = (97, 5)
    visibles = np.ones((5, 10), bool)
    visibles[2, 4] = False
    content = {
        "video": moving_pattern(10, 64, 96),
        "tracks": tracks,
        "visibles": visibles,
        "depths": np.zeros(9),
    }
    path.parent.mkdir(exist_ok=True)
    save(path, **(content | changes))


def test_drivetrack(tmp_path, moving_pattern):
    drive_file(tmp_path / "training/waymo_a_1_b.npz", moving_pattern)
    source = DriveTrackClips(tmp_path)
    assert len(source) == 1
    clip = source[0]
    assert (clip.tracks.height, clip.tracks.width, clip.tracks.visible.shape) == (64, 96, (5, 10))
    assert [*zip(*np.nonzero(clip.tracks.invalid), strict=True)] == [(0, 2), (1, 3), (2, 4)]
    np.testing.assert_array_equal(clip.tracks.visible, clip.tracks.valid)
    np.testing.assert_array_equal(next(clip.iter_frames([7])), moving_pattern(10, 64, 96)[7])
    (half,) = DriveTrackClips(tmp_path, short_side=32)[0].iter_frames([7])
    assert half.shape == (32, 48, 3)
    assert len(DriveTrackClips(tmp_path, num_tracks=2)[0].tracks) == 2
    make_sample(clip, SMALL, np.random.default_rng(0))


def test_files_below_a_folder_are_in_natural_order(tmp_path):
    for folder in ("part10", "part2"):
        (tmp_path / folder).mkdir()
        for name in ("a10", "a9"):
            (tmp_path / folder / f"{name}.npz").touch()
            (tmp_path / folder / f"{name}.npy").touch()
    for files in (DriveTrackClips(tmp_path).files, LetsDanceClips(tmp_path).files):
        names = [file.relative_to(tmp_path).with_suffix("").as_posix() for file in files]
        assert names == ["part2/a9", "part2/a10", "part10/a9", "part10/a10"]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"video": np.zeros((10, 64, 96))}, r"video is float64 \[10, 64, 96\]"),
        ({"video": np.zeros((9, 64, 96, 3), np.uint8)}, "9 frames, but tracks"),
        ({"tracks": np.array([{}])}, "no array of numbers"),
        ({"visibles": np.ones((4, 10), bool)}, "Tracks need"),
        ({"visibles": np.ones((5, 10, 1), bool)}, "not a table"),
        ({"save": np.savez_compressed}, "compressed: write it anew"),
    ],
)
def test_invalid_drivetrack(tmp_path, moving_pattern, changes, reason):
    drive_file(tmp_path / "a.npz", moving_pattern, **changes)
    with pytest.raises(BadClipError, match=reason) as error:
        DriveTrackClips(tmp_path)[0]
    assert "\n" not in str(error.value)


def test_drivetrack_that_is_damaged(tmp_path, moving_pattern):
    with pytest.raises(DatasetError, match="npz"):
        DriveTrackClips(tmp_path)
    drive_file(tmp_path / "a.npz", moving_pattern)
    whole = (tmp_path / "a.npz").read_bytes()
    start = whole.index(b"NUMPY")
    for content in (whole[:-500], b"nonsense", b"", whole[: start + 5] + b"?" + whole[start + 6 :]):
        (tmp_path / "a.npz").write_bytes(content)
        with pytest.raises(BadClipError, match="not a readable"):
            DriveTrackClips(tmp_path)[0]
    np.savez(tmp_path / "a.npz", tracks=np.zeros(3))
    with pytest.raises(BadClipError, match="no video, visibles"):
        DriveTrackClips(tmp_path)[0]


@pytest.fixture(scope="module")
def rows():
    return some_rows(6)


@pytest.fixture(scope="module")
def shards(rows, tmp_path_factory):
    """The same rows, in two shards with row groups of two rows."""
    folder = tmp_path_factory.mktemp("shards")
    for number in range(2):
        part = rows.select(range(3 * number, 3 * number + 3))
        part.to_parquet(folder / f"train-{number:05d}-of-00002.parquet", batch_size=2)
    return folder


def test_our_shards(rows):
    source = ShardClips(rows)
    assert len(source) == 6
    assert source.find("clip-2") == 2
    with pytest.raises(DatasetError, match="no clip 'other' in it"):
        source.find("other")
    labels = ShardClips(rows.remove_columns(["video"]))[2]
    assert (labels.clip_id, labels.video) == ("clip-2", None)
    clip = source[2]
    assert clip.clip_id == "clip-2"
    assert clip.tracks.visible.shape == (5, 10)
    assert clip.tracks.occluded.sum() == 6
    assert np.abs(next(clip.iter_frames([7])).astype(int) - 40).max() < 5
    sample = make_sample(clip, SMALL, np.random.default_rng(0))
    assert collate([sample], "anthrotap")["pixel_values_videos"].shape == (1, 4, 3, 32, 48)


def test_streamed_shards_read_what_they_need(shards, rows, monkeypatch):
    opened, read = ShardReader.from_dataset(str(shards), "train", buffer_size=2), []
    monkeypatch.setattr(ShardReader, "_read", lambda *a, whole=ShardReader._read: read.append(a[1]) or whole(*a))
    stream, expected = ShardClips(opened, window=2), ShardClips(rows)
    for index in (4, 5, 3, 0, 1, 2):
        clip, other = stream[index], expected[index]
        assert clip.clip_id == other.clip_id
        np.testing.assert_array_equal(clip.tracks.xy, other.tracks.xy)
        np.testing.assert_array_equal(next(clip.iter_frames([2])), next(other.iter_frames([2])))
    # Each row group once, and nothing before the first row that was asked for.
    assert read == [2, 3, 0, 1]
    # Our own object, as a worker gets it.
    again = pickle.loads(pickle.dumps(stream))  # noqa: S301
    assert again[2].clip_id == "clip-2"


def test_a_damaged_shard_costs_its_rows(shards, tmp_path):
    path = tmp_path / "train-00000-of-00001.parquet"
    data = bytearray((shards / "train-00000-of-00002.parquet").read_bytes())
    # In the first row group.
    data[4:64] = bytes([255]) * 60
    path.write_bytes(data)
    clips = ShardClips.open(path)
    with pytest.raises(BadClipError, match=r"train-00000-of-00001.parquet, row 1: "):
        clips[1]
    assert clips[2].clip_id == "clip-2"


def test_shards_end_to_end(tmp_path, fake_labels, make_video):
    """What the builder writes is what training reads."""
    import datasets

    from anthrotap_builder.config import LabelingConfig
    from anthrotap_builder.pipeline import label_video
    from anthrotap_builder.shards import ShardWriter

    with ShardWriter(tmp_path / "shards", 48) as writer:
        for clip in label_video(make_video("source.mp4", shots=[20, 30]), LabelingConfig()):
            writer.write(clip)
    source = ShardClips(
        datasets.load_dataset(str(tmp_path / "shards"), split="train", cache_dir=str(tmp_path / "cache"))
    )
    sample = make_sample(source[1], SMALL, np.random.default_rng(0))
    np.testing.assert_allclose(np.unique(sample["tracks"][..., 0]), [0.75, 4.5])


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"tracks": np.zeros((4, 12, 2))}, "damaged row"),
        ({"video": {"bytes": None, "path": None}}, "no video"),
        ({"num_frames": None}, "damaged row"),
        ({"person": np.zeros(0)}, "no track is visible"),
        ({"video": {"bytes": b"nonsense", "path": None}}, "not a video"),
        ({"tracks": np.full((5, 12, 2), np.nan)}, "a position that is not finite"),
    ],
)
def test_invalid_rows(changes, reason):
    with pytest.raises(BAD_CLIP, match=reason) as error:
        make_sample(clip_of_row(some_row(1, **changes)), SMALL, np.random.default_rng(0))
    assert "\n" not in str(error.value)


def test_other_datasets_are_rejected(rows):
    with pytest.raises(ValueError, match="no column tracks"):
        ShardClips(rows.remove_columns(["tracks"]))
    with pytest.raises(ValueError, match="no rows"):
        ShardClips(rows.select([]))
