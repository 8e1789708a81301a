"""Exports, read back as the target programs read them."""

from __future__ import annotations

import json
import shutil
import sqlite3
import subprocess
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

import anthrotap_hf
from anthrotap_hf.cli.main import app
from anthrotap_hf.export import FORMATS, export_clip
from anthrotap_hf.readers import open_reader
from anthrotap_hf.tracks import TrackedClip, Tracks
from anthrotap_hf.video import VideoError, decode_video

T, H, W = 6, 48, 64
MAX_IMAGES = 2147483647


@pytest.fixture
def tracks() -> Tracks:
    """Three tracks: visible throughout; occluded in frames 2 and 3; invalid in the first two frames."""
    rng = np.random.default_rng(0)
    xy = rng.uniform(1, 40, (3, T, 2)).astype(np.float32)
    visible, valid = np.ones((3, T), bool), np.ones((3, T), bool)
    visible[1, 2:4] = False
    valid[2, :2] = False
    xy[2, :2] = np.nan
    return Tracks.from_labels(xy, visible, valid, height=H, width=W, person=np.array([0, 0, 1], np.int32))


def test_tapvid_holds_fractions_of_the_frame_and_no_pickle(tracks, tmp_path, make_video):
    video = make_video("a.mp4", shots=[T], size=(H, W))
    export_clip(TrackedClip(tracks, video, 24), tmp_path / "a.npz", "tapvid")
    with np.load(tmp_path / "a.npz", allow_pickle=False) as found:
        assert found["video"].shape == (T, H, W, 3)
        known = tracks.valid
        assert np.allclose((found["points"] * [W, H])[known], tracks.xy[known], atol=1e-4)
        assert (found["occluded"] == ~tracks.visible).all()
        assert (found["valid"] == tracks.valid).all()


def test_cotracker_holds_tensors_time_first_with_centers_at_whole_numbers(tracks, tmp_path):
    export_clip(TrackedClip(tracks, fps=24), tmp_path / "a.pt", "cotracker")
    found = torch.load(tmp_path / "a.pt", weights_only=True)
    assert found["pred_tracks"].shape == (1, T, 3, 2)
    positions = found["pred_tracks"][0].numpy().swapaxes(0, 1) + 0.5
    assert np.allclose(positions[tracks.valid], tracks.xy[tracks.valid], atol=1e-5)
    assert (tracks.visible == found["pred_visibility"][0].numpy().T).all()
    assert (tracks.valid == found["valid"][0].numpy().T).all()


def test_colmap_s_keypoints_and_matches_are_those_of_the_visible_labels(tracks, tmp_path, make_video):
    video = make_video("a.mp4", shots=[T], size=(H, W))
    export_clip(TrackedClip(tracks, video, 24), tmp_path / "colmap", "colmap")
    assert len([*(tmp_path / "colmap/images").iterdir()]) == T
    with closing(sqlite3.connect(tmp_path / "colmap/database.db")) as database:
        keypoints = {
            image: np.frombuffer(data, "<f4").reshape(rows, columns)
            for image, rows, columns, data in database.execute("SELECT * FROM keypoints")
        }
        matches = [
            (*divmod(pair, MAX_IMAGES), np.frombuffer(data, "<u4").reshape(rows, 2))
            for pair, rows, _, data in database.execute("SELECT * FROM matches")
        ]
        assert database.execute("SELECT count(*) FROM images").fetchone() == (T,)
    matched = set()
    for first, second, pairs in matches:
        for one, other in pairs:
            positions = keypoints[first][one, :2], keypoints[second][other, :2]
            track = next(n for n in range(3) if np.allclose(positions[0], tracks.xy[n, first - 1], atol=1e-4))
            assert tracks.visible[track, first - 1]
            assert tracks.visible[track, second - 1]
            assert np.allclose(positions[1], tracks.xy[track, second - 1], atol=1e-4)
            matched.add((track, first - 1, second - 1))
    assert (1, 1, 4) in matched  # over the gap
    assert {(0, t, t + 1) for t in range(T - 1)} <= matched


