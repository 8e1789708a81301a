"""Video files in and out: decoded frame by frame, encoded as H.264."""

from anthrotap_hf.video.decode import (
    Frame,
    VideoError,
    VideoInfo,
    VideoSource,
    decode_video,
    iter_frames,
    probe,
    select_frames,
)
from anthrotap_hf.video.encode import REPEATABLE, VideoWriter, encode_video, write_video

# What a folder of videos is searched for.
VIDEO_SUFFIXES = (
    *(".avi", ".flv", ".gif", ".m4v", ".mkv", ".mov", ".mp4"),
    *(".mpeg", ".mpg", ".mts", ".ts", ".webm", ".wmv"),
)

__all__ = [
    "REPEATABLE",
    "VIDEO_SUFFIXES",
    "Frame",
    "VideoError",
    "VideoInfo",
    "VideoSource",
    "VideoWriter",
    "decode_video",
    "encode_video",
    "iter_frames",
    "probe",
    "select_frames",
    "write_video",
]
