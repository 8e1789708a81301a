"""Trackers by name: downloaded on loopback, converted once, and what is said where that fails."""

from __future__ import annotations

import io
import threading
from dataclasses import replace

import numpy as np
import pytest
import torch
import transformers
from huggingface_hub import constants

from anthrotap_hf.evaluation.runner import EvaluatedModel
from anthrotap_hf.models import CONFIGS
from anthrotap_hf.models import checkpoints as checkpoints_module
from anthrotap_hf.models.checkpoints import Checkpoint, FileByHand, checkpoints
from anthrotap_hf.pipelines import (
    PointTrackingImageProcessor,
    TrackerError,
    check_tracker_name,
    known_trackers,
    load_tracker,
)
from anthrotap_hf.utils import downloads
from anthrotap_hf.utils.errors import AnthroTapError
from anthrotap_hf.utils.provenance import Provenance
from helpers.file_server import running_file_server
from helpers.released_layouts import released_locotrack
from helpers.trackers import tiny_locotrack

PATH = "/weights/small.ckpt"
pytestmark = pytest.mark.filterwarnings("ignore:sizes of the checkpoint")


@pytest.fixture
def server(tmp_path, monkeypatch):
    """A server with a tiny checkpoint, which is known as "stand-in", and an empty cache."""
    monkeypatch.setenv("ANTHROTAP_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(downloads, "PAUSE", 0.0)
    content = io.BytesIO()
    torch.save(released_locotrack(tiny_locotrack()), content)
    with running_file_server() as running:
        running.files[PATH] = content.getvalue()
        row = Checkpoint("stand-in", "locotrack", "A stand-in", "cc-by-nc-4.0", "nobody", url=running.url + PATH)
        monkeypatch.setitem(checkpoints(), "stand-in", row)
        yield running


@pytest.fixture
def home(tmp_path):
    return tmp_path / "cache" / "trackers" / "stand-in"


def reason(name: str = "stand-in") -> str:
    with pytest.raises(TrackerError) as error:
        load_tracker(name)
    assert error.value.argument == "model"
    assert "\n" not in str(error.value)
    return str(error.value)


def test_a_name_is_downloaded_and_converted_once_and_its_license_told_once(server, home, caplog, video):
    told = []
    found = load_tracker("stand-in", progress=lambda *done: told.append(done))(video, points=[[0, 10, 8]])
    assert found["tracks"].shape == (1, len(video), 2)
    size = len(server.files[PATH])
    assert ("downloading stand-in", size, size) in told
    assert told[-1] == ("converting stand-in", 0, None)
    server.files.clear()
    again = load_tracker("stand-in")(video, points=[[0, 10, 8]])
    np.testing.assert_array_equal(again["tracks"], found["tracks"])
    assert len(server.asked) == 1
    assert caplog.text.count("its license is cc-by-nc-4.0, for non-commercial use only (nobody)") == 1
    # The released file is not kept, what it was is.
    assert sorted(path.name for path in home.iterdir()) == ["model", "small.ckpt.sha256"]
    (weights,) = Provenance.read(str(home / "model")).components
    assert (weights.license, weights.is_non_commercial) == ("cc-by-nc-4.0", True)


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("locotrak-base", "did you mean locotrack-base or "),
        ("TAPNextpp_51", "did you mean tapnextpp-512?"),
        ("cotracker3", "did you mean cotracker3-offline or cotracker3-online or "),
        ("nonsense", "`anthrotap trackers` lists all names"),
    ],
)
def test_a_mistyped_name_is_told_which_are_like_it(name, hint):
    line = f"{name}: no tracker of that name, no such folder, and no Hub id, which is user/name; {hint}"
    assert reason(name).startswith(line)
    with pytest.raises(ValueError, match="no tracker of that name") as error:
        transformers.pipeline("point-tracking", model=name)
    assert str(error.value).startswith(line)


def test_transformers_pipeline_takes_the_name(server, video):
    tracker = transformers.pipeline("point-tracking", model="stand-in")
    assert tracker(video, points=[[0, 10, 8]])["visible"].shape == (1, len(video))
    assert transformers.pipeline("point-tracking", model="flowchain").model.config.model_type == "flowchain"


def test_it_sees_videos_at_its_published_resolution(server, monkeypatch):
    row = replace(checkpoints()["stand-in"], resolution=(64, 96))
    monkeypatch.setitem(checkpoints(), "stand-in", row)
    tracker = load_tracker("stand-in")
    assert tracker.image_processor.size == {"height": 64, "width": 96}
    assert EvaluatedModel.of("", tracker).resolution == (64, 96)


@pytest.mark.parametrize("row", checkpoints().values(), ids=lambda row: row.name)
def test_published_resolutions_are_the_configurations_but_for_the_full_alltracker(row):
    config = CONFIGS.load(row.architecture)()
    config.update({name: value for name, value in row.convert.items() if name == "frame_size"})
    usual = PointTrackingImageProcessor.for_model(config).size
    at_published = known_trackers.image_processor_of(row, config).size
    if row.name == "alltracker":
        assert (usual, at_published) == ({"height": 384, "width": 512}, {"height": 768, "width": 1024})
    else:
        assert usual == at_published


