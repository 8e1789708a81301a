"""`anthrotap label` as a user types it; the labels are faked where only the command is tested."""

import json
import os
import socket
import subprocess
import sys
from collections.abc import Container
from pathlib import Path

import av
import datasets
import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image
from typer.testing import CliRunner

from anthrotap_builder import pipeline
from anthrotap_builder.config import LabelingConfig
from anthrotap_builder.mesh_recovery.formats.finding import find_meshes
from anthrotap_builder.mesh_recovery.mesh_file import MeshFileError
from anthrotap_hf.cli.main import app
from anthrotap_hf.utils.folder_lock import locked_folder
from anthrotap_hf.video import decode_video
from helpers.fake_labels import fake_label_video

# Python runs it as a worker process begins.
FAKE_IN_WORKERS = """
import os, signal, sys
if "anthrotap labeling" in sys.orig_argv:
    from anthrotap_builder import pipeline
    from helpers.fake_labels import fake_label_video

    def label_video(path, *args, **options):
        if "crash" in str(path):
            os.kill(os.getpid(), signal.SIGSEGV)
        yield from fake_label_video(path, *args, **options)

    pipeline.label_video = label_video

    from anthrotap_builder import label_videos
    encode = label_videos.encode_row

    def encode_row(clip, *options):
        if "misfit" in clip.source_video:
            raise RuntimeError("no row for this clip")
        return encode(clip, *options)

    label_videos.encode_row = encode_row
"""


@pytest.fixture
def run(fake_labels: None):
    def run(*arguments: object):
        return CliRunner().invoke(app, ["label", *map(str, arguments)])

    return run


def leftovers(folder: Path) -> list[str]:
    return [path.name for path in folder.rglob("*") if "incomplete" in path.name]


def test_a_video_becomes_a_dataset_with_pictures(run, make_video, tmp_path):
    out = tmp_path / "out"
    result = run(make_video("a.mp4", shots=[20, 30]), "--out", out)
    assert result.exit_code == 0, result.output
    assert "a.mp4" in result.stdout
    assert datasets.load_dataset(str(out), split="train", cache_dir=str(tmp_path / "c")).num_rows == 2
    assert len(decode_video(out / "a.tracks.mp4")) == 50
    assert (out / "a.tracks.jpg").stat().st_size > 1000
    manifest = json.loads((out / "manifest.json").read_text())
    assert manifest["counts"]["clips"] == 2
    assert manifest["inputs"][0]["file"].endswith("a.mp4")
    assert not leftovers(out)


def test_a_folder_with_one_bad_file_labels_the_rest_and_lists_it(run, make_video, tmp_path):
    good = make_video("videos/good.mp4")
    (good.parent / "bad.mp4").write_bytes(b"not a video")
    (good.parent / "notes.txt").write_text("words")
    result = run(good.parent, "--out", tmp_path / "out", "--json")
    assert result.exit_code == 0, result.output
    bad, fine = json.loads(result.stdout)
    assert "bad.mp4" in bad["failure"]
    assert (fine["failure"], fine["clips"]) == (None, 1)
    manifest = json.loads((tmp_path / "out/manifest.json").read_text())
    assert [Path(item["file"]).name for item in manifest["failed"]] == ["bad.mp4"]
    assert [Path(item["file"]).name for item in manifest["inputs"]] == ["good.mp4"]


def test_what_is_no_video_is_refused_before_the_body_is_made(tmp_path, monkeypatch):
    (tmp_path / "a.mp4").write_text("no video at all")
    for name in ("load_body", "load_parts"):
        monkeypatch.setattr(pipeline, name, lambda *_: pytest.fail("the body is made"))
    result = CliRunner().invoke(app, ["label", str(tmp_path / "a.mp4"), "--out", str(tmp_path / "out")])
    assert result.exit_code == 1
    assert "not a video that can be read" in result.stderr


