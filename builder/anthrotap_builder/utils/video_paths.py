"""Which videos a command was given."""

from __future__ import annotations

from pathlib import Path

from anthrotap_hf.video import VIDEO_SUFFIXES

OVERLAY = ".tracks.mp4"  # how `anthrotap label` calls its pictures of a video


def find_videos(inputs: list[Path]) -> list[Path]:
    """Files as given, each once; folders give the videos below them, by suffix, in order, but no overlay of ours.

    Raises:
        FileNotFoundError: for an input that is not there, or a folder without a video.
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
                raise FileNotFoundError(
                    f"{path}: no video in this folder ({', '.join(sorted(VIDEO_SUFFIXES))})"
                )
            videos += found
        elif path.exists():
            videos.append(path)
        else:
            raise FileNotFoundError(f"{path}: no such file or folder")
    return list({path.resolve(): path for path in videos}.values())
