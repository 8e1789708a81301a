"""Training runs: whole, stopped and resumed, rejected; on clips and networks that take seconds."""

import inspect
import json
import os
import pickle
import re
import shutil
import signal
import subprocess
import sys
import time
from contextlib import contextmanager

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load_file
from transformers import pipeline
from typer.testing import CliRunner

from helpers.shard_rows import some_rows

pytest.importorskip("accelerate", reason="needs the extra: pip install 'anthrotap[training]'")

from anthrotap_hf.cli.main import app
from anthrotap_hf.data.shard_reader import ShardReader
from anthrotap_hf.hub.model import prepare_model
from anthrotap_hf.models import TRACKERS
from anthrotap_hf.readers.base import DatasetError
from anthrotap_hf.training import mixture
from anthrotap_hf.training import trainer as training
from anthrotap_hf.training.config import RECIPES, TrainingRecipe, training_recipe
from anthrotap_hf.training.losses import LOSSES
from anthrotap_hf.training.mixture import TooManyBadSamplesError
from anthrotap_hf.training.resume import TrainingError, find_checkpoint
from anthrotap_hf.training.trainer import TrackerTrainer, train
from anthrotap_hf.utils.provenance import Provenance

TINY = {
    "name": "tiny",
    "model": {
        "type": "locotrack",
        "config": {
            "stage_channels": [16, 16, 16, 16],
            "stage_blocks": [1, 1, 1, 1],
            "hidden_size": 16,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
            "correlation_channels": [16],
            "correlation_kernels": [3],
            "correlation_strides": [2],
            "num_iterations": 1,
            "support_radius": 1,
            "initial_resolution": [32, 32],
        },
    },
    "sources": {
        "shapes": {
            "kind": "procedural",
            "settings": {"num_frames": 4, "height": 40, "width": 40, "num_tracks": 32},
            "sample": {
                "num_frames": 4,
                "dilation": 1,
                "num_queries": 4,
                "height": 32,
                "width": 32,
                "min_visible": 1,
                "affine": None,
            },
        }
    },
    "steps": 6,
    "training": {"save_steps": 2, "logging_steps": 1, "disable_tqdm": True, "use_cpu": True},
}
TINY_TAPNEXT = {
    "type": "tapnext",
    "config": {
        "image_size": 32,
        "patch_size": 8,
        "hidden_size": 32,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "recurrent_size": 32,
    },
}


def recipe_with(**changes) -> TrainingRecipe:
    return TrainingRecipe.model_validate({**TINY, **changes})


def weights(folder) -> dict[str, torch.Tensor]:
    return load_file(folder / "model.safetensors")


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory):
    """The folder of a run of six steps."""
    out = tmp_path_factory.mktemp("unbroken")
    train(recipe_with(), out)
    return out


def test_the_trained_model_tracks(unbroken):
    tracker = pipeline("point-tracking", model=str(unbroken / "model"))
    found = tracker(np.zeros((5, 48, 64, 3), np.uint8), points=[[0, 20.5, 10.5]])
    assert found["tracks"].shape == (1, 5, 2)


def test_the_published_card_has_recipe_and_sources(unbroken, tmp_path):
    card = prepare_model(unbroken / "model", tmp_path / "staging").card
    front = yaml.safe_load(card.split("---")[1])
    assert front["pipeline_tag"] == "keypoint-detection"
    assert "point-tracking" in front["tags"]
    block = card.split("```yaml\n")[1].split("```")[0]
    assert TrainingRecipe.model_validate(yaml.safe_load(block)) == recipe_with()


def test_losses_are_logged_by_source_and_part(unbroken):
    state = json.loads((unbroken / "checkpoint-6/trainer_state.json").read_text())
    assert {"shapes/position", "shapes/visibility", "skipped_clips"} <= state["log_history"][0].keys()


