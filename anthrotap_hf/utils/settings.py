"""Settings in YAML, checked by pydantic: what recipes of labeling and of training have in common."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from anthrotap_hf.utils.errors import AnthroTapError, one_line
from anthrotap_hf.utils.file_limits import MAX_RECIPE_BYTES, MAX_RECIPES


class _Loader(yaml.SafeLoader):
    """YAML without code, in which 1e-4 is a number, as in YAML 1.2; PyYAML reads YAML 1.1, where it is a text."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+$"),
    list("-+.0123456789"),
)


def read_yaml(text: str) -> Any:
    """Return the value of a YAML document; raise yaml.YAMLError or RecursionError for what is none."""
    return yaml.load(text, _Loader)


class SettingsError(AnthroTapError):
    """A recipe cannot be read, or a setting is unknown or out of its range."""


class Settings(BaseModel):
    """Settings that are checked when they are made, and never change; unknown names are rejected."""

    model_config = ConfigDict(extra="forbid", frozen=True)


S = TypeVar("S", bound=Settings)


def read_recipe(kind: type[S], folder: Path, recipe: str | Path, changes: Mapping[str, Any] | None = None) -> S:
    """Return the settings of a recipe, with some changed.

    A recipe may begin with `extends: NAME`, or a file beside it: what it does not set is then as in that one.

    Args:
        kind: the class of the settings; those that the recipe does not set keep their defaults.
        folder: of the named recipes.
        recipe: a name in that folder, or the path of a YAML or JSON file.
        changes: settings to change, nested as the settings are.

    Raises:
        SettingsError: there is no such recipe or setting, or a value is out of its range.
    """
    values = _read(folder, recipe, ())
    try:
        return kind.model_validate(merged(values, changes or {}))
    except ValidationError as error:
        wrong = []
        for item in error.errors():
            # pydantic's text of an error that a validator raised is that of the error, with a prefix.
            cause = item.get("ctx", {}).get("error")
            where = ".".join(map(str, item["loc"]))
            wrong.append(": ".join(filter(None, (where, str(cause or item["msg"])))))
        reason = f"{'; '.join(wrong)} (the settings are those of {kind.__module__}.{kind.__name__})"
        raise SettingsError(reason, path=f"recipe {recipe}") from error


def _read(folder: Path, recipe: str | Path, extending: tuple[str, ...]) -> dict[str, Any]:
    """Return what a recipe sets, over what the one sets that it extends."""
    is_name = isinstance(recipe, str) and recipe.replace("-", "").replace("_", "").isalnum()
    path = folder / f"{recipe}.yaml" if is_name else Path(recipe)
    try:
        with path.open("rb") as file:
            text = file.read(MAX_RECIPE_BYTES + 1)
        if len(text) > MAX_RECIPE_BYTES:
            raise SettingsError(f"a recipe has at most {MAX_RECIPE_BYTES >> 10} kB", path=path)
        values = read_yaml(text.decode())
    except FileNotFoundError as error:
        known = ", ".join(sorted(file.stem for file in folder.glob("*.yaml")))
        raise SettingsError(
            f"no recipe {str(recipe)!r}", hint=f"there is {known}, or the path of a YAML file"
        ) from error
    except RecursionError as error:
        raise SettingsError("it is nested too deeply", path=path) from error
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise SettingsError(f"cannot be read as YAML: {one_line(error)}", path=path) from error
    if values is not None and not isinstance(values, dict):
        raise SettingsError("should be a mapping of settings", path=path)
    values = dict(values or {})
    base = values.pop("extends", None)
    if base is None:
        return values
    if not isinstance(base, str) or base in extending:
        raise SettingsError(f"extends must name another recipe or file, got {one_line(repr(base))}", path=path)
    if len(extending) >= MAX_RECIPES:
        raise SettingsError(f"a chain of more than {MAX_RECIPES} recipes that extend one another", path=path)
    other = path.parent / base if base.endswith((".yaml", ".yml", ".json")) else base
    return merged(_read(folder, other, (*extending, base)), values)


def parse_settings(texts: Iterable[str], example: str) -> dict[str, Any]:
    """Return changes to a recipe from texts like "filter.rule=none" and "clips.fps=10"; values are YAML.

    Raises:
        SettingsError: a text has another form; the message has the `example`.
    """
    changes: dict[str, Any] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not name or not equals:
            raise SettingsError(f"a setting is NAME=VALUE, such as {example}; got {text!r}")
        try:
            change: Any = read_yaml(value)
        except (yaml.YAMLError, RecursionError) as error:
            raise SettingsError(f"{one_line(repr(text))}: the value is no YAML") from error
        for part in reversed(name.split(".")):
            change = {part: change}
        changes = merged(changes, change)
    return changes


def merged(values: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return nested settings, with `changes` over `values`."""
    result = dict(values)
    for name, change in changes.items():
        if isinstance(change, Mapping):
            inner = result.get(name)
            change = merged(inner if isinstance(inner, Mapping) else {}, change)
        result[name] = change
    return result
