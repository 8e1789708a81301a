"""How accurate the labels of real videos are: two synchronized views, skin markers, and masks of another network.

python -m benchmarks.real_footage ../shared/clips --json outputs/real_footage.json
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from rich.console import Console

from anthrotap_builder.utils.assets import AssetError
from benchmarks.real_footage.evaluation import evaluate_real_footage
from benchmarks.real_footage.report import report_tables


def main() -> None:
    parser = argparse.ArgumentParser("python -m benchmarks.real_footage", description=__doc__.splitlines()[0])
    parser.add_argument("folder", nargs="?", type=Path, default=Path("../shared/clips"), help="the real clips")
    parser.add_argument("--json", type=Path, help="where to write all figures")
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()

    console, progress = Console(width=190), Console(stderr=True)
    try:
        result = evaluate_real_footage(arguments.folder, threads=arguments.threads, on_step=progress.print)
    except (AssetError, ValueError) as error:
        sys.exit(str(error))
    console.print(f"labels {result['label_version']}")
    for table in report_tables(result):
        console.print(table)
    if arguments.json:
        arguments.json.parent.mkdir(parents=True, exist_ok=True)
        arguments.json.write_text(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
