"""TokenHMR: a person's pose and shape from one picture."""

from __future__ import annotations

from typing import TYPE_CHECKING

import lazy_loader

if TYPE_CHECKING:
    from anthrotap_hf.models.tokenhmr.configuration_tokenhmr import TokenHMRConfig
    from anthrotap_hf.models.tokenhmr.modeling_tokenhmr import TokenHMRForHumanMeshRecovery, TokenHMROutput

__all__ = ["TokenHMRConfig", "TokenHMRForHumanMeshRecovery", "TokenHMROutput"]

__getattr__, __dir__, _ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "configuration_tokenhmr": ["TokenHMRConfig"],
        "modeling_tokenhmr": ["TokenHMRForHumanMeshRecovery", "TokenHMROutput"],
    },
)
