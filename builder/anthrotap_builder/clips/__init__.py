"""The first stage: a video is cut at its shot changes into clips, the unit that all other stages work on."""

from anthrotap_builder.clips.video_clips import (
    MIN_CLIP_FRAMES,
    OnSkipped,
    SkippedFrames,
    StoredFrames,
    VideoClip,
    read_clips,
)

__all__ = ["MIN_CLIP_FRAMES", "OnSkipped", "SkippedFrames", "StoredFrames", "VideoClip", "read_clips"]
