"""A table of trackers that says of each row whether its figures were measured here or published, and where."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from anthrotap_hf.evaluation.report import model_names, scored_at
from anthrotap_hf.models.checkpoints import checkpoints
from anthrotap_hf.utils.atomic_files import atomic_write

# What the table of checkpoints calls our benchmarks, by name and mode.
TITLES = {
    ("tapvid-davis", "first"): "TAP-Vid DAVIS first",
    ("tapvid-davis", "strided"): "TAP-Vid DAVIS strided",
    ("tapvid-kinetics", "first"): "TAP-Vid Kinetics",
    ("tapvid-rgb-stacking", "first"): "TAP-Vid RGB-Stacking",
    ("robotap", "first"): "RoboTAP",
    ("point-odyssey", "start"): "PointOdyssey",
    ("egopoints", "start"): "EgoPoints",
    ("dynamic-replica", "start"): "Dynamic Replica",
}
# What published figures call our metrics; the first three and the others are in `mean` and in `long_term`.
TAPVID_FIGURES = {"AJ": "average_jaccard", "delta": "average_pts_within_thresh", "OA": "occlusion_accuracy"}
LONG_TERM_FIGURES = {"AJ_RD": "AJ_RD", "d_avg": "d_avg", "survival": "survival", "MTE": "median_error"}
# PointOdyssey's delta takes all positions, and not only those of visible points.
ALL_POSITIONS = ("PointOdyssey", "EgoPoints")


def comparison_rows(report: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the rows of a report's trackers and of what was published on its benchmark.

    Args:
        report: as `anthrotap_hf.evaluation.runner.evaluate` returns it.

    Returns:
        Of each row `tracker`, `resolution` (that it sees, as "256x256", or ""), `origin` ("measured" or "published"),
        `source` (what was measured, or the document) and those that are known of `TAPVID_FIGURES` and
        `LONG_TERM_FIGURES`, percent; MTE in pixels at 256x256.
    """
    rows = []
    for name, model in zip(model_names(report), report["models"], strict=True):
        row: dict[str, Any] = {"tracker": name, "resolution": "{}x{}".format(*model["resolution"])}
        row["origin"] = "measured"
        row["source"] = f"{report['videos']} videos of {Path(report['data']).name}"
        figures: dict[str, float | None] = {key: model["mean"][ours] for key, ours in TAPVID_FIGURES.items()}
        figures |= {key: (model["long_term"] or {}).get(ours) for key, ours in LONG_TERM_FIGURES.items()}
        for key, value in figures.items():
            if value is not None:
                row[key] = value if key == "MTE" else 100 * value
        rows.append(row)
    title = TITLES.get((report["benchmark"], report["mode"]))
    for checkpoint in checkpoints().values():
        for published in checkpoint.figures:
            if published["benchmark"] != title:
                continue
            figures = {key: published.get(key) for key in (*TAPVID_FIGURES, *LONG_TERM_FIGURES)}
            if title in ALL_POSITIONS:
                figures["d_avg"] = figures.pop("delta")
            size = published.get("resolution") or "x".join(map(str, checkpoint.resolution or ()))
            row = {"tracker": checkpoint.title, "resolution": size, "origin": "published"}
            known = {key: value for key, value in figures.items() if value is not None}
            rows.append({**row, "source": published["source"], **known})
    return rows


def comparison_markdown(report: Mapping[str, Any]) -> str:
    """Return these rows as a table in Markdown, the measured ones first."""
    rows = comparison_rows(report)
    keys = [key for key in (*TAPVID_FIGURES, *LONG_TERM_FIGURES) if any(key in row for row in rows)]
    heading = ["tracker", "sees", *(f"{key}, px" if key == "MTE" else f"{key}, %" for key in keys), "figures"]
    lines = [heading, ["---", "---", *["---:"] * len(keys), "---"]]
    for row in rows:
        figures = [f"{row[key]:.1f}" if key in row else "" for key in keys]
        where = "measured here" if row["origin"] == "measured" else "published"
        lines.append([row["tracker"], row["resolution"], *figures, f"{where}: {row['source']}"])
    table = "\n".join(f"| {' | '.join(cell.replace('|', '/') for cell in line)} |" for line in lines)
    note = "Published figures are those of their authors, on all videos of the benchmark; nothing here checks them."
    return f"{report['benchmark']}, {report['mode']}, {scored_at(report)}.\n\n{table}\n\n{note}\n"


def write_comparison(report: Mapping[str, Any], path: Path) -> None:
    """Write the table as a Markdown file."""
    with atomic_write(path) as tmp_path:
        tmp_path.write_text(comparison_markdown(report), "utf-8")
