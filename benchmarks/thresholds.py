"""Are the thresholds of the default configuration the best? Varies each of them on the tuning half.

python -m benchmarks.thresholds --folder outputs/label_accuracy --json outputs/thresholds.json
"""

from __future__ import annotations

import argparse
import json
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

from rich.console import Console

from anthrotap_builder.config import LabelingConfig
from benchmarks.label_accuracy.ablation import Variant, Workbench
from benchmarks.label_accuracy.measure import evaluate_labels, mean_of, pooled, results_table
from benchmarks.synthetic.clip_sets import load_clip, rendered_set
from benchmarks.synthetic.clip_spec import HALVES, ClipSpec

# Settings by their dotted names, constants by those of their modules.
SWEEP: dict[str, tuple[Any, ...]] = {
    "filter.fb_threshold": (0.4, 0.7, 1.2),
    "filter.max_step_error": (0.6, 1.0, 1.6),
    "filter.max_drift": (1.0, 1.5, 2.0),
    "anthrotap_builder.filtering.RELATIVE_STEP_ERROR": (0.1, 0.25, 0.4),
    "anthrotap_builder.flow.drift.MAX_UNCERTAINTY": (0.9, 1.2, 1.6),
    "anthrotap_builder.flow.drift.SIGMA_OF_DRIFT": (0.15, 0.25, 0.4),
    "anthrotap_builder.flow.drift.SIGMA_MESH": (2.0, 3.0, 5.0),
    "anthrotap_builder.filtering.MAX_FRAMES_FROM_VISIBLE": (8, 24, 48),
    "anthrotap_builder.surface_tracks.MIN_NORMAL_COSINE": (0.2, 0.3, 0.4),
    "anthrotap_builder.surface_tracks.CONTOUR_TOLERANCE": (1.0, 2.0, 3.0),
    "anthrotap_builder.surface_tracks.DEPTH_OFFSET": (0.015, 0.03, 0.05),
    "anthrotap_builder.surface_tracks.MIN_OCCLUDED_NEIGHBORS": (0, 2, 4),
}


def sweep(spec: ClipSpec, variants: dict[str, Variant], folder: Path) -> dict[str, Any]:
    """The figures of a clip under each variant."""
    bench = Workbench(load_clip(spec, folder, 1), threads=1)
    config = LabelingConfig()
    return {
        name: evaluate_labels(bench.label(config, variant).tracks, bench.truth) for name, variant in variants.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, default=Path("outputs/label_accuracy"), help="rendered clips")
    parser.add_argument("--half", choices=HALVES, default="tuning")
    parser.add_argument("--settings", nargs="+", choices=list(SWEEP), help="only these")
    parser.add_argument("--json", type=Path, help="where to write all figures")
    parser.add_argument("--processes", type=int, default=2)
    options = parser.parse_args()

    default = LabelingConfig()
    variants = {"default": Variant()}
    for setting in options.settings or SWEEP:
        group, _, name = setting.rpartition(".")
        constant = group.startswith("anthrotap_builder.")
        owner = import_module(group) if constant else getattr(default, group)
        for value in SWEEP[setting]:
            if value != getattr(owner, name):
                changed = {setting: value}
                variant = Variant(constants=changed) if constant else Variant(settings=changed)
                variants[f"{name} = {value}"] = variant
    specs = rendered_set(options.half, "standard")
    with ProcessPoolExecutor(options.processes) as pool:
        by_clip = list(pool.map(partial(sweep, variants=variants, folder=options.folder), specs))
    rows = {name: [figures[name] for figures in by_clip] for name in variants}
    console = Console(width=180)
    for title, together in (("all labels", pooled), ("mean of clips", mean_of)):
        table = {name: together(figures) for name, figures in rows.items()}
        console.print(results_table(table, f"{options.half}, {title}: one threshold changed at a time"))
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps({"label_version": default.version(), "variants": rows}))


if __name__ == "__main__":
    main()
