"""OpenCV's threads and forks: the threads are ended before a fork, so that a child may ask for one thread.

A forked child has OpenCV's pool without its threads. When it ends them (`cv2.setNumThreads(1)`), it waits for ever for
those that slept: glibc's pthread_cond_destroy waits for all waiters.
"""

from __future__ import annotations

import os
from functools import cache


def use_one() -> None:
    """Let OpenCV work in the calling thread from now on."""
    import cv2

    cv2.setNumThreads(1)


@cache
def end_before_forks() -> None:
    """Let children begin with one thread from now on, while the parent keeps its own. OpenCV must be imported."""
    if not hasattr(os, "register_at_fork"):
        return
    import cv2

    numbers: list[int] = []

    def before() -> None:
        numbers.append(cv2.getNumThreads())
        cv2.setNumThreads(1)

    os.register_at_fork(before=before, after_in_parent=lambda: cv2.setNumThreads(numbers.pop()))
