"""The command line: `anthrotap ...`, a table of its commands. Each checks its words and hands over; heavy imports
happen there."""

from __future__ import annotations

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
    train,
    verify,
)

ENDS = (
    "Exit codes: 0 done, 1 something is wrong or missing in what was found, 2 it can't be done, 130 stopped."
)

app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False)

MAKE, USE, JUDGE, SHARE, HELP = "Make data", "Use it", "Judge", "Share", "Help"

app.command(rich_help_panel=MAKE)(label.label)
app.command(rich_help_panel=MAKE)(build.build)
app.command(rich_help_panel=MAKE)(attach.attach)

app.command(rich_help_panel=USE)(track.track)
app.command(rich_help_panel=USE)(export.export)
app.command(rich_help_panel=USE)(page.app)
app.command(rich_help_panel=USE)(train.train)
app.add_typer(convert.app, name="convert", rich_help_panel=USE)

app.command(rich_help_panel=JUDGE)(evaluate.evaluate)
app.command(rich_help_panel=JUDGE)(stats.stats)
app.command(rich_help_panel=JUDGE)(verify.verify)

app.add_typer(publish.app, name="publish", rich_help_panel=SHARE)

app.command(rich_help_panel=HELP)(doctor.doctor)


def _version(asked: bool) -> None:
    if asked:
        from importlib.metadata import version

        print(f"anthrotap {version('anthrotap')}")
        raise typer.Exit


@app.callback(epilog=ENDS)
def main(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and end.")
    ] = False,
) -> None:
    """Human videos in, trustworthy point tracks out.

    Example: anthrotap label dance.mp4 --out labels
    """


if __name__ == "__main__":
    app()
