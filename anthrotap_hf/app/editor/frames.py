"""The frames of an open clip as JPEG at their own size, decoded some at a time and kept in bounded memory."""

from __future__ import annotations

import threading
from collections import OrderedDict
from pathlib import Path

import cv2

from anthrotap_hf.app.uploads import Video
from anthrotap_hf.video import select_frames

# Frames that are decoded at once: seeking costs more than the frames around the one that is asked for.
RANGE = 12
# Bytes of pictures that are kept, of all clips.
CACHE_BYTES = 96 << 20
# Percent; low enough for a picture in a moment, high enough to see single pixels.
QUALITY = 93


class FrameCache:
    """Pictures of frames at full size, by file and frame; the ones that were asked for last are kept.

    Args:
        max_bytes: of all of them.
    """

    def __init__(self, max_bytes: int = CACHE_BYTES) -> None:
        self.max_bytes = max_bytes
        self._lock = threading.Lock()
        # Two threads at once would decode the same frames, and a machine has few cores.
        self._decoding = threading.Lock()
        self._pictures: OrderedDict[tuple[Path, int], bytes] = OrderedDict()

    @property
    def num_bytes(self) -> int:
        with self._lock:
            return sum(map(len, self._pictures.values()))

    def picture(self, video: Video, t: int) -> bytes:
        """Return a JPEG of frame `t`.

        Raises:
            VideoError: the file can't be read any more.
        """
        if max(video.width, video.height) <= max(video.preview_size):
            return video.previews[t].read_bytes()
        key = video.path, t
        if (found := self._find(key)) is not None:
            return found
        with self._decoding:
            # Another thread may have decoded it meanwhile.
            if (found := self._find(key)) is not None:
                return found
            first = t - t % RANGE
            frames = range(first, min(first + RANGE, video.frames))
            for number, image in zip(frames, select_frames(video.path, frames), strict=True):
                _, data = cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, QUALITY])
                self._keep((video.path, number), data.tobytes())
                if number == t:
                    found = data.tobytes()
        assert found is not None
        return found

    def _find(self, key: tuple[Path, int]) -> bytes | None:
        with self._lock:
            if key in self._pictures:
                self._pictures.move_to_end(key)
            return self._pictures.get(key)

    def _keep(self, key: tuple[Path, int], data: bytes) -> None:
        with self._lock:
            self._pictures[key] = data
            total = sum(map(len, self._pictures.values()))
            while total > self.max_bytes and len(self._pictures) > 1:
                total -= len(self._pictures.popitem(last=False)[1])
