"""What streams hold beside plain frames: lost packets, hidden frames, several streams, fields, high dynamic range."""

from __future__ import annotations

import random
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from av.codec.context import Flags
from av.video.reformatter import VideoReformatter

from anthrotap_hf.video import DamagedVideoError, iter_frames, packets, probe, select_frames
from anthrotap_hf.video.display_order import is_hidden
from anthrotap_hf.video.pictures import tone_mapped


def encode(
    path: Path, frames: np.ndarray, codec="libx264", options=None, gop=250, pixels="yuv420p", times=None, **context
) -> Path:
    """Write frames [T, H, W, 3] with options of the encoder, at 24 frames/s or at some times."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=24, options=options or {})
        stream.height, stream.width, stream.pix_fmt = *frames.shape[1:3], pixels
        stream.gop_size = gop
        for name, value in context.items():
            setattr(stream.codec_context, name, value)
        if times is not None:
            stream.codec_context.time_base = Fraction(1, 1200)
        for number, image in enumerate(frames):
            picture = av.VideoFrame.from_ndarray(image, format="rgb24").reformat(format=pixels)
            if times is not None:
                picture.time_base, picture.pts = Fraction(1, 1200), round(1200 * times[number])
            for name in context.keys() & {"color_range", "color_trc", "color_primaries", "colorspace"}:
                setattr(picture, name, context[name])
            container.mux(stream.encode(picture))
        container.mux(stream.encode())
    return path


def without_packets(path: Path, numbers: set[int]) -> Path:
    """Return a copy without some packets, counted in order of decoding."""
    copy = path.with_name(f"lost{path.suffix}")
    with av.open(str(path)) as source, av.open(str(copy), "w") as container:
        stream = container.add_stream_from_template(source.streams.video[0])
        for number, packet in enumerate(source.demux(video=0)):
            if packet.size and number not in numbers:
                packet.stream = stream
                container.mux(packet)
    return copy


def sound_frames(path: Path) -> tuple[list, DamagedVideoError | None]:
    frames = []
    try:
        frames.extend(iter_frames(path))
    except DamagedVideoError as error:
        return frames, error
    return frames, None


@pytest.mark.parametrize("options", [{"bf": "0", "refs": "1"}, {"bf": "3", "refs": "4"}, {"x264-params": "open-gop=1"}])
@pytest.mark.parametrize("name", ["a.mkv", "a.ts", "a.mp4"])
def test_no_frame_after_lost_packets_until_a_key_frame(tmp_path, moving_pattern, name, options):
    path = encode(tmp_path / name, moving_pattern(60, 64, 96), options={"crf": "18", **options}, gop=40)
    whole = {round(frame.time, 2): frame.image for frame in iter_frames(path)}
    lost = without_packets(path, set(range(22, 26)))
    frames, error = sound_frames(lost)
    assert error is not None
    assert "left out" in str(error)
    for frame in frames:
        np.testing.assert_array_equal(frame.image, whole[round(frame.time, 2)])
    # All before the loss, and all from the next key frame on.
    assert sum(frame.time - frames[0].time < 16.5 / 24 for frame in frames) == 17
    assert frames[-1].time - frames[0].time == pytest.approx(59 / 24, abs=0.02)
    assert any(frame.after_loss for frame in frames)


def test_the_error_counts_what_was_left_out(tmp_path, moving_pattern):
    path = encode(tmp_path / "a.mkv", moving_pattern(60, 64, 96), options={"bf": "0"})
    frames, error = sound_frames(without_packets(path, set(range(26, 30))))
    assert [frame.index for frame in frames] == list(range(26))
    assert error is not None
    assert error.num_lost == 30
    assert "30 frames are left out; 26 frames could be read" in str(error)


@pytest.mark.parametrize("seed", range(4))
def test_bursts_in_transport_streams_leave_no_smeared_frame(tmp_path, moving_pattern, seed):
    """B-frames are displayed before the P-frame whose damage they carry."""
    path = encode(tmp_path / "a.ts", moving_pattern(72, 96, 160), options={"crf": "12", "bf": "3"})
    whole = {round(frame.time, 2): frame.image for frame in iter_frames(path)}
    data = path.read_bytes()
    at = 188 * random.Random(seed).randrange(len(data) // 564, len(data) // 282)
    path.write_bytes(data[:at] + data[at + 5 * 188 :])
    frames, error = sound_frames(path)
    assert error is not None
    assert len(frames) > 10
    for frame in frames:
        np.testing.assert_array_equal(frame.image, whole[round(frame.time, 2)])


def test_videos_that_are_read_at_once_do_not_mix(tmp_path, moving_pattern, monkeypatch):
    """Each frame is known by the number of its own packet, also where another decoder is done with that number."""
    path = encode(tmp_path / "a.mkv", moving_pattern(40, 64, 96), options={"crf": "18", "bf": "3"}, gop=12)
    add_frame, numbers = packets._Judge.add_frame, []

    def add(self, number, *rest):
        numbers.append(number)
        add_frame(self, number, *rest)

    monkeypatch.setattr(packets._Judge, "add_frame", add)
    for _ in iter_frames(path):
        for number in range(40):
            av.Packet(1).opaque = number
    assert sorted(numbers) == list(range(40))


def without_last_frame(path: Path) -> bytes:
    """Return the bytes of an MPEG-TS file without its last frame in the order of decoding."""
    data = path.read_bytes()
    video = [at for at in range(0, len(data), 188) if (data[at + 1] & 0x1F) << 8 | data[at + 2] == 256]
    # payload_unit_start_indicator
    last = max(at for at in video if data[at + 1] & 0x40)
    gone = {at for at in video if at >= last}
    return b"".join(data[at : at + 188] for at in range(0, len(data), 188) if at not in gone)


def test_a_frame_lost_right_before_a_join_is_a_gap(tmp_path, moving_pattern):
    """It is displayed between others. Transport packets there are marked as corrupt whether one is lost or not."""
    options = {"bf": "3", "x264-params": "b-adapt=0"}
    path = encode(tmp_path / "a.ts", moving_pattern(27, 64, 96), options=options)
    joined = tmp_path / "joined.ts"
    joined.write_bytes(path.read_bytes() * 2)
    frames, error = sound_frames(joined)
    assert (len(frames), error, any(frame.after_loss for frame in frames)) == (54, None, False)
    joined.write_bytes(without_last_frame(path) + path.read_bytes())
    frames, error = sound_frames(joined)
    assert [number for number, frame in enumerate(frames) if frame.after_loss] == [25]
    assert len(frames) == 53
    assert "frames lost before 1." in str(error)


LOSSY = {
    "a.ts": ("mpeg2video", {"bf": "2", "qscale": "2"}),
    "a.mpg": ("mpeg1video", {"bf": "0", "qscale": "2"}),
    "a.mp4": ("mpeg4", {"qscale": "2"}),
    "a.avi": ("mpeg4", {"qscale": "2"}),
    "b.mkv": ("mpeg4", {"bf": "2", "qscale": "2"}),
    "a.webm": ("libvpx", {}),
    "b.mp4": ("libvpx-vp9", {}),
}


@pytest.mark.parametrize("name", LOSSY)
def test_lost_packets_of_codecs_without_frame_numbers(tmp_path, moving_pattern, name):
    """The time stamps or numbers of MPEG-1, 2 and 4, VP8 and VP9 tell, where frames come at one rate."""
    codec, options = LOSSY[name]
    path = encode(tmp_path / name, moving_pattern(60, 64, 96), codec, options, gop=40)
    whole = [frame.image for frame in iter_frames(path)]
    assert len(whole) == 60
    frames, error = sound_frames(without_packets(path, {24, 25, 26}))
    assert error is not None
    assert "frames lost before" in str(error)
    for frame in frames:
        assert min(np.abs(frame.image.astype(int) - image).mean() for image in whole) < 0.5
    # All before the loss, but for what is displayed around it, and all from the next key frame on.
    assert 18 + 20 <= len(frames) <= 24 + 20


@pytest.mark.parametrize("name", ["a.mp4", "b.mkv", "a.webm", "b.mp4"])
def test_a_pause_and_a_rate_that_varies_are_no_loss(tmp_path, moving_pattern, name):
    codec, options = LOSSY[name]
    even = [n / 24 for n in range(40)]
    varying = np.cumsum([0, *np.random.default_rng(0).choice([2, 3], 39)]) / 24
    for times in ([time + 3 * (n >= 20) for n, time in enumerate(even)], varying):
        frames, error = sound_frames(encode(tmp_path / name, moving_pattern(40, 64, 96), codec, options, times=times))
        assert error is None
        assert len(frames) == 40


def test_a_frame_of_vp9_profile_3_is_not_called_hidden():
    """Its header has one more bit before those that tell."""
    assert not is_hidden("vp9", bytes([0b10110001, 0]))
    # Of profile 0, an inter frame that is not shown.
    assert is_hidden("vp9", bytes([0b10000100, 0]))


def test_hidden_frames_of_vp8_are_not_counted(tmp_path, moving_pattern):
    shown = encode(tmp_path / "shown.webm", moving_pattern(48, 64, 96), "libvpx")
    path = tmp_path / "hidden.webm"
    with av.open(str(shown)) as source, av.open(str(path), "w") as container:
        stream = container.add_stream_from_template(source.streams.video[0])
        for number, packet in enumerate(source.demux(video=0)):
            if not packet.size:
                continue
            data = bytearray(bytes(packet))
            if number in (10, 20):
                data[0] &= 0xEF  # show_frame
            copy = av.Packet(bytes(data))
            copy.pts, copy.dts, copy.time_base, copy.stream = packet.pts, packet.dts, packet.time_base, stream
            copy.is_keyframe = packet.is_keyframe
            container.mux(copy)
    whole = [frame.image for frame in iter_frames(path)]
    assert len(whole) == 46
    for number in (0, 9, 10, 17, 30, 45):
        (image,) = select_frames(path, [number])
        np.testing.assert_array_equal(image, whole[number])


@pytest.mark.parametrize("suffix", ["mkv", "mp4"])
def test_the_default_stream_is_read_and_said(tmp_path, moving_pattern, suffix, caplog):
    path = tmp_path / f"two.{suffix}"
    with av.open(str(path), "w") as container:
        thumbnail = container.add_stream("mjpeg", rate=25)
        video = container.add_stream("libx264", rate=24)
        for stream, pixels in ((thumbnail, "yuvj420p"), (video, "yuv420p")):
            stream.height, stream.width, stream.pix_fmt = 64, 96, pixels
        video.disposition = av.stream.Disposition.default
        for number, image in enumerate(moving_pattern(20, 64, 96)):
            picture = av.VideoFrame.from_ndarray(image, format="rgb24")
            container.mux(video.encode(picture.reformat(format="yuv420p")))
            if not number:
                container.mux(thumbnail.encode(picture.reformat(format="yuvj420p")))
        container.mux(video.encode())
        container.mux(thumbnail.encode())
    assert len(list(iter_frames(path))) == 20
    assert "2 video streams: number 2 is read (h264, 96x64" in caplog.text
    assert "truncated" not in caplog.text


def test_longer_sound_and_slow_frames_are_no_truncation(tmp_path, moving_pattern, make_video, caplog):
    path = tmp_path / "sound.mp4"
    with av.open(str(path), "w") as container:
        video, sound = container.add_stream("libx264", rate=24), container.add_stream("aac", rate=16000)
        video.height, video.width, video.pix_fmt = 64, 96, "yuv420p"
        for image in moving_pattern(24, 64, 96):
            container.mux(video.encode(av.VideoFrame.from_ndarray(image, format="rgb24").reformat(format="yuv420p")))
        container.mux(video.encode())
        for number in range(80):
            samples = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
            samples.sample_rate, samples.pts = 16000, 1024 * number
            container.mux(sound.encode(samples))
        container.mux(sound.encode())
    assert len(list(iter_frames(path))) == 24
    assert len(list(iter_frames(make_video("slow.mp4", shots=[10], fps=0.5)))) == 10
    assert "truncated" not in caplog.text


def test_a_variable_rate_is_the_mean(make_video):
    times = np.cumsum([0, *np.random.default_rng(0).choice([2, 3], 47)]) / 24
    info = probe(make_video(shots=[48], times=times, fps=24))
    assert info.variable_rate
    assert info.fps == pytest.approx(48 / times[-1], rel=0.05)


@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize(("pixels", "bits"), [("yuv420p", 8), ("yuv420p10le", 10), ("yuv422p10le", 10)])
def test_levels_are_kept_within_rounding(tmp_path, pixels, bits, full):
    """Patches of plain colors, coded without loss, against the formula of BT.709."""
    rng = np.random.default_rng(0)
    rgb = rng.random((6, 8, 3))
    luma = rgb @ [0.2126, 0.7152, 0.0722]
    planes = np.stack([luma, (rgb[..., 2] - luma) / 1.8556, (rgb[..., 0] - luma) / 1.5748])
    top = (1 << bits) - 1
    scale = 1 << (bits - 8)
    if full:
        code = np.round(planes * top + np.array([0, 128, 128])[:, None, None] * scale)
        y, u, v = code[0] / top, *((code[1:] - 128 * scale) / top)
    else:
        code = np.round((planes * np.array([219, 224, 224])[:, None, None] + [[[16]], [[128]], [[128]]]) * scale)
        y, u, v = (code[0] / scale - 16) / 219, *((code[1:] / scale - 128) / 224)
    expected = np.stack([y + 1.5748 * v, y - 0.1873 * u - 0.4681 * v, y + 1.8556 * u], -1).clip(0, 1) * 255
    frame = av.VideoFrame(128, 96, pixels)
    for plane, values in zip(frame.planes, code, strict=True):
        patches = values.repeat(plane.height // 6, 0).repeat(plane.width // 8, 1)
        samples = np.zeros((plane.height, plane.line_size), np.uint8)
        packed = patches.astype(np.uint8 if bits == 8 else np.uint16).view(np.uint8)
        samples[:, : packed.shape[1]] = packed
        plane.update(samples)
    with av.open(str(tmp_path / "a.mkv"), "w") as container:
        stream = container.add_stream("ffv1", rate=10)
        stream.width, stream.height, stream.pix_fmt = 128, 96, pixels
        stream.codec_context.colorspace, stream.codec_context.color_range = 1, 2 if full else 1
        frame.colorspace, frame.color_range = 1, 2 if full else 1
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    (found,) = iter_frames(tmp_path / "a.mkv")
    error = found.image[8::16, 8::16] - expected
    assert abs(error.mean()) < (0.5 if full and bits > 8 else 0.1)
    assert np.abs(error).max() < (1.3 if full and bits > 8 else 0.6)


def test_interlaced_frames_become_whole_pictures(tmp_path):
    """A bar that moves between the two fields of each frame."""
    frames = np.full((12, 96, 160, 3), 40, np.uint8)
    for number, image in enumerate(frames):
        for field in (0, 1):
            left = 10 + 8 * number + 4 * field
            image[field::2, left : left + 16] = 220
    options = {"crf": "4", "x264-params": "interlaced=1:tff=1"}
    path = tmp_path / "a.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25, options=options)
        stream.height, stream.width, stream.pix_fmt = 96, 160, "yuv420p"
        stream.codec_context.flags |= Flags.interlaced_dct
        for image in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, "rgb24").reformat(format="yuv420p")))
        container.mux(stream.encode())

    def combs(images: list[np.ndarray]) -> float:
        return float(np.mean([np.abs(np.diff(image.astype(float), axis=0)).mean() for image in images]))

    raw = list(iter_frames(path, deinterlace=False))
    whole = list(iter_frames(path))
    assert [frame.time for frame in whole] == [frame.time for frame in raw]
    assert len(whole) == 12
    assert combs([frame.image for frame in raw]) > 4
    assert combs([frame.image for frame in whole[1:-1]]) < 0.25 * combs([frame.image for frame in raw[1:-1]])
    for number in (0, 5, 11):
        np.testing.assert_array_equal(next(select_frames(path, [number])), whole[number].image)


@pytest.mark.parametrize("transfer", [16, 18])
def test_high_dynamic_range_is_tone_mapped(transfer):
    """Gray of known light: hues stay, darker than the knee nothing changes, and the peak is white."""
    # cd/m2: far below the knee, diffuse white, the peak.
    light = np.array([5.0, 20.0, 203.0, 1000.0])
    if transfer == 16:
        power = (light / 10000) ** (2610 / 16384)
        signal = ((3424 / 4096 + 2413 / 128 * power) / (1 + 2392 / 128 * power)) ** (2523 / 32)
    else:
        scene = (light / 1000) ** (1 / 1.2)
        bright = 0.17883277 * np.log(np.maximum(12 * scene - 0.28466892, 1e-9)) + 0.55991073
        signal = np.where(scene <= 1 / 12, np.sqrt(3 * scene), bright)
    frame = av.VideoFrame(64, 16, "yuv420p10le")
    frame.colorspace, frame.color_primaries, frame.color_trc, frame.color_range = 9, 9, transfer, 1
    luma = np.round((16 + 219 * signal) * 4).astype(np.uint16).repeat(16)[None].repeat(16, 0)
    chroma = np.full((8, 32), 512, np.uint16)
    for plane, values in zip(frame.planes, (luma, chroma, chroma), strict=True):
        samples = np.zeros((plane.height, plane.line_size), np.uint8)
        samples[:, : 2 * values.shape[1]] = values.view(np.uint8)
        plane.update(samples)
    image = tone_mapped(frame, VideoReformatter(), 64, 16)
    found = image[8, 8::16]
    assert (np.ptp(found.astype(int), axis=-1) <= 1).all()
    # BT.1886: light relative to diffuse white, to the power 1 / 2.4.
    assert found[:2, 0] == pytest.approx(255 * (light[:2] / 203) ** (1 / 2.4), abs=2.5)
    assert 200 < found[2, 0] < 245
    assert found[3, 0] >= 253
