"""OpenCV's threads and forks: they are ended before a fork, so that a child may say that it wants one thread.

A forked child has OpenCV's pool without its threads. As soon as it is told to end them (`cv2.setNumThreads(1)`), it
waits for ever for those that slept: glibc's pthread_cond_destroy waits for whoever waits.
"""

from __future__ import annotations

import os
from functools import cache


def one() -> None:
    """OpenCV works in the calling thread from now on."""
    import cv2

    cv2.setNumThreads(1)


@cache
def end_before_forks() -> None:
    """From now on children begin with one thread, and the parent keeps its own. Called once OpenCV is there."""
    if hasattr(os, "register_at_fork"):
        pause = _Pause()
        os.register_at_fork(before=pause.before, after_in_parent=pause.after)


class _Pause:
    def __init__(self) -> None:
        self.number = 0

    def before(self) -> None:
        import cv2

        self.number = cv2.getNumThreads()
        cv2.setNumThreads(1)

    def after(self) -> None:
        import cv2

        cv2.setNumThreads(self.number)
