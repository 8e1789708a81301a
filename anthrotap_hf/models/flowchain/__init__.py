"""FlowChain: optical flow, chained from frame to frame; nothing learned, nothing to download."""

from __future__ import annotations

from typing import TYPE_CHECKING

import lazy_loader

if TYPE_CHECKING:
    from anthrotap_hf.models.flowchain.configuration_flowchain import FlowChainConfig
    from anthrotap_hf.models.flowchain.modeling_flowchain import FlowChainForPointTracking, FlowChainOutput

__all__ = ["FlowChainConfig", "FlowChainForPointTracking", "FlowChainOutput"]

__getattr__, __dir__, _ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "configuration_flowchain": ["FlowChainConfig"],
        "modeling_flowchain": ["FlowChainForPointTracking", "FlowChainOutput"],
    },
)
