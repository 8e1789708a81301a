"""The one safe reader of other people's pickles: arrays, containers, texts and numbers, and never any code.

Everything else that a pickle may build is replaced by a `Stub` that only keeps the parts it comes with. Arrays are made
from those parts, and only those that `array_of` is asked for, so no byte of the file reaches a constructor that would
trust it. The file is mapped, not read: large arrays are views of it, so a pickle of many videos takes no more memory
than what is used of it.
"""

from __future__ import annotations

import io
import mmap
import pickle
import re
import struct
import tokenize
import zipfile
import zlib
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any, BinaryIO, ClassVar

import numpy as np

from anthrotap_hf.utils.errors import AnthroTapError, one_line
from anthrotap_hf.utils.file_limits import (
    MAX_EXPANDED_BYTES,
    MAX_LIST_ITEMS,
    MAX_NPY_HEADER,
    MAX_PICKLE_STEPS,
)
from anthrotap_hf.utils.pickle_calls import (
    check_key,
    empty_bytes,
    encode_latin1,
    make_frozenset,
    make_ordered_dict,
    make_set,
)

# What pickle, numpy, zipfile and torch raise for a file that is damaged, hostile, encrypted or something else.
DAMAGE = (
    *(EOFError, ValueError, TypeError, AttributeError, IndexError, KeyError, AssertionError, RuntimeError),
    *(RecursionError, ArithmeticError, MemoryError, SyntaxError, NotImplementedError, struct.error, zlib.error),
    *(pickle.UnpicklingError, tokenize.TokenError, zipfile.BadZipFile),
)


class UnsafeFileError(AnthroTapError):
    """A file is damaged, or asks for more than arrays. Only `reason` is set: the caller knows the path."""


class Stub:
    """An inert stand-in for an object of a pickle: it keeps the object's arguments and state, and ignores the rest."""

    asked: ClassVar[str] = "object"  # what the pickle calls it
    args: tuple[Any, ...]
    state: Any

    def __new__(cls, *args: Any, **_: Any) -> Any:
        self = super().__new__(cls)
        self.args, self.state = args, None
        return self

    def _ignore(self, *_: Any) -> None:
        """Stand for what a pickle calls to fill subclasses of dict, list and set."""

    __setitem__ = append = extend = add = _ignore

    def entry(self, *names: str) -> Any:
        """Return the first of these entries that the state has."""
        for name in names:
            if isinstance(self.state, dict) and name in self.state:
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
        _, shape, dtype, fortran, content = self._state()
        return _from_bytes(content, dtype, shape, "F" if fortran else "C")

    def item(self) -> Any:
        """Return the one object that an array without axes holds, as `numpy.save` wraps it."""
        _, shape, *_ = self._state()
        items = self.items()
        if items is None or shape != () or len(items) != 1:
            raise UnsafeFileError("it holds an array that does not hold one object")
        return items[0]

    def items(self) -> list[Any] | None:
        """Return the objects of an array of objects with one axis or none; None for any other array."""
        _, shape, dtype, _, content = self._state()
        objects = isinstance(dtype, _DType) and dtype.args[:1] in (("O8",), ("O",), ("O4",))
        if not objects or not isinstance(content, list) or shape not in ((), (len(content),)):
            return None
        return content

    def _state(self) -> tuple[Any, ...]:
        if not isinstance(self.state, tuple) or len(self.state) != 5:
            raise UnsafeFileError("it holds an array without content")
        return self.state


class ArrayStub(Stub):
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


class _Sparse(Stub):
    """A scipy.sparse matrix or array: csc, csr or coo, whichever its class name says."""

    def array(self) -> np.ndarray:
        """Return the matrix with its zeros."""
        rows, columns = (int(size) for size in self.entry("_shape", "shape"))
        data = array_of(self.entry("data"))
        kind = self.asked.rpartition(".")[2][:3]
        if kind != "coo":
            # Compressed: entry i lies in the row (of a csr) whose range of `indptr` holds i, in column `indices[i]`.
            inner, ends = array_of(self.entry("indices")), array_of(self.entry("indptr"))
            counts = np.diff(ends)
            if (counts < 0).any() or counts.sum() != data.size:
                raise ValueError(f"a {self.asked} whose rows or columns do not hold its entries")
            outer = np.repeat(np.arange(len(counts)), counts)
            row, column = (inner, outer) if kind == "csc" else (outer, inner)
        elif "coords" in self.state:
            row, column = (array_of(each) for each in self.state["coords"])
        else:
            row, column = array_of(self.entry("row")), array_of(self.entry("col"))
        if rows * columns * data.itemsize > MAX_EXPANDED_BYTES:
            raise ValueError(f"a {self.asked} of {rows} x {columns}, which is too large")
        for index, size in ((row, rows), (column, columns)):
            if index.shape != data.shape or ((index < 0) | (index >= size)).any():
                raise ValueError(f"a {self.asked} whose entries lie outside its {rows} x {columns}")
        dense = np.zeros((rows, columns), data.dtype)
        np.add.at(dense, (row, column), data)
        return dense


