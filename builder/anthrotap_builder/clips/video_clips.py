"""Reads the clips of a video: shots, cut in pieces of a size that can be labeled at once.

`clips.fps` says which frames are stored. Labels are made on more of them: from frame to frame bodies move less, so that
flow and tracks are surer, and what the frames between prove holds for the stored ones.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, replace

import numpy as np

from anthrotap_builder.clips.shots import LONGEST_STEP, number_shots
from anthrotap_builder.config import ClipSettings
from anthrotap_hf.utils.atomic_files import file_sha256
from anthrotap_hf.video import FOLDER_FPS, DamagedVideoError, Frame, VideoError, iter_frames, measured_rate, probe

logger = logging.getLogger(__name__)

# Why frames are skipped that damage reaches.
DAMAGED = "damaged, or predicted from damaged frames"
# Pieces between two shot changes with fewer stored frames are skipped.
MIN_CLIP_FRAMES = 8
# Labels are made on about this many frames a second, where fewer are stored: a whole number for each stored frame, and
# at most so many, which bounds memory.
LABELED_RATE = 30.0
MAX_LABELED_PER_STORED = 6
# They are made on all frames of a video that is at most this many times faster: if one frame and two were left out in
# turn, smooth motion would look uneven.
ALL_FRAMES_FACTOR = 1.7


@dataclass(frozen=True)
class SkippedFrames:
    """Frames of a video that make no row of a dataset. As text: "5 frames from frame 0 on: reason".

    Attributes:
        start_frame: the number of the first one among the decoded frames of the video.
        num_frames: how many.
        reason: why, in a few words.
    """

    start_frame: int
    num_frames: int
    reason: str

    def __str__(self) -> str:
        frames = "1 frame" if self.num_frames == 1 else f"{self.num_frames} frames"
        return f"{frames} from frame {self.start_frame} on: {self.reason}"


OnSkipped = Callable[[SkippedFrames], object]
"""Is called with frames that are skipped, from any thread."""


@dataclass(frozen=True)
class StoredFrames:
    """The frames of a clip that are stored.

    Attributes:
        index: [S] int64, their numbers among the frames of the clip, rising.
        fps: how many there are a second.
    """

    index: np.ndarray
    fps: float


@dataclass(frozen=True)
class VideoClip:
    """Consecutive frames of one shot of a video, not labeled yet.

    Attributes:
        frames: [T, H, W, 3] uint8 RGB, H and W even.
        fps: frames a second of `frames`.
        start_frame: the number of the first frame among the decoded frames of the source video.
        source_frames: [T] int64, the number of each frame.
        source_video: the video's path, as given.
        source_sha256: the SHA-256 of the video file's bytes, 64 hexadecimal digits.
        stored: which of the frames are stored; None for all.
    """

    frames: np.ndarray
    fps: float
    start_frame: int
    source_frames: np.ndarray
    source_video: str
    source_sha256: str
    stored: StoredFrames | None = None

    @property
    def clip_id(self) -> str:
        """Sixteen digits of the file's SHA-256, and the start frame; it does not depend on the path or other videos."""
        return f"{self.source_sha256[:16]}-{self.start_frame:06d}"

    def stored_only(self) -> VideoClip:
        """Return the clip without the frames that are not stored."""
        if self.stored is None:
            return self
        index = self.stored.index
        return replace(
            self,
            frames=self.frames[index],
            fps=self.stored.fps,
            source_frames=self.source_frames[index],
            stored=None,
        )


