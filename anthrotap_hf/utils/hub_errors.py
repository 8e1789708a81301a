"""What the Hub's errors mean, in one line that says what to do."""

from __future__ import annotations

from collections.abc import Iterator

from anthrotap_hf.utils.hub_names import is_repository, split_revision

LOG_IN = "`hf auth login`, or HF_TOKEN"


def describe_hub_error(error: BaseException, name: str) -> str | None:
    """Why something on the Hub could not be read or written; None if the Hub had no part in the error.

    transformers and datasets wrap the Hub's errors in others with long texts: the chain of causes is looked through.

    Args:
        error: what was raised.
        name: of the repository.
    """
    from huggingface_hub import constants, errors
    from huggingface_hub.utils import httpx

    causes = [*_causes(error)]
    for cause in causes:
        if isinstance(cause, errors.GatedRepoError):
            return (
                f"{name} is gated: ask for access on its page at {constants.ENDPOINT}, then give the token of the "
                f"account that got it ({LOG_IN})"
            )
        if isinstance(cause, errors.RevisionNotFoundError):
            return f"{name}: no such revision; after the @ a branch, a tag or a commit of the repository is wanted"
        if isinstance(cause, errors.RepositoryNotFoundError):
            return (
                f"{name}: no such repository on the Hub, or a private one that the token in use may not see; "
                f"check the name, or log in ({LOG_IN})"
            )
        if isinstance(cause, errors.LocalTokenNotFoundError):
            return f"the Hub wants to know who you are: log in ({LOG_IN})"
        missing = isinstance(cause, errors.LocalEntryNotFoundError)
        if isinstance(cause, errors.OfflineModeIsEnabled) or (missing and constants.HF_HUB_OFFLINE):
            return (
                f"{name} is not in the cache, and HF_HUB_OFFLINE=1 forbids to fetch it: load it once online"
            )
        if isinstance(cause, errors.HFValidationError):
            return f"{name}: no name of a repository, which is user/name: {_first_line(cause)}"
    for cause in causes:
        if isinstance(cause, httpx.HTTPStatusError | errors.HfHubHTTPError):
            return _status_in_words(cause.response.status_code, name)
        if isinstance(cause, httpx.TransportError):
            return (
                f"the Hub at {constants.ENDPOINT} can't be reached ({_first_line(cause) or type(cause).__name__}): "
                "check the network and type the same command again"
            )
    return None


def why_not_loaded(name: str, error: BaseException) -> str | None:
    """`describe_hub_error` for what `datasets` could not load: it often hides what the Hub said, so the Hub is asked again.

    Args:
        name: a repository, with a pinned revision or without; for a folder the answer is None.
        error: what `datasets` raised.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import httpx

    if words := describe_hub_error(error, name):
        return words
    if not is_repository(name):
        return None
    try:
        repository, revision = split_revision(name)
        HfApi().repo_info(repository, revision=revision, repo_type="dataset")
        HfApi().auth_check(repository, repo_type="dataset")
    except (OSError, httpx.HTTPError, HFValidationError) as answer:
        return describe_hub_error(answer, name)
    return None


def _status_in_words(status: int, name: str) -> str:
    from huggingface_hub import constants

    if status == 401:
        return (
            f"the Hub does not accept the token: make one at {constants.ENDPOINT}/settings/tokens ({LOG_IN})"
        )
    if status == 403:
        return f"{name}: the token in use may not write there; one with write access is wanted ({LOG_IN})"
    if status in (409, 412):
        return f"{name}: someone else published there meanwhile; type the same command again"
    return f"{name}: the Hub answers {status}; try again later"


def _causes(error: BaseException) -> Iterator[BaseException]:
    """The first cause first: it knows most."""
    chain: list[BaseException] = []
    cause: BaseException | None = error
    while cause is not None and cause not in chain:
        chain.append(cause)
        cause = cause.__cause__ or cause.__context__
    yield from reversed(chain)


def _first_line(error: BaseException) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), "")
