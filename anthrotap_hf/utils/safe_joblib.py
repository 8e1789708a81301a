"""The safe reader of joblib's files: pickles with the numbers of arrays between their steps, compressed or not.

The layout is that of joblib 0.10 and newer (joblib/numpy_pickle.py). In the place of an array the pickle makes a
`NumpyArrayWrapper`, whose state says shape, dtype and order. Right behind the step that sets the state come, since
joblib 1.1, a byte that says how many bytes of padding follow, and the padding; then the array's numbers. Files by plain
`pickle.dump` have no such arrays, and are read as well.
"""

from __future__ import annotations

import bz2
import gzip
import lzma
import math
import pickle
import tempfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, ClassVar

import numpy as np

from anthrotap_hf.utils.errors import one_line
from anthrotap_hf.utils.file_limits import MAX_EXPANDED_BYTES, MAX_EXPANSION, MAX_PICKLE_STEPS
from anthrotap_hf.utils.safe_pickle import (
    DAMAGE,
    ArrayStub,
    SafeUnpickler,
    Stub,
    UnsafeFileError,
    array_of,
    counted,
    safe_load,
)

PIECE = 1 << 20  # bytes


class _ArrayWrapper(Stub):
    """`joblib.numpy_pickle.NumpyArrayWrapper`: the announcement of an array whose numbers follow."""


def _make_dict(*_: Any) -> dict[Any, Any]:
    """Stand for `collections.defaultdict(factory)`: a plain dict, whose items follow."""
    return {}


class _JoblibUnpickler(SafeUnpickler):
    """Reads the numbers that follow each array's announcement. Of an hour of people there are many: so more steps."""

    max_steps = 20 * MAX_PICKLE_STEPS

    known: ClassVar[dict[tuple[str, str], Any]] = {
        **SafeUnpickler.known,
        ("joblib.numpy_pickle", "NumpyArrayWrapper"): _ArrayWrapper,
        ("collections", "defaultdict"): _make_dict,
        # Only ever named: as the factory of a defaultdict.
        **{("builtins", name): Stub for name in ("dict", "list", "float", "int")},
    }

    def load_build(self) -> None:
        super().load_build()
        wrapper = self.stack[-1]
        if not isinstance(wrapper, _ArrayWrapper):
            return
        dtype, shape, order = (wrapper.entry(name) for name in ("dtype", "shape", "order"))
        read = self.read  # type: ignore[attr-defined]
        if wrapper.state.get("numpy_array_alignment_bytes") is not None:
            read(read(1)[0])
        sizes = [int(size) for size in shape]
        if min(sizes, default=0) < 0:
            raise pickle.UnpicklingError("it holds an array of a negative size")
        content = read(math.prod(sizes) * dtype.plain().itemsize)
        self.stack[-1] = ArrayStub(content, dtype, shape, order)

    dispatch: ClassVar[dict[int, Any]] = {**SafeUnpickler.dispatch, ord("b"): counted(load_build)}


def safe_load_joblib(path: Path) -> Any:
    """Return what `joblib.dump` or `pickle.dump` wrote, as `safe_pickle.safe_load` gives it.

    A compressed file is expanded into a temporary one, which is mapped: arrays take no memory until they are used.

    Raises:
        UnsafeFileError: the file is damaged, asks for more than arrays, is compressed by lz4, or expands to far more
            than it is.
        OSError: the file cannot be read.
    """
    with path.open("rb") as file:
        opened = _decompressor(file)
        if opened is None:
            return safe_load(path, unpickler=_JoblibUnpickler)
        with tempfile.NamedTemporaryFile(prefix="anthrotap-") as expanded:
            limit = max(MAX_EXPANDED_BYTES, MAX_EXPANSION * path.stat().st_size)
            for piece in _pieces(opened):
                expanded.write(piece)
                if expanded.tell() > limit:
                    raise UnsafeFileError(f"its {path.stat().st_size >> 10} kB are more than {limit >> 20} MB expanded")
            expanded.flush()
            # The mapped content stays readable after the temporary file has lost its name.
            return safe_load(Path(expanded.name), unpickler=_JoblibUnpickler)


def _decompressor(file: BinaryIO) -> Any:
    """Return what reads the content of a compressed file; None for one that is not compressed."""
    start = file.read(6)
    file.seek(0)
    if start[:2] == b"\x1f\x8b":
        return gzip.GzipFile(fileobj=file)
    if start[:3] == b"BZh":
        return bz2.BZ2File(file)
    if start == b"\xfd7zXZ\x00" or start[:2] == b"\x5d\x00":
        return lzma.LZMAFile(file)
    if start[:4] == b"\x04\x22\x4d\x18":
        raise UnsafeFileError("it is compressed by lz4: write it again with compress=3")
    # The two bytes of zlib's header, read as one number, are a multiple of 31; a pickle begins with the byte 128 or,
    # in the oldest protocol, with a letter.
    if start[:1] == b"\x78" and int.from_bytes(start[:2], "big") % 31 == 0:
        return _ZlibReader(file)
    return None


class _ZlibReader:
    """Reads a zlib stream piece by piece."""

    def __init__(self, file: BinaryIO) -> None:
        self._file, self._stream = file, zlib.decompressobj()

    def read(self, size: int) -> bytes:
        """Return at most `size` bytes; none at the stream's end."""
        while not self._stream.eof:
            waiting = self._stream.unconsumed_tail or self._file.read(size)
            if not waiting:
                raise EOFError("it ends too early")
            if piece := self._stream.decompress(waiting, size):
                return piece
        return b""


def _pieces(source: Any) -> Iterator[bytes]:
    try:
        while piece := source.read(PIECE):
            yield piece
    except (*DAMAGE, OSError, lzma.LZMAError) as error:
        raise UnsafeFileError(
            f"its compressed content is damaged ({one_line(error) or type(error).__name__})"
        ) from error


def number_of(value: Any) -> int | float:
    """Return a number out of such a file, numpy's or Python's own. Raises UnsafeFileError for anything else."""
    array = np.asarray(value) if isinstance(value, int | float) else array_of(value)
    if array.size != 1:
        raise UnsafeFileError(f"{list(array.shape)} numbers in the place of one")
    return array.reshape(()).item()
