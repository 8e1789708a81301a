"""Registering with heavy libraries without importing them: something is done once they are imported."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType


def on_import(name: str, action: Callable[[ModuleType], None]) -> None:
    """Call `action` with the module `name`: at once if it is imported already, else right after it is."""
    module = sys.modules.get(name)
    if module is not None:
        action(module)
    else:
        sys.meta_path.insert(0, _Watcher(name, action))


def is_half_imported(name: str, finished: ModuleType) -> bool:
    """Whether the module `name` is being imported now. (`finished`, for which an action is called, no longer is.)"""
    spec = getattr(sys.modules.get(name), "__spec__", None)
    return name != finished.__name__ and getattr(spec, "_initializing", False)


class _Watcher(MetaPathFinder):
    """Finds nothing by itself: lets the other finders find, and acts after the module has run."""

    def __init__(self, name: str, action: Callable[[ModuleType], None]) -> None:
        self.name = name
        self.action = action

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname != self.name:
            return None
        others = sys.meta_path[sys.meta_path.index(self) + 1 :]
        specs = (finder.find_spec(fullname, path, target) for finder in others)
        spec = next((spec for spec in specs if spec is not None), None)
        if spec is not None and spec.loader is not None:
            run = spec.loader.exec_module

            def run_and_act(module: ModuleType) -> None:
                run(module)
                self.action(module)

            spec.loader.exec_module = run_and_act  # type: ignore[method-assign]
        return spec


def missing_extra(error: ImportError, extra: str = "builder") -> ImportError:
    """What to say where a package is absent that only one kind of work needs: that of an `extra`."""
    what = {
        "app": "the page",
        "builder": "labeling videos",
        "proving-ground": "judging labels",
        "rerun": "exporting to Rerun",
        "training": "training",
    }[extra]
    return ImportError(f"{what} needs {error.name}: pip install 'anthrotap[{extra}]'", name=error.name)
