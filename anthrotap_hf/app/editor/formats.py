"""The formats that tracks are taken along in: which program reads each, and how to use it there."""

from __future__ import annotations

from anthrotap_hf.export import FORMATS
from anthrotap_hf.export.base import Format


def describe_formats() -> list[dict[str, str]]:
    """Return name, program and use of each format."""
    found = []
    for name in FORMATS:
        kind: Format = FORMATS.load(name)
        found.append({"name": name, "label": kind.program, "use": kind.use})
    return found