def read_clips(
    path: str | os.PathLike[str],
    settings: ClipSettings,
    on_skipped: OnSkipped | None = None,
    between: bool = False,
) -> Generator[VideoClip, None, None]:
    """Yield the clips of a video in order. At most three clips' frames are in memory, two between clips.

    Shots with more than `settings.clip_frames` stored frames are cut in pieces of that length; the last two get half of
    their frames each if the last would be shorter. A damaged part, another size and a step of more than a second also
    end a clip.
    Where the video is slower than `settings.fps`, each of its frames is there once and the clip's `fps` is its own.
    Frames are never repeated.

    Args:
        path: the video file, or a folder of pictures, of which there are `settings.fps` a second.
        settings: size, rate and lengths.
        on_skipped: is called with the frames that damage took, and with pieces of fewer stored frames than
            `MIN_CLIP_FRAMES`.
        between: whether the clips have the frames between the stored ones too, as labels need them: all, or where the
            video is much faster than `LABELED_RATE`, about that many a second.

    Raises:
        VideoError: if the video can't be read; after the clips before it, if a part is damaged.
    """
    name = os.fspath(path)
    info = probe(path, settings.fps)
    # Where the rate varies, only the frames' own times tell.
    rate = None if info.variable_rate else info.fps
    fps = settings.fps
    if fps is not None and rate is not None and rate <= fps:
        if rate < fps:
            logger.warning("%s: has %.4g frames a second, less than %.4g; all are kept", name, rate, fps)
        fps = None
    digest = file_sha256(path)
    report = _SkippedReport(name, on_skipped)
    frames = iter_frames(
        path,
        settings.short_side,
        sizes="own",
        deinterlace=settings.deinterlace,
        tone_map=settings.tone_map,
        folder_fps=settings.fps,
    )
    try:
        for piece in _cut(_choose(number_shots(report.watch(frames)), fps, rate, between), settings):
            if sum(item.stored for item in piece) < MIN_CLIP_FRAMES:
                report.add_piece(piece, fps)
                continue
            start = piece[0].frame.index
            clip_fps, stored = _rates(piece, rate, fps, between)
            source_frames = np.array([item.frame.index for item in piece])
            # No name of this function holds the clip while it is labeled.
            yield VideoClip(_stack(piece), clip_fps, start, source_frames, name, digest, stored)
    finally:
        report.finish()


@dataclass(frozen=True)
class _Item:
    """A frame of a clip.

    Attributes:
        frame: the frame.
        stored: whether it is stored.
        is_slow: whether another frame should have been stored before the next one, but the video has none.
    """

    frame: Frame
    stored: bool = True
    is_slow: bool = False


class _SkippedReport:
    """Tells of the frames that make no row: neighbors that are skipped for one reason together."""

    def __init__(self, name: str, on_skipped: OnSkipped | None) -> None:
        self._name = name
        self._on_skipped = on_skipped
        self._held: SkippedFrames | None = None
        # The numbers of frames that are too long after the one before.
        self._far: set[int] = set()

    def watch(self, frames: Iterator[Frame]) -> Iterator[Frame]:
        """Pass on the frames of a video, and tell of those that damage took. Raises VideoError as `frames` does."""
        last: Frame | None = None
        try:
            for frame in frames:
                if frame.num_lost:
                    self._tell(SkippedFrames(frame.index - frame.num_lost, frame.num_lost, DAMAGED))
                if last and not 0 <= frame.time - last.time <= LONGEST_STEP:
                    self._far.add(frame.index)
                last = frame
                yield frame
        except DamagedVideoError as error:
            if error.num_lost:
                self._tell(SkippedFrames(last.index + 1 if last else 0, error.num_lost, DAMAGED))
            raise

    def add_piece(self, piece: list[_Item], fps: float | None) -> None:
        """A piece has too few frames to be stored."""
        first, last = piece[0].frame.index, piece[-1].frame.index
        if first in self._far or last + 1 in self._far:
            reason = f"more than {LONGEST_STEP:g} s from frame to frame, too long to follow points"
        else:
            reason = f"fewer than the {MIN_CLIP_FRAMES} frames that a clip needs"
            if fps is not None:
                reason += f", at {fps:g} frames a second (clips.fps)"
        skipped = SkippedFrames(first, sum(item.stored for item in piece), reason)
        held = self._held
        if held and reason == held.reason and first in self._far:
            self._held = replace(held, num_frames=held.num_frames + skipped.num_frames)
        else:
            self.finish()
            self._held = skipped

    def finish(self) -> None:
        """Tell of what is held back."""
        if self._held:
            self._tell(self._held)
            self._held = None

    def _tell(self, skipped: SkippedFrames) -> None:
        logger.info("%s: %s", self._name, skipped)
        if self._on_skipped:
            self._on_skipped(skipped)


def _choose(
    frames: Iterator[tuple[int, Frame]], fps: float | None, rate: float | None, between: bool
) -> Iterator[tuple[int, _Item]]:
    """Choose the frames that are stored, `fps` a second, and those between them that labels are made on.

    Args:
        frames: of the video, each with the number of its shot.
        fps: frames a second that are stored; None for all.
        rate: of the video; None where it is not known.
        between: whether frames that are not stored are wanted.
    """
    if fps is None:
        yield from ((shot, _Item(frame)) for shot, frame in frames)
        return
    # A clock with some whole number of ticks for each stored frame.
    ticks_per_stored = min(max(round(LABELED_RATE / fps), 1), MAX_LABELED_PER_STORED)
    take_all = rate is not None and rate <= ALL_FRAMES_FACTOR * ticks_per_stored * fps
    for shot, frame, ticks in _ticks(frames, fps, ticks_per_stored):
        num_stored = sum(tick % ticks_per_stored == 0 for tick in ticks)
        if num_stored:
            yield shot, _Item(frame, is_slow=num_stored > 1)
        elif between and (take_all or ticks):
            yield shot, _Item(frame, stored=False)


