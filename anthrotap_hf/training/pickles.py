"""Pickled annotations of others, read without running what they say: numpy arrays and builtin containers only."""

from __future__ import annotations

import io
import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np

from anthrotap_hf.training.samples import BadSampleError

_CONTAINERS = {"set": set, "frozenset": frozenset, "bytearray": bytearray, "complex": complex}
_ARRAY = object()  # stands for the class numpy.ndarray, which nothing may call
_NUMPY_ROOMS = ("numpy.core", "numpy._core")  # as numpy 1 and numpy 2 call them


def load_annotations(path: str | os.PathLike[str]) -> Any:
    """What an `.npy` file holds: an array, or the object in it (`np.save` of a dict makes a pickle in an array).

    Raises:
        BadSampleError: if the file is no such one, damaged, or names anything but numpy arrays and builtin containers;
            nothing of it has then been run.
        OSError: if it can't be opened.
    """
    data = Path(path).read_bytes()
    stream = io.BytesIO(data)
    try:
        version = np.lib.format.read_magic(stream)
        read_header = {
            (1, 0): np.lib.format.read_array_header_1_0,
            (2, 0): np.lib.format.read_array_header_2_0,
        }[version]
        shape, _, dtype = read_header(stream)
        if not dtype.hasobject:
            return np.load(io.BytesIO(data), allow_pickle=False)
        loaded = _Reader(stream).load()
        if not isinstance(loaded, np.ndarray) or loaded.shape != shape:
            raise BadSampleError(f"{path}: its header and its content differ")
        return loaded.item() if loaded.shape == () else loaded
    except BadSampleError:
        raise
    except _Refused as error:
        raise BadSampleError(f"{path}: refused: the pickle wants {error}, which is no plain data") from error
    except Exception as error:  # a damaged pickle may fail in any way
        reason = " ".join(str(error).split()) or type(error).__name__
        raise BadSampleError(f"{path}: not a readable .npy file ({reason}); fetch it again") from error


class _Refused(pickle.UnpicklingError):
    pass


def _new_array(kind: Any, shape: Any, code: Any) -> np.ndarray:
    """numpy's `_reconstruct`, for plain arrays alone: an empty array, whose content follows."""
    if kind is not _ARRAY or shape != (0,):
        raise _Refused(f"an array of {kind!r}")
    return np.ndarray((0,), np.int8)


def _scalar(dtype: Any, data: Any = None) -> Any:
    if not isinstance(dtype, np.dtype) or dtype.hasobject:
        raise _Refused("a scalar of objects")
    return np.frombuffer(data, dtype, 1)[0]


def _from_buffer(data: Any, dtype: Any, shape: Any, order: Any) -> np.ndarray:
    if not isinstance(dtype, np.dtype) or dtype.hasobject:
        raise _Refused("a buffer of objects")
    return np.frombuffer(data, dtype).reshape(shape, order=order)


def _encode(text: Any, encoding: Any) -> bytes:
    """How protocols 0 to 2 write bytes."""
    if not isinstance(text, str) or encoding != "latin1":
        raise _Refused("an encoding other than latin1")
    return text.encode("latin1")


class _Reader(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if module in ("builtins", "__builtin__") and name in _CONTAINERS:
            return _CONTAINERS[name]
        if module == "numpy" and name == "ndarray":
            return _ARRAY
        if module == "numpy" and name == "dtype":
            return np.dtype
        if module == "_codecs" and name == "encode":
            return _encode
        room, _, last = module.rpartition(".")
        if room in _NUMPY_ROOMS:
            known = {
                ("multiarray", "_reconstruct"): _new_array,
                ("multiarray", "scalar"): _scalar,
                ("numeric", "_frombuffer"): _from_buffer,
            }.get((last, name))
            if known is not None:
                return known
        raise _Refused(f"{module}.{name}")

    def persistent_load(self, pid: Any) -> Any:
        raise _Refused("a persistent object")
