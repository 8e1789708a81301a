"""The bench on real footage as a whole: finding clips, keeping labels, shot changes, tables, the command."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from rich.console import Console
from typer.testing import CliRunner

from anthrotap_builder.config import ClipSettings, LabelingConfig
from anthrotap_builder.shards import ShardWriter
from benchmarks.real_footage import footage as footage_module
from benchmarks.real_footage.__main__ import app
from benchmarks.real_footage.cuts import find_pieces, join_videos, measure_cuts
from benchmarks.real_footage.examples import Example
from benchmarks.real_footage.footage import (
    Footage,
    FootageMasks,
    find_footage,
    iter_footage_clips,
    label_footage,
    read_labels,
)
from benchmarks.real_footage.label_measures import measure_footage, worst
from benchmarks.real_footage.label_tables import label_tables, percentages
from helpers.fake_labels import fake_label_video


@pytest.fixture
def fake_labels(monkeypatch) -> list[Path]:
    """Made-up labels; the list has the videos that were labeled."""
    labeled: list[Path] = []

    def label(path, *arguments, **options):
        labeled.append(path)
        return fake_label_video(path, *arguments, **options)

    monkeypatch.setattr(footage_module, "label_video", label)
    return labeled


def _write_masks(path: Path, masks: np.ndarray) -> None:
    np.savez(path, masks=np.packbits(masks, axis=-1), width=masks.shape[2])


def test_clips_are_found_with_their_masks(make_video, tmp_path):
    make_video("real/dance/dance.mp4")
    make_video("real/walk.mp4")
    make_video("clips/walk.mp4")
    (tmp_path / "real/dance/masks.npz").write_bytes(b"")
    found = find_footage([tmp_path / "real", tmp_path / "clips"])
    assert [each.name for each in found] == ["dance", "walk"]
    assert found[0].masks == tmp_path / "real/dance/masks.npz"
    assert found[1] == Footage("walk", tmp_path / "real/walk.mp4")
    assert find_footage([tmp_path / "real"], ["walk"]) == found[1:]
    with pytest.raises(ValueError, match="no clip run; there are dance, walk"):
        find_footage([tmp_path / "real"], ["run", "walk"])


def test_masks_are_unpacked_and_scaled(tmp_path):
    masks = np.zeros((4, 30, 50), bool)
    masks[2, 10:20, 40:] = True
    _write_masks(tmp_path / "masks.npz", masks)
    stored = FootageMasks(tmp_path / "masks.npz")
    assert len(stored) == 4
    assert (stored.full([2, 3]) == masks[2:]).all()
    (double,) = stored.scaled([2], 60, 100)
    assert double[20:40, 80:].all()
    assert double.sum() == 400
    with pytest.raises(ValueError, match="has 4 masks, none of frame 4"):
        stored.full([3, 4])


def test_labels_are_made_once_and_have_the_videos_frames(make_video, tmp_path, fake_labels):
    footage = Footage("video", make_video(shots=[20, 5, 30]))
    config = LabelingConfig()
    first = label_footage(footage, config, tmp_path / "kept")
    again = label_footage(footage, config, tmp_path / "kept")
    assert len(fake_labels) == 1
    label_footage(footage, config.model_copy(update={"seed": 1}), tmp_path / "kept")
    assert len(fake_labels) == 2
    for video in first, again:
        assert [clip.start_frame for clip in video.clips] == [0, 25]
        assert [(skipped.start_frame, skipped.num_frames) for skipped in video.skipped] == [(20, 5)]
        assert video.people_found == [1, 1]
        expected = [*fake_label_video(footage.path, config)]
        for clip, own in zip(iter_footage_clips(video), expected, strict=True):
            assert (clip.tracks.xy == own.tracks.xy).all()
            assert (clip.tracks.vertex == own.tracks.vertex).all()
            assert (clip.frames == own.video).all()
    (kept,) = (tmp_path / "kept").glob(f"{config.version()}-*/*.npz")
    kept.write_bytes(b"PK")
    with pytest.raises(ValueError, match="damaged"):
        label_footage(footage, config, tmp_path / "kept")


def test_labels_of_shards_are_those_of_the_same_video(make_video, tmp_path):
    path, other = make_video(shots=[20]), make_video("other.mp4", shots=[9, 12])
    for name, video in (("a", path), ("b", other)):
        with ShardWriter(tmp_path / "labels" / name, 48) as writer:
            for clip in fake_label_video(video, LabelingConfig()):
                writer.write(replace(clip, source_video="moved.mp4"))
    labeled = read_labels(Footage("video", other), tmp_path / "labels")
    assert labeled is not None
    assert [(clip.start_frame, clip.tracks.num_frames) for clip in labeled.clips] == [(0, 9), (9, 12)]
    assert labeled.clips[1].info["source_frames"] == list(range(9, 21))
    (_, second) = iter_footage_clips(labeled)
    assert (second.frames == [*fake_label_video(other, LabelingConfig())][1].video).all()
    assert read_labels(Footage("third", make_video("third.mp4", shots=[11])), tmp_path / "labels") is None


def test_pieces_of_a_video_and_frames_lost(make_video):
    path = make_video(shots=[20, 5, 60, 7])
    assert find_pieces(path, ClipSettings()) == (92, 12, [0, 20, 25, 85])


def test_joined_videos_have_a_cut_between_each(make_video, tmp_path):
    first = make_video("first.mp4", shots=[60])
    second = make_video("second.mp4", frames=255 - np.stack([cv2.imread(str(_picture(tmp_path)))] * 12))
    starts = join_videos([first, second, first], tmp_path / "joined.mp4")
    assert starts == [48, 60]
    assert find_pieces(tmp_path / "joined.mp4", ClipSettings()) == (108, 0, [0, 48, 60])

    result = measure_cuts([Footage("first", first), Footage("second", second)], ClipSettings())
    assert result["clips"]["first"] == {"frames": 60, "lost": 0, "false_cuts": 0}
    assert result["all"] == {"frames": 72, "lost": 0, "false_cuts": 0}
    assert result["joined"] == {
        "frames": 60, "lost": 0, "true_cuts": 1, "found": 1, "false_cuts": 0, "missed": [], "false": [],
    }  # fmt: skip


def _picture(folder: Path) -> Path:
    picture = np.zeros((64, 96, 3), np.uint8)
    cv2.circle(picture, (40, 30), 20, (0, 200, 90), -1)
    cv2.imwrite(str(folder / "picture.png"), picture)
    return folder / "picture.png"


def test_percentages_of_counts():
    counts = {"occluded_near": 8, "occluded_shows": 2, "pairs_8": 4, "pairs_8_within_8": 4}
    figures = percentages(counts)
    assert figures["occluded_shows"] == 25
    assert figures["within_8_8"] is None  # of four
    assert figures["coverage_own"] is None


def test_the_worst_examples_come_first():
    here = np.zeros(2)
    examples = [Example((0, t), (here, here), None, float(t % 3), "") for t in range(30)]
    assert [example.error for example in worst(examples, 15)] == [2.0] * 10 + [1.0] * 5
    assert worst(examples, 50)[0].error == 2


def test_videos_are_measured_and_pooled(make_video, tmp_path, fake_labels):
    make_video("real/dance/dance.mp4", shots=[30, 4])
    make_video("real/walk.mp4", shots=[20])
    masks = np.zeros((34, 64, 96), bool)
    masks[:, :16, :16] = True
    _write_masks(tmp_path / "real/dance/masks.npz", masks)

    found = find_footage([tmp_path / "real"])
    result = measure_footage(found, LabelingConfig(), tmp_path / "out")

    dance, both = result["clips"]["dance"], result["all"]["counts"]
    assert dance["counts"]["masked_frames"] == 34
    assert dance["counts"]["masked_frames_bare"] == 4
    assert dance["percent"]["given_8"] == 100
    assert dance["people"] == [{"clip": "dance 0", "person": 0, "visible": 60, "inside": 60}]
    assert dance["skipped"] == ["4 frames from frame 30 on: fewer than the 8 frames that a clip needs"]
    assert both["frames"] == 50
    assert both["frames_skipped"] == 4
    assert both["visible"] == 2 * 50
    json.dumps(result)
    console = Console(width=230, record=True, file=io.StringIO())
    for table in label_tables(result):
        console.print(table)
    text = console.export_text()
    assert "all clips" in text
    assert "50 (4)" in text


def test_the_command_measures_labels_and_cuts(make_video, tmp_path, fake_labels):
    make_video("real/walk.mp4", shots=[20])
    make_video("clips/run.mp4", shots=[9])
    options = ["--footage", tmp_path / "real", "--clips", tmp_path / "clips", "--out", tmp_path / "out"]
    options += ["--json", tmp_path / "figures.json", "--clip", "walk"]
    done = CliRunner().invoke(app, [str(option) for option in options])
    assert done.exit_code == 0, done.output
    figures = json.loads((tmp_path / "figures.json").read_text())
    assert list(figures["labels"]["clips"]) == list(figures["cuts"]["clips"]) == ["walk"]
    assert figures["label_version"] == LabelingConfig().version()
    assert "Shot changes" in (tmp_path / "out/report.txt").read_text()

    done = CliRunner().invoke(app, [*map(str, options), "--clip", "jump"])
    assert done.exit_code == 2
    assert "no clip jump" in done.output

    done = CliRunner().invoke(app, [*map(str, options), "--labels", str(tmp_path / "shards")])
    assert done.exit_code == 2
    assert "has no labels of walk" in " ".join(done.output.split())