def test_a_stopped_run_ends_where_an_unbroken_one_does(unbroken, tmp_path, monkeypatch):
    compute, calls = TrackerTrainer.compute_loss, []

    def stop_at_the_fifth(self, *arguments, **options):
        calls.append(0)
        if len(calls) == 5:
            raise KeyboardInterrupt
        return compute(self, *arguments, **options)

    monkeypatch.setattr(TrackerTrainer, "compute_loss", stop_at_the_fifth)
    with pytest.raises(KeyboardInterrupt):
        train(recipe_with(), tmp_path)
    assert find_checkpoint(tmp_path, recipe_with(), 1, write=False).name == "checkpoint-4"
    messages = []
    train(recipe_with(), tmp_path, messages.append)
    assert "checkpoint-4" in messages[0]
    assert len(calls) == 5 + 2
    for name, tensor in weights(unbroken / "model").items():
        assert torch.equal(tensor, weights(tmp_path / "model")[name]), name


def test_a_signal_ends_a_run_after_the_step_at_hand_with_a_checkpoint(unbroken, tmp_path, monkeypatch):
    calls = []

    @contextmanager
    def held(long):
        yield lambda: len(calls) == 3
        raise KeyboardInterrupt

    compute = TrackerTrainer.compute_loss
    monkeypatch.setattr(training, "uninterrupted", held)
    monkeypatch.setattr(TrackerTrainer, "compute_loss", lambda *a, **k: calls.append(0) or compute(*a, **k))
    with pytest.raises(KeyboardInterrupt):
        train(recipe_with(), tmp_path)
    assert find_checkpoint(tmp_path, recipe_with(), 1, write=False).name == "checkpoint-3"
    monkeypatch.undo()
    train(recipe_with(), tmp_path)
    for name, tensor in weights(unbroken / "model").items():
        assert torch.equal(tensor, weights(tmp_path / "model")[name]), name


STOPPED_BY_THE_TERMINAL = """
import json, os, pathlib, signal, subprocess, sys
from anthrotap_hf.training import trainer
from anthrotap_hf.training.config import TrainingRecipe
from anthrotap_hf.utils.stop_signals import stopped_by_signals
compute, calls = trainer.TrackerTrainer.compute_loss, []
def compute_loss(*arguments, **options):
    calls.append(0)
    if len(calls) == 3:
        code = f"import os; os.killpg({os.getpgid(0)}, {sys.argv[3]})"
        subprocess.run([sys.executable, "-c", code], start_new_session=True, check=True)
    return compute(*arguments, **options)
trainer.TrackerTrainer.compute_loss = compute_loss
for number in (signal.SIGINT, signal.SIGHUP):
    signal.signal(number, signal.SIG_DFL)
with stopped_by_signals():
    try:
        trainer.train(TrainingRecipe.model_validate(json.loads(sys.argv[1])), pathlib.Path(sys.argv[2]))
    except KeyboardInterrupt:
        print("stopped")
"""


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP, signal.SIGTERM])
def test_a_signal_to_all_processes_stops_a_run_with_workers(tmp_path, number):
    """So do the terminal with Ctrl-C, and systemd, Slurm and `kill -TERM -PGID`: the last step gets a checkpoint."""
    recipe = recipe_with(steps=50, training={**TINY["training"], "dataloader_num_workers": 2, "save_steps": 50})
    command = [sys.executable, "-c", STOPPED_BY_THE_TERMINAL, recipe.model_dump_json(), str(tmp_path), str(int(number))]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    run = subprocess.run(command, capture_output=True, text=True, env=environment, start_new_session=True, check=False)
    assert run.stdout.splitlines()[-1] == "stopped", run.stderr
    assert find_checkpoint(tmp_path, recipe, 1, write=False).name == "checkpoint-3"


FAILED_IN_A_STEP = """
import json, pathlib, sys
from anthrotap_hf.training import trainer
from anthrotap_hf.training.config import TrainingRecipe
def compute_loss(*_, **__):
    raise OSError("the disk is full")
trainer.TrackerTrainer.compute_loss = compute_loss
trainer.train(TrainingRecipe.model_validate(json.loads(sys.argv[1])), pathlib.Path(sys.argv[2]))
"""