class _Chumpy(Stub):
    """An array of the chumpy library: a plain one keeps it as `x`, a selection as flat indices into another."""

    def array(self) -> np.ndarray:
        if not isinstance(self.state, dict):
            raise ValueError(f"a {self.asked} without content")
        if "x" in self.state:
            return array_of(self.state["x"])
        if self.asked != "chumpy.reordering.Select":
            raise ValueError(f"a computed {self.asked}; save it as a plain array")
        chosen = array_of(self.entry("a")).ravel()[array_of(self.entry("idxs"))]
        shape = self.state.get("preferred_shape", chosen.shape)
        return chosen.reshape([int(size) for size in np.atleast_1d(array_of(shape))])


PLAIN_CLASSES = ((make_set, set), (make_frozenset, frozenset), (make_ordered_dict, OrderedDict))


def _reconstructor(kind: Any = None, *_: Any) -> Stub:
    """`copy_reg._reconstructor(class, base, state)`, by which the oldest protocols make objects."""
    if not (isinstance(kind, type) and issubclass(kind, Stub)):
        # Name the class that the file asks for, not the function that stands in for it here.
        asked = next((plain for made, plain in PLAIN_CLASSES if kind is made), kind)
        raise pickle.UnpicklingError(f"it asks to make an object of {asked!r}")
    return kind()


def counted(step: Any) -> Callable[[Any], None]:
    """Make a step of the unpickler count itself, against endless pickles."""

    def take_step(self: SafeUnpickler) -> None:
        self.steps += 1
        if self.steps > self.max_steps:
            raise pickle.UnpicklingError(f"it has more than {self.max_steps} parts")
        step(self)

    return take_step


class SafeUnpickler(pickle._Unpickler):
    """Builds containers and stubs; rejects everything else by name.

    It is pickle's Python twin: that in C lets a damaged byte ask for any amount of memory, and its steps cannot be
    replaced.

    Attributes:
        known: what each (module, name) that a pickle may ask for is read as.
        stubs: the same for patterns of "module.name".
    """

    known: ClassVar[dict[tuple[str, str], Any]] = {
        **{(f"numpy.{core}.multiarray", "_reconstruct"): _Array for core in ("core", "_core")},
        **{(f"numpy.{core}.multiarray", "scalar"): _Scalar for core in ("core", "_core")},
        **{(f"numpy.{core}.numeric", "_frombuffer"): ArrayStub for core in ("core", "_core")},
        ("numpy", "ndarray"): _Array,
        ("numpy", "dtype"): _DType,
        ("_codecs", "encode"): encode_latin1,
        ("builtins", "bytes"): empty_bytes,
        ("builtins", "object"): Stub,
        ("copyreg", "_reconstructor"): _reconstructor,
        ("builtins", "set"): make_set,
        ("builtins", "frozenset"): make_frozenset,
        ("collections", "OrderedDict"): make_ordered_dict,
    }
    stubs: ClassVar[tuple[tuple[re.Pattern[str], type[Stub]], ...]] = ()
    stack: list[Any]
    metastack: list[list[Any]]
    steps = 0
    max_steps = MAX_PICKLE_STEPS

    def find_class(self, module: str, name: str) -> Any:
        # Python 2's names of these modules, which old protocols keep.
        module = {"__builtin__": "builtins", "copy_reg": "copyreg"}.get(module, module)
        if (module, name) in self.known:
            return self.known[module, name]
        asked = f"{module}.{name}"
        for pattern, stub in self.stubs:
            if pattern.fullmatch(asked):
                return type(name, (stub,), {"asked": asked})
        raise pickle.UnpicklingError(f"it asks for {asked}, which is neither an array nor a container")

    def persistent_load(self, pid: Any) -> Any:
        raise pickle.UnpicklingError("it asks for a persistent object")

    def _decode_string(self, value: bytes | memoryview) -> str:
        """Read the byte strings of Python 2 as latin1."""
        return bytes(value).decode("latin1")

    def load_build(self) -> None:
        """Give a stub its state. The original sets attributes of functions and classes of this process, too."""
        state = self.stack.pop()
        target = self.stack[-1]
        if isinstance(target, Stub):
            target.state = state
        elif type(target) is not OrderedDict:
            name = getattr(target, "__name__", type(target).__name__)
            raise pickle.UnpicklingError(f"it asks to change {name}, which is no object of its own")

    def load_bytearray(self) -> None:
        """Read a bytearray as bytes: the original makes one of any size before it reads."""
        (size,) = struct.unpack("<Q", self.read(8))  # type: ignore[attr-defined]
        self.append(self.read(size))  # type: ignore[attr-defined]

    def load_setitem(self) -> None:
        check_key(self.stack[-2])
        super().load_setitem()  # type: ignore[misc]

    def load_setitems(self) -> None:
        self._check_keys(2)
        super().load_setitems()  # type: ignore[misc]

    def load_dict(self) -> None:
        self._check_keys(2)
        super().load_dict()  # type: ignore[misc]

    def load_additems(self) -> None:
        self._check_keys(1)
        super().load_additems()  # type: ignore[misc]

    def load_frozenset(self) -> None:
        self._check_keys(1)
        super().load_frozenset()  # type: ignore[misc]

    def _check_keys(self, every: int) -> None:
        """Check what stands since the last mark: all of it, or every second, which is a key."""
        for key in self.stack[::every]:
            check_key(key)

    dispatch: ClassVar[dict[int, Any]] = {
        code: counted(step)
        for code, step in {
            **pickle._Unpickler.dispatch,
            pickle.BUILD[0]: load_build,
            pickle.BYTEARRAY8[0]: load_bytearray,
            pickle.SETITEM[0]: load_setitem,
            pickle.SETITEMS[0]: load_setitems,
            pickle.DICT[0]: load_dict,
            pickle.ADDITEMS[0]: load_additems,
            pickle.FROZENSET[0]: load_frozenset,
        }.items()
    }


