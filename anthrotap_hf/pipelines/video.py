"""The package's decoder of videos, under the name of the copy of it that saved pipelines take along."""

from anthrotap_hf.video.decode import VideoError, VideoSource, iter_frames

__all__ = ["VideoError", "VideoSource", "iter_frames"]
