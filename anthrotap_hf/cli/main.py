"""The command line `anthrotap ...`: the table of its commands. Heavy imports happen in the commands."""

from __future__ import annotations

import atexit
from typing import Annotated

import typer

from anthrotap_hf.cli import (
    app as page,
)
from anthrotap_hf.cli import (
    attach,
    build,
    convert,
    doctor,
    evaluate,
    export,
    label,
    publish,
    stats,
    track,
    trackers,
    train,
    verify,
)
from anthrotap_hf.utils.stop_signals import keep_exit_code, stopped_by_signals

EXIT_CODES = "Exit codes: 0 done, 1 something is wrong or missing in the result, 2 it can't be done, 130 stopped."

app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False)

LABEL, TRACK, EVALUATE, PUBLISH, HELP = "Label", "Track and train", "Evaluate and check", "Publish", "Help"

app.command(rich_help_panel=LABEL)(label.label)
app.command(rich_help_panel=LABEL)(build.build)
app.command(rich_help_panel=LABEL)(attach.attach)

app.command(rich_help_panel=TRACK)(track.track)
app.command(rich_help_panel=TRACK)(trackers.trackers)
app.command(rich_help_panel=TRACK)(export.export)
app.command(rich_help_panel=TRACK)(page.app)
app.command(rich_help_panel=TRACK)(train.train)
app.add_typer(convert.app, name="convert", rich_help_panel=TRACK)

app.command(rich_help_panel=EVALUATE)(evaluate.evaluate)
app.command(rich_help_panel=EVALUATE)(stats.stats)
app.command(rich_help_panel=EVALUATE)(verify.verify)

app.add_typer(publish.app, name="publish", rich_help_panel=PUBLISH)

app.command(rich_help_panel=HELP)(doctor.doctor)


def _version(asked: bool) -> None:
    if asked:
        from importlib.metadata import version

        print(f"anthrotap {version('anthrotap')}")
        raise typer.Exit


@app.callback(epilog=EXIT_CODES)
def main(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and end.")
    ] = False,
) -> None:
    """Point tracks on people: label videos, train and evaluate trackers, publish both.

    Example: anthrotap label dance.mp4 --out labels
    """
    context.with_resource(stopped_by_signals())
    # Before others register theirs: it is called last, after they have cleaned up.
    atexit.unregister(keep_exit_code)
    atexit.register(keep_exit_code)


if __name__ == "__main__":
    app()
