"""What several commands share: trackers by name, folders that can be written to, and how a command gives up."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import typer
from rich.console import Console

if TYPE_CHECKING:
    from transformers import Pipeline


def check_writable(out: Path) -> None:
    """Raises ValueError, in one line, if nothing can be written to the folder `out`; leaves nothing there."""
    there = next(path for path in (out.absolute(), *out.absolute().parents) if path.exists())
    if not there.is_dir():
        raise ValueError(f"{there} is a file, not a folder")
    try:
        tempfile.TemporaryFile(dir=there).close()
    except OSError as error:
        raise ValueError(f"{there} can't be written to: {error.strerror}") from error


def load_tracker(model: str | None, device: str) -> Pipeline:
    """The tracker. Raises ValueError, in one line, for none that can be loaded."""
    import torch
    from safetensors import SafetensorError
    from transformers import pipeline

    from anthrotap_hf.pipelines import DEFAULT_MODEL

    try:
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise ValueError(f"--device {device} can't be used here ({reason}); --device cpu can") from error
    try:
        return pipeline("point-tracking", model=model or str(DEFAULT_MODEL), device=device)
    except (OSError, ValueError, SafetensorError) as error:
        lines = str(error).strip().splitlines()
        # Where transformers tried several classes, it quotes what each of them said in full.
        reason = lines[-1] if "Traceback (most" in str(error) else " ".join(lines)
        raise ValueError(f"--model {model}: {reason}") from error


def stop(reason: str) -> NoReturn:
    """Say why, in one line, and end with code 2."""
    line = " ".join(reason.split())
    Console(stderr=True).print(line, style="red", markup=False, highlight=False, soft_wrap=True)
    raise typer.Exit(2)
