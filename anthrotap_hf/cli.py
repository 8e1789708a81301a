"""The command line: `anthrotap ...`, a table of its commands. Each checks its words and hands over; heavy imports
happen there."""

from __future__ import annotations

from typing import Annotated

import typer

from anthrotap_hf import (
    app_command,
    attach_command,
    build_command,
    convert_command,
    doctor_command,
    evaluate_command,
    evaluate_labels_command,
    export_command,
    label_command,
    publish_command,
    stats_command,
    track_command,
    train_command,
    verify_command,
)

ENDS = (
    "Exit codes: 0 done, 1 something is wrong or missing in what was found, 2 it can't be done, 130 stopped."
)

app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False)

MAKE, USE, JUDGE, SHARE, HELP = "Make data", "Use it", "Judge", "Share", "Help"

app.command(rich_help_panel=MAKE)(label_command.label)
app.command(rich_help_panel=MAKE)(build_command.build)
app.command(rich_help_panel=MAKE)(attach_command.attach)

app.command(rich_help_panel=USE)(track_command.track)
app.command(rich_help_panel=USE)(export_command.export)
app.command(rich_help_panel=USE)(app_command.app)
app.command(rich_help_panel=USE)(train_command.train)
app.add_typer(convert_command.app, name="convert", rich_help_panel=USE)

app.command(rich_help_panel=JUDGE)(evaluate_command.evaluate)
app.command("evaluate-labels", rich_help_panel=JUDGE)(evaluate_labels_command.evaluate_labels)
app.command(rich_help_panel=JUDGE)(stats_command.stats)
app.command(rich_help_panel=JUDGE)(verify_command.verify)

app.add_typer(publish_command.app, name="publish", rich_help_panel=SHARE)

app.command(rich_help_panel=HELP)(doctor_command.doctor)


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
