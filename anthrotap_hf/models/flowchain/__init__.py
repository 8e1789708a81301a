"""FlowChain: optical flow, chained from frame to frame; nothing learned, nothing to download."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from anthrotap_hf.models.flowchain.configuration_flowchain import FlowChainConfig
    from anthrotap_hf.models.flowchain.modeling_flowchain import FlowChainForPointTracking, FlowChainOutput

__all__ = ["FlowChainConfig", "FlowChainForPointTracking", "FlowChainOutput"]


def __getattr__(name: str) -> Any:
    from anthrotap_hf.models import lazy_member

    return lazy_member(__name__, name, __all__)
