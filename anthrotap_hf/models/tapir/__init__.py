"""TAPIR and BootsTAPIR: a global first guess, refined over time; with causal weights, frame by frame too."""

import lazy_loader

# The names of __init__.pyi, imported when they are used.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
