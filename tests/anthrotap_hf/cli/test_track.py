import json
import shutil

import numpy as np
import pytest
from PIL import Image
from transformers import pipeline
from typer.testing import CliRunner

from anthrotap_hf.cli.main import app
from anthrotap_hf.export.base import frame_times
from anthrotap_hf.pipelines import load_tracker
from anthrotap_hf.readers.tracks_file import TrackFileClips
from anthrotap_hf.video import DamagedVideoError, VideoWriter, decode_video, iter_frames, probe


def track(*arguments: object):
    return CliRunner().invoke(app, ["track", *map(str, arguments)])


def test_the_written_files(make_video, tmp_path):
    video, out = make_video("a.b.mp4", shots=[8], size=(64, 96), fps=12), tmp_path / "new/out"
    result = track(video, "--points", "0,20.5,30;5,60,40", "--out", out, "--json")
    assert result.exit_code == 0, result.output
    names = {f"a.b.tracks{suffix}" for suffix in (".mp4", ".npz", ".json")}
    assert {path.name for path in out.iterdir()} == names

    expected = pipeline("point-tracking")(str(video), points=[[0, 20.5, 30], [5, 60, 40]])
    plain = json.loads((out / "a.b.tracks.json").read_text())
    with np.load(out / "a.b.tracks.npz", allow_pickle=False) as arrays:
        for name, values in expected.items():
            np.testing.assert_array_equal(arrays[name], values)
            np.testing.assert_array_equal(np.array(plain[name], values.dtype), values)
        assert arrays["queries"].tolist() == plain["queries"] == [[0, 20.5, 30], [5, 60, 40]]
        assert arrays["size"].tolist() == plain["size"] == [64, 96]
        assert arrays["fps"] == plain["fps"] == 12
        assert str(arrays["model"]) == plain["model"] == "locotrack (default)"

    assert probe(out / "a.b.tracks.mp4").fps == 12
    overlay, frames = decode_video(out / "a.b.tracks.mp4"), decode_video(video)
    assert overlay.shape == frames.shape
    for t in (0, 7):  # a dot where each point is, the picture elsewhere
        x, y = expected["tracks"][0, t].astype(int)
        change = np.abs(overlay[t].astype(int) - frames[t]).max(-1)
        assert change[y, x] > 40
        assert np.median(change) < 10


def test_a_rate_that_varies_stays_in_overlay_and_files(make_video, tmp_path):
    """FFmpeg guesses 24 frames/s, the video has 9.6 on average."""
    times = np.cumsum([0, *np.random.default_rng(0).choice([2, 3], 19)]) / 24
    video = make_video(shots=[20], times=times, fps=24)
    result = track(video, "--grid", 2, "--out", tmp_path / "out")
    assert result.exit_code == 0, result.output
    overlay = [frame.time for frame in iter_frames(tmp_path / "out/video.tracks.mp4")]
    assert overlay == pytest.approx(times.tolist(), abs=2e-3)
    with np.load(tmp_path / "out/video.tracks.npz") as arrays:
        assert arrays["times"] == pytest.approx(times, abs=2e-3)
        assert arrays["fps"] == pytest.approx(19 / times[-1], rel=0.01)
    (clip,) = TrackFileClips(tmp_path / "out/video.tracks.npz")
    assert frame_times(clip) == pytest.approx(times, abs=2e-3)


def test_frames_before_damage_are_tracked(make_video, tmp_path, caplog):
    video = make_video("cut.mkv", shots=[40], size=(64, 96), fps=10)
    content = video.read_bytes()
    middle = len(content) // 2
    video.write_bytes(content[:middle] + bytes(300) + content[middle + 300 :])
    with pytest.raises(DamagedVideoError):
        decode_video(video)
    result = track(video, "--grid", 2, "--out", tmp_path / "out", "--json")
    assert result.exit_code == 0, result.output
    frames = json.loads(result.stdout)["frames"]
    assert 5 < frames < 40
    assert [record.getMessage() for record in caplog.records if "damaged" in record.getMessage()] == [
        f"{video}: damaged after {(frames - 1) / 10:.1f} s; the {frames} frames before that are tracked"
    ]
    assert len(decode_video(tmp_path / "out/cut.tracks.mp4")) == frames


