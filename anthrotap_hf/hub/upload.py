"""The upload: contents first, then one commit, so that a repository is never published in part.

A broken upload is resumed by the same call: the Hub keeps the contents that it has received.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Container
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from anthrotap_hf.hub.errors import PublishError
from anthrotap_hf.utils.file_limits import read_json
from anthrotap_hf.utils.hub_errors import describe_hub_error

if TYPE_CHECKING:
    from huggingface_hub import HfApi

LISTING = ".anthrotap.json"
"""The file of a repository that lists what AnthroTAP published, and the SHA-256 of the card."""
FILES_AT_ONCE = 20  # uploaded before the next are read


@dataclass
class Publication:
    """What is published.

    Attributes:
        kind: The kind of repository.
        files: For each path in the repository, the local file or its bytes.
        exclusive: Patterns of paths in the repository that belong to AnthroTAP: no other file may match them.
        skipped: Names in the local folder that are not published.
        notes: What the user should know.
    """

    kind: Literal["dataset", "model"]
    files: dict[str, Path | bytes]
    exclusive: tuple[str, ...]
    skipped: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Add the listing, so that the next version replaces these files and no others.

        Raises:
            PublishError: if a link of a dataset leads out of its folder: its target was not meant to be published.
        """
        for name, content in self.files.items() if self.kind == "dataset" else ():
            folder = Path(content).parents[name.count("/")].resolve() if isinstance(content, Path) else Path()
            if isinstance(content, Path) and not content.resolve().is_relative_to(folder):
                raise PublishError(
                    f"a link to {content.resolve()}", path=content, hint="put the file itself into the folder"
                )
        card = hashlib.sha256(self.card.encode()).hexdigest()
        listing = {"files": sorted(self.files), "card_sha256": card}
        self.files[LISTING] = json.dumps(listing, indent=1).encode()

    @property
    def card(self) -> str:
        """The card's Markdown."""
        content = self.files["README.md"]
        return (content if isinstance(content, bytes) else content.read_bytes()).decode()

    def owns(self, path: str) -> bool:
        """Return whether a path in the repository belongs to AnthroTAP alone."""
        return any(path.count("/") == own.count("/") and fnmatch(path, own) for own in self.exclusive)

    def sizes(self) -> dict[str, int]:
        """Return the size of each file in bytes, sorted by name."""
        return {
            name: len(content) if isinstance(content, bytes) else content.stat().st_size
            for name, content in sorted(self.files.items())
        }


def other_files(folder: Path, published: Container[str]) -> list[str]:
    """Return the names in a folder that are not published (`data` of a dataset is)."""
    return [path.name for path in sorted(folder.iterdir()) if path.name not in published and path.name != "data"]


@dataclass(frozen=True)
class Published:
    """The page of what was published, and the commit."""

    url: str
    commit: str


def upload(publication: Publication, repo: str, public: bool, tag: str | None, overwrite: bool) -> Published:
    """Publish. A new repository is private until it is complete.

    Args:
        publication: What is published.
        repo: The repository, user/name; without a user, one of the token's user.
        public: Whether everybody may see it.
        tag: A name for this version, which users can pin.
        overwrite: Whether files that AnthroTAP did not publish are replaced, too.

    Raises:
        HubError: if the Hub refuses or can't be reached.
        PublishError: if the upload would replace something else, or the tag exists.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import httpx

    api = HfApi(library_name="anthrotap")
    try:
        return _upload(api, publication, repo, public, tag, overwrite)
    except (OSError, RuntimeError, httpx.HTTPError, HFValidationError) as error:
        known = describe_hub_error(error, repo)
        if known is None:
            raise
        raise known from error


def _upload(
    api: HfApi, publication: Publication, repo: str, public: bool, tag: str | None, overwrite: bool
) -> Published:
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete

    from anthrotap_hf import __version__

    user = api.whoami(cache=False)["name"]
    if "/" not in repo:
        repo = f"{user}/{repo}"
    target: dict[str, Any] = {"repo_id": repo, "repo_type": publication.kind}
    url = str(api.create_repo(**target, private=True, exist_ok=True))
    info: Any = api.repo_info(**target)
    if not info.private and not public:
        raise PublishError(f"{repo} exists and is public", hint="set it, or choose another name", argument="public")
    existing = {file.rfilename for file in info.siblings or ()} - {".gitattributes"}
    listing = _read_listing(api, target, existing)
    if not overwrite:
        _check_ownership(api, target, existing, listing, publication)
    if tag is not None and tag in {ref.name for ref in api.list_repo_refs(**target).tags}:
        raise PublishError(f"{repo} has a version {tag} already", hint="choose a new name", argument="tag")

    additions = [
        CommitOperationAdd(path_in_repo=name, path_or_fileobj=content if isinstance(content, bytes) else str(content))
        for name, content in publication.files.items()
    ]
    for begin in range(0, len(additions), FILES_AT_ONCE):
        api.preupload_lfs_files(**target, additions=additions[begin : begin + FILES_AT_ONCE])
    ours = {*listing.get("files", ()), *(name for name in existing if overwrite and publication.owns(name))}
    obsolete = sorted((ours & existing) - publication.files.keys())
    commit = api.create_commit(
        **target,
        operations=[*(CommitOperationDelete(path_in_repo=name) for name in obsolete), *additions],
        commit_message=f"Published by anthrotap {__version__}",
        parent_commit=info.sha,
    )
    if tag is not None:
        api.create_tag(**target, tag=tag, revision=commit.oid)
    if public and info.private:
        api.update_repo_settings(**target, private=False)
    return Published(url, commit.oid)


def _read_listing(api: HfApi, target: dict[str, Any], existing: set[str]) -> dict[str, Any]:
    """Return the listing of the version in the repository; empty if there is none."""
    if LISTING not in existing:
        return {}
    try:
        listing = read_json(Path(api.hf_hub_download(**target, filename=LISTING)))
        return {"files": [*map(str, listing["files"])], "card_sha256": str(listing["card_sha256"])}
    except (ValueError, KeyError, TypeError):
        return {}


def _check_ownership(
    api: HfApi, target: dict[str, Any], existing: set[str], listing: dict[str, Any], publication: Publication
) -> None:
    """Raise PublishError if the upload would replace something that AnthroTAP did not publish."""
    repo, ours = target["repo_id"], {*listing.get("files", ()), LISTING}
    foreign = sorted(
        name for name in existing - ours if name in publication.files or publication.owns(name) or not listing
    )
    if foreign:
        more = " and others" if len(foreign) > 1 else ""
        reason = f"{repo} has {foreign[0]}{more}, which AnthroTAP did not publish"
        hint = "set it to replace them, or choose another name"
        raise PublishError(reason, hint=hint, argument="overwrite")
    if "README.md" in existing:
        card = Path(api.hf_hub_download(**target, filename="README.md")).read_bytes()
        if hashlib.sha256(card).hexdigest() != listing.get("card_sha256"):
            reason = f"the card of {repo} was edited there"
            hint = "set it to replace the card, or choose another name"
            raise PublishError(reason, hint=hint, argument="overwrite")
