"""The manifest of a dataset: reading `manifest.json`, and what it says of files and rows."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from anthrotap_hf.schema import MANIFEST
from anthrotap_hf.utils.errors import AnthroTapError, format_error, one_line


class ManifestError(AnthroTapError):
    """A manifest that can't be used."""


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest of a dataset.

    Raises:
        FileNotFoundError: if there is none.
        ManifestError: if it is damaged.
    """
    path = folder / MANIFEST
    if not path.is_file():
        raise FileNotFoundError(
            format_error("no such file", str(path), "name a folder that `anthrotap label` or `build` wrote")
        )
    try:
        manifest = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        reason = f"can't be read as JSON ({one_line(error)})"
        raise ManifestError(reason, path=path, hint="fetch it again") from error
    if not isinstance(manifest, dict):
        raise ManifestError("no manifest of a dataset: not a JSON object", path=path, hint="fetch it again")
    return manifest
