"""Video files in and out: decoded frame by frame with PyAV, encoded as H.264."""

from __future__ import annotations

import io
import logging
import os
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any, Self

import av
import cv2
import numpy as np
from av.video.reformatter import Colorspace, Interpolation, VideoReformatter

logger = logging.getLogger(__name__)

SEARCHABLE = ("mov,mp4", "matroska")  # FFmpeg's names of containers that tell when each frame is shown
# What a folder of videos is searched for.
VIDEO_SUFFIXES = (
    ".avi",
    ".flv",
    ".gif",
    ".m4v",
    ".mkv",
    ".mov",
    ".mp4",
    ".mpeg",
    ".mpg",
    ".mts",
    ".ts",
    ".webm",
    ".wmv",
)

VideoSource = str | os.PathLike[str] | bytes

# With AVX-512 the x264 of PyAV's wheels (18.1) gives other bytes each time; without, the same on one thread or two.
_AVX512 = 256  # OpenCV's CPU_AVX512_SKX, which its Python leaves out
REPEATABLE = {"x264-params": "asm=AVX2"} if cv2.checkHardwareSupport(_AVX512) else {}
# Workers run many videos side by side: a few threads a file, whatever the machine has.
THREADS = 2
# Rounding as swscale does it by default darkens by 1 of 255 levels; these flags cost nothing where it scales
# anyway, and twice the time where it only converts.
SCALE = Interpolation.AREA | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INT
CONVERT = Interpolation.AREA
BT709 = 1  # primaries, transfer and matrix share this number in ITU-T H.273
TV_RANGE = 1
FULL_RANGE = 2
# Shares of red and blue in luma by H.273's number of the matrix: BT.709; BT.601, also for "unspecified" as in swscale.
_LUMA = {1: (0.2126, 0.0722), 2: (0.299, 0.114), 5: (0.299, 0.114), 6: (0.299, 0.114)}


class VideoError(ValueError):
    """A video that can't be read, or not to its end. The message is one line: file, reason, way out."""


