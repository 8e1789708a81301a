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
    if hasattr(video, "__array__") or isinstance(video, Sequence):
        array = np.asarray(video)
        if array.ndim != 4 or array.shape[3] != 3 or array.dtype != np.uint8 or 0 in array.shape:
            raise VideoError(
                f"a video must be [T, H, W, 3] uint8 RGB and not empty, got {array.dtype} {list(array.shape)}"
            )
        return array
    raise VideoError(
        f"a video must be a path, an address, bytes, an array or a dataset's Video value, got {type(video).__name__}"
    )


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


__all__ = ["frames_or_source", "row_value"]