@pytest.mark.slow
def test_a_run_that_fails_ends_with_its_workers(tmp_path):
    """As it exits, Python ends these by one SIGTERM, and waits for them."""
    recipe = recipe_with(steps=50, training={**TINY["training"], "dataloader_num_workers": 2, "save_steps": 50})
    command = [sys.executable, "-c", FAILED_IN_A_STEP, recipe.model_dump_json(), str(tmp_path)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    run = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=60, check=False)
    assert run.returncode == 1
    assert run.stderr.splitlines()[-1] == "OSError: the disk is full"


@pytest.mark.parametrize(
    ("reason", "expected"),
    [
        ("DataLoader worker (pid 7) is killed by signal: Terminated. ", KeyboardInterrupt),
        ("DataLoader worker (pid(s) 7, 8) exited unexpectedly", KeyboardInterrupt),
        ("CUDA out of memory", RuntimeError),
    ],
)
def test_only_workers_that_a_signal_ended_count_as_a_stop(tmp_path, monkeypatch, reason, expected):
    @contextmanager
    def held(long):
        yield lambda: True

    def fail(*_, **__):
        raise RuntimeError(reason)

    monkeypatch.setattr(training, "uninterrupted", held)
    monkeypatch.setattr(TrackerTrainer, "train", fail)
    with pytest.raises(expected):
        train(recipe_with(), tmp_path)


def test_workers_leave_signals_to_the_training():
    from torch.utils.data import DataLoader

    class Signals:
        def __len__(self):
            return 1

        def __getitem__(self, step):
            for _ in range(2):
                mixture._prepare_worker()
            # The first one may have come to all processes of the run.
            os.kill(os.getpid(), signal.SIGTERM)
            return [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGHUP)]

    assert next(iter(DataLoader(Signals(), batch_size=None, num_workers=1))) == [signal.SIG_IGN] * 2


def test_more_steps_are_rejected_with_the_way_to_train_on(unbroken):
    with pytest.raises(TrainingError, match="differs in steps") as error:
        find_checkpoint(unbroken, recipe_with(steps=9), 1, write=True)
    assert f"--model {unbroken / 'model'}" in error.value.hint


def test_a_stopped_run_on_streamed_shards_resumes(tmp_path, monkeypatch):
    """It trains on the same clips, and reads no row before the step it resumes at."""
    some_rows(12).to_parquet(tmp_path / "shards/train-00000-of-00001.parquet", batch_size=2)
    source = {"kind": "shards", "data": str(tmp_path / "shards"), "streaming": True, "window": 2}
    recipe = recipe_with(sources={"people": source | {"sample": TINY["sources"]["shapes"]["sample"]}})
    train(recipe, tmp_path / "unbroken")
    compute, read, calls = TrackerTrainer.compute_loss, ShardReader.__getitem__, []
    rows = []

    def stop_at_the_fifth(self, *arguments, **options):
        calls.append(0)
        if len(calls) == 5:
            raise KeyboardInterrupt
        return compute(self, *arguments, **options)

    monkeypatch.setattr(TrackerTrainer, "compute_loss", stop_at_the_fifth)
    monkeypatch.setattr(ShardReader, "__getitem__", lambda self, row: rows.append(row) or read(self, row))
    with pytest.raises(KeyboardInterrupt):
        train(recipe, tmp_path / "stopped")
    rows.clear()
    train(recipe, tmp_path / "stopped")
    assert len(calls) == 5 + 2
    assert min(rows) >= 4
    for name, tensor in weights(tmp_path / "unbroken/model").items():
        assert torch.equal(tensor, weights(tmp_path / "stopped/model")[name]), name


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("trainer_state.json", b'{"global_st'),
        ("trainer_state.json", b"{}"),
        ("model.safetensors", None),
        ("optimizer.pt", None),
    ],
)
def test_a_damaged_checkpoint_is_skipped(unbroken, tmp_path, file, content):
    shutil.copytree(unbroken, tmp_path / "out")
    (tmp_path / "out/checkpoint-old").mkdir()
    victim = tmp_path / "out/checkpoint-6" / file
    victim.write_bytes(victim.read_bytes()[:-20] if content is None else content)
    assert find_checkpoint(tmp_path / "out", recipe_with(), 1, write=True).name == "checkpoint-4"
    train(recipe_with(), tmp_path / "out")
    for name, tensor in weights(unbroken / "model").items():
        assert torch.equal(tensor, weights(tmp_path / "out/model")[name]), name


