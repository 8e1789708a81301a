"""Tables of what `label_measures.measure_footage` found: a row a clip, and all labels together."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.table import Table

from benchmarks.label_accuracy.measure import plain
from benchmarks.real_footage.confidence import area_under_curve, confidence_table
from benchmarks.real_footage.visible_pairs import LAGS

# Fewer cases than this give no percentage.
MIN_CASES = 5
Counts = Mapping[str, int]


def label_tables(result: Mapping[str, Any]) -> list[Table]:
    """What `measure_footage` found, for the console."""
    rows = {name: own["counts"] for name, own in result["clips"].items()} | {"all clips": result["all"]["counts"]}
    tables = [_time_table(rows), confidence_table(rows, LAGS), _person_table(rows)]
    if result["without_labels"]:
        tables[-1].caption = f"{tables[-1].caption}; no labels: {', '.join(result['without_labels'])}"
    return tables


def cut_table(result: Mapping[str, Any]) -> Table:
    """What `cuts.measure_cuts` found, for the console."""
    table = Table(title="Shot changes: each clip is one shot", title_justify="left")
    for heading in ("", "frames", "lost", "false cuts", "true cuts", "found"):
        table.add_column(heading, justify="right" if heading else "left")
    for name, own in (*result["clips"].items(), ("all clips", result["all"])):
        if name == "all clips":
            table.add_section()
        table.add_row(name, *(str(own[key]) for key in ("frames", "lost", "false_cuts")), "", "")
    if "joined" in result:
        joined = result["joined"]
        keys = ("frames", "lost", "false_cuts", "true_cuts", "found")
        table.add_row("joined end to end", *(str(joined[key]) for key in keys))
    return table


def percent(counts: Counts, part: str, whole: str) -> float | None:
    """The percentage that a count is of another; None for fewer than `MIN_CASES` cases."""
    total = counts.get(whole, 0)
    return 100 * counts.get(part, 0) / total if total >= MIN_CASES else None


def percentages(counts: Counts) -> dict[str, float | None]:
    """The figures of the tables, in percent, by name."""
    figures = {
        "coverage_own": percent(counts, "mask_covered_own", "mask_pixels"),
        "coverage_any": percent(counts, "mask_covered_any", "mask_pixels"),
        "own_inside": percent(counts, "own_inside", "own_labels"),
        "in_mask_other": percent(counts, "in_mask_other", "in_mask"),
        "wrong_person_24": percent(counts, "mask_pairs_wrong", "mask_pairs"),
        "occluded_shows": percent(counts, "occluded_shows", "occluded_near"),
    }
    figures["ghosts"] = percent(counts, "ghosts", "visible")
    for limit in (2, 4, 8):
        figures[f"gap_within_{limit}"] = percent(counts, f"gap_chains_within_{limit}", "gap_chains")
    for lag in LAGS:
        figures[f"confidence_area_{lag}"] = area_under_curve(counts, lag)
        figures[f"given_{lag}"] = percent(counts, f"given_{lag}", f"start_{lag}")
        for limit in (2, 4, 8):
            figures[f"within_{limit}_{lag}"] = percent(counts, f"pairs_{lag}_within_{limit}", f"pairs_{lag}")
    return figures


def _time_table(rows: Mapping[str, Counts]) -> Table:
    table = Table(title="Visible and occluded labels in time", title_justify="left")
    headings = ["", "frames\n(lost)", "visible\nlabels"]
    for lag in LAGS:
        headings += [f"lag {lag}:\ngiven", "within\n2/4/8 px", "\nof"]
    headings += ["gaps", "within\n2/4/8 px", "\nof", "occluded\nlabels", "still\nshow", "\nof"]
    headings += ["ghosts", "\n%", "frames\nbare", "people\nx frames", "\nbare", "\nblank"]
    for heading in headings:
        table.add_column(heading, justify="right" if heading else "left")
    for name, counts in rows.items():
        if name == "all clips":
            table.add_section()
        figures = percentages(counts)
        row = [
            name,
            f"{counts.get('frames', 0)} ({counts.get('frames_skipped', 0)})",
            str(counts.get("visible", 0)),
        ]
        for lag in LAGS:
            within = "/".join(plain(figures[f"within_{limit}_{lag}"], 0) for limit in (2, 4, 8))
            row += [plain(figures[f"given_{lag}"], 0), within, str(counts.get(f"pairs_{lag}", 0))]
        within = "/".join(plain(figures[f"gap_within_{limit}"], 0) for limit in (2, 4, 8))
        row += [str(counts.get("gaps", 0)), within, str(counts.get("gap_chains", 0))]
        row += [str(counts.get("occluded", 0)), plain(figures["occluded_shows"]), str(counts.get("occluded_near", 0))]
        row += [str(counts.get("ghosts", 0)), plain(figures["ghosts"], 2)]
        row += [
            str(counts.get(key, 0))
            for key in ("frames_bare", "person_frames", "person_frames_bare", "person_frames_blank")
        ]
        table.add_row(*row)
    table.caption = (
        "percentages; within 2/4/8 px (at 256x256) of chains of optical flow that agree; gaps: labels on both sides of "
        "one; still show: occluded labels whose point is plainly visible; ghosts: visible labels on no person, or "
        "sliding over one who stands still (at least); bare: without a visible label (of anybody; of a labeled person)"
        "; blank: bare between two frames with one"
    )
    return table


def _person_table(rows: Mapping[str, Counts]) -> Table:
    table = Table(title="The masked person", title_justify="left")
    headings = (
        "",
        "people\nfound",
        "people\nlabeled",
        "his own\n(clips)",
        "own\nlabels",
        "inside\nmask",
        "coverage\nown",
        "\nanybody",
        "others'\nin mask",
        "pairs\nat lag 24",
        "wrong\nperson",
        "masked\nframes",
        "\nbare",
    )
    for heading in headings:
        table.add_column(heading, justify="right" if heading else "left")
    for name, counts in rows.items():
        if name == "all clips":
            table.add_section()
        figures = percentages(counts)
        masked = "mask_pixels" in counts
        labeled = [str(counts.get("people_found", "-")), str(counts.get("people", 0))]
        if not masked:
            table.add_row(name, *labeled, *["-"] * 10)
            continue
        table.add_row(
            name,
            *labeled,
            f"{counts.get('own_people', 0)} ({counts.get('masked_clips', 0)})",
            str(counts.get("own_labels", 0)),
            *(plain(figures[key]) for key in ("own_inside", "coverage_own", "coverage_any", "in_mask_other")),
            str(counts.get("mask_pairs", 0)),
            plain(figures["wrong_person_24"]),
            *(str(counts.get(key, 0)) for key in ("masked_frames", "masked_frames_bare")),
        )
    table.caption = (
        "percentages; his own: people whose visible labels lie mostly in the mask; coverage of the mask's pixels"
    )
    return table