def _ticks(frames: Iterator[tuple[int, Frame]], fps: float, ticks: int) -> Iterator[tuple[int, Frame, range]]:
    """Yield each frame with its shot and the ticks of a clock that it is nearest to in time.

    Args:
        frames: each with the number of its shot; the clock starts anew with each.
        fps, ticks: the clock has `ticks` for each of `fps` frames a second.
    """
    held: tuple[int, Frame] | None = None
    start, tick = 0.0, 0

    def ticks_until(time: float, slack: float = 0.0) -> range:
        nonlocal tick
        first = tick
        while start + tick / ticks / fps <= time + (slack if tick % ticks == 0 else slack / ticks):
            tick += 1
        return range(first, tick)

    def last_ticks(time: float) -> range:
        # Timestamps may be rounded.
        return ticks_until(time, slack=0.1 / fps)

    for shot, frame in frames:
        new_shot = held is None or held[0] != shot
        if held is not None:
            time = held[1].time
            yield (*held, last_ticks(time) if new_shot else ticks_until((time + frame.time) / 2))
        if new_shot:
            start, tick = frame.time, 0
        held = shot, frame
    if held is not None:
        yield (*held, last_ticks(held[1].time))


def _cut(items: Iterator[tuple[int, _Item]], settings: ClipSettings) -> Iterator[list[_Item]]:
    """Pieces of one shot each, of at most `clip_frames` stored frames; the caller may empty them."""
    length = settings.clip_frames
    held: list[_Item] = []
    current = num_stored = 0
    try:
        for shot, item in items:
            if shot != current:
                yield from _split_end(held, settings)
                held, current, num_stored = [], shot, 0
            held.append(item)
            num_stored += item.stored
            if num_stored == 2 * length:
                piece, held, num_stored = held, _split_off(held, length), length
                yield piece
    except VideoError:
        # What came before the damage is good.
        yield from _split_end(held, settings)
        raise
    yield from _split_end(held, settings)


def _split_end(items: list[_Item], settings: ClipSettings) -> Iterator[list[_Item]]:
    """The end of a shot, fewer than two full pieces, as one or two pieces. `items` becomes the first one."""
    num_stored = sum(item.stored for item in items)
    if num_stored <= settings.clip_frames:
        middle = num_stored
    elif num_stored // 2 >= MIN_CLIP_FRAMES:
        middle = (num_stored + 1) // 2
    else:
        middle = settings.clip_frames
    rest = _split_off(items, middle)
    for piece in (items, rest):
        if piece:
            yield piece


def _split_off(items: list[_Item], count: int) -> list[_Item]:
    """Remove what comes after `count` stored frames and those that follow them up to the next stored one; return it."""
    at = [number for number, item in enumerate(items) if item.stored][count:][:1] or [len(items)]
    rest = items[at[0] :]
    del items[at[0] :]
    return rest


def _rates(
    piece: list[_Item], rate: float | None, fps: float | None, between: bool
) -> tuple[float, StoredFrames | None]:
    """Return the frames a second of a clip, and which are stored, for `VideoClip`."""
    own_rate = _rate_of(piece, rate)
    if fps is None:
        return own_rate, None
    stored = [item for item in piece if item.stored]
    # Where the video is slower than what is asked for, no frame is repeated: the rate is the clip's own.
    stored_fps = _rate_of(stored, None) if any(item.is_slow for item in stored[:-1]) else fps
    if not between:
        return stored_fps, None
    return own_rate, StoredFrames(np.flatnonzero([item.stored for item in piece]), stored_fps)


def _stack(items: list[_Item]) -> np.ndarray:
    """Return the frames, [T, H, W, 3], and empty the list on the way, so that memory does not hold them twice."""
    frames = np.empty((len(items), *items[0].frame.image.shape), np.uint8)
    items.reverse()
    for image in frames:
        image[:] = items.pop().frame.image
    return frames


def _rate_of(items: list[_Item], said: float | None) -> float:
    """Return the frames a second of some frames, and of one that is alone what the video says."""
    return measured_rate([item.frame.time for item in items], said) or FOLDER_FPS
