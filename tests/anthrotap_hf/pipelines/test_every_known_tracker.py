"""Every tracker of the table: a small file of its layout, served on loopback at its address, tracks a video."""

from __future__ import annotations

import dataclasses
import io
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from anthrotap_hf.cli.main import app
from anthrotap_hf.models.checkpoints import Checkpoint, checkpoints
from benchmarks.parity import Reference, tapnext_file
from helpers.benchmark_files import some_videos, write_tapvid
from helpers.file_server import running_file_server
from helpers.released_layouts import (
    released_alltracker,
    released_cotracker3,
    released_locotrack,
    released_tapir,
    tapir_in_jax,
)
from helpers.trackers import tiny_alltracker, tiny_cotracker3, tiny_locotrack, tiny_tapir

FULL_ALLTRACKER = {
    "encoder": "convnext",
    "encoder_channels": [8, 12, 16],
    "encoder_blocks": [1, 1, 2],
    "feature_size": 32,
}


def stand_in(row: Checkpoint, reference_dir, tmp_path) -> bytes:
    """A file as small as it may be, in the layout of the released one."""
    content = io.BytesIO()
    if row.architecture == "tapnext":
        layout = "jax" if row.file_name.endswith(".npz") else "lightning" if "ckpt" in row.file_name else "torch"
        return tapnext_file(Reference(reference_dir), "tapnext_w96d3", 1, layout, tmp_path).read_bytes()
    if row.architecture == "tapir":
        weights = released_tapir(
            tiny_tapir(**({"pyramid_level": 1, "num_extra_blocks": 2} if "boots" in row.name else {}))
        )
        if row.file_name.endswith(".npy"):
            np.save(content, np.array({"params": tapir_in_jax(weights), "state": {}}, dtype=object), allow_pickle=True)
            return content.getvalue()
    elif row.architecture == "alltracker":
        tiny = row.name == "alltracker-tiny"
        weights = {"model": released_alltracker(tiny_alltracker(**({} if tiny else FULL_ALLTRACKER))), "step": 1}
    elif row.architecture == "cotracker3":
        weights = released_cotracker3(tiny_cotracker3(online=row.convert["online"]))
    else:
        weights = {
            "state_dict": {f"model.{key}": tensor for key, tensor in released_locotrack(tiny_locotrack()).items()}
        }
    torch.save(weights, content)
    return content.getvalue()


@contextmanager
def served(names, reference_dir, tmp_path, monkeypatch) -> Iterator[None]:
    """An empty cache, and stand-ins of these trackers where their table says that they lie."""
    monkeypatch.setenv("ANTHROTAP_CACHE", str(tmp_path / "cache"))
    with running_file_server() as server:
        monkeypatch.setenv("ANTHROTAP_MIRROR", server.url)
        template = f"{server.url}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
        monkeypatch.setattr("huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE", template)
        for name in names:
            row = checkpoints()[name]
            # At 768x1024 the stand-in would take minutes.
            smaller = {"resolution": (192, 256)} if name == "alltracker" else {}
            monkeypatch.setitem(checkpoints(), name, dataclasses.replace(row, sha256=None, **smaller))
            content = stand_in(row, reference_dir, tmp_path)
            if row.by_hand is None:
                server.files[row.address.removeprefix(server.url)] = content
            else:
                row.folder.mkdir(parents=True)
                (row.folder / row.file_name).write_bytes(content)
        yield


@pytest.mark.slow
@pytest.mark.parametrize("name", list(checkpoints()))
@pytest.mark.filterwarnings("ignore:sizes of the checkpoint", "ignore:query_pos_embed")
def test_it_is_downloaded_converted_and_tracks(name, reference_dir, tmp_path, make_video, monkeypatch):
    video = make_video("a.mp4", shots=[5], size=(64, 96))
    with served([name], reference_dir, tmp_path, monkeypatch):
        options = ["--points", "0,20,20;2,60,40", "--model", name, "--out", str(tmp_path / "out")]
        result = CliRunner().invoke(app, ["track", str(video), *options])
    assert result.exit_code == 0, result.output
    assert f"by {checkpoints()[name].architecture} {name}" in result.stdout
    tracks = np.load(tmp_path / "out" / "a.tracks.npz")
    assert tracks["tracks"].shape == (2, 5, 2)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:sizes of the checkpoint", "ignore:query_pos_embed")
def test_five_architectures_side_by_side(reference_dir, tmp_path, moving_pattern, monkeypatch):
    names = ["locotrack-base", "bootstapir", "tapnextpp", "cotracker3-offline", "alltracker"]
    data = write_tapvid(tmp_path / "data", "davis", some_videos(moving_pattern))
    models = [word for name in names for word in ("--model", name)]
    options = ["--benchmark", "tapvid-davis", "--data", str(data), "--out", str(tmp_path / "out"), *models]
    with served(names, reference_dir, tmp_path, monkeypatch):
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
