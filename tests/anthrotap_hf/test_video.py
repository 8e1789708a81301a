"""Video in and out: every odd file gives its frames, or one clear line."""

from __future__ import annotations

import io
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from anthrotap_hf.video import (
    VideoError,
    VideoWriter,
    decode_video,
    encode_video,
    iter_frames,
    probe,
    select_frames,
    write_video,
)
from helpers.memory import traced_memory


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    return float(10 * np.log10(255**2 / np.mean((a.astype(np.float64) - b) ** 2 + 1e-9)))


def read_until_error(path: Path, **kw) -> tuple[list, str]:
    """Frames delivered before the VideoError, and its message."""
    frames = []
    with pytest.raises(VideoError) as caught:
        frames += iter_frames(path, **kw)
    message = str(caught.value)
    assert "\n" not in message
    assert str(path) in message
    return frames, message


@pytest.mark.parametrize("num_frames", [1, 2, 5, 48])
@pytest.mark.parametrize("size", [(2, 2), (64, 96), (50, 34)])
def test_decode_undoes_encode(num_frames, size, moving_pattern):
    frames = moving_pattern(num_frames, *size)
    decoded = decode_video(encode_video(frames, fps=10))
    assert decoded.shape == frames.shape
    assert decoded.dtype == np.uint8
    if min(size) > 2:  # 4:2:0 leaves one color to a frame of 2 x 2
        assert psnr(decoded, frames) > 36


def test_colors_survive():
    flat = np.array([[255, 0, 0], [0, 255, 0], [0, 0, 255], [255, 255, 255], [0, 0, 0], [128, 64, 200]], np.uint8)
    frames = np.repeat(np.repeat(np.repeat(flat[:, None, None], 3, 0), 32, 1), 32, 2)
    for index in range(0, len(frames), 3):
        decoded = decode_video(encode_video(frames[index : index + 3], fps=10))
        assert np.abs(decoded.astype(int) - frames[index : index + 3]).max() <= 4


def test_encoded_video_is_tagged_bt709(moving_pattern):
    data = encode_video(moving_pattern(4, 32, 32), fps=29.97)
    assert data.index(b"moov") < data.index(b"mdat")
    info = probe(data)
    assert (info.width, info.height) == (32, 32)
    assert info.fps == pytest.approx(30000 / 1001, abs=1e-3)
    with av.open(io.BytesIO(data)) as container:
        frame = next(container.decode(video=0))
        assert (frame.colorspace, frame.color_primaries, frame.color_trc, frame.color_range) == (1, 1, 1, 1)
        assert frame.format.name == "yuv420p"


def test_bad_frames_are_rejected(tmp_path):
    with pytest.raises(ValueError, match="even H, even W"):
        encode_video(np.zeros((2, 33, 32, 3), np.uint8), fps=10)
    with pytest.raises(ValueError, match="at least one frame"):
        encode_video([], fps=10)
    with pytest.raises(ValueError, match="fps"):
        encode_video(np.zeros((2, 32, 32, 3), np.uint8), fps=0)
    with pytest.raises(ValueError, match="uint8"):
        write_video(tmp_path / "a.mp4", iter([np.zeros((32, 32, 3), np.float32)]), fps=10)


