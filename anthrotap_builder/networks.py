"""Networks: where they run, on how many threads, and how they are loaded."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def torch_threads(count: int) -> Iterator[None]:
    """Torch uses so many threads of its own, in threads that begin meanwhile.

    One for work that is shared out over threads already: torch's would wait for each other, and results would depend,
    in their last digits, on how many there are.
    """
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


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


def check_device(name: str) -> None:
    """Raises ValueError, in one line, for a device that torch does not have here."""
    if name == "cpu":  # without asking torch, which takes seconds to import
        return
    import torch

    try:
        torch.zeros(1, device=name)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).strip().split("\n")[0]
        raise ValueError(f"--device {name} can't be used here ({reason}); --device cpu can") from error
