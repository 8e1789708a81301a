"""What goes up, and the upload: contents first, then one commit, so that a repository is never half published.

A broken upload goes on where it was: what the Hub has got is not sent again.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path
from typing import Any, Literal

from anthrotap_hf.utils.hub_errors import describe_hub_error

LIST = ".anthrotap.json"  # what is ours in a repository, and the SHA-256 of the card
AT_ONCE = 20  # files whose contents are sent before the next are looked at


class PublishError(ValueError):
    """Why something is not published, in one line."""


@dataclass
class Publication:
    """What goes up.

    Attributes:
        kind: of repository.
        files: place in the repository, and the file or its bytes.
        own: patterns of places that are ours alone: nothing else may lie there.
        stays: files of the folder that do not go up.
        notes: what the user should know.
    """

    kind: Literal["dataset", "model"]
    files: dict[str, Path | bytes]
    own: tuple[str, ...]
    stays: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Lists what goes up, so that the next version replaces this and nothing else."""
        card = hashlib.sha256(self.card.encode()).hexdigest()
        listed = {"files": sorted(self.files), "card_sha256": card}
        self.files[LIST] = json.dumps(listed, indent=1).encode()

    @property
    def card(self) -> str:
        content = self.files["README.md"]
        return (content if isinstance(content, bytes) else content.read_bytes()).decode()

    def owns(self, name: str) -> bool:
        """Whether a place in the repository is ours alone."""
        return any(name.count("/") == own.count("/") and fnmatch(name, own) for own in self.own)

    def sizes(self) -> Iterator[tuple[str, int]]:
        """Each file with its size in bytes, in order of their names."""
        for name, content in sorted(self.files.items()):
            yield name, len(content) if isinstance(content, bytes) else content.stat().st_size


@dataclass(frozen=True)
class Published:
    """What came of it: the page, and the commit."""

    url: str
    commit: str


def upload(publication: Publication, repo: str, public: bool, tag: str | None, overwrite: bool) -> Published:
    """Publish. A new repository is private until all is there.

    Args:
        publication: what goes up.
        repo: user/name; without a user, the token's own.
        public: let everybody see it.
        tag: a name for this version, that readers can pin.
        overwrite: also replace what AnthroTAP did not publish.

    Raises:
        PublishError: if the Hub refuses, can't be reached, or holds something else there.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import httpx

    api = HfApi(library_name="anthrotap")
    try:
        return _upload(api, publication, repo, public, tag, overwrite)
    except (OSError, RuntimeError, httpx.HTTPError, HFValidationError) as error:
        words = describe_hub_error(error, repo)
        if words is None:
            raise
        raise PublishError(words) from error


def _upload(
    api: Any, publication: Publication, repo: str, public: bool, tag: str | None, overwrite: bool
) -> Published:
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete

    from anthrotap_hf import __version__

    kind = publication.kind
    user = api.whoami(cache=False)["name"]
    if "/" not in repo:
        repo = f"{user}/{repo}"
    where = {"repo_id": repo, "repo_type": kind}
    url = str(api.create_repo(**where, private=True, exist_ok=True))
    about = api.repo_info(**where)
    if not about.private and not public:
        raise PublishError(f"{repo} exists and everybody sees it: say --public, or choose another name")
    there = {file.rfilename for file in about.siblings or ()} - {".gitattributes"}
    before = _published_before(api, where, there)
    if not overwrite:
        _check_ours(api, where, there, before, publication)
    if tag is not None and tag in {ref.name for ref in api.list_repo_refs(**where).tags}:
        raise PublishError(f"{repo} has a version {tag} already: --tag wants a new name")

    additions = [
        CommitOperationAdd(
            path_in_repo=name, path_or_fileobj=content if isinstance(content, bytes) else str(content)
        )
        for name, content in publication.files.items()
    ]
    for begin in range(0, len(additions), AT_ONCE):
        api.preupload_lfs_files(**where, additions=additions[begin : begin + AT_ONCE])
    ours = {*before.get("files", ()), *(name for name in there if overwrite and publication.owns(name))}
    gone = [
        CommitOperationDelete(path_in_repo=name) for name in sorted(ours & there - publication.files.keys())
    ]
    commit = api.create_commit(
        **where,
        operations=[*gone, *additions],
        commit_message=f"Published by anthrotap {__version__}",
        parent_commit=about.sha,
    )
    if tag is not None:
        api.create_tag(**where, tag=tag, revision=commit.oid)
    if public and about.private:
        api.update_repo_settings(**where, private=False)
    return Published(url, commit.oid)


def _published_before(api: Any, where: dict[str, str], there: set[str]) -> dict[str, Any]:
    """The list that an earlier version left; empty if there is none."""
    if LIST not in there:
        return {}
    try:
        listed = json.loads(Path(api.hf_hub_download(**where, filename=LIST)).read_text("utf-8"))
        return {"files": [*map(str, listed["files"])], "card_sha256": str(listed["card_sha256"])}
    except (ValueError, KeyError, TypeError):
        return {}


def _check_ours(
    api: Any, where: dict[str, str], there: set[str], before: dict[str, Any], publication: Publication
) -> None:
    """Raises PublishError if something would be replaced that was not published by this package."""
    ours = {*before.get("files", ()), LIST}
    foreign = sorted(
        name for name in there - ours if name in publication.files or publication.owns(name) or not before
    )
    way_out = "choose another name, or --overwrite"
    if foreign:
        more = " and others" if len(foreign) > 1 else ""
        raise PublishError(
            f"{where['repo_id']} holds {foreign[0]}{more}, which AnthroTAP did not publish: {way_out}"
        )
    if "README.md" in there:
        card = Path(api.hf_hub_download(**where, filename="README.md")).read_bytes()
        if hashlib.sha256(card).hexdigest() != before.get("card_sha256"):
            raise PublishError(
                f"the card of {where['repo_id']} was changed there by hand: keep it, then {way_out}"
            )
