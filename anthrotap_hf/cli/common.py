"""What commands share: options, progress bars, JSON, and how a command ends with an error."""

from __future__ import annotations

import importlib.util
import json
import math
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, NoReturn, Protocol

import typer
from rich.console import Console

from anthrotap_hf.utils.atomic_files import write_json
from anthrotap_hf.utils.errors import AnthroTapError, format_error, one_line

# Between two lines about the progress of a run, where there is no terminal to show bars on.
LOG_SECONDS = 30.0


def tracker_names() -> list[str]:
    """Return the names of the bundled and the known trackers, for the shell's completion."""
    from anthrotap_hf.pipelines import tracker_names

    return tracker_names()


def recipe_names(package: str) -> list[str]:
    """Return the names of a package's recipes, for the shell's completion. The package is not imported."""
    top, *folders = package.split(".")
    spec = importlib.util.find_spec(top)
    home = Path(*(spec.submodule_search_locations or [""] if spec else [""]), *folders)
    return sorted(path.stem for path in home.glob("recipes/*.yaml"))


# Options, each declared once.
Out = Annotated[Path, typer.Option(help="Folder for the results.")]
Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace the results of an earlier run.")]
Device = Annotated[str, typer.Option(help="Where networks run: cpu, cuda, cuda:1, mps.")]
Workers = Annotated[int, typer.Option(min=1, help="Processes at once.")]
Limit = Annotated[int | None, typer.Option(min=1, help="Use only so many videos or clips, the first.")]
Split = Annotated[str | None, typer.Option(help="Of shards, only this split, as validation. Default: all.")]
Set = Annotated[
    list[str] | None,
    typer.Option("--set", help="Change a setting of the recipe: NAME=VALUE. May be repeated."),
]
LabelRecipe = Annotated[
    str,
    typer.Option(
        "--recipe",
        help="A recipe's name, or a YAML file of settings.",
        autocompletion=lambda: recipe_names("anthrotap_builder"),
    ),
]
Models = Annotated[
    list[str] | None,
    typer.Option(
        "--model",
        help="A tracker's folder, Hub id or name (`anthrotap trackers`). Default: locotrack-tiny. May be repeated.",
        autocompletion=tracker_names,
    ),
]


def check_writable(out: Path) -> None:
    """Raise AnthroTapError if nothing can be written to the folder `out`; leave nothing there."""
    existing = next(path for path in (out.absolute(), *out.absolute().parents) if path.exists())
    if not existing.is_dir():
        raise AnthroTapError(f"{existing} is a file, not a folder")
    try:
        tempfile.TemporaryFile(dir=existing).close()
    except OSError as error:
        raise AnthroTapError(f"{existing} can't be written to: {error.strerror}") from error


class OnProgress(Protocol):
    """A function that is called with the progress of a run.

    Args:
        task: What is done, the name of a bar.
        done: How much of it is done.
        total: How much there is; None where that is not known.
        note: A text beside the bar; None for the rate.
    """

    def __call__(self, task: str, done: int, total: int | None = None, note: str | None = None) -> None: ...


@contextmanager
def progress_bars(*, off_terminal: bool = True) -> Iterator[OnProgress]:
    """Show a bar for each task of a run on the error stream, with rate and time left.

    Off a terminal, as in the log of a job, a line says every `LOG_SECONDS` how far the run is, and the bars are shown
    at the end; without `off_terminal` nothing is shown there.
    """
    from rich import progress as rich_progress

    columns = (
        rich_progress.SpinnerColumn(),
        rich_progress.TextColumn("{task.description}", markup=False),
        rich_progress.BarColumn(),
        rich_progress.MofNCompleteColumn(),
        rich_progress.TextColumn("{task.fields[note]}", markup=False),
        rich_progress.TimeRemainingColumn(),
    )
    console = Console(stderr=True)
    disabled = not (off_terminal or console.is_terminal)
    progress = rich_progress.Progress(*columns, console=console, disable=disabled)
    bars: dict[str, rich_progress.TaskID] = {}
    logged = time.monotonic()

    def on_progress(task: str, done: int, total: int | None = None, note: str | None = None) -> None:
        nonlocal logged
        if not bars:
            progress.start()
        if task not in bars:
            bars[task] = progress.add_task(task, total=total, note="")
        if note is None:
            bar = progress.tasks[bars[task]]
            elapsed = bar.finished_time or bar.elapsed
            note = f"{done / elapsed:.1f}/s" if elapsed else ""
        progress.update(bars[task], completed=done, total=total, note=note)
        if not console.is_terminal and not disabled and time.monotonic() - logged >= LOG_SECONDS:
            logged = time.monotonic()
            amount = f"{done}" if total is None else f"{done} of {total}"
            print_error(f"{task}: {amount} {note}".rstrip(), "none")

    try:
        yield on_progress
    except BaseException:
        # Off a terminal, the error is the only line.
        progress.live.transient = not progress.console.is_terminal
        raise
    finally:
        if bars:
            progress.stop()


