"""TokenHMR: a person's pose and shape from one picture."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from anthrotap_hf.models.tokenhmr.configuration_tokenhmr import TokenHMRConfig
    from anthrotap_hf.models.tokenhmr.modeling_tokenhmr import TokenHMRForHumanMeshRecovery, TokenHMROutput

__all__ = ["TokenHMRConfig", "TokenHMRForHumanMeshRecovery", "TokenHMROutput"]


def __getattr__(name: str) -> Any:
    from anthrotap_hf.models import lazy_member

    return lazy_member(__name__, name, __all__)
