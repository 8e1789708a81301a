"""Reports of dataset statistics: a table of datasets side by side, and a plot."""

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

# Characters of a line of the text file, for the first column and for each dataset.
WIDTH, DATASET_WIDTH = 60, 24
UNKNOWN = "-"
NOTES = (
    "frames: as stored, so lengths, speeds and complexity follow from the frame rate; px: of frames scaled to 256x256",
    "complexity: mean angular acceleration of a track; diversity: how far two tracks of a clip come to move apart",
)
LABEL_COLORS = {"visible": "#3b8f5a", "occluded": "#e0a030", "invalid": "#c9c9c9"}

Dataset = Mapping[str, Any]


def _number(value: float | None, form: str) -> str:
    return UNKNOWN if value is None else format(value, form)


def _count(name: str) -> Callable[[Dataset], str]:
    return lambda dataset: f"{dataset[name]:,}"


def _percent(name: str) -> Callable[[Dataset], str]:
    return lambda dataset: _number(dataset[name], ".1%").replace("%", " %")


def _mean(name: str, form: str) -> Callable[[Dataset], str]:
    return lambda dataset: _number(dataset["distributions"][name]["mean"], form)


def _quantiles(name: str, form: str, *quantiles: str) -> Callable[[Dataset], str]:
    def cell(dataset: Dataset) -> str:
        found = dataset["distributions"][name]["quantiles"]
        return UNKNOWN if found["0.5"] is None else " / ".join(format(found[each], form) for each in quantiles)

    return cell


def _occluded(dataset: Dataset) -> str:
    return _percent("occluded")(dataset) if dataset["knows_occlusion"] else UNKNOWN


def _skipped(dataset: Dataset) -> str:
    return str(sum(each["clips"] for each in dataset["skipped"].values()))


ROWS: tuple[tuple[tuple[str, Callable[[Dataset], str]], ...], ...] = (
    (
        ("kind", lambda dataset: dataset["kind"]),
        ("clips", _count("clips")),
        ("skipped", _skipped),
        ("frames", _count("frames")),
        ("frames a clip, median", _quantiles("frames_per_clip", ".0f", "0.5")),
        ("frames a second, median", _quantiles("fps", ".3g", "0.5")),
        ("people a clip", _mean("people", ".1f")),
        ("tracks", _count("tracks")),
        ("tracks a clip, median", _quantiles("tracks_per_clip", ".0f", "0.5")),
    ),
    (
        ("labels", _count("labels")),
        ("visible", _percent("visible")),
        ("occluded", _occluded),
        ("invalid", _percent("invalid")),
        ("confidence of visible labels: mean", _mean("confidence", ".2f")),
        ("confidence: 10 % below", _quantiles("confidence", ".2f", "0.1")),
    ),
    (
        ("valid frames, a track: median / 90 %", _quantiles("valid_frames", ".0f", "0.5", "0.9")),
        ("visible frames, a track: median / 90 %", _quantiles("visible_frames", ".0f", "0.5", "0.9")),
        ("visible run length, frames: median / 90 %", _quantiles("visible_run_lengths", ".0f", "0.5", "0.9")),
        (
            "occluded run length, frames: median / 90 %",
            _quantiles("occluded_run_lengths", ".0f", "0.5", "0.9"),
        ),
        ("tracks that reappear after a gap", _percent("reappearing_tracks")),
        ("reappearances, a track", _mean("num_reappearances", ".2f")),
    ),
    (
        ("speed, px/frame: median / 90 %", _quantiles("speed", ".1f", "0.5", "0.9")),
        ("displacement from query, px: median / 90 %", _quantiles("displacement", ".1f", "0.5", "0.9")),
        ("extent of the path, px: median / 90 %", _quantiles("extent", ".1f", "0.5", "0.9")),
    ),
    (
        ("complexity, rad/frame²", _mean("complexity", ".4f")),
        ("complexity, every k-th frame: about 10 a second", _mean("complexity_at_10", ".4f")),
        ("diversity, fraction of the frame", _mean("diversity", ".4f")),
    ),
)


