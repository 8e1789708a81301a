"""Files of random weights in the released layouts, served on loopback where the table of known trackers has them."""

from __future__ import annotations

import dataclasses
import io
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch

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


def stand_in(row: Checkpoint, reference_dir: Path, scratch: Path) -> bytes:
    """Return a file as small as it may be, in the layout of the released one.

    Args:
        row: which tracker.
        reference_dir: the parity cases, which have TAPNext's layouts.
        scratch: a folder for files that are not needed afterwards.
    """
    content = io.BytesIO()
    if row.architecture == "tapnext":
        layout = "jax" if row.file_name.endswith(".npz") else "lightning" if "ckpt" in row.file_name else "torch"
        return tapnext_file(Reference(reference_dir), "tapnext_w96d3", 1, layout, scratch).read_bytes()
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
def served(names: Iterable[str], make: Callable[[Checkpoint], bytes], folder: Path) -> Iterator[None]:
    """Serve stand-ins of trackers where their table says that they lie, beside an empty cache, until the block ends.

    Args:
        names: the trackers.
        make: returns the file of one of them.
        folder: for the cache.
    """
    with pytest.MonkeyPatch.context() as monkeypatch:
        yield from _served(names, make, folder, monkeypatch)


def _served(
    names: Iterable[str], make: Callable[[Checkpoint], bytes], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[None]:
    monkeypatch.setenv("ANTHROTAP_CACHE", str(folder / "cache"))
    with running_file_server() as server:
        monkeypatch.setenv("ANTHROTAP_MIRROR", server.url)
        template = f"{server.url}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
        monkeypatch.setattr("huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE", template)
        for name in names:
            row = checkpoints()[name]
            # At 768x1024 the stand-in would take minutes.
            smaller = {"resolution": (192, 256)} if name == "alltracker" else {}
            monkeypatch.setitem(checkpoints(), name, dataclasses.replace(row, sha256=None, **smaller))
            content = make(row)
            if row.by_hand is None:
                server.files[row.address.removeprefix(server.url)] = content
            else:
                row.folder.mkdir(parents=True)
                (row.folder / row.file_name).write_bytes(content)
        yield
