"""Decoding videos frame by frame with PyAV: what is sound, upright and with square pixels, with its time.

The file stands alone beside those that it imports: saved pipelines take copies along, and run where this package is
not installed.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal

import av
import numpy as np
from av.video.reformatter import VideoReformatter

from .containers import (
    REENCODE,
    VideoError,
    VideoSource,
    check_aspect,
    check_size,
    describe_choice,
    open_video,
    source_name,
)
from .display_order import is_hidden
from .images import ImageFolder, image_folder
from .packets import Damage, SoundFrame, decode_frames
from .pictures import Deinterlacer, is_high_dynamic_range, orientation, to_rgb

logger = logging.getLogger(__name__)

# FFmpeg's names of the containers that say when each frame is displayed, and of the codecs that display one frame for
# each packet that is not hidden.
SEEKABLE = ("mov,mp4", "matroska")
ONE_FRAME_A_PACKET = ("av1", "ffv1", "h264", "hevc", "mjpeg", "png", "prores", "vp8", "vp9")
# Rates of which one is so much larger than the other differ: the rate varies.
SAME_RATE = 1.1
# A size has the shape of another if width and height differ by so many parts.
SAME_SHAPE = 1.02

FETCH = "fetch the file again"


class DamagedVideoError(VideoError):
    """Parts of a video were left out; it is raised after the last sound frame.

    Attributes:
        num_lost: how many frames after the last sound one were left out.
    """

    num_lost = 0


@dataclass(frozen=True)
class VideoInfo:
    """What a video's file says, without reading it through.

    Attributes:
        width, height: displayed size, after rotation and pixel aspect.
        fps: frames a second; the mean where the rate varies. None where the file says nothing.
        duration: seconds; None where the file says nothing.
        variable_rate: whether the rate varies, or time has holes, so that `fps` says little of any two frames.
    """

    width: int
    height: int
    fps: float | None
    duration: float | None
    variable_rate: bool = False


@dataclass(frozen=True)
class Frame:
    """One decoded frame.

    Attributes:
        image: [H, W, 3] uint8 RGB, upright and with square pixels.
        time: seconds, by the file's own clock (frame rates may vary).
        index: which of the video's frames this is, counted from 0, frames that were left out too.
        num_lost: how many frames right before this one were left out, as damage reaches them.
        after_loss: whether frames are missing right before this one: left out, or lost from a damaged file.
        new_size: whether the video's size or the shape of its pixels changes with this frame.
    """

    image: np.ndarray
    time: float
    index: int
    num_lost: int = 0
    after_loss: bool = False
    new_size: bool = False


def probe(source: VideoSource, folder_fps: float | None = None) -> VideoInfo:
    """Return the size, rate (frames/s) and duration (s) of a video; the last two are None where the file has none.

    Args:
        source: as for `iter_frames`.
        folder_fps: frames a second of a folder of pictures; None for `FOLDER_FPS`.

    Raises:
        VideoError: the first frame cannot be decoded.
    """
    if folder := image_folder(source, folder_fps):
        height, width = folder.image(0).shape[:2]
        return VideoInfo(width, height, folder.fps, len(folder) / folder.fps)
    name = source_name(source)
    with open_video(source) as (container, stream):
        first = next(decode_frames(container, stream, Damage()), None)
        if first is None:
            raise VideoError("no frame can be decoded", path=name, hint=REENCODE)
        width, height = _display_size(first, name)
        duration = container.duration / av.time_base if container.duration else None
        fps, variable = _rate(stream)
        return VideoInfo(width, height, fps, duration, variable)


def check_video(source: VideoSource) -> None:
    """Raise VideoError if a video cannot be opened; nothing is decoded."""
    if not image_folder(source):
        with open_video(source):
            pass


def iter_frames(
    source: VideoSource,
    short_side: int | None = None,
    *,
    sizes: Literal["first", "own"] = "first",
    deinterlace: bool = True,
    tone_map: bool = True,
    folder_fps: float | None = None,
) -> Iterator[Frame]:
    """Yield the frames of a video one at a time, so that memory stays flat in its length.

    The display matrix (a phone's rotation, mirroring) and the pixel aspect ratio are applied.

    Args:
        source: a file (mp4, mkv, GIF, ...; see `containers.FORMATS`), its bytes, or a folder of pictures, which are
            read in natural order of their names.
        short_side: scale the shorter side to this many pixels, while converting colors. Videos are never
            enlarged. Sizes are then even, as H.264 wants them. None keeps the size.
        sizes: "first" brings frames whose size changes on the way back to the first one's, and raises if their shape
            does; "own" leaves each its own.
        deinterlace: make whole pictures of interlaced frames, by FFmpeg's bwdif. Otherwise moving edges are combs.
        tone_map: bring PQ and HLG to BT.709. Otherwise they look pale.
        folder_fps: frames a second of a folder of pictures; None for `FOLDER_FPS`.

    Raises:
        VideoError: the file cannot be opened, has no video stream or no frame; or, after the last good frame, a part
            was damaged. Frames from a damaged one to the next key frame are left out (predicted frames carry the
            damage on), so all that are yielded may be used; `num_lost` of the error counts those at the end.
    """
    if folder := image_folder(source, folder_fps):
        yield from _fit_all(folder, short_side, sizes)
        return
    name = source_name(source)
    damage = Damage()
    reformatter = VideoReformatter()
    deinterlacer = Deinterlacer() if deinterlace else None
    fitted = _Sizes(name, short_side, sizes)
    index, count, time, step = 0, 0, 0.0, 0.0
    with open_video(source) as (container, stream):
        if choice := describe_choice(container, stream):
            logger.warning("%s: %s", name, choice)
        rate, _ = _rate(stream)
        for sound in _deinterlaced(decode_frames(container, stream, damage), deinterlacer):
            new_size = fitted.take(_display_size(sound, name), count)
            last = time
            if sound.frame.time is not None:
                time = sound.frame.time
            elif count:
                time += 1 / (rate or 25.0)
            step = time - last if count else 0.0
            if not count:
                is_interlaced = sound.frame.interlaced_frame or bool(deinterlacer and deinterlacer.num_interlaced)
                _say_conversions(name, sound.frame, is_interlaced, deinterlace, tone_map)
            index += sound.num_lost
            image = to_rgb(sound.frame, reformatter, fitted.size, tone_map)
            yield Frame(image, time, index, sound.num_lost, sound.after_loss, new_size)
            index, count = index + 1, count + 1
        end = _end(container, stream)
        if count and not damage.num_frames and end is not None and time + max(1.0, 2 * step) < end:
            logger.warning("%s: the video ends at %.1f s, the file says %.1f s; is it truncated?", name, time, end)
    if not count:
        reason = f"no frame can be decoded ({damage.reason})" if damage.reason else "the video stream has no frames"
        raise VideoError(reason, path=name, hint=REENCODE)
    if damage.reason:
        lost = "1 frame is" if damage.num_frames == 1 else f"{damage.num_frames} frames are"
        hint = f"{count} frames could be read, fetch the file again for the rest"
        error = DamagedVideoError(f"damaged ({damage.reason}): {lost} left out", path=name, hint=hint)
        error.num_lost = damage.num_frames + count - index
        raise error


def frames_before_damage(
    source: VideoSource, on_damage: Callable[[int, float], object] | None = None
) -> Iterator[Frame]:
    """Yield the frames of a video up to the first place where frames are missing, which points can be tracked through.

    Frames that are missing before the first one do not count.

    Args:
        source: as for `iter_frames`.
        on_damage: called at such a place, with the number of frames before it and the time of the last one, seconds; by
            default a line in the log says so.

    Raises:
        VideoError: as `iter_frames`, but not for damage.
    """
    count, time, is_damaged = 0, 0.0, False
    try:
        for frame in iter_frames(source):
            if is_damaged := bool(count) and frame.after_loss:
                break
            count, time = count + 1, frame.time
            yield frame
    except DamagedVideoError:
        is_damaged = True
    if is_damaged and on_damage is not None:
        on_damage(count, time)
    elif is_damaged:
        logger.warning(
            "%s: damaged after %.1f s; the %d frames before that are tracked", source_name(source), time, count
        )


def decode_video(source: VideoSource) -> np.ndarray:
    """Return all frames of a (short) video, [T, H, W, 3] uint8 RGB. Raises VideoError unless all can be read."""
    return np.stack([frame.image for frame in iter_frames(source)])


def select_frames(source: VideoSource, indices: Sequence[int], short_side: int | None = None) -> Iterator[np.ndarray]:
    """Yield some frames of a video one at a time, each [H, W, 3] uint8 RGB, and decode little more than these.

    They are those that `iter_frames` gives these indices. Packets are listed first (not decoded): frame i is the i-th
    one in order of display. Decoding starts at the last key frame before the first frame wanted, and skips frames that
    neither are wanted nor needed by others. Where packets do not tell (containers other than mp4 and Matroska, whose
    time stamps are guesses; codecs whose packets do not have a frame each; interlaced video), the video is decoded from
    the start.

    Args:
        source: a file, its bytes, or a folder of pictures.
        indices: frames, counted from 0, rising.
        short_side: scale the shorter side to at most this many pixels, as in `iter_frames`.

    Raises:
        VideoError: there is no such frame, or the frames wanted are damaged.
        ValueError: indices are negative or do not rise.
    """
    wanted = [int(index) for index in indices]
    if not wanted or wanted[0] < 0 or any(after <= before for before, after in pairwise(wanted)):
        raise ValueError("indices must be frame numbers from 0 on that rise")
    name = source_name(source)
    if folder := image_folder(source):
        _check_count(name, wanted, len(folder))
        yield from (frame.image for frame in _fit_all(folder, short_side, "first", wanted))
        return
    damage = Damage()
    reformatter = VideoReformatter()
    fitted, count = _Sizes(name, short_side), 0
    with open_video(source) as (container, stream):
        times = _times_of(container, stream, wanted, name)
        if times is None:
            yield from _count_frames(source, wanted, short_side)
            return
        try:
            container.seek(times[0], stream=stream, backward=True)
        except av.error.FFmpegError as error:
            raise VideoError(f"damaged ({error.strerror})", path=name, hint=FETCH) from error
        for sound in decode_frames(container, stream, damage, set(times)):
            if sound.frame.pts != times[count]:
                continue
            if sound.frame.interlaced_frame:
                # Whole pictures take the frames before and after.
                yield from _count_frames(source, wanted[count:], short_side)
                return
            fitted.take(_display_size(sound, name), wanted[count])
            yield to_rgb(sound.frame, reformatter, fitted.size, tone_map=True)
            count += 1
            if count == len(times):
                return
    reason = damage.reason or f"frame {wanted[count]} is missing"
    raise VideoError(f"damaged ({reason})", path=name, hint="fetch the file again or leave it out")


def _times_of(container: Any, stream: Any, wanted: Sequence[int], name: str) -> list[int] | None:
    """Return the time stamps of frames by number, from the list of packets; None where that does not tell.

    Raises:
        VideoError: there are too few frames.
    """
    codec = stream.codec_context.name
    if not container.format.name.startswith(SEEKABLE) or codec not in ONE_FRAME_A_PACKET:
        return None
    try:
        shown = [packet for packet in container.demux(stream) if packet.size and not packet.is_discard]
        times = [packet.pts for packet in shown if not is_hidden(codec, packet)]
    except av.error.FFmpegError as error:
        raise VideoError(f"damaged ({error.strerror})", path=name, hint=FETCH) from error
    # Frames displayed before the first one that is decoded may not be decodable; of two at one time one is not shown.
    if None in times or len(set(times)) < len(times) or (times and min(times) < times[0]):
        return None
    _check_count(name, wanted, len(times))
    times.sort()
    return [times[index] for index in wanted]


def _check_count(name: str, wanted: Sequence[int], count: int) -> None:
    if wanted[-1] >= count:
        raise VideoError(f"frame {wanted[-1]} is wanted, it has {count} frames", path=name)


def _count_frames(source: VideoSource, wanted: Sequence[int], short_side: int | None) -> Iterator[np.ndarray]:
    """Do as `select_frames` where packets do not tell: decode all frames up to the last one wanted."""
    count = total = 0
    for frame in iter_frames(source, short_side):
        total = frame.index + 1
        if frame.index > wanted[count]:
            raise VideoError(f"frame {wanted[count]} is damaged", path=source_name(source), hint=FETCH)
        if frame.index == wanted[count]:
            yield frame.image
            count += 1
            if count == len(wanted):
                return
    _check_count(source_name(source), wanted, total)


def _fit_all(
    folder: ImageFolder,
    short_side: int | None,
    sizes: Literal["first", "own"],
    numbers: Sequence[int] | None = None,
) -> Iterator[Frame]:
    """Yield pictures of a folder, all by default, as frames of the sizes that `iter_frames` gives them."""
    fitted = _Sizes(os.fspath(folder.path), short_side, sizes)
    reformatter = VideoReformatter()
    for number in range(len(folder)) if numbers is None else numbers:
        image = folder.image(number)
        shown = image.shape[1], image.shape[0]
        new_size = fitted.take(shown, number)
        if shown != fitted.size:
            picture = av.VideoFrame.from_ndarray(image, format="rgb24")
            image = to_rgb(picture, reformatter, fitted.size, tone_map=False)
        yield Frame(image, number / folder.fps, number, new_size=new_size)


def measured_rate(times: Sequence[float], said: float | None) -> float | None:
    """Return the rate of frames at some times, seconds: the one that the file says if they agree with it within 2 %.

    Args:
        times: of frames in order.
        said: frames a second by the file; None where it says nothing.
    """
    seconds = times[-1] - times[0]
    if seconds <= 0:
        return said
    measured = (len(times) - 1) / seconds
    return said if said and abs(measured / said - 1) < 0.02 else measured


def _deinterlaced(frames: Iterator[SoundFrame], deinterlacer: Deinterlacer | None) -> Iterator[SoundFrame]:
    if deinterlacer is None:
        yield from frames
        return
    for sound in frames:
        yield from deinterlacer.add(sound)
    yield from deinterlacer.finish()


def _say_conversions(name: str, frame: Any, is_interlaced: bool, deinterlace: bool, tone_map: bool) -> None:
    """Log what happens to the lines and colors of a video."""
    if is_interlaced:
        logger.warning("%s: interlaced; %s", name, "deinterlaced by bwdif" if deinterlace else "left as it is")
    if is_high_dynamic_range(frame):
        logger.warning("%s: HLG or PQ; %s", name, "tone-mapped to BT.709" if tone_map else "colors are left alone")


def _rate(stream: Any) -> tuple[float | None, bool]:
    """Return the rate that a file says, in frames a second, and whether it varies."""
    # The one is FFmpeg's guess by some time stamps, the other the number of frames by the duration.
    guessed, average = (float(rate) if rate else None for rate in (stream.guessed_rate, stream.average_rate))
    if guessed and average and max(guessed, average) > SAME_RATE * min(guessed, average):
        return average, True
    return guessed or average, False


def _end(container: Any, stream: Any) -> float | None:
    """Return the time at which the file says that its video ends, in seconds; None if it says nothing of the video."""
    if stream.duration is not None:
        return float(((stream.start_time or 0) + stream.duration) * stream.time_base)
    if container.duration is None or len(container.streams) > 1:
        # Sound may be longer.
        return None
    return float((container.start_time or 0) + container.duration) / av.time_base


def _display_size(sound: SoundFrame, name: str) -> tuple[int, int]:
    """Return width and height in square pixels, upright. Raises VideoError if they exceed the limits."""
    frame, aspect = sound.frame, sound.aspect
    check_aspect(aspect, name)
    width = max(1, round(frame.width * aspect)) if aspect else frame.width
    check_size(width, frame.height, name)
    return (frame.height, width) if orientation(frame)[0] else (width, frame.height)


def _same_shape(one: tuple[int, int], other: tuple[int, int]) -> bool:
    """Whether two sizes (width, height) have the same ratio of sides, up to rounding."""
    ratio = one[0] * other[1] / (one[1] * other[0])
    return 1 / SAME_SHAPE <= ratio <= SAME_SHAPE


class _Sizes:
    """The sizes, (width, height), that the frames of a video are brought to.

    Args:
        name: of the video, for messages.
        short_side, sizes: as for `iter_frames`.
    """

    def __init__(self, name: str, short_side: int | None, sizes: Literal["first", "own"] = "first") -> None:
        self._name, self._short_side, self._own = name, short_side, sizes == "own"
        self._shown: tuple[int, int] | None = None
        self.size = (0, 0)

    def take(self, shown: tuple[int, int], number: int) -> bool:
        """Let `size` be that of the next frame, and return whether the frame has another size than the last one.

        Args:
            shown: the frame's own size, in square pixels.
            number: the frame's, for messages.

        Raises:
            VideoError: it has another shape than the first frame, and should not keep its own.
        """
        before, self._shown = self._shown, shown
        if before is None or (before != shown and self._own):
            self.size = _fit(*shown, self._short_side)
        elif before != shown and not _same_shape(shown, self.size):
            raise VideoError(
                f"changes from {before[0]}x{before[1]} to {shown[0]}x{shown[1]} at frame {number}",
                path=self._name,
                hint="cut it there; `anthrotap label` does so by itself",
            )
        return before not in (None, shown)


def _fit(width: int, height: int, short_side: int | None) -> tuple[int, int]:
    if short_side is None:
        return width, height
    scale = min(1.0, short_side / min(width, height))
    return max(2, 2 * round(width * scale / 2)), max(2, 2 * round(height * scale / 2))
