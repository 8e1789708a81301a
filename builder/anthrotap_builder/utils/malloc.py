"""The C library's allocator, kept from holding memory that a long run no longer uses."""

from __future__ import annotations

import ctypes
import functools
import sys

M_ARENA_MAX = -8  # of glibc's malloc.h


@functools.cache
def limit_malloc_arenas() -> bool:
    """Let all threads that begin from now on allocate from one heap, if the C library is glibc.

    By default each thread gets a heap of its own; arrays of a clip, made by one thread and freed after another's,
    fragment them all, and memory creeps up with the length of the video (measured: by half in a minute of video).
    Labeling allocates few and large arrays, so that threads hardly wait for each other. Heaps that
    are there stay in use: call this before a library starts threads (pyarrow does so when it is imported).

    Returns:
        Whether the C library took the setting.
    """
    library = _glibc()
    return bool(library and library.mallopt(M_ARENA_MAX, 1))


def release_free_memory() -> None:
    """Give the pages of freed memory back to the system, if the C library is glibc.

    By itself it gives back only what lies at the end of a heap, and the first large array that it frees makes it put
    arrays of up to 32 MiB there. What lives long then holds the holes below it: of frames, masks and Jacobians.
    It takes milliseconds: call it after a stage, not after an array.
    """
    if library := _glibc():
        library.malloc_trim(0)


@functools.cache
def _glibc() -> ctypes.CDLL | None:
    """Return the C library if it is glibc."""
    if not sys.platform.startswith("linux"):
        return None
    library = ctypes.CDLL(None)  # what the process has loaded
    return library if hasattr(library, "gnu_get_libc_version") else None
