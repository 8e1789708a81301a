"""Reports of an evaluation: tables of models side by side and video by video, and a plot."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from anthrotap_hf.evaluation.metrics import METRICS, RESOLUTION, THRESHOLDS
from anthrotap_hf.evaluation.redetection import MIN_GAPS
from anthrotap_hf.utils.atomic_files import atomic_write

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MAIN = {"average_jaccard": "AJ", "average_pts_within_thresh": "delta avg", "occlusion_accuracy": "OA"}
NAMES = {
    **MAIN,
    **{f"jaccard_{d}": f"Jaccard at {d} px" for d in THRESHOLDS},
    **{f"pts_within_{d}": f"within {d} px" for d in THRESHOLDS},
}
# Those of `mean_long_term` that are in tables, percent.
LONG_TERM = {
    "AJ_RD": "AJ, re-detection",
    **{f"AJ_RD_dmin{gap}": f"  after {gap} frames or more" for gap in MIN_GAPS},
    "d_avg": "all positions, delta avg",
    "survival": "survival",
    "d_star_avg": "EgoPoints delta* avg",
    "in_view_accuracy": "in view",
    "out_of_view_accuracy": "out of view",
    "reidentified": "re-identified",
}
# Characters of a line of the text file, for the first columns and for each model.
WIDTH, MODEL_WIDTH = 110, 40


def model_names(report: Mapping[str, Any]) -> list[str]:
    """Return the names of models in tables: the last part of a path or Hub id, where that tells them apart."""
    return short_names([model["model"] for model in report["models"]])


def short_names(full: Sequence[str]) -> list[str]:
    """Return the last part of each path or Hub id, where that tells them apart."""
    short = [label.rstrip("/").rpartition("/")[2] for label in full]
    return short if len(set(short)) == len(short) else [*full]


def scored_at(report: Mapping[str, Any]) -> str:
    """Return the words that say in which pixels the tracks of a report are scored."""
    size = report["resolution"]
    return "scored at {}x{}".format(*size) if size else "scored at each video's own size"


def means_table(report: Mapping[str, Any]) -> Table:
    """Return models side by side: height and width that each sees, means over videos, re-detection and recall of
    occluded labels, percent, the median error in pixels, and seconds of tracking."""
    size = "" if report["resolution"] == [*RESOLUTION] else f" {scored_at(report)}"
    title = f"{report['benchmark']}, {report['mode']}{size}: mean of {report['videos']} videos, %"
    table = Table("", title=title, title_justify="left")
    for name in model_names(report):
        table.add_column(Text(name), justify="right", overflow="fold")
    table.add_row("sees", *("{}x{}".format(*model["resolution"]) for model in report["models"]))
    for name in METRICS:
        table.add_row(NAMES[name], *(f"{100 * model['mean'][name]:.1f}" for model in report["models"]))
    long_term = [model["long_term"] or {} for model in report["models"]]
    for name, title in {**LONG_TERM, "median_error": "median error, px"}.items():
        values = [each.get(name) for each in long_term]
        if any(value is not None for value in values):
            scale = 1 if name == "median_error" else 100
            table.add_row(title, *("-" if value is None else f"{scale * value:.1f}" for value in values))
    recalls = [model["occlusion_recall"] for model in report["models"]]
    table.add_row("occlusion recall", *("-" if each is None else f"{100 * each:.1f}" for each in recalls))
    seconds = [sum(video["seconds"] for video in model["videos"].values()) for model in report["models"]]
    table.add_row("seconds, all videos", *(f"{each:.1f}" for each in seconds))
    return table


def videos_table(report: Mapping[str, Any]) -> Table:
    """Return each video: AJ, delta average and OA of each model, percent."""
    table = Table("video", title=f"video by video: {' / '.join(MAIN.values())}, %", title_justify="left")
    for column in ("frames", "queries", *model_names(report)):
        table.add_column(Text(column), justify="right", overflow="fold")
    for name, first in report["models"][0]["videos"].items():
        figures = (model["videos"][name] for model in report["models"])
        cells = (" / ".join(f"{100 * each[metric]:.1f}" for metric in MAIN) for each in figures)
        table.add_row(Text(name), str(first["frames"]), str(first["queries"]), *cells)
    return table


def report_tables(report: Mapping[str, Any]) -> Group:
    """Return the videos, those that were skipped, and the means last."""
    skipped = [Text(f"skipped: {name}: {reason}") for name, reason in report["skipped"].items()]
    parts: list[RenderableType] = [videos_table(report), *skipped, means_table(report)]
    return Group(*parts)


def write_text(report: Mapping[str, Any], path: Path) -> None:
    """Write the tables as a text file."""
    write_tables(report_tables(report), WIDTH + MODEL_WIDTH * len(report["models"]), path)


def write_tables(tables: RenderableType, width: int, path: Path) -> None:
    """Write what a terminal of `width` characters would show."""
    text = Console(width=width, file=io.StringIO(), record=True)
    text.print(tables)
    with atomic_write(path) as tmp_path:
        tmp_path.write_text(text.export_text())


def empty_figure(width: float, height: float) -> Figure:
    """Return a figure of this size, inches.

    Raises:
        ImportError: where matplotlib is not installed; the message says how to get it.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError("plots need matplotlib: pip install 'anthrotap[evaluation]'", name="matplotlib") from error
    return Figure(figsize=(width, height), layout="constrained")


def plot_report(report: Mapping[str, Any], path: Path) -> None:
    """Plot the accuracy of each model by threshold, and how the videos spread.

    Raises:
        ImportError: as of `empty_figure`.
    """
    figure = empty_figure(13, 4.5)
    within, jaccard, spread = figure.subplots(1, 3)
    for axes, each, title in (
        (within, "pts_within", "visible points within"),
        (jaccard, "jaccard", "Jaccard"),
    ):
        for name, model in zip(model_names(report), report["models"], strict=True):
            values = [100 * model["mean"][f"{each}_{d}"] for d in THRESHOLDS]
            axes.plot(range(len(THRESHOLDS)), values, "o-", label=name)
        axes.set_xticks(range(len(THRESHOLDS)), [f"{d} px" for d in THRESHOLDS])
        axes.set(title=f"{title}, %", ylim=(0, 103))
        axes.grid(alpha=0.3)
    jaccard.legend()
    for model in report["models"]:
        values = sorted(100 * video["average_jaccard"] for video in model["videos"].values())
        spread.plot([100 * (n + 0.5) / len(values) for n in range(len(values))], values, ".-")
    spread.set(title="average Jaccard of each video, %", xlabel="videos, worst to best, %")
    spread.set(xlim=(0, 100), ylim=(0, 103))
    spread.grid(alpha=0.3)
    figure.suptitle(f"{report['benchmark']}, {report['mode']}, {report['videos']} videos, {scored_at(report)}")
    with atomic_write(path) as tmp_path:
        figure.savefig(tmp_path, dpi=110)
