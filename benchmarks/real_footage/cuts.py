"""Shot changes as labeling finds them: false ones in videos of one shot, and true ones where videos are joined."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import cv2

from anthrotap_builder.clips import SkippedFrames, read_clips
from anthrotap_builder.config import ClipSettings
from anthrotap_hf.video import iter_frames
from anthrotap_hf.video.encode import VideoWriter
from benchmarks.real_footage.footage import Footage

# Longer than any video, so that only shot changes end a clip.
ENDLESS = 10**9
# The joined video: frames of each video, frames a second, size in pixels, and x264's quality (nearly lossless).
JOINED_FRAMES = 48
JOINED_FPS = 24.0
JOINED_SIZE = (854, 480)
JOINED_CRF = 4


def measure_cuts(
    footage: Sequence[Footage], settings: ClipSettings, on_step: Callable[[str], object] | None = None
) -> dict[str, Any]:
    """Find shot changes in videos of one shot each, and in their first frames joined end to end.

    Args:
        footage: the videos, each without a shot change.
        settings: how labeling reads them.
        on_step: called with what is being done.

    Returns:
        A dict that JSON can hold: by video, in `clips`, the number of `frames`, of those `lost` (in no clip), and of
        `false_cuts`; `all`, their sums; and `joined`: `frames`, `lost`, `true_cuts`, `found` of them, `false_cuts`.

    Raises:
        VideoError: if a video cannot be read.
    """
    say = on_step or (lambda _: None)
    clips = {}
    for each in footage:
        say(f"cuts in {each.name}")
        frames, lost, starts = find_pieces(each.path, settings)
        clips[each.name] = {"frames": frames, "lost": lost, "false_cuts": len(starts) - 1}
    names = ("frames", "lost", "false_cuts")
    result: dict[str, Any] = {"clips": clips, "all": {n: sum(own[n] for own in clips.values()) for n in names}}
    if len(footage) > 1:
        say("cuts between the joined clips")
        with TemporaryDirectory() as folder:
            path = Path(folder) / "joined.mp4"
            true = set(join_videos([each.path for each in footage], path))
            frames, lost, starts = find_pieces(path, settings)
        found = set(starts) - {0}
        result["joined"] = {
            "frames": frames,
            "lost": lost,
            "true_cuts": len(true),
            "found": len(true & found),
            "false_cuts": len(found - true),
            "missed": sorted(true - found),
            "false": sorted(found - true),
        }
    return result


def find_pieces(path: Path, settings: ClipSettings) -> tuple[int, int, list[int]]:
    """Return the number of a video's frames, of those in no clip, and where each piece between shot changes begins."""
    skipped: list[SkippedFrames] = []
    endless = settings.model_copy(update={"clip_frames": ENDLESS})
    kept = [(clip.start_frame, len(clip.frames)) for clip in read_clips(path, endless, skipped.append)]
    lost = [(each.start_frame, each.num_frames) for each in skipped]
    return sum(n for _, n in kept + lost), sum(n for _, n in lost), sorted(start for start, _ in kept + lost)


def join_videos(paths: Sequence[Path], out: Path) -> list[int]:
    """Write the first frames of videos, brought to one size, as one video; return where each but the first begins."""
    starts: list[int] = []
    with VideoWriter(out, JOINED_FPS, crf=JOINED_CRF) as writer:
        for path in paths:
            starts.append(writer.num_frames)
            for frame in islice(iter_frames(path, JOINED_SIZE[1]), JOINED_FRAMES):
                writer.write(cv2.resize(frame.image, JOINED_SIZE, interpolation=cv2.INTER_AREA))
    return starts[1:]
