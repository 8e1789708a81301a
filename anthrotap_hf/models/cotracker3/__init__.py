"""CoTracker3: points tracked jointly, offline or online."""

import lazy_loader

# The names of __init__.pyi, imported when they are used.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
