"""Finds the videos that a command was given: files, and folders of pictures."""

from __future__ import annotations

import logging
import mimetypes
from collections.abc import Iterable
from pathlib import Path

from anthrotap_hf.video import VIDEO_SUFFIXES, pictures_in
from anthrotap_hf.video.images import natural_path_key

logger = logging.getLogger(__name__)

OVERLAY = ".tracks.mp4"
"""The ending of the overlay videos of `anthrotap label`, which are not labeled themselves."""
SHEET = ".tracks.jpg"
"""The ending of the pictures that it leaves beside them."""


def find_videos(inputs: list[Path]) -> list[Path]:
    """Find videos: files as given, each once, and those below folders, by suffix, in order, except overlays.

    Where no video file lies below a folder, it is a video of the pictures right in it, and so is each folder below.
    Where there are both, folders of pictures are skipped: they may be previews. A warning names these, and files that
    seem to be videos, but have a suffix that is not known. Names are in natural order, as people count.

    Raises:
        FileNotFoundError: for an input that does not exist, or a folder without a video.
    """
    videos: list[Path] = []
    for path in inputs:
        if path.is_dir():
            found = _below(path)
            if not found:
                suffixes = ", ".join(sorted(VIDEO_SUFFIXES))
                raise FileNotFoundError(f"{path}: no video in this folder, and no pictures ({suffixes})")
            videos += found
        elif path.exists():
            videos.append(path)
        else:
            raise FileNotFoundError(f"{path}: no such file or folder")
    return list({path.resolve(): path for path in videos}.values())


def _below(folder: Path) -> list[Path]:
    """Return the videos in a folder and in those below."""
    files = [path for path in _in_order(folder.rglob("*")) if path.is_file() and not path.name.startswith(".")]
    found = [path for path in files if path.suffix.lower() in VIDEO_SUFFIXES and not path.name.endswith(OVERLAY)]
    skipped = [path for path in files if path.suffix.lower() not in VIDEO_SUFFIXES and _seems_video(path)]
    folders = dict.fromkeys(path.parent for path in files)
    of_pictures = [each for each in folders if any(not p.name.endswith(SHEET) for p in pictures_in(each.iterdir()))]
    if found:
        with_videos = {path.parent for path in found}
        skipped += [each for each in of_pictures if each not in with_videos]
    if skipped:
        names = ", ".join(str(path.relative_to(folder)) for path in skipped[:3])
        more = " and others" if len(skipped) > 3 else ""
        logger.warning("%s: skipped, name them to have them read: %s%s", folder, names, more)
    return found or _in_order(of_pictures)


def _in_order(paths: Iterable[Path]) -> list[Path]:
    return sorted(paths, key=natural_path_key)


def _seems_video(path: Path) -> bool:
    kind, _ = mimetypes.guess_type(path.name)
    return kind is not None and kind.startswith("video/")
