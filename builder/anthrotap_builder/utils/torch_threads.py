"""Networks of torch: the number of threads that they use, and loading them without progress bars."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock

_lock = Lock()
# How many callers are in `one_torch_thread` now, and torch's number of threads before the first of them.
_callers = 0
_before = 0


@contextmanager
def one_torch_thread() -> Iterator[None]:
    """Let torch work in the calling thread alone, for work that is divided among threads already.

    Torch's own threads would wait for each other, and results would depend, in their last digits, on their number. It
    counts for threads that begin meanwhile, too; several may enter at once.
    """
    import torch

    global _callers, _before
    with _lock:
        if not _callers:
            _before = torch.get_num_threads()
            torch.set_num_threads(1)
        _callers += 1
    try:
        yield
    finally:
        with _lock:
            _callers -= 1
            if not _callers:
                torch.set_num_threads(_before)


@contextmanager
def quietly() -> Iterator[None]:
    """Hide transformers' progress bars, which would break ours."""
    from transformers.utils import logging

    enabled = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if enabled:
            logging.enable_progress_bar()
