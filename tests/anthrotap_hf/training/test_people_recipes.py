"""The recipes that fine-tune on people and panning MOVi-E, on a made-up file of its layout and tiny networks."""

import pytest
import torch
from safetensors.torch import load_file

pytest.importorskip("accelerate", reason="needs the extra: pip install 'anthrotap[training]'")

from anthrotap_hf.training.config import training_recipe
from anthrotap_hf.training.trainer import train
from helpers import movi_files
from helpers.shard_rows import some_rows
from helpers.trackers import tiny_alltracker, tiny_cotracker3, tiny_tapir

SAMPLE = {"num_frames": 8, "num_queries": 4, "height": 32, "width": 48, "dilation": 1, "min_visible": 1}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "tiny"),
    [("alltracker-people", tiny_alltracker), ("bootstapir-people", tiny_tapir), ("cotracker3-people", tiny_cotracker3)],
)
def test_people_recipes_learn_from_panning_movi_and_labels(name, tiny, tmp_path):
    file = tmp_path / "movi/panning_movi_e-train.tfrecord-00000-of-00001"
    features = movi_files.Scene().features()
    movi_files.write_movi(file, features, features)
    some_rows(4).to_parquet(tmp_path / "labels/train-00000-of-00001.parquet")
    tiny().save_pretrained(tmp_path / "start")
    changes = {
        "model": {"start": str(tmp_path / "start")},
        "sources": {
            "kubric": {"data": str(tmp_path / "movi"), "sample": SAMPLE},
            "labels": {"data": str(tmp_path / "labels"), "sample": SAMPLE},
        },
        "steps": 6,
        "training": {"use_cpu": True, "bf16": False, "dataloader_num_workers": 0, "logging_steps": 1},
    }
    folder = train(training_recipe(name, changes), tmp_path / "out")
    before, after = (load_file(path / "model.safetensors") for path in (tmp_path / "start", folder))
    assert before.keys() == after.keys()
    assert not all(torch.equal(before[key], after[key]) for key in before)
    assert all(torch.isfinite(tensor).all() for tensor in after.values())
    logged = (tmp_path / "out/checkpoint-6/trainer_state.json").read_text()
    assert '"kubric/loss"' in logged
    assert '"labels/loss"' in logged
