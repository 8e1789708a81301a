"""How many threads the libraries below numpy, torch and numba may start in a process."""

from __future__ import annotations

THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")


def thread_environment(threads: int) -> dict[str, str]:
    """The environment variables that limit the threads of a process started with them."""
    return dict.fromkeys(THREAD_VARIABLES, str(threads))
