"""The options of `anthrotap train`: what they change in a recipe."""

from __future__ import annotations

import os

import pytest
from typer.testing import CliRunner

pytest.importorskip("accelerate", reason="needs the extra: pip install 'anthrotap[training]'")

from anthrotap_hf.cli.main import app
from anthrotap_hf.models.checkpoints import checkpoints
from anthrotap_hf.pipelines import BUNDLED
from anthrotap_hf.training.config import TrainingRecipe


@pytest.fixture
def train(tmp_path, monkeypatch):
    """`train(*arguments)`: run the command without training; return its result and the recipe that would be trained."""
    trained: list[TrainingRecipe] = []

    def stand_in(recipe, out, *_):
        trained.append(recipe)
        (out / "model").mkdir(parents=True)
        return out / "model"

    def run(*arguments: str):
        trained.clear()
        monkeypatch.setattr("anthrotap_hf.training.trainer.train", stand_in)
        result = CliRunner().invoke(app, ["train", *arguments, "--out", str(tmp_path / "out")])
        return result, trained[0] if trained else None

    return run


def test_options_change_the_recipe_and_win_over_settings(train):
    arguments = ["--data", "labels", "--steps", "7", "--set", "steps=9", "--set", "sources.people.data=other"]
    result, recipe = train("tiny-finetune", *arguments)
    assert result.exit_code == 0, result.output
    assert (recipe.steps, recipe.sources["people"].data) == (7, "labels")


def test_labels_go_to_the_one_source_of_labels_whatever_it_is_called(train):
    _, recipe = train("locotrack-b-mesh", "--data", "mine")
    assert recipe.sources["labels"].data == "mine"
    assert recipe.sources["kubric"].data != "mine"


def test_a_tracker_by_name_is_what_it_starts_from(train):
    _, recipe = train("bootstapir-people", "--model", "bootstapir-online", "--set", "model.start=other")
    assert (recipe.model.type, recipe.model.start) == ("tapir", "bootstapir-online")


@pytest.mark.parametrize("name", [*BUNDLED, *checkpoints()])
def test_without_a_recipe_that_of_the_trackers_architecture_is_taken(train, name):
    result, recipe = train("--model", name, "--data", "mine")
    if name == "flowchain":
        assert "--model flowchain: no recipe fine-tunes a flowchain" in result.stderr
        return
    assert result.exit_code == 0, result.stderr
    labels, other = recipe.sources.values()
    assert {labels.kind, other.kind} == {"shards", "procedural"}
    assert "mine" in (getattr(labels, "data", None), getattr(other, "data", None))
    known = checkpoints().get(name)
    assert (recipe.model.type, recipe.model.start) == (known.architecture if known else "locotrack", name)
    wide = {"alltracker": 512, "cotracker3": 512}.get(recipe.model.type, 256)
    width = {"locotrack-tiny": 192, "tapnextpp-512": 512}.get(name, wide)
    assert {labels.sample.width, other.sample.width} == {width}
    taken = {"locotrack-tiny": "tiny", "tapnextpp-512": "tapnext-512"}.get(name, recipe.model.type)
    assert f"no RECIPE: {taken}-finetune is taken, which fine-tunes trackers like {name}" in result.stderr


def test_neither_a_recipe_nor_a_tracker_is_an_error(train, tmp_path):
    result, _ = train("--data", "mine")
    assert (result.exit_code, result.stderr) == (2, "no RECIPE; name one, or --model, a tracker to fine-tune\n")
    result, _ = train("--model", str(tmp_path / "nowhere"))
    assert "nowhere: no tracker of that name, no such folder" in result.stderr


def test_a_recipe_without_labels_takes_none(train):
    result, recipe = train("tiny-procedural", "--data", "labels")
    assert (result.exit_code, recipe) == (2, None)
    assert "--data: the recipe tiny-procedural must have one source of kind shards; it has none" in result.stderr


def test_the_device_is_the_trainer_s(train, monkeypatch):
    _, recipe = train("tiny-procedural", "--device", "cpu")
    assert recipe.training["use_cpu"] is True
    result, recipe = train("tiny-procedural", "--device", "nonsense")
    assert (result.exit_code, recipe) == (2, None)
    assert "--device nonsense: can't be used on this machine" in result.stderr
    monkeypatch.setattr("anthrotap_hf.utils.devices.check_device", lambda name: None)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    _, recipe = train("tiny-procedural", "--device", "cuda:1")
    assert recipe.training["use_cpu"] is False
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "1"


def test_a_numbered_device_counts_the_visible_gpus_and_is_for_one_process(train, monkeypatch):
    monkeypatch.setattr("anthrotap_hf.utils.devices.check_device", lambda name: None)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,GPU-7f")
    train("tiny-procedural", "--device", "cuda:1")
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "GPU-7f"
    for listed, device, processes, reason in (
        ("4,7", "cuda:2", "1", "there is no such GPU: CUDA_VISIBLE_DEVICES=4,7 has 2"),
        ("", "cuda:0", "1", "there is no such GPU: CUDA_VISIBLE_DEVICES= has 0"),
        ("4,7", "cuda:first", "1", "not a GPU's number"),
        ("4,7", "cuda:0", "2", "a numbered device can't be used by several processes"),
    ):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", listed)
        monkeypatch.setenv("WORLD_SIZE", processes)
        result, recipe = train("tiny-procedural", "--device", device)
        assert (result.exit_code, recipe) == (2, None)
        assert f"--device {device}: {reason}" in result.stderr
        assert os.environ["CUDA_VISIBLE_DEVICES"] == listed
    _, recipe = train("tiny-procedural", "--device", "cuda")
    assert recipe.training["use_cpu"] is False
