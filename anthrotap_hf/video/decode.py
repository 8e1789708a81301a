"""Decoding videos frame by frame with PyAV.

The file stands alone: saved pipelines take a copy of it along, and run where this package is not installed.
"""

from __future__ import annotations

import io
import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.video.reformatter import Interpolation, VideoReformatter

try:
    from anthrotap_hf.utils.errors import AnthroTapError
except ImportError:

    class AnthroTapError(ValueError):  # type: ignore[no-redef]
        """Stands for the error of that name in a copy of this file."""

        def __init__(self, reason: object, *, path: object = None, hint: str | None = None) -> None:
            self.reason, self.path, self.hint = str(reason), path, hint
            super().__init__((f"{path}: " if path else "") + self.reason + (f"; {hint}" if hint else ""))


logger = logging.getLogger(__name__)

# FFmpeg's names of the containers that say when each frame is displayed.
SEEKABLE = ("mov,mp4", "matroska")

VideoSource = str | os.PathLike[str] | bytes

# Workers run many videos side by side: a few threads a file, whatever the machine has.
THREADS = 2
# swscale's default rounding darkens by 1 of 255 levels. These flags cost nothing where it scales anyway, but twice the
# time where it only converts.
SCALE = Interpolation.AREA | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INT
CONVERT = Interpolation.AREA

REENCODE = "re-encode the video or leave it out"
FETCH = "fetch the file again"


class VideoError(AnthroTapError):
    """A video cannot be read, or not to its end."""


@dataclass(frozen=True)
class VideoInfo:
    """What a video's file says: displayed size (after rotation and pixel aspect), frames/s, seconds."""

    width: int
    height: int
    fps: float | None
    duration: float | None


@dataclass(frozen=True)
class Frame:
    """One decoded frame.

    Attributes:
        image: [H, W, 3] uint8 RGB, upright and with square pixels.
        time: seconds, by the file's own clock (frame rates may vary).
        index: which of the decoder's frames this is, counted from 0.
        after_gap: whether damaged frames right before this one were skipped.
    """

    image: np.ndarray
    time: float
    index: int
    after_gap: bool = False


def probe(source: VideoSource) -> VideoInfo:
    """Return the size, rate (frames/s) and duration (s) of a video; the last two are None where the file has none.

    Raises:
        VideoError: the first frame cannot be decoded.
    """
    with _open(source) as (container, stream):
        frame = next((frame for frame in _decode(container, stream, []) if frame is not None), None)
        if frame is None:
            raise VideoError("no frame can be decoded", path=_name(source), hint=REENCODE)
        width, height = _display_size(frame, stream)
        duration = container.duration
        return VideoInfo(width, height, _rate(stream), duration / av.time_base if duration else None)


def iter_frames(source: VideoSource, short_side: int | None = None) -> Iterator[Frame]:
    """Yield the frames of a video one at a time, so that memory stays flat in its length.

    The display matrix (a phone's rotation, mirroring) and the pixel aspect ratio are applied; frames whose
    size changes on the way are brought back to the first one's.

    Args:
        source: a file (whatever FFmpeg reads: mp4, mkv, GIF, ...) or its bytes.
        short_side: scale the shorter side to this many pixels, while converting colors. Videos are never
            enlarged. Sizes are then even, as H.264 wants them. None keeps the size.

    Raises:
        VideoError: the file cannot be opened, has no video stream or no frame; or, after the last good frame, a part
            was damaged. Frames from a damaged one to the next key frame are skipped (predicted frames carry the damage
            on), so all that are yielded may be used.
    """
    name = _name(source)
    damage: list[str] = []
    count = 0
    with _open(source) as (container, stream):
        rate = _rate(stream)
        reformatter = VideoReformatter()
        size: tuple[int, int] | None = None
        gap, time = False, 0.0
        for index, frame in enumerate(_decode(container, stream, damage)):
            if frame is None:
                gap = True
                continue
            if size is None:
                size = _fit(*_display_size(frame, stream), short_side)
            if frame.time is not None:
                time = frame.time
            elif count:
                time += 1 / (rate or 25.0)
            yield Frame(_to_rgb(frame, reformatter, size), time, index, gap and count > 0)
            count, gap = count + 1, False
        if not damage and container.duration and count and time + 1 < (end := container.duration / av.time_base):
            logger.warning("%s: the video ends at %.1f s, the file says %.1f s; is it truncated?", name, time, end)
    if not count:
        reason = f"no frame can be decoded ({damage[0]})" if damage else "the video stream has no frames"
        raise VideoError(reason, path=name, hint=REENCODE)
    if damage:
        hint = f"{count} frames could be read, fetch the file again for the rest"
        raise VideoError(f"damaged ({damage[0]})", path=name, hint=hint)


