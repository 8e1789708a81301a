"""Model files of the SMPL family, made up, and the bodies in them."""

from __future__ import annotations

from pathlib import Path

import pytest

from anthrotap_builder.bodies import Body, load_body
from helpers.body_files import JOINTS, REAL, SMALL, write_smpl


@pytest.fixture(scope="session")
def model_files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A small file of each model by name; "smpl.pkl" is a pickle."""
    folder = tmp_path_factory.mktemp("models")
    files = {name: write_smpl(folder / f"{name}.npz", SMALL, joints) for name, joints in JOINTS.items()}
    return files | {"smpl.pkl": write_smpl(folder / "smpl.pkl", SMALL, 24)}


@pytest.fixture(scope="session")
def people(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Body]:
    """A body with the real number of vertices of each model of people."""
    folder = tmp_path_factory.mktemp("people")
    return {
        name: load_body(name, file=write_smpl(folder / f"{name}.npz", count, JOINTS[name]))
        for name, count in REAL.items()
    }
