"""The card of a trained tracker: what it is, what it learned from, by which recipe, and how good it came out."""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import yaml

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from anthrotap_hf.training.recipe import TrainingRecipe

FIGURES = {
    "average_jaccard": "average Jaccard",
    "average_pts_within_thresh": "average delta",
    "occlusion_accuracy": "occlusion accuracy",
}


def model_card(recipe: TrainingRecipe, history: Sequence[Mapping[str, Any]], model: PreTrainedModel) -> str:
    """The card as Markdown, with the Hub's front matter ("point-tracking" is no task of the Hub's).

    Args:
        recipe: what the model was trained by.
        history: what the Trainer logged.
        model: the trained model.
    """
    front = {
        "library_name": "transformers",
        "pipeline_tag": "keypoint-detection",
        "tags": ["point-tracking", "anthrotap", recipe.model.type],
    }
    start = "from nothing" if recipe.model.start is None else f"from `{recipe.model.start}`"
    sources = "\n".join(
        f"| {name} | {source.kind} | {source.weight:g} | {source.sample.num_frames} frames, "
        f"{source.sample.num_queries} queries, {source.sample.width}x{source.sample.height} |"
        for name, source in recipe.sources.items()
    )
    return f"""---
{yaml.safe_dump(front, sort_keys=False).strip()}
---

# {recipe.name}

{recipe.about or "A tracker of points in video."}

A {recipe.model.type} of {model.num_parameters():,} parameters, trained {start} for {recipe.steps:,} steps.

```python
import anthrotap_hf
from transformers import pipeline

tracker = pipeline("point-tracking", model="this folder or its name on the Hub")
found = tracker("video.mp4", points=[[0, 320.5, 180.5]])  # t, x, y -> tracks, visible, scores
```

## Data

| source | kind | weight | samples |
|---|---|---|---|
{sources}

## Figures

{_figures(recipe, history)}

## Recipe

    anthrotap train recipe.yaml --out DIR

```yaml
{yaml.safe_dump(recipe.model_dump(mode="json"), sort_keys=False).strip()}
```

Written by anthrotap {version("anthrotap")} with torch {version("torch")}, transformers {version("transformers")} and
Python {platform.python_version()}.
"""


def _figures(recipe: TrainingRecipe, history: Sequence[Mapping[str, Any]]) -> str:
    judged = [entry for entry in history if f"eval_{next(iter(FIGURES))}" in entry]
    if recipe.evaluation is None or not judged:
        return "Nothing was judged during training: `anthrotap evaluate --model ...` does."
    last = judged[-1]
    rows = "\n".join(f"| {words} | {100 * last[f'eval_{name}']:.1f} |" for name, words in FIGURES.items())
    return (
        f"`{recipe.evaluation.benchmark}`, mode *{recipe.evaluation.mode}*, 256x256, at step {last['step']:,}:\n\n"
        f"| | % |\n|---|---|\n{rows}"
    )