def test_a_failed_write_leaves_nothing(tmp_path, moving_pattern):
    def write_some() -> None:
        with VideoWriter(tmp_path / "a.mp4", fps=10) as writer:
            for image in moving_pattern(30, 32, 32):
                writer.write(image)
            raise RuntimeError("power cut")

    with pytest.raises(RuntimeError, match="power cut"):
        write_some()
    with VideoWriter(tmp_path / "b.mp4", fps=10):
        pass
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("rotation", [0, 90, 180, -90])
@pytest.mark.parametrize("hflip", [False, True])
def test_display_matrix_is_applied(make_video, rotation, hflip):
    # a bright corner, top left, in a frame that is wider than high
    frames = np.full((3, 48, 80, 3), 30, np.uint8)
    frames[:, :16, :24] = 220
    path = make_video("phone.mp4", frames=frames, rotation=rotation, hflip=hflip)
    turned = np.rot90(frames[0], rotation // 90)
    expected = turned[:, ::-1] if hflip else turned  # `set_display_rotation` mirrors after it turns
    image = next(iter_frames(path)).image
    assert image.shape == expected.shape
    assert psnr(image, expected) > 30
    info = probe(path)
    assert (info.height, info.width) == expected.shape[:2]


def test_rotated_track_header_of_a_phone(make_video):
    """The same by bytes: the matrix a phone writes into `tkhd`, without PyAV's help."""
    frames = np.full((3, 48, 80, 3), 30, np.uint8)
    frames[:, :16, :24] = 220
    path = make_video("phone.mp4", frames=frames)
    data = bytearray(path.read_bytes())
    identity = np.array([1 << 16, 0, 0, 0, 1 << 16, 0, 0, 0, 1 << 30], ">i4").tobytes()
    clockwise = np.array([0, 1 << 16, 0, -(1 << 16), 0, 0, 48 << 16, 0, 1 << 30], ">i4").tobytes()
    where = data.index(identity, data.index(b"tkhd"))
    data[where : where + 36] = clockwise
    path.write_bytes(data)
    image = next(iter_frames(path, short_side=24)).image
    assert image.shape == (40, 24, 3)
    assert image[:8, -6:].mean() > 200  # turned clockwise, top left comes to top right
    assert image[:, :12].mean() < 40


def test_pixel_aspect(make_video):
    path = make_video("wide.mp4", size=(60, 80), aspect=Fraction(3, 2))
    assert (probe(path).width, probe(path).height) == (120, 60)
    assert next(iter_frames(path)).image.shape == (60, 120, 3)
    assert next(iter_frames(path, short_side=30)).image.shape == (30, 60, 3)


def test_variable_rate_keeps_timestamps(make_video):
    times = [0, 0.04, 0.08, 0.5, 0.52, 1.0]
    path = make_video("vfr.mp4", shots=[6], times=times)
    assert [frame.time for frame in iter_frames(path)] == pytest.approx(times, abs=2e-3)
    assert [frame.index for frame in iter_frames(path)] == list(range(6))


@pytest.mark.parametrize(
    ("size", "short_side", "expected"),
    [
        ((49, 81), None, (49, 81)),
        ((49, 81), 480, (48, 80)),
        ((49, 81), 24, (24, 40)),
        ((64, 96), 64, (64, 96)),
    ],
)
def test_sizes(make_video, size, short_side, expected):
    path = make_video("odd.mp4", size=size)
    assert next(iter_frames(path, short_side)).image.shape[:2] == expected


@pytest.mark.parametrize(("name", "codec"), [("a.gif", "gif"), ("a.mkv", "libx264"), ("a b:ü.mp4", "libx264")])
def test_containers(make_video, name, codec, moving_pattern):
    path = make_video(name, shots=[10], fps=10, codec=codec)
    frames = list(iter_frames(path))
    assert len(frames) == 10
    assert psnr(frames[0].image, moving_pattern(1, 64, 96)[0]) > 18  # GIF here has 256 fixed colors
    assert np.diff([frame.time for frame in frames]) == pytest.approx(np.full(9, 0.1), abs=0.011)


def test_4k_is_scaled_while_it_is_converted(make_video):
    path = make_video("4k.mp4", frames=np.zeros((3, 2160, 3840, 3), np.uint8))
    shapes = [frame.image.shape for frame in iter_frames(path, short_side=480)]
    assert shapes == [(480, 854, 3)] * 3


def test_scaling_is_an_area_mean(make_video, moving_pattern):
    frames = moving_pattern(2, 256, 384)
    image = next(iter_frames(make_video(frames=frames), short_side=64)).image
    expected = frames[0].reshape(64, 4, 96, 4, 3).mean((1, 3))
    assert psnr(image, expected) > 38


def test_size_that_changes_on_the_way(make_video, tmp_path):
    """Two sizes in one MPEG-TS stream: all frames come in the first one, unless each is to keep its own."""
    parts = [make_video(f"{h}.ts", shots=[6], size=(h, 2 * h)).read_bytes() for h in (64, 32)]
    path = tmp_path / "both.ts"
    path.write_bytes(b"".join(parts))
    assert {frame.image.shape for frame in iter_frames(path)} == {(64, 128, 3)}
    own = list(iter_frames(path, sizes="own"))
    assert [frame.image.shape for frame in own] == [(64, 128, 3)] * 6 + [(32, 64, 3)] * 6
    assert [frame.index for frame in own if frame.new_size] == [6]


def test_a_shape_that_changes_on_the_way_is_no_stretched_video(make_video, tmp_path):
    parts = [make_video(f"{w}.ts", shots=[6], size=(64, w)).read_bytes() for w in (128, 40)]
    path = tmp_path / "both.ts"
    path.write_bytes(b"".join(parts))
    frames, message = read_until_error(path)
    assert len(frames) == 6
    assert "changes from 128x64 to 40x64 at frame 6" in message
    assert [frame.image.shape for frame in iter_frames(path, sizes="own")] == [(64, 128, 3)] * 6 + [(64, 40, 3)] * 6


def test_a_pixel_aspect_that_changes_on_the_way(make_video, tmp_path):
    parts = [
        make_video(f"{n}.ts", shots=[6], size=(64, 64), aspect=aspect).read_bytes()
        for n, aspect in enumerate([Fraction(1), Fraction(3, 2)])
    ]
    path = tmp_path / "both.ts"
    path.write_bytes(b"".join(parts))
    own = list(iter_frames(path, sizes="own"))
    assert [frame.image.shape for frame in own] == [(64, 64, 3)] * 6 + [(64, 96, 3)] * 6
    assert [frame.index for frame in own if frame.new_size] == [6]


def test_files_that_are_no_video(tmp_path):
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "text.mp4").write_text("not a video\n" * 100)
    for name, reason in [("empty.mp4", "empty"), ("text.mp4", "not a video"), ("none.mp4", "no such file")]:
        frames, message = read_until_error(tmp_path / name)
        assert not frames
        assert reason in message
    _, message = read_until_error(tmp_path)
    assert "folder" in message
    with pytest.raises(VideoError, match="video in memory"):
        decode_video(b"nothing")
    with pytest.raises(VideoError, match="no such file"):
        probe(tmp_path / "none.mp4")


