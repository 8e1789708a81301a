"""A video in any form that users and rows of datasets have it in, for the pipeline.

The file stands alone beside the one that it imports: saved pipelines carry both along.
"""

from __future__ import annotations

import os
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from .video import VideoError, VideoSource

# Seconds without an answer.
URL_TIMEOUT = 60


def frames_or_source(video: Any, folder: str | os.PathLike[str] | None = None) -> np.ndarray | VideoSource:
    """Return an array of frames, a path or a file's bytes, from any form that a video comes in.

    A row's value, a dict, must have bytes, or a `Path` object, which no file can hold. Rows come from anyone, and text
    in one may name any file of this machine or its network: it is opened only if it names a file in a folder of the
    user's.

    Args:
        video: the video.
        folder: the folder in which paths of rows are opened; None: nowhere.

    Returns:
        What `video.decode` reads; or [T, H, W, 3] uint8 RGB, for frames in memory, see `_rgb_frames`.

    Raises:
        VideoError: it is something else, or an address that gives no file.
    """
    # A decoder of `datasets` keeps what it decodes.
    encoded = getattr(video, "_hf_encoded", None)
    video = {"path": encoded} if isinstance(encoded, str) else video if encoded is None else encoded
    if isinstance(video, Mapping):
        content, path = video.get("bytes"), video.get("path")
        if content is None and not isinstance(path, Path):
            path = _file_in_folder(path, folder)
        video = path if content is None else content
        if not isinstance(video, (bytes, bytearray, memoryview, Path)):
            raise VideoError(f"a video's bytes must be bytes, got {type(video).__name__}")
    if isinstance(video, str) and video.startswith(("http://", "https://")):
        try:
            with urllib.request.urlopen(video, timeout=URL_TIMEOUT) as answer:
                data: bytes = answer.read()
                return data
        except (urllib.error.URLError, OSError) as error:
            raise VideoError(getattr(error, "reason", None) or error, path=video) from error
    if isinstance(video, str) and "://" in video:
        # As rows of streamed datasets have it: zip://, hf://.
        import fsspec

        try:
            with fsspec.open(video, "rb") as file:
                fetched: bytes = file.read()
                return fetched
        except (OSError, ValueError, ImportError) as error:
            reason = " ".join(str(error).split()) or type(error).__name__
            raise VideoError(reason, path=video) from error
    if isinstance(video, (str, os.PathLike, bytes)):
        return video
    if hasattr(video, "read"):
        content = video.read()
        if isinstance(content, bytes):
            return content
        raise VideoError(f"a file must be opened to read bytes, got {type(content).__name__}")
    if isinstance(video, (bytearray, memoryview)):
        return bytes(video)
    if is_frame_list(video) or hasattr(video, "__array__"):
        return _rgb_frames(video)
    raise VideoError(
        "a video must be a path, an address, bytes, an array, a list of frames or a dataset's Video value, got "
        f"{type(video).__name__}"
    )


def is_frame_list(value: Any) -> bool:
    """Return whether a value is a list of frames: pictures of Pillow, or arrays or tensors [H, W] or [H, W, C]."""
    if not isinstance(value, Sequence) or isinstance(value, (str, bytes)) or not len(value):
        return False
    return all(isinstance(item, Image.Image) or getattr(item, "ndim", None) in (2, 3) for item in value)


def is_batch(value: Any) -> bool:
    """Return whether a value is an array or tensor of many videos, [B, T, ...]."""
    return getattr(value, "ndim", None) == 5


