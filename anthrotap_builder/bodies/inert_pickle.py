"""Arrays out of other people's pickles, without running anything: neither their code nor numpy's or scipy's.

Everything a pickle may build, containers aside, is replaced by a stand-in of ours that only keeps the parts it comes
with; arrays are then made from those parts, and only those that somebody asks for. So no byte of the file reaches a
constructor that would trust it, and neither chumpy nor the numpy or scipy that wrote the file is needed to read it.
"""

from __future__ import annotations

import io
import pickle
import re
import struct
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np


class _Kept:
    """Stands for an object of a pickle, and keeps the arguments and the state that it comes with."""

    asked = ""  # what the pickle calls it

    def __new__(cls, *args: Any) -> Any:
        return super().__new__(cls)

    def __init__(self, *args: Any) -> None:
        self.args = args
        self.state: Any = None

    def __setstate__(self, state: Any) -> None:
        self.state = state

    def part(self, *names: str) -> Any:
        """The first of these entries that the state has."""
        if isinstance(self.state, dict):
            for name in names:
                if name in self.state:
                    return self.state[name]
        raise ValueError(f"a {self.asked} without {' or '.join(names)}")

    def array(self) -> np.ndarray:
        raise ValueError(f"a {self.asked}, which is no array of numbers")


class _DType(_Kept):
    """`numpy.dtype(code, align, copy)`, with (version, byte order, ...) as state."""

    def plain(self) -> np.dtype:
        code = self.args[0] if self.args else None
        order = self.state[1] if isinstance(self.state, tuple) and len(self.state) > 1 else "|"
        if not isinstance(code, str) or not re.fullmatch(r"b1|[iu][1248]|f[248]", code):
            raise ValueError(f"an array of {code!r}, not of plain numbers")
        return np.dtype((order if order in ("<", ">") else "=") + code)


class _Array(_Kept):
    """`numpy.ndarray`, by `_reconstruct(...)` and (version, shape, dtype, is Fortran, bytes) as state."""

    def array(self) -> np.ndarray:
        if not isinstance(self.state, tuple) or len(self.state) != 5:
            raise ValueError("an array without content")
        _, shape, dtype, fortran, content = self.state
        return _from_bytes(content, dtype, shape, "F" if fortran else "C")


class _Buffer(_Kept):
    """`numpy._core.numeric._frombuffer(bytes, dtype, shape, order[, axes])`, as pickle's protocol 5 has it."""

    def array(self) -> np.ndarray:
        content, dtype, shape, order, *axes = self.args
        if order == "K" and axes and axes[0] is not None:
            return _from_bytes(content, dtype, shape, "C").transpose([int(axis) for axis in axes[0]])
        return _from_bytes(content, dtype, shape, order)


class _Scalar(_Kept):
    """`numpy._core.multiarray.scalar(dtype, bytes)`."""

    def array(self) -> np.ndarray:
        dtype, content = self.args
        return _from_bytes(content, dtype, (), "C")


class _Sparse(_Kept):
    """A scipy.sparse matrix or array: csc, csr or coo, whichever its class name says."""

    def array(self) -> np.ndarray:
        """Dense."""
        rows, columns = (int(size) for size in self.part("_shape", "shape"))
        data = array_of(self.part("data"))
        kind = self.asked.rpartition(".")[2][:3]
        if kind == "coo":
            if isinstance(self.state, dict) and "coords" in self.state:
                row, column = (array_of(each) for each in self.state["coords"])
            else:
                row, column = array_of(self.part("row")), array_of(self.part("col"))
        else:
            inner, ends = array_of(self.part("indices")), array_of(self.part("indptr"))
            counts = np.diff(ends)
            if (counts < 0).any() or counts.sum() != data.size:
                raise ValueError(f"a {self.asked} whose rows or columns do not hold its entries")
            outer = np.repeat(np.arange(len(counts)), counts)
            row, column = (inner, outer) if kind == "csc" else (outer, inner)
        for index, size in ((row, rows), (column, columns)):
            if index.shape != data.shape or ((index < 0) | (index >= size)).any():
                raise ValueError(f"a {self.asked} whose entries lie outside its {rows} x {columns}")
        dense = np.zeros((rows, columns), data.dtype)
        np.add.at(dense, (row, column), data)
        return dense


class _Chumpy(_Kept):
    """An array of the chumpy library: a plain one keeps it as `x`, a selection as flat indices into another."""

    def array(self) -> np.ndarray:
        if not isinstance(self.state, dict):
            raise ValueError(f"a {self.asked} without content")
        if "x" in self.state:
            return array_of(self.state["x"])
        if self.asked != "chumpy.reordering.Select":
            raise ValueError(f"a computed {self.asked}; save it as a plain array")
        chosen = array_of(self.part("a")).ravel()[array_of(self.part("idxs"))]
        shape = self.state.get("preferred_shape", chosen.shape)
        return chosen.reshape([int(size) for size in np.atleast_1d(array_of(shape))])