def test_what_an_earlier_release_converted_is_converted_again(server, home, monkeypatch, caplog):
    load_tracker("stand-in")
    monkeypatch.setattr(checkpoints_module, "CONVERSION", 99)
    monkeypatch.setattr(known_trackers, "CONVERSION", 99)
    # The file can't be had: the earlier model is used, and a warning says so.
    content = server.files.pop(PATH)
    assert not checkpoints()["stand-in"].is_converted
    assert load_tracker("stand-in").model.config.hidden_size == 32
    assert "used as an earlier release converted it, since its file can't be had: stand-in: " in caplog.text
    # A kept file is taken, and stays.
    (home / "small.ckpt").write_bytes(content)
    load_tracker("stand-in")
    assert checkpoints()["stand-in"].is_converted
    assert (home / "small.ckpt").is_file()
    assert Provenance.read(str(home / "model")).conversion == 99


def test_of_several_that_want_it_one_downloads_it(server):
    threads = [threading.Thread(target=known_trackers.prepare, args=(checkpoints()["stand-in"],)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(server.asked) == 1
    assert checkpoints()["stand-in"].is_converted


def test_a_broken_download_is_gone_on_with_by_the_next_command(server, home):
    server.cuts = [3000, 0, 0, 0]
    assert "3000 of" in reason()
    assert load_tracker("stand-in").model.config.hidden_size == 32
    assert server.asked[-1] == (PATH, "bytes=3000-")


def test_what_fails_names_the_file_to_put_where(server, home, monkeypatch):
    put = f"get small.ckpt from {server.url}{PATH} and put it at {home / 'small.ckpt'}"
    content = server.files.pop(PATH)
    assert reason() == f"stand-in: {server.url}{PATH}: it is no longer there (it answers 404); {put}"
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert "HF_HUB_OFFLINE=1 forbids to download it" in reason()
    assert reason().endswith(put)
    by_hand = Checkpoint("by-hand", "locotrack", "X", "unknown", "nowhere", by_hand=FileByHand("x.ckpt", "a drive"))
    monkeypatch.setitem(checkpoints(), "by-hand", by_hand)
    assert reason("by-hand").endswith(f"get it from a drive and put it at {by_hand.folder / 'x.ckpt'}")
    # Such a file is taken, and stays.
    by_hand.folder.mkdir(parents=True)
    (by_hand.folder / "x.ckpt").write_bytes(content)
    assert load_tracker("by-hand").model.config.model_type == "locotrack"
    assert (by_hand.folder / "x.ckpt").is_file()
    assert not [path for path in home.parent.iterdir() if path.name == "stand-in"]


def test_a_file_of_another_hash_or_another_kind_is_refused(server, home, monkeypatch):
    row = checkpoints()["stand-in"]
    monkeypatch.setitem(checkpoints(), "stand-in", Checkpoint(**{**vars(row), "sha256": "0" * 64}))
    assert f"expected {'0' * 64}" in reason()
    monkeypatch.setitem(checkpoints(), "stand-in", Checkpoint(**{**vars(row), "architecture": "tapir"}))
    assert "small.ckpt: this is no TAPIR checkpoint" in reason()
    assert not (home / "model").exists()


def test_a_bad_first_download_is_deleted_and_not_held_against_the_next(server, home):
    content = server.files[PATH]
    server.files[PATH] = b"<html>log in</html>"
    assert reason().endswith("the download was deleted: the same command downloads it again")
    assert not home.exists() or not list(home.iterdir())
    server.files[PATH] = content
    assert load_tracker("stand-in").model.config.hidden_size == 32


def test_a_folder_of_the_same_name_goes_first(server, tmp_path, monkeypatch, caplog):
    monkeypatch.chdir(tmp_path)
    tiny_locotrack(hidden_size=16).save_pretrained("stand-in")
    assert load_tracker("stand-in").model.config.hidden_size == 16
    assert "stand-in is a folder here: it is taken" in caplog.text
    assert server.asked == []


@pytest.fixture
def video(moving_pattern) -> np.ndarray:
    return moving_pattern(4, 32, 48)


def test_a_released_file_and_the_folder_of_a_training_are_not_taken_for_trackers(tmp_path):
    file = tmp_path / "locotrack_base.ckpt"
    file.touch()
    with pytest.raises(
        AnthroTapError, match=r"a tracker is a folder; `anthrotap convert ARCHITECTURE .*\.ckpt FOLDER`"
    ):
        check_tracker_name(str(file))
    model = tmp_path / "run/model"
    model.mkdir(parents=True)
    (model / "config.json").write_text("{}")
    with pytest.raises(
        AnthroTapError, match=r"run: no tracker is in this folder itself; a training has written .*run/model"
    ):
        check_tracker_name(str(tmp_path / "run"))
    check_tracker_name(str(model))
