"""First stage: a video is cut at its shot changes into clips, the unit that everything after works on."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np
from scenedetect import FrameTimecode
from scenedetect.detectors import ContentDetector

from anthrotap_builder.config import ClipSettings
from anthrotap_hf.utils.atomic_files import file_sha256
from anthrotap_hf.video import Frame, VideoError, iter_frames, probe

logger = logging.getLogger(__name__)

DETECTION_WIDTH = 160  # shots are told apart on frames this wide, in pixels
LONGEST_STEP = 1.0  # seconds between two frames that still count as one shot
SHOT_THRESHOLD = 27.0  # of scenedetect's ContentDetector
MIN_CLIP_FRAMES = 8  # shorter pieces between two shot changes are skipped


@dataclass(frozen=True)
class Clip:
    """Consecutive frames of one shot.

    Attributes:
        frames: [T, H, W, 3] uint8 RGB, H and W even.
        fps: frames a second of `frames`.
        start_frame: the first one's place among the decoded frames of the source video.
        source_frames: [T] int64, each one's.
        source_video: the video's path, as given.
        source_sha256: of the video file's bytes, 64 hexadecimal digits.
    """

    frames: np.ndarray
    fps: float
    start_frame: int
    source_frames: np.ndarray
    source_video: str
    source_sha256: str

    @property
    def clip_id(self) -> str:
        """Sixteen digits of the file's SHA-256 and the start frame: nothing of its name, place, or of other videos."""
        return f"{self.source_sha256[:16]}-{self.start_frame:06d}"


def read_clips(
    path: str | os.PathLike[str], settings: ClipSettings, skipped: list[str] | None = None
) -> Iterator[Clip]:
    """Clips of a video, in order; at most three clips' frames are in memory, two between clips, however long it is.

    Shots longer than `settings.clip_frames` are cut in pieces of that length; the last two share their frames
    where the last would be shorter. A damaged part or a step of more than a second also ends a clip. Where
    the video is slower than `settings.fps`, all its frames are kept and the clip's `fps` is the video's own.

    Args:
        path: the video file.
        settings: size, rate and lengths.
        skipped: gets a line for each piece shorter than `MIN_CLIP_FRAMES`, which is left out.

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
    shots = _number_shots(iter_frames(path, settings.short_side), SHOT_THRESHOLD)
    for piece in _cut(shots if fps is None else _resample(shots, fps), settings):
        start = piece[0].index
        if len(piece) < MIN_CLIP_FRAMES:
            line = (
                f"{name}: {len(piece)} frames from frame {start} on are left out; "
                f"a clip needs {MIN_CLIP_FRAMES}"
            )
            logger.info(line)
            if skipped is not None:
                skipped.append(line)
            continue
        clip = Clip(
            frames=np.stack([frame.image for frame in piece]),
            fps=fps or _own_rate(piece, rate),
            start_frame=start,
            source_frames=np.array([frame.index for frame in piece]),
            source_video=name,
            source_sha256=digest,
        )
        piece.clear()
        yield clip


def _number_shots(frames: Iterator[Frame], threshold: float) -> Iterator[tuple[int, Frame]]:
    """Each frame with the number of its shot."""
    # Every jump ends a shot: also a flash, across which no point can be followed by its looks.
    detector = ContentDetector(threshold=threshold, min_scene_len=0)
    shot = 0
    time: float | None = None
    for number, frame in enumerate(frames):
        scale = min(1.0, DETECTION_WIDTH / frame.image.shape[1])
        small = cv2.resize(frame.image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        jump = detector.process_frame(FrameTimecode(number, fps=1.0), cv2.cvtColor(small, cv2.COLOR_RGB2BGR))
        if jump or frame.after_gap or (time is not None and not 0 <= frame.time - time <= LONGEST_STEP):
            shot += 1
        time = frame.time
        yield shot, frame


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
            if held is not None and due <= held[1].time + 0.1 / fps:  # timestamps may be rounded
                yield held
            start = due = frame.time
            ticks = 0
        held = shot, frame
    if held is not None and due <= held[1].time + 0.1 / fps:
        yield held


def _cut(shots: Iterator[tuple[int, Frame]], settings: ClipSettings) -> Iterator[list[Frame]]:
    """Pieces of one shot each, of at most `clip_frames` frames; whoever takes one may empty it."""
    length = settings.clip_frames
    held: list[Frame] = []
    current = 0
    try:
        for shot, frame in shots:
            if shot != current:
                yield from _share(held, settings)
                held, current = [], shot
            held.append(frame)
            if len(held) == 2 * length:
                piece, held = held[:length], held[length:]
                yield piece
    except VideoError:
        yield from _share(held, settings)  # what came before the damage is good
        raise
    yield from _share(held, settings)


def _share(frames: list[Frame], settings: ClipSettings) -> Iterator[list[Frame]]:
    """The end of a shot, fewer than two full pieces: as one or two pieces, of which `frames` becomes the first."""
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
    """Frames a second: the file's word where the timestamps bear it out, else as measured by them."""
    seconds = piece[-1].time - piece[0].time
    if seconds <= 0:
        return rate or 25.0
    measured = (len(piece) - 1) / seconds
    return rate if rate and abs(measured / rate - 1) < 0.02 else measured
