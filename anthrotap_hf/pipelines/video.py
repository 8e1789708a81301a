"""The package's decoder of videos, under the name of the copy of it that saved pipelines take along."""

from anthrotap_hf.video.decode import VideoError, VideoSource, frames_before_damage

__all__ = ["VideoError", "VideoSource", "frames_before_damage"]