class _Latin1(_Kept):
    """`_codecs.encode(text, "latin1")`, by which Python 3 writes bytes for old protocols; nothing but that."""

    def __new__(cls, text: Any = "", encoding: Any = None) -> Any:
        if not isinstance(text, str) or encoding != "latin1":
            raise pickle.UnpicklingError(f"it asks to encode by {encoding!r}, not latin1")
        return text.encode("latin1")


class _NoBytes(_Kept):
    """`bytes()`, by which old protocols write the empty one."""

    def __new__(cls, *args: Any) -> Any:
        if args:
            raise pickle.UnpicklingError("it asks for bytes of its own making")
        return b""


class _Reconstructor(_Kept):
    """`copy_reg._reconstructor(class, base, state)`, by which the oldest protocols make objects."""

    def __new__(cls, kind: Any = None, *_: Any) -> Any:
        if not (isinstance(kind, type) and issubclass(kind, _Kept)):
            raise pickle.UnpicklingError(f"it asks to make an object of {kind!r}")
        return kind()


_MULTIARRAY = ("numpy.core.multiarray", "numpy._core.multiarray")
_NUMERIC = ("numpy.core.numeric", "numpy._core.numeric")
_STAND_INS: dict[tuple[str, str], type] = {
    **{(module, "_reconstruct"): _Array for module in _MULTIARRAY},
    **{(module, "scalar"): _Scalar for module in _MULTIARRAY},
    **{(module, "_frombuffer"): _Buffer for module in _NUMERIC},
    ("numpy", "ndarray"): _Array,
    ("numpy", "dtype"): _DType,
    ("_codecs", "encode"): _Latin1,
    ("builtins", "bytes"): _NoBytes,
    ("builtins", "object"): _Kept,
    ("copyreg", "_reconstructor"): _Reconstructor,
    ("builtins", "set"): set,
    ("builtins", "frozenset"): frozenset,
    ("collections", "OrderedDict"): OrderedDict,
}
_SPARSE = re.compile(r"scipy\.sparse(\._?(csc|csr|coo|matrix))?\.(csc|csr|coo)_(matrix|array)")
_PYTHON_2 = {"__builtin__": "builtins", "copy_reg": "copyreg"}
# What a stand-in raises when a pickle treats it as what it is not, and a damaged stream anywhere.
_DAMAGE = (
    *(EOFError, ValueError, TypeError, AttributeError, IndexError, KeyError, RecursionError, OverflowError),
    *(MemoryError, struct.error, pickle.UnpicklingError),
)


class _InertUnpickler(pickle._Unpickler):
    """Builds containers and stand-ins; refuses everything else by name.

    It is pickle's Python twin: that in C lets a damaged byte ask for any amount of memory.
    """

    def find_class(self, module: str, name: str) -> Any:
        module = _PYTHON_2.get(module, module)
        asked = f"{module}.{name}"
        if (module, name) in _STAND_INS:
            return _STAND_INS[module, name]
        if _SPARSE.fullmatch(asked):
            return type(name, (_Sparse,), {"asked": asked})
        if module == "chumpy" or module.startswith("chumpy."):
            return type(name, (_Chumpy,), {"asked": asked})
        raise pickle.UnpicklingError(f"it asks for {asked}, which is neither an array nor a container")


def load_inert(path: Path) -> dict[str, Any]:
    """The dictionary that a pickle holds; `array_of` makes arrays of its values.

    Strings of Python 2 are read as latin1.

    Raises:
        ValueError: if the file is damaged, holds no dictionary or asks for more than arrays; one line, without
            the path.
        OSError: if it cannot be read.
    """
    stream = io.BytesIO(path.read_bytes())
    try:
        content = _InertUnpickler(stream, encoding="latin1").load()
    except pickle.UnpicklingError as error:
        raise ValueError(_one_line(error)) from error
    except _DAMAGE as error:
        raise ValueError(f"it is no pickle, or a damaged one ({_one_line(error)})") from error
    if not isinstance(content, dict):
        raise ValueError(f"it holds a {type(content).__name__}, not a dictionary of arrays")
    return content


def array_of(value: Any) -> np.ndarray:
    """A value of `load_inert`'s dictionary as an array of plain numbers; a sparse one becomes dense.

    Raises:
        ValueError: if it is none, in one line.
    """
    try:
        array = value.array() if isinstance(value, _Kept) else np.asarray(value)
    except _DAMAGE as error:
        raise ValueError(_one_line(error)) from error
    if array.dtype.kind not in "biuf":
        raise ValueError(f"a {type(value).__name__}, which is no array of numbers")
    return array


def _from_bytes(content: Any, dtype: Any, shape: Any, order: Any) -> np.ndarray:
    if isinstance(content, str):  # as Python 2 wrote it
        content = content.encode("latin1")
    if not isinstance(content, bytes | bytearray) or not isinstance(dtype, _DType):
        raise ValueError("an array that is not of plain numbers")
    return np.frombuffer(content, dtype.plain()).reshape([int(size) for size in shape], order=order)


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__