def write_report(
    report: dict[str, Any],
    files: list[Path],
    write_text: Callable[[dict[str, Any], Path], object],
    plot: Callable[[dict[str, Any], Path], object],
) -> list[Path]:
    """Write a report as JSON, as tables and as a plot to three files; return those that were written.

    Where the plot needs a package that is not installed, the error stream says so.
    """
    write_json(files[0], report)
    write_text(report, files[1])
    try:
        plot(report, files[2])
    except ImportError as error:
        print_error(f"no plot: {error}", "yellow")
        return files[:2]
    return files


def print_json(value: Any) -> None:
    """Print the one document of `--json`. JSON has no NaN or infinity: they become null."""

    def finite(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: finite(inner) for key, inner in value.items()}
        if isinstance(value, list | tuple):
            return [finite(inner) for inner in value]
        return None if isinstance(value, float) and not math.isfinite(value) else value

    print(json.dumps(finite(value), indent=2, allow_nan=False))


@contextmanager
def cli_errors(
    path: Path,
    interrupted: str = "nothing was written",
    hint: str | None = None,
) -> Iterator[None]:
    """End a command that fails with one line: exit code 2, or 130 for Ctrl-C.

    Args:
        path: What an error of the operating system is about that names no file.
        interrupted: What a run leaves that the user interrupts.
        hint: What to do after an error of the operating system, such as a full disk.
    """
    try:
        yield
    except KeyboardInterrupt:
        if sys.stderr.isatty():
            print(file=sys.stderr)  # a progress bar may be on the line
        print_error(f"stopped; {interrupted}")
        raise typer.Exit(130) from None
    except AnthroTapError as error:
        option = "" if error.argument is None else f"--{error.argument.replace('_', '-')}"
        subject = " ".join(filter(None, [option, error.path]))
        fail(format_error(error.reason, subject, error.hint))
    except OSError as error:
        if error.strerror:
            fail(format_error(error.strerror, str(error.filename or path), hint))
        # An error of this package, which has no number.
        fail(format_error(str(error), hint="--overwrite replaces it" if isinstance(error, FileExistsError) else None))
    except (ValueError, ImportError) as error:
        fail(str(error))


def fail(reason: str) -> NoReturn:
    """Print why, in one line, and end with exit code 2."""
    print_error(reason)
    raise typer.Exit(2)


def first_lines(lines: Sequence[str], limit: int, place: object) -> Iterator[str]:
    """Yield so many lines at most, and one that says how many more there are, and in which file."""
    yield from lines[:limit]
    if len(lines) > limit:
        yield f"and {len(lines) - limit} more: {place}"


def print_error(message: str, style: str = "red") -> None:
    """Print one line to the error stream. Names of files and extras may hold square brackets: no markup."""
    # Names of strangers' files may hold lines and commands for terminals.
    line = one_line(message, limit=100_000)
    Console(stderr=True).print(line, style=style, markup=False, emoji=False, highlight=False, soft_wrap=True)


def read_resolution(resolution: str, argument: str = "resolution") -> tuple[int, int]:
    """Return (height, width) of a `--resolution` or another argument; raise AnthroTapError for anything else."""
    height, _, width = resolution.partition("x")
    if not (height.isdecimal() and width.isdecimal() and int(height) and int(width)):
        raise AnthroTapError(f"must be HEIGHTxWIDTH, as 384x512; got {resolution}", argument=argument)
    return int(height), int(width)
