"""Encoding frames as H.264 with PyAV."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any, Self

import av
import cv2
import numpy as np
from av.video.reformatter import Colorspace, VideoReformatter

from anthrotap_hf.utils.atomic_files import beside
from anthrotap_hf.video.pictures import SCALE

# Units of time a second, where frames have times of their own: those of MPEG, which common rates divide.
TICKS = 90000
# Of the encoder.
THREADS = 2
# OpenCV's CPU_AVX512_SKX, which its Python lacks.
_AVX512 = 256
# With AVX-512 the x264 of PyAV's wheels (18.1) gives other bytes each time; without, the same on one thread or two.
REPEATABLE = {"x264-params": "asm=AVX2"} if cv2.checkHardwareSupport(_AVX512) else {}
# Primaries, transfer and matrix have this number in ITU-T H.273.
BT709 = 1
TV_RANGE = 1


class VideoWriter:
    """Writes frames one by one as an H.264 mp4 (yuv420p, BT.709) that plays from its first byte on.

    The file is written under another name and gets its own when the block ends well; an exception in it, or no frame
    at all, leaves nothing behind. T frames in decode to exactly T frames of the same size.

        with VideoWriter("out.mp4", fps=24) as writer:
            writer.write(image)

    Args:
        path: the file.
        fps: frames a second.
        crf: x264's quality, lower is better.
        keyframe_every: frames, at most, from one key frame to the next; x264's own choice by default.
        tune: what x264 tunes for, such as "fastdecode".

    Raises:
        ValueError: the rate is not positive.
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
        self._tmp_path = beside(self.path, "incomplete")
        self._container = av.open(str(self._tmp_path), "w", format="mp4", options={"movflags": "faststart"})
        self._stream = self._container.add_stream(
            "libx264",
            rate=Fraction(fps).limit_denominator(1001),
            options={"crf": str(crf), "preset": "veryfast"} | ({"tune": tune} if tune else {}) | REPEATABLE,
        )
        if keyframe_every is not None:
            self._stream.codec_context.gop_size = keyframe_every
        self._shape: tuple[int, ...] | None = None
        # Of the first frame in seconds, and the last one's time stamp.
        self._start: float | None = None
        self._pts = -1
        self._reformatter = VideoReformatter()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None or not self.num_frames:
            self.discard()
            return
        try:
            with self._named_errors():
                self._container.mux(self._stream.encode())
                self._container.close()
            self._tmp_path.replace(self.path)
        finally:
            self._tmp_path.unlink(missing_ok=True)

    def discard(self) -> None:
        """Stop writing and leave nothing behind."""
        self._container.close()
        self._tmp_path.unlink(missing_ok=True)

    def write(self, image: np.ndarray, time: float | None = None) -> None:
        """Add a frame [H, W, 3] uint8 RGB.

        Args:
            image: the frame.
            time: when it is shown, in seconds from whenever; the video begins with the first one. None for all frames
                shows them at the writer's rate.

        Raises ValueError for an odd height or width, another shape or dtype than the first, or a time for some frames
        and none for others.
        """
        if self._shape is not None and (time is None) != (self._start is None):
            raise ValueError("either all frames have a time or none")
        if self._shape is None:
            shape = image.shape
            if len(shape) != 3 or shape[2] != 3 or shape[0] % 2 or shape[1] % 2 or 0 in shape:
                raise ValueError(f"H.264 needs frames [even H, even W, 3], got {list(shape)}")
            if time is not None:
                self._start = time
                self._stream.codec_context.time_base = Fraction(1, TICKS)
            _set_up_encoder(self._stream, shape[0], shape[1])
            self._shape = shape
        if image.shape != self._shape or image.dtype != np.uint8:
            raise ValueError(f"frames must all be uint8 {list(self._shape)}, got {image.dtype} {list(image.shape)}")
        rgb = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")
        yuv = self._reformatter.reformat(
            rgb,
            format="yuv420p",
            dst_colorspace=Colorspace.ITU709,
            dst_color_range="MPEG",
            interpolation=SCALE,
        )
        if time is not None and self._start is not None:
            # Time stamps rise, whatever those of the source do.
            self._pts = max(self._pts + 1, round((time - self._start) * TICKS))
            yuv.pts, yuv.time_base = self._pts, Fraction(1, TICKS)
        with self._named_errors():
            self._container.mux(self._stream.encode(yuv))
        self.num_frames += 1

    @contextmanager
    def _named_errors(self) -> Iterator[None]:
        """Let errors of the system name the file that is written: FFmpeg's name none, or the unfinished one."""
        try:
            yield
        except OSError as error:
            raise OSError(error.errno, error.strerror, str(self.path)) from error


def write_video(path: str | os.PathLike[str], frames: Iterable[np.ndarray], fps: float, crf: int = 18) -> None:
    """Write frames [H, W, 3] uint8 RGB by `VideoWriter`. Raises ValueError as it does, and for no frames."""
    with VideoWriter(path, fps, crf) as writer:
        for image in frames:
            writer.write(image)
        if not writer.num_frames:
            raise ValueError("a video needs at least one frame")


def encode_video(frames: Iterable[np.ndarray], fps: float, crf: int = 18) -> bytes:
    """Return what `write_video` writes, as bytes."""
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
