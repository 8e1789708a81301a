"""The package's decoder of videos, under the name of the copy of it that saved pipelines take along."""

from anthrotap_hf.video.decode import ImageFolder, VideoError, VideoSource, frames_before_damage, image_folder

__all__ = ["ImageFolder", "VideoError", "VideoSource", "frames_before_damage", "image_folder"]
