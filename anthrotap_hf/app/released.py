"""The released trackers that the page offers besides the bundled ones, and what it says of their licenses."""

from __future__ import annotations

from collections.abc import Iterable

from anthrotap_hf.app.page import AppSettings
from anthrotap_hf.models.checkpoints import Checkpoint, checkpoints
from anthrotap_hf.pipelines import BUNDLED

# What each kind of tracker is good at.
STRENGTHS = {
    "flowchain": "Chained optical flow, nothing learned: for short clips without occlusions.",
    "locotrack-tiny": "Refines optical flow, small enough for a CPU: people, and most clips.",
    "locotrack": "Tracks each point by itself, quickly also with many of them.",
    "tapnext": "Goes frame by frame in one pass: long clips, and quick motion.",
    "tapir": "Tracks each point by itself and finds it again after an occlusion.",
    "cotracker3": "Tracks points together: good behind occlusions with several points on one body.",
    "alltracker": "Finds the motion of all pixels: many points of one frame, and large frames.",
}


def trackers_of(settings: AppSettings) -> dict[str, str]:
    """Return the trackers that come along or that the page was started with: folders or Hub ids, by name."""
    return settings.models or {name: str(path) for name, path in BUNDLED.items()}


def default_tracker(settings: AppSettings) -> str:
    """Return the name of the tracker that is chosen at first."""
    trackers = trackers_of(settings)
    return "locotrack-tiny" if "locotrack-tiny" in trackers else next(iter(trackers))


def describe_tracker(name: str) -> str:
    """Return what a tracker is good at, its size and its license; of one that is not known, that it is the owner's."""
    if name in BUNDLED:
        size = sum(file.stat().st_size for file in BUNDLED[name].iterdir()) / 1e6
        return f"{STRENGTHS[name]} {max(size, 0.1):.1f} MB, Apache-2.0; it comes along."
    if name not in checkpoints():
        return "A tracker that this page was started with."
    return f"{STRENGTHS[checkpoints()[name].architecture]} {about_tracker(name)}"


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