def test_sound_only(tmp_path):
    path = tmp_path / "sound.m4a"
    with av.open(str(path), "w", format="mp4") as container:
        stream = container.add_stream("aac", rate=16000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 16000
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    assert "no video stream" in read_until_error(path)[1]


def test_no_frames(make_video):
    path = make_video("zero.avi", frames=np.zeros((0, 32, 32, 3), np.uint8), codec="mpeg4")
    assert "no frame" in read_until_error(path)[1]
    with pytest.raises(VideoError, match="no frame"):
        probe(path)


def test_truncated_before_its_index(make_video):
    path = make_video("cut.mp4")
    path.write_bytes(path.read_bytes()[:-2000])
    frames, message = read_until_error(path)
    assert not frames
    assert "truncated" in message


def test_truncated_behind_its_index(make_video):
    path = make_video("cut.mp4", shots=[60], options={"movflags": "faststart"})
    whole = [frame.image for frame in iter_frames(path)]
    data = path.read_bytes()
    path.write_bytes(data[: int(0.7 * len(data))])
    frames, message = read_until_error(path)
    assert 10 < len(frames) < 60
    assert "damaged" in message
    for frame in frames:
        np.testing.assert_array_equal(frame.image, whole[frame.index])


def test_damage_in_the_middle(make_video):
    path = make_video("hurt.mp4", shots=[96], size=(96, 160))
    whole = [frame.image for frame in iter_frames(path)]
    data = bytearray(path.read_bytes())
    middle = data.index(b"mdat") + (len(data) - data.index(b"mdat")) // 2
    data[middle : middle + 400] = np.random.default_rng(0).bytes(400)
    path.write_bytes(data)
    frames, message = read_until_error(path)
    assert "damaged" in message
    assert 48 < len(frames) < 96
    assert sum(frame.num_lost > 0 for frame in frames) == 1
    for frame in frames:
        assert psnr(frame.image, whole[frame.index]) > 40  # no concealed garbage


@pytest.mark.parametrize("indices", [[0], [47], [0, 1, 2], [3, 9, 20, 47], range(11, 40, 2)])
@pytest.mark.parametrize("gop", [5, 250])
def test_selected_frames_are_those_of_the_whole(make_video, moving_pattern, indices, gop):
    path = make_video(frames=moving_pattern(48, 32, 48), gop=gop, rotation=90)
    whole = [frame.image for frame in iter_frames(path, 16)]
    found = list(select_frames(path, indices, 16))
    assert len(found) == len(indices)
    for image, i in zip(found, indices, strict=True):
        assert np.abs(image.astype(int) - whole[i]).max() <= 3
    assert np.array_equal(next(select_frames(path.read_bytes(), indices, 16)), found[0])


@pytest.mark.parametrize("name", ["a.ts", "a.mpg", "a.mkv", "a.avi", "a.flv", "a.webm"])
def test_frames_are_found_in_any_container(make_video, moving_pattern, name):
    """Some have no index: a search may end behind the frame."""
    codec = {"a.mpg": "mpeg1video", "a.webm": "libvpx", "a.flv": "flv1"}.get(name, "libx264")
    path = make_video(name, frames=moving_pattern(60, 64, 96), codec=codec, fps=25)
    whole = [frame.image for frame in iter_frames(path)]
    for indices in ([0, 5], [30, 33], [40], [58, 59]):
        for image, i in zip(select_frames(path, indices), indices, strict=True):
            assert np.array_equal(image, whole[i])


@pytest.mark.parametrize("matrix", [1, 2, 5, 6, 9])
@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("size", [(128, 96), (126, 94)])
def test_selected_frames_are_scaled_as_the_whole_is(tmp_path, matrix, full, size):
    width, height = size
    frame = np.random.default_rng(0).integers(0, 256, (6, 9, 3), dtype=np.uint8)
    frame = cv2.resize(frame, size, interpolation=cv2.INTER_LINEAR)
    with av.open(str(tmp_path / "a.mp4"), "w") as container:
        stream = container.add_stream("libx264", rate=10, options={"crf": "5"})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.codec_context.colorspace, stream.codec_context.color_range = matrix, 2 if full else 1
        for _ in range(3):
            picture = av.VideoFrame.from_ndarray(frame, format="rgb24")
            container.mux(stream.encode(picture.reformat(format="yuv420p", dst_color_range=2 if full else 1)))
        container.mux(stream.encode())
    for short_side in (47, 48, 60, 80, 30):
        wanted = next(iter_frames(tmp_path / "a.mp4", short_side)).image
        (found,) = select_frames(tmp_path / "a.mp4", [0], short_side)
        assert np.array_equal(found, wanted)


def test_titles_in_other_encodings(make_video, tmp_path):
    with av.open(str(tmp_path / "a.mp4"), "w") as container:
        container.metadata["title"] = "Tanzabend"
        stream = container.add_stream("libx264", rate=10)
        stream.width, stream.height, stream.pix_fmt = 32, 32, "yuv420p"
        container.mux(stream.encode(av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8), "rgb24")))
        container.mux(stream.encode())
    data = (tmp_path / "a.mp4").read_bytes()
    assert data.count(b"Tanzabend") == 1
    (tmp_path / "a.mp4").write_bytes(data.replace(b"Tanzabend", "T\xe4nzchen ".encode("latin1")))
    assert len([*iter_frames(tmp_path / "a.mp4")]) == len([*select_frames(tmp_path / "a.mp4", [0])]) == 1


