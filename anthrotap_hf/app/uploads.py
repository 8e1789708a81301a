"""What visitors upload: a folder of their own for each, limits on bytes and length, and an end to all of it.

Only uploaded files are read. A visitor's folder is deleted when the page is closed, or after an hour without a request,
and all of them when the server ends.
"""

from __future__ import annotations

import re
import shutil
import threading
import time
import uuid
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from anthrotap_hf.utils.errors import format_error
from anthrotap_hf.video import VideoError, frames_before_damage, probe
from anthrotap_hf.visualization.overlay import DEFAULT_FPS

# Pixels, the longer side of the pictures to click on.
PREVIEW_SIDE = 960
# Frames a second that the limit of length allows for.
MAX_FPS = 60
# Pixels.
MAX_SIDE = 4096
# Uploads whose places are remembered.
MAX_UPLOADS = 1000
# Visitors at once, each with a folder.
MAX_VISITORS = 100
# How many of the largest uploads all files of visitors may be together.
MAX_TOTAL = 50
# Seconds without a request after which a visitor counts as gone.
VISITOR_TIMEOUT = 3600


@dataclass(frozen=True)
class Limits:
    """How large an upload may be: megabytes (10^6 bytes), and seconds; and how many jobs an hour an address may run."""

    megabytes: int = 100
    seconds: int = 20
    jobs: int = 30

    @property
    def total_bytes(self) -> int:
        """Bytes of all files of all visitors beyond which no upload is taken."""
        return MAX_TOTAL * self.megabytes * 10**6

    def __str__(self) -> str:
        return f"up to {self.seconds} seconds and {self.megabytes} MB"


@dataclass
class Video:
    """An upload that was read to its end.

    Attributes:
        path: the file, in the visitor's folder.
        width, height: pixels, as displayed.
        frames: how many.
        fps: frames a second.
        previews: a JPEG of each frame, at most PREVIEW_SIDE wide and high.
        damage: a sentence about damage that the frames end at; None if there is none.
    """

    path: Path
    width: int
    height: int
    frames: int
    fps: float
    previews: list[Path]
    damage: str | None = None

    @property
    def seconds(self) -> float:
        return self.frames / self.fps

    @property
    def preview_size(self) -> tuple[int, int]:
        """Width and height of the previews, pixels."""
        return fit_size(self.width, self.height, PREVIEW_SIDE)

    def preview(self, t: int) -> np.ndarray:
        """Return the picture of a frame, [h, w, 3] uint8 RGB."""
        picture = cv2.imread(str(self.previews[t]), cv2.IMREAD_COLOR)
        assert picture is not None
        return picture[..., ::-1]


@dataclass
class Visitor:
    """One open page.

    Attributes:
        name: Gradio's name of the session.
        folder: for the visitor's files.
        videos: the open videos, by tab.
        points: (t, x, y) that are to be tracked.
        state: what tabs keep while the page is open, by tab.
        last_request: time of the last request, by time.monotonic.
        is_opening: whether an upload is being read.
        address: where the last job was asked for from.
    """

    name: str
    folder: Path
    videos: dict[str, Video] = field(default_factory=dict)
    points: list[tuple[int, float, float]] = field(default_factory=list)
    state: dict[str, Any] = field(default_factory=dict)
    last_request: float = field(default_factory=time.monotonic)
    is_opening: bool = False
    address: str = "unknown"

    def empty_folder(self, name: str) -> Path:
        """Return an empty folder of this name; what it held before is deleted."""
        folder = self.folder / name
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        return folder

    def write_image(self, image: np.ndarray, name: str) -> str:
        """Write an image for the page and return its path; the last one of this name is deleted."""
        # A new name each time, as browsers keep files by their names.
        path = self.empty_folder(f"image-{name}") / f"{uuid.uuid4().hex}.jpg"
        write_picture(path, image, max(image.shape))
        return str(path)


class FullError(ValueError):
    """There are too many visitors; the text is a sentence for one of them."""


class Visitors:
    """All open pages, by Gradio's names of their sessions.

    Args:
        root: a folder for all their files.
        on_leave: is called with the name of a visitor who leaves, before the files are deleted.
    """

    def __init__(self, root: Path, on_leave: Callable[[str], object]) -> None:
        self.root = root
        self.on_leave = on_leave
        self._visitors: dict[str, Visitor] = {}

    def __len__(self) -> int:
        return len(self._visitors)

    def all(self) -> list[Visitor]:
        """Return all visitors."""
        return list(self._visitors.values())

    def find(self, name: str | None) -> Visitor:
        """Return the visitor; of a name that is new, one without anything, who takes no place and has no folder."""
        name = name or "unknown"
        visitor = self._visitors.get(name)
        if visitor is None:
            return self._new(name)
        visitor.last_request = time.monotonic()
        return visitor

    def get(self, name: str | None) -> Visitor:
        """Return the visitor, for files; a new one if the name is new.

        If there are too many, one without video goes, who has done nothing for the longest time.

        Raises:
            FullError: all of them have videos.
        """
        name = name or "unknown"
        now = time.monotonic()
        for other in list(self._visitors.values()):
            if now - other.last_request > VISITOR_TIMEOUT and other.name != name:
                self.leave(other.name)
        if name not in self._visitors:
            if len(self._visitors) >= MAX_VISITORS:
                idle = [other for other in self._visitors.values() if not other.videos and not other.is_opening]
                if not idle:
                    raise FullError("Too many people use this page now: come back in a few minutes.")
                self.leave(min(idle, key=lambda other: other.last_request).name)
            visitor = self._new(name)
            visitor.folder.mkdir(parents=True)
            self._visitors[name] = visitor
        self._visitors[name].last_request = now
        return self._visitors[name]

    def _new(self, name: str) -> Visitor:
        # A folder's name that cannot be guessed.
        return Visitor(name, self.root / uuid.uuid4().hex)

    def leave(self, name: str | None) -> None:
        """End a visitor's work and delete the files: the page is closed."""
        visitor = self._visitors.pop(name or "unknown", None)
        if visitor is not None:
            self.on_leave(visitor.name)
            shutil.rmtree(visitor.folder, ignore_errors=True)


