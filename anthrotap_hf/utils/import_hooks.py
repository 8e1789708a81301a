"""Registering with heavy libraries without importing them: something is done once they are imported."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from types import ModuleType

from wrapt.importer import register_post_import_hook


def when_imported(name: str, action: Callable[[ModuleType], None], *, not_during: Sequence[str] = ()) -> None:
    """Call `action` once with the module `name`: at once if it is imported already, else right after it is.

    Args:
        not_during: modules that `action` needs whole: while one of them is being imported, the call waits.
    """
    names = (name, *not_during)
    done = False

    def act(finished: ModuleType) -> None:
        nonlocal done
        # A module is in sys.modules while its code runs. The one that has just finished still seems to be imported.
        specs = (getattr(sys.modules.get(each), "__spec__", None) for each in names if each != finished.__name__)
        if done or name not in sys.modules or any(getattr(spec, "_initializing", False) for spec in specs):
            return
        done = True
        action(sys.modules[name])

    for each in names:
        register_post_import_hook(act, each)
