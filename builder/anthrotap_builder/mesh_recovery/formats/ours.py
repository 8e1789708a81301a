"""Our own files of meshes, which `--write-meshes` writes: see `mesh_recovery.mesh_file`."""

from __future__ import annotations

from typing import Any

from anthrotap_builder.mesh_recovery.formats.base import MeshFormat, MeshInput
from anthrotap_builder.mesh_recovery.mesh_file import SUFFIX
from anthrotap_hf.utils.safe_npz import safe_load_npz
from anthrotap_hf.utils.safe_pickle import UnsafeFileError


def read(source: MeshInput) -> dict[str, Any]:
    """Return the arrays of an `.npz`. Raises MeshFileError."""
    try:
        return dict(safe_load_npz(source.path))
    except UnsafeFileError as error:
        raise source.error(error.reason) from error


FORMAT = MeshFormat("AnthroTAP", read, (f"{{name}}{SUFFIX}",), frozenset({"frame", "person", "size", "focal"}))