@dataclass(frozen=True)
class VideoInfo:
    """What a video says of itself: displayed size (after rotation and pixel aspect), frames/s, seconds."""

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
        index: which frame that the decoder gave, counted from 0.
        after_gap: whether damaged frames right before this one were left out.
    """

    image: np.ndarray
    time: float
    index: int
    after_gap: bool = False


def probe(source: VideoSource) -> VideoInfo:
    """Size, rate (frames/s) and duration (s) of a video; the last two are None where the file says nothing.

    Decodes the first frame. Raises VideoError if there is none.
    """
    name = _name(source)
    with _open(source) as (container, stream):
        frame = next((frame for frame in _decode(container, stream, []) if frame is not None), None)
        if frame is None:
            raise VideoError(f"{name}: no frame can be decoded; re-encode the video or leave it out")
        width, height = _display_size(frame, stream)
        duration = container.duration
        return VideoInfo(width, height, _rate(stream), duration / av.time_base if duration else None)


def iter_frames(source: VideoSource, short_side: int | None = None) -> Iterator[Frame]:
    """The frames of a video, one at a time; never the whole video in memory.

    The display matrix (a phone's rotation, mirroring) and the pixel aspect ratio are applied; frames whose
    size changes on the way are brought back to the first one's.

    Args:
        source: a file (whatever FFmpeg reads: mp4, mkv, GIF, ...) or its bytes.
        short_side: scale the shorter side to this many pixels, while converting colors. Videos are never
            enlarged. Sizes are then even, as H.264 wants them. None keeps the size.

    Raises:
        VideoError: if the file can't be opened, has no video stream or no frame; or, after the last good
            frame, if a part was damaged. From a damaged frame to the next key frame nothing is delivered
            (predicted frames carry the damage on), so what is delivered may be used.
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
        if (
            not damage
            and container.duration
            and count
            and time + 1 < (end := container.duration / av.time_base)
        ):
            logger.warning(
                "%s: the video ends at %.1f s, the file says %.1f s; is it truncated?", name, time, end
            )
    if not count:
        reason = f"no frame can be decoded ({damage[0]})" if damage else "the video stream has no frames"
        raise VideoError(f"{name}: {reason}; re-encode the video or leave it out")
    if damage:
        raise VideoError(
            f"{name}: damaged ({damage[0]}); {count} frames could be read, fetch the file again for the rest"
        )


def decode_video(source: VideoSource) -> np.ndarray:
    """All frames of a (short) video, [T, H, W, 3] uint8 RGB. Raises VideoError unless all can be read."""
    return np.stack([frame.image for frame in iter_frames(source)])


def select_frames(
    source: VideoSource, indices: Sequence[int], short_side: int | None = None
) -> Iterator[np.ndarray]:
    """Some frames of a video, one at a time, each [H, W, 3] uint8 RGB; little more is decoded than these.

    Packets are listed first (not decoded): frame i is the i-th one in order of display. Decoding starts at the last key
    frame before the first frame wanted, and leaves out frames that neither are wanted nor needed by others. It runs in
    one thread: whoever reads so, reads many videos side by side. Containers other than mp4 and Matroska, whose time
    stamps are guesses, are decoded from the start.

    Args:
        source: a file or its bytes.
        indices: frames, counted from 0, rising.
        short_side: scale the shorter side to at most this many pixels, as in `iter_frames`.

    Raises:
        VideoError: if there is no such frame, or the frames wanted are damaged.
        ValueError: if indices are negative or do not rise.
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
        if not container.format.name.startswith(SEARCHABLE):
            yield from _count_frames(source, wanted, short_side)
            return
        times = _times_of(container, stream, wanted, name)
        stream.codec_context.thread_count = 1
        try:
            container.seek(times[0], stream=stream, backward=True)
        except av.error.FFmpegError as error:
            raise VideoError(f"{name}: damaged ({error.strerror}); fetch the file again") from error
        for frame in _decode(container, stream, damage, set(times)):
            if frame is None or frame.pts != times[count]:
                continue
            if size is None:
                size = _fit(*_display_size(frame, stream), short_side)
            yield _to_rgb(frame, reformatter, size, quick=True)
            count += 1
            if count == len(times):
                return
    reason = damage[0] if damage else f"frame {wanted[count]} is missing"
    raise VideoError(f"{name}: damaged ({reason}); fetch the file again or leave it out")


def _times_of(container: Any, stream: Any, wanted: Sequence[int], name: str) -> list[int]:
    """Time stamps of frames by number; all packets are passed over. Raises VideoError if there is no such frame."""
    try:
        shown = [packet.pts for packet in container.demux(stream) if packet.size and not packet.is_discard]
    except av.error.FFmpegError as error:
        raise VideoError(f"{name}: damaged ({error.strerror}); fetch the file again") from error
    if wanted[-1] >= len(shown):
        raise VideoError(f"{name}: frame {wanted[-1]} is wanted, it has {len(shown)} frames")
    if None in shown:
        raise VideoError(f"{name}: its frames have no time stamps to find them by; re-encode it as mp4")
    shown.sort()
    return [shown[index] for index in wanted]


def _count_frames(source: VideoSource, wanted: Sequence[int], short_side: int | None) -> Iterator[np.ndarray]:
    """The same where a container says too little to find frames in it: all are decoded, up to the last one wanted."""
    count = total = 0
    for frame in iter_frames(source, short_side):
        total = frame.index + 1
        if frame.index > wanted[count]:
            raise VideoError(f"{_name(source)}: frame {wanted[count]} is damaged; fetch the file again")
        if frame.index == wanted[count]:
            yield frame.image
            count += 1
            if count == len(wanted):
                return
    raise VideoError(f"{_name(source)}: frame {wanted[count]} is wanted, it has {total} frames")


class VideoWriter:
    """Writes frames one by one as an H.264 mp4 (yuv420p, BT.709) that plays from its first byte on.

    The file is written aside and gets its name when the block ends well; an exception in it, or no frame at
    all, leaves nothing behind. T frames in decode to exactly T frames of the same size.

        with VideoWriter("out.mp4", fps=24) as writer:
            writer.write(image)

    Args:
        path: the file.
        fps: frames a second.
        crf: x264's quality, lower is better.
        keyframe_every: frames, at most, from one key frame to the next; x264's own choice if left out.
        tune: what x264 tunes for, such as "fastdecode".

    Raises:
        ValueError: for a rate that is not positive.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        fps: float,
        crf: int = 18,
        keyframe_every: int | None = None,
        tune: str | None = None,
    ) -> None:
        if not fps > 0:
            raise ValueError(f"fps must be positive, got {fps}")
        self.path = Path(path)
        self.num_frames = 0
        self._tmp_paths = self.path.with_name(f".{self.path.name}.{os.getpid()}.incomplete")
        self._container = av.open(str(self._tmp_paths), "w", format="mp4", options={"movflags": "faststart"})
        self._stream = self._container.add_stream(
            "libx264",
            rate=Fraction(fps).limit_denominator(1001),
            options={"crf": str(crf), "preset": "veryfast"} | ({"tune": tune} if tune else {}) | REPEATABLE,
        )
        if keyframe_every is not None:
            self._stream.codec_context.gop_size = keyframe_every
        self._shape: tuple[int, ...] | None = None
        self._reformatter = VideoReformatter()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None or not self.num_frames:
            self.discard()
            return
        try:
            self._container.mux(self._stream.encode())
            self._container.close()
            self._tmp_paths.replace(self.path)
        finally:
            self._tmp_paths.unlink(missing_ok=True)

    def discard(self) -> None:
        """Give up: nothing is left behind."""
        self._container.close()
        self._tmp_paths.unlink(missing_ok=True)

    def write(self, image: np.ndarray) -> None:
        """Add a frame [H, W, 3] uint8 RGB.

        Raises ValueError for an odd height or width, or another shape or dtype than the first.
        """
        if self._shape is None:
            shape = image.shape
            if len(shape) != 3 or shape[2] != 3 or shape[0] % 2 or shape[1] % 2 or 0 in shape:
                raise ValueError(f"H.264 needs frames [even H, even W, 3], got {list(shape)}")
            _set_up_encoder(self._stream, shape[0], shape[1])
            self._shape = shape
        if image.shape != self._shape or image.dtype != np.uint8:
            raise ValueError(
                f"frames must all be uint8 {list(self._shape)}, got {image.dtype} {list(image.shape)}"
            )
        rgb = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")
        yuv = self._reformatter.reformat(
            rgb,
            format="yuv420p",
            dst_colorspace=Colorspace.ITU709,
            dst_color_range="MPEG",
            interpolation=SCALE,
        )
        self._container.mux(self._stream.encode(yuv))
        self.num_frames += 1


