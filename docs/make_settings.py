"""Writes settings.md, all settings of recipes, from their definitions: python docs/make_settings.py"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from anthrotap_builder.config import LabelingConfig
from anthrotap_hf.training.config import TrainingRecipe

HEADING = """# Settings

<!-- written by docs/make_settings.py; no block here is run: there is none -->

A recipe is a YAML file of these; what it leaves out is as here. `extends: NAME` begins with another recipe, `--set
NAME=VALUE` changes one for one run. Unknown names are errors.
"""


def settings_page() -> str:
    """The page, Markdown."""
    parts = [
        HEADING,
        "## Labeling\n\n`anthrotap label` and `anthrotap build`; each of them is part of the label version.\n",
        *_tables(LabelingConfig, ""),
        "## Training\n\n`anthrotap train`.\n",
        *_tables(TrainingRecipe, ""),
    ]
    return "\n".join(parts)


def _tables(model: type[BaseModel], place: str) -> Iterator[str]:
    """A table of a model's own settings, then those of the models inside."""
    inner: list[tuple[str, type[BaseModel]]] = []
    rows = []
    for name, field in model.model_fields.items():
        models = list(_models(field.annotation))
        if models:
            inner += [(_place(place, name, kind, len(models)), kind) for kind in models]
        else:
            rows.append(
                f"| `{place}{name}` | {_default(field)} | {_kind(field)}{_escaped(field.description or '')} |"
            )
    about = " ".join((model.__doc__ or "").split("\n\n")[0].split())
    if rows:
        yield f"{about}\n\n| setting | default | |\n|---|---|---|\n" + "\n".join(rows) + "\n"
    for path, kind in inner:
        yield from _tables(kind, path)


def _place(place: str, name: str, kind: type[BaseModel], count: int) -> str:
    """`sources.NAME.` of each kind of source, `clips.` else."""
    if count == 1:
        return f"{place}{name}."
    (which,) = get_args(kind.model_fields["kind"].annotation)
    return f"{place}{name}.NAME({which})."


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    """Models that a setting holds, by itself or in a mapping or union."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    elif get_origin(annotation) in (Union, UnionType, Annotated, dict):
        for part in get_args(annotation):
            yield from _models(part)


def _kind(field: FieldInfo) -> str:
    """Choices and bounds, in words."""
    annotation = field.annotation
    options = get_args(annotation) if get_origin(annotation) in (Union, UnionType) else (annotation,)
    choices = [value for option in options if get_origin(option) is Literal for value in get_args(option)]
    words = [", ".join(f"`{choice}`" for choice in choices)] if choices else []
    for bound in field.metadata:
        for name, sign in (("ge", "≥"), ("gt", ">"), ("le", "≤"), ("lt", "<")):
            if (value := getattr(bound, name, None)) is not None:
                words.append(f"{sign} {value:g}")
    return f"({'; '.join(words)}) " if words else ""


def _default(field: FieldInfo) -> str:
    value = field.get_default(call_default_factory=True)
    if value is PydanticUndefined:
        return "*wanted*"
    if isinstance(value, dict | list | tuple) and not value:
        return ""
    return f"`{_escaped('null' if value is None else str(value).lower() if isinstance(value, bool) else str(value))}`"


def _escaped(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


if __name__ == "__main__":
    Path(sys.argv[1] if len(sys.argv) > 1 else Path(__file__).with_name("settings.md")).write_text(
        settings_page()
    )
