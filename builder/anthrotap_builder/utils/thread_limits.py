"""What processes are started with, so that the libraries in them use so many threads and no memory without need."""

from __future__ import annotations

THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")


def thread_environment(threads: int) -> dict[str, str]:
    """The environment variables of a process that works in so many threads.

    They limit the threads of libraries, and let all threads allocate from one heap (see `limit_malloc_arenas`).
    """
    return {**dict.fromkeys(THREAD_VARIABLES, str(threads)), "MALLOC_ARENA_MAX": "1"}
