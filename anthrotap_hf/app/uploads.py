"""What visitors bring: a folder of their own for each, limits on bytes and length, and an end to all of it.

Only what was uploaded is read. A visitor's folder goes when the page is closed, or after an hour without a word, and
everything when the server ends.
"""

from __future__ import annotations

import re
import shutil
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from anthrotap_hf.app.worker import Worker
from anthrotap_hf.video import VideoError, iter_frames, probe
from anthrotap_hf.visualization.overlay import DEFAULT_FPS

PREVIEW_SIDE = 960  # pixels: the longer side of the pictures to click on
MOST_RATE = 60  # frames a second that the limit of length allows for
MOST_SIDE = 4096  # pixels
LEFT_ALONE = 3600  # seconds after which a visitor is taken to be gone


@dataclass(frozen=True)
class Limits:
    """How large an upload may be: megabytes (10^6 bytes), and seconds."""

    megabytes: int = 100
    seconds: int = 20

    def __str__(self) -> str:
        return f"up to {self.seconds} seconds and {self.megabytes} MB"


@dataclass
class Video:
    """An upload that can be worked on.

    Attributes:
        path: the file, in the visitor's folder.
        width, height: pixels, as displayed.
        frames: how many.
        fps: frames a second.
        previews: a JPEG of each frame, at most PREVIEW_SIDE wide and high.
    """

    path: Path
    width: int
    height: int
    frames: int
    fps: float
    previews: list[Path]

    @property
    def seconds(self) -> float:
        return self.frames / self.fps

    def preview(self, t: int) -> np.ndarray:
        """[h, w, 3] uint8 RGB, the picture of a frame."""
        picture = cv2.imread(str(self.previews[t]), cv2.IMREAD_COLOR)
        assert picture is not None
        return picture[..., ::-1]


@dataclass
class Visitor:
    """One open page.

    Attributes:
        name: what Gradio calls it.
        folder: for its files.
        videos: that are open, by tab.
        points: (t, x, y) that are to be tracked.
        kept: what else a tab keeps while the page is open, by the tab's name.
        seen: when it was last heard of.
    """

    name: str
    folder: Path
    videos: dict[str, Video] = field(default_factory=dict)
    points: list[tuple[int, float, float]] = field(default_factory=list)
    kept: dict[str, Any] = field(default_factory=dict)
    seen: float = field(default_factory=time.monotonic)

    def fresh(self, purpose: str) -> Path:
        """An empty folder for one purpose; what was there before is deleted."""
        folder = self.folder / purpose
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        return folder

    def show(self, image: np.ndarray, purpose: str) -> str:
        """A picture for the page, in place of the last one of this purpose."""
        folder = self.fresh(f"shown-{purpose}")
        path = folder / f"{uuid.uuid4().hex}.jpg"  # browsers keep what they know by name
        write_picture(path, image, max(image.shape))
        return str(path)


class Visitors:
    """All open pages, by the name that Gradio gives them.

    Args:
        root: a folder for all their files.
        worker: whose jobs end with them.
    """

    def __init__(self, root: Path, worker: Worker) -> None:
        self.root = root
        self.worker = worker
        self._visitors: dict[str, Visitor] = {}

    def __len__(self) -> int:
        return len(self._visitors)

    def get(self, name: str | None) -> Visitor:
        """The visitor, known or new."""
        name = name or "nobody"
        now = time.monotonic()
        for other in [v.name for v in list(self._visitors.values()) if now - v.seen > LEFT_ALONE]:
            if other != name:
                self.leave(other)
        if name not in self._visitors:
            folder = self.root / uuid.uuid4().hex  # nobody can guess another's
            folder.mkdir(parents=True)
            self._visitors[name] = Visitor(name, folder)
        self._visitors[name].seen = now
        return self._visitors[name]

    def leave(self, name: str | None) -> None:
        """The page is closed: its work ends, its files are deleted."""
        visitor = self._visitors.pop(name or "nobody", None)
        if visitor is not None:
            self.worker.cancel(visitor.name)
            shutil.rmtree(visitor.folder, ignore_errors=True)


def take_video(
    upload: Path, folder: Path, limits: Limits, on_frame: Callable[[int, int | None], object]
) -> Video:
    """Moves an upload into an empty folder of the visitor's, reads it to its end, and makes its previews.

    Args:
        upload: the file; it is gone from there afterwards, in any case.
        folder: for the file and the previews.
        limits: bytes and seconds.
        on_frame: is told how many frames are read, and of about how many.

    Raises:
        VideoError: if it can't be read or exceeds a limit, in one sentence for the visitor.
    """
    path = folder / f"{plain_name(upload.stem)}{upload.suffix.lower()}"
    try:
        shutil.move(upload, path)
        size = path.stat().st_size
        if size > limits.megabytes * 1e6:
            raise VideoError(f"it has {size / 1e6:.0f} MB, and {limits.megabytes} MB is the limit")
        info = probe(path)
        if max(info.width, info.height) > MOST_SIDE:
            raise VideoError(
                f"it is {info.width} x {info.height} pixels large, and {MOST_SIDE} a side is the limit"
            )
        previews = _previews(path, folder / "previews", limits, info.fps, info.duration, on_frame)
    except VideoError as error:
        shutil.rmtree(folder, ignore_errors=True)
        raise VideoError(f"This video can't be used: {str(error).removeprefix(f'{path}: ')}.") from error
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    finally:
        upload.unlink(missing_ok=True)
    return Video(path, info.width, info.height, len(previews), info.fps or DEFAULT_FPS, previews)


def _previews(
    path: Path,
    folder: Path,
    limits: Limits,
    fps: float | None,
    duration: float | None,
    on_frame: Callable[[int, int | None], object],
) -> list[Path]:
    """Reads all frames: what a file says of its length need not be true."""
    long = f"it is longer than {limits.seconds} seconds, the limit here: cut it first"
    if (duration or 0) > limits.seconds + 0.5:
        raise VideoError(long)
    expected = round(duration * fps) if duration and fps else None
    folder.mkdir()
    previews: list[Path] = []
    first = None
    for frame in iter_frames(path):
        first = frame.time if first is None else first
        if frame.time - first > limits.seconds + 0.5 or len(previews) >= limits.seconds * MOST_RATE:
            raise VideoError(long)
        previews.append(folder / f"{len(previews):05d}.jpg")
        write_picture(previews[-1], frame.image, PREVIEW_SIDE)
        on_frame(len(previews), expected)
    return previews


def write_picture(path: Path, image: np.ndarray, side: int) -> None:
    """A JPEG of [H, W, 3] uint8 RGB, made smaller where its longer side exceeds `side` pixels."""
    height, width = image.shape[:2]
    scale = min(1.0, side / max(height, width))
    if scale < 1:
        size = max(1, round(width * scale)), max(1, round(height * scale))
        image = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    cv2.imwrite(str(path), image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 92])


def plain_name(stem: str) -> str:
    """A file's name that is safe anywhere: letters, digits, dots and dashes, at most 40 of them."""
    return re.sub(r"[^\w.-]+", "-", stem, flags=re.ASCII).strip("-.")[:40] or "video"
