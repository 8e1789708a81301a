"""A build as a whole: what comes out, what is done again, what a bad video or a killed process costs."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import datasets
import psutil
import pytest

from anthrotap_builder.distributed.state import BuildError, Journal
from anthrotap_builder.video_result import VideoResult
from anthrotap_hf import decode_row
from anthrotap_hf.utils.folder_lock import FolderInUseError
from helpers.dataset_content import content

pytestmark = pytest.mark.usefixtures("marks")


@pytest.fixture
def videos(make_video, tmp_path) -> Path:
    """Four videos of one or two clips each."""
    for number, shots in enumerate(([10], [12, 9], [14], [8, 11])):
        make_video(f"videos/{'abcd'[number]}.mp4", shots=shots, fps=20 + number)
    return tmp_path / "videos"


@pytest.fixture(scope="module")
def once(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("once")


@pytest.fixture
def built(once, videos, run, labeled, tmp_path) -> Path:
    """Such videos, not to be changed, of which a build in ranks of two lies in "out"."""
    if not (once / "out").exists():
        videos.rename(once / "videos")
        run(once / "videos", videos_per_rank=2)
        shutil.copytree(tmp_path / "out", once / "out")
        labeled()
    else:
        shutil.copytree(once / "out", tmp_path / "out")
    return once / "videos"


def test_videos_become_a_dataset(videos, run, tmp_path, described):
    report = run(videos)
    assert (report.videos, report.labeled, report.failed, report.rows) == (4, 4, [], {"train": 6})
    rows = datasets.load_dataset(str(tmp_path / "out"), split="train", cache_dir=str(tmp_path / "cache"))
    assert len({row["clip_id"] for row in rows}) == 6
    frames, tracks = decode_row(rows.with_format("numpy")[0])
    assert len(frames) == tracks.num_frames
    assert {line["clips"] for line in described().values()} == {1, 2}
    manifest = json.loads((tmp_path / "out/manifest.json").read_text())
    assert manifest["counts"]["clips"] == 6
    assert [file["rows"] for file in manifest["files"]] == [6]
    assert str(tmp_path) not in (tmp_path / "out/videos.jsonl").read_text() + json.dumps(manifest)


def test_what_was_left_out_is_reported_with_its_reason(make_video, run, tmp_path, described):
    for name, shots in (("a", [20, 5, 12]), ("b", [9])):
        make_video(f"videos/{name}.mp4", shots=shots, fps=20)
    report = run(tmp_path / "videos")
    assert report.skipped == {"fewer than the 8 frames that a clip needs": 5}
    assert (report.people, report.people_found) == (2, 4)
    assert report.unlabeled == {"too far away": 3}
    warning = "80 % of the area that moves has no label near: `anthrotap label` draws an overlay of it to look at"
    assert [line.partition(": ")[2] for line in report.warnings] == [warning] * 2
    line = described()["a.mp4"]
    assert (line["people"], line["people_found"], line["warnings"]) == (1, 2, [warning])
    assert line["skipped"] == ["5 frames from frame 20 on: fewer than the 8 frames that a clip needs"]
    assert line["unlabeled"] == [
        "person 1, 20 frames from frame 0 on: no label: too far away",
        "person 1, 12 frames from frame 25 on: no label: too far away",
    ]


def test_the_result_depends_on_videos_and_recipe_alone(videos, run, tmp_path):
    run(videos, "one", validation=0.4, shard_bytes=20_000)
    (tmp_path / "list.txt").write_text("\n".join(f"videos/{name}.mp4" for name in "dbca"))
    run(tmp_path / "list.txt", "two", validation=0.4, shard_bytes=20_000, workers=3, videos_per_rank=1)
    moved = shutil.copytree(videos, tmp_path / "elsewhere")
    run(moved, "three", validation=0.4, shard_bytes=20_000, videos_per_rank=3)
    one, two, three = (content(tmp_path / name) for name in ("one", "two", "three"))
    assert len(one) >= 5
    assert one == two == three


def test_only_new_videos_are_labeled(videos, run, make_video, labeled, tmp_path):
    moved = (videos / "b.mp4").rename(tmp_path / "b.mp4")
    run(videos)
    assert labeled() == ["a", "c", "d"]
    assert run(videos).labeled == 0
    moved.rename(videos / "b.mp4")
    report = run(videos)
    assert labeled() == ["b"]
    assert (report.labeled, report.rows) == (1, {"train": 6})
    run(videos, "fresh")
    assert content(tmp_path / "out") == content(tmp_path / "fresh")


def test_videos_that_are_gone_leave_the_dataset(videos, run, labeled):
    run(videos)
    labeled()
    (videos / "b.mp4").unlink()
    assert run(videos).rows == {"train": 4}
    assert labeled() == []


def test_moved_videos_are_not_labeled_again(built, run, labeled, tmp_path):
    before = content(tmp_path / "out")
    run(shutil.copytree(built, tmp_path / "elsewhere"))
    assert labeled() == []
    assert content(tmp_path / "out") == before


def test_another_recipe_labels_anew_and_the_first_is_kept(built, run, labeled, tmp_path):
    before = content(tmp_path / "out")
    assert run(built, settings={"points": 77}).labeled == 4
    assert labeled() == ["a", "b", "c", "d"]
    assert run(built).labeled == 0
    assert content(tmp_path / "out") == before


def test_each_content_is_labeled_once(videos, run, labeled, described, tmp_path):
    shutil.copy(videos / "b.mp4", videos / "z.mp4")
    report = run(videos, videos_per_rank=9)
    assert labeled() == ["a", "b", "c", "d"]
    assert report.rows == {"train": 6}
    assert described()["z.mp4"]["copy_of"] == "b.mp4"
    run(videos, "by_ranks", videos_per_rank=1)  # another rank may not know yet; then it is skipped in the end
    assert content(tmp_path / "out") == content(tmp_path / "by_ranks")
    row = datasets.load_dataset(str(tmp_path / "out"), split="train", cache_dir=str(tmp_path / "cache"))
    assert "z.mp4" not in row["source_video"]


def test_the_same_frames_in_another_file_are_skipped(make_video, run, tmp_path):
    make_video("videos/a.mp4", shots=[10])
    make_video("videos/b.mp4", shots=[10], options={"movflags": "faststart"})
    a, b = ((tmp_path / f"videos/{name}.mp4").read_bytes() for name in "ab")
    assert a != b
    assert run(tmp_path / "videos").rows == {"train": 1}


def test_no_video_is_in_two_splits(make_video, run, tmp_path):
    for number in range(6):
        make_video(f"videos/{number}.mp4", shots=[8, 9, 10], fps=20 + number)
    run(tmp_path / "videos", validation=0.5)
    splits = datasets.load_dataset(str(tmp_path / "out"), cache_dir=str(tmp_path / "cache"))
    sources = {name: set(rows["source_sha256"]) for name, rows in splits.items()}
    assert set(sources) == {"train", "validation"}
    assert not sources["train"] & sources["validation"]


def test_labels_only(built, run, labeled, tmp_path):
    run(built, label_only=True)
    assert labeled() == []
    rows = datasets.load_dataset(str(tmp_path / "out"), split="train", cache_dir=str(tmp_path / "cache"))
    assert rows["video"] == [None] * 6
    assert all(len(sha) == 64 for sha in rows["source_sha256"])
    assert json.loads((tmp_path / "out/manifest.json").read_text())["label_only"]


@pytest.mark.parametrize(
    ("name", "limits", "reason"),
    [
        ("crash", {}, "crashed the process that labeled it (SIGSEGV)"),
        pytest.param("hang", {"seconds": 2}, "took longer than 0.0333 minutes", marks=pytest.mark.slow),
        ("hungry", {"memory": 1 << 30}, "needed more than 1 GB of memory"),
        ("raise", {}, "the native library is in a bad mood"),
        ("misfit", {}, "RuntimeError: no row for this clip"),
        ("leave", {}, "no such file"),
    ],
)
def test_a_video_that_kills_its_process_costs_only_itself(
    videos, make_video, run, described, name, limits, reason, tmp_path
):
    make_video(f"videos/b-{name}.mp4", shots=[9], fps=50)
    report = run(videos, retries=0 if name == "hang" else 1, **limits)
    (failure,) = report.failed
    assert reason in failure
    assert f"b-{name}.mp4" in failure
    assert report.rows == {"train": 6}
    assert reason in described()[f"b-{name}.mp4"]["failure"]


def test_damaged_videos_are_listed(videos, run, described):
    whole = (videos / "d.mp4").read_bytes()
    (videos / "empty.mp4").write_bytes(b"")
    (videos / "text.mp4").write_text("no video")
    (videos / "cut.mp4").write_bytes(whole[: len(whole) // 2])
    report = run(videos)
    assert report.rows == {"train": 6}
    assert len(report.failed) == 3
    assert {name for name, line in described().items() if line["failure"]} == {
        "empty.mp4",
        "text.mp4",
        "cut.mp4",
    }


def test_a_failed_video_is_tried_again(videos, make_video, run, labeled):
    make_video("videos/stumble.mp4", shots=[9], fps=50)
    report = run(videos)
    assert report.failed == []
    assert labeled().count("stumble") == 2


@pytest.mark.slow
def test_a_video_that_is_back_is_labeled(videos, run, tmp_path):
    listed = tmp_path / "list.txt"
    listed.write_text("".join(f"videos/{name}.mp4\n" for name in "abcd"))
    (videos / "c.mp4").rename(tmp_path / "c.mp4")
    report = run(listed)
    assert report.failed == [f"{videos / 'c.mp4'}: no such file"]
    assert report.rows == {"train": 5}
    (tmp_path / "c.mp4").rename(videos / "c.mp4")
    assert run(listed).labeled == 1
    run(videos, "fresh")
    assert content(tmp_path / "out") == content(tmp_path / "fresh")


def test_given_up_videos_are_tried_again_when_asked(videos, make_video, run, labeled):
    make_video("videos/stumble.mp4", shots=[9], fps=50)
    assert len(run(videos, retries=0).failed) == 1
    labeled()
    assert len(run(videos, retries=0).failed) == 1
    assert labeled() == []
    report = run(videos, retries=0, retry_failed=True)
    assert labeled() == ["stumble"]
    assert (report.failed, report.rows) == ([], {"train": 7})


@pytest.mark.slow
def test_nothing_but_bad_videos(make_video, run, tmp_path):
    make_video("videos/raise.mp4", shots=[9])
    report = run(tmp_path / "videos")
    assert report.rows == {}
    assert len(report.failed) == 1


@pytest.mark.parametrize("which", ["rank-0000000-000.rows", "in the middle"])
def test_damaged_rows_are_labeled_again(built, run, labeled, tmp_path, which):
    before = content(tmp_path / "out")
    file = next((tmp_path / "out/.build").rglob("rank-0000000-000.rows"))
    data = bytearray(file.read_bytes())
    if which == "in the middle":
        data[len(data) // 2] ^= 255
        file.write_bytes(data)
    else:
        file.write_bytes(data[:-100])
    run(built)
    assert labeled() == ["a", "b"]
    assert content(tmp_path / "out") == before


def test_rows_that_are_gone_are_labeled_again(built, run, labeled, tmp_path):
    before = content(tmp_path / "out")
    next((tmp_path / "out/.build").rglob("rank-0000001-000.rows")).unlink()
    run(built)
    assert labeled() == ["c", "d"]
    assert content(tmp_path / "out") == before


def test_a_second_build_in_the_folder_is_rejected(videos, run, tmp_path):
    (tmp_path / "out/.build").mkdir(parents=True)
    with open(tmp_path / "out/.anthrotap.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(FolderInUseError, match="another run is at work here"):
            run(videos)
    assert run(videos).labeled == 4


def test_missing_parts_are_reported_before_any_video(videos, run, labeled, marks, tmp_path):
    site = tmp_path / "site/sitecustomize.py"
    missing = "\ndef missing(*_):\n    raise ImportError('needs gold: pip install gold')\n"
    site.write_text(f"{site.read_text()}{missing}labeling.load_parts = missing\n")
    with pytest.raises(BuildError, match="pip install gold"):
        run(videos)
    assert labeled() == []


def test_networks_that_do_not_load_are_one_line(videos, run, marks, tmp_path):
    site = tmp_path / "site/sitecustomize.py"
    broken = "\ndef broken(*_):\n    raise RuntimeError('CUDA is\\nin a bad mood')\n"
    site.write_text(f"{site.read_text()}{broken}labeling.load_parts = broken\n")
    with pytest.raises(BuildError, match=r"does not start \(RuntimeError: CUDA is in a bad mood\); see .*log"):
        run(videos)


def test_a_torn_line_of_the_journal_is_ignored(tmp_path):
    path = tmp_path / "rank.jsonl"
    with Journal(path) as journal:
        journal.add(VideoResult("a", source="a"))
    whole = path.read_bytes()
    path.write_bytes(whole + whole[:20])
    with Journal(path) as journal:
        assert list(journal.results) == ["a"]
        journal.add(VideoResult("b", source="b"))
    with Journal(path) as journal:
        assert list(journal.results) == ["a", "b"]


def start(videos: Path, out: Path, *options: str) -> subprocess.Popen:
    command = [
        sys.executable,
        "-m",
        "anthrotap_hf.cli.main",
        "build",
        str(videos),
        "--out",
        str(out),
        "--json",
    ]
    return subprocess.Popen(
        [*command, *options], stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True
    )


def until(condition, seconds: float = 30) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


@pytest.fixture
def slow_videos(make_video, tmp_path) -> Path:
    for number in range(5):
        make_video(f"videos/slow-{number}.mp4", shots=[9, 10], fps=20 + number)
    return tmp_path / "videos"


@pytest.mark.parametrize("victim", ["driver", pytest.param("labeler", marks=pytest.mark.slow)])
def test_killed_processes_lose_nothing(slow_videos, run, marks, tmp_path, victim):
    build = start(slow_videos, tmp_path / "out", "--workers", "2", "--threads", "1", "--videos-per-rank", "2")
    until(lambda: (marks / "labeled").exists() and len((marks / "labeled").read_text().split()) > 2)
    family = psutil.Process(build.pid).children(recursive=True)
    labelers = [p for p in family if "anthrotap labeling" in p.cmdline()]
    victims = {"driver": build.pid, "labeler": labelers[0].pid}
    os.kill(victims[victim], signal.SIGKILL)
    build.wait(60)
    if victim == "driver":
        until(lambda: not any(p.is_running() and p.status() != "zombie" for p in family), 10)
        build = start(slow_videos, tmp_path / "out")
        build.wait(60)
    assert build.returncode == 0
    assert json.loads(build.stdout.read())["failed"] == []
    run(slow_videos, "unbroken")
    assert content(tmp_path / "out") == content(tmp_path / "unbroken")
    left = [path for path in (tmp_path / "out").rglob(".*") if path.name not in (".build",)]
    assert left == []


@pytest.mark.slow
def test_a_stopped_build_resumes(slow_videos, run, marks, tmp_path):
    build = start(slow_videos, tmp_path / "out", "--workers", "1", "--videos-per-rank", "1")
    until(lambda: (marks / "labeled").exists() and len((marks / "labeled").read_text().split()) > 1)
    build.send_signal(signal.SIGINT)
    build.wait(30)
    assert build.returncode == 130
    assert b"the same command goes on" in build.stderr.read()
    assert run(slow_videos).labeled < 5
    run(slow_videos, "unbroken")
    assert content(tmp_path / "out") == content(tmp_path / "unbroken")


def test_files_not_made_by_a_build_are_not_replaced(videos, run, tmp_path):
    (tmp_path / "out/data").mkdir(parents=True)
    (tmp_path / "out/data/precious.txt").write_text("mine")
    with pytest.raises(BuildError, match="holds data, which no build has made"):
        run(videos)
    with pytest.raises(BuildError, match=r"a.mp4: lies in the folder of the dataset"):
        run(videos, "videos")
    assert (tmp_path / "out/data/precious.txt").read_text() == "mine"
    assert len(list(videos.iterdir())) == 4


def test_a_build_without_its_state_may_be_built_again(built, run, labeled, tmp_path):
    before = content(tmp_path / "out")
    shutil.rmtree(tmp_path / "out/.build")
    assert run(built).labeled == 4
    assert content(tmp_path / "out") == before


def test_a_dataset_stays_where_no_video_gives_a_clip(built, run, make_video, tmp_path):
    before = content(tmp_path / "out")
    with pytest.raises(BuildError, match=r"no video gave a clip .* stays"):
        run(make_video("raise.mp4", shots=[9]))
    assert content(tmp_path / "out") == before


@pytest.mark.slow
def test_higher_limits_try_again(make_video, run, labeled, tmp_path):
    make_video("videos/a.mp4", shots=[9])
    make_video("videos/slow-hang.mp4", shots=[9], fps=50)
    assert len(run(tmp_path / "videos", seconds=2).failed) == 1
    assert labeled() == ["a", "slow-hang"]  # and not again in this run
    run(tmp_path / "videos", seconds=1)
    assert labeled() == []
    run(tmp_path / "videos", seconds=3)
    assert labeled() == ["slow-hang"]


def test_odd_names(make_video, run, described, tmp_path):
    for number, name in enumerate(["a b [1].mp4", "\u00e9t\u00e9.mp4", "two\nlines.mp4"]):
        make_video(f"videos/{name}", shots=[9], fps=20 + number)
    odd = os.fsencode(tmp_path / "videos") + b"/\xff.mp4"
    os.rename(make_video("videos/x.mp4", shots=[9], fps=50), odd)
    report = run(tmp_path / "videos")
    assert (report.failed, report.rows) == ([], {"train": 4})
    assert set(described()) == {"a b [1].mp4", "\u00e9t\u00e9.mp4", "two\nlines.mp4", "?.mp4"}


@pytest.mark.slow
def test_rows_lost_in_two_ranks_come_back(videos, run, tmp_path):
    """A copy in another rank, whose rows the damaged file of the first held."""
    shutil.copy(videos / "a.mp4", videos / "z.mp4")
    run(videos, videos_per_rank=2)
    before = content(tmp_path / "out")
    file = next((tmp_path / "out/.build").rglob("rank-0000000-000.rows"))
    file.write_bytes(file.read_bytes()[:-50])
    run(videos)
    assert content(tmp_path / "out") == before


@pytest.mark.slow
def test_lost_rows_of_a_copy_come_back(videos, run, labeled, tmp_path):
    """The copy was never labeled: an earlier plan had done the first, which is gone by now."""
    run(videos)
    shutil.copy(videos / "a.mp4", videos / "z.mp4")
    run(videos)
    (videos / "a.mp4").unlink()
    labeled()
    next((tmp_path / "out/.build").rglob("plan-000/rank-0000000-000.rows")).unlink()
    run(videos, videos_per_rank=9)
    assert "z" in labeled()
    run(videos, "fresh")
    assert content(tmp_path / "out") == content(tmp_path / "fresh")


@pytest.mark.slow
def test_many_damaged_files_do_not_stop_the_build(videos, run, tmp_path):
    run(videos, videos_per_rank=1)
    before = content(tmp_path / "out")
    for file in (tmp_path / "out/.build").rglob("rank-*.rows"):
        data = bytearray(file.read_bytes())
        data[100] ^= 255
        file.write_bytes(data)
    run(videos, workers=2)
    assert content(tmp_path / "out") == before


def test_a_labeling_process_that_is_killed_as_it_starts(videos, run, marks, tmp_path):
    site = tmp_path / "site/sitecustomize.py"
    site.write_text(
        f"{site.read_text()}if 'anthrotap labeling' in sys.orig_argv and once('start'): os.kill(os.getpid(), 9)\n"
    )
    assert run(videos).rows == {"train": 6}
    assert (marks / "start").exists()