def decode_video(source: VideoSource) -> np.ndarray:
    """Return all frames of a (short) video, [T, H, W, 3] uint8 RGB. Raises VideoError unless all can be read."""
    return np.stack([frame.image for frame in iter_frames(source)])


def select_frames(source: VideoSource, indices: Sequence[int], short_side: int | None = None) -> Iterator[np.ndarray]:
    """Yield some frames of a video one at a time, each [H, W, 3] uint8 RGB, and decode little more than these.

    Packets are listed first (not decoded): frame i is the i-th one in order of display. Decoding starts at the last key
    frame before the first frame wanted, and skips frames that neither are wanted nor needed by others. It runs in one
    thread, as training reads many videos side by side. Containers other than mp4 and Matroska, whose time stamps are
    guesses, are decoded from the start.

    Args:
        source: a file or its bytes.
        indices: frames, counted from 0, rising.
        short_side: scale the shorter side to at most this many pixels, as in `iter_frames`.

    Raises:
        VideoError: there is no such frame, or the frames wanted are damaged.
        ValueError: indices are negative or do not rise.
    """
    wanted = [int(index) for index in indices]
    if not wanted or wanted[0] < 0 or any(after <= before for before, after in pairwise(wanted)):
        raise ValueError("indices must be frame numbers from 0 on that rise")
    name = _name(source)
    damage: list[str] = []
    reformatter = VideoReformatter()
    size: tuple[int, int] | None = None
    count = 0
    with _open(source) as (container, stream):
        if not container.format.name.startswith(SEEKABLE):
            yield from _count_frames(source, wanted, short_side)
            return
        times = _times_of(container, stream, wanted, name)
        stream.codec_context.thread_count = 1
        try:
            container.seek(times[0], stream=stream, backward=True)
        except av.error.FFmpegError as error:
            raise VideoError(f"damaged ({error.strerror})", path=name, hint=FETCH) from error
        for frame in _decode(container, stream, damage, set(times)):
            if frame is None or frame.pts != times[count]:
                continue
            if size is None:
                size = _fit(*_display_size(frame, stream), short_side)
            yield _to_rgb(frame, reformatter, size)
            count += 1
            if count == len(times):
                return
    reason = damage[0] if damage else f"frame {wanted[count]} is missing"
    raise VideoError(f"damaged ({reason})", path=name, hint="fetch the file again or leave it out")


def _times_of(container: Any, stream: Any, wanted: Sequence[int], name: str) -> list[int]:
    """Return the time stamps of frames by number, from the list of packets. Raises VideoError if one is missing."""
    try:
        times = [packet.pts for packet in container.demux(stream) if packet.size and not packet.is_discard]
    except av.error.FFmpegError as error:
        raise VideoError(f"damaged ({error.strerror})", path=name, hint=FETCH) from error
    if wanted[-1] >= len(times):
        raise VideoError(f"frame {wanted[-1]} is wanted, it has {len(times)} frames", path=name)
    if None in times:
        raise VideoError("its frames have no time stamps to find them by", path=name, hint="re-encode it as mp4")
    times.sort()
    return [times[index] for index in wanted]


def _count_frames(source: VideoSource, wanted: Sequence[int], short_side: int | None) -> Iterator[np.ndarray]:
    """Do as `select_frames` where time stamps are no help: decode all frames up to the last one wanted."""
    count = total = 0
    for frame in iter_frames(source, short_side):
        total = frame.index + 1
        if frame.index > wanted[count]:
            raise VideoError(f"frame {wanted[count]} is damaged", path=_name(source), hint=FETCH)
        if frame.index == wanted[count]:
            yield frame.image
            count += 1
            if count == len(wanted):
                return
    raise VideoError(f"frame {wanted[count]} is wanted, it has {total} frames", path=_name(source))


def _name(source: VideoSource) -> str:
    return "video in memory" if isinstance(source, bytes) else os.fspath(source)