def test_an_overlay_that_cannot_be_written_is_named(tmp_path):
    folder = tmp_path / "out"
    folder.mkdir()
    writer = VideoWriter(folder / "a.mp4", 24)
    writer.write(np.zeros((64, 96, 3), np.uint8))
    shutil.rmtree(folder)
    with pytest.raises(FileNotFoundError) as caught:
        writer.__exit__(None, None, None)
    assert caught.value.filename == str(folder / "a.mp4")


def test_a_video_that_changes_while_it_is_tracked(make_video, tmp_path, monkeypatch):
    video = make_video(shots=[4])

    def load(*arguments: object):
        tracker = load_tracker(*arguments)

        def run(*arguments: object, **options: object):
            found = tracker(*arguments, **options)
            video.write_bytes(video.read_bytes() + bytes(1))
            return found

        run.model = tracker.model
        return run

    monkeypatch.setattr("anthrotap_hf.cli.track.load_tracker", load)
    result = track(video, "--grid", 2, "--out", tmp_path / "out")
    assert result.exit_code == 2
    assert result.stderr.splitlines()[-1] == f"{video}: changed while it was tracked"
    assert not (tmp_path / "out").exists()


def test_a_folder_of_pictures(tmp_path, moving_pattern):
    folder = tmp_path / "frames"
    folder.mkdir()
    images = moving_pattern(12, 64, 96)
    for number, image in enumerate(images):
        Image.fromarray(image).save(folder / f"frame{number}.png")
    result = track(folder, "--grid", 2, "--fps", 5, "--out", tmp_path / "out")
    assert result.exit_code == 0, result.output
    with np.load(tmp_path / "out/frames.tracks.npz") as arrays:
        assert arrays["fps"] == 5
        expected = pipeline("point-tracking")(images, grid_size=2)["tracks"]
        np.testing.assert_array_equal(arrays["tracks"], expected)
    assert probe(tmp_path / "out/frames.tracks.mp4").fps == 5
    result = track(tmp_path / "out/frames.tracks.mp4", "--grid", 2, "--fps", 5, "--out", tmp_path / "again")
    assert result.exit_code != 0
    assert "--fps is for folders of pictures" in result.output


def test_the_summary_is_json_when_asked_for(make_video, tmp_path):
    result = track(make_video(shots=[3]), "--grid", 3, "--out", tmp_path / "out", "--json")
    summary = json.loads(result.stdout)
    assert (summary["points"], summary["frames"], summary["model"]) == (9, 3, "locotrack (default)")
    assert 0 <= summary["visible"] <= 1
    assert len(summary["files"]) == 3


def test_sides_that_h264_does_not_take(make_video, tmp_path):
    video = make_video(shots=[3], size=(65, 97))
    result = track(video, "--grid", 2, "--out", tmp_path / "out")
    assert result.exit_code == 0, result.output
    assert "4 points over 3 frames by locotrack" in result.stdout
    assert decode_video(tmp_path / "out/video.tracks.mp4").shape == (3, 66, 98, 3)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("q.csv", "t,x,y\n0,5,6\n2,7.5,8\n"),
        ("q.csv", "0,5,6\n\n2, 7.5, 8\n"),
        ("q.csv", "\ufefft,x,y\r\n0,5,6\r\n2,7.5,8\r\n"),  # as Excel writes it
        ("q.json", "[[0, 5, 6], [2, 7.5, 8]]"),
        ("q.json", '\ufeff[{"t": 0, "x": 5, "y": 6}, {"x": 7.5, "y": 8, "t": 2, "name": "nose"}]'),
        ("q.json", '{"queries": [[0, 5, 6], [2, 7.5, 8]], "fps": 3}'),
    ],
)
def test_points_from_a_file(make_video, tmp_path, name, content):
    (tmp_path / name).write_bytes(content.encode())
    result = track(make_video(shots=[3]), "--points", tmp_path / name, "--out", tmp_path / "out")
    assert result.exit_code == 0, result.output
    with np.load(tmp_path / "out/video.tracks.npz", allow_pickle=False) as arrays:
        assert arrays["queries"].tolist() == [[0, 5, 6], [2, 7.5, 8]]


