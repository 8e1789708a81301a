"""AllTracker: a dense flow from one frame to all others, read at the query points."""

import lazy_loader

# The names of __init__.pyi, imported when they are used.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