def write_video(
    path: str | os.PathLike[str], frames: Iterable[np.ndarray], fps: float, crf: int = 18
) -> None:
    """Write frames [H, W, 3] uint8 RGB by `VideoWriter`. Raises ValueError as it does, and for no frames."""
    with VideoWriter(path, fps, crf) as writer:
        for image in frames:
            writer.write(image)
        if not writer.num_frames:
            raise ValueError("a video needs at least one frame")


def encode_video(frames: Iterable[np.ndarray], fps: float, crf: int = 18) -> bytes:
    """The same as `write_video`, as bytes."""
    # The index can be moved to the front only in a real file: libavformat opens it a second time.
    with tempfile.TemporaryDirectory(prefix="anthrotap-") as directory:
        path = Path(directory) / "clip.mp4"
        write_video(path, frames, fps, crf)
        return path.read_bytes()


def _set_up_encoder(stream: Any, height: int, width: int) -> None:
    stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
    context = stream.codec_context
    context.thread_count = THREADS
    context.colorspace = context.color_primaries = context.color_trc = BT709
    context.color_range = TV_RANGE


def _name(source: VideoSource) -> str:
    return "video in memory" if isinstance(source, bytes) else os.fspath(source)


@contextmanager
def _open(source: VideoSource) -> Iterator[tuple[Any, Any]]:
    """The open container and its video stream."""
    name = _name(source)
    if not isinstance(source, bytes):
        path = Path(source)
        if path.is_dir():
            raise VideoError(f"{name}: this is a folder; name the video files in it")
        if not path.is_file():
            raise VideoError(f"{name}: no such file; check the path")
        if not path.stat().st_size:
            raise VideoError(f"{name}: the file is empty; fetch it again")
    # "file:" keeps a colon in the name from being read as a protocol
    file = io.BytesIO(source) if isinstance(source, bytes) else f"file:{name}"
    try:
        container = av.open(file, metadata_errors="replace")  # titles and such in any encoding
    except av.error.FFmpegError as error:
        raise VideoError(
            f"{name}: not a video that FFmpeg can open ({error.strerror}); if it should be one, "
            "it is truncated or damaged: fetch it again"
        ) from error
    with container:
        # a song's cover is a video stream too, of one picture
        streams = [s for s in container.streams.video if not s.disposition & s.disposition.attached_pic]
        if not streams:
            raise VideoError(f"{name}: it has no video stream; leave it out")
        stream = streams[0]
        if stream.codec_context is None:
            raise VideoError(f"{name}: no decoder for its video stream; re-encode it as H.264")
        stream.thread_type = "AUTO"
        stream.codec_context.thread_count = THREADS
        yield container, stream