def test_where_nothing_is_produced_the_exit_code_says_so(run, make_video, tmp_path):
    bad = tmp_path / "bad.mp4"
    bad.write_bytes(b"not a video")
    result = run(bad, "--out", tmp_path / "out")
    assert result.exit_code == 1
    lines = [line for line in result.stderr.splitlines() if str(bad) in line]
    assert len(lines) == 1
    assert not list((tmp_path / "out").rglob("*.parquet"))
    short = make_video("short.mp4", shots=[5])
    result = run(short, "--out", tmp_path / "out2")
    assert result.exit_code == 1
    assert "no label (5 frames: fewer than the 8 frames that a clip needs)" in result.stderr


def test_clips_end_at_lost_packets_which_are_counted(run, make_video, tmp_path):
    video = make_video("lost.mkv", shots=[60], gop=250)
    without_packets(video, range(26, 30))
    result = run(video, "--out", tmp_path / "out", "--json")
    assert result.exit_code == 0, result.output
    (summary,) = json.loads(result.stdout)
    assert (summary["clips"], summary["failure"].count("damaged")) == (1, 1)
    # What is displayed after a frame that was lost is no part of the clip either.
    kept = summary["frames"]
    assert 20 <= kept <= 26
    assert "damaged, or predicted from damaged frames" in " ".join(summary["skipped"])
    (row,) = datasets.load_dataset(str(tmp_path / "out"), split="train", cache_dir=str(tmp_path / "c"))
    assert (row["num_frames"], row["fps"]) == (kept, pytest.approx(24, rel=0.02))


def test_another_shape_midway_is_another_row_and_fits_into_the_overlay(run, make_video, tmp_path):
    parts = [make_video(f"{w}.ts", shots=[12], size=(64, w)).read_bytes() for w in (96, 40)]
    video = tmp_path / "videos/two.ts"
    video.parent.mkdir()
    video.write_bytes(b"".join(parts))
    result = run(video, "--out", tmp_path / "out")
    assert result.exit_code == 0, result.output
    rows = datasets.load_dataset(str(tmp_path / "out"), split="train", cache_dir=str(tmp_path / "c"))
    assert [(row["width"], row["height"], row["start_frame"]) for row in rows] == [(96, 64, 0), (40, 64, 12)]
    overlay = decode_video(tmp_path / "out/two.tracks.mp4")
    assert overlay.shape == (24, 64, 96, 3)
    # Black beside the narrow picture, which is not stretched.
    assert overlay[18, :, :24].max() < 30
    assert overlay[18, :, 34:62].mean() > 30


def test_a_time_lapse_ends_in_one_line_with_the_reason(run, make_video, tmp_path):
    result = run(make_video("lapse.mp4", shots=[12], times=2 * np.arange(12)), "--out", tmp_path / "out")
    assert result.exit_code == 1
    assert "no label (12 frames: more than 1 s from frame to frame, too long to follow points)" in result.stderr
    assert sum("frame to frame" in line for line in result.output.splitlines()) <= 2


def test_folders_of_pictures_are_videos(run, tmp_path, moving_pattern):
    for name in ("bear", "camel"):
        folder = tmp_path / "JPEGImages" / name
        folder.mkdir(parents=True)
        for number, image in enumerate(moving_pattern(10, 64, 96)):
            Image.fromarray(image).save(folder / f"{number}.jpg", quality=95)
    result = run(tmp_path / "JPEGImages", "--fps", 12, "--out", tmp_path / "out", "--json")
    assert result.exit_code == 0, result.output
    assert [Path(each["video"]).name for each in json.loads(result.stdout)] == ["bear", "camel"]
    rows = datasets.load_dataset(str(tmp_path / "out"), split="train", cache_dir=str(tmp_path / "c"))
    found = [(row["source_video"], row["num_frames"], row["fps"]) for row in rows]
    assert found == [("bear", 10, 12), ("camel", 10, 12)]


def without_packets(path: Path, numbers: Container[int]) -> None:
    """Take packets out of a video, as a camera or network loses them."""
    whole = path.with_name(f"whole{path.suffix}")
    path.rename(whole)
    with av.open(str(whole)) as source, av.open(str(path), "w") as copy:
        stream = copy.add_stream_from_template(source.streams.video[0])
        for number, packet in enumerate(source.demux(video=0)):
            if packet.size and number not in numbers:
                packet.stream = stream
                copy.mux(packet)
    whole.unlink()


