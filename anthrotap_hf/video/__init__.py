"""Video files in and out: decoded frame by frame, encoded as H.264."""

from anthrotap_hf.video.containers import VideoError, VideoSource
from anthrotap_hf.video.decode import (
    DamagedVideoError,
    Frame,
    VideoInfo,
    check_video,
    decode_video,
    frames_before_damage,
    iter_frames,
    measured_rate,
    probe,
    select_frames,
)
from anthrotap_hf.video.encode import REPEATABLE, VideoWriter, encode_video, write_video
from anthrotap_hf.video.images import FOLDER_FPS, IMAGE_SUFFIXES, decode_image, image_folder, pictures_in

# What a folder of videos is searched for.
VIDEO_SUFFIXES = (
    *(".264", ".265", ".3g2", ".3gp", ".3gpp", ".amv", ".apng", ".asf", ".avi", ".divx", ".dv", ".f4v", ".flv", ".gif"),
    *(".gxf", ".h264", ".h265", ".hevc", ".insv", ".ivf", ".lrv", ".m1v", ".m2p", ".m2t", ".m2ts", ".m2v", ".m4v"),
    *(".mjpeg", ".mjpg", ".mk3d", ".mkv", ".mod", ".mov", ".mp4", ".mp4v", ".mpe", ".mpeg", ".mpg", ".mpv", ".mts"),
    *(".mxf", ".nut", ".obu", ".ogm", ".ogv", ".ogx", ".qt", ".rm", ".rmvb", ".tod", ".trp", ".ts", ".vob", ".webm"),
    *(".wmv", ".wtv", ".xvid", ".y4m"),
)

__all__ = [
    "FOLDER_FPS",
    "IMAGE_SUFFIXES",
    "REPEATABLE",
    "VIDEO_SUFFIXES",
    "DamagedVideoError",
    "Frame",
    "VideoError",
    "VideoInfo",
    "VideoSource",
    "VideoWriter",
    "check_video",
    "decode_image",
    "decode_video",
    "encode_video",
    "frames_before_damage",
    "image_folder",
    "iter_frames",
    "measured_rate",
    "pictures_in",
    "probe",
    "select_frames",
    "write_video",
]