def _decode(container: Any, stream: Any, damage: list[str], wanted: set[int] | None = None) -> Iterator[Any]:
    """Frames of a stream; None for each one that damage reaches; why is appended to `damage`.

    Where `wanted` names time stamps, other frames are left out unless they are needed to predict some.
    """
    waiting = False  # for a key frame
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
    rate = stream.guessed_rate or stream.average_rate  # holes in time make the average too low
    return float(rate) if rate else None


def _orientation(frame: Any) -> tuple[bool, bool, bool]:
    """How to bring a frame upright: transpose first, then flip left-right, then flip up-down.

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
    """Width and height in square pixels, upright."""
    aspect = stream.sample_aspect_ratio
    width = max(1, round(frame.width * aspect)) if aspect else frame.width
    return (frame.height, width) if _orientation(frame)[0] else (width, frame.height)


def _fit(width: int, height: int, short_side: int | None) -> tuple[int, int]:
    if short_side is None:
        return width, height
    scale = min(1.0, short_side / min(width, height))
    return max(2, 2 * round(width * scale / 2)), max(2, 2 * round(height * scale / 2))


def _to_rgb(
    frame: Any, reformatter: VideoReformatter, size: tuple[int, int], quick: bool = False
) -> np.ndarray:
    """[H, W, 3] uint8, upright, of `size` (width, height); `quick` may differ by a level or two."""
    transpose, flip_x, flip_y = _orientation(frame)
    width, height = size[::-1] if transpose else size
    image = _shrink(frame, width, height) if quick else None
    if image is None:
        flags = CONVERT if (frame.width, frame.height) == (width, height) else SCALE
        image = reformatter.reformat(
            frame, width=width, height=height, format="rgb24", interpolation=flags
        ).to_ndarray()
    if transpose:
        image = image.transpose(1, 0, 2)
    if flip_x:
        image = image[:, ::-1]
    if flip_y:
        image = image[::-1]
    return np.ascontiguousarray(image)


def _shrink(frame: Any, width: int, height: int) -> np.ndarray | None:
    """[H, W, 3] RGB of a frame made smaller, in a quarter of swscale's time; None where only that can do it.

    Planes are scaled by area, one by one, then colors are converted: that is linear, so the order is free. As swscale
    takes it, chroma samples lie at the left one of the two luma samples that they belong to (H.264, table E-1, type 0).
    """
    luma = _LUMA.get(int(frame.colorspace))
    if luma is None or frame.format.name not in ("yuv420p", "yuvj420p"):
        return None
    if width > frame.width or height > frame.height or (width, height) == (frame.width, frame.height):
        return None
    planes = []
    for number, plane in enumerate(frame.planes):
        samples = np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size)[: plane.height, : plane.width]
        if samples.shape != (height, width):
            shrinks = samples.shape[0] >= height and samples.shape[1] >= width
            method = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
            samples = cv2.resize(samples, (width, height), interpolation=method)
        if number:
            shift = 0.5 * width / frame.width  # pixels, to the left
            right = np.concatenate([samples[:, 1:], samples[:, -1:]], 1)
            samples = cv2.addWeighted(samples, 1 - shift, right, shift, 0)
        planes.append(samples)
    full = frame.format.name == "yuvj420p" or int(frame.color_range) == FULL_RANGE
    return cv2.transform(cv2.merge(planes), _yuv_to_rgb(luma, full))


def _yuv_to_rgb(luma: tuple[float, float], full: bool) -> np.ndarray:
    """[3, 4] float32: levels of Y, Cb, Cr and 1 to R, G, B (ITU-T H.273, 8.3), from shares of red and blue in Y."""
    red, blue = luma
    green = 1 - red - blue
    matrix = np.array(
        [
            [1, 0, 2 * (1 - red)],
            [1, -2 * (1 - blue) * blue / green, -2 * (1 - red) * red / green],
            [1, 2 * (1 - blue), 0],
        ]
    )
    if not full:
        matrix = matrix * (255 / np.array([219, 224, 224]))
    black = np.array([0 if full else 16, 128, 128])
    return np.concatenate([matrix, -(matrix @ black)[:, None]], 1).astype(np.float32)