def test_the_command_says_what_was_left_out_and_why(run, make_video, tmp_path):
    video = make_video("unlabeled.mp4", shots=[20, 5, 30])
    lines = [
        "5 frames from frame 20 on: fewer than the 8 frames that a clip needs",
        "person 1, 20 frames from frame 0 on: no label: hidden",
        "person 1, 30 frames from frame 25 on: no label: hidden",
    ]
    warning = f"{video}: 80 % of the area that moves has no label near: look at unlabeled.tracks.mp4"
    result = run(video, "--out", tmp_path / "out")
    assert [line for line in result.stdout.splitlines() if line.startswith("unlabeled.mp4: ")] == [
        f"unlabeled.mp4: {line}" for line in lines
    ]
    assert " 1 of 2 " in result.stdout
    assert warning in result.stderr
    manifest = json.loads((tmp_path / "out/manifest.json").read_text())
    result = run(video, "--out", tmp_path / "out", "--overwrite", "--json")
    (summary,) = json.loads(result.stdout)
    for report in (manifest, summary):
        assert report["skipped"] == [f"{video}: {lines[0]}"]
        assert report["unlabeled"] == [f"{video}: {line}" for line in lines[1:]]
        assert report["warnings"] == [warning]
    assert (summary["people"], summary["people_found"], summary["unlabeled_motion"]) == (1, 2, 0.8)


def test_few_lines_of_one_video_are_printed(run, make_video, tmp_path):
    result = run(make_video("unlabeled.mp4", shots=[8, 9] * 7), "--out", tmp_path / "out")
    lines = [line for line in result.stdout.splitlines() if line.startswith("unlabeled.mp4: ")]
    assert len(lines) == 11
    assert lines[-1] == "unlabeled.mp4: and 4 more: manifest.json"
    result = run(make_video("good.mp4", shots=[20]), "--out", tmp_path / "good")
    assert "good.mp4: " not in result.stdout
    assert "look at" not in result.stderr


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["missing.mp4"], "missing.mp4: no such file"),
        (["--recipe", "nonsense", "VIDEO"], "no recipe 'nonsense'"),
        (["--points", "0", "VIDEO"], "points: Input should be greater"),
        (["--quality", "better", "VIDEO"], "detection.quality: 'better' is not known: choose from best, fast"),
        (["--fps", "-3", "VIDEO"], "clips.fps: Input should be greater"),
        (["EMPTY"], "no video in this folder"),
    ],
)
def test_wrong_arguments_give_one_line_and_no_folder(run, make_video, tmp_path, arguments, reason):
    (tmp_path / "empty").mkdir()
    named = {"VIDEO": make_video(), "EMPTY": tmp_path / "empty"}
    result = run(*[named.get(word, word) for word in arguments], "--out", tmp_path / "out")
    assert result.exit_code == 2
    assert reason in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1
    assert not (tmp_path / "out").exists()


def test_an_earlier_run_is_not_overwritten_unasked(run, make_video, tmp_path):
    video, out = make_video(), tmp_path / "out"
    assert run(video, "--out", out).exit_code == 0
    before = sorted((p.name, p.stat().st_mtime_ns) for p in out.rglob("*.*"))
    again = run(video, "--out", out)
    assert again.exit_code == 2
    assert "already holds" in again.stderr
    assert sorted((p.name, p.stat().st_mtime_ns) for p in out.rglob("*.*")) == before
    assert run(video, "--out", out, "--overwrite").exit_code == 0


def test_videos_of_one_name_keep_their_pictures_apart(run, make_video, tmp_path):
    videos = [make_video("a/x.mp4"), make_video("b/x.mp4")]
    assert run(*videos, "--out", tmp_path / "out").exit_code == 0
    assert {p.name for p in (tmp_path / "out").glob("*.mp4")} == {"x.tracks.mp4", "x-2.tracks.mp4"}


def test_an_interrupted_run_leaves_nothing_half_written(run, make_video, tmp_path, monkeypatch):
    def interrupted(*_, **__):
        yield from fake_label_video(make_video(), LabelingConfig())
        raise KeyboardInterrupt

    monkeypatch.setattr(pipeline, "label_video", interrupted)
    out = tmp_path / "out"
    assert run(make_video(), "--out", out).exit_code == 130
    assert not list(out.rglob("*.parquet"))
    assert not leftovers(out)


