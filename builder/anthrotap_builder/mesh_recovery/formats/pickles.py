"""Opening pickles and PyTorch files of strangers, with errors that name the file."""

from __future__ import annotations

from typing import Any

from anthrotap_builder.mesh_recovery.formats.base import MeshInput
from anthrotap_hf.utils.safe_joblib import safe_load_joblib
from anthrotap_hf.utils.safe_pickle import UnsafeFileError


def load_pickle(source: MeshInput) -> Any:
    """Return what `joblib.dump` or `pickle.dump` wrote, without running code of the file. Raises MeshFileError."""
    try:
        return safe_load_joblib(source.path)
    except UnsafeFileError as error:
        raise source.error(error.reason) from error


def load_tensors(source: MeshInput) -> Any:
    """Return what `torch.save` wrote: tensors, numbers and containers, never code. Raises MeshFileError."""
    from anthrotap_hf.utils.checkpoints import CheckpointError, load_torch

    try:
        return load_torch(source.path)
    except CheckpointError as error:
        raise source.error(error.reason) from error
