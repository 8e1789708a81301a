"""Opening video files: which formats are read, which stream of a file, and how large its frames may be.

Files come from anyone. FFmpeg also reads scripts and playlists, which name other files or addresses, and opens those:
here only formats that hold their own frames are read, and nothing but the file itself is opened.

Beside `decode.py` the file stands alone: saved pipelines take a copy of both along.
"""

from __future__ import annotations

import io
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from typing import Any

import av
from av.codec.context import Flags

try:
    from anthrotap_hf.utils.errors import AnthroTapError
except ImportError:

    class AnthroTapError(ValueError):  # type: ignore[no-redef]
        """Stands for the error of that name in a copy of this file."""

        def __init__(self, reason: object, *, path: object = None, hint: str | None = None) -> None:
            self.reason, self.path, self.hint = str(reason), path, hint
            super().__init__((f"{path}: " if path else "") + self.reason + (f"; {hint}" if hint else ""))


VideoSource = str | os.PathLike[str] | bytes

# FFmpeg's names of the formats that are read. None of them refers to another file, as far as FFmpeg follows it.
FORMATS = (
    *("apng", "asf", "avi", "av1", "cavsvideo", "dhav", "dirac", "dv", "flv", "gif", "gxf", "h261", "h263", "h264"),
    *("hevc", "ivf", "live_flv", "m4v", "matroska", "mjpeg", "mov", "mpeg", "mpegts", "mpegvideo", "mxf", "nut"),
    *("obu", "ogg", "rm", "vc1", "vc1test", "vvc", "wtv", "yuv4mpegpipe"),
)
# Single pictures, for folders of frames.
IMAGE_FORMATS = ("bmp_pipe", "jpeg_pipe", "png_pipe", "ppm_pipe", "pgm_pipe", "tiff_pipe", "webp_pipe")
# The first bytes of text that has FFmpeg open other files, addresses or ports.
REFERENCES = re.compile(rb"\s*(#EXTM3U|ffconcat version|v=0\s|\[playlist\]|<\?xml|<(MPD|SmoothStreamingMedia)\b)", re.I)
# Pixels of a frame, decoded or displayed, and of its longer side: 8K of a 360-degree camera fits twice.
MAX_PIXELS = 1 << 26
MAX_SIDE = 16384
# The largest stretch of pixels; anamorphic video has 2 at most.
MAX_ASPECT = 4
# Of several streams, one of these is a cover or a thumbnail.
STILL_CODECS = frozenset({"bmp", "gif", "mjpeg", "png", "tiff", "webp"})
# Errors are raised for what FFmpeg would otherwise conceal by pixels that it makes up.
DETECT_ERRORS = {"err_detect": "crccheck+bitstream+buffer+explode", "max_pixels": str(MAX_PIXELS)}

REENCODE = "re-encode the video or leave it out"


class VideoError(AnthroTapError):
    """A video cannot be read, or not to its end."""


def source_name(source: VideoSource) -> str:
    """Return how messages name a video."""
    return "video in memory" if isinstance(source, bytes) else os.fspath(source)


