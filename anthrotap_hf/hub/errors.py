"""The error of publishing."""

from __future__ import annotations

from anthrotap_hf.utils.errors import AnthroTapError


class PublishError(AnthroTapError):
    """Something that may not, or can't, be published. `argument` is one of the function that raises it."""
