"""Every tracker of the table: a small file of its layout, served on loopback at its address, tracks a video."""

from __future__ import annotations

import numpy as np
import pytest
from typer.testing import CliRunner

from anthrotap_hf.cli.main import app
from anthrotap_hf.models.checkpoints import checkpoints
from helpers.benchmark_files import some_videos, write_tapvid
from helpers.stand_in_files import served, stand_in


@pytest.mark.slow
@pytest.mark.parametrize("name", list(checkpoints()))
@pytest.mark.filterwarnings("ignore:sizes of the checkpoint", "ignore:query_pos_embed")
def test_it_is_downloaded_converted_and_tracks(name, reference_dir, tmp_path, make_video):
    video = make_video("a.mp4", shots=[5], size=(64, 96))
    with served([name], lambda row: stand_in(row, reference_dir, tmp_path), tmp_path):
        options = ["--points", "0,20,20;2,60,40", "--model", name, "--out", str(tmp_path / "out")]
        result = CliRunner().invoke(app, ["track", str(video), *options])
    assert result.exit_code == 0, result.output
    assert f"by {checkpoints()[name].architecture} {name}" in result.stdout
    tracks = np.load(tmp_path / "out" / "a.tracks.npz")
    assert tracks["tracks"].shape == (2, 5, 2)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:sizes of the checkpoint", "ignore:query_pos_embed")
def test_five_architectures_side_by_side(reference_dir, tmp_path, moving_pattern):
    names = ["locotrack-base", "bootstapir", "tapnextpp", "cotracker3-offline", "alltracker"]
    data = write_tapvid(tmp_path / "data", "davis", some_videos(moving_pattern))
    models = [word for name in names for word in ("--model", name)]
    options = ["--benchmark", "tapvid-davis", "--data", str(data), "--out", str(tmp_path / "out"), *models]
    with served(names, lambda row: stand_in(row, reference_dir, tmp_path), tmp_path):
        result = CliRunner().invoke(app, ["evaluate", *options])
    assert result.exit_code == 0, result.output
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in (tmp_path / "out/tapvid-davis-first.md").read_text().splitlines()
        if line.startswith("| ")
    ]
    measured = {row[0]: row for row in rows if row[-1] == "measured here: 2 videos of tapvid_davis.pkl"}
    assert list(measured) == names
    sizes = ["256x256", "256x256", "256x256", "384x512", "192x256"]
    assert [row[1] for row in measured.values()] == sizes
    published = {row[0]: row for row in rows if row[-1].startswith("published: ")}
    assert published["LocoTrack base"][1:5] == ["256x256", "63.0", "75.3", "87.2"]
    assert published["BootsTAPIR"][-1] == "published: google-deepmind/tapnet"
    assert not published.keys() & measured.keys()
