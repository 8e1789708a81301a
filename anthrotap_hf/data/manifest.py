"""The manifest of a dataset, `manifest.json`, and what it promises of files and rows."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self, TypeVar

from anthrotap_hf.schema import MANIFEST
from anthrotap_hf.utils.errors import AnthroTapError, format_error
from anthrotap_hf.utils.file_limits import FileLimitError, read_json

T = TypeVar("T")


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
        manifest = read_json(path)
    except FileLimitError as error:
        reason = f"can't be read as JSON ({error.reason.removeprefix('not JSON: ')})"
        raise ManifestError(reason, path=path, hint="fetch it again") from error
    if not isinstance(manifest, dict):
        raise ManifestError("no manifest of a dataset: not a JSON object", path=path, hint="fetch it again")
    return manifest


def json_value(values: Any, kind: type[T], *names: str) -> T | None:
    """A value within nested objects of JSON; None where it is missing or of another type than `kind`."""
    for name in names:
        values = values.get(name) if isinstance(values, dict) else None
    return values if type(values) is kind else None


@dataclass(frozen=True)
class Expected:
    """What a manifest promises of each row; None or False where it promises nothing.

    Attributes:
        label_version: of all rows; with meshes from files, the digest of its file follows in each row.
        meshes_from_files: whether the meshes come from files.
        label_only: whether rows have no video.
        clip_frames: the longest clip, frames.
        min_visible: the number of frames in which each track is visible at least.
    """

    label_version: str | None = None
    meshes_from_files: bool = False
    label_only: bool = False
    clip_frames: int | None = None
    min_visible: int | None = None

    @classmethod
    def from_manifest(cls, manifest: dict[str, Any]) -> Self:
        """Read the promises. What is missing, or of another type than ours, promises nothing."""
        return cls(
            label_version=json_value(manifest, str, "label_version"),
            meshes_from_files=(json_value(manifest, str, "config", "mesh_source") or "").partition(":")[0] == "file",
            label_only=json_value(manifest, bool, "label_only") or False,
            clip_frames=json_value(manifest, int, "config", "clips", "clip_frames"),
            min_visible=json_value(manifest, int, "config", "min_visible"),
        )
