"""Parametric bodies behind one small interface: `load_body(name)` gives arrays (see `body.Body`)."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache, partial
from pathlib import Path

from anthrotap_builder.bodies.body import Body, MeshSurface


@lru_cache(maxsize=1)
def _anny_alone() -> Body:
    from anthrotap_builder.bodies.anny import load_anny

    return load_anny()


def _anny(gender: str, file: Path | None) -> Body:
    if gender != "neutral" or file is not None:
        raise ValueError("the anny body has no gender and no file to choose: its shape covers both")
    return _anny_alone()


def _smpl(name: str, gender: str, file: Path | None) -> Body:
    from anthrotap_builder.bodies.smpl import load_smpl

    return load_smpl(name, gender, file)


BODIES: dict[str, Callable[[str, Path | None], Body]] = {
    "anny": _anny,
    "smpl": partial(_smpl, "smpl"),
    "smplh": partial(_smpl, "smplh"),
    "smplx": partial(_smpl, "smplx"),
    "smal": partial(_smpl, "smal"),
}


def load_body(name: str, gender: str = "neutral", file: Path | None = None) -> Body:
    """The body model called `name`; the same object again for the same file.

    Args:
        name: a name in `BODIES`.
        gender: neutral, male or female; only smpl, smplh and smplx have other than neutral.
        file: the model file, or a folder to look for it in, for all but anny; see `smpl.find_model_file`.

    Raises:
        ValueError: if there is none of that name, or it does not take that gender or file.
        AssetError: if its file is missing or is no such model.
    """
    if name not in BODIES:
        raise ValueError(f"no body model {name!r}: choose from {', '.join(sorted(BODIES))}")
    return BODIES[name](gender, file)


__all__ = ["BODIES", "Body", "MeshSurface", "load_body"]
