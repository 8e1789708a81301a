"""What reads each kind of file that may come from strangers, for a worker process that may crash."""

from __future__ import annotations

import shutil
from pathlib import Path


def read(path: Path) -> str | None:
    """Read a file by the reader of its name. Return the line that says why it can't be read, or "!..." for no line."""
    from anthrotap_hf.utils.errors import AnthroTapError

    try:
        _READERS[path.name](path)
    except AnthroTapError as error:
        return str(error)
    except Exception as error:  # noqa: BLE001  that is what is looked for
        return f"!{type(error).__name__}: {error}"
    return None


def _meshes(path: Path) -> None:
    from anthrotap_builder.mesh_recovery.mesh_file import read_meshes

    read_meshes(path)


def _tapvid(path: Path) -> None:
    from anthrotap_hf.evaluation.runner import resize_clip
    from anthrotap_hf.readers.tapvid import TapVidClips

    for clip in TapVidClips(path):
        resize_clip(clip, 32, 32)


def _checkpoint(path: Path) -> None:
    from anthrotap_hf.utils.checkpoints import load_tensors

    load_tensors(path)


def _points(path: Path) -> None:
    from anthrotap_hf.readers.points import _read_rows, _tracks_of_rows
    from anthrotap_hf.utils.errors import AnthroTapError, one_line

    try:
        _tracks_of_rows(_read_rows(path), 5, 48, 64)
    except ValueError as error:
        # As the reader itself does with what is wrong with rows.
        raise AnthroTapError(one_line(error, 300)) from error


def _recipe(path: Path) -> None:
    from anthrotap_builder.config import labeling_config

    labeling_config(str(path), {})


def _tracker(path: Path) -> None:
    from anthrotap_hf.pipelines import DEFAULT_MODEL, load_tracker

    folder = path.parent / "tracker"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(DEFAULT_MODEL, folder)
    shutil.copy(path, folder / path.name)
    load_tracker(str(folder))


_READERS = {
    "meshes.npz": _meshes,
    "tapvid.pkl": _tapvid,
    "checkpoint.pt": _checkpoint,
    "points.json": _points,
    "recipe.yaml": _recipe,
    "config.json": _tracker,
    "model.safetensors": _tracker,
}