def test_another_number_of_processes_is_rejected(unbroken):
    with pytest.raises(TrainingError, match="a run of 1 processes, this one has 2"):
        find_checkpoint(unbroken, recipe_with(), 2, write=True)


def test_another_recipe_s_folder_is_rejected_and_kept(unbroken):
    with pytest.raises(TrainingError, match=r"differs in batch_size, training\.learning_rate"):
        find_checkpoint(
            unbroken,
            recipe_with(batch_size=2, training={**TINY["training"], "learning_rate": 1.0}),
            1,
            write=True,
        )
    assert (unbroken / "checkpoint-6").exists()


def test_settings_that_do_not_affect_training_may_change(unbroken):
    free = recipe_with(training={**TINY["training"], "logging_steps": 7, "dataloader_num_workers": 1})
    assert find_checkpoint(unbroken, free, 1, write=True).name == "checkpoint-6"


def test_workers_change_nothing(unbroken, tmp_path):
    train(recipe_with(training={**TINY["training"], "dataloader_num_workers": 2}), tmp_path)
    for name, tensor in weights(unbroken / "model").items():
        assert torch.equal(tensor, weights(tmp_path / "model")[name]), name


@pytest.mark.parametrize(
    "options", [{"bf16": True}, {"gradient_checkpointing": True}, {"gradient_accumulation_steps": 2}]
)
def test_ways_to_save_memory_run(tmp_path, options):
    train(recipe_with(steps=1, training={**TINY["training"], **options}), tmp_path)


@pytest.mark.parametrize("workers", [0, 1])
def test_clips_that_cannot_be_used_end_a_run_with_one_line(tmp_path, workers):
    some_rows(2).to_parquet(tmp_path / "shards/train-00000-of-00001.parquet")
    sample = TINY["sources"]["shapes"]["sample"]
    people = {"kind": "shards", "data": str(tmp_path / "shards"), "sample": {**sample, "num_frames": 40}}
    with pytest.raises(DatasetError, match=r"the longest has 10 frames.*--set sources\.people\.sample\.num_frames=10"):
        train(recipe_with(sources={"people": people}), tmp_path / "short")
    # Where no reader knows it before, the error is found by a worker.
    (tmp_path / "points.csv").write_text("track,t,x,y\n1,0,5,5\n")
    points = {"kind": "points", "data": str(tmp_path / "points.csv"), "sample": sample}
    options = {**TINY["training"], "dataloader_num_workers": workers}
    with pytest.raises(TooManyBadSamplesError) as error:
        train(recipe_with(sources={"people": points}, training=options), tmp_path / "out")
    assert str(error.value).startswith("20 of 20 draws gave a clip that can't be used, more than 50%; the last: ")
    assert "\n" not in str(error.value)
    assert "Traceback" not in str(error.value)


def test_tapnext_learns_and_starts_from_a_folder(tmp_path):
    first = recipe_with(model=TINY_TAPNEXT, steps=2)
    folder = train(first, tmp_path / "first")
    second = recipe_with(model={"type": "tapnext", "start": str(folder)}, steps=1)
    train(second, tmp_path / "second")
    with pytest.raises(ValueError, match="holds a tapnext, not a locotrack"):
        train(recipe_with(model={"type": "locotrack", "start": str(folder)}), tmp_path / "third")
    deeper = {"type": "tapnext", "start": str(folder), "config": {"num_hidden_layers": 2}}
    with pytest.raises(ValueError, match="its weights are not those of the tapnext"):
        train(recipe_with(model=deeper), tmp_path / "fourth")


