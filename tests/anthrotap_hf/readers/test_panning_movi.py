"""Panning MOVi-E: records are read bit by bit as they were written, and tracks are those of a ray-cast scene."""

from __future__ import annotations

import pickle
import struct
from contextlib import suppress

import numpy as np
import pytest

from anthrotap_hf.readers.base import BAD_CLIP, BadClipError, DatasetError
from anthrotap_hf.readers.panning_movi import PanningMoviClips, _draw_pixels
from anthrotap_hf.readers.tfrecord import find_records, read_example
from anthrotap_hf.training.samples import SampleSettings, make_sample
from helpers import movi_files

FILE = "panning_movi_e/256x256/1.0.0/panning_movi_e-train.tfrecord-00000-of-00001"


@pytest.fixture(scope="module")
def scene() -> movi_files.Scene:
    return movi_files.Scene()


@pytest.fixture(scope="module")
def features(scene):
    return scene.features()


@pytest.fixture(scope="module")
def folder(tmp_path_factory, features):
    root = tmp_path_factory.mktemp("movi")
    movi_files.write_movi(root / FILE, features, features)
    return root


def test_tracks_are_those_of_the_scene(folder, scene):
    source = PanningMoviClips(folder)
    assert len(source) == 2
    clip = source[0]
    tracks = clip.tracks
    assert (tracks.height, tracks.width, tracks.num_frames) == (64, 64, 8)
    assert tracks.valid.all()
    owners, agree = [], []
    for track, visible in zip(clip.tracks.xy, clip.tracks.visible, strict=True):
        # the surface point at the track's position, in one of the frames labeled visible, is the one that is tracked
        truths = []
        for t in np.flatnonzero(visible):
            _, owner, position, _ = scene.cast(t, scene.rays(t, track[t][None].astype(float)))
            xy, in_view = scene.follow(int(owner[0]), position[0])
            truths.append((np.abs(xy - track).max(), owner[0], in_view))
        error, owner, in_view = min(truths, key=lambda truth: truth[0])
        assert error < 0.02
        owners.append(owner)
        agree.append(in_view == visible)
    _wall, *boxes = np.bincount(owners)
    assert len(owners) > 80
    assert min(boxes) >= 3
    assert np.mean(agree) > 0.97
    occluded = np.array([not visible.all() for visible in tracks.visible])
    assert 0.1 < occluded.mean() < 0.9


def test_frames_are_those_of_the_file(folder, features):
    clip = PanningMoviClips(folder)[1]
    one, other = clip.iter_frames([0, 5])
    assert one.shape == other.shape == (64, 64, 3)
    # the color of a visible point encodes its position on the object, and so stays
    frames = np.stack([*clip.iter_frames(range(8))]).astype(int)
    for track, visible in zip(clip.tracks.xy, clip.tracks.visible, strict=True):
        inside = visible & ((track > 1) & (track < 63)).all(1)
        x, y = track[inside].astype(int).T
        colors = frames[np.flatnonzero(inside), y, x]
        assert len(colors) < 2 or np.median(np.abs(colors - np.median(colors, 0))) < 12


def test_the_same_clip_each_time(folder):
    source = PanningMoviClips(folder, num_tracks=50)
    again = pickle.loads(pickle.dumps(source))  # noqa: S301 - our own object, as a worker gets it
    np.testing.assert_array_equal(source[1].tracks.xy, again[1].tracks.xy)
    assert not np.array_equal(source[0].tracks.xy, source[1].tracks.xy)
    assert len(source[0].tracks) <= 50
    with pytest.raises(IndexError):
        source[2]


def test_objects_get_their_fraction_of_the_tracks():
    segments = np.zeros((24, 64, 64), np.uint8)
    segments[:, :20, :20] = 1
    segments[:, 40:44, 40:44] = 3
    time, y, x = _draw_pixels(segments, 300, np.random.default_rng(0))
    background, one, none, small = np.bincount(segments[time, y, x])
    assert none == 0
    assert small == 2  # a tenth of 6 frames of 2 x 2 grid points
    assert one == 60  # a tenth of 6 frames of 10 x 10
    assert background == 300 - one - small
    assert len({*zip(time, y, x, strict=True)}) == 300


def test_a_sample(folder):
    settings = SampleSettings(8, 1, 64, 32, 32, min_visible=1, affine=None, flip=0, crop=(0.55, 1))
    sample = make_sample(PanningMoviClips(folder)[0], settings, np.random.default_rng(0))
    assert sample["video"].shape == (8, 32, 32, 3)
    assert sample["valid"].all()
    assert 0.3 < sample["visible"].mean() < 1


