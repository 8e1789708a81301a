import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from anthrotap_builder.detection import PersonTrack, detect_people
from anthrotap_builder.detection import boxes as boxes_module
from anthrotap_builder.detection.boxes import Boxes, load_detector, track_boxes
from anthrotap_builder.utils.assets import AssetError
from helpers.clip_contexts import clip_context
from helpers.tiny_detector import save_tiny_detector

SIZE = 480, 640
TAKES_BOXES = {"mesh_source": "tokenhmr", "body": "smpl", "filter": {"masks": False}}
NO_BOXES: Boxes = np.zeros((0, 4), np.float32), np.zeros(0, np.float32)


def person(x: float, y: float = 240.0, score: float = 0.9, width: float = 60.0, height: float = 200.0):
    """A box by its middle, and its score."""
    return [x - width / 2, y - height / 2, x + width / 2, y + height / 2], score


def detected(*people) -> Boxes:
    """A detector's output for one frame."""
    boxes, scores = zip(*people, strict=True)
    return np.array(boxes, np.float32), np.array(scores, np.float32)


def track(found: list[Boxes], high_score_threshold: float = 0.75) -> list[PersonTrack]:
    people = track_boxes(found, SIZE, high_score_threshold)
    for one in people:
        assert (one.boxes.shape, one.boxes.dtype) == ((len(found), 4), np.float32)
        assert one.landmarks is one.world_landmarks is one.mask is None
        assert (np.isfinite(one.boxes).all(1) == one.found).all()
    return people


def middles(one: PersonTrack) -> np.ndarray:
    return (one.boxes[:, 0] + one.boxes[:, 2]) / 2


@pytest.fixture(autouse=True)
def _tracker() -> None:
    pytest.importorskip("edgefirst.tracker", reason="needs anthrotap[detector]")


def test_two_people_who_cross_keep_their_identities():
    # The order of a detector's boxes has no meaning.
    found = [detected(*[person(150 + 8 * t), person(450 - 8 * t, 250)][:: 1 if t % 3 else -1]) for t in range(40)]
    one, other = sorted(track(found), key=lambda one: one.boxes[0, 0])
    np.testing.assert_allclose(middles(one), 150 + 8 * np.arange(40), atol=0.01)
    np.testing.assert_allclose(middles(other), 450 - 8 * np.arange(40), atol=0.01)


def test_boxes_are_as_detected_and_short_gaps_are_interpolated(monkeypatch: pytest.MonkeyPatch):
    rng = np.random.default_rng(0)
    x = 100 + 5 * np.arange(30) + rng.normal(0, 3, 30)
    found = [detected(person(v)) for v in x]
    for t in (10, 11, 12):
        found[t] = NO_BOXES
    (one,) = track(found)
    expected = x.copy()
    expected[9:14] = np.linspace(x[9], x[13], 5)
    np.testing.assert_allclose(middles(one), expected, atol=0.01)
    monkeypatch.setattr(boxes_module, "MAX_INTERPOLATED", 2)
    (one,) = track(found)
    assert np.flatnonzero(~one.found).tolist() == [10, 11, 12]


@pytest.mark.parametrize("moves", [0, 4])
def test_a_gap_of_max_gap_is_one_person_and_a_longer_one_is_two(moves: float):
    def with_gap(missing: int) -> list[PersonTrack]:
        return track([detected(person(100 + moves * t)) if not 15 <= t < 15 + missing else NO_BOXES for t in range(50)])

    (one,) = with_gap(12)
    assert np.flatnonzero(~one.found).tolist() == list(range(15, 27))
    assert len(with_gap(13)) == 2


def test_a_person_who_leaves_the_frame_is_lost_and_boxes_end_at_its_edge():
    found = [detected(person(500 + 10 * t), person(100)) if t < 16 else detected(person(100)) for t in range(30)]
    stays, leaves = track(found)  # the longer track comes first
    assert stays.found.all()
    assert leaves.found[:16].all()
    assert not leaves.found[16:].any()
    assert np.nanmax(leaves.boxes) == 640
    outside = [detected(person(700), person(-40), person(100)) for _ in range(10)]
    assert len(track(outside)) == 1


def test_a_box_that_jumps_is_no_person():
    found = [detected(person(100 + t)) for t in range(20)]
    found[9] = detected(person(500))
    (one,) = track(found)
    np.testing.assert_allclose(middles(one), 100 + np.arange(20), atol=0.01)


def test_low_score_boxes_continue_a_track_and_start_none():
    def scores(*values: float) -> list[Boxes]:
        return [detected(person(100, score=value)) for value in values]

    (one,) = track(scores(*[0.9] * 5, *[0.2] * 6, *[0.8] * 3))
    assert one.found.all()
    assert track(scores(*[0.4] * 20)) == []
    assert track(scores(*[0.6] * 20)) == []  # never sure
    assert len(track(scores(*[0.6] * 20), high_score_threshold=0.6)) == 1


def test_short_tracks_are_dropped_and_longer_ones_come_first(monkeypatch: pytest.MonkeyPatch):
    found = [
        detected(*[person(100)] * (t >= 12), *[person(300)] * (t < 15), *[person(500)] * (t < 7)) for t in range(30)
    ]
    first, second = track(found)
    assert (first.found.sum(), second.found.sum()) == (18, 15)
    monkeypatch.setattr(boxes_module, "MIN_FRAMES", 7)
    assert len(track(found)) == 3


def test_two_boxes_of_one_person_are_one():
    found = [detected(person(100, score=0.85), person(103, score=0.9), person(130, 250, 0.8)) for _ in range(10)]
    one, other = sorted(track(found), key=lambda one: one.boxes[0, 0])
    assert (middles(one)[0], middles(other)[0]) == (103, 130)


