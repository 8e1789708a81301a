"""What a survey of datasets says, for people: datasets side by side, and as a picture."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from anthrotap_hf.evaluation.report import empty_figure, write_tables
from anthrotap_hf.utils.atomic_files import atomic_write

if TYPE_CHECKING:
    from matplotlib.axes import Axes

WIDTH = 60  # characters of the text file, and so many more for each dataset
UNKNOWN = "-"
NOTES = (
    "frames: as stored, so lengths, speeds and complexity follow from the frame rate; px: of frames scaled to 256x256",
    "complexity: mean angular acceleration of a track; diversity: how far two tracks of a clip come to move apart",
)
LABEL_COLORS = {"seen": "#3b8f5a", "hidden": "#e0a030", "unknown": "#c9c9c9"}

Dataset = Mapping[str, Any]


def _number(value: float | None, form: str) -> str:
    return UNKNOWN if value is None else format(value, form)


def _count(name: str) -> Callable[[Dataset], str]:
    return lambda dataset: f"{dataset[name]:,}"


def _percent(name: str) -> Callable[[Dataset], str]:
    return lambda dataset: _number(dataset[name], ".1%").replace("%", " %")


def _mean(name: str, form: str) -> Callable[[Dataset], str]:
    return lambda dataset: _number(dataset["distributions"][name]["mean"], form)


def _quantiles(name: str, form: str, *shares: str) -> Callable[[Dataset], str]:
    def cell(dataset: Dataset) -> str:
        found = dataset["distributions"][name]["quantiles"]
        return UNKNOWN if found["0.5"] is None else " / ".join(format(found[share], form) for share in shares)

    return cell


def _hidden(dataset: Dataset) -> str:
    return _percent("hidden")(dataset) if dataset["tells_hidden"] else UNKNOWN


def _left_out(dataset: Dataset) -> str:
    return str(sum(each["clips"] for each in dataset["left_out"].values()))


ROWS: tuple[tuple[tuple[str, Callable[[Dataset], str]], ...], ...] = (
    (
        ("kind", lambda dataset: dataset["kind"]),
        ("clips", _count("clips")),
        ("left out", _left_out),
        ("frames", _count("frames")),
        ("frames a clip, median", _quantiles("frames_of_clips", ".0f", "0.5")),
        ("frames a second, median", _quantiles("fps", ".3g", "0.5")),
        ("people a clip", _mean("people", ".1f")),
        ("tracks", _count("tracks")),
        ("tracks a clip, median", _quantiles("tracks_of_clips", ".0f", "0.5")),
    ),
    (
        ("labels", _count("labels")),
        ("seen", _percent("seen")),
        ("hidden", _hidden),
        ("unknown", _percent("unknown")),
        ("confidence of seen: mean", _mean("confidence", ".2f")),
        ("confidence: 10 % below", _quantiles("confidence", ".2f", "0.1")),
    ),
    (
        ("frames trusted, a track: median / 90 %", _quantiles("frames_valid", ".0f", "0.5", "0.9")),
        ("frames seen, a track: median / 90 %", _quantiles("frames_seen", ".0f", "0.5", "0.9")),
        ("seen without a break, frames: median / 90 %", _quantiles("seen_spells", ".0f", "0.5", "0.9")),
        ("hidden without a break, frames: median / 90 %", _quantiles("hidden_spells", ".0f", "0.5", "0.9")),
        ("tracks seen again after a gap", _percent("tracks_seen_again")),
        ("returns, a track", _mean("returns", ".2f")),
    ),
    (
        ("speed, px/frame: median / 90 %", _quantiles("speed", ".1f", "0.5", "0.9")),
        ("displacement from query, px: median / 90 %", _quantiles("displacement", ".1f", "0.5", "0.9")),
        ("extent of the path, px: median / 90 %", _quantiles("extent", ".1f", "0.5", "0.9")),
    ),
    (
        ("complexity, rad/frame²", _mean("complexity", ".4f")),
        ("complexity, every k-th frame: about 10 a second", _mean("complexity_at_10", ".4f")),
        ("diversity, share of the frame", _mean("diversity", ".4f")),
    ),
)


def survey_table(report: Mapping[str, Any]) -> Table:
    """Datasets side by side."""
    table = Table("", title="point tracks", title_justify="left")
    for dataset in report["datasets"]:
        table.add_column(Text(dataset["name"]), justify="right", overflow="fold")
    for section in ROWS:
        for name, cell in section:
            table.add_row(name, *(Text(cell(dataset)) for dataset in report["datasets"]))
        table.add_section()
    return table


def survey_tables(report: Mapping[str, Any]) -> Group:
    """All of it: the table, what words mean, and what was left out."""
    left_out = [
        Text(f"{dataset['name']}: {each['clips']} left out: {reason} (first: {each['first']})")
        for dataset in report["datasets"]
        for reason, each in dataset["left_out"].items()
    ]
    parts: list[RenderableType] = [survey_table(report), *map(Text, NOTES), *left_out]
    return Group(*parts)


def write_text(report: Mapping[str, Any], path: Path) -> None:
    """The tables as a text file."""
    write_tables(survey_tables(report), WIDTH + 24 * len(report["datasets"]), path)


def plot_survey(report: Mapping[str, Any], path: Path) -> None:
    """A picture: shares of labels, and how lengths, motion, complexity, diversity and confidence are spread.

    Raises:
        ImportError: as of `report.empty_figure`.
    """
    figure = empty_figure(14, 10.5)
    (labels, seen, unbroken), (hidden, speed, away), (complexity, diversity, confidence) = figure.subplots(
        3, 3
    )
    datasets = report["datasets"]
    _label_bars(labels, datasets)
    _curves(seen, datasets, "frames_seen", "frames in which a track is seen", "tracks")
    _curves(unbroken, datasets, "seen_spells", "frames seen without a break", "run_lengths")
    _curves(hidden, datasets, "hidden_spells", "frames hidden without a break", "run_lengths")
    _curves(speed, datasets, "speed", "speed, px/frame at 256x256", "steps", lowest=0.03)
    _curves(away, datasets, "displacement", "displacement from query, px at 256x256", "labels", lowest=0.3)
    _histogram(complexity, datasets, "complexity", "complexity of a track, rad/frame²; dotted: mean")
    _curves(diversity, datasets, "diversity", "diversity of a clip, share of the frame", "clips")
    _curves(confidence, datasets, "confidence", "confidence of a seen label", "seen labels")
    handles, names = seen.get_legend_handles_labels()
    figure.legend(handles, names, loc="outside upper center", ncols=4, frameon=False)
    with atomic_write(path) as tmp_path:
        figure.savefig(tmp_path, dpi=100)


def _label_bars(axes: Axes, datasets: Sequence[Dataset]) -> None:
    names = [dataset["name"] for dataset in datasets]
    start = np.zeros(len(names))
    for name, color in LABEL_COLORS.items():
        widths = np.array([100 * (dataset[name] or 0) for dataset in datasets])
        axes.barh(range(len(names)), widths, left=start, color=color, label=name, height=0.6)
        start += widths
    axes.set_yticks(range(len(names)), [name if len(name) < 16 else f"…{name[-14:]}" for name in names])
    axes.set(xlabel="labels, %", xlim=(0, 100), ylim=(len(names) - 0.4, -1.2))
    axes.legend(loc="upper center", ncols=3, frameon=False)


def _curves(
    axes: Axes, datasets: Sequence[Dataset], name: str, what: str, of: str, lowest: float | None = None
) -> None:
    """Cumulative: the share of values up to each; on a logarithmic axis where the lowest value to show is given."""
    found = [dataset["distributions"][name] for dataset in datasets]
    highest = 1.03 * max((each["values"][-1] for each in found if each["count"]), default=1.0) or 1.0
    for number, each in enumerate(found):
        values, shares = [0.0, *each["values"], highest], [0.0, *each["shares"], 1.0]
        if not each["count"]:
            values, shares = [], []
        label = datasets[number]["name"]
        axes.step(values, 100 * np.array(shares), where="post", color=f"C{number}", label=label)
    if not any(each["count"] for each in found):
        axes.text(0.5, 0.5, "not known", transform=axes.transAxes, ha="center", color="gray")
    axes.set(xlabel=what, ylabel=f"{of}, cumulative %", ylim=(0, 103))
    if lowest is None:
        axes.locator_params(axis="x", nbins=6)
        axes.set_xlim(0, highest)
    else:
        axes.set_xscale("log")
        axes.set_xlim(lowest, max(highest, 10 * lowest))
        axes.xaxis.set_major_formatter("{x:g}")
    axes.grid(alpha=0.3)


def _histogram(axes: Axes, datasets: Sequence[Dataset], name: str, what: str) -> None:
    """Density in 40 bins from 0 to pi; the mean as a dotted line."""
    edges = np.linspace(0, np.pi, 41)
    for number, dataset in enumerate(datasets):
        found = dataset["distributions"][name]
        if found["count"]:
            inside = np.searchsorted(found["values"], edges, side="right")
            inside[0], inside[-1] = 0, len(found["values"])  # 0 itself, and pi, however it was rounded
            density = np.diff(np.array([0.0, *found["shares"]])[inside]) / np.diff(edges)
            axes.stairs(density, edges, color=f"C{number}", fill=True, alpha=0.15)
            axes.stairs(density, edges, color=f"C{number}")
            axes.axvline(found["mean"], color=f"C{number}", linestyle=":")
    axes.set(xlabel=what, ylabel="tracks, density", xlim=(0, np.pi))
    axes.set_ylim(bottom=0)
    axes.grid(alpha=0.3)
