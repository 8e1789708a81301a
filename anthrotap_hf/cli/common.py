"""What several commands share: trackers by name, devices, folders to write to, and how a command gives up."""

from __future__ import annotations

import importlib.util
import json
import math
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer
from rich.console import Console

from anthrotap_hf.utils.atomic_files import atomic_write
from anthrotap_hf.utils.hub_errors import describe_hub_error

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


def check_device(name: str) -> None:
    """Raises ValueError, in one line, for a device that torch does not have here."""
    if name == "cpu":  # without asking torch, which takes seconds to import
        return
    import torch

    try:
        torch.zeros(1, device=name).cpu()
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).strip().split("\n")[0]
        raise ValueError(f"--device {name} can't be used here ({reason}); --device cpu can") from error


def load_tracker(model: str | None, device: str) -> Pipeline:
    """A tracker: its folder, Hub id or bundled name. Raises ValueError, in one line, for none that can be loaded."""
    from safetensors import SafetensorError
    from transformers import pipeline
    from transformers.utils import logging

    from anthrotap_hf.pipelines import DEFAULT_MODEL, find_tracker

    check_device(device)
    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()  # of reading weights, a moment
    try:
        name, revision = (str(DEFAULT_MODEL), None) if model is None else find_tracker(model)
        return pipeline("point-tracking", model=name, revision=revision, device=device)
    except (OSError, ValueError, SafetensorError) as error:
        if words := describe_hub_error(error, str(model)):
            raise ValueError(f"--model {words}") from error
        lines = str(error).strip().splitlines()
        # Where transformers tried several classes, it quotes what each of them said in full.
        reason = lines[-1] if "Traceback (most" in str(error) else " ".join(lines)
        raise ValueError(f"--model {model}: {reason}") from error
    finally:
        if shown:
            logging.enable_progress_bar()


def trackers() -> list[str]:
    """For the shell's completion: trackers that come with the package."""
    from anthrotap_hf.pipelines import BUNDLED

    return list(BUNDLED)


def recipes(package: str) -> list[str]:
    """For the shell's completion: names of recipes in a folder `recipes` of a package that is not imported for it."""
    top, *folders = package.split(".")
    spec = importlib.util.find_spec(top)
    home = Path(*(spec.submodule_search_locations or [""] if spec else [""]), *folders)
    return sorted(path.stem for path in home.glob("recipes/*.yaml"))


LabelRecipe = Annotated[
    str,
    typer.Option(
        help="A recipe's name, or a YAML file of settings.",
        autocompletion=lambda: recipes("anthrotap_builder"),
    ),
]
"""The option --recipe of commands that label."""


def write_report(
    report: dict[str, Any],
    files: list[Path],
    write_text: Callable[[dict[str, Any], Path], object],
    plot: Callable[[dict[str, Any], Path], object],
) -> str | None:
    """Figures (JSON), tables and plot, to these three files; why there is no plot, if there is none."""
    with atomic_write(files[0]) as tmp_path:
        tmp_path.write_text(json.dumps(report, indent=1))
    write_text(report, files[1])
    try:
        plot(report, files[2])
    except ImportError as error:
        return str(error)
    return None


@contextmanager
def progress_bars(console: Console) -> Iterator[Callable[[str, int, int], None]]:
    """A bar for each stage of a run, with rate and time left; nothing off a terminal.

    What is given is to be called with the name of a stage (of what it counts), how many are done, and of how many.
    """
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        SpinnerColumn,
        TaskID,
        TextColumn,
        TimeRemainingColumn,
    )

    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
    )
    bars: dict[str, TaskID] = {}
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:

        def on_progress(stage: str, done: int, total: int) -> None:
            if stage not in bars:
                bars[stage] = progress.add_task(stage, total=total, rate="")
            task = progress.tasks[bars[stage]]
            elapsed = task.finished_time or task.elapsed
            rate = f"{done / elapsed:.1f} {stage}/s" if elapsed else ""
            progress.update(bars[stage], completed=done, total=total, rate=rate)

        yield on_progress


def print_json(value: Any) -> None:
    """The one document of `--json` on the output stream. JSON has no NaN or infinity: null."""

    def plain(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: plain(inner) for key, inner in value.items()}
        if isinstance(value, list | tuple):
            return [plain(inner) for inner in value]
        return None if isinstance(value, float) and not math.isfinite(value) else value

    print(json.dumps(plain(value), indent=2, allow_nan=False))


@contextmanager
def cli_errors(
    place: Path,
    left: str = "nothing was written",
    also: tuple[type[Exception], ...] = (),
    mended: str = "",
) -> Iterator[None]:
    """Whatever ends a command is told in one line: code 2 if it can't be done, 130 for Ctrl-C as shells have it.

    Args:
        place: what is meant by an error of the system that names no file.
        left: what a run leaves that the user stops.
        also: errors of one's own whose texts are for users, besides ValueError and ImportError.
        mended: what to do once an error of the system (a full disk) is mended.
    """
    try:
        yield
    except KeyboardInterrupt:
        if sys.stderr.isatty():
            print(file=sys.stderr)  # a bar may stand on the line
        print_error(f"stopped; {left}")
        raise typer.Exit(130) from None
    except OSError as error:
        if error.strerror:  # the system's; else our own, whose text is whole
            fail("; ".join(filter(None, [f"{error.filename or place}: {error.strerror}", mended])))
        fail(f"{error}; --overwrite replaces it" if isinstance(error, FileExistsError) else str(error))
    except (ValueError, ImportError) + also as error:
        fail(str(error))


def fail(reason: str) -> NoReturn:
    """Say why, in one line, and end with code 2."""
    print_error(reason)
    raise typer.Exit(2)


def print_error(words: str, style: str = "red") -> None:
    """One line on the error stream. Names of files and extras may hold square brackets: no markup."""
    line = " ".join(words.split())
    Console(stderr=True).print(line, style=style, markup=False, highlight=False, soft_wrap=True)