def test_points_behind_the_camera_are_invalid(tmp_path, features, scene):
    positions = scene.camera_positions.copy()
    positions[-1, 1] = 30
    movi_files.write_movi(tmp_path / FILE, features | {"camera/positions": positions})
    clip = PanningMoviClips(tmp_path)[0]
    known = clip.tracks.valid[:, -1]
    assert 0.3 < known.mean() < 0.7  # what was drawn from the wall in that frame itself, behind the others
    assert not clip.tracks.visible[:, -1][~known].any()
    # They hold the nearest valid position.
    np.testing.assert_array_equal(clip.tracks.xy[:, -1][~known], clip.tracks.xy[:, -2][~known])


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"depth": None}, "has no depth: is it MOVi-E"),
        ({"depth": [b"nonsense"] * 8}, "an image of depth is damaged"),
        ({"depth": [b""] * 8}, "an image of depth is damaged"),
        ({"segmentations": [b"x"]}, "segmentations are not 8 images"),
        ({"depth": np.zeros(3)}, "depth are not 8 images"),
        ({"video": []}, "are not 0 images"),
        ({"camera/positions": np.zeros(3)}, "camera/positions are 3 numbers, not T x 3"),
        ({"camera/positions": np.full((8, 3), np.nan)}, "camera/positions are not finite"),
        ({"camera/positions": [b"a"]}, "camera/positions are not finite"),
        ({"camera/quaternions": np.zeros((8, 4))}, "no rotation"),
        ({"instances/bboxes_3d": np.zeros((1, 8, 8, 3))}, "boxes of 1 objects"),
        ({"video": "depth"}, "an image of video is damaged, or of another kind"),
    ],
)
def test_invalid_records(tmp_path, features, change, reason):
    ((key, value),) = change.items()
    changed = features | ({key: features[value] if isinstance(value, str) else value})
    if value is None:
        del changed[key]
    movi_files.write_movi(tmp_path / FILE, changed)
    source = PanningMoviClips(tmp_path)
    settings = SampleSettings(8, 1, 4, 16, 16, min_visible=1, affine=None)
    with pytest.raises(BAD_CLIP, match=reason) as error:
        make_sample(source[0], settings, np.random.default_rng(0))
    assert "\n" not in str(error.value)
    assert FILE in str(error.value)


def test_invalid_folders_and_files(tmp_path, features):
    with pytest.raises(DatasetError, match="train"):
        PanningMoviClips(tmp_path)
    path = movi_files.write_movi(tmp_path / FILE, features)
    with pytest.raises(DatasetError, match="validation"):
        PanningMoviClips(tmp_path, split="validation")
    whole = path.read_bytes()
    for content, reason in (
        (whole[:-1], "ends within record 0"),
        (whole[:5], "no TFRecord, or damaged at record 0"),
        (whole + b"more and more", "damaged at record 1"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "git lfs pull"),
        (struct.pack("<Q", 1 << 60) + whole[8:], "damaged at record 0"),
    ):
        path.write_bytes(content)
        with pytest.raises(DatasetError, match=reason) as error:
            PanningMoviClips(tmp_path)
        assert str(error.value).startswith(str(path))
    path.write_bytes(whole)
    source = PanningMoviClips(tmp_path)
    path.write_bytes(whole[:5000] + b"?" + whole[5001:])
    with pytest.raises(BadClipError, match="does not match its checksum"):
        source[0]


# TFRecord


def test_features_of_each_kind(tmp_path):
    integers = np.array([0, 1, -1, 127, 128, 300, 2**63 - 1, -(2**63)])
    content = {"a": [b"x", b"", b"yz"], "b": np.array([1.5, -2]), "c": integers, "d": np.zeros(0), "e": []}
    data = movi_files.example(content)
    path = tmp_path / "a.tfrecord"
    path.write_bytes(movi_files.record(b"") + movi_files.record(data))
    empty, offset = find_records(path)
    assert read_example(path, empty, {"a"}) == {}
    found = read_example(path, offset, {"a", "b", "d", "e", "missing"})
    assert [bytes(each) for each in found["a"]] == content["a"]
    for key in ("b", "d"):
        np.testing.assert_array_equal(found[key], content[key])
    with pytest.raises(ValueError, match="no list of bytes or floats"):
        read_example(path, offset, {"c"})
    assert found["e"] == []
    assert read_example(path, offset, {"b"}).keys() == {"b"}


def test_damaged_messages_are_value_errors(tmp_path):
    rng = np.random.default_rng(0)
    data = movi_files.example({"a": [b"x"], "b": np.array([1.5]), "c": np.array([300, -1])})
    path = tmp_path / "a.tfrecord"
    for _ in range(300):
        broken = bytearray(data)
        for offset in rng.integers(0, len(data), 2):
            broken[offset] = rng.integers(256)
        path.write_bytes(movi_files.record(bytes(broken)))
        with suppress(ValueError):
            read_example(path, find_records(path)[0], {"a", "b", "c"})
