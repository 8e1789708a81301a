"""Frames as they come: of a camera, of an address, or raw on an open file. Frames are dropped rather than delayed."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO

import av
import cv2
import numpy as np

from anthrotap_hf.video.containers import VideoError

# Seconds that an address may give nothing, on opening and between frames.
TIMEOUT = 10.0


@dataclass(frozen=True)
class LiveFrame:
    """A frame of a live source.

    Attributes:
        image: [H, W, 3] uint8 RGB.
        number: which frame of the source it is, from 0, those that were dropped counted.
        time: seconds since the source was opened, when it was read.
    """

    image: np.ndarray
    number: int
    time: float


def live_frames(images: Iterator[np.ndarray], drop: bool = True) -> Iterator[LiveFrame]:
    """Yield frames as they come; those that come while the last one is worked on are dropped, but for the newest.

    Args:
        images: of the source; read in a thread of its own.
        drop: whether frames are dropped. If not, the source waits.

    Raises:
        VideoError: what the source raises, after the frames before it.
    """
    start = time.monotonic()
    if not drop:
        for number, image in enumerate(images):
            yield LiveFrame(image, number, time.monotonic() - start)
        return
    newest: list[LiveFrame] = []
    ended: list[BaseException | None] = []
    changed = threading.Condition()

    def read() -> None:
        error: BaseException | None = None
        try:
            for number, image in enumerate(images):
                with changed:
                    newest[:] = [LiveFrame(image, number, time.monotonic() - start)]
                    changed.notify()
        except Exception as caught:  # noqa: BLE001  raised in the caller's thread, below
            error = caught
        with changed:
            ended.append(error)
            changed.notify()

    threading.Thread(target=read, daemon=True, name="live frames").start()
    while True:
        with changed:
            changed.wait_for(lambda: newest or ended)
            frame = newest.pop() if newest else None
        if frame is not None:
            yield frame
        elif ended[0] is not None:
            raise ended[0]
        else:
            return


def camera_images(number: int) -> Iterator[np.ndarray]:
    """Yield images of a camera of this machine, [H, W, 3] uint8 RGB. Raises VideoError if there is no such camera."""
    # OpenCV would print a warning of its own.
    level = cv2.utils.logging.getLogLevel() if hasattr(cv2.utils, "logging") else None
    if level is not None:
        cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    capture = cv2.VideoCapture(number)
    try:
        if not capture.isOpened():
            raise VideoError(f"no camera {number} can be opened on this machine", hint="see which there are in /dev")
        while True:
            there, image = capture.read()
            if not there:
                raise VideoError(f"camera {number} gives no more frames")
            yield cv2.cvtColor(image, cv2.COLOR_BGR2RGB)
    finally:
        capture.release()
        if level is not None:
            cv2.utils.logging.setLogLevel(level)


def stream_images(address: str) -> Iterator[np.ndarray]:
    """Yield images of a stream's address or a video's file, [H, W, 3] uint8 RGB.

    Raises:
        VideoError: if it can't be opened, or has no video.
    """
    try:
        with av.open(address, timeout=TIMEOUT) as container:
            if not container.streams.video:
                raise VideoError("no video is in this stream", path=address)
            stream: Any = container.streams.video[0]
            stream.codec_context.thread_count = 1
            for frame in container.decode(stream):
                yield frame.to_ndarray(format="rgb24")
    except (OSError, ValueError) as error:
        if isinstance(error, VideoError):
            raise
        raise VideoError(getattr(error, "strerror", None) or error, path=address) from error


def raw_images(file: BinaryIO, height: int, width: int, name: str = "standard input") -> Iterator[np.ndarray]:
    """Yield raw frames, rgb24 one after the other, as [H, W, 3] uint8.

    Raises:
        VideoError: if the last one is not whole: the frames have another size.
    """
    size = height * width * 3
    read: Callable[[int], bytes] = file.read
    while data := read(size):
        if len(data) < size:
            raise VideoError(
                f"it ends with {len(data)} bytes, and a frame of {width}x{height} in rgb24 has {size}",
                path=name,
                hint="name the size of its frames",
            )
        yield np.frombuffer(bytearray(data), np.uint8).reshape(height, width, 3)


__all__ = ["LiveFrame", "camera_images", "live_frames", "raw_images", "stream_images"]
