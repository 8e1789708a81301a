"""Provenance of a tracker: what lies beside its weights, for its card and for whoever trains on from them."""

from __future__ import annotations

import json
import platform
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from anthrotap_hf.utils.errors import AnthroTapError
from anthrotap_hf.utils.file_limits import read_json
from anthrotap_hf.utils.hub_names import is_repository, split_revision

PROVENANCE_FILE = "provenance.json"
"""The name of the file, beside the weights."""

UNKNOWN = "unknown"
RESEARCH_ONLY = "research-only"
"""Not an identifier of the Hub: cards say `other` and explain it."""


def is_non_commercial(license: str) -> bool:
    """Return whether a license, by its identifier, forbids commercial use."""
    return "-nc" in license or license == RESEARCH_ONLY


@dataclass(frozen=True)
class Component:
    """Something that labels or weights are made of: a body model, a network, training data.

    Attributes:
        name: Its name.
        license: One of the Hub's identifiers, `RESEARCH_ONLY`, `UNKNOWN`, or "other", which `terms` explains.
        terms: What the license means for users, in a few words.
        is_weights: Whether these are weights, which what is trained from them is derived from.
    """

    name: str
    license: str
    terms: str
    is_weights: bool = False

    @property
    def is_non_commercial(self) -> bool:
        return is_non_commercial(self.license)


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
    def of_conversion(cls, checkpoint: Path, weights: Component) -> Provenance:
        """Say where converted weights come from, and under which license.

        Args:
            checkpoint: The released file.
            weights: What it holds, such as an entry of `released_weights` in `components.yaml`.
        """
        return cls({}, public_name(checkpoint.name), (weights,), versions())

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


def versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that train and convert, by name."""
    names = ("anthrotap", "torch", "transformers")
    return {name: version(name) for name in names} | {"Python": platform.python_version()}


def public_name(name: str) -> str:
    """Return what strangers may read of a name: of an absolute path, or one below the home folder, its last part."""
    return Path(name).name if name.startswith(("/", "~")) or Path(name).is_absolute() else name