@contextmanager
def _open(source: VideoSource) -> Iterator[tuple[Any, Any]]:
    """Yield the open container and its video stream."""
    name = _name(source)
    if not isinstance(source, bytes):
        path = Path(source)
        if path.is_dir():
            raise VideoError("this is a folder", path=name, hint="name the video files in it")
        if not path.is_file():
            raise VideoError("no such file", path=name, hint="check the path")
        if not path.stat().st_size:
            raise VideoError("the file is empty", path=name, hint="fetch it again")
    # "file:" keeps a colon in the name from being read as a protocol.
    file = io.BytesIO(source) if isinstance(source, bytes) else f"file:{name}"
    try:
        # Titles and such come in any encoding.
        container = av.open(file, metadata_errors="replace")
    except av.error.FFmpegError as error:
        raise VideoError(
            f"not a video that FFmpeg can open ({error.strerror})",
            path=name,
            hint="if it should be one, it is truncated or damaged: fetch it again",
        ) from error
    with container:
        # A song's cover is a video stream, too, of one picture.
        streams = [s for s in container.streams.video if not s.disposition & s.disposition.attached_pic]
        if not streams:
            raise VideoError("it has no video stream", path=name, hint="leave it out")
        stream = streams[0]
        if stream.codec_context is None:
            raise VideoError("no decoder for its video stream", path=name, hint="re-encode it as H.264")
        stream.thread_type = "AUTO"
        stream.codec_context.thread_count = THREADS
        yield container, stream


def _decode(container: Any, stream: Any, damage: list[str], wanted: set[int] | None = None) -> Iterator[Any]:
    """Yield the frames of a stream, and None for each one that damage reaches; `damage` gets the reasons.

    Where `wanted` names time stamps, other frames are skipped unless they are needed to predict some.
    """
    # After damage, whether the next key frame is still to come.
    waiting = False
    packets = container.demux(stream)
    while True:
        try:
            packet = next(packets, None)
        except av.error.FFmpegError as error:
            damage.append(f"{error.strerror} while reading")
            return
        if packet is None:
            return
        if wanted is not None:
            stream.codec_context.skip_frame = "DEFAULT" if packet.pts in wanted else "NONREF"
        try:
            frames = packet.decode()
        except av.error.FFmpegError as error:
            damage.append(f"{error.strerror} near {_time(packet)}")
            waiting = True
            yield None
            continue
        for frame in frames:
            if frame.is_corrupt:
                damage.append(f"corrupt frame near {_time(frame)}")
                waiting = True
            elif frame.key_frame:
                waiting = False
            yield None if waiting else frame


def _time(part: Any) -> str:
    return "the end" if part.pts is None else f"{float(part.pts * part.time_base):.1f} s"


def _rate(stream: Any) -> float | None:
    # Holes in time make the average too low.
    rate = stream.guessed_rate or stream.average_rate
    return float(rate) if rate else None


def _orientation(frame: Any) -> tuple[bool, bool, bool]:
    """Return what brings a frame upright: whether to transpose, then to flip left-right, then to flip up-down.

    The display matrix maps a pixel (x, y) to (a x + c y, b x + d y) (libavutil/display.h); angles that are no
    multiple of 90 degrees are taken to the nearest one.
    """
    matrix = frame.side_data.get("DISPLAYMATRIX")
    if matrix is None:
        return False, False, False
    a, b, _, c, d = np.frombuffer(matrix, np.int32)[:5].tolist()
    if abs(a) >= abs(b):
        return False, a < 0, d < 0
    return True, c < 0, b < 0


def _display_size(frame: Any, stream: Any) -> tuple[int, int]:
    """Return width and height in square pixels, upright."""
    aspect = stream.sample_aspect_ratio
    width = max(1, round(frame.width * aspect)) if aspect else frame.width
    return (frame.height, width) if _orientation(frame)[0] else (width, frame.height)


def _fit(width: int, height: int, short_side: int | None) -> tuple[int, int]:
    if short_side is None:
        return width, height
    scale = min(1.0, short_side / min(width, height))
    return max(2, 2 * round(width * scale / 2)), max(2, 2 * round(height * scale / 2))


def _to_rgb(frame: Any, reformatter: VideoReformatter, size: tuple[int, int]) -> np.ndarray:
    """Return a frame as [H, W, 3] uint8 RGB, upright and of `size` (width, height)."""
    transpose, flip_x, flip_y = _orientation(frame)
    width, height = size[::-1] if transpose else size
    flags = CONVERT if (frame.width, frame.height) == (width, height) else SCALE
    image = reformatter.reformat(frame, width=width, height=height, format="rgb24", interpolation=flags).to_ndarray()
    if transpose:
        image = image.transpose(1, 0, 2)
    if flip_x:
        image = image[:, ::-1]
    if flip_y:
        image = image[::-1]
    return np.ascontiguousarray(image)