class _BodyModelUnpickler(SafeUnpickler):
    """Reads the arrays of scipy and chumpy too, which the SMPL family's files hold, with neither installed."""

    stubs = (
        (re.compile(r"scipy\.sparse(\._?(csc|csr|coo|matrix))?\.(csc|csr|coo)_(matrix|array)"), _Sparse),
        (re.compile(r"chumpy\..*"), _Chumpy),
    )


class _MappedFile:
    """A file in memory, read from some byte on, whose large pieces are views of it, not copies."""

    LARGE = 1 << 12  # bytes

    def __init__(self, content: mmap.mmap, offset: int) -> None:
        self._content, self._position = memoryview(content), offset

    def read(self, size: int) -> bytes | memoryview:
        piece = self._content[self._position : self._position + size]
        if len(piece) < size:
            raise EOFError("it ends too early")
        self._position += size
        return piece if size >= self.LARGE else bytes(piece)

    def readline(self) -> bytes:
        start = self._position
        # Lines of a pickle are names and numbers, so short as a rule.
        part = bytes(self._content[start : start + 80])
        while b"\n" not in part and start + len(part) < len(self._content):
            part = bytes(self._content[start : start + 16 * len(part)])
        line = part[: part.find(b"\n") + 1] or part
        self._position += len(line)
        return line


def safe_load(
    path: Path, *, body_model: bool = False, offset: int = 0, unpickler: type[SafeUnpickler] = SafeUnpickler
) -> Any:
    """Return what a pickle holds: containers, texts and numbers, and stubs that `array_of` makes arrays of.

    Strings of Python 2 are read as latin1. Large pieces are read-only views of the file, which must not change as long
    as they are in use.

    Args:
        body_model: whether arrays of scipy.sparse and chumpy are read, too.
        offset: the byte where the pickle begins.
        unpickler: a kind of `SafeUnpickler` that knows more.

    Raises:
        UnsafeFileError: the file is damaged or asks for more than arrays.
        OSError: the file cannot be read.
    """
    with path.open("rb") as file:
        if not path.stat().st_size:
            raise UnsafeFileError("it is no pickle: the file is empty")
        content = _MappedFile(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ), offset)
    if body_model:
        unpickler = _BodyModelUnpickler
    try:
        return unpickler(content, encoding="latin1").load()  # type: ignore[arg-type]
    except pickle.UnpicklingError as error:
        raise UnsafeFileError(one_line(error)) from error
    except DAMAGE as error:
        raise UnsafeFileError(f"it is no pickle, or a damaged one ({_line(error)})") from error