def test_tapir_learns_in_half_precision_and_tracks(tmp_path):
    config = {
        **{"stage_channels": [8, 8, 8, 8], "stage_blocks": [1, 1, 1, 1], "cost_channels": [4, 4, 4]},
        **{"hidden_size": 16, "num_hidden_layers": 1, "num_iterations": 2, "initial_resolution": [32, 32]},
        **{"num_extra_blocks": 1, "extra_channels": 8, "pyramid_level": 1},
    }
    options = {**TINY["training"], "bf16": True, "gradient_checkpointing": True}
    folder = train(recipe_with(model={"type": "tapir", "config": config}, steps=2, training=options), tmp_path)
    state = json.loads((tmp_path / "checkpoint-2/trainer_state.json").read_text())
    assert all(state["log_history"][0][f"shapes/{part}"] > 0 for part in ("position", "visibility", "uncertainty"))
    tracker = pipeline("point-tracking", model=str(folder))
    assert tracker(np.zeros((5, 48, 64, 3), np.uint8), points=[[0, 20.5, 10.5]])["tracks"].shape == (1, 5, 2)


def test_a_recipe_extends_a_file_beside_it(tmp_path):
    (tmp_path / "base.yaml").write_text(yaml.safe_dump(TINY))
    (tmp_path / "mine.yaml").write_text("extends: base.yaml\nsteps: 9\n")
    assert training_recipe(tmp_path / "mine.yaml") == recipe_with(steps=9)


@pytest.mark.parametrize("steps", [1, 2, 3])
def test_the_shortest_runs_have_a_schedule(tmp_path, steps):
    train(recipe_with(steps=steps, schedule={"pct_start": 0.5}), tmp_path)


@pytest.fixture
def evaluation(tmp_path):
    """Settings of an evaluation at each step, on one video."""
    rng = np.random.default_rng(0)
    video = {
        "video": rng.integers(0, 255, (4, 32, 32, 3), np.uint8),
        "points": rng.uniform(0.2, 0.8, (3, 4, 2)).astype(np.float32),
        "occluded": np.zeros((3, 4), bool),
    }
    (tmp_path / "davis.pkl").write_bytes(pickle.dumps({"one": video}))
    return {"benchmark": "tapvid-davis", "data": str(tmp_path / "davis.pkl"), "every": 1}


def test_a_signal_ends_an_evaluation_and_the_last_one_is_made_up_for(tmp_path, monkeypatch, evaluation):
    stops = []

    @contextmanager
    def held(long):
        yield lambda: bool(stops)
        raise KeyboardInterrupt

    go_on = TrackerTrainer._go_on
    monkeypatch.setattr(training, "uninterrupted", held)
    monkeypatch.setattr(TrackerTrainer, "_go_on", lambda self, *_: stops.append(0) or go_on(self))
    recipe = recipe_with(steps=1, evaluation=evaluation)
    with pytest.raises(KeyboardInterrupt):
        train(recipe, tmp_path / "out")
    assert find_checkpoint(tmp_path / "out", recipe, 1, write=False).name == "checkpoint-1"
    assert len(stops) == 1
    monkeypatch.undo()
    assert Provenance.read(str(train(recipe, tmp_path / "out"))).evaluation["step"] == 1


def test_an_evaluation_during_training_is_logged_and_in_the_provenance(tmp_path, evaluation):
    folder = train(recipe_with(steps=1, evaluation=evaluation), tmp_path / "out")
    provenance = Provenance.read(str(folder))
    assert (provenance.evaluation["benchmark"], provenance.evaluation["step"]) == ("tapvid-davis", 1)
    card = prepare_model(folder, tmp_path / "staging").card
    assert "| tapvid-davis, first, step 1 | " in card


def test_a_loss_that_is_not_finite_stops_the_run(tmp_path, monkeypatch):
    def broken(output, batch, **_):
        return {"loss": output.tracks.sum() * float("nan")}

    monkeypatch.setitem(LOSSES, "locotrack", broken)
    with pytest.raises(TrainingError, match="loss is nan at step 1"):
        train(recipe_with(), tmp_path)


def test_a_run_on_bad_data_stops(tmp_path):
    too_short = {**TINY["sources"]["shapes"], "sample": {"num_frames": 9, "dilation": 1, "min_visible": 1}}
    with pytest.raises(TooManyBadSamplesError, match="4 frames; 9 with dilation 1"):
        train(recipe_with(sources={"shapes": too_short}), tmp_path)


