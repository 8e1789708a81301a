from .configuration_tapnext import TAPNextConfig as TAPNextConfig
from .modeling_tapnext import TAPNextForPointTracking as TAPNextForPointTracking
from .modeling_tapnext import TAPNextOutput as TAPNextOutput
from .modeling_tapnext import TAPNextState as TAPNextState
