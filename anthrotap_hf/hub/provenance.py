"""Provenance of a tracker: what the trainer or a converter writes beside the weights, for the card of `publish`."""

from __future__ import annotations

import json
import platform
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from anthrotap_hf.hub.licenses import UNKNOWN, Component
from anthrotap_hf.pipelines import find_tracker
from anthrotap_hf.utils.errors import AnthroTapError
from anthrotap_hf.utils.file_limits import read_json
from anthrotap_hf.utils.hub_names import is_repository, split_revision

PROVENANCE_FILE = "provenance.json"
"""The name of the file, beside the weights."""


@dataclass(frozen=True)
class Provenance:
    """What a tracker was trained with.

    Attributes:
        recipe: The training recipe as JSON values, without paths of the machine that trained; empty for
            converted weights.
        start: The weights that training started from, with the commit if they came from the Hub; None for none.
        components: Everything that went into the weights, with its license.
        versions: The versions of Python and of the packages that trained or converted, by name.
        evaluation: The last evaluation during training: `benchmark`, `mode`, `step` and `mean`, the metrics as
            fractions; None if there was none.
        conversion: The `CONVERSION` by which a known tracker was converted; None for other weights.
    """

    recipe: dict[str, Any]
    start: str | None
    components: tuple[Component, ...]
    versions: dict[str, str]
    evaluation: dict[str, Any] | None = None
    conversion: int | None = None

    @classmethod
    def of_training(cls, recipe: Mapping[str, Any], start: str | None, data: Iterable[Component]) -> Provenance:
        """Collect what is known before the first step. Weights of the Hub are looked up there.

        Args:
            recipe: The training recipe as JSON values.
            start: A tracker's folder or Hub id, as the recipe names it; None to start from random weights.
            data: The components of the training data.

        Raises:
            AnthroTapError: if the provenance of the start can't be read.
            OSError: if the start can't be found.
        """
        before = () if start is None else _components_of_start(start)
        return cls(
            recipe=_without_paths(dict(recipe)),
            start=None if start is None else public_name(_with_commit(start)),
            components=tuple(dict.fromkeys([*before, *data])),
            versions=_versions(),
        )

    @classmethod
    def of_conversion(cls, checkpoint: Path, weights: Component) -> Provenance:
        """Say where converted weights come from, and under which license.

        Args:
            checkpoint: The released file.
            weights: What it holds, such as an entry of `released_weights` in `components.yaml`.
        """
        return cls({}, public_name(checkpoint.name), (weights,), _versions())

    @classmethod
    def read(cls, model: str, revision: str | None = None) -> Provenance | None:
        """Read the provenance of a model's folder or repository; return None if it has none.

        Raises:
            AnthroTapError: if the file is damaged.
        """
        from transformers.utils import cached_file

        path = cached_file(model, PROVENANCE_FILE, revision=revision, _raise_exceptions_for_missing_entries=False)
        if path is None:
            return None
        try:
            values = read_json(Path(path))
            components = tuple(Component(**each) for each in values.pop("components"))
            return cls(**values, components=components)
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise AnthroTapError(
                f"not the provenance of a training ({error})", path=path, hint="remove it, or train again"
            ) from error

    @property
    def base_model(self) -> str | None:
        """The repository of the Hub that training started from; None for a folder or random weights."""
        return self.start.partition("@")[0] if self.start is not None and "@" in self.start else None

    @property
    def datasets(self) -> list[str]:
        """The datasets of the Hub that it was trained on, sorted."""
        named = (source.get("data", "") for source in self.recipe.get("sources", {}).values())
        return sorted({split_revision(name)[0] for name in named if is_repository(name)})

    def write(self, folder: Path) -> None:
        """Write the provenance into a model's folder."""
        (folder / PROVENANCE_FILE).write_text(json.dumps(asdict(self), indent=1), encoding="utf-8")


def _versions() -> dict[str, str]:
    names = ("anthrotap", "torch", "transformers")
    return {name: version(name) for name in names} | {"Python": platform.python_version()}


def public_name(name: str) -> str:
    """Return what strangers may read of a name: of an absolute path, or one below the home folder, its last part."""
    return Path(name).name if name.startswith(("/", "~")) or Path(name).is_absolute() else name


def _components_of_start(start: str) -> tuple[Component, ...]:
    before = Provenance.read(*find_tracker(start))
    if before is not None:
        return before.components
    return (Component(f"weights of {Path(start).name}", UNKNOWN, "their terms are on their page"),)


def _with_commit(start: str) -> str:
    """Return `me/tracker@<commit>` for weights of the Hub; a folder as it is."""
    from transformers.utils import cached_file
    from transformers.utils.hub import extract_commit_hash

    name, revision = find_tracker(start)
    commit = extract_commit_hash(cached_file(name, "config.json", revision=revision), None)
    return start if commit is None else f"{name}@{commit}"


def _without_paths(value: Any) -> Any:
    """Return a recipe's values, the paths in them replaced by `public_name`."""
    if isinstance(value, dict):
        return {key: _without_paths(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_without_paths(inner) for inner in value]
    return public_name(value) if isinstance(value, str) else value