def test_after_effects_keyframes_are_pixels_of_the_visible_and_occluded(tracks, tmp_path):
    export_clip(TrackedClip(tracks, fps=24), tmp_path / "a.txt", "after-effects")
    text = (tmp_path / "a.txt").read_text()
    assert text.startswith("Adobe After Effects 8.0 Keyframe Data")
    assert text.rstrip().endswith("End of Keyframe Data")
    assert "\tUnits Per Second\t24" in text


# What the script of nulls calls, as After Effects has it; the layers it makes are in `comp.nulls`.
AFTER_EFFECTS = """
class CompItem {}
const KeyframeInterpolationType = {HOLD: "hold", LINEAR: "linear"};
const comp = Object.assign(new CompItem(), {
  width: 128, height: 96, duration: 9, selectedLayers: [{startTime: 2}], nulls: [],
  layers: {addNull: () => { const layer = makeLayer(); comp.nulls.push(layer); return layer; }},
});
const app = {project: {activeItem: comp}, beginUndoGroup() {}, endUndoGroup() {}};
const said = [];
const alert = (text) => said.push(text);
function makeProperty() {
  const made = {keys: [], types: {}, setValue(value) { this.value = value; },
    property(name) { return this[name] ??= makeProperty(); },
    addProperty(kind) { this.added = makeProperty(); this.added.kind = kind; return this.added; },
    setValuesAtTimes(times, values) { this.keys = times.map((time, k) => [time, values[k]]); },
    setInterpolationTypeAtKey(k, into, out) { this.types[k] = out ?? into; }};
  return made;
}
const makeLayer = makeProperty;
"""


def test_after_effects_script_makes_a_null_a_track_with_keyframes_in_the_composition_s_pixels(tracks, tmp_path):
    node = shutil.which("node")
    valid = tracks.valid.copy()
    valid[0, 3] = False
    tracks = Tracks.from_labels(tracks.xy, tracks.visible, valid, height=H, width=W)
    names = {"names": ["left hand", "knee", "né"]}
    export_clip(TrackedClip(tracks, fps=24, info=names), tmp_path / "a.jsx", "after-effects-nulls")
    script = (tmp_path / "a.jsx").read_text("ascii")
    lines = script.partition("TRACKS = [\n")[2].partition("\n];")[0].splitlines()
    found = [json.loads(line.rstrip(",")) for line in lines]
    assert [track["name"] for track in found] == names["names"]
    for n, track in enumerate(found):
        assert track["frames"] == np.flatnonzero(valid[n]).tolist()
        np.testing.assert_allclose(track["xy"], tracks.xy[n, valid[n]], rtol=1e-6)
    assert found[1]["confidence"] == {"frames": [0, 2, 4], "values": [100, 50, 100]}
    assert found[2]["confidence"] == {"frames": [0, 2], "values": [0, 100]}
    if node is None:
        return
    position = "layer.property('ADBE Transform Group').property('ADBE Position')"
    result = f"console.log(JSON.stringify(comp.nulls.map((layer) => [layer.name, {position}])))"
    done = subprocess.run(
        [node, "-e", f"{AFTER_EFFECTS}\n{script}\n{result}"], capture_output=True, text=True, check=True
    )
    nulls = json.loads(done.stdout)
    assert [name for name, _ in nulls] == names["names"]
    position = nulls[0][1]
    # Twice as wide as the footage, which begins at 2 seconds.
    frames = np.flatnonzero(valid[0])
    np.testing.assert_allclose([time for time, _ in position["keys"]], 2 + frames / 24, atol=1e-5)
    np.testing.assert_allclose([place for _, place in position["keys"]], 2 * tracks.xy[0, frames], rtol=1e-5)
    assert [position["types"][str(k)] for k in range(1, 6)] == ["linear", "linear", "hold", "linear", "linear"]


def test_blender_s_script_is_python_and_holds_every_track(tracks, tmp_path):
    export_clip(TrackedClip(tracks, fps=24), tmp_path / "a.py", "blender")
    text = (tmp_path / "a.py").read_text()
    compile(text, "a.py", "exec")
    assert "import bpy" in text


def test_rerun_writes_a_recording(tracks, tmp_path):
    pytest.importorskip("rerun", reason="needs anthrotap[rerun]")
    export_clip(TrackedClip(tracks, fps=24), tmp_path / "a.rrd", "rerun")
    assert (tmp_path / "a.rrd").read_bytes()[:4] in (b"RRF2", b"RRIO")


