"""Threads of ours and of torch."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def one_torch_thread() -> Iterator[None]:
    """Torch keeps to the thread that asks it, in threads that begin meanwhile.

    For work that is shared out over threads already. Torch's own would wait for each other, and results would depend,
    in their last digits, on how many there are.
    """
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