def test_a_second_run_in_the_folder_ends_with_one_line(run, make_video, tmp_path):
    out = tmp_path / "out"
    with locked_folder(out):
        (out / "mine.txt").write_text("words")
        result = run(make_video(), "--out", out)
    assert result.exit_code == 2
    assert result.stderr.strip() == (
        f"{out}: another run is at work here (process {os.getpid()} on {socket.gethostname()}); "
        "wait for it, stop it, or take another folder"
    )
    assert [path.name for path in out.iterdir()] == ["mine.txt"]


def test_what_a_killed_run_left_is_deleted_by_the_next(run, make_video, tmp_path):
    out = tmp_path / "out"
    for folder in (".label-abcd_123/data", ".12-0123abcd-incomplete-labels/rows", "data"):
        (out / folder).mkdir(parents=True)
    halves = [".a.tracks.mp4.7.incomplete", "data/.train-00000.7.incomplete", "data/.7-0123abcd-incomplete-x"]
    for file in (*halves, ".own"):
        (out / file).write_text("half")
    assert run(make_video("a.mp4"), "--out", out).exit_code == 0
    assert sorted(path.name for path in out.iterdir()) == [
        *(".own", "a.tracks.jpg", "a.tracks.mp4", "data", "manifest.json")
    ]
    assert [path.name for path in (out / "data").iterdir()] == ["train-00000-of-00001.parquet"]


def test_a_video_that_changes_while_it_is_read_gives_no_row(run, make_video, tmp_path, monkeypatch):
    video, other = make_video("a.mp4", shots=[20, 20]), make_video("b.mp4", shots=[30])

    def replaced(path, config, *args, **options):
        for clip in fake_label_video(path, config, *args, **options):
            yield clip
            video.write_bytes(other.read_bytes())

    monkeypatch.setattr(pipeline, "label_video", replaced)
    result = run(video, "--out", tmp_path / "out", "--json")
    assert result.exit_code == 1
    assert result.stderr.splitlines()[-1] == f"{video}: changed while it was labeled"
    assert json.loads(result.stdout)[0]["clips"] == 0
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["manifest.json"]


def test_shards_of_other_splits_stay(run, make_video, tmp_path):
    out = tmp_path / "out"
    assert run(make_video(), "--out", out).exit_code == 0
    other = (out / "data/train-00000-of-00001.parquet").rename(out / "data/validation-00000-of-00001.parquet")
    before = other.read_bytes()
    assert run(make_video(), "--out", out).exit_code == 0
    assert other.read_bytes() == before
    assert [file["name"] for file in json.loads((out / "manifest.json").read_text())["files"]] == [
        "data/train-00000-of-00001.parquet",
        "data/validation-00000-of-00001.parquet",
    ]


def test_an_unforeseen_error_costs_only_its_video(run, make_video, tmp_path, monkeypatch):
    def breaks(path, config, *_, **__):
        if "bad" in str(path):
            raise np.linalg.LinAlgError("not positive definite")
        yield from fake_label_video(path, config)

    monkeypatch.setattr(pipeline, "label_video", breaks)
    result = run(make_video("good.mp4"), make_video("bad.mp4"), "--out", tmp_path / "out")
    assert result.exit_code == 0, result.output
    assert "bad.mp4: stopped by an error in labeling (LinAlgError: not positive definite)" in result.stderr
    assert list((tmp_path / "out").rglob("*.parquet"))
    (failed,) = json.loads((tmp_path / "out/manifest.json").read_text())["failed"]
    assert "LinAlgError" in failed["reason"]


