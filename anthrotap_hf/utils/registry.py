"""The one kind of registry: names that a user writes, and where the code behind each of them is."""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping
from typing import Any

from anthrotap_hf.utils.errors import AnthroTapError


class Registry:
    """Objects by name, which are imported only when one is asked for.

    Adding something (a body, a reader, a tracker) is one file and one entry:

        FLOWS = Registry("flow", {"dis": "anthrotap_builder.flow.dis:DISFlow"})
        FLOWS.load("dis")

    Attributes:
        kind: what the names are, for the error about an unknown one: "flow".
        entries: "package.module:attribute" for each name.
    """

    def __init__(self, kind: str, entries: Mapping[str, str]) -> None:
        self.kind = kind
        self.entries = dict(entries)

    def names(self) -> list[str]:
        """Return the known names, in the order in which they were registered."""
        return list(self.entries)

    def __iter__(self) -> Iterator[str]:
        return iter(self.entries)

    def __len__(self) -> int:
        return len(self.entries)

    def __contains__(self, name: object) -> bool:
        return name in self.entries

    def load(self, name: str) -> Any:
        """Import the object called `name` and return it.

        Raises:
            AnthroTapError: no object has that name; the message lists the known ones.
            ImportError: its module needs a package that is not installed.
        """
        if name not in self.entries:
            raise AnthroTapError(f"unknown {self.kind} {name!r}", hint=f"known: {', '.join(self)}")
        module, _, attribute = self.entries[name].partition(":")
        return getattr(importlib.import_module(module), attribute)
