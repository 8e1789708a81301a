"""Files whose licenses forbid to redistribute them (the SMPL family, TokenHMR's weights), by name and by content."""

from __future__ import annotations

import mmap
import os
import re
import zipfile
from pathlib import Path

from anthrotap_hf.hub.errors import PublishError
from anthrotap_hf.utils.errors import one_line
from anthrotap_hf.utils.file_limits import read_json
from anthrotap_hf.utils.safe_pickle import DAMAGE

_NAMES = re.compile(
    r"(smpl[hx]?_(neutral|male|female)|basicmodel|smpl_mean_params|smal_|tokenhmr|j_regressor)"
    r".*\.(pkl|npz|npy|pt|pth|ckpt|bin|safetensors)",
    re.IGNORECASE,
)
# Arrays that only body models have, and modules that only TokenHMR's network has.
_BODY_KEYS = (b"shapedirs", b"posedirs", b"J_regressor")
_TOKENHMR_KEYS = (b"smpl_head", b"smpl_layer")
_SEARCHED = (".pkl", ".npz", ".pt", ".pth", ".ckpt", ".bin", ".safetensors")
_SEARCHED_BYTES = 64 << 20  # pickles name their keys where they begin, safetensors in the header


def check_no_licensed_files(folder: Path) -> None:
    """Raise PublishError for the first file in or below a folder that may not be redistributed."""
    for directory, folders, names in os.walk(folder):
        folders.sort()
        for name in sorted(names):
            path = Path(directory, name)
            if found := _licensed_content(path):
                reason = f"{found}, which may not be redistributed"
                raise PublishError(reason, path=path, hint="move it out of the folder")


def _licensed_content(path: Path) -> str | None:
    """Return what a file holds, if that may not be redistributed. Nothing of the file is executed."""
    tokenhmr = "TokenHMR's weights, licensed for research"
    if path.name == "config.json":
        try:
            kind = read_json(path).get("model_type")
        except (ValueError, AttributeError):
            return None
        return tokenhmr if kind == "tokenhmr" else None
    keys = _keys(path) if path.suffix.lower() in _SEARCHED else set()
    if not keys.isdisjoint(_TOKENHMR_KEYS):
        return tokenhmr
    if len(keys.intersection(_BODY_KEYS)) >= 2:
        return "a body model of the SMPL family, licensed for research"
    if _NAMES.fullmatch(path.name):
        return "by its name a licensed file (SMPL, TokenHMR)"
    return None


def _keys(path: Path) -> set[bytes]:
    """Return which of the keys above occur in a file."""
    keys = (*_BODY_KEYS, *_TOKENHMR_KEYS)
    if not path.stat().st_size:
        return set()
    try:
        if zipfile.is_zipfile(path):  # .npz and torch's files: names of members, and of tensors in data.pkl
            with zipfile.ZipFile(path) as archive:
                text = "\n".join(archive.namelist()).encode()
                for member in archive.infolist():
                    if member.filename.endswith("data.pkl"):
                        with archive.open(member) as file:
                            text += file.read(_SEARCHED_BYTES)
            return {key for key in keys if key in text}
    except DAMAGE as error:
        raise PublishError(f"damaged ({one_line(error)})", path=path, hint="move it out of the folder") from error
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        return {key for key in keys if content.find(key, 0, _SEARCHED_BYTES) >= 0}
