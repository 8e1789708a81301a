"""Files that their owners forbid to pass on, SMPL's family and TokenHMR's weights, found by name and by content."""

from __future__ import annotations

import json
import mmap
import os
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path

_NAMES = re.compile(
    r"(smpl[hx]?_(neutral|male|female)|basicmodel|smpl_mean_params|smal_|tokenhmr|j_regressor)"
    r".*\.(pkl|npz|npy|pt|pth|ckpt|bin|safetensors)",
    re.IGNORECASE,
)
# Arrays that only body models have; and modules that only TokenHMR's network has.
_BODY = (b"shapedirs", b"posedirs", b"J_regressor")
_TOKENHMR = (b"smpl_head", b"smpl_layer")
_HELD = (".pkl", ".npz", ".pt", ".pth", ".ckpt", ".bin", ".safetensors")


def licensed_files(folder: Path) -> list[str]:
    """A line for each file in or below a folder that may not be passed on: which, what it is, and what to do."""
    return [
        f"{path}: {what}, which may not be passed on; move it out of the folder"
        for path in _files(folder)
        if (what := _what(path)) is not None
    ]


def _files(folder: Path) -> Iterator[Path]:
    for directory, folders, names in os.walk(folder):
        folders.sort()
        yield from (Path(directory, name) for name in sorted(names))


def _what(path: Path) -> str | None:
    if path.name == "config.json":
        try:
            kind = json.loads(path.read_text("utf-8")).get("model_type")
        except (ValueError, AttributeError):
            return None
        return "TokenHMR's weights, licensed for research" if kind == "tokenhmr" else None
    suffix = path.suffix.lower()
    found = _inside(path) if suffix in _HELD else ()
    if any(name in found for name in _TOKENHMR):
        return "TokenHMR's weights, licensed for research"
    if sum(name in found for name in _BODY) >= 2:
        return "a body model of SMPL's family, licensed for research"
    if _NAMES.fullmatch(path.name):
        return "by its name a licensed file (SMPL, TokenHMR)"
    return None


def _inside(path: Path) -> set[bytes]:
    """Which of the tell-tale names are in a file. Nothing of it is run."""
    asked = (*_BODY, *_TOKENHMR)
    if not path.stat().st_size:
        return set()
    if zipfile.is_zipfile(path):  # .npz, and torch's files: names of members, and of tensors in data.pkl
        with zipfile.ZipFile(path) as archive:
            text = "\n".join(archive.namelist()).encode()
            for member in archive.infolist():
                if member.filename.endswith("data.pkl"):
                    with archive.open(member) as file:
                        text += file.read(64 << 20)
        return {name for name in asked if name in text}
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        end = min(len(content), 64 << 20)  # pickles name things where they begin; safetensors have a heading
        return {name for name in asked if content.find(name, 0, end) >= 0}
