"""Point trackers, and TokenHMR, as transformers models, one folder each: configuration, model, conversion."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from types import ModuleType
from typing import Any

from anthrotap_hf.utils.import_hooks import is_half_imported, on_import

# Folder (and model type), prefix of its classes.
TRACKERS = {"flowchain": "FlowChain", "locotrack": "LocoTrack", "tapnext": "TAPNext"}
# Folder, configuration and model.
MODELS = {
    **{folder: (f"{prefix}Config", f"{prefix}ForPointTracking") for folder, prefix in TRACKERS.items()},
    "tokenhmr": ("TokenHMRConfig", "TokenHMRForHumanMeshRecovery"),
}

_AUTO_CONFIG = "transformers.models.auto.configuration_auto"
_AUTO_MODEL = "transformers.models.auto.modeling_auto"
# Our modeling files import these, and these import the auto classes: ours must wait until they are whole.
_FOUNDATIONS = ("transformers.modeling_utils", "transformers.modeling_layers")


def register_with_transformers() -> None:
    """Make `AutoConfig` and `AutoModel` know our models, as soon as transformers has them."""
    on_import(_AUTO_CONFIG, _register_configs)
    for name in (_AUTO_MODEL, *_FOUNDATIONS, *map(_modeling, MODELS)):
        on_import(name, _register_models)


def _modeling(folder: str) -> str:
    return f"{__name__}.{folder}.modeling_{folder}"


def _register_configs(module: ModuleType) -> None:
    for folder, (name, _) in MODELS.items():
        config = getattr(importlib.import_module(f"{__name__}.{folder}.configuration_{folder}"), name)
        module.AutoConfig.register(config.model_type, config, exist_ok=True)


def _register_models(finished: ModuleType) -> None:
    auto = sys.modules.get(_AUTO_MODEL)
    if auto is None or any(is_half_imported(name, finished) for name in (_AUTO_MODEL, *_FOUNDATIONS)):
        return  # the one that is still being imported calls again
    for folder, (_, name) in MODELS.items():
        if not is_half_imported(_modeling(folder), finished):
            model = getattr(importlib.import_module(_modeling(folder)), name)
            auto.AutoModel.register(model.config_class, model, exist_ok=True)


def lazy_member(package: str, name: str, names: Sequence[str]) -> Any:
    """`name` of a model's folder, from its configuration or modeling file, which are imported only now."""
    if name not in names:
        raise AttributeError(f"module {package!r} has no attribute {name!r}")
    kind = "configuration" if name.endswith("Config") else "modeling"
    return getattr(importlib.import_module(f"{package}.{kind}_{package.rpartition('.')[2]}"), name)