def test_bad_input_in_one_line(tracks, tmp_path, make_video):
    with pytest.raises(ValueError, match="unknown format 'maya'; known: csv, tapvid"):
        export_clip(TrackedClip(tracks, fps=24), tmp_path / "a.x", "maya")
    with pytest.raises(ValueError, match=r"a file of format tapvid ends in \.npz"):
        export_clip(TrackedClip(tracks, fps=24), tmp_path / "a.x", "tapvid")
    with pytest.raises(ValueError, match="fps must be a positive number"):
        export_clip(TrackedClip(tracks, fps=float("nan")), tmp_path / "a.npz", "tapvid")
    short = make_video("short.mp4", shots=[3], size=(H, W))
    with pytest.raises(VideoError):
        export_clip(TrackedClip(tracks, short, 24), tmp_path / "a.npz", "tapvid")
    assert not (tmp_path / "a.npz").exists()


@pytest.mark.parametrize(("format", "kind"), [("csv", "points"), ("tapvid", "tapvid")])
def test_own_formats_are_read_back(format, kind, tracks, tmp_path, make_video):
    video = make_video("made.mp4", shots=[T], size=(H, W)).read_bytes()
    path = tmp_path / f"out/a{FORMATS.load(format).suffix}"
    path.parent.mkdir()
    if format == "tapvid":
        clip = TrackedClip(tracks, decode_video(video), 24.0, "a")
    else:
        clip = TrackedClip(tracks, video, 24.0, "a")
    export_clip(clip, path, format)
    (found,) = open_reader(kind, path.parent)
    assert np.array_equal(found.tracks.valid, tracks.valid)
    assert np.array_equal(found.tracks.visible, tracks.visible)
    np.testing.assert_allclose(found.tracks.xy, tracks.xy, atol=1e-5 if format == "tapvid" else 0)
    assert np.array_equal(found.frames, decode_video(video))
    if format == "csv":
        assert found.tracks.person.tolist() == [0, 0, 1]
        assert path.read_text().splitlines()[0] == "track,t,x,y,visible,person"
        rows = path.read_text().replace("0,1,", "0,1,nonsense", 1)
        path.write_text(rows)
        with pytest.raises(ValueError, match=r"a\.csv: point 2 \(track 0, t 1\): 'nonsense"):
            list(open_reader(kind, path))


def test_tracks_of_track_are_read_with_the_video_beside_them(tracks, tmp_path, make_video):
    video = make_video("a.mp4", shots=[T], size=(H, W))
    for name in ("a", "b"):
        file = video.parent / f"{name}.tracks.npz"
        np.savez(file, tracks=tracks.xy, visible=tracks.visible, size=[H, W], fps=np.float32(24))
    first, second = open_reader("tracks", video.parent)
    assert first.frames.shape == (T, H, W, 3)
    assert (second.clip_id, second.video) == ("b", None)
    with pytest.raises(ValueError, match=r"no \.tracks\.npz, .* in this folder"):
        open_reader("tracks", tmp_path / "..")


