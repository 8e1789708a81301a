"""`anthrotap trackers`: the trackers that are known by name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from anthrotap_hf.cli.common import Json, print_json

if TYPE_CHECKING:
    from anthrotap_hf.models.checkpoints import Checkpoint

DAVIS = "TAP-Vid DAVIS first"


def trackers(as_json: Json = False) -> None:
    """List the trackers that every --model takes by name: size, license, published scores, whether they are here.

    A released one is downloaded, checked and converted when it is first used. AJ is the average Jaccard of TAP-Vid
    DAVIS (queried first) as its authors published it, in percent. MB is "unknown" where no
    source at hand states it. --json has all figures, their sources and addresses.

    Example: anthrotap trackers
    """
    from anthrotap_hf.models.checkpoints import checkpoints
    from anthrotap_hf.pipelines import BUNDLED

    known = checkpoints().values()
    if as_json:
        bundled = [{"name": name, "folder": str(folder), "here": True} for name, folder in BUNDLED.items()]
        print_json({"bundled": bundled, "released": [_describe(checkpoint) for checkpoint in known]})
        return
    print(table([["name", "tracker", "MB", "license", "AJ", "here"], *_bundled(BUNDLED), *map(_row, known)]))


def table(rows: Sequence[Sequence[str]]) -> str:
    """Return rows as lines with columns of one width each: nothing is cut, so other programs may read it."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows)
    return "\n".join(lines)


def _bundled(folders: Mapping[str, Path]) -> list[list[str]]:
    titles = {"flowchain": "chained optical flow", "locotrack-tiny": "LocoTrack tiny, the default"}
    rows = []
    for name, folder in folders.items():
        size = sum(file.stat().st_size for file in folder.iterdir())
        rows.append([name, titles.get(name, name), f"{size / 1e6:.0f}", "apache-2.0", "-", "comes along"])
    return rows


def _row(checkpoint: Checkpoint) -> list[str]:
    megabytes = "unknown" if checkpoint.bytes is None else f"{checkpoint.bytes / 1e6:.0f}"
    return [checkpoint.name, checkpoint.title, megabytes, checkpoint.license, best_score(checkpoint), where(checkpoint)]


def best_score(checkpoint: Checkpoint) -> str:
    """Return the highest published average Jaccard on DAVIS, and at which resolution, where there are several."""
    found = [figure for figure in checkpoint.figures if figure["benchmark"] == DAVIS and "AJ" in figure]
    if not found:
        return "-"
    best = max(found, key=lambda figure: float(figure["AJ"]))
    return f"{best['AJ']}" + (f" at {best['resolution']}" if "resolution" in best else "")


def where(checkpoint: Checkpoint) -> str:
    """Return whether a known tracker is on this machine, or how it gets there."""
    if checkpoint.is_converted:
        return "yes"
    if (checkpoint.folder / checkpoint.file_name).is_file():
        return "its file"
    return "by hand" if checkpoint.by_hand is not None else "no"


def _describe(checkpoint: Checkpoint) -> dict[str, Any]:
    return {
        "name": checkpoint.name,
        "architecture": checkpoint.architecture,
        "title": checkpoint.title,
        "address": checkpoint.address,
        "by_hand": checkpoint.by_hand is not None,
        "file": str(checkpoint.folder / checkpoint.file_name),
        "bytes": checkpoint.bytes,
        "sha256": checkpoint.sha256,
        "license": checkpoint.license,
        "terms": checkpoint.terms,
        "trained_on": checkpoint.trained_on,
        "resolution": checkpoint.resolution,
        "figures": checkpoint.figures,
        "folder": str(checkpoint.model_folder),
        "here": checkpoint.is_converted,
    }
