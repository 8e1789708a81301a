"""Folders of frames: JPEG, PNG and other pictures that are a video together, in natural order of their names.

Beside `decode.py` the file stands alone: saved pipelines take a copy of it along.
"""

from __future__ import annotations

import os
import re
import struct
import warnings
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from .containers import VideoError, VideoSource, check_size

IMAGE_SUFFIXES = (".bmp", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp")
# Frames a second of a folder, where nobody says.
FOLDER_FPS = 25.0


@dataclass(frozen=True)
class ImageFolder:
    """A folder of pictures that is read as a video.

    Attributes:
        path: the folder.
        files: the pictures, in natural order of their names.
        fps: how many there are a second.
    """

    path: Path
    files: list[Path]
    fps: float

    def __len__(self) -> int:
        return len(self.files)

    def image(self, number: int) -> np.ndarray:
        """Return a frame, [H, W, 3] uint8 RGB. Raises VideoError if it can't be read."""
        file = self.files[number]
        try:
            return decode_image(file)
        except VideoError:
            raise
        except ValueError as error:
            raise VideoError(error, path=file, hint="leave the picture out or make it again") from error


def image_folder(source: VideoSource, fps: float | None = None) -> ImageFolder | None:
    """Return the folder of pictures that a source is; None if it is no folder.

    Args:
        source: a path, or a file's bytes.
        fps: frames a second; None for `FOLDER_FPS`.

    Raises:
        VideoError: the folder holds no picture.
    """
    if isinstance(source, bytes) or not os.path.isdir(source):
        return None
    files = pictures_in(Path(source).iterdir())
    if not files:
        hint = "name the video files in it"
        raise VideoError("this is a folder, and no picture is in it", path=os.fspath(source), hint=hint)
    return ImageFolder(Path(source), files, fps or FOLDER_FPS)


def pictures_in(files: Iterable[Path]) -> list[Path]:
    """Return those of some files that are pictures by their suffix, in natural order of their names."""
    found = [file for file in files if file.suffix.lower() in IMAGE_SUFFIXES and not file.name.startswith(".")]
    return sorted((file for file in found if file.is_file()), key=natural_key)


def natural_key(file: Path) -> tuple[list[tuple[int, int, str]], str]:
    """Return what sorts names as people count: frame2 comes before frame10."""
    parts = re.findall(r"[0-9]+|[^0-9]+", file.name)
    return [(0, int(part), "") if part[0].isdecimal() else (1, 0, part) for part in parts], file.name


def natural_path_key(path: Path) -> list[tuple[list[tuple[int, int, str]], str]]:
    """Return what sorts paths as people count, folder by folder: 2/clip comes before 10/clip."""
    return [natural_key(Path(part)) for part in path.parts]


# `check_size` rejects what Pillow would only warn of.
warnings.simplefilter("ignore", Image.DecompressionBombWarning)

IMAGE_DAMAGE = (
    *(OSError, SyntaxError, ValueError, TypeError, KeyError, IndexError, OverflowError, MemoryError, EOFError),
    *(RecursionError, struct.error, zlib.error, AssertionError, NotImplementedError, ZeroDivisionError),
    *(Image.DecompressionBombError,),
)
"""What decoders of images raise for a file that is damaged or hostile."""


def decode_image(source: Any) -> np.ndarray:
    """Return an encoded picture (a file, its path or its bytes in `io.BytesIO`) as [H, W, 3] uint8 RGB, upright.

    Raises:
        ValueError: it cannot be decoded, or is larger than the limits of a frame.
    """
    try:
        with Image.open(source) as image:
            check_size(*image.size, os.fspath(source) if isinstance(source, (str, os.PathLike)) else "a picture")
            upright = ImageOps.exif_transpose(image)
            if upright.mode.startswith("I;16"):
                # Pillow would clip 16 bits of gray to 8, and not scale them.
                gray = (np.asarray(upright) / 257).round().astype(np.uint8)
                return np.repeat(gray[..., None], 3, axis=-1)
            return np.asarray(upright.convert("RGB"))
    except VideoError:
        raise
    except UnidentifiedImageError as error:
        raise ValueError("can't be decoded (it is no image)") from error
    except IMAGE_DAMAGE as error:
        text = " ".join(str(error).split())
        raise ValueError(f"can't be decoded ({text or type(error).__name__})") from error
