"""Where networks run."""

from __future__ import annotations


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
