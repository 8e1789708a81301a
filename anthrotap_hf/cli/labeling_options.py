"""Options that `anthrotap label` and `anthrotap build` share: each is declared once, with the setting that it sets."""

from __future__ import annotations

from typing import Annotated, Any

import typer


def _quality_names() -> list[str]:
    """Return the names of the qualities, for the shell's completion."""
    from anthrotap_builder.utils.assets import BLAZEPOSE

    return list(BLAZEPOSE)


Fps = Annotated[float | None, typer.Option(help="Frames a second to store (the paper: 10). Default: all.")]
ShortSide = Annotated[int | None, typer.Option(help="Labeling size, pixels. Default: 480.")]
Points = Annotated[int | None, typer.Option(help="Surface points a person. Default: 1024.")]
Quality = Annotated[
    str | None,
    typer.Option(
        help="How people's landmarks are found: best (default), or fast, on clear footage.",
        autocompletion=_quality_names,
    ),
]
LabelWorkers = Annotated[
    int | None, typer.Option("--workers", min=1, help="Videos labeled at once, each by its own process.")
]
Threads = Annotated[int | None, typer.Option(min=1, help="Frames of a video worked on at once.")]

SETTINGS = {"fps": "clips.fps", "short_side": "clips.short_side", "points": "points", "quality": "detection.quality"}
"""The setting that each option of these changes; ranges are those of the setting."""


def labeling_changes(settings: list[str] | None, **options: float | str | None) -> dict[str, Any]:
    """The changes to a recipe that a command line asks for: an option counts more than a setting.

    Args:
        settings: the words of --set.
        options: the values of the options of `SETTINGS`, None where not given.

    Raises:
        ValueError: if a word is not NAME=VALUE.
    """
    from anthrotap_hf.utils.settings import parse_settings

    words = [f"{SETTINGS[name]}={value}" for name, value in options.items() if value is not None]
    return parse_settings([*(settings or []), *words], "clips.clip_frames=24")