def statistics_table(report: Mapping[str, Any]) -> Table:
    """Return the datasets side by side."""
    table = Table("", title="point tracks", title_justify="left")
    for dataset in report["datasets"]:
        table.add_column(Text(dataset["name"]), justify="right", overflow="fold")
    for section in ROWS:
        for name, cell in section:
            table.add_row(name, *(Text(cell(dataset)) for dataset in report["datasets"]))
        table.add_section()
    return table


def statistics_tables(report: Mapping[str, Any]) -> Group:
    """Return the table, notes on its units, and what was skipped."""
    skipped = [
        Text(f"{dataset['name']}: {each['clips']} skipped: {reason} (first: {each['first']})")
        for dataset in report["datasets"]
        for reason, each in dataset["skipped"].items()
    ]
    parts: list[RenderableType] = [statistics_table(report), *map(Text, NOTES), *skipped]
    return Group(*parts)


def write_text(report: Mapping[str, Any], path: Path) -> None:
    """Write the tables as a text file."""
    write_tables(statistics_tables(report), WIDTH + DATASET_WIDTH * len(report["datasets"]), path)


def plot_statistics(report: Mapping[str, Any], path: Path) -> None:
    """Plot the fractions of labels, and the distributions of lengths, motion, complexity, diversity and confidence.

    Raises:
        ImportError: as of `report.empty_figure`.
    """
    figure = empty_figure(14, 10.5)
    (labels, visible, runs), (occluded, speed, away), (complexity, diversity, confidence) = figure.subplots(3, 3)
    datasets = report["datasets"]
    _label_bars(labels, datasets)
    _curves(visible, datasets, "visible_frames", "visible frames of a track", "tracks")
    _curves(runs, datasets, "visible_run_lengths", "visible run length, frames", "runs")
    _curves(occluded, datasets, "occluded_run_lengths", "occluded run length, frames", "runs")
    _curves(speed, datasets, "speed", "speed, px/frame at 256x256", "steps", lowest=0.03)
    _curves(away, datasets, "displacement", "displacement from query, px at 256x256", "labels", lowest=0.3)
    _histogram(complexity, datasets, "complexity", "complexity of a track, rad/frame²; dotted: mean")
    _curves(diversity, datasets, "diversity", "diversity of a clip, fraction of the frame", "clips")
    _curves(confidence, datasets, "confidence", "confidence of a visible label", "visible labels")
    handles, names = visible.get_legend_handles_labels()
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
    """Plot the fraction of values up to each; on a logarithmic axis where the lowest value to show is given."""
    found = [dataset["distributions"][name] for dataset in datasets]
    highest = 1.03 * max((each["values"][-1] for each in found if each["count"]), default=1.0) or 1.0
    for number, each in enumerate(found):
        values, fractions = [0.0, *each["values"], highest], [0.0, *each["fractions"], 1.0]
        if not each["count"]:
            values, fractions = [], []
        label = datasets[number]["name"]
        axes.step(values, 100 * np.array(fractions), where="post", color=f"C{number}", label=label)
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
    """Plot the density in 40 bins from 0 to pi, and the mean as a dotted line."""
    edges = np.linspace(0, np.pi, 41)
    for number, dataset in enumerate(datasets):
        found = dataset["distributions"][name]
        if found["count"]:
            inside = np.searchsorted(found["values"], edges, side="right")
            # The first and last bin hold 0 itself, and pi, however it was rounded.
            inside[0], inside[-1] = 0, len(found["values"])
            density = np.diff(np.array([0.0, *found["fractions"]])[inside]) / np.diff(edges)
            axes.stairs(density, edges, color=f"C{number}", fill=True, alpha=0.15)
            axes.stairs(density, edges, color=f"C{number}")
            axes.axvline(found["mean"], color=f"C{number}", linestyle=":")
    axes.set(xlabel=what, ylabel="tracks, density", xlim=(0, np.pi))
    axes.set_ylim(bottom=0)
    axes.grid(alpha=0.3)
