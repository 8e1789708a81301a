"""Our own files of meshes, which `--write-meshes` writes: see `mesh_recovery.mesh_file`."""

from __future__ import annotations

from typing import Any

from anthrotap_builder.mesh_recovery.formats.base import MeshFormat, MeshInput
from anthrotap_builder.mesh_recovery.formats.opening import load_npz
from anthrotap_builder.mesh_recovery.mesh_file import SUFFIX


def read(source: MeshInput) -> dict[str, Any]:
    """Return the arrays of an `.npz`. Raises MeshFileError."""
    return load_npz(source)


FORMAT = MeshFormat("AnthroTAP", read, (f"{{name}}{SUFFIX}",), frozenset({"frame", "person", "size", "focal"}))
