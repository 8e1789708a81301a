"""Work for processes, in a module that is quickly imported there."""

import os


def negate(number: int) -> int:
    """Ends its process at 3."""
    if number == 3:
        os._exit(1)
    return -number
