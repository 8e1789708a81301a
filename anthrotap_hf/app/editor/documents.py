"""The pages of documentation that the page links to: they come with the package, so no other host is asked."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

from markdown_it import MarkdownIt

# Names of files in docs/, without suffix.
DOCUMENTS = ("editor", "tracking")
_APP = Path(__file__).parents[1]
# In the wheel beside the page, in a checkout where they are written.
_FOLDER = next(folder for folder in (_APP / "docs", _APP.parents[1] / "docs") if folder.is_dir())


@cache
def render_document(name: str) -> str:
    """Return a page of `DOCUMENTS` as HTML; links to others than these go, and comments."""
    text = re.sub(r"<!--.*?-->\n?", "", (_FOLDER / f"{name}.md").read_text("utf-8"), flags=re.DOTALL)
    text = re.sub(r"\[([^\]]*)\]\((?!https?:)([^)]*)\)", _link, text)
    markdown = MarkdownIt("commonmark", {"html": False}).enable("table")
    body = re.sub(r"<h(\d)>(.*?)</h\1>", _heading, markdown.render(text))
    title = re.sub(r"<[^>]*>", "", next(iter(re.findall(r"<h1[^>]*>(.*?)</h1>", body)), name))
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>' + title + "</title>"
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<link rel="icon" href="data:,"><link rel="stylesheet" href="../document.css"></head>'
        "<body><main>" + body + "</main></body></html>"
    )


def _link(match: re.Match[str]) -> str:
    name, _, part = match[2].partition("#")
    if not name or name.removesuffix(".md") in DOCUMENTS:
        return f"[{match[1]}]({name.removesuffix('.md')}{'#' if part else ''}{part})"
    return match[1]


def _heading(match: re.Match[str]) -> str:
    plain = re.sub(r"<[^>]*>", "", match[2]).lower()
    anchor = re.sub(r"[^\w -]", "", plain).strip().replace(" ", "-")
    return f'<h{match[1]} id="{anchor}">{match[2]}</h{match[1]}>'
