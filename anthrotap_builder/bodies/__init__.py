"""Parametric bodies behind one small interface: `load_body(name)` gives arrays (see `body.Body`)."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

from anthrotap_builder.bodies.body import Body
from anthrotap_builder.bodies.surface import MeshSurface


def _anny() -> Body:
    from anthrotap_builder.bodies.anny import load_anny

    return load_anny()


BODIES: dict[str, Callable[[], Body]] = {"anny": _anny}


@lru_cache(maxsize=4)
def load_body(name: str) -> Body:
    """The body model called `name`.

    Raises:
        ValueError: if there is none of that name.
    """
    if name not in BODIES:
        raise ValueError(f"no body model {name!r}: choose from {', '.join(sorted(BODIES))}")
    return BODIES[name]()


__all__ = ["BODIES", "Body", "MeshSurface", "load_body"]
