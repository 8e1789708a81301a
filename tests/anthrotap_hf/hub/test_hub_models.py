"""Trackers on a Hub: published, loaded with and without this package, fine-tuned, published again."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from transformers import pipeline

from helpers.hub_server import READER
from helpers.trackers import tiny_locotrack

TRACK = """
import sys, json
TELL
from transformers import pipeline

tracker = pipeline("point-tracking", model=sys.argv[2], **json.loads(sys.argv[3]))
found = tracker(sys.argv[1], points=[[0, 40.5, 30.5]])
print(json.dumps([found["tracks"].round(3).tolist(), type(tracker).__module__]))
"""


RECIPE = """
name: Finer
model: {type: locotrack, start: me/tracker@v1}
sources:
  shapes:
    kind: procedural
    sample: {num_frames: 4, dilation: 1, num_queries: 4, height: 32, width: 32, min_visible: 1}
    settings: {num_frames: 4, height: 48, width: 48, num_tracks: 32}
batch_size: 1
steps: 2
training: {learning_rate: 1.0e-4, dataloader_num_workers: 0, save_steps: 2}
"""


@pytest.fixture
def tracker(tmp_path) -> Path:
    """A saved LocoTrack of hardly any size."""
    pipeline("point-tracking", model=tiny_locotrack()).save_pretrained(tmp_path / "tracker")
    return tmp_path / "tracker"


@pytest.mark.slow
def test_a_tracker_is_published_loaded_anywhere_fine_tuned_and_published_again(
    hub, client, anthrotap, tracker, make_video, tmp_path
):
    done = anthrotap(
        "publish",
        "model",
        tracker,
        "me/tracker",
        "--license",
        "apache-2.0",
        "--about",
        "A test.",
        "--tag",
        "v1",
        "--json",
    )
    assert done.returncode == 0, done.stderr
    printed = json.loads(done.stdout)
    repository = hub.repositories["model", "me/tracker"]
    assert repository.private
    assert {"config.json", "model.safetensors", "README.md", "video.py"} <= set(repository.files())
    assert printed["commit"] == repository.head
    front = yaml.safe_load(printed["card"].split("---")[1])
    assert front["pipeline_tag"] == "keypoint-detection"
    assert {"point-tracking", "anthrotap", "locotrack"} <= set(front["tags"])
    assert front["license"] == "apache-2.0"
    assert "their terms are not known" in printed["card"]

    video = str(make_video("a.mp4", shots=[6], size=(64, 96)))
    with_us = client("-c", TRACK.replace("TELL", "import anthrotap_hf"), video, "me/tracker", "{}")
    assert with_us.returncode == 0, with_us.stderr
    trust_options = json.dumps({"trust_remote_code": True, "revision": "v1"})
    alone = client("-c", TRACK.replace("TELL", ""), video, "me/tracker", trust_options, without_us=True)
    assert alone.returncode == 0, alone.stderr
    (tracks, home), (same, elsewhere) = (json.loads(run.stdout.splitlines()[-1]) for run in (with_us, alone))
    assert tracks == same
    assert home.startswith("anthrotap_hf")
    assert elsewhere.startswith("transformers_modules")
    offline = client("-c", TRACK.replace("TELL", "import anthrotap_hf"), video, "me/tracker", "{}", HF_HUB_OFFLINE="1")
    assert json.loads(offline.stdout.splitlines()[-1])[0] == tracks

    (tmp_path / "finer.yaml").write_text(RECIPE)
    trained = anthrotap("train", "finer.yaml", "--out", "run")
    assert trained.returncode == 0, trained.stderr
    again = anthrotap("publish", "model", tmp_path / "run/model", "me/finer", "--json", "--license", "mit")
    assert again.returncode == 0, again.stderr
    card = json.loads(again.stdout)["card"]
    assert f"trained from `me/tracker@{repository.head}` for 2 steps" in card
    assert yaml.safe_load(card.split("---")[1])["base_model"] == "me/tracker"
    assert "| moving shapes | apache-2.0 |" in card
    files = hub.repositories["model", "me/finer"].files()
    assert json.loads(files["provenance.json"])["recipe"]["steps"] == 2


@pytest.mark.slow
def test_results_go_up_as_entries_and_in_the_card(hub, anthrotap, tmp_path, tracker):
    from anthrotap_hf.evaluation.runner import EvaluatedModel

    key = EvaluatedModel.of("me", pipeline("point-tracking", model=str(tracker))).key
    mean = {"average_jaccard": 0.5, "average_pts_within_thresh": 0.625, "occlusion_accuracy": 0.75}
    report = {
        "benchmark": "tapvid-davis",
        "mode": "first",
        "videos": 30,
        "models": [{"key": key, "mean": mean}],
    }
    path = tmp_path / "tapvid-davis-first.json"
    path.write_text(json.dumps(report))
    done = anthrotap("publish", "model", tracker, "me/tracker", "--license", "apache-2.0", "--results", path, "--json")
    assert done.returncode == 0, done.stderr
    assert "| tapvid-davis, first | 30 | 50.0 | 62.5 | 75.0 |" in json.loads(done.stdout)["card"]
    entries = yaml.safe_load(hub.repositories["model", "me/tracker"].files()[".eval_results/tapvid-davis.yaml"])
    assert [(entry["dataset"]["task_id"], entry["value"]) for entry in entries] == [
        ("first_average_jaccard", 50.0),
        ("first_average_pts_within_thresh", 62.5),
        ("first_occlusion_accuracy", 75.0),
    ]
    path.write_text(json.dumps(report | {"models": [{"key": "locotrack-0123", "mean": mean}]}))
    other = anthrotap("publish", "model", tracker, "me/tracker", "--license", "apache-2.0", "--results", path)
    assert other.returncode == 2
    assert "it evaluates other weights or other code" in other.stderr


@pytest.mark.slow
def test_errors_of_loading_a_tracker_of_the_hub(hub, anthrotap, tracker, make_video):
    video = make_video("a.mp4", shots=[4])
    done = anthrotap("publish", "model", tracker, "me/tracker", "--license", "apache-2.0")
    assert done.returncode == 0, done.stderr
    assert "pin this version: me/tracker@" in done.stdout

    def printed(model: str, **options: str) -> str:
        done = anthrotap("track", video, "--grid", "2", "--model", model, "--out", "tracks", **options)
        assert done.returncode == 2, done.stderr
        assert "Traceback" not in done.stderr
        return done.stderr

    assert "me/nothing: no such repository on the Hub, or a private one" in printed("me/nothing")
    assert "me/tracker@v9: no such revision" in printed("me/tracker@v9")
    assert "or a private one" in printed("me/tracker", token=READER)
    hub.repositories["model", "me/tracker"].private = False
    hub.repositories["model", "me/tracker"].gated = True
    assert "me/tracker: the repository is gated; ask for access" in printed("me/tracker", token=READER)
    assert "HF_HUB_OFFLINE=1" in printed("me/other", HF_HUB_OFFLINE="1")
