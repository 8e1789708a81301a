"""Writes settings.md, all settings of recipes, from their definitions: python docs/make_settings.py"""

from __future__ import annotations

import dataclasses
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from anthrotap_builder.config import LabelingConfig
from anthrotap_hf.training.config import TrainingRecipe

HEADING = """# Settings

<!-- written by docs/make_settings.py; no block here is run: there is none -->

A recipe is a YAML file of these; a setting that it does not name has the default. `extends: NAME` begins with another
recipe, `--set NAME=VALUE` changes one setting for one run. Unknown names are errors.
"""
Row = tuple[str, str, str]
"""A setting's name, its default and its description, in Markdown."""


def settings_page() -> str:
    """Return the page, in Markdown."""
    groups: dict[type, None] = {}
    parts = [
        HEADING,
        "## Labeling\n\n`anthrotap label` and `anthrotap build`; each of them is part of the label version.\n",
        *_tables(LabelingConfig, "", groups),
        "## Training\n\n`anthrotap train`.\n",
        *_tables(TrainingRecipe, "", groups),
        *_group_tables(groups),
    ]
    return "\n".join(parts)


def _tables(model: type[BaseModel], prefix: str, groups: dict[type, None]) -> Iterator[str]:
    """Yield a table of a model's own settings, then those of the models inside. Collects `groups` of settings."""
    inner = []
    rows = []
    for name, field in model.model_fields.items():
        models = list(_models(field.annotation))
        if models:
            inner.append((name, models))
        else:
            rows.append(_row(prefix + name, field, groups))
    if rows:
        yield _table(_about(model), rows)
    for name, models in inner:
        if len(models) == 1:
            yield from _tables(models[0], f"{prefix}{name}.", groups)
        else:
            yield from _tables_of_kinds(f"{prefix}{name}.NAME.", models, groups)


def _tables_of_kinds(prefix: str, models: list[type[BaseModel]], groups: dict[type, None]) -> Iterator[str]:
    """Yield a table of the settings that models of several kinds share, then those of each kind."""
    first = models[0].model_fields
    shared = [name for name in first if all(_same(first[name], m.model_fields.get(name)) for m in models)]
    kinds = {model: get_args(model.model_fields["kind"].annotation)[0] for model in models}
    rows = [_row(prefix + name, first[name], groups) for name in shared]
    names = ", ".join(f"`{kind}`" for kind in kinds.values())
    yield _table("Of every kind.", [(f"`{prefix}kind`", "*required*", f"({names}) what is read"), *rows])
    for model, kind in kinds.items():
        rows = [
            _row(prefix + name, field, groups)
            for name, field in model.model_fields.items()
            if name not in (*shared, "kind")
        ]
        if rows:
            yield _table(f"`kind: {kind}`. {_about(model)}", rows)


def _group_tables(groups: dict[type, None]) -> Iterator[str]:
    """Yield a table for each dataclass of settings, and for those inside it."""
    waiting, done = list(groups), list[type]()
    while waiting:
        group = waiting.pop(0)
        if group in done:
            continue
        done.append(group)
        descriptions, hints = _attributes(group.__doc__ or ""), get_type_hints(group)
        rows = []
        for field in dataclasses.fields(group):
            factory = field.default_factory
            value = field.default if factory is dataclasses.MISSING else factory()
            hint = hints[field.name]
            waiting += [kind for kind in (hint, *get_args(hint)) if dataclasses.is_dataclass(kind)]
            description = descriptions.get(field.name, "see above").rstrip(".")
            rows.append((f"`{field.name}`", _value(value), _escaped(description)))
        yield f"### {group.__name__}\n\n{_table(_about(group), rows)}"


def _attributes(docstring: str) -> dict[str, str]:
    """Return the descriptions in a docstring's section "Attributes:"."""
    section = docstring.partition("Attributes:\n")[2].partition("\n\n")[0]
    found = re.findall(r"^ {8}([\w, ]+): (.*(?:\n {12}.*)*)", section, re.MULTILINE)
    return {name: text for names, text in found for name in names.split(", ")}


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    """Yield the models that a setting holds, by itself or in a mapping or union."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    elif get_origin(annotation) in (Union, UnionType, Annotated, dict):
        for part in get_args(annotation):
            yield from _models(part)


def _same(field: FieldInfo, other: FieldInfo | None) -> bool:
    return other is not None and (field.annotation, repr(field)) == (other.annotation, repr(other))


def _row(name: str, field: FieldInfo, groups: dict[type, None]) -> Row:
    value = field.get_default(call_default_factory=True)
    if dataclasses.is_dataclass(value):
        groups[type(value)] = None
    default = "*required*" if value is PydanticUndefined else _value(value)
    if not field.description:
        raise ValueError(f"{name} needs a description")
    return f"`{name}`", default, f"{_limits(field)} {_escaped(field.description)}".strip()


def _limits(field: FieldInfo) -> str:
    """Return choices and bounds in parentheses, or nothing."""
    annotation = field.annotation
    options = get_args(annotation) if get_origin(annotation) in (Union, UnionType) else (annotation,)
    choices = [value for option in options if get_origin(option) is Literal for value in get_args(option)]
    limits = [", ".join(f"`{choice}`" for choice in choices)] if choices else []
    for bound in field.metadata:
        for name, sign in (("ge", "≥"), ("gt", ">"), ("le", "≤"), ("lt", "<")):
            if (value := getattr(bound, name, None)) is not None:
                limits.append(f"{sign} {value:g}")
    return f"({'; '.join(limits)})" if limits else ""


def _value(value: Any) -> str:
    """Return a default as a recipe has it."""
    if dataclasses.is_dataclass(value):
        name = type(value).__name__
        return f"[{name}](#{name.lower()})"
    if value is None or isinstance(value, bool):
        return f"`{str(value).lower() if value is not None else 'null'}`"
    if isinstance(value, tuple | list):
        return f"`[{', '.join(f'{one:.6g}' for one in value)}]`"
    if isinstance(value, float):
        return f"`{value:.6g}`"
    return f"`{_escaped(str(value))}`" if value != "" else '`""`'


def _about(model: type) -> str:
    """Return the first paragraph of a docstring."""
    return " ".join((model.__doc__ or "").split("\n\n")[0].split())


def _table(about: str, rows: list[Row]) -> str:
    lines = "\n".join(f"| {name} | {default} | {description} |" for name, default, description in rows)
    return f"{about}\n\n| setting | default | meaning |\n|---|---|---|\n{lines}\n"


def _escaped(text: str) -> str:
    """Return a description in one line of a table; `null` is what recipes call None."""
    return re.sub(r"\bNone\b", "null", " ".join(text.split()).replace("|", "\\|"))


if __name__ == "__main__":
    Path(sys.argv[1] if len(sys.argv) > 1 else Path(__file__).with_name("settings.md")).write_text(settings_page())
