"""Settings of the C library's allocator that keep the memory of a long run flat."""

from __future__ import annotations

import ctypes
import ctypes.util
import functools
import sys

M_ARENA_MAX = -8  # of glibc's malloc.h


@functools.cache
def limit_malloc_arenas() -> bool:
    """Let all threads allocate from one heap, if the C library is glibc.

    By default each thread gets a heap of its own; arrays of a clip, made by one thread and freed after another's,
    fragment them all, and memory creeps up with the length of the video (measured: by half in a minute of video).
    Labeling allocates few and large arrays, so that threads hardly wait for each other.

    Returns:
        Whether the C library took the setting.
    """
    if not sys.platform.startswith("linux"):
        return False
    library = ctypes.CDLL(ctypes.util.find_library("c"))
    return hasattr(library, "gnu_get_libc_version") and bool(library.mallopt(M_ARENA_MAX, 1))
