"""Parametric bodies behind one small interface: `load_body(name)` gives arrays (see `body.Body`)."""

from __future__ import annotations

from pathlib import Path

from anthrotap_builder.bodies.body import Body, MeshSurface
from anthrotap_builder.registries import BODIES


def load_body(name: str, gender: str = "neutral", file: Path | None = None) -> Body:
    """Load the body model called `name`; the same object again for the same file.

    Args:
        name: a name in `registries.BODIES`.
        gender: neutral, male or female; only smpl, smplh and smplx have other than neutral.
        file: the model file, or a folder to search, for all but anny; see `smpl_files`.

    Raises:
        AnthroTapError: if there is none of that name.
        ValueError: if it does not take that gender or file.
        AssetError: if its file is missing or is no such model.
    """
    return BODIES.load(name)(name, gender, file)


__all__ = ["Body", "MeshSurface", "load_body"]