@contextmanager
def open_video(source: VideoSource, formats: tuple[str, ...] = FORMATS) -> Iterator[tuple[Any, Any]]:
    """Yield the open PyAV container and the stream that is read.

    The decoder runs in one thread, so that an error is that of the packet just decoded; it copies `Packet.opaque` to
    its frames.

    Raises:
        VideoError: there is no such file, it is none of `formats`, it has no video stream that can be decoded, or its
            frames are larger than the limits.
    """
    name = source_name(source)
    if not isinstance(source, bytes):
        # A name that is too long for the file system, or has a null byte, is no file's: pathlib raises for these.
        if os.path.isdir(source):
            raise VideoError("this is a folder", path=name, hint="name the video files in it")
        if not os.path.isfile(source):
            raise VideoError("no such file", path=name, hint="check the path")
        if not os.path.getsize(source):
            raise VideoError("the file is empty", path=name, hint="fetch it again")
    # "file:" keeps a colon in the name from being read as a protocol. No protocol is named "none".
    file, protocol = (io.BytesIO(source), "none") if isinstance(source, bytes) else (f"file:{name}", "file")
    options = {"format_whitelist": ",".join(formats), "protocol_whitelist": protocol}
    try:
        # Titles and such come in any encoding.
        container = av.open(file, options=options, metadata_errors="replace")
    except (av.error.FFmpegError, ValueError) as error:
        raise _not_opened(source, error) from error
    with container:
        stream = _choose_stream(container, name)
        context = stream.codec_context
        check_size(context.coded_width or context.width, context.coded_height or context.height, name)
        context.thread_type, context.thread_count = "NONE", 1
        context.flags |= Flags.copy_opaque
        context.options = DETECT_ERRORS
        yield container, stream


def video_streams(container: Any) -> list[Any]:
    """Return the video streams of a container, without the covers of songs, which are streams of one picture."""
    return [s for s in container.streams.video if not s.disposition & s.disposition.attached_pic]


def describe_choice(container: Any, stream: Any) -> str | None:
    """Return which of several video streams is read, in words; None where there is only one."""
    streams = video_streams(container)
    if len(streams) < 2:
        return None
    default = ", the default one" if stream.disposition & stream.disposition.default else ""
    context = stream.codec_context
    return (
        f"{len(streams)} video streams: number {streams.index(stream) + 1} is read "
        f"({context.name}, {context.width}x{context.height}{default})"
    )


def check_size(width: int, height: int, name: str) -> None:
    """Raise VideoError if a frame of so many pixels is not read."""
    if width > MAX_SIDE or height > MAX_SIDE or width * height > MAX_PIXELS:
        reason = f"its frames are {width}x{height}, more than {MAX_SIDE} pixels a side or {MAX_PIXELS >> 20} million"
        raise VideoError(reason, path=name, hint="scale the video down or leave it out")


def check_aspect(aspect: Fraction | None, name: str) -> None:
    """Raise VideoError if pixels are said to be stretched beyond MAX_ASPECT."""
    if aspect and not 1 / MAX_ASPECT <= aspect <= MAX_ASPECT:
        reason = f"its pixels are said to be {float(aspect):.4g} times as wide as high"
        raise VideoError(reason, path=name, hint="correct the file's pixel aspect ratio or leave it out")


def _choose_stream(container: Any, name: str) -> Any:
    """Return the stream to read: no still picture if there is another, then the default one, then the largest."""
    streams = video_streams(container)
    if not streams:
        raise VideoError("it has no video stream", path=name, hint="leave it out")
    decodable = [stream for stream in streams if stream.codec_context is not None]
    if not decodable:
        raise VideoError("no decoder for its video stream", path=name, hint="re-encode it as H.264")

    def rank(stream: Any) -> tuple[bool, bool, bool, int]:
        context = stream.codec_context
        is_default = bool(stream.disposition & stream.disposition.default)
        area = context.width * context.height
        return stream.frames != 1, context.name not in STILL_CODECS, is_default, area

    # Of equal ones the first.
    return max(decodable, key=rank)


def _not_opened(source: VideoSource, error: Exception) -> VideoError:
    """Return the error for a file that FFmpeg does not open, or may not."""
    name = source_name(source)
    if isinstance(source, bytes):
        head = source[:64]
    else:
        with open(source, "rb") as file:
            head = file.read(64)
    if REFERENCES.match(head):
        hint = "name the video itself"
        return VideoError("a playlist or script that names other files, which are not opened", path=name, hint=hint)
    # FFmpeg's errors of not being on the list of formats, and of not being in any format that it knows.
    reason = getattr(error, "strerror", None) or str(error)
    hint = "if it should be one, it is truncated or damaged: fetch it again"
    return VideoError(f"not a video that can be read ({reason})", path=name, hint=hint)
