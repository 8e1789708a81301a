"""Loading a tracker by the name that a user gives."""

from __future__ import annotations

from typing import TYPE_CHECKING

from anthrotap_hf.pipelines import DEFAULT_MODEL, find_tracker
from anthrotap_hf.utils.devices import check_device
from anthrotap_hf.utils.errors import AnthroTapError, one_line
from anthrotap_hf.utils.hub_errors import describe_hub_error

if TYPE_CHECKING:
    from transformers import Pipeline


class TrackerError(AnthroTapError):
    """A tracker that can't be loaded; `path` is its name."""


def load_tracker(name: str | None = None, device: str = "cpu") -> Pipeline:
    """Load a tracker as `pipeline("point-tracking")`.

    Args:
        name: A folder, a Hub id (with or without a pinned revision) or a bundled name; None: the bundled default.
        device: The device to run on, as torch names it.

    Raises:
        TrackerError: if there is no such tracker, or it can't be loaded; its `argument` is "model".
        AnthroTapError: if there is no such device.
    """
    from safetensors import SafetensorError
    from transformers import pipeline
    from transformers.utils import logging

    check_device(device)
    had_progress_bar = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()  # reading weights takes a moment only
    try:
        model, revision = (str(DEFAULT_MODEL), None) if name is None else find_tracker(name)
        return pipeline("point-tracking", model=model, revision=revision, device=device)
    except (OSError, ValueError, SafetensorError) as error:
        known: AnthroTapError | None = describe_hub_error(error, str(name))
        if known is None and isinstance(error, AnthroTapError):
            known = error
        if known is not None:
            raise TrackerError(known.reason, path=known.path or name, hint=known.hint, argument="model") from error
        # Where transformers tried several classes, it quotes the tracebacks of all; the last line is the error.
        text = str(error).strip()
        reason = text.splitlines()[-1] if "Traceback (most" in text else text
        raise TrackerError(one_line(reason, 500), path=name, argument="model") from error
    finally:
        if had_progress_bar:
            logging.enable_progress_bar()
