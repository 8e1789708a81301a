"""The one safe reader of other people's `.npz` and `.npy` files: plain arrays, none larger than what the file holds."""

from __future__ import annotations

import errno
import math
import zipfile
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from anthrotap_hf.utils.errors import one_line
from anthrotap_hf.utils.file_limits import MAX_EXPANDED_BYTES, MAX_EXPANSION
from anthrotap_hf.utils.safe_pickle import DAMAGE, UnsafeFileError, read_npy_header


def safe_load_npz(path: Path, keys: Iterable[str] | None = None) -> dict[str, np.ndarray]:
    """Return the plain arrays of an `.npz` file by name: all of them, or those of `keys` that it has.

    Raises:
        UnsafeFileError: the file is no `.npz`, damaged, or one of these arrays holds objects, or is far larger than
            the file.
        OSError: the file cannot be read.
    """
    arrays: dict[str, np.ndarray] = {}
    name = "its directory"
    try:
        with zipfile.ZipFile(path) as archive:
            members = {member.filename.removesuffix(".npy"): member for member in archive.infolist()}
            for name in members if keys is None else [key for key in keys if key in members]:
                arrays[name] = _read_member(archive, members[name])
    except UnsafeFileError as error:
        raise UnsafeFileError(f"it is no .npz of plain arrays ({one_line(name)}: {error.reason})") from error
    except (*DAMAGE, OSError) as error:
        # A directory may name places before the file's beginning, which the system refuses.
        if isinstance(error, OSError) and error.errno != errno.EINVAL:
            raise
        raise UnsafeFileError(
            f"it is no .npz of plain arrays ({one_line(name)}: {one_line(error) or type(error).__name__})"
        ) from error
    return arrays


def safe_load_array(path: Path) -> np.ndarray:
    """Return the plain array of an `.npy` file; a view of the file, which must not change as long as it is in use.

    Raises:
        UnsafeFileError: the file is no `.npy`, damaged, or its array holds objects.
        OSError: the file cannot be read.
    """
    with path.open("rb") as file:
        shape, fortran, dtype = read_npy_header(file)
        offset = file.tell()
    if dtype.hasobject or dtype.names is not None or dtype.subdtype is not None:
        raise UnsafeFileError(f"it holds an array of {dtype}, not of plain numbers")
    size = math.prod(shape) * dtype.itemsize
    if min(shape, default=0) < 0 or offset + size != path.stat().st_size:
        raise UnsafeFileError(f"{size} bytes by its header, but {path.stat().st_size - offset} are there")
    if not size:
        return np.empty(shape, dtype)
    return np.asarray(np.memmap(path, dtype, "r", offset, shape, "F" if fortran else "C"))


def _read_member(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> np.ndarray:
    """Return an array of an `.npz`. Its size, by its header, must be that of the member."""
    with archive.open(member.filename) as file:
        shape, fortran, dtype = read_npy_header(file)
        if dtype.hasobject or dtype.names is not None or dtype.subdtype is not None:
            raise ValueError(f"an array of {dtype}, not of plain numbers")
        size = math.prod(shape) * dtype.itemsize
        if min(shape, default=0) < 0 or file.tell() + size != member.file_size:
            raise ValueError(f"{size} bytes by its header, but {member.file_size - file.tell()} are there")
        if size > MAX_EXPANDED_BYTES and size > MAX_EXPANSION * member.compress_size:
            raise ValueError(f"{size >> 20} MB that are {member.compress_size >> 10} kB in the file")
        content = np.empty(size, np.uint8)
        view, done = content.data, 0
        while done < size:
            # In pieces: what cannot be decompressed is found before it is read to its end.
            count = file.readinto(view[done : done + (1 << 20)])  # type: ignore[attr-defined]
            if not count:
                raise EOFError("it ends too early")
            done += count
        # Reading to the end compares the checksum.
        file.read(1)
    array = content.view(dtype) if size else np.empty(math.prod(shape), dtype)
    return array.reshape(shape, order="F" if fortran else "C")
