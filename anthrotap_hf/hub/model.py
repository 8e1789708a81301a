"""A tracker for the Hub: its weights, the code that runs it anywhere, and a card of what is known of it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from anthrotap_hf.hub import licenses
from anthrotap_hf.hub.cards import HERE, TEMPLATES, tracker_card
from anthrotap_hf.hub.license_files import licensed_files
from anthrotap_hf.hub.results import published, read_report, result_files
from anthrotap_hf.hub.upload import Publication, PublishError
from anthrotap_hf.utils.hub_names import is_repository, split_revision

if TYPE_CHECKING:
    from transformers import Pipeline

PICTURE = "tracks.jpg"
# Cards by name: template, title, model type, and for LocoTrack the size that the weights must be of.
CARDS: dict[str, tuple[str, str, str, str | None]] = {
    "anthro-locotrack-small": ("anthro-locotrack", "Anthro-LocoTrack small", "locotrack", "small"),
    "anthro-locotrack-base": ("anthro-locotrack", "Anthro-LocoTrack base", "locotrack", "base"),
    "anthro-tapnext": ("anthro-tapnext", "Anthro-TAPNext", "tapnext", None),
    "locotrack-tiny": ("locotrack-tiny", "LocoTrack-tiny", "locotrack", "tiny"),
}
SIZES = {580_237: "tiny", 8_236_133: "small", 11_519_717: "base"}  # LocoTrack's, by parameters


def prepare_model(
    folder: Path,
    staging: Path,
    repo: str = HERE,
    *,
    card: str | None = None,
    license: str | None = None,
    reports: Sequence[Path] = (),
    about: str | None = None,
) -> Publication:
    """What goes up of a tracker's folder, which is saved anew with its code.

    Args:
        folder: of `anthrotap train` (its `model`), `anthrotap convert`, or a saved pipeline.
        staging: an empty folder for what is saved; to be kept until all is up.
        repo: what the card calls it.
        card: one of `CARDS`, for weights of that name; else the card tells what `training.json` knows.
        license: of the weights, the Hub's identifier; default: apache-2.0, or cc-by-nc-4.0 where a part of what it
            learned from is for research only.
        reports: of `anthrotap evaluate`, on these very weights.
        about: a sentence or two for the card.

    Raises:
        PublishError: if it is no tracker of ours, or may not be passed on under this license.
        ValueError: if a report or the facts can't be read.
    """
    from anthrotap_hf.cli.common import load_tracker
    from anthrotap_hf.evaluation.runner import EvaluatedModel
    from anthrotap_hf.hub.provenance import FACTS_FILE, read_facts

    if not folder.is_dir():
        raise PublishError(f"{folder}: no such folder")
    if found := licensed_files(folder):
        raise PublishError(found[0])
    try:
        tracker = load_tracker(str(folder), "cpu")
    except ValueError as error:
        raise PublishError(str(error).removeprefix("--model ")) from error
    facts = read_facts(str(folder))
    kind, parameters = tracker.model.config.model_type, tracker.model.num_parameters()
    parts = _components(card, facts, kind, folder)
    license = licenses.license_for(license, parts, "apache-2.0", "weights")
    results = [read_report(path, EvaluatedModel.of(str(folder), tracker).key) for path in reports]
    more: dict[str, Any] = {}
    if card is None:
        template, title = "tracker", facts["recipe"]["name"] if facts else repo.rpartition("/")[2]
        more["about"] = about or (facts and facts["recipe"].get("about"))
    else:
        if about is not None:
            raise PublishError(f"--about does not go with --card {card}, which says what it is")
        template, title, more["size"] = _named_card(card, tracker)
    base, datasets = _origins(facts)
    tracker.save_pretrained(staging)
    files: dict[str, Path | bytes] = {
        path.relative_to(staging).as_posix(): path for path in sorted(staging.rglob("*")) if path.is_file()
    }
    paper = published(card or "")
    files |= result_files(paper, results)
    if facts is not None:
        files[FACTS_FILE] = folder / FACTS_FILE
    files[PICTURE] = TEMPLATES / PICTURE
    files["README.md"] = tracker_card(
        template,
        title=title,
        kind=kind,
        parameters=parameters,
        components=parts,
        repo=repo,
        picture=PICTURE,
        training=facts,
        published=paper,
        results=results,
        base_model=base,
        datasets=datasets,
        license=license,
        **more,
    ).encode()
    stays = [
        path.relative_to(folder).as_posix() for path in sorted(folder.iterdir()) if path.name not in files
    ]
    notes = [
        f"no dataset of the Hub is known for {report['benchmark']}: its results stand in the card alone"
        for report in results
        if f".eval_results/{report['benchmark']}.yaml" not in files
    ]
    return Publication("model", files, ("*.safetensors", ".eval_results/*"), stays, notes)


def _named_card(card: str, tracker: Pipeline) -> tuple[str, str, str | None]:
    """Template, title and size. Raises PublishError if the weights are not of that kind."""
    if card not in CARDS:
        raise PublishError(f"no card is called {card}: {', '.join(CARDS)}")
    template, title, kind, size = CARDS[card]
    found = tracker.model.config.model_type
    if found != kind:
        raise PublishError(f"--card {card} is for a {kind}, and this is a {found}")
    parameters = tracker.model.num_parameters()
    if size is not None and SIZES.get(parameters) != size:
        raise PublishError(
            f"--card {card} is for LocoTrack {size}, and this has {parameters:,} parameters: "
            f"{SIZES.get(parameters, 'none of the known sizes')}"
        )
    return template, title, size


def _components(
    card: str | None, facts: dict[str, Any] | None, kind: str, folder: Path
) -> list[licenses.Component]:
    from anthrotap_hf.hub.provenance import components_of

    if facts is not None:
        return components_of(facts)
    if card is not None and card.startswith("anthro-"):
        return [
            licenses.Component(
                "weights of AnthroTAP's authors",
                "apache-2.0",
                "cvlab-kaist/AnthroTAP: look at its license file",
            ),
            licenses.STARTS[kind],
            licenses.SOURCES["panning-movi-e"],
            licenses.SOURCES["letsdance"],
        ]
    if kind == "flowchain":
        return [licenses.FLOWS["dis"]]
    return [
        licenses.Component(
            f"weights of {folder.name}",
            licenses.UNKNOWN,
            "they came without a record: their terms are not known here",
        )
    ]


def _origins(facts: dict[str, Any] | None) -> tuple[str | None, list[str]]:
    """Repositories of the Hub that it started from and learned from, for the front matter."""
    if facts is None:
        return None, []
    start = facts["start"]
    base = start.partition("@")[0] if start is not None and "@" in start else None
    named = [source.get("data", "") for source in facts["recipe"]["sources"].values()]
    datasets = [split_revision(name)[0] for name in named if is_repository(name)]
    return base, datasets
