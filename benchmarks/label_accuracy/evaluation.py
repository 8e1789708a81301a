"""Render the sets of clips, label each clip, and compare the labels with the ground truth."""

from __future__ import annotations

import hashlib
import io
import json
import os
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from rich.console import Console, Group
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table

from anthrotap_builder.config import LabelingConfig, labeling_config
from anthrotap_hf.utils.atomic_files import atomic_write, write_json
from anthrotap_hf.utils.workers import WorkerDiedError, WorkerPool
from benchmarks.label_accuracy.ablation import ABLATION, DEFAULT, UNCHECKED, Variant, Workbench
from benchmarks.label_accuracy.measure import (
    evaluate_labels,
    mean_of,
    parts_table,
    plain,
    pooled,
    results_table,
)
from benchmarks.label_accuracy.people import people_table
from benchmarks.synthetic.clip_sets import GROUPS, load_clip, rendered_set, renderer_version
from benchmarks.synthetic.clip_spec import HALVES, ClipSpec
from benchmarks.synthetic.code_version import code_hash

# Bars of the default configuration on the standard group's held-out half, all labels together: a figure's path in a
# result, its name, the bar, and whether the bar is a minimum or a maximum.
BARS: tuple[tuple[tuple[str, ...], str, float, Callable[[float, float], bool]], ...] = (
    (("lags", "24", "average_delta"), "average delta at lag 24, at least", 88, float.__ge__),
    (("lags", "24", "within", "8"), "within 8 px at lag 24, at least", 95, float.__ge__),
    (("lags", "24", "survival"), "survival at lag 24, at least", 40, float.__ge__),
    (("lags", "48", "average_delta"), "average delta at lag 48, at least", 82, float.__ge__),
    (("lags", "48", "survival"), "survival at lag 48, at least", 25, float.__ge__),
    (("off_body",), "queries off the body, at most", 1, float.__le__),
    (("lags", "24", "occluded_precision"), "occluded: precision, at least", 60, float.__ge__),
    (("lags", "24", "occluded_recall"), "occluded: recall of valid labels, at least", 60, float.__ge__),
    (("lags", "24", "occluded_found"), "occluded: recall of all occluded points, at least", 60, float.__ge__),
    (("lags", "24", "visible_but_occluded"), "visible but occluded, at most", 3, float.__le__),
)


# What is evaluated when no group is named.
USUAL_GROUPS = ("standard", "hard")
# Characters that the tables need.
WIDTH = 190
# Points of average delta that the forward-backward check must add.
CHECK_GAIN = 5


def evaluate_and_report(
    out: Path,
    specs: Sequence[ClipSpec],
    recipe: str | Path,
    ablation: bool,
    processes: int,
    console: Console,
) -> dict[str, Any]:
    """Evaluate labels on rendered clips, with a progress bar, and write figures and plots to a folder.

    Args:
        out: the folder: `labels.json`, `labels.txt` (the tables) and `labels.png`, besides what
            `evaluate_set` keeps there.
        specs: the clips (`choose_clips`).
        recipe: how to label, as for `labeling_config`.
        ablation: whether to evaluate all of `ABLATION`, or only the recipe.
        processes: clips processed at once.
        console: console of the progress bar.

    Returns:
        What `evaluate_set` returns.
    """
    config = labeling_config(recipe)
    variants = ABLATION if ablation else {DEFAULT: ABLATION[DEFAULT]}
    columns = SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn()
    with Progress(*columns, TimeElapsedColumn(), TimeRemainingColumn(), console=console) as progress:
        bar = progress.add_task("clips", total=len(specs))
        report = evaluate_set(specs, config, out, variants, processes, lambda _: progress.advance(bar))
    write_json(out / "labels.json", report)
    text = Console(width=WIDTH, file=io.StringIO(), record=True)
    text.print(report_tables(report))
    with atomic_write(out / "labels.txt") as tmp_path:
        tmp_path.write_text(text.export_text())
    plot_report(report, out / "labels.png")
    return report


def choose_clips(
    half: str | None = None, groups: Sequence[str] = USUAL_GROUPS, names: Sequence[str] = ()
) -> list[ClipSpec]:
    """Return the clips of a half (of both if None) and of groups, or those named, of whatever group.

    Raises:
        ValueError: if there is no such half, group or clip; the message lists the known ones.
    """
    specs = rendered_set(half) if names else [spec for group in groups for spec in rendered_set(half, group)]
    unknown = sorted(set(names) - {spec.name for spec in specs})
    if unknown:
        known = ", ".join(spec.name for spec in specs)
        raise ValueError(f"no clip {', '.join(unknown)} in the rendered sets{f' ({half})' if half else ''}: {known}")
    return [spec for spec in specs if not names or spec.name in names]