def test_no_boxes_give_no_tracks():
    assert track([NO_BOXES] * 5) == []
    assert track([]) == []


# Below, a real detector with weights that mean nothing.


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_detector(tmp_path_factory.mktemp("detector"))


def test_boxes_are_those_of_the_persons_in_raster_pixels(folder: Path, moving_pattern):
    from transformers import AutoModelForObjectDetection

    frames = moving_pattern(3, 128, 128)  # the size that the network sees: nothing is resized
    found = load_detector(str(folder), "cpu", 0.0)(frames)
    assert len(found) == 3
    with torch.inference_mode():
        outputs = AutoModelForObjectDetection.from_pretrained(folder).eval()(
            torch.from_numpy(frames).permute(0, 3, 1, 2) / 255
        )
    for t, (boxes, scores) in enumerate(found):
        middle, size = np.split(outputs.pred_boxes[t].numpy(), 2, axis=1)
        expected = 128 * np.concatenate([middle - size / 2, middle + size / 2], axis=1)
        probability = outputs.logits[t, :, 1].sigmoid().numpy()
        assert len(boxes)
        for box, score in zip(boxes, scores, strict=True):
            near = np.abs(expected - box).max(1) + 100 * np.abs(probability - score)
            assert near.min() < 0.01
    tall = load_detector(str(folder), "cpu", 0.0)(np.repeat(frames, 2, axis=1))
    for (boxes, _), (stretched, _) in zip(found, tall, strict=True):
        np.testing.assert_allclose(stretched, boxes * [1, 2, 1, 2], atol=0.1)


def test_people_do_not_depend_on_threads(folder: Path, moving_pattern):
    frames = np.repeat(moving_pattern(1, 90, 160), 20, axis=0)
    settings = {"detection": {"detector": "boxes", "detector_model": str(folder)}} | TAKES_BOXES
    before = torch.get_num_threads()
    one, two = (detect_people(clip_context(frames, threads=threads, **settings)) for threads in (1, 2))
    assert torch.get_num_threads() == before
    assert len(one) == len(two) > 0
    for a, b in zip(one, two, strict=True):
        np.testing.assert_array_equal(a.boxes, b.boxes)
        assert a.found.all()
        assert a.boxes.min() >= 0
        assert (a.boxes[:, 2:] <= [160, 90]).all()


def test_other_detectors_are_read_too(tmp_path: Path, moving_pattern):
    from transformers import (
        RTDetrImageProcessorPil,
        RTDetrResNetConfig,
        RTDetrV2Config,
        RTDetrV2ForObjectDetection,
    )

    config = RTDetrV2Config(
        backbone_config=RTDetrResNetConfig(
            embedding_size=8,
            hidden_sizes=[8, 16, 24, 32],
            depths=[1, 1, 1, 1],
            layer_type="basic",
            out_features=["stage2", "stage3", "stage4"],
        ),
        encoder_in_channels=[16, 24, 32],
        encoder_hidden_dim=32,
        encoder_ffn_dim=32,
        encoder_attention_heads=2,
        d_model=32,
        decoder_in_channels=[32, 32, 32],
        decoder_ffn_dim=32,
        decoder_attention_heads=2,
        decoder_layers=2,
        num_queries=10,
        num_denoising=0,
        id2label={0: "cat", 1: "Person"},
        label2id={"cat": 0, "Person": 1},
    )
    RTDetrV2ForObjectDetection(config).save_pretrained(tmp_path)
    RTDetrImageProcessorPil(size={"height": 96, "width": 96}).save_pretrained(tmp_path)
    (found,) = load_detector(str(tmp_path), "cpu", 0.0)(moving_pattern(1, 70, 90))
    assert len(found[0]) == len(found[1]) > 0


def test_invalid_detectors_are_an_error_in_one_line(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def message(name: str | Path) -> str:
        with pytest.raises(AssetError, match=r"detection\.detector_model") as caught:
            load_detector(str(name), "cpu")
        assert "\n" not in str(caught.value)
        return str(caught.value)

    animals = save_tiny_detector(tmp_path / "animals", ["cat", "dog"])
    assert "no class 'person' among its 2: cat, dog" in message(animals)
    (tmp_path / "empty").mkdir()
    assert "to a folder or Hub id" in message(tmp_path / "empty")
    (tmp_path / "text").mkdir()
    (tmp_path / "text" / "config.json").write_text('{"model_type": "bert"}')
    assert "BertConfig" in message(tmp_path / "text")
    for name, missing in {"blind": "preprocessor_config.json", "weightless": "model.safetensors"}.items():
        shutil.copytree(folder, tmp_path / name)
        (tmp_path / name / missing).unlink()
        assert "cannot load" in message(tmp_path / name)
    shutil.copytree(folder, tmp_path / "torn")
    weights = tmp_path / "torn" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    assert "cannot load" in message(tmp_path / "torn")
    from safetensors.torch import load_file, save_file

    shutil.copytree(folder, tmp_path / "headless")
    weights = tmp_path / "headless" / "model.safetensors"
    kept = {name: value for name, value in load_file(weights).items() if "enc_score_head" not in name}
    save_file(kept, weights, {"format": "pt"})
    assert "lacks 2 of the detector's weights, model.enc_score_head.bias first" in message(tmp_path / "headless")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "cache"))
    assert "run `hf download nobody/knows-this --local-dir FOLDER`" in message("nobody/knows-this")


def test_without_the_tracker_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "edgefirst.tracker", None)
    with pytest.raises(ImportError, match=r"pip install 'anthrotap\[detector\]'") as caught:
        detect_people(clip_context(np.zeros((1, 8, 8, 3), np.uint8), detection={"detector": "boxes"}, **TAKES_BOXES))
    assert "\n" not in str(caught.value)
