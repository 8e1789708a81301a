"""Processes that end with the one that started them, also where that is killed."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import threading
import time

PR_SET_PDEATHSIG = 1  # of linux/prctl.h


def end_with_parent(parent: int) -> None:
    """Has this process killed when its parent dies, so that no orphan works on in a folder that is no longer locked.

    Args:
        parent: its process number, which the parent hands over: it may have died before this is called.
    """
    if sys.platform.startswith("linux"):  # at once, even while native code runs
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)
    threading.Thread(target=_watch, args=(parent,), daemon=True).start()


def _watch(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)