def evaluate_set(
    specs: Sequence[ClipSpec],
    config: LabelingConfig,
    folder: Path,
    variants: Mapping[str, Variant],
    processes: int = 2,
    on_done: Callable[[str], None] | None = None,
) -> dict[str, Any]:
    """Label rendered clips in one or more ways, and evaluate each.

    Args:
        specs: the clips.
        config: how to label; the variants change it.
        folder: folder of the rendered clips and each clip's figures, which are reused as long as neither the
            configuration nor the code has changed.
        variants: ways to label, by name.
        processes: clips processed at once.
        on_done: called with the name of each clip that is done.

    Returns:
        A dict that JSON can hold: `label_version`, and by variant, group and half the `clips` (by name, as
        `evaluate_labels` gives them), their `mean` and all labels `pooled`.
    """
    kept = folder / f"figures-{config.version()}-{code_version()}"
    kept.mkdir(parents=True, exist_ok=True)
    by_clip: dict[str, dict[str, Any]] = {}
    work = partial(_figures, config=config, folder=folder, kept=kept, variants=variants)
    with WorkerPool(processes, "anthrotap label accuracy") as pool:
        for outcome in pool.run(work, specs):
            try:
                by_clip[outcome.task.name] = outcome.result()
            except WorkerDiedError as error:
                raise ValueError(
                    "a process died, perhaps for lack of memory: run again with fewer --processes "
                    "(finished clips are kept)"
                ) from error
            if on_done:
                on_done(outcome.task.name)
    return {
        "label_version": config.version(),
        "variants": {
            name: {
                group: {
                    half: _together({spec.name: by_clip[spec.name][name] for spec in found})
                    for half in HALVES
                    if (found := [spec for spec in specs if (spec.group, spec.half) == (group, half)])
                }
                for group in GROUPS
                if any(spec.group == group for spec in specs)
            }
            for name in variants
        },
    }


def _figures(
    spec: ClipSpec, config: LabelingConfig, folder: Path, kept: Path, variants: Mapping[str, Variant]
) -> dict[str, Any]:
    """Return a clip's figures by variant; those in its file in `kept` are reused, new ones are added to it."""
    path = kept / f"{spec.name}-{renderer_version(spec.group)}-{measure_version()}.json"
    try:
        known: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    except ValueError as error:
        raise ValueError(f"{path}: damaged ({error}); delete it, and it is made again") from error
    bench: Workbench | None = None
    for name, variant in variants.items():
        if name not in known:
            bench = bench or Workbench(load_clip(spec, folder, 1), threads=1)
            known[name] = evaluate_labels(bench.label(config, variant).tracks, bench.truth)
            with atomic_write(path) as tmp_path:
                tmp_path.write_text(json.dumps(known))
    return known


def _together(clips: dict[str, Any]) -> dict[str, Any]:
    return {"clips": clips, "mean": mean_of([*clips.values()]), "pooled": pooled([*clips.values()])}


def code_version() -> str:
    """Return a hash of the builder's source: figures of other code are not reused."""
    digest = hashlib.sha256()
    package = Path(__file__).parents[2] / "builder/anthrotap_builder"
    for path in sorted(package.rglob("*.py")):
        digest.update(os.fsencode(path.relative_to(package)) + b"\0" + path.read_bytes())
    return digest.hexdigest()[:10]


def measure_version() -> str:
    """Return a hash of the code that compares labels with the ground truth."""
    return code_hash(f"../label_accuracy/{name}.py" for name in ("ablation", "measure", "people", "percentages"))


def report_tables(report: Mapping[str, Any]) -> Group:
    """Make tables of the figures of `evaluate_set`: clips, people, body parts, the ablation, and the bars."""
    tables: list[Table] = []
    default = report["variants"].get(DEFAULT, {})
    for group, halves in default.items():
        for half, found in halves.items():
            title = f"{group.replace('_', ' ')}, {half.replace('_', ' ')}"
            rows = {**found["clips"], "mean of clips": found["mean"], "all labels": found["pooled"]}
            tables.append(results_table(rows, f"{title}: labels {report['label_version']}"))
            tables.append(people_table(rows, f"{title}: who is labeled"))
            tables.append(parts_table(found["pooled"], f"{title}: all labels by body part"))
            tables.append(reliability_table(found, f"{title}: is the confidence calibrated?"))
    if len(report["variants"]) > 1:
        for group, halves in default.items():
            for half in halves:
                rows = {name: found[group][half]["pooled"] for name, found in report["variants"].items()}
                title = f"{group.replace('_', ' ')}, {half.replace('_', ' ')}"
                tables.append(results_table(rows, f"{title}: what each stage contributes, all labels"))
    standard = default.get("standard", {}).get("held_out", {"clips": ()})
    if len(standard["clips"]) == len(rendered_set("held_out", "standard")):
        unchecked = report["variants"].get(UNCHECKED)
        tables.append(bars_table(standard, unchecked and unchecked["standard"]["held_out"]))
    return Group(*tables)