@pytest.mark.parametrize("format", ["json", "cotracker", "after-effects", "blender"])
def test_other_formats_are_read_back_as_tracks(format, tracks, tmp_path, make_video):
    make_video("a.mp4", shots=[T], size=(H, W))
    if format == "json":
        path = tmp_path / "a.tracks.json"
        xy = np.where(tracks.valid[..., None], tracks.xy, np.nan).tolist()
        content = {"tracks": xy, "visible": tracks.visible.tolist(), "size": [H, W], "fps": 24.0}
        path.write_text(json.dumps(content))
    else:
        path = tmp_path / f"a{FORMATS.load(format).suffix}"
        export_clip(TrackedClip(tracks, fps=24.0), path, format)
    (found,) = open_reader("tracks", path)
    assert (found.fps, found.clip_id) == (None if format == "blender" else 24.0, "a")
    assert np.array_equal(found.tracks.valid, tracks.valid)
    assert np.array_equal(found.tracks.visible, tracks.visible)
    assert (found.tracks.height, found.tracks.width) == (H, W)
    np.testing.assert_allclose(found.tracks.xy, tracks.xy, atol=1e-4)
    assert found.frames.shape == (T, H, W, 3)
    # The command takes it, too.
    done = CliRunner().invoke(app, ["export", str(path), "--format", "tapvid", "--out", str(tmp_path / "b.npz")])
    assert done.exit_code == 0, done.output
    # A file that is cut off is an error in one line.
    path.write_bytes(path.read_bytes()[: len(path.read_bytes()) // 2])
    with pytest.raises(ValueError, match=str(path)):
        list(open_reader("tracks", path))


def test_what_is_not_read_back_says_so(tracks, tmp_path):
    export_clip(TrackedClip(tracks, fps=24), tmp_path / "colmap", "colmap")
    for name in ("a.rrd", "a.jsx"):
        (tmp_path / name).touch()
    for source in ("colmap", "colmap/database.db", "a.rrd", "a.jsx"):
        with pytest.raises(ValueError, match=r"it can't be read back: .*; export to another format too: csv"):
            open_reader("tracks", tmp_path / source)
        arguments = ["export", str(tmp_path / source), "--format", "csv", "--out", str(tmp_path / "a.csv")]
        assert "it can't be read back" in CliRunner().invoke(app, arguments).stderr
    export_clip(TrackedClip(tracks, fps=24), tmp_path / "b.pt", "cotracker")
    with pytest.raises(ValueError, match=r"the size of its frames is not in it, and no video; put the video .* b\.mp4"):
        list(open_reader("tracks", tmp_path / "b.pt"))


def test_the_command_exports_a_csv_and_tap_vid_s_layout(tracks, tmp_path, make_video):
    video = make_video("made.mp4", shots=[T], size=(H, W)).read_bytes()
    export_clip(TrackedClip(tracks, decode_video(video), 24.0, "a"), tmp_path / "a.npz", "tapvid")
    export_clip(TrackedClip(tracks, video, 24.0, "a"), tmp_path / "b.csv", "csv")
    for source in ("a.npz", "b.csv"):
        out = tmp_path / f"{source}.pt"
        done = CliRunner().invoke(app, ["export", str(tmp_path / source), "--format", "cotracker", "--out", str(out)])
        assert done.exit_code == 0, done.output
        found = torch.load(out, weights_only=True)["pred_visibility"][0].numpy().T
        assert np.array_equal(found, tracks.visible)


@pytest.mark.parametrize("format", FORMATS)
def test_the_command_exports_output_of_track(format, tracks, tmp_path):
    if format == "rerun":
        pytest.importorskip("rerun", reason="needs anthrotap[rerun]")
    source = tmp_path / "dance.tracks.npz"
    np.savez(source, tracks=tracks.xy, visible=tracks.visible, size=[H, W], fps=np.float32(24))
    out = tmp_path / f"dance{FORMATS.load(format).suffix or '-colmap'}"
    arguments = ["export", str(source), "--format", format, "--out", str(out), "--json"]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["files"] == [str(out)]
    assert out.exists()
    again = CliRunner().invoke(app, arguments)
    assert again.exit_code == 2
    assert "--overwrite" in again.stderr


def test_a_split_of_a_dataset(tmp_path):
    sample = Path(anthrotap_hf.__file__).parent / "data/sample"
    arguments = ["export", str(sample), "--format", "tapvid", "--json", "--out"]
    done = CliRunner().invoke(app, [*arguments, str(tmp_path / "all")])
    one = CliRunner().invoke(app, [*arguments, str(tmp_path / "validation"), "--split", "validation"])
    assert done.exit_code == one.exit_code == 0, one.stderr
    names = [{Path(file).name for file in json.loads(result.stdout)["files"]} for result in (done, one)]
    assert names[1] < names[0]
    assert len(names[1]) == len(anthrotap_hf.load_dataset("anthrotap", split="validation"))
    other = CliRunner().invoke(app, [*arguments, str(tmp_path / "other"), "--split", "test"])
    assert other.exit_code == 2
    assert "test" in other.stderr


def test_blender_s_copy_of_a_row_s_video_replaces_no_file_of_yours(tracks, tmp_path, make_video, monkeypatch):
    from anthrotap_hf.cli import export as export_command

    video = make_video("dance.mp4", shots=[T], size=(H, W)).read_bytes()
    (tmp_path / "dance.mp4").write_bytes(b"mine")
    (tmp_path / "dance.clip.mp4").write_bytes(b"mine too")
    clip = TrackedClip(tracks, video, 24.0, "dance")
    monkeypatch.setattr(export_command, "_open", lambda *_: ([clip], [0]))
    arguments = ["export", "labels", "--clip", "x", "--format", "blender", "--out", str(tmp_path / "dance.py")]
    rejected = CliRunner().invoke(app, arguments)
    assert rejected.exit_code == 2
    assert "dance.clip.mp4: exists already" in rejected.stderr
    (tmp_path / "dance.clip.mp4").unlink()
    done = CliRunner().invoke(app, [*arguments, "--json"])
    assert done.exit_code == 0, done.stderr
    assert json.loads(done.stdout)["files"] == [str(tmp_path / name) for name in ("dance.py", "dance.clip.mp4")]
    assert (tmp_path / "dance.mp4").read_bytes() == b"mine"


def test_a_video_that_a_format_has_no_use_for_is_rejected(tmp_path):
    arguments = ["export", "a.npz", "--format", "cotracker", "--out", str(tmp_path / "a.pt"), "--video", "no.mp4"]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 2
    assert "cotracker does not use a video" in result.stderr


@pytest.mark.parametrize("kind", ["file", "pictures"])
def test_a_csv_has_its_video_beside_it_and_is_evaluated(kind, tracks, tmp_path, make_video):
    video = make_video("source/dance.mp4", shots=[T], size=(H, W))
    if kind == "pictures":
        frames, video = decode_video(video), tmp_path / "pictures"
        video.mkdir()
        for number, frame in enumerate(frames):
            Image.fromarray(frame).save(video / f"{number}.png")
    source = tmp_path / "a.tracks.npz"
    np.savez(source, tracks=tracks.xy, visible=tracks.visible, size=[H, W], fps=np.float32(24))
    out = tmp_path / "out/points.csv"
    out.parent.mkdir()
    arguments = ["export", str(source), "--format", "csv", "--out", str(out), "--video", str(video), "--json"]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, done.stderr
    copy = out.with_suffix(".mp4" if kind == "file" else "")
    assert json.loads(done.stdout)["files"] == [str(out), str(copy)]
    (found,) = open_reader("points", out)
    assert np.array_equal(found.frames, decode_video(video))
    assert np.array_equal(found.tracks.visible, tracks.visible)
    # What lies there already is not copied onto itself.
    again = CliRunner().invoke(app, [*arguments[:-2], str(copy), "--overwrite"])
    assert again.exit_code == 0, again.stderr
    assert len([*open_reader("points", out)]) == 1
    missing = CliRunner().invoke(app, [*arguments[:-2], str(tmp_path / "no.mp4"), "--overwrite"])
    assert missing.exit_code == 2
    assert "no.mp4: no such file" in missing.stderr


@pytest.mark.parametrize(
    ("format", "option", "value"),
    [
        ("onnx", "--clip", "a"),
        ("onnx", "--split", "train"),
        ("onnx", "--video", "a.mp4"),
        ("csv", "--frames", "24"),
        ("tapvid", "--resolution", "256x256"),
    ],
)
def test_options_of_other_formats_are_refused(format, option, value, tmp_path):
    arguments = ["export", "locotrack-tiny", "--format", format, "--out", str(tmp_path / "out"), option, value]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 2
    assert f"{option}: only for " in result.stderr
    assert len(result.stderr.splitlines()) == 1


@pytest.mark.parametrize("name", ["dance.mp4", "notes.json"])
def test_a_file_without_tracks_is_refused_with_what_is_taken(name, tmp_path):
    (tmp_path / name).write_bytes(b"{}")
    arguments = ["export", str(tmp_path / name), "--format", "csv", "--out", str(tmp_path / "a.csv")]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 2
    (line,) = result.stderr.strip().splitlines()
    assert "no tracks that can be exported; `anthrotap track` writes a .tracks.npz of a video" in line
