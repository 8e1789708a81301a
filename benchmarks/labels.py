"""How right the labels are: renders the standard set, labels each clip, and prints the measure of each half.

python benchmarks/labels.py --folder outputs/proving_ground --json outputs/labels.json
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

from rich.console import Console

from anthrotap_builder.config import LabelingConfig
from anthrotap_builder.labeling import label_clip
from anthrotap_builder.proving_ground.measure import (
    evaluate_labels,
    mean_of,
    parts_table,
    pooled,
    results_table,
)
from anthrotap_builder.proving_ground.scenes import HALVES, load_clip, standard_set


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, default=Path("outputs/proving_ground"), help="rendered clips")
    parser.add_argument("--half", choices=HALVES, help="only this half")
    parser.add_argument("--clips", nargs="+", help="only these clips")
    parser.add_argument("--json", type=Path, help="where to write all figures")
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()

    console = Console(width=160)
    config = LabelingConfig()
    report: dict = {"label_version": config.version, "clips": {}, "means": {}, "pooled": {}}
    for half in [arguments.half] if arguments.half else HALVES:
        results = {}
        for spec in standard_set(half):
            if arguments.clips and spec.name not in arguments.clips:
                continue
            clip = load_clip(spec, arguments.folder, arguments.threads)
            start = time.process_time()
            labeled = label_clip(clip.frames, fps=clip.fps, config=config, threads=arguments.threads)
            spent = time.process_time() - start
            results[spec.name] = evaluate_labels(labeled.tracks, clip.truth)
            people = [person["frames"] for person in labeled.people]
            console.print(
                f"{spec.name}: {spent / len(clip.frames):.2f} CPU-s a frame, "
                f"{len(people)} of {len(clip.truth.people)} people, frames {people}"
            )
            report["clips"][spec.name] = {"half": half, "cpu_seconds": spent, **results[spec.name]}
        if results:
            mean, together = mean_of(list(results.values())), pooled(list(results.values()))
            report["means"][half], report["pooled"][half] = mean, together
            rows = {**results, "mean of clips": mean, "all labels": together}
            console.print(results_table(rows, f"{half}, labels {config.version}"))
            console.print(parts_table(together, f"{half}, all labels by body part"))
    if arguments.json:
        arguments.json.parent.mkdir(parents=True, exist_ok=True)
        arguments.json.write_text(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
