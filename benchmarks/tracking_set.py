"""Render the tracking set, people and objects with exact tracks that no training clip has; evaluate trackers on it.

    python -m benchmarks.tracking_set tracking_set            # humans.pkl, objects.pkl, validation.pkl: about 4 minutes
    python -m benchmarks.tracking_set tracking_set --evaluate    # the baselines, side by side
    python -m benchmarks.tracking_set tracking_set --evaluate --model FOLDER --model OTHER

The files are TAP-Vid pickles of 256x256, which `anthrotap evaluate --benchmark tapvid-davis` reads, too. Clips
and figures that exist are not made again.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from anthrotap_builder.utils.assets import AssetError
from anthrotap_hf.cli.common import check_writable
from anthrotap_hf.evaluation.metrics import QUERY_MODES
from anthrotap_hf.evaluation.report import write_text
from anthrotap_hf.evaluation.runner import EvaluatedModel, evaluate, open_benchmark
from anthrotap_hf.pipelines import load_tracker
from anthrotap_hf.tracks import Tracks
from anthrotap_hf.utils.atomic_files import atomic_write, write_json
from anthrotap_hf.visualization.overlay import contact_sheet, draw_tracks
from benchmarks.synthetic.baselines import baselines
from benchmarks.synthetic.tracking_set import (
    FILES,
    TrackingClip,
    load_clips,
    tracking_set,
    write_tracking_set,
)

EVALUATED = ("humans", "objects")
ENLARGED = 3  # times, on contact sheets
ON_SHEET = 8  # frames


def render(folder: Path, files: list[str], threads: int, console: Console) -> None:
    """Render the pickles, with a progress bar, and print how fast frames were rendered."""
    start, rendered = time.perf_counter(), 0
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("clips"))
    rate = TextColumn("{task.fields[rate]}")
    with Progress(*columns, rate, TimeRemainingColumn(), console=console) as progress:
        bar = progress.add_task("rendering", total=len(tracking_set(files)), rate="")

        def on_step(clip: TrackingClip, frames: int) -> None:
            nonlocal rendered
            rendered += frames
            speed = rendered / (time.perf_counter() - start)
            progress.update(bar, advance=1, description=clip.name, rate=f"{speed:.1f} frames/s")

        paths = write_tracking_set(folder, files, threads, on_step)
    seconds = time.perf_counter() - start
    rate_text = (
        f"{rendered} frames in {seconds:.0f} s, {rendered / seconds:.1f} a second"
        if rendered
        else "all rendered before"
    )
    console.print(f"{rate_text}: {', '.join(map(str, paths))}")


def draw_sheets(folder: Path, files: list[str], threads: int, console: Console) -> None:
    """Write a picture of each clip: its true points, filled where visible, hollow where occluded."""
    for clip, video in load_clips(folder, files, threads):
        height, width = (ENLARGED * side for side in video.frames.shape[1:3])
        tracks = Tracks(
            xy=(ENLARGED * video.xy).astype(np.float32),
            visible=video.visible,
            valid=np.ones_like(video.visible),
            height=height,
            width=width,
            person=video.owner.astype(np.int32),
            vertex=np.zeros(len(video.owner), np.int32),
        )
        images = []
        for t in np.linspace(0, len(video.frames) - 1, ON_SHEET).round().astype(int):
            large = cv2.resize(video.frames[t], (width, height), interpolation=cv2.INTER_CUBIC)
            images.append(draw_tracks(large, tracks, int(t), trail=3))
        path = folder / "sheets" / f"{clip.name}.png"
        with atomic_write(path) as tmp_path:
            cv2.imwrite(str(tmp_path), contact_sheet(images)[..., ::-1])
        console.print(path)


def evaluate_trackers(
    folder: Path, files: list[str], models: list[str], mode: str, console: Console
) -> list[dict[str, Any]]:
    """Return the report of each file; write tables by video and all figures to the folder `evaluated`."""
    trackers = [*baselines(), EvaluatedModel.of("FlowChain", load_tracker("flowchain", "cpu"))]
    trackers += [EvaluatedModel.of(model, load_tracker(model, "cpu")) for model in models]
    reports = []
    for file in files:
        home = folder / "evaluated"
        with console.status(file) as status:

            def on_step(video: str, label: str | None, status: Any = status) -> None:
                status.update(f"{video}: {label or 'done'}")

            benchmark = open_benchmark("tapvid-davis", folder / f"{file}.pkl", mode)
            report = evaluate(trackers, benchmark, home, on_step=on_step)
        write_text(report, home / f"{file}-{mode}.txt")
        write_json(home / f"{file}-{mode}.json", report)
        reports.append(report)
    return reports


def table(files: list[str], mode: str, reports: list[dict[str, Any]]) -> Table:
    """Make a table with a row a tracker: delta avg, AJ, OA and occlusion recall of each file, in percent."""
    out = Table("tracker", title=f"mode {mode}, %: delta avg / AJ / OA / occlusion recall", title_justify="left")
    for file, report in zip(files, reports, strict=True):
        out.add_column(f"{file} ({report['videos']} clips)", justify="right")
    for n, first in enumerate(reports[0]["models"]):
        cells = []
        for report in reports:
            model = report["models"][n]
            mean, recall = model["mean"], model["occlusion_recall"]
            values = [
                *(mean["average_pts_within_thresh"], mean["average_jaccard"], mean["occlusion_accuracy"]),
                np.nan if recall is None else recall,
            ]
            cells.append(" / ".join(f"{100 * value:.1f}" for value in values))
        out.add_row(first["model"], *cells)
    return out


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="folder of the pickles")
    parser.add_argument("--files", nargs="+", choices=FILES, help="all; with --evaluate, humans and objects")
    parser.add_argument("--sheets", action="store_true", help="draw a contact sheet of each clip")
    parser.add_argument("--evaluate", action="store_true", help="evaluate the baselines, and each --model")
    parser.add_argument("--model", action="append", default=[], help="a tracker's folder or Hub id")
    parser.add_argument("--mode", choices=QUERY_MODES, default="first")
    parser.add_argument("--threads", type=int, default=2, help="frames rendered at once")
    options = parser.parse_args(arguments)
    if options.model and not options.evaluate:
        parser.error("--model goes with --evaluate")
    if options.threads < 1:
        parser.error("--threads must be at least 1")
    files = list(dict.fromkeys(options.files or (EVALUATED if options.evaluate else FILES)))
    console = Console(stderr=True)
    cv2.setNumThreads(options.threads)
    try:
        check_writable(options.out)
        if not options.evaluate or not all((options.out / f"{file}.pkl").exists() for file in files):
            render(options.out, files, options.threads, console)
        if options.sheets:
            draw_sheets(options.out, files, options.threads, console)
        if options.evaluate:
            reports = evaluate_trackers(options.out, files, options.model, options.mode, console)
            Console(width=200).print(table(files, options.mode, reports))
    except (AssetError, OSError, ValueError) as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
