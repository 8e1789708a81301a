"""Provenance of a training: what is known of the weights it starts from and of its data, before the first step."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from anthrotap_hf.pipelines import find_tracker
from anthrotap_hf.utils.provenance import UNKNOWN, Component, Provenance, public_name, versions


def provenance_of_training(recipe: Mapping[str, Any], start: str | None, data: Iterable[Component]) -> Provenance:
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
    return Provenance(
        recipe=_without_paths(dict(recipe)),
        start=None if start is None else public_name(_with_commit(start)),
        components=tuple(dict.fromkeys([*before, *data])),
        versions=versions(),
    )


def _components_of_start(start: str) -> tuple[Component, ...]:
    before = Provenance.read(*find_tracker(start))
    if before is not None:
        return before.components
    return (Component(f"weights of {Path(start).name}", UNKNOWN, "their terms are on their page", is_weights=True),)


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
