"""Arrays out of other people's pickles, without running anything: neither their code nor numpy's.

Everything a pickle may build, containers tmp_path, is replaced by a stand-in of ours that only keeps the parts it comes
with; arrays are then made from those parts, and only those that somebody asks for. So no byte of the file reaches a
constructor that would trust it. The file is mapped, not read: large arrays are views of it, so a pickle of many videos
takes no more memory than what is looked at.
"""

from __future__ import annotations

import mmap
import pickle
import re
import struct
import tokenize
from collections import OrderedDict
from pathlib import Path
from typing import Any, BinaryIO, ClassVar

import numpy as np


class Stub:
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


class _DType(Stub):
    """`numpy.dtype(code, align, copy)`, with (version, byte order, ...) as state."""

    def plain(self) -> np.dtype:
        code = self.args[0] if self.args else None
        order = self.state[1] if isinstance(self.state, tuple) and len(self.state) > 1 else "|"
        if not isinstance(code, str) or not re.fullmatch(r"b1|[iu][1248]|f[248]|S[1-9]\d{0,8}", code):
            raise ValueError(f"an array of {code!r}, not of plain numbers")
        return np.dtype((order if order in ("<", ">") else "=") + code)


class _Array(Stub):
    """`numpy.ndarray`, by `_reconstruct(...)` and (version, shape, dtype, is Fortran, bytes) as state."""

    def array(self) -> np.ndarray:
        _, shape, dtype, fortran, content = self._parts()
        return _from_bytes(content, dtype, shape, "F" if fortran else "C")

    def item(self) -> Any:
        """The one object that an array without axes holds, as `numpy.save` wraps it."""
        _, shape, dtype, _, content = self._parts()
        objects = isinstance(dtype, _DType) and dtype.args[:1] in (("O8",), ("O",), ("O4",))
        if not objects or shape != () or not isinstance(content, list) or len(content) != 1:
            raise ValueError("an array that does not hold one object")
        return content[0]

    def _parts(self) -> tuple[Any, ...]:
        if not isinstance(self.state, tuple) or len(self.state) != 5:
            raise ValueError("an array without content")
        return self.state


class _Buffer(Stub):
    """`numpy._core.numeric._frombuffer(bytes, dtype, shape, order[, axes])`, as pickle's protocol 5 has it."""

    def array(self) -> np.ndarray:
        content, dtype, shape, order, *axes = self.args
        if order == "K" and axes and axes[0] is not None:
            return _from_bytes(content, dtype, shape, "C").transpose([int(axis) for axis in axes[0]])
        return _from_bytes(content, dtype, shape, order)


class _Scalar(Stub):
    """`numpy._core.multiarray.scalar(dtype, bytes)`."""

    def array(self) -> np.ndarray:
        dtype, content = self.args
        return _from_bytes(content, dtype, (), "C")


class _Latin1(Stub):
    """`_codecs.encode(text, "latin1")`, by which Python 3 writes bytes for old protocols; nothing but that."""

    def __new__(cls, text: Any = "", encoding: Any = None) -> Any:
        if not isinstance(text, str) or encoding != "latin1":
            raise pickle.UnpicklingError(f"it asks to encode by {encoding!r}, not latin1")
        return text.encode("latin1")


class _NoBytes(Stub):
    """`bytes()`, by which old protocols write the empty one."""

    def __new__(cls, *args: Any) -> Any:
        if args:
            raise pickle.UnpicklingError("it asks for bytes of its own making")
        return b""


class _Reconstructor(Stub):
    """`copy_reg._reconstructor(class, base, state)`, by which the oldest protocols make objects."""

    def __new__(cls, kind: Any = None, *_: Any) -> Any:
        if not (isinstance(kind, type) and issubclass(kind, Stub)):
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
    ("builtins", "object"): Stub,
    ("copyreg", "_reconstructor"): _Reconstructor,
    ("builtins", "set"): set,
    ("builtins", "frozenset"): frozenset,
    ("collections", "OrderedDict"): OrderedDict,
}
_PYTHON_2 = {"__builtin__": "builtins", "copy_reg": "copyreg"}
# What a stand-in raises when a pickle treats it as what it is not, and a damaged stream anywhere.
_DAMAGE = (
    *(EOFError, ValueError, TypeError, AttributeError, IndexError, KeyError, RecursionError, OverflowError),
    *(MemoryError, struct.error, pickle.UnpicklingError),
)


class SafeUnpickler(pickle._Unpickler):
    """Builds containers and stand-ins; refuses everything else by name.

    It is pickle's Python twin: that in C lets a damaged byte ask for any amount of memory.
    """

    def find_class(self, module: str, name: str) -> Any:
        module = _PYTHON_2.get(module, module)
        if (module, name) not in _STAND_INS:
            raise pickle.UnpicklingError(
                f"it asks for {module}.{name}, which is neither an array nor a container"
            )
        return _STAND_INS[module, name]

    def persistent_load(self, pid: Any) -> Any:
        raise pickle.UnpicklingError("it asks for a persistent object")

    def _decode_string(self, value: bytes | memoryview) -> str:  # byte strings of Python 2
        return bytes(value).decode("latin1")

    def load_bytearray(self) -> None:
        """As `bytes`: nobody writes to them."""
        (size,) = struct.unpack("<Q", self.read(8))  # type: ignore[attr-defined]
        self.append(self.read(size))  # type: ignore[attr-defined]

    dispatch: ClassVar[dict[int, Any]] = pickle._Unpickler.dispatch | {pickle.BYTEARRAY8[0]: load_bytearray}


