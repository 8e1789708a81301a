from .configuration_tapir import TAPIRConfig as TAPIRConfig
from .modeling_tapir import TAPIRFeatures as TAPIRFeatures
from .modeling_tapir import TAPIRForPointTracking as TAPIRForPointTracking
from .modeling_tapir import TAPIROutput as TAPIROutput
from .modeling_tapir import TAPIRState as TAPIRState
