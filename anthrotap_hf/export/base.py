"""What all export formats share: their description, and the frames of a clip beside its tracks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from anthrotap_hf.tracks import TrackedClip
from anthrotap_hf.video import VideoError, iter_frames


@dataclass(frozen=True)
class Format:
    """A kind of file that tracks are exported to.

    Attributes:
        write: writes a clip to a path, where nothing is, or what `write` itself made earlier. Clips have a frame rate.
        suffix: of the file; "" for a folder.
        reader: which program reads it, and how.
        program: what the program is called.
        use: what to do with the file in that program, in a sentence.
        video: what a clip's video is for; "" where it is of no use, and `write` gets a clip without one.
        sidecar: where `write` copies a clip's video to, beside the file at a path; None where it is not copied.
    """

    write: Callable[[TrackedClip, Path], None]
    suffix: str
    reader: str
    video: str = ""
    sidecar: Callable[[TrackedClip, Path], Path | None] | None = None
    program: str = ""
    use: str = ""


def frame_rate(clip: TrackedClip) -> float:
    """Return the frames a second; raise ValueError if they are not known, or no positive number."""
    if clip.fps is None or not 0 < clip.fps < float("inf"):
        raise ValueError(f"fps must be a positive number of frames a second, got {clip.fps}")
    return clip.fps


def frame_times(clip: TrackedClip) -> np.ndarray:
    """Return the time of each frame, [T] seconds from the first one on: as the clip knows it, else by its rate.

    Raises:
        ValueError: as `frame_rate`.
    """
    even = np.arange(clip.tracks.num_frames) / frame_rate(clip)
    times = clip.info.get("times")
    return even if times is None else np.asarray(times, np.float64)


def exported_frames(clip: TrackedClip) -> Iterator[np.ndarray]:
    """Yield the frames of a clip, [H, W, 3] uint8 RGB, one at a time.

    Raises:
        VideoError: if the video cannot be read, or has another size or number of frames than the tracks.
    """
    tracks, video = clip.tracks, clip.video
    frames: Iterator[np.ndarray]
    if isinstance(video, str | bytes | Path):
        frames = (frame.image for frame in iter_frames(video))
    else:
        frames = clip.iter_frames(range(tracks.num_frames))
    name = video if isinstance(video, str | Path) else f"the video of {clip.clip_id or 'the clip'}"
    hint = "name the video that was tracked"
    count = 0
    for frame in frames:
        height, width = frame.shape[:2]
        if (height, width) != (tracks.height, tracks.width):
            raise VideoError(
                f"is {width}x{height}, the tracks are of {tracks.width}x{tracks.height}", path=name, hint=hint
            )
        count += 1
        if count > tracks.num_frames:
            break
        yield frame
    if count != tracks.num_frames:
        more = "more" if count > tracks.num_frames else f"{count}"
        raise VideoError(f"has {more} frames, the tracks have {tracks.num_frames}", path=name, hint=hint)
