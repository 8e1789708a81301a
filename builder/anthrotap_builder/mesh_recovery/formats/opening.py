"""Opening arrays, pickles and PyTorch files of strangers, with errors that name the file."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from anthrotap_builder.mesh_recovery.formats.base import MeshInput
from anthrotap_hf.utils.safe_joblib import safe_load_joblib
from anthrotap_hf.utils.safe_npz import safe_load_array, safe_load_npz
from anthrotap_hf.utils.safe_pickle import UnsafeFileError


@contextmanager
def _named(source: MeshInput) -> Iterator[None]:
    try:
        yield
    except UnsafeFileError as error:
        raise source.error(error.reason) from error


def load_npz(source: MeshInput, keys: Iterable[str] | None = None) -> dict[str, np.ndarray]:
    """Return the arrays of an `.npz`, those of some keys or all. Raises MeshFileError."""
    with _named(source):
        return dict(safe_load_npz(source.path, keys))


def load_array(source: MeshInput) -> np.ndarray:
    """Return the array of an `.npy`. Raises MeshFileError."""
    with _named(source):
        return safe_load_array(source.path)


def load_pickle(source: MeshInput) -> Any:
    """Return what `joblib.dump` or `pickle.dump` wrote, without running code of the file. Raises MeshFileError."""
    with _named(source):
        return safe_load_joblib(source.path)


def load_tensors(source: MeshInput) -> Any:
    """Return what `torch.save` wrote: tensors, numbers and containers, never code. Raises MeshFileError."""
    from anthrotap_hf.utils.checkpoints import CheckpointError, load_torch

    try:
        return load_torch(source.path)
    except CheckpointError as error:
        raise source.error(error.reason) from error
