"""OpenCV's threads and forks: they are ended before a fork, so that a child may say that it wants one thread.

A forked child has OpenCV's pool without its threads. As soon as it is told to end them (`cv2.setNumThreads(1)`), it
waits for ever for those that slept: glibc's pthread_cond_destroy waits for whoever waits.
"""

from __future__ import annotations

import os

import cv2


def one() -> None:
    """OpenCV works in the calling thread from now on."""
    cv2.setNumThreads(1)


class _Pause:
    """Children begin with one thread; the parent has as many as before."""

    def __init__(self) -> None:
        self.number = cv2.getNumThreads()

    def before(self) -> None:
        self.number = cv2.getNumThreads()
        cv2.setNumThreads(1)

    def after(self) -> None:
        cv2.setNumThreads(self.number)


if hasattr(os, "register_at_fork"):
    _pause = _Pause()
    os.register_at_fork(before=_pause.before, after_in_parent=_pause.after)