def test_frames_that_cannot_be_selected(make_video, tmp_path):
    path = make_video(shots=[10])
    with pytest.raises(VideoError, match="frame 10 is wanted, it has 10"):
        list(select_frames(path, [3, 10]))
    for indices in ([], [-1], [3, 3], [4, 2]):
        with pytest.raises(ValueError, match="rise"):
            list(select_frames(path, indices))
    data = bytearray(make_video("long.mp4", shots=[48], size=(128, 128)).read_bytes())
    middle = len(data) // 2
    data[middle : middle + 400] = bytes(400)
    with pytest.raises(VideoError, match="damaged"):
        list(select_frames(bytes(data), range(48)))
    with pytest.raises(VideoError, match="no such file"):
        list(select_frames(tmp_path / "absent.mp4", [0]))


def test_memory_is_flat_in_length(make_video):
    def peak(path: Path) -> int:
        with traced_memory() as memory:
            for _ in iter_frames(path):
                pass
        return memory.peak

    short, long = make_video("short.mp4", shots=[40]), make_video("long.mp4", shots=[800])
    assert peak(long) < peak(short) + 64 * 96 * 3 * 10


def test_real_clips(clips_dir):
    sizes = {
        "bedroom.mp4": (200, 480, 854),
        "upper_body.mkv": (89, 480, 640),
        "store_aisle.gif": (67, 270, 480),
        "balance_cam01.mp4": (100, 854, 480),
    }
    for name, expected in sizes.items():
        frames = [frame.image.shape[:2] for frame in iter_frames(clips_dir / name, short_side=480)]
        assert (len(frames), *frames[0]) == expected


def test_the_same_frames_become_the_same_bytes(moving_pattern):
    """Rows of datasets are compared byte for byte, whichever machine encoded them."""
    frames = moving_pattern(24, 64, 96)
    assert len({encode_video(frames, 24) for _ in range(6)}) == 1
