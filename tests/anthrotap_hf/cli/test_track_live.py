"""`anthrotap track --live`."""

import csv
import io
import json
import threading
import time

import numpy as np
import pytest
from typer.testing import CliRunner

from anthrotap_hf.cli.main import app
from anthrotap_hf.pipelines import load_tracker
from anthrotap_hf.video import VideoError
from anthrotap_hf.video.live import camera_images, live_frames, raw_images
from helpers.file_server import running_file_server


@pytest.fixture(scope="module")
def video() -> np.ndarray:
    """[12, 64, 96, 3]: a texture that moves by (1, 0.5) pixels a frame."""
    rng = np.random.default_rng(3)
    texture = np.kron(rng.integers(0, 255, (24, 32, 3)), np.ones((5, 5, 1))).astype(np.uint8)
    return np.stack([texture[30 - t // 2 : 94 - t // 2, 40 - t : 136 - t] for t in range(12)])


def run(video, *arguments, model="flowchain"):
    fixed = ("track", "--live", "-", "--size", "64x96", "--no-drop", "--model", model)
    return CliRunner().invoke(app, [*fixed, *map(str, arguments)], input=video.tobytes())


def test_raw_frames_give_a_line_each(video):
    result = run(video, "--points", "0,40.5,30;5,20,20")
    assert result.exit_code == 0, result.stderr
    lines = [json.loads(line) for line in result.stdout.splitlines()]
    assert [line["t"] for line in lines] == list(range(12))
    assert [[point["id"] for point in line["points"]] for line in lines] == [[0]] * 5 + [[0, 1]] * 7
    whole = load_tracker("flowchain")(video, points=[[0, 40.5, 30]])["tracks"][0]
    found = [[line["points"][0][name] for name in "xy"] for line in lines]
    np.testing.assert_allclose(found, whole, atol=2e-3)
    assert lines[5]["points"][1] == {"id": 1, "x": 20, "y": 20, "visible": True, "score": 1, "uncertainty": 0}
    assert "0 dropped" in result.stderr


def test_a_tracker_that_looks_ahead_gives_every_frame(video):
    result = run(video, "--grid", 2, "--live-output", "csv", model="locotrack-tiny")
    assert result.exit_code == 0, result.stderr
    rows = list(csv.DictReader(io.StringIO(result.stdout)))
    assert len(rows) == 12 * 4
    assert [row["t"] for row in rows[::4]] == [str(t) for t in range(12)]
    assert [float(rows[0][name]) for name in "xy"] == [24, 16]
    assert "4 frames and" in result.stderr


def test_frames_with_points_drawn_on_them(video):
    result = run(video, "--points", "0,40.5,30", "--live-output", "frames")
    assert result.exit_code == 0, result.stderr
    frames = np.frombuffer(result.stdout_bytes, np.uint8).reshape(video.shape)
    change = np.abs(frames.astype(int) - video).max(-1)
    for t in (0, 6, 11):
        y, x = np.nonzero(change[t] > 30)
        assert abs(x.max() - (40 + t)) < 5
        assert abs(y.max() - (30 + t // 2)) < 5
    # Elsewhere it is the frame.
    assert (change[:, 50:] == 0).all()


def test_a_stream_on_loopback(make_video):
    with running_file_server() as server:
        server.files["/live.mp4"] = make_video("live.mp4", shots=[6]).read_bytes()
        options = ["--points", "0,20,30", "--no-drop", "--model", "flowchain"]
        result = CliRunner().invoke(app, ["track", "--live", f"{server.url}/live.mp4", *options])
    assert result.exit_code == 0, result.stderr
    assert len(result.stdout.splitlines()) == 6


def test_frames_are_dropped_rather_than_delayed():
    image = np.zeros((2, 2, 3), np.uint8)

    def source():
        for _ in range(30):
            time.sleep(0.01)
            yield image

    numbers, late = [], []
    start = time.monotonic()
    for frame in live_frames(source()):
        late.append(time.monotonic() - start - frame.time)
        numbers.append(frame.number)
        time.sleep(0.05)
    # A frame in five or so is worked on, the last one too, and none is older than the work on one.
    assert 3 <= len(numbers) < 20
    assert numbers == sorted(set(numbers))
    assert numbers[-1] == 29
    assert np.median(late) < 0.05


def test_a_source_that_fails_is_heard_of_after_its_frames():
    def source():
        yield np.zeros((2, 2, 3), np.uint8)
        raise VideoError("it broke", path="cam")

    frames = live_frames(source())
    assert next(frames).number == 0
    with pytest.raises(VideoError, match="cam: it broke"):
        next(frames)
    assert "live frames" not in [thread.name for thread in threading.enumerate()]


def test_frames_of_another_size_are_one_line():
    file = io.BytesIO(bytes(2 * 2 * 3 + 5))
    images = raw_images(file, 2, 2)
    assert next(images).shape == (2, 2, 3)
    with pytest.raises(VideoError, match="it ends with 5 bytes, and a frame of 2x2 in rgb24 has 12"):
        next(images)


def test_a_camera_that_is_not_there_is_one_line(capfd):
    with pytest.raises(VideoError, match="no camera 97 can be opened on this machine"):
        next(camera_images(97))
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--live", "97", "--grid", "2"), "no camera 97 can be opened"),
        (("--live", "none.mp4", "--grid", "2"), "none.mp4: no camera's number, no address and no file"),
        (("--live", "http://127.0.0.1:9/a", "--grid", "2"), "http://127.0.0.1:9/a: "),
        (("--live", "-", "--grid", "2"), "--live - reads raw frames: --size HEIGHTxWIDTH says how large they are"),
        (("--live", "0", "--grid", "2", "--size", "2x2"), "--size is for raw frames"),
        (("--live", "-", "--size", "64x96"), "what to track: give --points, --grid or both"),
        (("--live", "-", "--size", "64x96", "--grid", "all"), "--grid: not every pixel is tracked live"),
        (("--live", "-", "--size", "64x96", "--grid", "2", "--out", "a"), "--live goes with --points"),
        (("--live", "-", "--size", "64x96", "--grid", "2", "--live-output", "window"), "one of json, csv, frames"),
        (("--live", "-", "--size", "64x96", "--points", "0,97,2"), "a point is at (97, 2), outside the frame of 96x64"),
        (("a.mp4", "--out", "a", "--grid", "2", "--no-drop"), "--size, --live-output and --no-drop go with --live"),
        (("--grid", "2"), "name a VIDEO, and by --out a folder for the results, or a source by --live"),
    ],
)
def test_what_cannot_be_tracked_live_is_one_line(video, arguments, message):
    result = CliRunner().invoke(app, ["track", "--model", "flowchain", *arguments], input=video.tobytes())
    assert result.exit_code == 2, result.output
    lines = [line for line in result.stderr.splitlines() if line.strip() and "tracking by" not in line]
    assert message in lines[-1], lines
    assert "Traceback" not in result.stderr
