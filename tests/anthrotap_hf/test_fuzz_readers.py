"""Mutants of good files: each reader takes them or ends with one line, soon and in bounded memory.

ANTHROTAP_MUTANTS sets how many of each file are read (the default is few), ANTHROTAP_SEED which.
"""

from __future__ import annotations

import json
import os
import pickle
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from anthrotap_hf.pipelines import DEFAULT_MODEL
from anthrotap_hf.utils.workers import Worker, WorkerError
from helpers import fuzzed_readers

MUTANTS = int(os.environ.get("ANTHROTAP_MUTANTS", "40"))
SEED = int(os.environ.get("ANTHROTAP_SEED", "0"))
SECONDS = 10.0
# Of a process that has torch loaded, which takes about 0.5 GB of it.
MEMORY = 3 << 29


def mutant(content: bytes, chance: random.Random) -> bytes:
    """Some bytes changed, removed, doubled, or made the largest numbers; the file may end early."""
    data = bytearray(content)
    for _ in range(chance.choice((1, 1, 2, 5, 20))):
        if not data:
            break
        # Where files say what is in them, at either end, more often than in the middle.
        near = chance.randrange(min(len(data), 600))
        at = chance.choice((near, len(data) - 1 - near, chance.randrange(len(data))))
        size = chance.choice((1, 2, 4, 8, 100))
        match chance.randrange(6):
            case 0:
                data[at] ^= 1 << chance.randrange(8)
            case 1:
                data[at : at + size] = chance.randbytes(size)
            case 2:
                del data[at : at + size]
            case 3:
                data[at:at] = data[at : at + size] * chance.choice((1, 3, 1000))
            case 4:
                data[at : at + size] = chance.choice((b"\xff", b"\x7f", b"\0")) * size
            case 5:
                del data[at:]
    return bytes(data)


def write_npz(path: Path) -> None:
    arrays = {"frame": np.arange(3), "person": np.zeros(3, int), "size": np.array([48, 64]), "focal": np.array(60.0)}
    vertices = np.random.default_rng(0).normal(size=(3, 5, 3)).astype(np.float32)
    np.savez_compressed(path, **arrays, vertices=vertices, faces=[[0, 1, 2], [2, 3, 4]])


def write_tapvid(path: Path) -> None:
    video = np.random.default_rng(0).integers(0, 255, (4, 16, 24, 3), np.uint8)
    content = {"video": video, "points": np.full((2, 4, 2), 0.5), "occluded": np.zeros((2, 4), bool)}
    path.write_bytes(pickle.dumps({"a": content}, 2))


def write_checkpoint(path: Path) -> None:
    torch.save({"state_dict": {"a.weight": torch.ones(3, 4), "a.bias": torch.zeros(3)}, "epoch": 3}, path)


def write_points(path: Path) -> None:
    path.write_text(json.dumps([{"track": 0, "t": t, "x": 3.5, "y": 4.5, "visible": 1} for t in range(5)]))


def write_recipe(path: Path) -> None:
    path.write_text("extends: open\nclips: {fps: 10, clip_frames: 24}\nflow: {model: dis}\n")


FILES: dict[str, Callable[[Path], object]] = {
    "meshes.npz": write_npz,
    "tapvid.pkl": write_tapvid,
    "checkpoint.pt": write_checkpoint,
    "points.json": write_points,
    "recipe.yaml": write_recipe,
    "config.json": lambda path: shutil.copy(DEFAULT_MODEL / "config.json", path),
    "model.safetensors": lambda path: shutil.copy(DEFAULT_MODEL / "model.safetensors", path),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", FILES)
def test_mutants_end_with_one_line(tmp_path, name):
    pytest.importorskip("numba", reason="needs anthrotap[builder]")
    good, path = tmp_path / "good" / name, tmp_path / name
    good.parent.mkdir()
    FILES[name](good)
    content, chance = good.read_bytes(), random.Random(f"{SEED} {name}")
    found: list[str] = []
    with Worker("fuzz", log=tmp_path / "log.txt") as worker:
        assert worker.run(fuzzed_readers.read, good) is None
        for number in range(MUTANTS):
            path.write_bytes(mutant(content, chance))
            reason: Any
            try:
                reason = worker.run(fuzzed_readers.read, path, timeout=SECONDS, memory_limit=MEMORY)
            except WorkerError as error:
                reason = f"!{error}"
            if reason is not None and (reason.startswith("!") or "\n" in reason):
                kept = path.rename(tmp_path / f"found-{number}-{name}")
                found.append(f"{kept}: {reason}")
    assert not found, "\n".join(found)
