"""`anthrotap doctor`: is all there that work needs, and what to do where it is not."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from anthrotap_hf.cli.common import Json, cli_errors, print_json

if TYPE_CHECKING:
    from anthrotap_hf.cli.doctor_checks import Finding

MARKS = {"ok": ("✓", "green"), "note": ("·", "yellow"), "problem": ("✗", "red")}


def doctor(
    online: Annotated[
        bool, typer.Option("--online/--offline", help="Whether the Hub is asked who you are.")
    ] = True,
    as_json: Json = False,
) -> None:
    """Look at this installation: versions, extras, devices, files, folders, the Hub; and say how to mend what is wrong.

    Changes nothing. ✓ is fine, · is needed for some work only, ✗ is a problem: with one it ends with code 1.

    Example: anthrotap doctor
    """
    from anthrotap_hf.cli.doctor_checks import examine

    console = Console()
    findings: list[Finding] = []
    with cli_errors(Path.cwd(), interrupted="not everything was checked"):
        for finding in examine(online):
            if not as_json:
                _show(console, finding, new=not findings or findings[-1].group != finding.group)
            findings.append(finding)
    problems = sum(finding.state == "problem" for finding in findings)
    if as_json:
        print_json({"problems": problems, "findings": [asdict(finding) for finding in findings]})
    elif problems:
        console.print(f"\n{problems} problem{'s' if problems > 1 else ''}", style="red")
    else:
        console.print("\nnothing wrong", style="green")
    if problems:
        raise typer.Exit(1)


def _show(console: Console, finding: Finding, new: bool) -> None:
    """A line for a finding, and one for what to do."""
    if new:
        console.print(f"\n{finding.group}", style="bold")
    mark, style = MARKS[finding.state]
    console.print(f"  {mark} ", style=style, end="")
    line = f"{finding.name:<26} {finding.found}"
    console.print(line, markup=False, highlight=False, soft_wrap=True)
    if finding.fix:
        console.print(f"    {'':<26} -> {finding.fix}", markup=False, highlight=False, soft_wrap=True)
