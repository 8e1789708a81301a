"""Hooks of the documentation's site: the README is its home, and links out of docs/ become those of the repository.

The variable REPOSITORY is the address of the repository, which the workflow sets; without it such links lead home.
"""

from __future__ import annotations

import os
import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File

ROOT = Path(__file__).parents[1]
LINK = re.compile(r"(?<=\]\()(?!https?:|#)([^)\s]+)(?=\))")


def on_files(files: Any, config: Any) -> Any:
    """Add the README as the home, and the picture of the tracks, which the cards of datasets hold."""
    files.append(File.generated(config, "index.md", content=(ROOT / "README.md").read_text("utf-8")))
    picture = ROOT / "model_cards/tracks.jpg"
    files.append(File.generated(config, "pictures/tracks.jpg", abs_src_path=str(picture)))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Any) -> str:
    """Rewrite the links of a page."""
    folder = "" if page.file.src_uri == "index.md" else "docs"

    def target(found: re.Match[str]) -> str:
        path, hash_, anchor = found[1].partition("#")
        if not path:
            return found[1]
        path = posixpath.normpath(posixpath.join(folder, path))
        if path == "README.md":
            return f"index.md{hash_}{anchor}"
        if path == "model_cards/tracks.jpg":
            return "pictures/tracks.jpg"
        if path.startswith("docs/") and path != "docs/notebooks":
            return f"{path.removeprefix('docs/')}{hash_}{anchor}"
        repository = os.environ.get("REPOSITORY")
        return f"{repository}/blob/main/{path}" if repository else "index.md"

    return LINK.sub(target, markdown)