@pytest.fixture
def fake_workers(tmp_path, monkeypatch):
    site = tmp_path / "site"
    site.mkdir()
    (site / "sitecustomize.py").write_text(FAKE_IN_WORKERS)
    monkeypatch.setattr(sys, "path", [str(site), *sys.path])
    # Python looks for sitecustomize, which takes the tests' helpers, before a worker has the path of this process.
    path = [str(site), str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH")]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, path)))


def test_an_error_of_a_worker_costs_only_its_video(run, make_video, tmp_path, fake_workers):
    out = tmp_path / "out"
    result = run(make_video("good.mp4"), make_video("misfit.mp4"), "--out", out, "--workers", "2")
    assert result.exit_code == 0, result.output
    assert "misfit.mp4: RuntimeError: no row for this clip" in result.stderr
    rows = pq.read_table(out / "data/train-00000-of-00001.parquet")
    assert rows["source_video"].to_pylist() == ["good.mp4"]
    (failed,) = json.loads((out / "manifest.json").read_text())["failed"]
    assert failed["file"].endswith("misfit.mp4")


def test_several_workers_leave_the_same(run, make_video, tmp_path, fake_workers):
    """One of them dies: that costs only its video."""
    videos = [make_video(f"{name}.mp4", shots=[20, 9], fps=20) for name in ("a", "crash", "c")]
    one = run(*videos[::2], "--out", tmp_path / "one", "--json")
    two = run(*videos, "--out", tmp_path / "two", "--workers", "2", "--json")
    assert two.exit_code == 0, two.output
    first, crashed, last = json.loads(two.stdout)
    assert "crash.mp4: crashed the process that labeled it (SIGSEGV)" in crashed["failure"]
    for expected, found in zip(json.loads(one.stdout), (first, last), strict=True):
        assert found["per_clip"] == expected["per_clip"]
    rows = [pq.read_table(tmp_path / name / "data/train-00000-of-00001.parquet") for name in ("one", "two")]
    assert rows[0] == rows[1]
    assert not leftovers(tmp_path / "two")
    assert sorted(path.name for path in (tmp_path / "two").iterdir()) == [
        *("a.tracks.jpg", "a.tracks.mp4", "c.tracks.jpg", "c.tracks.mp4", "data", "manifest.json")
    ]


def test_label_and_build_have_the_same_options():
    """Those that set how to label, under the same names."""
    from typer.main import get_command

    commands = get_command(app).commands
    options = [
        {option.name: (option.opts, option.help) for option in commands[name].params} for name in ("label", "build")
    ]
    shared = ("fps", "short_side", "points", "quality", "recipe", "settings", "workers", "threads")
    assert [options[0][name] for name in shared] == [options[1][name] for name in shared]


def test_a_run_that_makes_nothing_replaces_nothing(run, make_video, tmp_path):
    out = tmp_path / "out"
    assert run(make_video("good.mp4"), "--out", out).exit_code == 0
    before = {p.name: p.read_bytes() for p in out.rglob("*.*") if p.is_file()}
    bad = tmp_path / "bad.mp4"
    bad.write_text("words")
    assert run(bad, "--out", out, "--overwrite").exit_code == 1
    assert {p.name: p.read_bytes() for p in out.rglob("*.*") if p.is_file()} == before


def test_overlays_are_not_labeled_again(run, make_video, tmp_path):
    folder = make_video("videos/a.mp4").parent
    assert run(folder, "--out", folder).exit_code == 0
    result = run(folder, folder / "a.mp4", "--out", folder, "--overwrite", "--json")
    assert [Path(item["video"]).name for item in json.loads(result.stdout)] == ["a.mp4"]


def test_the_summary_is_json_where_nothing_was_found(run, tmp_path):
    bad = tmp_path / "bad.mp4"
    bad.write_text("words")
    result = run(bad, "--out", tmp_path / "out", "--json")
    assert "NaN" not in result.stdout
    assert json.loads(result.stdout)[0]["fit_error"] is None


def test_reasons_reach_the_terminal_past_the_networks_greeting(make_video, tmp_path):
    """A process of its own: the networks start in several threads, and greet on the real standard error."""
    arguments = ["label", str(make_video()), "--out", str(tmp_path / "out")]
    result = subprocess.run(
        [sys.executable, "-m", "anthrotap_hf.cli.main", *arguments], capture_output=True, text=True, check=False
    )
    assert result.returncode == 1
    assert "no person was found" in result.stderr
    assert "XNNPACK" not in result.stderr


def test_help_has_an_example():
    result = CliRunner().invoke(app, ["label", "--help"])
    assert "anthrotap label dance.mp4 --out labels" in result.stdout


@pytest.mark.slow
def test_a_real_clip_end_to_end(clips_dir, tmp_path):
    result = CliRunner().invoke(app, ["label", str(clips_dir / "upper_body.mkv"), "--out", str(tmp_path), "--json"])
    assert result.exit_code == 0, result.output
    (summary,) = json.loads(result.stdout)
    assert summary["people"] == 1
    assert summary["visible"] > 0.3
    assert summary["rejected"] < 0.6


@pytest.mark.slow
def test_hands_alone_are_no_person(clips_dir, tmp_path):
    result = CliRunner().invoke(app, ["label", str(clips_dir / "hands_only.mp4"), "--out", str(tmp_path)])
    assert result.exit_code == 1
    assert "no person was found" in result.stderr


def cube_file(path, body=None):
    arrays = {
        "frame": np.arange(2),
        "person": np.zeros(2, int),
        "size": np.array([48, 64]),
        "focal": np.array(60.0),
    }
    arrays["vertices"] = np.ones((2, 3, 3)) * [1, 1, 9]
    arrays |= {"body": np.array(body)} if body else {"faces": [[0, 1, 2]]}
    np.savez(path, **arrays)
    return path


def test_meshes_are_found_by_file_or_by_the_video_s_name(tmp_path):
    videos = [Path("x/a.mp4"), Path("b.mp4")]
    one = cube_file(tmp_path / "a.meshes.npz")
    assert find_meshes(one, videos[:1])[videos[0]].path == one
    with pytest.raises(MeshFileError, match=r"one file for 2 videos; name a folder with a NAME\.meshes\.npz"):
        find_meshes(one, videos)
    assert "b.meshes.npz: no such file" in str(find_meshes(tmp_path, videos)[videos[1]])
    with pytest.raises(MeshFileError, match=r"b\.meshes\.npz: no such file"):
        find_meshes(tmp_path, videos[1:])
    cube_file(tmp_path / "b.meshes.npz", "anny")
    assert "label them in two runs" in str(find_meshes(tmp_path, videos)[videos[1]])


@pytest.mark.parametrize("content", [b"", b"PK\3\4", b"\x93NUMPY"])
def test_a_bad_file_of_meshes_costs_only_its_video(run, make_video, tmp_path, content):
    videos = [make_video("videos/a.mp4"), make_video("videos/b.mp4")]
    cube_file(tmp_path / "videos/a.meshes.npz")
    (tmp_path / "videos/b.meshes.npz").write_bytes(content)
    result = run(*videos, "--out", tmp_path / "out", "--meshes", tmp_path / "videos", "--json")
    assert result.exit_code == 0, result.output
    good, bad = json.loads(result.stdout)
    assert (good["failure"], good["clips"]) == (None, 1)
    assert "b.meshes.npz: it is no .npz" in bad["failure"]
    assert [item["file"] for item in json.loads((tmp_path / "out/manifest.json").read_text())["failed"]] == [
        str(videos[1])
    ]


def test_a_bad_file_of_meshes_ends_the_run_before_it_begins(run, make_video, tmp_path):
    result = run(make_video(), "--out", tmp_path / "out", "--meshes", tmp_path / "none.npz")
    assert result.exit_code == 2
    assert "none.npz: no such file of meshes" in result.output
    result = run(make_video(), "--out", tmp_path / "out", "--refine")
    assert result.exit_code == 2
    assert "refine is for other mesh sources" in result.output
    vertices = np.random.default_rng(0).normal(size=(1, 50, 3)).astype(np.float32) + [0, 0, 5]
    arrays = {"frame": [0], "person": [0], "focal": 60.0, "size": [64, 96], "faces": [[0, 1, 2]]}
    np.savez(tmp_path / "m.npz", vertices=vertices, **arrays)
    result = run(make_video(), "--out", tmp_path / "out", "--meshes", tmp_path / "m.npz", "--refine")
    assert result.exit_code == 2
    assert "body: mesh is for a file of vertices, which can't be fitted or refined" in result.output, result.output
    assert not (tmp_path / "out").exists()
