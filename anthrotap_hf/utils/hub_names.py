"""Names on the Hub with a pinned revision, as every door takes them: `me/labels@v1`, a branch, a tag or a commit.

What is loaded by a name alone changes when its owner publishes again. A pin does not.
"""

from __future__ import annotations

import os
import re

_PINNED = re.compile(r"(?P<name>[\w.-]+(/[\w.-]+)?)@(?P<revision>[\w./-]+)")


def split_revision(name: str) -> tuple[str, str | None]:
    """The repository and the revision of `me/labels@v1`; (name, None) where nothing is pinned, or a file or folder is
    called so."""
    found = _PINNED.fullmatch(name)
    if found is None or os.path.exists(os.path.expanduser(name)):
        return name, None
    return found["name"], found["revision"]


def is_repository(name: str) -> bool:
    """Whether a name, pinned or not, can only be one of the Hub's, user/name: nothing on this machine is called so."""
    return name.count("/") == 1 and not name.startswith((".", "/", "~")) and not os.path.exists(name)


def may_be_loaded(place: str) -> bool:
    """Whether it is here, or can be a repository. What is neither is not asked of the Hub, again and again."""
    here = os.path.expanduser(place)
    return os.path.exists(here) or is_repository(here)
