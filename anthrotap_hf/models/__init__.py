"""Point trackers, and TokenHMR, as transformers models, one folder each: configuration, model, conversion."""

from __future__ import annotations

from types import ModuleType

from anthrotap_hf.utils.import_hooks import when_imported
from anthrotap_hf.utils.registry import Registry

TRACKERS = Registry(
    "tracker",
    {
        "alltracker": "anthrotap_hf.models.alltracker.modeling_alltracker:AllTrackerForPointTracking",
        "cotracker3": "anthrotap_hf.models.cotracker3.modeling_cotracker3:CoTracker3ForPointTracking",
        "flowchain": "anthrotap_hf.models.flowchain.modeling_flowchain:FlowChainForPointTracking",
        "locotrack": "anthrotap_hf.models.locotrack.modeling_locotrack:LocoTrackForPointTracking",
        "tapir": "anthrotap_hf.models.tapir.modeling_tapir:TAPIRForPointTracking",
        "tapnext": "anthrotap_hf.models.tapnext.modeling_tapnext:TAPNextForPointTracking",
    },
)
"""Point trackers by their model type, which is their folder's name too."""

MODELS = Registry(
    "model",
    {
        **TRACKERS.entries,
        "tokenhmr": "anthrotap_hf.models.tokenhmr.modeling_tokenhmr:TokenHMRForHumanMeshRecovery",
    },
)
CONFIGS = Registry(
    "model",
    {
        "alltracker": "anthrotap_hf.models.alltracker.configuration_alltracker:AllTrackerConfig",
        "cotracker3": "anthrotap_hf.models.cotracker3.configuration_cotracker3:CoTracker3Config",
        "flowchain": "anthrotap_hf.models.flowchain.configuration_flowchain:FlowChainConfig",
        "locotrack": "anthrotap_hf.models.locotrack.configuration_locotrack:LocoTrackConfig",
        "tapir": "anthrotap_hf.models.tapir.configuration_tapir:TAPIRConfig",
        "tapnext": "anthrotap_hf.models.tapnext.configuration_tapnext:TAPNextConfig",
        "tokenhmr": "anthrotap_hf.models.tokenhmr.configuration_tokenhmr:TokenHMRConfig",
    },
)

# What the modeling files import, and which imports the auto classes.
_FOUNDATIONS = ("transformers.modeling_utils", "transformers.modeling_layers")


def register_with_transformers() -> None:
    """Make `AutoConfig` and `AutoModel` know our models, as soon as transformers has them."""
    when_imported("transformers.models.auto.configuration_auto", _register_configs)
    ours = [entry.partition(":")[0] for entry in MODELS.entries.values()]
    when_imported("transformers.models.auto.modeling_auto", _register_models, not_during=[*_FOUNDATIONS, *ours])


def _register_configs(auto: ModuleType) -> None:
    for name in CONFIGS:
        auto.AutoConfig.register(name, CONFIGS.load(name), exist_ok=True)


def _register_models(auto: ModuleType) -> None:
    for name in MODELS:
        model = MODELS.load(name)
        auto.AutoModel.register(model.config_class, model, exist_ok=True)
