"""`anthrotap doctor`: check this installation, and say what to do where something is wrong."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from anthrotap_hf.cli.common import Json, cli_errors, print_json

MARKS = {"ok": ("✓", "green"), "note": ("·", "yellow"), "problem": ("✗", "red")}


def doctor(
    online: Annotated[bool, typer.Option("--online/--offline", help="Whether to ask the Hub for your account.")] = True,
    as_json: Json = False,
) -> None:
    """Check this installation: versions, extras, devices, files, folders and the Hub; say how to repair it.

    Changes nothing. ✓ is fine, · is needed for some work only, ✗ is a problem: then the exit code is 1.

    Example: anthrotap doctor
    """
    from anthrotap_hf.cli.doctor_checks import Finding, examine

    console = Console()
    findings: list[Finding] = []
    with cli_errors(Path.cwd(), interrupted="not everything was checked"):
        for finding in examine(online):
            if not as_json and (not findings or findings[-1].group != finding.group):
                console.print(f"\n{finding.group}", style="bold")
            findings.append(finding)
            if not as_json:
                mark, style = MARKS[finding.state]
                console.print(f"  {mark} ", style=style, end="")
                lines = [f"{finding.name:<26} {finding.found}"]
                lines += [f"    {'':<26} -> {finding.fix}"] if finding.fix else []
                console.print("\n".join(lines), markup=False, highlight=False, soft_wrap=True)
    problems = sum(finding.state == "problem" for finding in findings)
    if as_json:
        print_json({"problems": problems, "findings": [asdict(finding) for finding in findings]})
    elif problems:
        console.print(f"\n{problems} problem{'s' if problems > 1 else ''}", style="red")
    else:
        console.print("\nno problem", style="green")
    if problems:
        raise typer.Exit(1)