class _MappedFile:
    """A file in memory, read from some byte on, whose large pieces are views of it, no copies."""

    LARGE = 1 << 12  # bytes

    def __init__(self, content: mmap.mmap, offset: int) -> None:
        self._content, self._place = memoryview(content), offset

    def read(self, size: int) -> bytes | memoryview:
        piece = self._content[self._place : self._place + size]
        if len(piece) < size:
            raise EOFError("it ends too early")
        self._place += size
        return piece if size >= self.LARGE else bytes(piece)

    def readline(self) -> bytes:
        start = self._place
        part = bytes(self._content[start : start + 80])  # lines of a pickle are names and numbers
        while b"\n" not in part and start + len(part) < len(self._content):
            part = bytes(self._content[start : start + 16 * len(part)])
        line = part[: part.find(b"\n") + 1] or part
        self._place += len(line)
        return line


def safe_load(path: Path, unpickler: type[SafeUnpickler] = SafeUnpickler, *, offset: int = 0) -> Any:
    """What a pickle holds: containers, texts and numbers; `array_of` makes arrays of the rest.

    Strings of Python 2 are read as latin1. Large pieces are read-only views of the file, which must not change as long
    as they are in use.

    Args:
        unpickler: one that knows more stand-ins.
        offset: the byte where the pickle begins.

    Raises:
        ValueError: if the file is damaged or asks for more than arrays; one line, without the path.
        OSError: if it cannot be read.
    """
    with path.open("rb") as file:
        if not path.stat().st_size:
            raise ValueError("it is no pickle: the file is empty")
        content = _MappedFile(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ), offset)
    try:
        return unpickler(content, encoding="latin1").load()  # type: ignore[arg-type]
    except pickle.UnpicklingError as error:
        raise ValueError(_one_line(error)) from error
    except _DAMAGE as error:
        raise ValueError(f"it is no pickle, or a damaged one ({_one_line(error)})") from error


def load_inert_npy(path: Path) -> Any:
    """The object that `numpy.save` wrote: the header of an array of objects without axes, then its pickle.

    The object comes as `safe_load` gives it.

    Raises:
        ValueError: if the file is no such one, damaged, or asks for more than arrays; one line, without the path.
        OSError: if it cannot be read.
    """
    with path.open("rb") as file:
        shape, _, dtype = read_npy_header(file)
        offset = file.tell()
    if not dtype.hasobject or shape != ():
        raise ValueError(f"it holds an array of {dtype} {list(shape)}, not one object")
    content = safe_load(path, offset=offset)
    if not isinstance(content, _Array):
        raise ValueError(f"it holds a {type(content).__name__} where its header says an array")
    return content.item()


def read_npy_header(file: BinaryIO) -> tuple[tuple[int, ...], bool, np.dtype]:
    """Shape, whether in Fortran's order, and dtype; the file then stands at the content.

    Raises:
        ValueError: if this is no header of an `.npy` file, in one line.
    """
    try:
        version = np.lib.format.read_magic(file)
        if version == (1, 0):
            return np.lib.format.read_array_header_1_0(file)
        return np.lib.format.read_array_header_2_0(file)  # or it is an error
    except (*_DAMAGE, SyntaxError, tokenize.TokenError) as error:  # numpy parses it as Python's literals
        raise ValueError(f"it is no .npy file, or a damaged one ({_one_line(error)})") from error


def array_of(value: Any) -> np.ndarray:
    """A part of what `safe_load` gave as an array of plain numbers.

    Raises:
        ValueError: if it is none, in one line.
    """
    array = _array_of(value)
    if array.dtype.kind not in "biuf":
        raise ValueError(f"a {type(value).__name__}, which is no array of numbers")
    return array


def byte_strings_of(value: Any) -> list[bytes | memoryview] | None:
    """A part of what `safe_load` gave as byte strings, where it is a sequence or an array of them; else None."""
    if isinstance(value, list | tuple):
        return list(value) if all(isinstance(item, bytes | memoryview) for item in value) else None
    if not isinstance(value, Stub):
        return None
    array = _array_of(value)
    return list(array) if array.dtype.kind == "S" and array.ndim == 1 else None


def _array_of(value: Any) -> np.ndarray:
    try:
        if isinstance(value, Stub):
            return value.array()
        if isinstance(value, list | tuple):
            _refuse_giants(value)
        return np.asarray(value)
    except _DAMAGE as error:
        raise ValueError(_one_line(error)) from error


_MOST_ITEMS = 1_000_000  # of arrays written as lists


def _refuse_giants(value: list | tuple) -> None:
    """A few bytes that name the same list again and again can stand for more numbers than memory holds."""
    waiting, count = [value], 0
    while waiting:
        each = waiting.pop()
        count += len(each)
        if count > _MOST_ITEMS:
            raise ValueError(
                f"a {type(value).__name__} of more than {_MOST_ITEMS} items; save it as an array"
            )
        waiting.extend(item for item in each if isinstance(item, list | tuple))


def _from_bytes(content: Any, dtype: Any, shape: Any, order: Any) -> np.ndarray:
    if isinstance(content, str):  # as Python 2 wrote it
        content = content.encode("latin1")
    if not isinstance(content, bytes | memoryview) or not isinstance(dtype, _DType):
        raise ValueError("an array that is not of plain numbers")
    return np.frombuffer(content, dtype.plain()).reshape([int(size) for size in shape], order=order)


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__
