"""Tables of what `evaluation.evaluate_real_footage` found."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from rich.table import Table

from benchmarks.label_accuracy.measure import PARTS, THRESHOLDS, plain
from benchmarks.real_footage.markers import NEAR
from benchmarks.real_footage.masks import ALMOST_INSIDE


def report_tables(result: Mapping[str, Any]) -> list[Table]:
    """What `evaluate_real_footage` found, for the console."""
    return [
        _scene_table(result["two_views"]),
        _two_views_table(result["two_views"]),
        _markers_table(result["markers"]),
        _masks_table(result["masks"]),
        _parts_table(result["masks"]),
    ]


def _scene_table(figures: Mapping[str, Any]) -> Table:
    scene = figures["scene"]
    table = Table(title="Calibration: gaps between rays at static points, mm", title_justify="left")
    for name in ("", "as shipped", "aimed", "held out"):
        table.add_column(name, justify="right" if name else "left")
    for name in scene["as_shipped"]:
        table.add_row(name, *(f"{scene[kind][name]:.1f}" for kind in ("as_shipped", "aimed", "held_out")))
    rms = [np.sqrt(np.mean(np.square(list(scene[k].values())))) for k in ("as_shipped", "aimed", "held_out")]
    table.add_row("root mean square", *(f"{value:.1f}" for value in rms))
    x, y = scene["shift"]
    table.caption = f"aimed: the first camera's principal point is moved by ({x:.1f}, {y:.1f}) pixels, without labels"
    return table


def _two_views_table(figures: Mapping[str, Any]) -> Table:
    table = Table(title="Two views: labels of one surface point in both", title_justify="left")
    for name in ("", "lag", "labels", "points", "mm\nmedian", "\np90"):
        table.add_column(name, justify="right" if name else "left")
    for name in ("px\nmedian", "\np90", "px at 256\nmedian", "\np90"):
        table.add_column(name, justify="right")
    for key, name in (("visible", "visible in both"), ("all", "whole mesh")):
        own = figures[key]
        row = [f"gap, {name}", "", str(own["count"]), str(own["points"])]
        for quantity in ("gap_mm", "px", "px_256"):
            row += [plain(own[quantity][kind]) for kind in ("median", "p90")]
        table.add_row(*row)
        for lag, slide in own["lags"].items():
            row = [f"slide, {name}", lag, str(slide["count"]), str(slide["points"])]
            for quantity in ("slide_mm", "slide_px", "slide_px_256"):
                row += [plain(slide[quantity][kind]) for kind in ("median", "p90")]
            table.add_row(*row)
        table.add_section()
    pairs = "; ".join(f"persons {pair}: {gap:.0f} mm" for pair, gap in figures["pairs"].items())
    offsets = ", ".join(f"{offset}: {gap:.1f}" for offset, gap in figures["offsets"].items())
    table.caption = f"median gap of {pairs}; of the mesh with the views so many frames out of step, mm: {offsets}"
    return table


def _markers_table(results: Mapping[str, Mapping[str, Any]]) -> Table:
    table = Table(title="Skin markers: do labels next to one move as it moves?", title_justify="left")
    for name in ("", "markers\n(at once)", "within\npx at 256", "lag", "labels", "of\nmarkers", "kept"):
        table.add_column(name, justify="right" if name else "left")
    for kind in ("as is", "turned"):
        table.add_column(f"{kind}\ndelta", justify="right")
        for limit in THRESHOLDS:
            table.add_column(f"\n<{limit}", justify="right")
        table.add_column("\nmedian px", justify="right")
    table.add_column("static", justify="right")
    for name, result in results.items():
        for compared, radius in (("labels", NEAR[0]), ("labels", NEAR[1]), ("mesh", NEAR[1])):
            for lag, figures in result[compared][f"{radius:g}"].items():
                row = [
                    f"{name}, {compared}",
                    f"{result['num_markers']} ({result['at_once']:.0f})",
                    f"{radius:g}",
                ]
                row += [lag, str(figures["count"]), str(figures["markers"]), plain(figures["survival"], 0)]
                for kind in ("as_is", "turned"):
                    error = figures[kind]
                    row += [plain(error["average_delta"]), *(plain(v, 0) for v in error["within"].values())]
                    row.append(plain(error["median_error"], 2))
                table.add_row(*row, plain(figures["still_average_delta"]))
            table.add_section()
    table.caption = (
        "percentages; turned: offsets turned with the mesh; static: labels that do not move; "
        "mesh: what it leaves visible, before filtering"
    )
    return table


def _masks_table(results: Mapping[str, Mapping[str, Any]]) -> Table:
    table = Table(title="Masks by another network (selfie segmentation)", title_justify="left")
    headings = (
        "",
        "labels",
        "inside",
        f"or within\n{ALMOST_INSIDE:g} px",
        "mesh\nunfiltered",
        "moved\n8 px",
        "markers",
    )
    for name in headings:
        table.add_column(name, justify="right" if name else "left")
    for name, figures in results.items():
        fractions = (figures[key] for key in ("inside", "almost", "mesh", "moved", "markers"))
        table.add_row(name, str(figures["count"]), *(plain(fraction) for fraction in fractions))
    table.caption = "percent of visible labels; markers are certainly on the body, so they show what the mask misses"
    return table


def _parts_table(results: Mapping[str, Mapping[str, Any]]) -> Table:
    table = Table("", title="Inside the mask by body part, % (labels)", title_justify="left")
    for part in PARTS:
        table.add_column(part, justify="right")
    for name, figures in results.items():
        own = figures["parts"].values()
        table.add_row(name, *(f"{plain(part['inside'])} ({part['count']})" for part in own))
    return table
