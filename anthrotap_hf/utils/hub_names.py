"""Names on the Hub, with or without a pinned revision: `me/labels@v1`, with a branch, a tag or a commit.

A name alone means another content once its owner publishes again; a pinned revision does not.
"""

from __future__ import annotations

import logging
import os
import re
from functools import cache
from pathlib import Path

from anthrotap_hf.utils.errors import AnthroTapError

DATASET_NAME = "anthrotap"
"""The name under which `load_dataset` labels videos, or loads the labels that ANTHROTAP_REPO names, or the sample."""
REPOSITORY_VARIABLE = "ANTHROTAP_REPO"
SAMPLE = Path(__file__).parents[1] / "data" / "sample"
"""The labels that are loaded where that is not set: `examples/make_sample.py` makes them."""

logger = logging.getLogger(__name__)

_PINNED = re.compile(r"(?P<name>[\w.-]+(/[\w.-]+)?)@(?P<revision>[\w./-]+)")


def split_revision(name: str) -> tuple[str, str | None]:
    """Split a name into repository and revision; the revision is None where none is pinned, or for a file or folder."""
    found = _PINNED.fullmatch(name)
    if found is None or os.path.exists(os.path.expanduser(name)):
        return name, None
    return found["name"], found["revision"]


def is_repository(name: str) -> bool:
    """Return whether a name can only be one of the Hub, user/name: there is no file or folder of that name."""
    return name.count("/") == 1 and not name.startswith((".", "/", "~")) and not os.path.exists(name)


def may_be_loaded(name: str) -> bool:
    """Return whether a name is a file, a folder or a possible repository: the Hub need not be asked for any other."""
    path = os.path.expanduser(name)
    return os.path.exists(path) or is_repository(path)


def published_path(revision: object = None, token: str | bool | None = None) -> str:
    """Return the Hub id or folder in ANTHROTAP_REPO; where nothing is set, the sample that comes with the package.

    That it is the sample is logged as a warning, once a process.

    Args:
        revision, token: of the Hub, as they are asked for; None where they are not.

    Raises:
        AnthroTapError: if a revision is asked for and it is a folder, or a token, and it is the sample.
    """
    repository = os.path.expanduser(os.environ.get(REPOSITORY_VARIABLE, ""))
    for argument, is_asked in (
        ("revision", revision is not None and (not repository or os.path.isdir(repository))),
        ("token", bool(token) and not repository),
    ):
        if is_asked:
            kind = "a folder" if repository else "the sample that comes with the package"
            reason = f"{argument} is for labels of the Hub, and {DATASET_NAME!r} is {kind}"
            hint = f"set {REPOSITORY_VARIABLE} to a Hub id, or leave {argument} out"
            raise AnthroTapError(reason, hint=hint, argument=argument)
    if repository:
        return repository
    _say_that_it_is_the_sample()
    return str(SAMPLE)


@cache
def _say_that_it_is_the_sample() -> None:
    logger.warning(
        "this is the sample of a few clips that comes with anthrotap. Label your own videos by "
        "load_dataset('anthrotap', data_files=['a.mp4']) or data_dir='videos'; to load labels, set %s to a Hub id "
        "(me/labels, me/labels@v1) or a folder of shards",
        REPOSITORY_VARIABLE,
    )
