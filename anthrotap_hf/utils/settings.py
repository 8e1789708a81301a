"""Settings in YAML, checked by pydantic: what recipes of labeling and of training share."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError


class Settings(BaseModel):
    """Checked when made, never changed; unknown names are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)


S = TypeVar("S", bound=Settings)


def read_recipe(
    kind: type[S], folder: Path, recipe: str | Path, changes: Mapping[str, Any] | None = None
) -> S:
    """The settings of a recipe, with some changed.

    A recipe may begin with `extends: NAME`, or a file beside it: what it does not say is then as there.

    Args:
        kind: what they are settings of; names that the recipe leaves out keep its defaults.
        folder: of the named recipes.
        recipe: a name in that folder, or the path of a YAML or JSON file.
        changes: to it, nested as the settings are.

    Raises:
        ValueError: if there is no such recipe or setting, or a value is out of its range; the message is one line.
    """
    values = _read(folder, recipe, ())
    try:
        return kind.model_validate(merged(values, changes or {}))
    except ValidationError as error:
        wrong = "; ".join(
            ": ".join(
                filter(None, (".".join(map(str, item["loc"])), item["msg"].removeprefix("Value error, ")))
            )
            for item in error.errors()
        )
        where = f"{kind.__module__}.{kind.__name__}"
        raise ValueError(f"recipe {recipe}: {wrong} (the settings are those of {where})") from error


def _read(folder: Path, recipe: str | Path, seen: tuple[str, ...]) -> dict[str, Any]:
    """What a recipe says, and what it extends."""
    path = folder / f"{recipe}.yaml" if isinstance(recipe, str) else recipe
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        known = ", ".join(sorted(file.stem for file in folder.glob("*.yaml")))
        raise ValueError(
            f"no recipe {str(recipe)!r}; there is {known}, or the path of a YAML file"
        ) from error
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ValueError(f"{path}: cannot be read as YAML: {' '.join(str(error).split())}") from error
    if values is not None and not isinstance(values, dict):
        raise ValueError(f"{path}: should be a mapping of settings")
    values = dict(values or {})
    base = values.pop("extends", None)
    if base is None:
        return values
    if not isinstance(base, str) or base in seen:
        raise ValueError(f"{path}: extends must name another recipe or file, got {base!r}")
    other = path.parent / base if base.endswith((".yaml", ".yml", ".json")) else base
    return merged(_read(folder, other, (*seen, base)), values)


def recipe_named(words: str) -> str | Path:
    """What a user calls a recipe: a name, else a file."""
    return words if words.replace("-", "").replace("_", "").isalnum() else Path(words)


def parse_settings(words: Iterable[str], example: str) -> dict[str, Any]:
    """Changes to a recipe, from words like "filter.rule=none" and "clips.fps=10" (values are YAML).

    Raises:
        ValueError: for words of another form; it shows the `example`.
    """
    changes: dict[str, Any] = {}
    for word in words:
        name, equals, value = word.partition("=")
        if not name or not equals:
            raise ValueError(f"a setting is NAME=VALUE, such as {example}; got {word!r}")
        try:
            change: Any = yaml.safe_load(value)
        except yaml.YAMLError as error:
            raise ValueError(f"{word!r}: the value is no YAML") from error
        for part in reversed(name.split(".")):
            change = {part: change}
        changes = merged(changes, change)
    return changes


def merged(values: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Nested settings, `changes` over `values`."""
    result = dict(values)
    for name, change in changes.items():
        inner = result.get(name)
        if isinstance(change, Mapping):
            change = merged(inner if isinstance(inner, Mapping) else {}, change)
        result[name] = change
    return result
