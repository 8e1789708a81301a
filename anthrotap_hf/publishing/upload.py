"""What goes up, and the upload: contents first, then one commit, so that a repository is never half published.

A broken upload goes on where it was: what the Hub has got is not sent again.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path
from typing import Any, Literal

from anthrotap_hf.hub import in_words

AT_ONCE = 20  # files whose contents are sent before the next are looked at


class PublishError(ValueError):
    """Why something is not published, in one line."""


@dataclass
class Publication:
    """What goes up.

    Attributes:
        kind: of repository.
        files: place in the repository, and the file or its bytes.
        replaced: patterns of files of an earlier version; those that are not in `files` go.
        stays: files of the folder that do not go up.
        notes: what the user should know.
    """

    kind: Literal["dataset", "model"]
    files: dict[str, Path | bytes]
    replaced: tuple[str, ...]
    stays: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def card(self) -> str:
        content = self.files["README.md"]
        return (content if isinstance(content, bytes) else content.read_bytes()).decode()

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
        words = in_words(error, repo)
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
    there = {file.rfilename for file in about.siblings or ()}
    if there - {".gitattributes"} and not overwrite:
        _check_ours(api, where, there)
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
    gone = [
        CommitOperationDelete(path_in_repo=name)
        for name in sorted(there - publication.files.keys())
        if any(fnmatch(name, pattern) for pattern in publication.replaced)
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


def _check_ours(api: Any, where: dict[str, str], there: set[str]) -> None:
    """Raises PublishError if the repository holds something that was not published by this package."""
    from huggingface_hub import RepoCard

    if "README.md" in there:
        card = Path(api.hf_hub_download(**where, filename="README.md")).read_text("utf-8")
        if "anthrotap" in (RepoCard(card, ignore_metadata_errors=True).data.to_dict().get("tags") or ()):
            return
    raise PublishError(
        f"{where['repo_id']} holds something that AnthroTAP did not publish (its card lacks the tag anthrotap): "
        "choose another name, or --overwrite"
    )