def test_points_and_a_grid_over_a_mask(make_video, tmp_path):
    mask = Image.new("L", (96, 64))
    mask.paste(255, (20, 10, 24, 13))
    mask.save(tmp_path / "mask.png")
    arguments = ("--points", "0,5,6", "--grid", "all", "--query-frame", 1, "--mask", tmp_path / "mask.png")
    result = track(make_video(shots=[3]), *arguments, "--out", tmp_path / "out")
    assert result.exit_code == 0, result.output
    with np.load(tmp_path / "out/video.tracks.npz", allow_pickle=False) as arrays:
        queries = arrays["queries"].tolist()
    assert queries == [[0, 5, 6], *([1, x + 0.5, y + 0.5] for y in (10, 11, 12) for x in (20, 21, 22, 23))]


def test_invalid_arguments_are_reported_in_one_line(make_video, tmp_path):
    video = make_video(shots=[3])
    (tmp_path / "broken.mp4").write_bytes(b"no video")
    (tmp_path / "broken.json").write_text("{")
    (tmp_path / "other.json").write_text("{}")
    (tmp_path / "flat.json").write_text("[0, 5, 6]")
    (tmp_path / "text.json").write_text('["012"]')
    (tmp_path / "binary.csv").write_bytes(b"PK\x03\x04\xff\xfe\x00")
    (tmp_path / "nul.csv").write_bytes(b"0,1,\x00")
    (tmp_path / "a file").write_text("")
    (tmp_path / "strange").mkdir()
    (tmp_path / "strange/config.json").write_text("{}")
    Image.new("L", (8, 8), 255).save(tmp_path / "small.png")
    Image.new("L", (96, 64)).save(tmp_path / "black.png")
    out = tmp_path / "out"
    for arguments, message in [
        ((video, "--out", out), "give --points, --grid"),
        ((video, "--out", out, "--points", "0,1,1", "--mask", "a.png"), "--mask needs --grid or --points-per-frame"),
        ((video, "--out", out, "--grid", 2, "--corrections", "a.csv"), "--corrections says what to track"),
        ((video, "--out", out, "--corrections", "a.csv", "--outside"), "--corrections goes without --outside"),
        ((video, "--out", out, "--corrections", "none.csv"), "none.csv"),
        ((video, "--out", out, "--corrections", tmp_path / "other.json"), "other.json: no project"),
        ((video, "--out", out, "--grid", "some"), '--grid: must be a whole number from 1 up, or "all", got some'),
        ((video, "--out", out, "--grid", 2, "--mask", "none.png"), "none.png"),
        ((video, "--out", out, "--grid", 2, "--mask", tmp_path / "small.png"), "small.png has shape [8, 8]"),
        ((video, "--out", out, "--grid", 2, "--mask", tmp_path / "black.png"), "black.png is empty"),
        ((video, "--out", out, "--grid", 2, "--points-per-frame", 1), "give --points, --grid"),
        ((video, "--out", out, "--points", "0,1"), "0,1 is not t,x,y"),
        ((video, "--out", out, "--points", "0,1,b"), "--points: not rows of t,x,y"),
        ((video, "--out", out, "--points", ";"), "no query point"),
        ((video, "--out", out, "--points", "0,1,nan"), "outside the video"),
        ((video, "--out", out, "--points", "3,1,1"), "from 0 to 2"),
        ((video, "--out", out, "--points", "0.5,1,1"), "not in a whole frame"),
        ((video, "--out", out, "--points", "0,97,1"), "x from 0 to 96"),
        ((video, "--out", out, "--points", "none.csv"), "none.csv: No such file"),
        ((video, "--out", out, "--points", tmp_path / "broken.json"), "not JSON"),
        ((video, "--out", out, "--points", tmp_path / "other.json"), "must hold a list"),
        (
            (video, "--out", out, "--points", tmp_path / "flat.json"),
            "flat.json: not rows of t,x,y: entry 0 is 0, not a point",
        ),
        (
            (video, "--out", out, "--points", tmp_path / "text.json"),
            'text.json: not rows of t,x,y: entry 0 is "012", not a point',
        ),
        ((video, "--out", out, "--points", tmp_path / "binary.csv"), "binary.csv: not a text file"),
        ((video, "--out", out, "--points", tmp_path / "nul.csv"), "nul.csv"),
        (
            (video, "--out", out, "--grid", 2, "--window", 50, "--model", "flowchain"),
            "FlowChainForPointTracking has no window_size",
        ),
        (
            (video, "--out", out, "--grid", 2, "--device", "nonsense"),
            "--device nonsense: can't be used on this machine",
        ),
        ((video, "--out", tmp_path / "a file/out", "--grid", 2), "a file is a file, not a folder"),
        ((video, "--out", out, "--grid", 2, "--query-frame", 3), "query_frame"),
        ((video, "--out", out, "--grid", 2, "--resolution", "64"), "HEIGHTxWIDTH"),
        ((video, "--out", tmp_path / "a file", "--grid", 2), "is a file, not a folder"),
        ((tmp_path / "none.mp4", "--out", out, "--grid", 2), "no such file"),
        ((tmp_path / "broken.mp4", "--out", out, "--grid", 2), "not a video"),
        ((video, "--out", out, "--grid", 2, "--model", tmp_path / "none"), "none"),
        ((video, "--out", out, "--grid", 2, "--model", tmp_path / "strange"), "strange"),
    ]:
        result = track(*arguments)
        assert result.exit_code == 2, (arguments, result.output)
        lines = [line for line in result.stderr.splitlines() if "tracking by" not in line and line.strip()]
        assert message in lines[-1], (arguments, result.stderr)
        assert "Traceback" not in result.stderr
        assert len([line for line in lines if "Loading weights" not in line]) == 1, lines
    assert not out.exists()


