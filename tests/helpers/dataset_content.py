"""The contents of a build that comparisons use."""

from __future__ import annotations

from pathlib import Path


def content(out: Path) -> dict[str, bytes]:
    """Return all that a build publishes."""
    files = [
        *sorted((out / "data").iterdir()),
        out / "manifest.json",
        out / "videos.jsonl",
        out / "README.md",
    ]
    return {str(file.relative_to(out)): file.read_bytes() for file in files}
