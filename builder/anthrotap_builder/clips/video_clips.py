"""Reads the clips of a video: shots, cut in pieces of a size that can be labeled at once."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass

import numpy as np

from anthrotap_builder.clips.shots import number_shots
from anthrotap_builder.config import ClipSettings
from anthrotap_hf.utils.atomic_files import file_sha256
from anthrotap_hf.video import Frame, VideoError, iter_frames, probe

logger = logging.getLogger(__name__)

# Shorter pieces between two shot changes are skipped.
MIN_CLIP_FRAMES = 8


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
class VideoClip:
    """Consecutive frames of one shot of a video, not labeled yet.

    Attributes:
        frames: [T, H, W, 3] uint8 RGB, H and W even.
        fps: frames a second of `frames`.
        start_frame: the number of the first frame among the decoded frames of the source video.
        source_frames: [T] int64, the number of each frame.
        source_video: the video's path, as given.
        source_sha256: the SHA-256 of the video file's bytes, 64 hexadecimal digits.
    """

    frames: np.ndarray
    fps: float
    start_frame: int
    source_frames: np.ndarray
    source_video: str
    source_sha256: str

    @property
    def clip_id(self) -> str:
        """Sixteen digits of the file's SHA-256, and the start frame; it does not depend on the path or other videos."""
        return f"{self.source_sha256[:16]}-{self.start_frame:06d}"


def read_clips(
    path: str | os.PathLike[str], settings: ClipSettings, on_skipped: OnSkipped | None = None
) -> Generator[VideoClip, None, None]:
    """Yield the clips of a video in order. At most three clips' frames are in memory, two between clips.

    Shots longer than `settings.clip_frames` are cut in pieces of that length; the last two get half of
    their frames each if the last would be shorter. A damaged part or a step of more than a second also ends a clip.
    Where the video is slower than `settings.fps`, all its frames are kept and the clip's `fps` is the video's own.

    Args:
        path: the video file.
        settings: size, rate and lengths.
        on_skipped: is called with each piece shorter than `MIN_CLIP_FRAMES`.

    Raises:
        VideoError: if the video can't be read; after the clips before it, if a part is damaged.
    """
    name = os.fspath(path)
    rate = probe(path).fps
    fps = settings.fps
    if fps is not None and rate is not None and rate <= fps:
        if rate < fps:
            logger.warning("%s: has %.4g frames a second, less than %.4g; all are kept", name, rate, fps)
        fps = None
    digest = file_sha256(path)
    shots = number_shots(iter_frames(path, settings.short_side))
    for piece in _cut(shots if fps is None else _resample(shots, fps), settings):
        start = piece[0].index
        if len(piece) < MIN_CLIP_FRAMES:
            reason = f"fewer than the {MIN_CLIP_FRAMES} frames that a clip needs"
            if fps is not None:
                reason += f", at {fps:g} frames a second (clips.fps)"
            skipped = SkippedFrames(start, len(piece), reason)
            logger.info("%s: %s", name, skipped)
            if on_skipped:
                on_skipped(skipped)
            continue
        clip = VideoClip(
            frames=np.stack([frame.image for frame in piece]),
            fps=fps or _own_rate(piece, rate),
            start_frame=start,
            source_frames=np.array([frame.index for frame in piece]),
            source_video=name,
            source_sha256=digest,
        )
        piece.clear()
        yield clip


def _resample(shots: Iterator[tuple[int, Frame]], fps: float) -> Iterator[tuple[int, Frame]]:
    """For each tick of a clock the frame that is nearest in time; the clock starts anew with each shot."""
    held: tuple[int, Frame] | None = None
    start = due = 0.0
    ticks = 0
    for shot, frame in shots:
        if held is not None and held[0] == shot:
            while due <= (held[1].time + frame.time) / 2:
                yield held
                ticks += 1
                due = start + ticks / fps
        else:
            # Timestamps may be rounded.
            if held is not None and due <= held[1].time + 0.1 / fps:
                yield held
            start = due = frame.time
            ticks = 0
        held = shot, frame
    if held is not None and due <= held[1].time + 0.1 / fps:
        yield held


def _cut(shots: Iterator[tuple[int, Frame]], settings: ClipSettings) -> Iterator[list[Frame]]:
    """Pieces of one shot each, of at most `clip_frames` frames; the caller may empty them."""
    length = settings.clip_frames
    held: list[Frame] = []
    current = 0
    try:
        for shot, frame in shots:
            if shot != current:
                yield from _split_end(held, settings)
                held, current = [], shot
            held.append(frame)
            if len(held) == 2 * length:
                piece, held = held[:length], held[length:]
                yield piece
    except VideoError:
        # What came before the damage is good.
        yield from _split_end(held, settings)
        raise
    yield from _split_end(held, settings)


def _split_end(frames: list[Frame], settings: ClipSettings) -> Iterator[list[Frame]]:
    """The end of a shot, fewer than two full pieces, as one or two pieces. `frames` becomes the first one."""
    if len(frames) <= settings.clip_frames:
        middle = len(frames)
    elif len(frames) // 2 >= MIN_CLIP_FRAMES:
        middle = (len(frames) + 1) // 2
    else:
        middle = settings.clip_frames
    rest = frames[middle:]
    del frames[middle:]
    for piece in (frames, rest):
        if piece:
            yield piece


def _own_rate(piece: list[Frame], rate: float | None) -> float:
    """Frames a second: as the file says if its timestamps agree, else as measured by them."""
    seconds = piece[-1].time - piece[0].time
    if seconds <= 0:
        return rate or 25.0
    measured = (len(piece) - 1) / seconds
    return rate if rate and abs(measured / rate - 1) < 0.02 else measured
