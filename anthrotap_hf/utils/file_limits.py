"""The one set of limits on files of strangers: what any file that was made in good faith stays far below.

Those of frames and videos are in `anthrotap_hf.video.containers`, which goes with saved pipelines. Readers check a
file's own words (headers, sizes, depths) against them before memory is taken for what it announces.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from anthrotap_hf.utils.errors import AnthroTapError, one_line

MAX_JSON_BYTES = 32 << 20
MAX_RECIPE_BYTES = 1 << 18
# Recipes that extend one another.
MAX_RECIPES = 20
# What a pickle does, step by step: a part of it, or a reference to one, is a step or two.
MAX_PICKLE_STEPS = 5_000_000
# Numbers and texts in a key of a dict or a member of a set.
MAX_KEY_PARTS = 1000
# Items of an array that is written as nested lists.
MAX_LIST_ITEMS = 1_000_000
# Bytes of an array that a file announces in fewer bytes of its own: compressed, or sparse.
MAX_EXPANDED_BYTES = 1 << 29
# How many times as large as in the file a larger array may be.
MAX_EXPANSION = 50
# Bytes of the text before an array; numpy's own limit.
MAX_NPY_HEADER = 10_000
# Of a clip whose frames are decoded together.
MAX_CLIP_FRAMES = 5000
MAX_CLIP_PIXELS = 1 << 33
# Of a network's configuration: the largest number, and how many layers of one kind.
MAX_CONFIG_NUMBER = 1 << 24
MAX_CONFIG_LAYERS = 256
# How many times as large as the file of its weights a network may be.
MAX_NETWORK_GROWTH = 4


class FileLimitError(AnthroTapError):
    """A file is damaged, or exceeds a limit. Only `reason` is set: the caller knows the path."""


def parse_json(content: str | bytes, limit: int = MAX_JSON_BYTES) -> Any:
    """Return what JSON holds.

    Args:
        limit: its largest size, bytes.

    Raises:
        FileLimitError: it is no JSON, too large, or nested too deeply.
    """
    if len(content) > limit:
        raise _too_large(len(content), limit)
    try:
        return json.loads(content)
    except RecursionError as error:
        raise FileLimitError("it is nested too deeply") from error
    except ValueError as error:
        raise FileLimitError(f"not JSON: {one_line(error)}") from error


def _too_large(size: int, limit: int) -> FileLimitError:
    return FileLimitError(f"it has {-(-size >> 20)} MB, and {limit >> 20} MB is the limit for JSON")


def read_json(path: Path, encoding: str = "utf-8", limit: int | None = MAX_JSON_BYTES) -> Any:
    """Return what a JSON file holds.

    Args:
        limit: its largest size, bytes; None for a file that was written here and may be of any size.

    Raises:
        FileLimitError: as `parse_json`, or it is no text.
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        content = file.read() if limit is None else file.read(limit + 1)
    if limit is not None and len(content) > limit:
        raise _too_large(max(path.stat().st_size, len(content)), limit)
    try:
        return parse_json(content.decode(encoding), len(content))
    except UnicodeDecodeError as error:
        raise FileLimitError("not a text file (not UTF-8)") from error


def check_clip_size(num_frames: int, height: int = 1, width: int = 1) -> None:
    """Raise FileLimitError for a clip of too many frames or pixels to be held, or decoded, at once."""
    if num_frames > MAX_CLIP_FRAMES:
        raise FileLimitError(f"it has {num_frames} frames, and {MAX_CLIP_FRAMES} are the limit for one clip")
    if num_frames * height * width > MAX_CLIP_PIXELS:
        raise FileLimitError(f"{num_frames} frames of {width} x {height} pixels are too many for one clip")
