"""Networks: on how many threads they run, and how they are loaded."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock

_lock = Lock()
_asking = 0  # how many are in `one_torch_thread` now
_before = 0  # torch's threads before the first of them


@contextmanager
def one_torch_thread() -> Iterator[None]:
    """Torch keeps to the thread that asks it, in threads that begin meanwhile; may be entered by several at once.

    For work that is shared out over threads already. Torch's own would wait for each other, and results would depend,
    in their last digits, on how many there are.
    """
    import torch

    global _asking, _before
    with _lock:
        if not _asking:
            _before = torch.get_num_threads()
            torch.set_num_threads(1)
        _asking += 1
    try:
        yield
    finally:
        with _lock:
            _asking -= 1
            if not _asking:
                torch.set_num_threads(_before)


@contextmanager
def quietly() -> Iterator[None]:
    """Without transformers' progress bars, which would cut through ours."""
    from transformers.utils import logging

    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()
