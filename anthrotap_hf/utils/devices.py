"""Devices of torch, by name."""

from __future__ import annotations

from anthrotap_hf.utils.errors import AnthroTapError, one_line


def check_device(name: str) -> None:
    """Raise AnthroTapError for a device ("cpu", "cuda:1", "mps") that torch does not have on this machine."""
    # Importing torch takes seconds, and it always has the processor.
    if name == "cpu":
        return
    import torch

    try:
        torch.zeros(1, device=name).cpu()
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = one_line(str(error).strip().partition("\n")[0])
        raise AnthroTapError(
            f"can't be used on this machine ({reason})", path=name, hint="use cpu", argument="device"
        ) from error
