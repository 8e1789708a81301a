"""What an error of the Hugging Face Hub means, and what to do about it."""

from __future__ import annotations

from collections.abc import Iterator

from anthrotap_hf.utils.errors import AnthroTapError, one_line
from anthrotap_hf.utils.hub_names import is_repository, split_revision

LOG_IN = "`hf auth login`, or HF_TOKEN"
AGAIN = "type the same command again"


class HubError(AnthroTapError):
    """The Hub could not be read or written. `path` is the repository, where the error is about one."""


def describe_hub_error(error: BaseException, name: str) -> HubError | None:
    """Return what an error of the Hub means; None if the Hub had no part in the error.

    transformers and datasets wrap the Hub's errors in others with long texts, so the chain of causes is searched.

    Args:
        error: The error that was raised.
        name: The repository, with or without a revision.
    """
    from huggingface_hub import constants, errors
    from huggingface_hub.utils import httpx

    causes = [*_causes(error)]
    for cause in causes:
        if isinstance(cause, errors.GatedRepoError):
            where = f"its page at {constants.ENDPOINT}"
            hint = f"ask for access on {where}, then use the token of the account that got it ({LOG_IN})"
            return HubError("the repository is gated", path=name, hint=hint)
        if isinstance(cause, errors.RevisionNotFoundError):
            hint = "after the @ comes a branch, a tag or a commit of the repository"
            return HubError("no such revision", path=name, hint=hint)
        if isinstance(cause, errors.RepositoryNotFoundError):
            reason = "no such repository on the Hub, or a private one that the token in use may not read"
            return HubError(reason, path=name, hint=f"check the name, or log in ({LOG_IN})")
        if isinstance(cause, errors.LocalTokenNotFoundError):
            return HubError("the Hub asks for an account", hint=f"log in ({LOG_IN})")
        missing = isinstance(cause, errors.LocalEntryNotFoundError)
        if isinstance(cause, errors.OfflineModeIsEnabled) or (missing and constants.HF_HUB_OFFLINE):
            reason = "not in the cache, and HF_HUB_OFFLINE=1 forbids to download it"
            return HubError(reason, path=name, hint="load it once online")
        if isinstance(cause, errors.HFValidationError):
            reason = f"not the name of a repository, which is user/name: {one_line(cause)}"
            return HubError(reason, path=name)
    for cause in causes:
        if isinstance(cause, httpx.HTTPStatusError | errors.HfHubHTTPError):
            return _describe_status(cause.response.status_code, name)
        if isinstance(cause, httpx.TransportError):
            reason = f"can't be reached ({one_line(cause) or type(cause).__name__})"
            return HubError(reason, path=f"the Hub at {constants.ENDPOINT}", hint=f"check the network and {AGAIN}")
    return None


def describe_load_error(error: BaseException, name: str) -> HubError | None:
    """Return `describe_hub_error` for an error of `datasets`, which often hides what the Hub answered.

    Where the chain of causes does not hold the Hub's answer, the Hub is asked for the repository again.

    Args:
        error: The error that `datasets` raised.
        name: A repository, with or without a revision; for a folder the answer is None.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import httpx

    if found := describe_hub_error(error, name):
        return found
    if not is_repository(name):
        return None
    try:
        repository, revision = split_revision(name)
        HfApi().repo_info(repository, revision=revision, repo_type="dataset")
        HfApi().auth_check(repository, repo_type="dataset")
    except (OSError, httpx.HTTPError, HFValidationError) as answer:
        return describe_hub_error(answer, name)
    return None


def _describe_status(status: int, name: str) -> HubError:
    from huggingface_hub import constants

    if status == 401:
        hint = f"create one at {constants.ENDPOINT}/settings/tokens ({LOG_IN})"
        return HubError("the Hub does not accept the token", hint=hint)
    if status == 403:
        hint = f"use a token with write access ({LOG_IN})"
        return HubError("the token in use may not write there", path=name, hint=hint)
    if status in (409, 412):
        return HubError("someone else published there in the meantime", path=name, hint=AGAIN)
    return HubError(f"the Hub answers {status}", path=name, hint="try again later")


def _causes(error: BaseException) -> Iterator[BaseException]:
    """Yield the chain of causes, the first cause first: it is the most specific one."""
    chain: list[BaseException] = []
    cause: BaseException | None = error
    while cause is not None and cause not in chain:
        chain.append(cause)
        cause = cause.__cause__ or cause.__context__
    yield from reversed(chain)