def safe_load_npy(path: Path) -> Any:
    """Return the object that `numpy.save` wrote, as `safe_load` gives it.

    Such a file is the header of an array of objects without axes, then its pickle.

    Raises:
        UnsafeFileError: the file is no such one, damaged, or asks for more than arrays.
        OSError: the file cannot be read.
    """
    with path.open("rb") as file:
        shape, _, dtype = read_npy_header(file)
        offset = file.tell()
    if not dtype.hasobject or shape != ():
        raise UnsafeFileError(f"it holds an array of {dtype} {list(shape)}, not one object")
    content = safe_load(path, offset=offset)
    if not isinstance(content, _Array):
        raise UnsafeFileError(f"it holds a {type(content).__name__} where its header says an array")
    return content.item()


def read_npy_header(file: BinaryIO | IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype]:
    """Return an array's shape, whether it is in Fortran's order, and its dtype; the file then stands at its content.

    Raises:
        UnsafeFileError: this is no header of an `.npy` file.
    """
    try:
        version = np.lib.format.read_magic(file)
        code = "<H" if version == (1, 0) else "<I"
        length = file.read(struct.calcsize(code))
        (size,) = struct.unpack(code, length)
        if size > MAX_NPY_HEADER:
            raise ValueError(f"a header of {size} bytes")
        header = io.BytesIO(length + file.read(size))
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        return read(header)
    except DAMAGE as error:
        raise UnsafeFileError(f"it is no .npy file, or a damaged one ({_line(error)})") from error


def array_of(value: Any) -> np.ndarray:
    """Return a part of what `safe_load` gave as an array of plain numbers.

    Raises:
        UnsafeFileError: the part is no such array.
    """
    array = _array_of(value)
    if array.dtype.kind not in "biuf":
        raise UnsafeFileError(f"a {type(value).__name__}, which is no array of numbers")
    return array


def items_of(value: Any) -> list[Any] | None:
    """Return the items of a part of what `safe_load` gave: a sequence, an array of objects or one of byte strings.

    None for anything else, such as an array of numbers. Items are what `array_of` and `bytes_of` take.
    """
    if isinstance(value, list | tuple):
        return list(value)
    if isinstance(value, _Array) and (items := value.items()) is not None:
        return items
    if not isinstance(value, Stub):
        return None
    array = _array_of(value)
    return list(array) if array.dtype.kind == "S" and array.ndim == 1 else None


def bytes_of(value: Any) -> bytes | memoryview | None:
    """Return an item as the byte string that it is, or that it holds as one row or column of uint8; else None."""
    if isinstance(value, bytes | memoryview):
        return value
    if not isinstance(value, Stub):
        return None
    array = _array_of(value)
    if array.dtype.kind == "S" and array.ndim == 0:
        return bytes(array.item())
    # As `numpy.frombuffer` and OpenCV's `imencode` give them: [n], [n, 1] or [1, n].
    if array.dtype == np.uint8 and array.ndim in (1, 2) and max(array.shape) == array.size:
        return array.tobytes()
    return None


def _array_of(value: Any) -> np.ndarray:
    try:
        if isinstance(value, Stub):
            return value.array()
        if isinstance(value, list | tuple):
            _check_num_items(value)
        return np.asarray(value)
    except DAMAGE as error:
        raise UnsafeFileError(_line(error)) from error


def _check_num_items(value: list | tuple) -> None:
    """Reject lists of lists that stand for many numbers: a few bytes can name the same list again and again."""
    waiting, count = [value], 0
    while waiting:
        each = waiting.pop()
        count += len(each)
        if count > MAX_LIST_ITEMS:
            raise ValueError(f"a {type(value).__name__} of more than {MAX_LIST_ITEMS} items; save it as an array")
        waiting.extend(item for item in each if isinstance(item, list | tuple))


def _from_bytes(content: Any, dtype: Any, shape: Any, order: Any) -> np.ndarray:
    if isinstance(content, str):
        # As Python 2 wrote it.
        content = content.encode("latin1")
    if not isinstance(content, bytes | memoryview) or not isinstance(dtype, _DType):
        raise ValueError("an array that is not of plain numbers")
    return np.frombuffer(content, dtype.plain()).reshape([int(size) for size in shape], order=order)


def _line(error: BaseException) -> str:
    return one_line(error) or type(error).__name__
