"""Finds the videos that a command was given."""

from __future__ import annotations

from pathlib import Path

from anthrotap_hf.video import VIDEO_SUFFIXES

OVERLAY = ".tracks.mp4"
"""The ending of the overlay videos of `anthrotap label`, which are not labeled themselves."""


def find_videos(inputs: list[Path]) -> list[Path]:
    """Find videos: files as given, each once, and those below folders, by suffix, in order, except overlays.

    Raises:
        FileNotFoundError: for an input that does not exist, or a folder without a video.
    """
    videos: list[Path] = []
    for path in inputs:
        if path.is_dir():
            found = sorted(
                p
                for p in path.rglob("*")
                if p.suffix.lower() in VIDEO_SUFFIXES and p.is_file() and not p.name.endswith(OVERLAY)
            )
            if not found:
                raise FileNotFoundError(f"{path}: no video in this folder ({', '.join(sorted(VIDEO_SUFFIXES))})")
            videos += found
        elif path.exists():
            videos.append(path)
        else:
            raise FileNotFoundError(f"{path}: no such file or folder")
    return list({path.resolve(): path for path in videos}.values())
