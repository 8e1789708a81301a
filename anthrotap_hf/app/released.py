"""The released trackers that the page offers besides the bundled ones, and what it says of their licenses."""

from __future__ import annotations

from collections.abc import Iterable

from anthrotap_hf.app.page import AppSettings
from anthrotap_hf.models.checkpoints import Checkpoint, checkpoints


def offered_trackers(settings: AppSettings) -> list[tuple[str, str]]:
    """Return (what visitors read, name) of each known tracker that the page offers.

    A page for strangers offers those that are on this machine: nobody else may fill its disk. One that a person must
    get is offered once its file is there.
    """
    return [
        (_describe(checkpoint), name)
        for name, checkpoint in checkpoints().items()
        if checkpoint.is_converted or _has_file(checkpoint) or not (settings.is_for_strangers or checkpoint.by_hand)
    ]


def are_here(names: Iterable[str]) -> dict[str, bool]:
    """Return whether trackers are converted; of a name that is not known, that it is."""
    return {name: name not in checkpoints() or checkpoints()[name].is_converted for name in names}


def license_sentences(names: Iterable[str]) -> list[str]:
    """Return a sentence on the license of each of these known trackers."""
    return [f"{checkpoints()[name].title}: {checkpoints()[name].say_license()}." for name in names]


def about_tracker(name: str) -> str:
    """Return the license of a known tracker and what its first use costs; for "", what choosing one does."""
    if name not in checkpoints():
        return "It is downloaded and converted once, when it is first used."
    checkpoint = checkpoints()[name]
    (license,) = license_sentences([name])
    if checkpoint.is_converted:
        return f"{license} It is on this machine."
    if _has_file(checkpoint):
        return f"{license} Its file is on this machine and is converted once, when it is first used."
    return f"{license} It is downloaded ({_where(checkpoint)}) and converted once, when it is first used."


def _has_file(checkpoint: Checkpoint) -> bool:
    return (checkpoint.folder / checkpoint.file_name).is_file()


def _describe(checkpoint: Checkpoint) -> str:
    license = "no license stated" if checkpoint.license == "unknown" else checkpoint.license
    return f"{checkpoint.title} ({_where(checkpoint)}; {license})"


def _where(checkpoint: Checkpoint) -> str:
    if checkpoint.is_converted:
        return "on this machine"
    if _has_file(checkpoint):
        return "its file is on this machine"
    return "unknown size" if checkpoint.bytes is None else f"{checkpoint.bytes / 1e6:.0f} MB"
