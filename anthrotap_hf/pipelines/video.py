"""The house's reader of videos, under the name that saved pipelines know it by: they take a copy of it along."""

from anthrotap_hf.video import VideoError, VideoSource, iter_frames

__all__ = ["VideoError", "VideoSource", "iter_frames"]