class Uploads:
    """Uploads by the paths that Gradio gives them: all files of the same bytes and name have one path.

    So two visitors may mean the same upload, or one of them means it twice.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        # Where each upload went, the last ones.
        self._taken: OrderedDict[Path, Path] = OrderedDict()

    def find(self, upload: Path) -> Path:
        """Return where an upload is. Raises VideoError if it is gone."""
        for path in (upload, self._taken.get(upload)):
            if path is not None and path.is_file():
                return path
        raise VideoError("This video is gone: choose the file again.")

    def take(self, upload: Path, path: Path) -> None:
        """Move an upload to a path; copy it, if another visitor has it. Raises VideoError if it is gone."""
        with self._lock:
            found = self.find(upload)
            try:
                if found == upload:
                    shutil.move(found, path)
                    self._taken[upload] = path
                else:
                    shutil.copyfile(found, path)
            except FileNotFoundError as error:
                raise VideoError("This video is gone: choose the file again.") from error
            while len(self._taken) > MAX_UPLOADS:
                self._taken.popitem(last=False)


def take_video(
    upload: Path, folder: Path, limits: Limits, on_frame: Callable[[int, int | None], object], uploads: Uploads
) -> Video:
    """Move an upload into an empty folder of the visitor's, read it to its end, and make its previews.

    Args:
        upload: the file; in any case it is gone afterwards.
        folder: for the file and the previews.
        limits: bytes and seconds.
        on_frame: is called with the number of frames read, and about how many there are (None if unknown).
        uploads: of the page.

    Raises:
        VideoError: it cannot be read or exceeds a limit; the reason is a sentence for the visitor.
    """
    path = folder / f"{plain_name(upload.stem)}{upload.suffix.lower()}"
    uploads.take(upload, path)
    try:
        size = path.stat().st_size
        if size > limits.megabytes * 1e6:
            raise VideoError(f"it has {size / 1e6:.0f} MB, and {limits.megabytes} MB is the limit")
        info = probe(path)
        if max(info.width, info.height) > MAX_SIDE:
            raise VideoError(f"it is {info.width} x {info.height} pixels large, and {MAX_SIDE} a side is the limit")
        expected = round(info.duration * info.fps) if info.duration and info.fps else None
        if (info.duration or 0) > limits.seconds + 0.5:
            raise _too_long(limits)
        damage: list[str] = []
        previews = _write_previews(
            path, folder / "previews", limits, lambda done: on_frame(done, expected), damage.append
        )
    except VideoError as error:
        shutil.rmtree(folder, ignore_errors=True)
        raise VideoError(f"This video can't be used: {format_error(error.reason, hint=error.hint)}.") from error
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    finally:
        upload.unlink(missing_ok=True)
    return Video(path, info.width, info.height, len(previews), info.fps or DEFAULT_FPS, previews, *damage)


def _write_previews(
    path: Path,
    folder: Path,
    limits: Limits,
    on_frame: Callable[[int], object],
    on_damage: Callable[[str], object],
) -> list[Path]:
    """Read all frames before any damage, as a file need not be as long as it says, and write a picture of each."""

    def describe(count: int, time: float) -> None:
        on_damage(f"This video is damaged after {time:.1f} s; points are tracked in the {count} frames before that.")

    folder.mkdir()
    previews: list[Path] = []
    first = None
    for frame in frames_before_damage(path, describe):
        first = frame.time if first is None else first
        if frame.time - first > limits.seconds + 0.5 or len(previews) >= limits.seconds * MAX_FPS:
            raise _too_long(limits)
        previews.append(folder / f"{len(previews):05d}.jpg")
        write_picture(previews[-1], frame.image, PREVIEW_SIDE)
        on_frame(len(previews))
    return previews


def _too_long(limits: Limits) -> VideoError:
    return VideoError(f"it is longer than {limits.seconds} seconds, the limit of this page", hint="cut it first")


def write_picture(path: Path, image: np.ndarray, side: int) -> None:
    """Write [H, W, 3] uint8 RGB as a JPEG, made smaller if its longer side exceeds `side` pixels."""
    height, width = image.shape[:2]
    size = fit_size(width, height, side)
    if size != (width, height):
        image = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    cv2.imwrite(str(path), image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 92])


def fit_size(width: int, height: int, side: int) -> tuple[int, int]:
    """Return width and height, made smaller if the longer one exceeds `side`."""
    scale = min(1.0, side / max(height, width))
    return max(1, round(width * scale)), max(1, round(height * scale))


def plain_name(stem: str) -> str:
    """Return a file's name that is safe anywhere: letters, digits, dots and dashes, at most 40 of them."""
    return re.sub(r"[^\w.-]+", "-", stem, flags=re.ASCII).strip("-.")[:40] or "video"
