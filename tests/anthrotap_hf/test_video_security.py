"""Files of strangers: nothing but the file itself is opened, and no frame is larger than the limits."""

from __future__ import annotations

import socket
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from anthrotap_hf.video import VideoError, decode_video, iter_frames, probe, select_frames

SDP = (
    "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video {port} RTP/AVP 96\na=rtpmap:96 H264/90000\n"
)
SCRIPTS = {
    "hls": "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{file}\n#EXT-X-ENDLIST\n",
    "hls of an address": "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nhttp://127.0.0.1:{port}/a.ts\n#EXT-X-ENDLIST\n",
    "ffconcat": "ffconcat version 1.0\nfile {file}\n",
    "ffconcat in quotes": "ffconcat version 1.0\nfile 'file:{file}'\n",
    "sdp": SDP,
    "dash": '<?xml version="1.0"?>\n<MPD xmlns="urn:mpeg:dash:schema:mpd:2011"><Period>'
    "<AdaptationSet mimeType='video/mp4'>"
    "<Representation id='1'><BaseURL>{file}</BaseURL></Representation></AdaptationSet></Period></MPD>",
    "playlist with a byte order mark": "\ufeff#EXTM3U\n#EXTINF:1,\n{file}\n",
}


@pytest.fixture
def listener():
    """A port of this machine that notes whether anybody connects."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.01)
        yield server


@pytest.mark.parametrize("suffix", [".mp4", ".m3u8", ".ffconcat", ".sdp", ".mpd"])
@pytest.mark.parametrize("kind", SCRIPTS)
def test_scripts_and_playlists_open_nothing(make_video, tmp_path, monkeypatch, listener, kind, suffix):
    monkeypatch.chdir(tmp_path)
    make_video("private.ts", size=(32, 32), shots=[3])
    port = listener.getsockname()[1]
    for file in ("private.ts", str(tmp_path / "private.ts")):
        text = SCRIPTS[kind].format(file=file, port=port).encode()
        path = tmp_path / f"script{suffix}"
        path.write_bytes(text)
        for source in (text, path):
            for read in (probe, decode_video, lambda source: list(select_frames(source, [0]))):
                with pytest.raises(VideoError) as caught:
                    read(source)
                assert "\n" not in str(caught.value)
    with pytest.raises(TimeoutError):
        listener.accept()


def test_sdp_binds_no_port():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe_socket:
        probe_socket.bind(("127.0.0.1", 0))
        port = probe_socket.getsockname()[1]
    with pytest.raises(VideoError, match="playlist or script"):
        decode_video(SDP.format(port=port).encode())
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as again:
        again.bind(("127.0.0.1", port))


def test_names_are_no_patterns_and_no_protocols(make_video, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    make_video("concat:private.mp4", shots=[3])
    Path("frame%02d.mp4").write_bytes(Path("concat:private.mp4").read_bytes())
    for name in ("concat:private.mp4", "frame%02d.mp4"):
        assert len(list(iter_frames(name))) == 3


def one_frame(path: Path, width: int, height: int, codec: str = "ffv1") -> Path:
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=10)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        container.mux(stream.encode(av.VideoFrame(width, height, "yuv420p")))
        container.mux(stream.encode())
    return path


@pytest.mark.parametrize(("width", "height"), [(30720, 16), (16, 16400)])
def test_frames_beyond_the_limits_are_refused(tmp_path, width, height):
    path = one_frame(tmp_path / "large.mkv", width, height)
    for read in (probe, decode_video):
        with pytest.raises(VideoError, match=f"its frames are {width}x{height}, more than 16384 pixels a side"):
            read(path)


@pytest.mark.parametrize("aspect", [Fraction(50), Fraction(1, 50)])
def test_absurd_pixel_aspects_are_refused(make_video, aspect):
    path = make_video(size=(128, 128), aspect=aspect)
    for read in (probe, decode_video):
        with pytest.raises(VideoError, match="times as wide as high"):
            read(path)


def test_exif_in_a_frame_is_no_error(tmp_path):
    """PyAV knows no side data of this kind."""
    from PIL import Image

    image = Image.fromarray(np.zeros((32, 48, 3), np.uint8))
    exif = image.getexif()
    exif[0x0112] = 6
    image.save(tmp_path / "turned.jpg", exif=exif)
    path = tmp_path / "photo.mjpeg"
    path.write_bytes((tmp_path / "turned.jpg").read_bytes() * 3)
    assert [frame.image.shape for frame in iter_frames(path)] == [(48, 32, 3)] * 3