def _rgb_frames(video: Any) -> np.ndarray:
    """Return frames in memory as [T, H, W, 3] uint8 RGB.

    Args:
        video: a list of frames, or an array or tensor of them: [T, H, W] gray, or with 1 (gray), 3 (RGB) or 4 (RGB and
            alpha, which is dropped) channels, first or last; where both may be meant, tensors have them first and
            arrays last. uint8, or floats from 0 to 1. Pictures of Pillow are converted to RGB.

    Raises:
        VideoError: they are of another shape, type or range, or of different sizes.
    """
    if isinstance(video, np.ndarray) and video.dtype == np.uint8 and video.shape[3:] == (3,) and 0 not in video.shape:
        # As it is: a long video is not copied.
        return video
    frames: list[np.ndarray] = []
    if not isinstance(video, Sequence) and getattr(video, "ndim", 0) not in (3, 4):
        shape = list(getattr(video, "shape", ()))
        raise VideoError(f"a video in memory is [T, H, W] or [T, H, W, C] or [T, C, H, W], got {shape}")
    for number, frame in enumerate(video):
        image = _rgb_frame(frame, f"frame {number}")
        if frames and image.shape != frames[0].shape:
            (h, w), (height, width) = frames[0].shape[:2], image.shape[:2]
            raise VideoError(f"frame {number} is {width}x{height}, and the frames before it are {w}x{h}")
        frames.append(image)
    if not frames:
        raise VideoError("a video must have frames, got none")
    return np.stack(frames)


def _rgb_frame(frame: Any, name: str) -> np.ndarray:
    """Return one frame as [H, W, 3] uint8 RGB."""
    if isinstance(frame, Image.Image):
        return np.asarray(frame.convert("RGB"))
    channels_first = isinstance(frame, torch.Tensor)
    if channels_first:
        frame = frame.detach().cpu().float() if frame.is_floating_point() else frame.detach().cpu()
    array: np.ndarray = np.asarray(frame)
    # 1. Channels are last.
    if array.ndim == 2:
        array = array[..., None]
    if array.ndim == 3:
        first, last = array.shape[0] in (1, 3, 4), array.shape[2] in (1, 3, 4)
        if first and (channels_first or not last):
            array = array.transpose(1, 2, 0)
    if array.ndim != 3 or array.shape[2] not in (1, 3, 4) or 0 in array.shape:
        raise VideoError(
            f"{name} is {list(array.shape)}: frames are [H, W], or have 1, 3 or 4 channels, first or last, and no side "
            "is 0"
        )
    # 2. Gray becomes RGB, and alpha is dropped.
    array = np.repeat(array, 3, axis=2) if array.shape[2] == 1 else array[..., :3]
    # 3. Floats from 0 to 1 become bytes.
    if np.issubdtype(array.dtype, np.floating):
        low, high = float(array.min()), float(array.max())
        # NaN fails the comparison.
        if not (low >= 0 and high <= 1):
            raise VideoError(f"{name} has floats from {low:g} to {high:g}: floats are from 0 to 1, bytes are uint8")
        scaled: np.ndarray = np.rint(array * 255).astype(np.uint8)
        return scaled
    if array.dtype != np.uint8:
        raise VideoError(f"{name} is {array.dtype}: frames are uint8, or floats from 0 to 1")
    return array


def _file_in_folder(path: Any, folder: str | os.PathLike[str] | None) -> Path:
    """Return the file that a row names, if it lies in the folder when all links are followed."""
    if folder is None:
        reason = "a row's path is opened in a folder of yours alone" if path is not None else "it has none"
        raise VideoError(
            f"a video that is a dict must have bytes: {reason}",
            hint="name the folder as video_folder, or give the path itself in place of the dict",
        )
    home = Path(folder).resolve()
    if isinstance(path, str) and "\0" not in path:
        # Where the path is absolute, it is taken as it is.
        file = (home / path).resolve()
        if file.is_relative_to(home) and file.is_file():
            return file
    raise VideoError("a row names no file in this folder, and no other file is opened", path=os.fspath(folder))


def row_value(row: Any) -> Any:
    """Return a row of a dataset, its `video` a dict also where it is text: so it is not taken for the user's path."""
    if isinstance(row, Mapping) and isinstance(row.get("video"), str):
        return {**row, "video": {"bytes": None, "path": row["video"]}}
    return {"bytes": None, "path": row} if isinstance(row, str) else row


__all__ = ["frames_or_source", "is_batch", "is_frame_list", "row_value"]
