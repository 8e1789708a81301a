"""A tracker for the Hub: its weights, the code that runs it without this package, and a card."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from anthrotap_hf.evaluation.runner import EvaluatedModel
from anthrotap_hf.hub.cards import THIS_FOLDER, TrackerCard
from anthrotap_hf.hub.errors import PublishError
from anthrotap_hf.hub.license_files import check_no_licensed_files
from anthrotap_hf.hub.licenses import COMPONENTS, choose_license
from anthrotap_hf.hub.results import published_results, read_report, result_files
from anthrotap_hf.hub.upload import Publication, other_files
from anthrotap_hf.pipelines import TrackerError, load_tracker
from anthrotap_hf.utils.provenance import PROVENANCE_FILE, UNKNOWN, Component, Provenance

if TYPE_CHECKING:
    from transformers import Pipeline

LOCOTRACK_SIZES = {580_237: "tiny", 813_389: "tiny", 8_236_133: "small", 11_519_717: "base"}
"""Names of LocoTrack's sizes, by the number of parameters."""


@dataclass(frozen=True)
class NamedCard:
    """A card for weights of a known name.

    Attributes:
        template: The template in `model_cards/`.
        title: The tracker's name.
        kind: The model type that the weights must have.
        size: The name in `LOCOTRACK_SIZES` that they must have; None for other kinds.
    """

    template: str
    title: str
    kind: str
    size: str | None = None

    def check(self, name: str, tracker: Pipeline) -> None:
        """Raise PublishError if a tracker is not of this kind and size."""
        found, parameters = tracker.model.config.model_type, tracker.model.num_parameters()
        if found != self.kind:
            raise PublishError(f"{name} is a {self.kind}, these weights are a {found}", argument="card")
        size = LOCOTRACK_SIZES.get(parameters, "none of the known sizes")
        if self.size is not None and size != self.size:
            raise PublishError(
                f"{name} is LocoTrack {self.size}, these weights have {parameters:,} parameters: {size}",
                argument="card",
            )


CARDS = {
    "anthro-locotrack-small": NamedCard("anthro-locotrack", "Anthro-LocoTrack small", "locotrack", "small"),
    "anthro-locotrack-base": NamedCard("anthro-locotrack", "Anthro-LocoTrack base", "locotrack", "base"),
    "anthro-tapnext": NamedCard("anthro-tapnext", "Anthro-TAPNext", "tapnext"),
    "locotrack-tiny": NamedCard("locotrack-tiny", "LocoTrack-tiny", "locotrack", "tiny"),
}


def prepare_model(
    folder: Path,
    staging: Path,
    repo: str = THIS_FOLDER,
    *,
    card: str | None = None,
    license: str | None = None,
    reports: Sequence[Path] = (),
    about: str | None = None,
) -> Publication:
    """Collect what is published of a tracker's folder. The tracker is saved again, with its code.

    Args:
        folder: A folder of `anthrotap train` (its `model`), of `anthrotap convert`, or a saved pipeline.
        staging: An empty folder for the saved tracker; keep it until the upload has ended.
        repo: The repository's name, for the card.
        card: A name in `CARDS`, for weights of that name; None for a card made of the provenance.
        license: The license of the weights, an identifier of the Hub; None for that of the weights that they were
            trained from, apache-2.0 where there are none, or cc-by-nc-4.0 where a component is non-commercial.
        reports: Reports of `anthrotap evaluate` on these weights.
        about: A sentence or two for the card.

    Raises:
        PublishError: if it is not a tracker of this package, or may not be published under this license.
        AnthroTapError: if a report or the provenance can't be read.
    """
    if not folder.is_dir():
        raise PublishError("no such folder", path=folder)
    check_no_licensed_files(folder)
    try:
        tracker = load_tracker(str(folder))
    except TrackerError as error:
        raise PublishError(error.reason, path=error.path, hint=error.hint) from error
    provenance = Provenance.read(str(folder))
    kind, parameters = tracker.model.config.model_type, tracker.model.num_parameters()
    components = _components(card, provenance, kind, folder)
    license = choose_license(license, components, "apache-2.0", "weights")
    key = EvaluatedModel.of(str(folder), tracker).key
    results = [read_report(path, key) for path in reports]
    published = published_results(card)

    tracker.save_pretrained(staging)
    saved = (path for path in sorted(staging.rglob("*")) if path.is_file())
    files: dict[str, Path | bytes] = {path.relative_to(staging).as_posix(): path for path in saved}
    files |= result_files(published, results)
    if provenance is not None:
        files[PROVENANCE_FILE] = folder / PROVENANCE_FILE
    files["README.md"] = (
        TrackerCard(
            **_identity(card, tracker, provenance, about, repo),
            kind=kind,
            parameters=parameters,
            components=components,
            license=license,
            repo=repo,
            provenance=provenance,
            published=published,
            results=results,
        )
        .render()
        .encode()
    )
    notes = [
        f"no dataset of the Hub is known for {report['benchmark']}: its results are in the card only"
        for report in results
        if f".eval_results/{report['benchmark']}.yaml" not in files
    ]
    exclusive = ("*.safetensors", ".eval_results/*")
    return Publication("model", files, exclusive, other_files(folder, files), notes)


def _identity(
    card: str | None, tracker: Pipeline, provenance: Provenance | None, about: str | None, repo: str
) -> dict[str, Any]:
    """Return the `template`, `title`, `about` and `size` of a card: of a named one, or by the provenance."""
    if card is None:
        recipe = {} if provenance is None else provenance.recipe
        about = about or recipe.get("about")
        title = recipe.get("name", repo.rpartition("/")[2])
        return {"template": "tracker", "title": title} | ({"about": about} if about else {})
    if card not in CARDS:
        raise PublishError(f"no card is called {card}", hint=f"known: {', '.join(CARDS)}", argument="card")
    if about is not None:
        raise PublishError(f"the card {card} has its own text", argument="about")
    named = CARDS[card]
    named.check(card, tracker)
    return {"template": named.template, "title": named.title, "size": named.size}


def _components(card: str | None, provenance: Provenance | None, kind: str, folder: Path) -> Sequence[Component]:
    """Return what a tracker is made of: by its provenance, else by what is known of weights of its name."""
    if provenance is not None:
        return provenance.components
    sources, weights = COMPONENTS["training_sources"], COMPONENTS["released_weights"]
    if card is not None and card.startswith("anthro-"):
        return [weights["anthrotap"], weights[kind], sources["panning-movi-e"], sources["letsdance"]]
    if kind in weights and weights[kind].is_non_commercial:
        return [weights[kind]]
    if kind == "flowchain":
        return [COMPONENTS["flows"]["dis"]]
    terms = "without provenance, their terms are not known"
    return [Component(f"weights of {folder.name}", UNKNOWN, terms, is_weights=True)]
