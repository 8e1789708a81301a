"""The memory that a piece of a test takes."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace


@contextmanager
def traced_memory() -> Iterator[SimpleNamespace]:
    """`with traced_memory() as memory: ...`; then `memory.peak` is the most that Python held, bytes."""
    memory = SimpleNamespace(peak=0)
    tracemalloc.start()
    try:
        yield memory
        memory.peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
