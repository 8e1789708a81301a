"""What the Hub's errors mean, in one line that says what to do."""

from __future__ import annotations

from collections.abc import Iterator

LOG_IN = "`hf auth login`, or HF_TOKEN"


def in_words(error: BaseException, name: str) -> str | None:
    """Why something on the Hub could not be read or written; None if the Hub had no part in the error.

    transformers and datasets wrap the Hub's errors in others with long texts: the chain of causes is looked through.

    Args:
        error: what was raised.
        name: of the repository.
    """
    from huggingface_hub import constants, errors

    for cause in _causes(error):
        status = getattr(getattr(cause, "response", None), "status_code", None)
        if isinstance(cause, errors.GatedRepoError):
            return (
                f"{name} is gated: ask for access on its page at {constants.ENDPOINT}, then give the token of the "
                f"account that got it ({LOG_IN})"
            )
        if status == 401 and "invalid" in str(cause).lower():
            return f"the Hub does not accept the token: make one at {constants.ENDPOINT}/settings/tokens ({LOG_IN})"
        if isinstance(cause, errors.RevisionNotFoundError):
            return f"{name}: no such revision; a branch, a tag or a commit of the repository can be named after the @"
        if isinstance(cause, errors.RepositoryNotFoundError):
            return (
                f"{name}: no such repository on the Hub, or a private one that the token in use may not see; "
                f"check the name, or log in ({LOG_IN})"
            )
        if status == 403:
            return f"{name}: the token in use may not write there; one with write access is wanted ({LOG_IN})"
        if status == 412 or status == 409:
            return f"{name}: someone else published there meanwhile; type the same command again"
        if isinstance(cause, errors.OfflineModeIsEnabled):
            return (
                f"{name} is not in the cache, and HF_HUB_OFFLINE=1 forbids to fetch it: load it once online"
            )
        if status is not None:
            return f"{name}: the Hub answers {status}: {_first_line(cause)}; try again later"
        if _is_network(cause):
            return (
                f"the Hub at {constants.ENDPOINT} can't be reached ({_first_line(cause) or type(cause).__name__}): "
                "check the network and type the same command again"
            )
        if isinstance(cause, errors.HFValidationError):
            return f"{name}: no name of a repository, which is user/name: {_first_line(cause)}"
    return None


def _causes(error: BaseException) -> Iterator[BaseException]:
    """The first cause first: it knows most."""
    chain: list[BaseException] = []
    cause: BaseException | None = error
    while cause is not None and cause not in chain:
        chain.append(cause)
        cause = cause.__cause__ or cause.__context__
    yield from reversed(chain)


def _is_network(error: BaseException) -> bool:
    from huggingface_hub.utils import httpx

    return isinstance(error, httpx.TransportError)


def _first_line(error: BaseException) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), "")
