"""What is known of a trained tracker, for its card: its recipe, what it learned from, and how good it came out."""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from anthrotap_hf.hub.licenses import BODIES, FLOWS, MESH_SOURCES, SOURCES, UNKNOWN, Component, known
from anthrotap_hf.pipelines import find_tracker

if TYPE_CHECKING:
    from anthrotap_hf.training.config import ShardSource, TrainingRecipe

FACTS_FILE = "training.json"  # beside the weights
FIGURES = {
    "average_jaccard": "average Jaccard",
    "average_pts_within_thresh": "average delta",
    "occlusion_accuracy": "occlusion accuracy",
}


def training_facts(recipe: TrainingRecipe) -> dict[str, Any]:
    """What is known before the first step: `recipe`, `start` (with the commit, where it came from the Hub),
    `components` and `versions`, as JSON values. It reads three columns of
    each dataset, and asks the Hub."""
    return {
        "recipe": _public(recipe.model_dump(mode="json")),
        "start": None if recipe.model.start is None else public_name(_with_commit(recipe.model.start)),
        "components": [asdict(each) for each in dict.fromkeys(_components(recipe))],
        "versions": {name: version(name) for name in ("anthrotap", "torch", "transformers")}
        | {"Python": platform.python_version()},
    }


def read_facts(model: str, revision: str | None = None) -> dict[str, Any] | None:
    """Those of a model's folder or repository; None if it has none."""
    from transformers.utils import cached_file

    path = cached_file(model, FACTS_FILE, revision=revision, _raise_exceptions_for_missing_entries=False)
    if path is None:
        return None
    try:
        facts = json.loads(Path(path).read_text("utf-8"))
        components_of(facts)
    except (ValueError, TypeError, KeyError) as error:
        raise ValueError(f"{path}: no facts of a training ({error}); take it away, or train again") from error
    return facts


def components_of(facts: Mapping[str, Any]) -> list[Component]:
    """Those that facts tell of."""
    return [Component(**each) for each in facts["components"]]


def _with_commit(start: str) -> str:
    """`me/tracker@<commit>` for weights of the Hub; a folder as it is."""
    from transformers.utils import cached_file
    from transformers.utils.hub import extract_commit_hash

    name, revision = find_tracker(start)
    commit = extract_commit_hash(cached_file(name, "config.json", revision=revision), None)
    return start if commit is None else f"{name}@{commit}"


def _components(recipe: TrainingRecipe) -> list[Component]:
    found: list[Component] = []
    start = recipe.model.start
    if start is not None:
        before = read_facts(*find_tracker(start))
        if before is None:
            found.append(
                Component(f"weights of {Path(start).name}", UNKNOWN, "their terms are on their page")
            )
        else:
            found += components_of(before)
    for source in recipe.sources.values():
        found += _of_shards(source) if source.kind == "shards" else [SOURCES[source.kind]]
    return found


def _of_shards(source: ShardSource) -> list[Component]:
    """By all rows: those of a dataset that was put together may be made by several recipes. Others' may not tell."""
    tables = {"body_model": BODIES, "mesh_source": MESH_SOURCES, "flow": FLOWS}
    return [
        known(table, str(value), f"{name} of `{public_name(source.data)}`")
        for values in source.distinct(list(tables))
        for (name, table), value in zip(tables.items(), values, strict=True)
    ]


def public_name(place: str) -> str:
    """What strangers may read of a place: of a path that begins at the root or at home, its last part alone."""
    return Path(place).name if place.startswith(("/", "~")) or Path(place).is_absolute() else place


def _public(value: Any) -> Any:
    """A recipe without the paths of this machine."""
    if isinstance(value, dict):
        return {key: _public(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_public(inner) for inner in value]
    return public_name(value) if isinstance(value, str) else value


def last_evaluation(recipe: TrainingRecipe, history: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """The last one on the way, percent; None if nothing was judged. `history` is what the Trainer logged."""
    judged = [entry for entry in history if f"eval_{next(iter(FIGURES))}" in entry]
    if recipe.evaluation is None or not judged:
        return None
    last = judged[-1]
    return {
        "benchmark": recipe.evaluation.benchmark,
        "mode": recipe.evaluation.mode,
        "step": last["step"],
        "figures": {words: 100 * last[f"eval_{name}"] for name, words in FIGURES.items()},
    }
