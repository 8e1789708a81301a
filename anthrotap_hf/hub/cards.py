"""Cards of datasets and trackers: the templates of `model_cards/`, with the Hub's front matter."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from anthrotap_hf.hub.licenses import RESEARCH_ONLY, Component, components_of_config
from anthrotap_hf.utils.atomic_files import atomic_write

if TYPE_CHECKING:
    from anthrotap_hf.utils.provenance import Provenance

_PACKAGE = Path(__file__).parents[1]
# Inside the package where it was installed, beside it in a clone.
TEMPLATES = next(
    (folder for folder in (_PACKAGE / "model_cards", _PACKAGE.parent / "model_cards") if folder.is_dir()),
    _PACKAGE / "model_cards",
)
THIS_FOLDER = "this folder or its name on the Hub"
TAGS = ["point-tracking", "anthrotap"]  # "point-tracking" is not a task of the Hub
_SIZES = ("n<1K", "1K<n<10K", "10K<n<100K", "100K<n<1M", "1M<n<10M", "10M<n<100M")


def render(template: str, values: Mapping[str, Any]) -> str:
    """Render a template of `model_cards/`. Raises jinja2.UndefinedError if a value that it needs is missing."""
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        undefined=jinja2.StrictUndefined,
        autoescape=False,  # Markdown
        keep_trailing_newline=True,
    )
    return environment.get_template(f"{template}.md").render(values)


@dataclass(frozen=True)
class DatasetTerms:
    """Under which terms a dataset is published.

    Attributes:
        license: The license of the labels.
        video_licenses: `count`, `license` and `attribution` for each license of videos.
        components: What the labels are made with, by manifest and rows.
        people: What is known of the consent of the people in the videos, and where to write.
    """

    license: str
    video_licenses: Sequence[Mapping[str, Any]]
    components: Sequence[Component]
    people: str | None = None


def write_dataset_card(folder: Path) -> None:
    """Write the card `README.md` of a dataset that `anthrotap build` or `label` wrote into a folder.

    Raises:
        OSError: if there is no manifest, or the card can't be written.
    """
    manifest = json.loads((folder / "manifest.json").read_text("utf-8"))
    with atomic_write(folder / "README.md") as tmp_path:
        tmp_path.write_text(dataset_card(manifest), encoding="utf-8")


def dataset_card(
    manifest: Mapping[str, Any],
    repo: str = THIS_FOLDER,
    picture: str | None = None,
    terms: DatasetTerms | None = None,
) -> str:
    """Render the card of a dataset as Markdown. `load_dataset` finds the splits by its front matter.

    Args:
        manifest: The manifest of `anthrotap build` or `label`.
        repo: The name by which the dataset is loaded.
        picture: A file beside the card.
        terms: The terms of a published dataset; None before it is published.
    """
    counts, splits = manifest["counts"], _splits(manifest)
    label_only = manifest.get("label_only", False)
    title = "AnthroTAP point tracks on people"
    licenses = [] if terms is None else [terms.license, *(each["license"] for each in terms.video_licenses)]
    front: dict[str, Any] = {
        "pretty_name": title,
        **_license_entry(licenses),
        "task_categories": ["keypoint-detection"],
        "tags": [*TAGS, "video"],
        "size_categories": [_size_category(counts["clips"])],
        "configs": [
            {
                "config_name": "labels" if label_only else "default",
                "default": True,
                "data_files": [{"split": split, "path": f"data/{split}-*.parquet"} for split in splits],
            }
        ],
    }
    components = components_of_config(manifest["config"]) if terms is None else terms.components
    values = {
        "front": _yaml(front),
        "title": title,
        "repo": repo,
        "picture": picture,
        "made_by": "build" if "videos" in manifest else "label",
        "label_only": label_only,
        "label_version": manifest["label_version"],
        "config": manifest["config"],
        "counts": counts,
        "labels": max(counts["visible"] + counts["occluded"] + counts["invalid"], 1),
        "splits": splits,
        "first_split": next(iter(splits), "train"),
        "videos": manifest.get("videos"),
        "components": _component_rows(components),
        "terms": terms,
    }
    return render("dataset", values)


def _splits(manifest: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the `rows` and `tracks` of each split, and of a build the `videos` too."""
    if "splits" in manifest:
        return dict(manifest["splits"])
    splits: dict[str, dict[str, Any]] = {}
    for file in manifest["files"]:
        split = Path(file["name"]).name.partition("-")[0]
        entry = splits.setdefault(split, {"rows": 0, "tracks": manifest["counts"]["tracks"]})
        entry["rows"] += file["rows"]
    return splits


@dataclass(frozen=True, kw_only=True)
class TrackerCard:
    """The content of a tracker's card.

    Attributes:
        template: The template in `model_cards/`, without its suffix.
        title: The tracker's name.
        kind: Its model type.
        parameters: How many it has.
        components: What it is made of.
        license: The license of the weights.
        about: A sentence or two.
        size: The name of its size, for templates that state it.
        repo: The name by which it is loaded.
        provenance: What it was trained with, where that is known.
        published: Results of the paper (`published_results`).
        results: Results measured by `anthrotap evaluate` (`read_report`).
    """

    template: str
    title: str
    kind: str
    parameters: int
    components: Sequence[Component]
    license: str
    about: str = "A point tracker for videos."
    size: str | None = None
    repo: str = THIS_FOLDER
    provenance: Provenance | None = None
    published: Sequence[Mapping[str, Any]] = ()
    results: Sequence[Mapping[str, Any]] = ()

    def render(self) -> str:
        """Return the card as Markdown, with the Hub's front matter."""
        provenance = self.provenance
        front = {
            **_license_entry([self.license]),
            "library_name": "transformers",
            "pipeline_tag": "keypoint-detection",
            "tags": [*TAGS, self.kind],
        }
        if provenance is not None and provenance.base_model is not None:
            front["base_model"] = provenance.base_model
        if provenance is not None and provenance.datasets:
            front["datasets"] = provenance.datasets
        values = {
            **vars(self),
            # Converted weights have no recipe to tell of.
            "provenance": provenance if provenance is not None and provenance.recipe else None,
            "front": _yaml(front),
            "components": _component_rows(self.components),
            "recipe_yaml": "" if provenance is None else _yaml(provenance.recipe),
        }
        return render(self.template, values)


def _component_rows(components: Iterable[Component]) -> list[dict[str, str]]:
    """Return the rows of the components' table, each component once."""
    return [
        asdict(each) | {"license": each.license.replace(RESEARCH_ONLY, "research only")}
        for each in dict.fromkeys(components)
    ]


def _license_entry(licenses: Iterable[str]) -> dict[str, str]:
    """Return the Hub's front matter for one license, or for several."""
    names = sorted(set(licenses))
    if not names:
        return {}
    if len(names) == 1 and names[0] not in (RESEARCH_ONLY, "all-rights-reserved"):
        return {"license": names[0]}
    return {"license": "other", "license_name": "-and-".join(names), "license_link": "#license"}


def _size_category(rows: int) -> str:
    digits = len(str(rows))
    return _SIZES[min(max(digits - 3, 0), len(_SIZES) - 1)]


def _yaml(values: Mapping[str, Any]) -> str:
    return str(yaml.safe_dump(dict(values), sort_keys=False, allow_unicode=True)).strip()
