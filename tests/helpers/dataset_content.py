"""What builds are compared by."""

from __future__ import annotations

from pathlib import Path


def content(out: Path) -> dict[str, bytes]:
    """Everything that a build leaves for others."""
    files = [
        *sorted((out / "data").iterdir()),
        out / "manifest.json",
        out / "videos.jsonl",
        out / "README.md",
    ]
    return {str(file.relative_to(out)): file.read_bytes() for file in files}
