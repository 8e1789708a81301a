"""Freed memory goes back to the system: what a long run holds does not grow with what it has held."""

import os
import subprocess
import sys

import pytest

from anthrotap_builder.utils.malloc import limit_malloc_arenas

pytestmark = pytest.mark.skipif(not limit_malloc_arenas(), reason="the C library is not glibc")

MEGABYTE = 1 << 20
# Arrays of a megabyte lie in the heap once a larger one was freed; the last of a hundred keeps the others' pages.
HOLES = """
import numpy as np
from pathlib import Path
from anthrotap_builder.utils.malloc import release_free_memory

def memory():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096

np.ones(16 << 20, np.uint8)
arrays = [np.ones(1 << 20, np.uint8) for _ in range(100)]
full = memory()
del arrays[:-1]
freed = memory()
release_free_memory()
print(full, freed, memory())
"""
HEAPS = """
import threading
from pathlib import Path
from anthrotap_builder.utils.malloc import limit_malloc_arenas

limit_malloc_arenas()
thread = threading.Thread(target=lambda: bytes(100_000))
thread.start()
thread.join()
import ctypes
ctypes.CDLL(None).malloc_stats()
"""
LABEL = """
import ctypes
from anthrotap_hf.cli.main import app

try:
    app(["label", "missing.mp4", "--out", "labels"])
except SystemExit:
    ctypes.CDLL(None).malloc_stats()
"""


def heaps_of(script: str) -> list[str]:
    """The heaps that a process has when it has run a script, as the C library lists them."""
    env = {name: value for name, value in os.environ.items() if name != "MALLOC_ARENA_MAX"}
    output = subprocess.run([sys.executable, "-c", script], capture_output=True, check=True, text=True, env=env)
    return [line for line in output.stderr.splitlines() if line.startswith("Arena")]


def test_freed_arrays_below_one_that_lives_go_back_to_the_system():
    output = subprocess.run([sys.executable, "-c", HOLES], capture_output=True, check=True, text=True)
    full, freed, released = map(int, output.stdout.split())
    assert freed > full - 20 * MEGABYTE  # the C library alone gives nothing back
    assert released < full - 80 * MEGABYTE


def test_a_thread_has_no_heap_of_its_own():
    assert heaps_of(HEAPS) == ["Arena 0:"]


@pytest.mark.slow
def test_a_heap_for_all_threads_of_label():
    # The import of pyarrow, which labels are written with, starts a thread.
    assert heaps_of(LABEL) == ["Arena 0:"]