def test_invalid_input_is_reported_before_the_tracking(make_video, tmp_path, monkeypatch):
    monkeypatch.setattr("anthrotap_hf.cli.track.load_tracker", lambda *_: pytest.fail("a model was loaded"))
    video = make_video(shots=[3])
    for arguments, message in [
        (("--out", tmp_path / "out", "--points", "0,97,1"), "x from 0 to 96"),
        (("--out", tmp_path / "out", "--points", "0,1,1;-1,2,2"), "point 1"),
        (("--out", video / "out", "--grid", 2), "is a file, not a folder"),
        (("--out", "/proc/nowhere/out", "--grid", 2), "/proc can't be written to"),
    ]:
        result = track(video, *arguments)
        assert result.exit_code == 2, result.exception
        assert message in result.stderr
    assert not (tmp_path / "out").exists()


def test_files_of_an_earlier_run_stay_unless_asked(make_video, tmp_path):
    video, out = make_video(shots=[3]), tmp_path / "out"
    assert track(video, "--grid", 2, "--out", out).exit_code == 0
    before = (out / "video.tracks.npz").read_bytes()
    result = track(video, "--grid", 3, "--out", out)
    assert result.exit_code == 2
    assert "video.tracks.json: exists already; --overwrite replaces" in result.stderr
    assert (out / "video.tracks.npz").read_bytes() == before
    assert track(video, "--grid", 3, "--out", out, "--overwrite").exit_code == 0
    assert (out / "video.tracks.npz").read_bytes() != before


def test_points_per_frame_and_the_overlay_has_a_progress_bar(make_video, tmp_path):
    result = track(make_video(shots=[3]), "--points-per-frame", 2, "--out", tmp_path / "out", "--json")
    assert json.loads(result.stdout)["points"] == 6
    assert result.stderr.strip().splitlines()[-1].startswith("overlay")
    assert "3/3" in result.stderr


def test_chunks_and_device_reach_the_pipeline(make_video, tmp_path, monkeypatch):
    calls = []

    class Tracker:
        class model:  # noqa: N801
            state_dict = dict

            class config:  # noqa: N801
                model_type = "fake"

        def __call__(self, video, **options):
            calls.append(options)
            return {
                "tracks": np.full((1, 3, 2), 9, np.float32),
                "visible": np.ones((1, 3), bool),
                "scores": np.ones((1, 3), np.float32),
            }

    monkeypatch.setattr("transformers.pipeline", lambda *_, **options: calls.append(options) or Tracker())
    arguments = ["--frame-chunk", 2, "--query-chunk", 3, "--window", 60, "--device", "cpu"]
    result = track(make_video(shots=[3]), "--points", "0,9,9", "--out", tmp_path / "out", *arguments)
    assert result.exit_code == 0, result.output
    assert calls[0]["device"] == "cpu"
    assert calls[1]["points"] == [[0, 9, 9]]
    assert [calls[1][f"{name}_size"] for name in ("frame_chunk", "query_chunk", "window")] == [2, 3, 60]
