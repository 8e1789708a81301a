"""`anthrotap track --corrections`."""

import json

import numpy as np
import pytest
from typer.testing import CliRunner

from anthrotap_hf.cli.main import app
from anthrotap_hf.pipelines.projects import read_project, write_project
from anthrotap_hf.readers.points import PointClips


def run(*arguments: object):
    return CliRunner().invoke(app, [*map(str, arguments)])


def track(video, corrections, out, *more):
    flow = ("--model", "flowchain", "--overwrite")
    return run("track", video, "--corrections", corrections, "--out", out, *flow, *more)


def arrays_of(out) -> dict[str, np.ndarray]:
    with np.load(out / "video.tracks.npz", allow_pickle=False) as arrays:
        return dict(arrays)


HEAD = '{"format": "anthrotap-project", "version": '
FIRST = "id,t,x,y\n4,0,20,30\n4,20,30,30\n9,5,60,40\n"


def test_a_correction_tracks_what_it_touches(make_video, tmp_path):
    video = make_video(shots=[30])
    (tmp_path / "points.csv").write_text(FIRST)
    result = track(video, tmp_path / "points.csv", tmp_path / "out")
    assert result.exit_code == 0, result.output
    # 0 to 20 from both ends and 20 to 29; 0 to 5 and 5 to 29.
    assert f"{2 * 21 + 10 + 6 + 25} frames of points tracked" in result.stdout
    before = arrays_of(tmp_path / "out")
    assert before["ids"].tolist() == [4, 9]
    assert before["tracks"][0, 20].tolist() == [30, 30]

    (tmp_path / "points.csv").write_text(FIRST + "4,25,35,31\n")
    result = track(video, tmp_path / "points.csv", tmp_path / "out")
    assert result.exit_code == 0, result.output
    assert f"{2 * 6 + 5} frames of points tracked (between two places, from both); the rest is that of" in result.stdout
    after = arrays_of(tmp_path / "out")
    assert after["tracks"][0, 25].tolist() == [35, 31]
    assert np.array_equal(after["tracks"][0, :20], before["tracks"][0, :20])
    assert np.array_equal(after["tracks"][1], before["tracks"][1])
    # Another resolution, and nothing of the earlier run fits.
    result = track(video, tmp_path / "points.csv", tmp_path / "out", "--resolution", "48x64")
    assert "the rest" not in result.stdout


def test_corrected_tracks_are_a_benchmark(make_video, tmp_path):
    """What is deleted is invalid, and what is marked occluded is occluded, also where another reads it."""
    video = make_video(shots=[12])
    (tmp_path / "points.csv").write_text("id,t,x,y\n4,0,20,30\n")
    assert track(video, tmp_path / "points.csv", tmp_path / "out").exit_code == 0
    project = json.loads(str(arrays_of(tmp_path / "out")["project"]))
    project["points"][0] |= {"occluded": [[3, 4]], "deleted": [[8, 11]]}
    (tmp_path / "p.json").write_text(json.dumps(project))
    result = track(video, tmp_path / "p.json", tmp_path / "out")
    assert result.exit_code == 0, result.output
    out = tmp_path / "bench"
    result = run(
        "export", tmp_path / "out/video.tracks.npz", "--format", "csv", "--video", video, "--out", out / "a.csv"
    )
    assert result.exit_code == 0, result.output
    tracks = PointClips(out / "a.csv")[0].tracks
    assert tracks.valid[0].tolist() == [True] * 8 + [False] * 4
    assert not tracks.visible[0, 3:5].any()
    assert tracks.visible[0, :3].all()
    result = run(
        "evaluate", "--benchmark", "points", "--data", out, "--model", "flowchain", "--out", tmp_path / "report"
    )
    assert result.exit_code == 0, result.output


def test_a_project_of_another_video_is_refused(make_video, tmp_path):
    (tmp_path / "points.csv").write_text("id,t,x,y\n4,0,20,30\n")
    assert track(make_video(shots=[12]), tmp_path / "points.csv", tmp_path / "out").exit_code == 0
    (tmp_path / "p.json").write_text(str(arrays_of(tmp_path / "out")["project"]))
    other = make_video("other.mp4", shots=[9])
    result = track(other, tmp_path / "p.json", tmp_path / "out2")
    assert result.exit_code == 2
    assert "the corrections are of video.mp4, 12 frames of 96x64, and this video has 9 of 96x64" in result.stderr
    assert not list(tmp_path.glob("out2/*.npz"))


def test_a_point_of_two_shots_is_refused(make_video, tmp_path):
    (tmp_path / "points.csv").write_text("id,t,x,y\n4,0,20,30\n4,14,20,30\n")
    result = track(make_video(shots=[10, 10]), tmp_path / "points.csv", tmp_path / "out")
    assert result.exit_code == 2
    assert "point 4 has queries in frames 0 and 14, and the video cuts to another shot in frame 10" in result.stderr


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", "t,x,y\n0,1,2\n", "its heading must be id,t,x,y"),
        ("a.csv", "id,t,x,y\n", "no correction is in it"),
        ("a.csv", "id,t,x,y\n1,0.5,2,3\n", "line 2 is 1,0.5,2,3, not id,t,x,y"),
        ("a.csv", "id,t,x,y\n1,0,2,3\n1,0,5,3\n", "point 1 is in two places in frame 0"),
        ("a.csv", "id,t,x,y\n1,0,nan,3\n", "point 1 is at (nan, 3) in frame 0, outside the video"),
        ("a.csv", "id,t,x,y\n1,7,2,3\n", "in frame 7, outside the video: frames go from 0 to 3"),
        ("a.json", "{", "not JSON"),
        ("a.json", "[]", "no project"),
        ("a.json", HEAD + '9, "points": []}', "version 9 of projects is not known"),
        ("a.json", HEAD + "1}", "'points' is missing"),
        ("a.json", HEAD + '1, "points": [{"id": 1, "queries": [[0.5, 1, 2]]}]}', "0.5 is no whole number"),
        ("a.json", HEAD + '1, "points": [{"id": 1, "queries": [[0, 1, 1' + 400 * "0" + "]]}]}", "too large"),
        ("a.json", HEAD + '1, "points": [{"id": 1' + 400 * "0" + ', "queries": [[0, 1, 2]]}]}', "too large"),
        ("a.json", HEAD + '1, "points": [{"id": 1e999, "queries": [[0, 1, 2]]}]}', "inf is no whole number"),
        ("a.json", HEAD + '1, "points": [{"id": 1, "queries": [[0, 1]]}]}', "not a project as it should be"),
    ],
)
def test_bad_corrections_are_one_line(make_video, tmp_path, name, content, message):
    (tmp_path / name).write_text(content)
    result = track(make_video(shots=[4]), tmp_path / name, tmp_path / "out")
    assert result.exit_code == 2, result.output
    lines = [line for line in result.stderr.splitlines() if line.strip() and "tracking by" not in line]
    assert len(lines) == 1, lines
    assert message in lines[0]
    assert not list(tmp_path.glob("out/*.npz"))


def test_a_project_is_read_as_it_was_written(tmp_path, make_video):
    (tmp_path / "points.csv").write_text(FIRST)
    assert track(make_video(shots=[30]), tmp_path / "points.csv", tmp_path / "out").exit_code == 0
    (tmp_path / "p.json").write_text(str(arrays_of(tmp_path / "out")["project"]))
    project = read_project(tmp_path / "p.json")
    write_project(tmp_path / "again.json", project)
    assert read_project(tmp_path / "again.json") == project
    assert [point.id for point in project.points] == [4, 9]
