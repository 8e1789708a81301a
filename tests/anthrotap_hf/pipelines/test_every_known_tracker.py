"""Every tracker of the table: a small file of its layout, served on loopback at its address, tracks a video."""

from __future__ import annotations

import dataclasses
import io

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from anthrotap_hf.cli.main import app
from anthrotap_hf.models.checkpoints import Checkpoint, checkpoints
from benchmarks.parity import Reference, tapnext_file
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


@pytest.mark.slow
@pytest.mark.parametrize("name", list(checkpoints()))
@pytest.mark.filterwarnings("ignore:sizes of the checkpoint", "ignore:query_pos_embed")
def test_it_is_downloaded_converted_and_tracks(name, reference_dir, tmp_path, make_video, monkeypatch):
    video = make_video("a.mp4", shots=[5], size=(64, 96))
    row = checkpoints()[name]
    monkeypatch.setenv("ANTHROTAP_CACHE", str(tmp_path / "cache"))
    # At 768x1024 the stand-in would take minutes.
    smaller = {"resolution": (192, 256)} if name == "alltracker" else {}
    monkeypatch.setitem(checkpoints(), name, dataclasses.replace(row, sha256=None, **smaller))
    with running_file_server() as server:
        monkeypatch.setenv("ANTHROTAP_MIRROR", server.url)
        template = f"{server.url}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
        monkeypatch.setattr("huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE", template)
        content = stand_in(row, reference_dir, tmp_path)
        if row.by_hand is None:
            server.files[row.address.removeprefix(server.url)] = content
        else:
            row.folder.mkdir(parents=True)
            (row.folder / row.file_name).write_bytes(content)
        options = ["--points", "0,20,20;2,60,40", "--model", name, "--out", str(tmp_path / "out")]
        result = CliRunner().invoke(app, ["track", str(video), *options])
    assert result.exit_code == 0, result.output
    assert f"by {row.architecture} {name}" in result.stdout
    tracks = np.load(tmp_path / "out" / "a.tracks.npz")
    assert tracks["tracks"].shape == (2, 5, 2)
