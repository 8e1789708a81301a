"""Cards of datasets and trackers: the templates of `model_cards/`, filled with facts, and with nothing else."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import yaml

from anthrotap_hf.hub.licenses import RESEARCH_ONLY, Component, of_labels

_PACKAGE = Path(__file__).parents[1]
# Inside the package where it was installed; beside it in a clone.
TEMPLATES = next(
    (folder for folder in (_PACKAGE / "model_cards", _PACKAGE.parent / "model_cards") if folder.is_dir()),
    _PACKAGE / "model_cards",
)
HERE = "this folder or its name on the Hub"
TAGS = ["point-tracking", "anthrotap"]  # "point-tracking" is no task of the Hub's


def render(template: str, facts: Mapping[str, Any]) -> str:
    """A template of `model_cards/`, filled. Raises jinja2.UndefinedError for a fact that it needs and was not given."""
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        undefined=jinja2.StrictUndefined,
        autoescape=False,  # Markdown
        keep_trailing_newline=True,
    )
    return environment.get_template(f"{template}.md").render(facts)


def dataset_card(
    manifest: Mapping[str, Any], repo: str = HERE, picture: str | None = None, **published: Any
) -> str:
    """The card of a dataset as Markdown, with the Hub's front matter; `load_dataset` finds the splits by it.

    Args:
        manifest: of `anthrotap build` or `anthrotap label`.
        repo: what it is loaded by.
        picture: a file beside the card.
        published: what only publishing knows: `components` by the rows too, `license` of the labels,
            `video_licenses` (count, license, attribution
            each), `people` (what is known of their consent).
    """
    counts, splits = manifest["counts"], splits_of(manifest)
    label_only = manifest.get("label_only", False)
    title = "AnthroTAP point tracks on people"
    front: dict[str, Any] = {
        "pretty_name": title,
        **_license_entry(
            [published.get("license"), *(v["license"] for v in published.get("video_licenses", ()))]
        ),
        "task_categories": ["keypoint-detection"],
        "tags": [*TAGS, "video"],
        "size_categories": [_size(counts["clips"])],
        "configs": [
            {
                "config_name": "labels" if label_only else "default",
                "default": True,
                "data_files": [{"split": split, "path": f"data/{split}-*.parquet"} for split in splits],
            }
        ],
    }
    return render(
        "dataset",
        {
            **{name: value for name, value in manifest.items() if name in ("config", "counts", "videos")},
            "label_version": manifest["label_version"],
            "front": _yaml(front),
            "title": title,
            "repo": repo,
            "picture": picture,
            "made_by": "build" if "splits" in manifest and "videos" in manifest else "label",
            "label_only": label_only,
            "splits": splits,
            "first_split": next(iter(splits), "train"),
            "has_videos": "videos" in manifest,
            "labels": max(counts["visible"] + counts["occluded"] + counts["invalid"], 1),
            **published,
            "components": _told(published.get("components") or of_labels(manifest["config"])),
        },
    )


def splits_of(manifest: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Of each split its `rows`, and in a build `videos` and `tracks` too."""
    if "splits" in manifest:
        return dict(manifest["splits"])
    splits: dict[str, dict[str, Any]] = {}
    for file in manifest["files"]:
        split = Path(file["name"]).name.partition("-")[0]
        entry = splits.setdefault(split, {"rows": 0, "tracks": manifest["counts"]["tracks"]})
        entry["rows"] += file["rows"]
    return splits


def tracker_card(
    template: str,
    *,
    title: str,
    kind: str,
    parameters: int,
    components: Iterable[Component],
    about: str | None = None,
    repo: str = HERE,
    picture: str | None = None,
    training: Mapping[str, Any] | None = None,
    published: Iterable[Mapping[str, Any]] = (),
    results: Iterable[Mapping[str, Any]] = (),
    base_model: str | None = None,
    datasets: Iterable[str] = (),
    **more: Any,
) -> str:
    """The card of a tracker as Markdown, with the Hub's front matter.

    Args:
        template: of `model_cards/`, without its suffix.
        title, kind, parameters, about: what it is called, its type, size, and a sentence or two.
        components: what it was made of.
        repo: what it is loaded by.
        picture: a file beside the card.
        training: `training_facts` of its run.
        published: figures of the paper (`results.PUBLISHED`).
        results: reports of `anthrotap evaluate`, one model each (`results.read_report`).
        base_model, datasets: repositories that it came from.
        more: what else a template asks for: `license`, `size`, `people`.
    """
    front = {
        **_license_entry([more.get("license")]),
        "library_name": "transformers",
        "pipeline_tag": "keypoint-detection",
        "tags": [*TAGS, kind],
        **({} if base_model is None else {"base_model": base_model}),
        **({"datasets": sorted(datasets)} if datasets else {}),
    }
    facts = {"training": {**training, "yaml": _yaml(training["recipe"])}} if training is not None else {}
    return render(
        template,
        {
            "front": _yaml(front),
            "title": title,
            "kind": kind,
            "parameters": parameters,
            "about": about or "A tracker of points in video.",
            "repo": repo,
            "picture": picture,
            "components": _told(components),
            "published": list(published),
            "results": list(results),
            **facts,
            **more,
        },
    )


def _told(components: Iterable[Component]) -> list[dict[str, str]]:
    """Once each, in order."""
    return [
        asdict(each) | {"license": each.license.replace(RESEARCH_ONLY, "research only")}
        for each in dict.fromkeys(components)
    ]


def _license_entry(licenses: Iterable[str | None]) -> dict[str, str]:
    """The Hub's front matter for one license, or for several."""
    known = sorted({license for license in licenses if license is not None})
    if not known:
        return {}
    if len(known) == 1 and known[0] not in (RESEARCH_ONLY, "all-rights-reserved"):
        return {"license": known[0]}
    return {"license": "other", "license_name": "-and-".join(known), "license_link": "#license"}


def _size(rows: int) -> str:
    limits = [(1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M")]
    return next(
        (name for limit, name in limits if rows < limit), "1M<n<10M" if rows < 10_000_000 else "10M<n<100M"
    )


def _yaml(values: Mapping[str, Any]) -> str:
    return str(yaml.safe_dump(dict(values), sort_keys=False, allow_unicode=True)).strip()