def test_every_recipe_is_valid():
    for path in RECIPES.glob("*.yaml"):
        assert training_recipe(path.stem).name


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["no-such-recipe"], "no recipe 'no-such-recipe'"),
        (["tiny-procedural", "--set", "step=3"], "step: Extra inputs"),
        (["tiny-procedural", "--set", "steps"], "NAME=VALUE"),
        (["tiny-procedural", "--set", "training.max_steps=3"], "training.max_steps is set by steps"),
        (["tiny-procedural", "--set", "training.lr=3"], "training.lr is no setting"),
        (
            ["tiny-procedural", "--set", "training.warmup_steps=3"],
            "training.warmup_steps needs schedule: null",
        ),
        (["tiny-procedural", "--set", "training.hub_token=x"], "hf auth login"),
        (
            ["tiny-procedural", "--set", "evaluation={benchmark: nonsense, data: .}"],
            "no benchmark 'nonsense'",
        ),
        (["tiny-procedural", "--set", "model.config.width=3"], "locotrack has no width"),
        (["tiny-procedural", "--set", "model.start=nowhere/at/all"], "nowhere/at/all"),
        (["tiny-improved", "--set", "sources.people.data=nowhere/at/all"], "no such folder, and no Hub id"),
        (["anthro-locotrack-b", "--set", "training.use_cpu=true"], "no file NAME-train.tfrecord"),
        (["tiny-procedural", "--set", "sources.shapes.sample.flip=2"], "flip is a probability"),
        (["tiny-procedural", "--set", "sources.shapes.sample.flips=1"], "flips"),
    ],
)
def test_invalid_recipes_are_an_error_in_one_line(arguments, message, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    result = CliRunner().invoke(app, ["train", *arguments, "--out", str(tmp_path / "out")])
    assert result.exit_code == 2
    assert message in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1


@pytest.mark.slow
def test_a_killed_run_of_two_processes_ends_where_an_unbroken_one_does(tmp_path):
    recipe = tmp_path / "tiny.yaml"
    recipe.write_text(yaml.safe_dump({**TINY, "steps": 20}))
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    command = [*launch, "-m", "anthrotap_hf.cli.main", "train", str(recipe), "--out"]
    subprocess.run([*command, str(tmp_path / "unbroken")], check=True, timeout=250)
    run = subprocess.Popen([*command, str(tmp_path / "killed")], start_new_session=True)
    while not (tmp_path / "killed/checkpoint-8/trainer_state.json").exists():
        assert run.poll() is None
        time.sleep(0.02)
    os.killpg(run.pid, signal.SIGKILL)
    run.wait()
    assert not (tmp_path / "killed/model").exists()
    subprocess.run([*command, str(tmp_path / "killed")], check=True, timeout=250)
    for name, tensor in weights(tmp_path / "unbroken/model").items():
        assert torch.equal(tensor, weights(tmp_path / "killed/model")[name]), name


@pytest.mark.parametrize("name", sorted(path.stem for path in RECIPES.glob("*.yaml")))
def test_a_recipe_passes_its_model_what_that_takes(name):
    recipe = training_recipe(name)
    taken = inspect.signature(TRACKERS.load(recipe.model.type).forward).parameters
    assert (recipe.forward or {}).keys() <= taken.keys()


def test_what_no_forward_takes_is_an_error_before_training(tmp_path):
    with pytest.raises(ValueError, match="forward: locotrack has no bidirectional"):
        train(recipe_with(forward={"bidirectional": True}), tmp_path / "out")


@pytest.mark.parametrize(
    ("training", "reason"),
    [
        ({"learning_rate": "fast"}, "training.learning_rate must be a number, got 'fast'"),
        ({"learning_rate": True}, "training.learning_rate must be a number, got True"),
        ({"bf16": "yes please"}, "training.bf16 must be true or false, got 'yes please'"),
    ],
)
def test_a_text_where_a_number_or_a_flag_is_wanted_is_one_line(training, reason):
    from anthrotap_hf.training.trainer import _check_numbers

    with pytest.raises(ValueError, match=f"^{re.escape(reason)}$"):
        _check_numbers(training)
    _check_numbers({"learning_rate": 1e-4, "save_steps": 5, "bf16": False, "report_to": "trackio"})
