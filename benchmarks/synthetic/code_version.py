"""A hash of code: what other code rendered is not used again."""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Iterable
from pathlib import Path

# The files of this folder that decide what a rendered person looks like.
RENDERER = tuple(f"{name}.py" for name in ("clothing", "ground_truth", "motion", "raster", "renderer", "room"))


def code_hash(names: Iterable[str]) -> str:
    """Return a hash of files of this folder; comments and layout do not change it."""
    digest = hashlib.sha256()
    for name in names:
        digest.update(ast.dump(ast.parse((Path(__file__).parent / name).read_text())).encode())
    return digest.hexdigest()[:10]