def reliability_table(found: Mapping[str, Any], title: str) -> Table:
    """Make a table of how often labels of a confidence are accurate."""
    table = Table("confidence", "labels", "within 2 px", title=title, title_justify="left")
    for step, count in found["pooled"]["reliability"]["counts"].items():
        table.add_row(step, str(count), plain(found["pooled"]["reliability"][step]))
    return table


def bars_table(found: Mapping[str, Any], unchecked: Mapping[str, Any] | None) -> Table:
    """Make a table of the held-out half against `BARS`, and of what the forward-backward check adds to labels."""
    table = Table("held out", "bar", "all labels", "", "mean of clips", "", title="bars", title_justify="left")
    for path, name, bar, holds in BARS:
        row = [name, f"{bar:g}"]
        for result in (found["pooled"], found["mean"]):
            value: Any = result
            for key in path:
                value = value[key]
            verdict = "-" if value is None else "met" if holds(float(value), float(bar)) else "missed"
            row += [plain(value), verdict]
        table.add_row(*row)
    if unchecked:
        row = ["average delta at lag 24 over no forward-backward check, at least", f"{CHECK_GAIN:g}"]
        for together in ("pooled", "mean"):
            gain = [result[together]["lags"]["24"]["average_delta"] for result in (found, unchecked)]
            row += [f"{gain[0] - gain[1]:.1f}", "met" if gain[0] - gain[1] >= CHECK_GAIN else "missed"]
        table.add_row(*row)
    return table


def plot_report(report: Mapping[str, Any], path: Path) -> None:
    """Write a plot of the first group's figures: accuracy against survival for each variant, by clip and body part."""
    group, by_half = next(iter(report["variants"][DEFAULT].items()))
    half = "held_out" if "held_out" in by_half else "tuning"
    found = by_half[half]
    figure = Figure(figsize=(15, 9), layout="constrained")
    survival, by_lag, calibration, parts = figure.subplot_mosaic(
        [["survival", "lags"], ["calibration", "parts"]]
    ).values()

    for number, (name, groups) in enumerate(report["variants"].items(), 1):
        figures = groups[group][half]["pooled"]["lags"]["24"]
        if figures["average_delta"] is None:
            continue
        point = figures["survival"], figures["average_delta"]
        color = "tab:red" if name == DEFAULT else "tab:blue"
        survival.scatter(*point, color=color, label=f"{number}  {name}", zorder=3)
        survival.annotate(str(number), point, textcoords="offset points", xytext=(5, 4))
    survival.set(xlabel="survival, %", ylabel="average delta, %", title="24 frames after the query")
    survival.legend(loc="lower left", handlelength=0, fontsize=9)
    survival.set_xlim(0, 100)
    survival.grid(alpha=0.3)
    survival.margins(y=0.1)

    clips = list(found["clips"])
    for lag in ("8", "24", "48"):
        deltas = [found["clips"][clip]["lags"][lag]["average_delta"] for clip in clips]
        by_lag.plot(clips, [float("nan") if v is None else v for v in deltas], "o-", label=f"lag {lag}")
    by_lag.set(ylabel="average delta, %", title="by clip")
    by_lag.tick_params(axis="x", rotation=30)
    by_lag.legend()
    by_lag.grid(alpha=0.3)

    steps = [step for step in found["pooled"]["reliability"] if step != "counts"]
    measured = [found["pooled"]["reliability"][step] for step in steps]
    middles = [50 * sum(map(float, step.split(" to "))) for step in steps]
    calibration.plot([70, 100], [70, 100], "--", color="gray", label="calibrated")
    calibration.plot(middles, [float("nan") if value is None else value for value in measured], "o-", label="measured")
    calibration.set(xlabel="confidence, %", ylabel="within 2 px, %", title="is the confidence calibrated?")
    calibration.legend()
    calibration.grid(alpha=0.3)

    names = list(found["pooled"]["parts"])
    coverage = [found["pooled"]["parts"][name]["coverage"] or 0 for name in names]
    delta = [found["pooled"]["parts"][name]["lags"]["24"]["average_delta"] or 0 for name in names]
    parts.bar([i - 0.2 for i in range(len(names))], coverage, 0.4, label="coverage")
    parts.bar([i + 0.2 for i in range(len(names))], delta, 0.4, label="average delta at lag 24")
    parts.set_xticks(range(len(names)), names)
    parts.set(ylabel="%", title="by body part")
    parts.legend(loc="lower right")
    total = len(rendered_set(half, group))
    count = f"{len(clips)} of {total} clips of the {half.replace('_', ' ')} half, {group.replace('_', ' ')} group"
    figure.suptitle(f"Labels {report['label_version']} against ground truth, {count}")
    with atomic_write(path) as tmp_path:
        figure.savefig(tmp_path, dpi=110)
