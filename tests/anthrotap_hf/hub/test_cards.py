"""Cards: complete, consistent with the provenance, and with code that runs."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest
import yaml
from transformers import pipeline

from anthrotap_hf.hub import model as publishing_model
from anthrotap_hf.hub.errors import PublishError
from anthrotap_hf.hub.model import CARDS, prepare_model
from anthrotap_hf.pipelines import BUNDLED
from anthrotap_hf.utils.errors import AnthroTapError
from anthrotap_hf.utils.provenance import Provenance
from helpers.trackers import tiny_locotrack, tiny_tapnext

SECTIONS = ("Use", "Data", "Results", "Limits", "Intended use", "License")
SMALL = {"locotrack": tiny_locotrack, "tapnext": tiny_tapnext}


@pytest.fixture
def cards_of(tmp_path, monkeypatch):
    """`cards_of(name)`: the publication of a named card, its network stood in for by a small one of its kind."""

    def make(name: str, repo: str = "me/tracker"):
        kind, size = CARDS[name].kind, CARDS[name].size
        folder = tmp_path / name
        if name in BUNDLED:
            return prepare_model(BUNDLED[name], tmp_path / "saved", repo, card=name)
        model = SMALL[kind]()
        monkeypatch.setitem(publishing_model.LOCOTRACK_SIZES, model.num_parameters(), size)
        pipeline("point-tracking", model=model).save_pretrained(folder)
        return prepare_model(folder, tmp_path / "saved", repo, card=name)

    return make


@pytest.mark.parametrize("name", CARDS)
def test_every_card_is_complete_and_its_usage_runs(name, cards_of, tmp_path, make_video, monkeypatch):
    publication = cards_of(name, str(tmp_path / "loaded"))
    card = publication.card
    front = yaml.safe_load(card.split("---")[1])
    assert front["license"] in ("apache-2.0", "cc-by-nc-4.0")
    assert front["pipeline_tag"] == "keypoint-detection"
    assert "point-tracking" in front["tags"]
    headings = re.findall(r"^## (.+)$", card, re.MULTILINE)
    assert set(SECTIONS) <= set(headings)
    assert not re.search(r"\{\{|\{%|\n\n\n\n", card)
    shutil.copytree(tmp_path / "saved", tmp_path / "loaded")
    make_video("video.mp4", shots=[5], size=(64, 96))
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```python\n(.+?)```", card, re.DOTALL)
    assert len(blocks) == 1
    run: dict[str, object] = {}
    exec(blocks[0], run)
    assert run["found"]["tracks"].shape == (1, 5, 2)  # type: ignore[index]


def test_figures_of_the_paper_are_cited_as_such(cards_of):
    base = cards_of("anthro-locotrack-base")
    assert "not measured here" in base.card
    assert "| tapvid-davis, first | 64.8 | 77.3 | 89.1 |" in base.card
    entries = yaml.safe_load(base.files[".eval_results/tapvid-davis.yaml"])
    assert {entry["source"]["url"] for entry in entries} == {"https://arxiv.org/abs/2507.06233"}
    assert all("not measured here" in entry["notes"] for entry in entries)
    assert yaml.safe_load(base.card.split("---")[1])["license"] == "cc-by-nc-4.0"


def test_small_has_no_published_figures(cards_of):
    small = cards_of("anthro-locotrack-small")
    assert "Not evaluated" in small.card
    assert not any(name.startswith(".eval_results") for name in small.files)


def test_a_card_goes_with_weights_of_its_kind_only(tmp_path):
    with pytest.raises(PublishError, match=r"is LocoTrack base, these weights have 813,389 parameters: tiny"):
        prepare_model(BUNDLED["locotrack-tiny"], tmp_path / "a", card="anthro-locotrack-base")
    with pytest.raises(PublishError, match=r"is a tapnext, these weights are a locotrack"):
        prepare_model(BUNDLED["locotrack-tiny"], tmp_path / "a", card="anthro-tapnext")
    with pytest.raises(PublishError, match="no card is called mine"):
        prepare_model(BUNDLED["locotrack-tiny"], tmp_path / "a", card="mine")


def test_weights_learned_from_research_only_parts_are_not_for_commerce(tmp_path):
    folder = tmp_path / "model"
    shutil.copytree(BUNDLED["locotrack-tiny"], folder)
    provenance = json.loads((folder / "provenance.json").read_text())
    smpl = {"name": "SMPL body model", "license": "research-only", "terms": "non-commercial research"}
    (folder / "provenance.json").write_text(json.dumps(provenance | {"components": [smpl]}))
    card = prepare_model(folder, tmp_path / "a").card
    assert yaml.safe_load(card.split("---")[1])["license"] == "cc-by-nc-4.0"
    with pytest.raises(ValueError, match=r"SMPL body model is for non-commercial research"):
        prepare_model(folder, tmp_path / "b", license="mit")


def test_licensed_weights_and_models_that_are_no_tracker_are_rejected(tmp_path):
    folder = tmp_path / "model"
    folder.mkdir()
    with pytest.raises(PublishError, match="config"):
        prepare_model(folder, tmp_path / "a")
    (folder / "config.json").write_text('{"model_type": "tokenhmr"}')
    with pytest.raises(
        PublishError, match=r"TokenHMR's weights, licensed for research, which may not be redistributed"
    ):
        prepare_model(folder, tmp_path / "a")
    with pytest.raises(PublishError, match="no such folder"):
        prepare_model(Path("nowhere"), tmp_path / "a")


def test_weights_whose_terms_are_not_known_need_a_license(tmp_path):
    folder = tmp_path / "model"
    shutil.copytree(BUNDLED["locotrack-tiny"], folder)
    (folder / "provenance.json").unlink()
    with pytest.raises(PublishError, match="say under which license the weights may be published") as error:
        prepare_model(folder, tmp_path / "a")
    assert error.value.argument == "license"
    card = prepare_model(folder, tmp_path / "b", license="mit").card
    assert yaml.safe_load(card.split("---")[1])["license"] == "mit"


def test_a_damaged_provenance_is_rejected(tmp_path):
    folder = tmp_path / "model"
    shutil.copytree(BUNDLED["locotrack-tiny"], folder)
    for text in ("{", "[]", "{}", '{"components": [{"name": "x"}]}'):
        (folder / "provenance.json").write_text(text)
        with pytest.raises(AnthroTapError, match=r"provenance\.json: not the provenance of a training .* train again"):
            prepare_model(folder, tmp_path / "a")


def test_the_recipe_in_the_bundled_provenance_is_one_that_trains():
    config = pytest.importorskip("anthrotap_hf.training.config", reason="needs anthrotap[training]")
    provenance = Provenance.read(str(BUNDLED["locotrack-tiny"]))
    config.TrainingRecipe.model_validate(provenance.recipe)


@pytest.mark.parametrize(
    ("rows", "category"),
    [(0, "n<1K"), (999, "n<1K"), (1000, "1K<n<10K"), (10**6, "1M<n<10M"), (10**9, "10M<n<100M")],
)
def test_the_hub_s_size_categories(rows, category):
    from anthrotap_hf.hub.cards import _size_category

    assert _size_category(rows) == category
